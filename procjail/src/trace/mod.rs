//! The trace file: one JSON object a line. A header, events, a footer.
//!
//! See `docs/trace-format.md`.

#[cfg(test)]
mod bench;
mod condense;
mod model;
mod output;
mod read;
mod schema;
#[cfg(test)]
mod tests;
mod write;

pub use condense::Condensed;
pub use model::*;
pub use output::{BoxedOutput, Output};
pub use read::{ReadError, Reader, open};
pub use schema::schema;
pub(crate) use schema::schema_of;
pub use write::{FLUSH_EVERY, WriteError, Writer};
