//! What a user gets to see of a trace, live or from a file: lines of text or of JSON.

mod explanation;
mod interest;
mod json_lines;
mod style;
mod summary;
#[cfg(test)]
mod tests;
mod timeline;

pub use explanation::{Detail, explanation};
pub use interest::is_minor;
pub use json_lines::JsonLines;
pub use style::Look;
pub(crate) use summary::{Line, facts};
pub(crate) use timeline::Totals;
pub use timeline::{Timeline, label};
