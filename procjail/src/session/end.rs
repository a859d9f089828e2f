//! What the last line of a trace tells of the end.

use crate::event::{ExitStatus, Teardown};
use crate::jail::Outcome;

/// How what was traced ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct End {
    /// How PID 1 ended, from whoever reaped it; else what the kernel told of its exit goes into the trace.
    pub status: Option<ExitStatus>,
    /// Exit code of the launcher; none if there is none.
    pub exit_code: Option<u8>,
    /// From the gate, or from when the trace began, to PID 1's end, nanoseconds.
    pub duration_ns: u64,
    /// Peak memory, bytes; none where the kernel doesn't tell.
    pub peak_memory_bytes: Option<u64>,
    /// CPU time, nanoseconds; none where the kernel doesn't tell.
    pub cpu_ns: Option<u64>,
    /// Steps of the clean-up.
    pub teardown: Vec<Teardown>,
}

impl From<&Outcome> for End {
    fn from(outcome: &Outcome) -> End {
        End {
            status: outcome.status.clone(),
            exit_code: Some(outcome.exit_code),
            duration_ns: outcome.duration_ns,
            peak_memory_bytes: outcome.peak_memory_bytes,
            cpu_ns: outcome.cpu_ns,
            teardown: outcome.teardown.clone(),
        }
    }
}
