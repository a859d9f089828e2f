//! Events: the model, and how records of the kernel become events.
//!
//! [`decode()`] makes a checked [`Record`] of bytes; the [`Enricher`] makes an [`Event`] of it.

mod address;
mod alike;
mod decode;
mod enrich;
mod evidence;
mod executed;
mod failures;
#[cfg(test)]
pub(crate) mod fixture;
mod identify;
mod kinds;
mod leak;
mod line;
mod model;
mod processes;
mod senders;
mod stderr;
#[cfg(test)]
pub(crate) mod story;

pub use alike::Recent;
pub use decode::{DecodeError, Exec as ExecRecord, Failures, Record, decode};
pub use enrich::Enricher;
pub use evidence::*;
pub use executed::{ExecutedFile, FileForm, inspect};
pub use identify::is_cut_start;
pub use kinds::KINDS;
pub use leak::*;
pub use line::Lines;
pub use model::*;
