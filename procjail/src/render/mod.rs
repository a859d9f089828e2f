//! What a user gets to see of a trace, live or from a file: lines of text or of JSON.

mod explanation;
mod interest;
mod json_lines;
mod style;
mod summary;
#[cfg(test)]
mod tests;
mod text;
mod timeline;
mod words;

use std::io;

pub use explanation::{Detail, explanation};
pub use interest::is_minor;
pub use json_lines::JsonLines;
pub use style::Look;
pub(crate) use style::Tone;
pub(crate) use summary::{Line, facts};
pub use text::{bytes, duration};
pub(crate) use text::{command as command_line_of, count, escape, moment, plural, quote};
pub(crate) use timeline::Totals;
pub use timeline::{Timeline, label};
pub use words::{evidence::kinds as memory_kinds, status};
pub(crate) use words::{requester, tone_of, words};

/// Arguments as a shell would take them, in at most `width` columns.
pub fn command_line(argv: &[String], width: usize) -> String {
    command_line_of(argv, false, width)
}

/// What an event says, in about `width` columns: a sentence, with details of less importance in brackets. Text
/// from elsewhere in it has no control characters.
pub fn sentence(event: &Event, width: usize) -> String {
    words(event, width).sentence()
}

/// An error number in words: `EACCES (Permission denied)`.
pub fn error_number(error: &crate::event::Errno) -> String {
    words::errno(error)
}

use crate::event::Event;
use crate::trace::{Footer, Header};

/// Where a trace goes: a file, a terminal, a pipe.
///
/// Called in the order header, events, footer. A broken pipe is an error of that kind and to be taken
/// as the reader's wish to see no more.
pub trait Output {
    /// The trace begins.
    ///
    /// # Errors
    ///
    /// The header could not be written.
    fn header(&mut self, header: &Header) -> io::Result<()>;

    /// When the gate opened: times are told relative to it. Only needed where the event of the gate
    /// itself is left out.
    fn origin(&mut self, _gate_ns: u64) {}

    /// One thing happened.
    ///
    /// # Errors
    ///
    /// The event could not be written.
    fn event(&mut self, event: &Event) -> io::Result<()>;

    /// The trace is over; `None` if it ends without saying how.
    ///
    /// # Errors
    ///
    /// The footer, or what was held back before, could not be written.
    fn footer(&mut self, footer: Option<&Footer>) -> io::Result<()>;

    /// Time goes by: to be called at least once a second while nothing else is.
    ///
    /// # Errors
    ///
    /// What was held back could not be written.
    fn tick(&mut self) -> io::Result<()> {
        Ok(())
    }
}
