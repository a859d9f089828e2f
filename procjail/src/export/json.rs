//! The trace and its explanation as one JSON document, for programs.
//!
//! ```text
//! {
//! "format":"procjail-report","version":1,"procjail":…,
//! "header":{…},
//! "explanation":{…},
//! "events":[
//! {…},
//! {…}
//! ],
//! "footer":{…},
//! "missing":null
//! }
//! ```
//!
//! It is written as it is read, one event a line, so that tools that know lines (diff, grep) are of use on it.

use std::io::{self, Write};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Subject;
use crate::diagnose::Explanation;
use crate::event::Event;
use crate::trace::Output;
use crate::trace::{Footer, Header, schema_of};

/// Value of [`Report::format`].
pub const REPORT_NAME: &str = "procjail-report";

/// Version of the form of a [`Report`].
pub const REPORT_VERSION: u32 = 2;

/// What `procjail export --to json` writes: a trace with its explanation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// Always `procjail-report`.
    pub format: String,
    /// [`REPORT_VERSION`] of the writer.
    pub version: u32,
    /// Version of procjail that wrote it.
    pub procjail: String,
    /// First line of the trace: where and how it was made.
    pub header: Header,
    /// The verdicts.
    pub explanation: Explanation,
    /// All events, in order.
    pub events: Vec<Event>,
    /// Last line of the trace: how the run ended; null if the trace doesn't have it.
    pub footer: Option<Footer>,
    /// What the trace lacks, in words, such as its end; null if it is whole.
    pub missing: Option<String>,
}

/// The JSON Schema of a [`Report`]; `docs/report.schema.json` in the sources.
pub fn report_schema() -> String {
    schema_of::<Report>()
}

/// Writes a [`Report`] without holding it.
pub(super) struct Json<'a, W> {
    out: W,
    subject: &'a Subject,
    events: u64,
    line: Vec<u8>,
}

impl<'a, W: Write> Json<'a, W> {
    /// Writes to `out`.
    pub fn new(subject: &'a Subject, out: W) -> Self {
        Self {
            out,
            subject,
            events: 0,
            line: Vec::new(),
        }
    }

    /// What comes before a value, and the value, at once.
    fn put(&mut self, before: &str, value: &impl Serialize) -> io::Result<()> {
        self.line.clear();
        self.line.extend_from_slice(before.as_bytes());
        serde_json::to_writer(&mut self.line, value)?;
        self.out.write_all(&self.line)
    }
}

impl<W: Write> Output for Json<'_, W> {
    fn header(&mut self, header: &Header) -> io::Result<()> {
        self.put("{\n\"format\":", &REPORT_NAME)?;
        self.put(",\"version\":", &REPORT_VERSION)?;
        self.put(",\"procjail\":", &env!("CARGO_PKG_VERSION"))?;
        self.put(",\n\"header\":", header)?;
        self.put(",\n\"explanation\":", &self.subject.explanation)?;
        self.out.write_all(b",\n\"events\":[")
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        let before = if self.events == 0 { "\n" } else { ",\n" };
        self.events += 1;
        self.put(before, event)
    }

    fn footer(&mut self, footer: Option<&Footer>) -> io::Result<()> {
        let before = if self.events == 0 { "]" } else { "\n]" };
        self.out.write_all(before.as_bytes())?;
        self.put(",\n\"footer\":", &footer)?;
        self.put(",\n\"missing\":", &self.subject.missing)?;
        self.out.write_all(b"\n}\n")?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use crate::export::Format;

    #[test]
    fn a_document_is_what_the_type_says() {
        let (subject, events, text) = fixture::story(Format::Json);
        let read: Report = serde_json::from_str(&text).expect("a report");
        let report = Report {
            format: REPORT_NAME.to_owned(),
            version: REPORT_VERSION,
            procjail: env!("CARGO_PKG_VERSION").to_owned(),
            header: subject.case.header.clone(),
            explanation: subject.explanation.clone(),
            events,
            footer: subject.case.footer.clone(),
            missing: subject.missing.clone(),
        };
        assert_eq!(read, report);
        // Fields in the same order, and none left out.
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
        assert_eq!(
            value(&text),
            value(&serde_json::to_string(&report).expect("JSON"))
        );
    }

    #[test]
    fn an_event_is_a_line() {
        let (_, events, text) = fixture::story(Format::Json);
        for event in events {
            let line = serde_json::to_string(&event).expect("JSON");
            assert!(
                text.lines()
                    .any(|other| other.trim_end_matches(',') == line),
                "{line}"
            );
        }
    }

    #[test]
    fn nothing_but_a_header_is_a_document_as_well() {
        let text = fixture::empty(Format::Json);
        let read: Report = serde_json::from_str(&text).expect("a report");
        assert!(read.events.is_empty() && read.footer.is_none() && read.missing.is_some());
    }
}
