//! What the launcher itself does.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Errno, ExitStatus, Signal};
use crate::event::evidence::Ancestor;

/// The jail exists.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JailCreated {
    /// Name of the jail.
    pub name: String,
    /// Its cgroup, an absolute path of the host.
    pub cgroup: String,
    /// Host PID of the process that will be PID 1.
    pub pid: u32,
}

/// All probes are attached: PID 1 takes the last steps of its set-up and executes APP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GateOpened {
    /// From the start of the launcher, nanoseconds.
    pub setup_ns: u64,
}

/// A signal that the launcher got, and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SignalForwarded {
    /// The signal.
    pub signal: Signal,
    /// What the launcher did.
    pub action: ForwardAction,
    /// Who sent it to the launcher, host PID; 0 for the kernel (a terminal).
    pub sender_pid: u32,
    /// How long it had been held, nanoseconds.
    pub held_ns: u64,
    /// The sender, as far as it could be looked at; null if it was not recorded.
    #[serde(default)]
    pub by: Option<Requester>,
}

/// Who sent a signal to the launcher.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Requester {
    /// Host PID; 0 if the kernel sent it or it can't be told.
    pub pid: u32,
    /// It was a key at the terminal.
    pub terminal_key: bool,
    /// Name of the process; empty if it was gone.
    pub comm: String,
    /// The program's file, an absolute path; empty if unknown.
    pub exe: String,
    /// Its arguments; empty if they could not be read.
    pub argv: Vec<String>,
    /// Its user ID.
    pub uid: u32,
    /// Path of its cgroup; empty if unknown.
    pub cgroup: String,
    /// The systemd unit that the cgroup belongs to, such as `cron.service`; null if there is none.
    pub unit: Option<String>,
    /// Its parent, that one's parent, and so on, without the host's PID 1; empty if they were not recorded.
    #[serde(default)]
    pub parents: Vec<Ancestor>,
}

/// A step of the set-up failed: APP never ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SetupFailed {
    /// What was tried, in words: `change to the working directory`.
    pub step: String,
    /// On what; null if there is no path.
    pub path: Option<String>,
    /// What the kernel said; null if it wasn't the kernel.
    pub error: Option<Errno>,
    /// The whole error, as it was printed.
    pub message: String,
    /// What the user can do.
    pub remedy: String,
}

/// What the launcher did with a signal it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardAction {
    /// Sent on to PID 1.
    Forwarded,
    /// Held: APP doesn't execute yet.
    HeldNotStarted,
    /// Held: PID 1 has no handler, so the kernel would drop it.
    HeldNoHandler,
    /// Not sent on: the terminal sent it to APP as well.
    SentByTerminal,
    /// It was held to the end and sent when the time was up.
    SentAtDeadline,
    /// It could not be sent.
    Failed,
}

/// The grace period began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StopRequested {
    /// The signal that the launcher got.
    pub signal: Signal,
    /// The signal that PID 1 gets.
    pub stop_signal: Signal,
    /// How long it may take, nanoseconds.
    pub timeout_ns: u64,
    /// Who asked, as far as that could be looked at; null if it was not recorded.
    #[serde(default)]
    pub by: Option<Requester>,
}

/// Everything in the jail's cgroup is killed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Kill {
    /// Why: `stop-timeout`, `second-signal`, `teardown`, `setup-failed`, ….
    pub reason: String,
    /// How: `cgroup.kill` or `freeze-kill-thaw`.
    pub method: String,
}

/// PID 1 was reaped by the launcher.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JailExited {
    /// Its status.
    pub status: ExitStatus,
}

/// A step of the clean-up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Teardown {
    /// What was done, in words.
    pub step: String,
    /// How long it took, nanoseconds.
    pub duration_ns: u64,
    /// Why it failed; null if it didn't.
    pub error: Option<String>,
}
