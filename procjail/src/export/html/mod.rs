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

use super::Subject;
use super::moment::Clock;
use crate::event::Event;
use crate::trace::Output;
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

impl<'a, W: Write> Html<'a, W> {
    /// Writes to `out`.
    pub fn new(subject: &'a Subject, out: W) -> Self {
        let lanes = Lanes::of(&subject.case, &subject.explanation);
        Self {
            out,
            subject,
            clock: subject.clock(),
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
