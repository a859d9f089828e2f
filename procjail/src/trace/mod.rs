//! The trace file: one JSON object a line. A header, events, a footer.

mod model;

pub use model::*;
