//! What a diagnosis needs beside the kernel's events, read at the moments that matter, as a moment later
//! it is gone: memory and counters from the cgroups, threads from /proc, the kernel log.
//!
//! All of it is read by threads of its own, the [`Witness`] of a trace and the jail's lookout for a teardown
//! that stalls ([`stall_snapshot`]), so that neither the jail nor its launcher ever waits for a file that doesn't answer. Nothing here stops, traces or signals a process.

mod activity;
mod counters;
mod environment;
mod file_systems;
mod kernel_log;
pub mod kmsg;
mod members;
mod memory;
mod pace;
mod reread;
mod sockets;
mod stall;
mod tasks;
mod witness;

pub use environment::runtime_settings;
pub use kernel_log::Finding;
pub use tasks::{snapshot, stall_snapshot};
pub use witness::{Listener, Witness};
