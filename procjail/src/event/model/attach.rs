//! What procjail finds where others had started before it came.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Exec, SignalSets, Task};

/// procjail is attached: from here on everything is recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Attached {
    /// What was attached to, as on the command line: `docker:web`.
    pub target: String,
    /// Processes that were there; each is an event of its own, but for those beyond the bound.
    pub processes: u64,
    /// How long it took from the start of procjail, nanoseconds.
    pub took_ns: u64,
}

/// A process that was there when procjail attached. The event's task is the process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Found {
    /// Its parent.
    pub parent: Task,
    /// The program that it runs. When it was executed is not known, nor with what signals ignored or blocked.
    pub program: Exec,
    /// What it does with signals now.
    pub signals: SignalSets,
    /// State as in proc_pid_stat(5): `S`, `D`, `Z`, ….
    pub state: String,
    /// It entered the target by setns(2): the parent is outside, and its PID namespace is not its parent's.
    pub entered: bool,
}

/// Why procjail detached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DetachReason {
    /// All processes of the target are gone.
    TargetEnded,
    /// procjail got a signal.
    Asked,
    /// The time of `--for` was over.
    TimeOver,
}

/// procjail is detached. The target may live on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Detached {
    /// Why.
    pub reason: DetachReason,
    /// Processes that were still there.
    pub processes: u64,
}
