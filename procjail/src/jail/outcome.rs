//! What the launcher reports: to an [`Observer`] while the jail runs, as an [`Outcome`] at its end.

use std::time::Duration;

use crate::cgroup::View;
use crate::event::{self, ExitStatus, Snapshot};

/// Looks what a jail's threads wait for while its teardown stalls. Given are its cgroups, PID 1's host PID (0 once it is
/// reaped), and how long the teardown has waited, nanoseconds. It runs in a thread of its own, which nobody waits for.
pub type LookAtStall = fn(&View, u32, u64) -> Snapshot;

/// Someone who wants to know what the launcher does, such as a trace.
pub trait Observer {
    /// The launcher did something, at `time_ns` of [`crate::clock::boot_ns`].
    fn observe(&self, time_ns: u64, what: event::What);

    /// A stop was requested and its signal is not sent yet: the last moment to see the jail as it was.
    /// Returns within a moment, whatever happens.
    fn before_stop(&self) {}

    /// The jail is empty and its cgroups are about to be removed: the last moment to read them.
    /// Returns within a moment, whatever happens.
    fn before_removal(&self) {}

    /// What looks at a teardown that stalls; none if nobody wants to know.
    fn look_at_stall(&self) -> Option<LookAtStall> {
        None
    }
}

/// Nobody: `procjail run`.
impl Observer for () {
    fn observe(&self, _time_ns: u64, _what: event::What) {}
}

/// How a jail is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopOptions {
    /// Signal that asks PID 1 to stop; none for the one that the launcher got.
    pub signal: Option<i32>,
    /// How long PID 1 has to obey.
    pub timeout: Duration,
    /// How long everything after the kill may take.
    pub teardown_timeout: Duration,
    /// Signals are passed on at once, even those that the kernel drops for want of a handler.
    pub as_is: bool,
}

impl Default for StopOptions {
    fn default() -> StopOptions {
        StopOptions {
            signal: None,
            timeout: Duration::from_secs(10),
            teardown_timeout: Duration::from_secs(30),
            as_is: false,
        }
    }
}

/// How a jail ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// How PID 1 ended; none if it could not be reaped in time.
    pub status: Option<ExitStatus>,
    /// Exit code for the launcher, see [`crate::exit`].
    pub exit_code: u8,
    /// From the gate to PID 1's end, nanoseconds.
    pub duration_ns: u64,
    /// Peak memory, bytes; none where the kernel doesn't tell.
    pub peak_memory_bytes: Option<u64>,
    /// CPU time, nanoseconds; none where the kernel doesn't tell.
    pub cpu_ns: Option<u64>,
    /// Processes that the OOM killer killed for a limit of the jail; none where the kernel doesn't
    /// tell.
    pub oom_kills: Option<u64>,
    /// Steps of the clean-up.
    pub teardown: Vec<event::Teardown>,
    /// What could not be removed, one sentence each; empty when all is gone.
    pub remains: Vec<String>,
}
