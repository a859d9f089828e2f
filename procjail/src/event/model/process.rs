//! Processes: how they are made, replaced, end and are collected.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Errno, Signal, Task};
use crate::event::ExecutedFile;

/// A process or thread was made by the event's task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Fork {
    /// The new task.
    pub child: Task,
    /// It is a thread of the same process.
    pub thread: bool,
    /// What the new task does with signals, inherited from its maker; null if it was not recorded.
    #[serde(default)]
    pub signals: Option<SignalSets>,
}

/// What a process does with signals at one instant: of the signals 1 to 31, those with a disposition that is
/// not the default (signal(7)), and those blocked in the thread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SignalSets {
    /// Disposition `SIG_IGN`: survives a fork and an exec.
    pub ignored: Vec<Signal>,
    /// With a handler: survives a fork, not an exec.
    pub caught: Vec<Signal>,
    /// Blocked in the thread: survives a fork and an exec.
    pub blocked: Vec<Signal>,
}

/// The event's task replaced its program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Exec {
    /// File that was executed, as the caller named it.
    pub filename: String,
    /// Arguments, the program's name first.
    pub argv: Vec<String>,
    /// Arguments are missing at the end because they were longer than a record holds.
    pub argv_truncated: bool,
    /// Length of all arguments, bytes.
    pub argv_bytes: u64,
    /// What the new program starts with, inherited from the one before it; null if it was not recorded.
    #[serde(default)]
    pub signals: Option<SignalSets>,
}

/// execve(2) or execveat(2) failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExecFailed {
    /// File that was asked for.
    pub filename: String,
    /// Why.
    pub error: Errno,
    /// What the file is; null if there is none, or if it could not be read.
    #[serde(default)]
    pub file: Option<ExecutedFile>,
}

/// A process or one thread of it ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Exit {
    /// How the process (or, for a thread that is not the last one, the thread) ended.
    pub status: ExitStatus,
    /// This was the last thread: the process is dead.
    pub process: bool,
    /// Who will be told, at that instant.
    pub parent: Task,
    /// Peak resident memory, bytes; 0 where the kernel had not summed it up.
    pub max_rss_bytes: u64,
    /// CPU time of this thread in user mode, nanoseconds.
    pub user_ns: u64,
    /// CPU time of this thread in the kernel, nanoseconds.
    pub system_ns: u64,
    /// Time since the process started, nanoseconds.
    pub lifetime_ns: u64,
    /// What exit_group(2) was called with, before the kernel cut it to eight bits; null if the process
    /// ended otherwise.
    #[serde(default)]
    pub argument: Option<i32>,
    /// Host PID of the leader of its process group; 0 if unknown.
    #[serde(default)]
    pub process_group: u32,
    /// Host PID of the leader of its session; 0 if unknown.
    #[serde(default)]
    pub session: u32,
    /// Who traced it (ptrace(2)) at that instant; null if nobody did, or if it was not recorded.
    #[serde(default)]
    pub tracer: Option<Task>,
}

/// How a process ended; see wait(2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExitStatus {
    /// Its own exit code; null if a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it; null if it exited.
    pub signal: Option<Signal>,
    /// A core was dumped.
    pub core_dumped: bool,
}

impl ExitStatus {
    /// From a status as wait(2) and the kernel's `exit_code` encode it: `code << 8`, or the signal,
    /// with 0x80 for a core dump.
    pub fn from_wait(status: i32) -> Self {
        match status & 0x7f {
            0 => Self {
                code: Some((status >> 8) & 0xff),
                ..Self::default()
            },
            signal => Self {
                code: None,
                signal: Some(Signal::new(signal)),
                core_dumped: status & 0x80 != 0,
            },
        }
    }
}

/// The event's task collected the status of `child`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reap {
    /// Who was reaped. Its host PID is 0 if the trace never saw it.
    pub child: Task,
    /// `wait4` or `waitid`.
    pub call: String,
    /// How long it had been a zombie, nanoseconds; null if its end was not seen.
    pub zombie_ns: Option<u64>,
}

/// The event's task began to wait for children.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Wait {
    /// Child waited for, as numbered by the waiter; null for any.
    pub ns_pid: Option<u32>,
}

/// A resource limit of `target` was set by the event's task (prlimit(2), setrlimit(2)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LimitChanged {
    /// Whose limit.
    pub target: Task,
    /// Which, as in the header's `rlimits`: `nofile`, `as`, ….
    pub resource: String,
    /// Soft limit; null for none.
    pub soft: Option<u64>,
    /// Hard limit; null for none.
    pub hard: Option<u64>,
}

/// The kernel released the last of a process: it is certain now that it was reaped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Free {
    /// The process.
    pub process: Task,
}
