//! What a diagnosis needs beside the kernel's events, read at the moments that matter, as a moment later
//! it is gone: memory and counters from the cgroups, threads from /proc, the kernel log.
//!
//! All of it is read by threads of its own, the [`Witness`] of a trace and the [`Lookout`] of a teardown
//! that stalls, so that neither the jail nor its launcher ever waits for a file that doesn't answer. Nothing here stops, traces or signals a process.

mod activity;
mod counters;
mod environment;
mod file_systems;
mod kernel_log;
pub mod kmsg;
mod lookout;
mod members;
mod memory;
mod pace;
pub(crate) mod procfs;
mod reread;
mod sockets;
mod stall;
mod tasks;
mod witness;

pub use environment::runtime_settings;
pub use kernel_log::Finding;
pub use lookout::Lookout;
pub use tasks::snapshot;
pub use witness::Witness;
