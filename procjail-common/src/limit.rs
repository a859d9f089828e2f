//! Changes of resource limits.

use crate::Header;

/// A `setrlimit` or `prlimit64` that set a limit.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitChanged {
    /// Common part; the task is the caller.
    pub header: Header,
    /// Whose limit, as numbered in the caller's own PID namespace; 0 for the caller's.
    pub ns_pid: u32,
    /// `RLIMIT_*`.
    pub resource: u32,
    /// The new soft limit; [`u64::MAX`] for none.
    pub soft: u64,
    /// The new hard limit, likewise.
    pub hard: u64,
}
