//! The trace file: one JSON object a line. A header, events, a footer.
//!
//! See `docs/trace-format.md`.

mod model;
mod read;
mod schema;
mod write;

pub use model::*;
pub use read::{ReadError, Reader, open};
pub use schema::schema;
pub use write::{WriteError, Writer};
