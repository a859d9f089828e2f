//! A trace with its verdicts, in a form for others: the reader of a write-up, a tool, a collector.
//!
//! ```text
//! trace file -> Case -> Explanation      first reading: what matters is known
//! trace file -> Event -> Output          second reading: the form, written as it is read
//! ```
//!
//! Each form is an [`Output`], in the file of its name, and knows the case and its explanation from the
//! start. A form holds no more of the trace in memory than it shows.

mod csv;
#[cfg(test)]
mod fixture;
mod html;
mod json;
mod markdown;
mod moment;
pub mod otlp;
mod perfetto;
mod progress;
mod source;
mod target;

use std::io::{self, Write};

use crate::diagnose::{Case, Explanation};
use crate::trace::Output;

pub use csv::table_schema;
pub use json::{REPORT_NAME, REPORT_VERSION, Report, report_schema};
use moment::Clock;
use progress::Progress;
pub use source::{Source, SourceError};
pub use target::{Target, TargetError};

/// A form that a trace is exported to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// The events as a table, one line each.
    Csv,
    /// One page for a browser: verdicts, timeline, memory, processes, events.
    Html,
    /// Trace and verdicts as one JSON document.
    Json,
    /// Draft of an incident write-up, for GitHub, GitLab or Confluence.
    Markdown,
    /// Log records and a trace for an OpenTelemetry collector, whose URL OUT is.
    Otlp,
    /// Tracks, slices and counters for <https://ui.perfetto.dev>.
    Perfetto,
}

/// What is known of a trace before its events are written.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The trace as the rules see it.
    pub case: Case,
    /// What the rules make of it.
    pub explanation: Explanation,
    /// What the trace lacks, in words, such as its end; `None` if it is whole.
    pub missing: Option<String>,
}

impl Subject {
    /// The trace's clock; its gate is known.
    fn clock(&self) -> Clock {
        let mut clock = Clock::of(&self.case.header);
        clock.gate(self.case.gate_ns());
        clock
    }
}

impl Format {
    /// It is not text.
    pub fn is_binary(self) -> bool {
        matches!(self, Self::Perfetto)
    }

    /// The output that writes `subject`'s trace to `out` in this form.
    ///
    /// # Errors
    ///
    /// What comes before the header could not be written.
    pub fn output<'a>(
        self,
        subject: &'a Subject,
        out: impl Write + 'a,
    ) -> io::Result<Box<dyn Output + 'a>> {
        Ok(match self {
            Self::Csv => Box::new(csv::Csv::new(subject, out)),
            Self::Html => Box::new(html::Html::new(subject, out)),
            Self::Json => Box::new(json::Json::new(subject, out)),
            Self::Markdown => Box::new(markdown::Markdown::new(subject, out)),
            // Nothing that can be written in a file: see `otlp::send`.
            Self::Otlp => return Err(io::ErrorKind::Unsupported.into()),
            Self::Perfetto => Box::new(perfetto::Perfetto::new(subject, out)),
        })
    }
}
