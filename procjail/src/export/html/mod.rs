//! The trace as one HTML file that needs nothing else: verdicts, a timeline, memory, processes, events.
//!
//! What matters is there without a script: verdicts, pictures, the tree and a table. The script, which reads
//! the same from a block of JSON, makes them zoom, scroll and search.
//!
//! ```text
//! Subject -> Lanes, Memory, verdicts, facts --+
//! Event -> Row -> Events (chosen, bounded) ---+-> page.html, data (JSON), scripts
//! ```
//!
//! Text of the traced program is hostile. Templates escape it, JSON escapes what ends a script element, the
//! script sets text and never markup, and the page's own policy lets no other script run and nothing load.

mod choose;
mod data;
mod events;
mod lanes;
mod memory;
mod page;
mod picture;
mod scale;
#[cfg(test)]
mod tests;

use std::io::{self, Write};

use super::{Subject, moment};
use crate::event::Event;
use crate::render::Output;
use crate::trace::{Footer, Header};

use events::Events;
use lanes::Lanes;
use memory::Memory;

/// Most events that the file has. A browser takes so many with ease.
const EVENTS: usize = 200_000;
/// Most rows of the table that is there without a script.
const ROWS: usize = 20_000;
/// Most rows of it that are printed.
const PRINTED: usize = 1_000;

/// Writes the page.
pub(super) struct Html<'a, W: Write> {
    out: W,
    subject: &'a Subject,
    clock: Clock,
    lanes: Lanes,
    events: Events,
}

/// How the page tells times: relative to the gate, and UTC.
#[derive(Clone, Copy, Debug)]
struct Clock {
    gate_ns: u64,
    /// The gate's wall-clock time, nanoseconds since 1970.
    gate_unix_ns: i128,
}

impl Clock {
    fn of(subject: &Subject) -> Self {
        let header = &subject.case.header;
        let gate_ns = subject.case.gate_ns();
        Self {
            gate_ns,
            gate_unix_ns: moment::unix_ns(header, gate_ns),
        }
    }

    /// Nanoseconds since the gate.
    fn since_gate(self, time_ns: u64) -> i64 {
        let since = i128::from(time_ns) - i128::from(self.gate_ns);
        i64::try_from(since).unwrap_or(if since < 0 { i64::MIN } else { i64::MAX })
    }

    /// As `+12.345ms`.
    fn relative(self, time_ns: u64) -> String {
        crate::render::moment(self.since_gate(time_ns).into())
    }

    /// As `2026-11-22T07:29:28.081234Z`.
    fn utc(self, time_ns: u64) -> String {
        jiff::Timestamp::from_nanosecond(self.gate_unix_ns + i128::from(self.since_gate(time_ns)))
            .map_or_else(|_| String::new(), |time| format!("{time:.6}"))
    }
}

impl<'a, W: Write> Html<'a, W> {
    /// Writes to `out`.
    pub fn new(subject: &'a Subject, out: W) -> Self {
        let clock = Clock::of(subject);
        let lanes = Lanes::of(&subject.case, &subject.explanation);
        Self {
            out,
            subject,
            clock,
            events: Events::new(&subject.explanation, EVENTS),
            lanes,
        }
    }
}

impl<W: Write> Output for Html<'_, W> {
    fn header(&mut self, _header: &Header) -> io::Result<()> {
        Ok(())
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        self.events.take(event, &self.subject.case, &self.lanes);
        Ok(())
    }

    fn footer(&mut self, _footer: Option<&Footer>) -> io::Result<()> {
        let memory = Memory::of(&self.subject.case, self.clock);
        let page = page::Page::of(self.subject, self.clock, &self.lanes, &self.events, &memory);
        page.write(&mut self.out)?;
        let data = data::Data::of(self.subject, self.clock, &self.lanes, &self.events, &memory);
        page::close(&mut self.out, &data)?;
        self.out.flush()
    }
}
