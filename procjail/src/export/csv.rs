//! The events as a table (RFC 4180): a line of names, then a line for each event.

use std::io::{self, Write};

use crate::event::Event;
use crate::render::Output;
use crate::trace::{Footer, Header};

/// Writes the table.
pub(super) struct Csv<W: Write> {
    out: csv::Writer<W>,
}

impl<W: Write> Csv<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Self {
            out: csv::Writer::from_writer(out),
        }
    }
}

impl<W: Write> Output for Csv<W> {
    fn header(&mut self, _header: &Header) -> io::Result<()> {
        Ok(self.out.write_record(["seq", "time_ns", "kind"])?)
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        Ok(self.out.write_record([
            event.seq.to_string(),
            event.time_ns.to_string(),
            event.what.kind().to_owned(),
        ])?)
    }

    fn footer(&mut self, _footer: Option<&Footer>) -> io::Result<()> {
        self.out.flush()
    }
}
