//! A draft of an incident write-up: what the trace knows, and where people have to add what only they know.
//!
//! GitHub Flavored Markdown without HTML, which GitHub, GitLab and Confluence take alike. The sections are those
//! of good public write-ups: summary, impact, timeline, causes, detection, evidence, what is ruled out, false
//! starts, numbers, reproduction, actions, open questions, environment.
//!
//! The second reading only [chooses](timeline) what the timeline shows; the page is written at the end.

mod actions;
mod memory;
mod numbers;
mod reproduce;
mod sections;
#[cfg(test)]
mod tests;
mod text;
mod timeline;

use std::io::{self, Write};

use super::Subject;
use crate::diagnose::Diagnosis;
use crate::event::Event;
use crate::trace::Output;
use crate::trace::{Footer, Header};

use timeline::Timeline;

/// Writes the page.
pub(super) struct Markdown<'a, W> {
    out: W,
    subject: &'a Subject,
    timeline: Timeline<'a>,
}

impl<'a, W: Write> Markdown<'a, W> {
    /// Writes to `out`.
    pub fn new(subject: &'a Subject, out: W) -> Self {
        Self {
            out,
            subject,
            timeline: Timeline::new(subject),
        }
    }
}

impl<W: Write> Output for Markdown<'_, W> {
    fn header(&mut self, _header: &Header) -> io::Result<()> {
        Ok(())
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        self.timeline.event(event);
        Ok(())
    }

    fn footer(&mut self, _footer: Option<&Footer>) -> io::Result<()> {
        let page = Page {
            subject: self.subject,
        };
        let text = [
            page.opening(),
            page.impact(),
            self.timeline.section(&page),
            page.causes(),
            page.detection(),
            page.evidence(),
            page.ruled_out(),
            page.false_starts(),
            page.numbers(),
            page.reproduction(),
            page.actions(),
            page.questions(),
            page.environment(),
        ]
        .join("\n");
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }
}

/// What all sections are made from.
struct Page<'a> {
    subject: &'a Subject,
}

impl Page<'_> {
    /// All diagnoses, those that followed after those that they followed from.
    fn diagnoses(&self) -> Vec<&Diagnosis> {
        self.subject.explanation.all().collect()
    }

    /// What this is about: the first verdict. An explanation always has one.
    fn main(&self) -> Option<&Diagnosis> {
        self.subject.explanation.diagnoses.first()
    }

    /// An instant in UTC: `2026-11-22 07:29:27.123`.
    fn instant(&self, time_ns: u64) -> String {
        self.formatted(time_ns, "%Y-%m-%d %H:%M:%S%.3f")
    }

    /// The time of day in UTC, to the microsecond.
    fn time(&self, time_ns: u64) -> String {
        self.formatted(time_ns, "%H:%M:%S%.6f")
    }

    fn date(&self, time_ns: u64) -> String {
        self.formatted(time_ns, "%Y-%m-%d")
    }

    fn formatted(&self, time_ns: u64, format: &str) -> String {
        let time = self.subject.clock().timestamp(time_ns);
        time.map_or_else(
            || format!("{time_ns} ns after boot"),
            |time| time.strftime(format).to_string(),
        )
    }

    /// When the run was over as far as the trace tells: PID 1's end, else its last event.
    fn end_ns(&self) -> u64 {
        let case = &self.subject.case;
        case.pid1()
            .and_then(|pid1| case.exit(pid1))
            .map_or(case.end_ns(), |(event, _)| event.time_ns)
    }
}

/// What only people know, and how it is marked.
fn todo(text: &str) -> String {
    format!("> **TODO:** {text}\n")
}
