//! The probes: the BPF programs, loaded for one jail and attached to the kernel's tracepoints.
//!
//! ```text
//! /sys/kernel/btf/vmlinux -> btf -> offsets -> (cache)
//!                                      |
//! embedded object -> object -> programs, maps -> probes attached -> ring -> bytes
//! ```
//!
//! Raw tracepoints only: they exist from Linux 5.10 on without further conditions. A probe that this
//! kernel doesn't have, or whose fields it lacks, is switched off by name and told in the trace.

mod btf;
mod cache;
mod calls;
mod error;
mod features;
mod host;
mod object;
mod offsets;
mod preempt;
mod probes;
mod ring;
mod sys;
mod tracer;

pub use error::Error;
pub use features::{Check, State, check};
pub(crate) use host::capabilities;
pub use ring::Reader;
pub use tracer::{Options, Tracer};
