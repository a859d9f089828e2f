//! What a user gets to see of a trace, live or from a file: lines of text or of JSON.

mod explanation;
mod interest;
mod json_lines;
mod style;
mod summary;
#[cfg(test)]
mod tests;
mod timeline;
mod words;

pub use crate::text::{bytes, duration};
pub(crate) use crate::text::{command as command_line_of, count, escape, moment, plural, quote};
pub use crate::trace::Output;
pub use explanation::{Detail, explanation};
pub use interest::is_minor;
pub use json_lines::JsonLines;
pub use style::Look;
pub(crate) use style::Tone;
pub(crate) use summary::{Line, facts};
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
pub fn sentence(event: &crate::event::Event, width: usize) -> String {
    words(event, width).sentence()
}

/// An error number in words: `EACCES (Permission denied)`.
pub fn error_number(error: &crate::event::Errno) -> String {
    words::errno(error)
}
