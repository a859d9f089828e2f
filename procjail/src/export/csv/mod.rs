//! The events as a table (RFC 4180): a line of names, then a line for each event, for spreadsheets and
//! databases.
//!
//! The [columns](columns) are the same for every trace. Text from the traced program stays text: see [`cell`].

mod cell;
mod columns;
#[cfg(test)]
mod tests;

use std::io::{self, Write};

use super::Subject;
use super::moment::Clock;
use crate::event::Event;
use crate::trace::Output;
use crate::trace::{Footer, Header};

pub use columns::table_schema;
use columns::{COLUMNS, Row};

/// Writes the table.
pub(super) struct Csv<W: Write> {
    out: csv::Writer<W>,
    clock: Clock,
    cell: String,
}

impl<W: Write> Csv<W> {
    /// Writes to `out`.
    pub fn new(subject: &Subject, out: W) -> Self {
        Self {
            out: csv::WriterBuilder::new()
                .terminator(csv::Terminator::CRLF)
                .from_writer(out),
            clock: subject.clock(),
            cell: String::new(),
        }
    }
}

impl<W: Write> Output for Csv<W> {
    fn header(&mut self, _header: &Header) -> io::Result<()> {
        self.out
            .write_record(COLUMNS.iter().map(|column| column.name))
            .map_err(io_error)
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        let row = Row::new(self.clock, event);
        for column in COLUMNS {
            self.cell.clear();
            (column.fill)(&row, &mut self.cell);
            self.out.write_field(&self.cell).map_err(io_error)?;
        }
        self.out.write_record(None::<&[u8]>).map_err(io_error)
    }

    fn footer(&mut self, _footer: Option<&Footer>) -> io::Result<()> {
        self.out.flush()
    }
}

/// What the kernel said. (The library's own conversion would make a broken pipe an error like any other.)
fn io_error(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}
