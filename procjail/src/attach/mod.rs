//! Attaching to what others started: its cgroup, what runs in it, and waiting for its end.
//!
//! Nothing here signals, stops, traces or waits for a process of the target: all of it is read from /proc and the
//! cgroup's files, or told by pidfd and inotify.

mod limits;
mod snapshot;
mod target;
mod wait;

pub use limits::{environment, limits, rlimits};
pub use snapshot::{Snapshot, snapshot};
pub use target::{Error, target};
pub use wait::{Watched, wait};
