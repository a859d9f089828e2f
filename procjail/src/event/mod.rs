//! Events: the model, and how records of the kernel become events.
//!
//! [`decode()`] makes a checked [`Record`] of bytes; the [`Enricher`] makes an [`Event`] of it. The
//! [`Sequencer`] in front of the enricher puts what several processors and the launcher tell in order.

mod decode;
mod enrich;
#[cfg(test)]
pub(crate) mod fixture;
mod kinds;
mod model;
mod processes;
mod sequence;

pub use decode::{DecodeError, Exec as ExecRecord, Record, decode};
pub use enrich::Enricher;
pub use kinds::KINDS;
pub use model::*;
pub use sequence::Sequencer;
