//! What a trace is made of: [`Event`]s.
//!
//! An event is one fact, told by the kernel or by the launcher. Its form is the same live and in a
//! file: [`crate::trace`] writes it as one JSON object, [`crate::render`] as one line of text.

mod attach;
mod launcher;
mod oom;
mod place;
mod process;
mod signal;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::evidence::{
    Counters, FailedCalls, KernelMessage, KernelOom, MemorySample, Sender, Snapshot, StderrTail,
};
use super::leak::{ImplicitUnmounts, LeakCheck, Leftover, MountUse};

pub use attach::*;
pub use launcher::*;
pub use oom::*;
pub use place::*;
pub use process::*;
pub use signal::*;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Event {
    /// Position in the trace, from 1, without gaps.
    pub seq: u64,
    /// CLOCK_BOOTTIME, nanoseconds. Never decreases from one event to the next.
    pub time_ns: u64,
    /// The task in whose context it happened: the sender of a signal, the trigger of an OOM kill, the
    /// parent of a fork. The launcher for its own events.
    pub task: Task,
    /// What happened, as two fields of the object: `kind` and `data`.
    #[serde(flatten)]
    pub what: What,
}

/// A process or one of its threads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Task {
    /// Process ID on the host (in the initial PID namespace).
    pub pid: u32,
    /// Thread ID on the host; equals `pid` for the main thread.
    pub tid: u32,
    /// Process ID inside the jail; null for a task that is not in the jail's PID namespace.
    pub jail_pid: Option<u32>,
    /// Name of the thread (`comm`).
    pub comm: String,
    /// When the process started, CLOCK_BOOTTIME nanoseconds; 0 if unknown. With `pid` it is unique.
    pub start_ns: u64,
    /// The task was in the jail's cgroup.
    pub in_jail: bool,
    /// ID of its cgroup on the default hierarchy; 0 if unknown.
    pub cgroup_id: u64,
}

/// What happened. In JSON: `"kind": "exit", "data": {…}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", content = "data", rename_all = "kebab-case")]
pub enum What {
    /// A process or thread was made.
    Fork(Fork),
    /// A process replaced its program.
    Exec(Exec),
    /// An attempt to do so failed.
    ExecFailed(ExecFailed),
    /// A process or thread ended.
    Exit(Exit),
    /// A process collected the status of a dead child.
    Reap(Reap),
    /// A process started to wait for children.
    Wait(Wait),
    /// The kernel released the last of a process.
    Free(Free),
    /// A signal was sent.
    SignalGenerated(SignalGenerated),
    /// A signal was taken by its target.
    SignalDelivered(SignalDelivered),
    /// The OOM killer chose a victim.
    OomKill(OomKill),
    /// The OOM reaper worked on a victim that did not die by itself.
    OomReap(OomReap),
    /// A system call changed mounts or namespaces, or tried to.
    Mount(Mount),
    /// A cgroup of the jail changed.
    Cgroup(Cgroup),
    /// The launcher found what a dead one had left, and removed it.
    Leftover(Leftover),
    /// The launcher made the jail; APP is not running yet.
    JailCreated(JailCreated),
    /// All probes are attached: PID 1 goes on, and executes APP.
    GateOpened(GateOpened),
    /// The launcher got a signal meant for APP.
    SignalForwarded(SignalForwarded),
    /// A step of the set-up failed: APP never ran.
    SetupFailed(SetupFailed),
    /// The launcher was asked to stop the jail.
    StopRequested(StopRequested),
    /// The launcher killed everything in the jail.
    Kill(Kill),
    /// PID 1's status was collected by the launcher.
    JailExited(JailExited),
    /// A step of the launcher's clean-up ended.
    Teardown(Teardown),
    /// Who a sender of signals from outside the jail is.
    Sender(Sender),
    /// The last system calls that failed in a process that ended badly.
    FailedCalls(FailedCalls),
    /// What a process that ended badly wrote to its standard error last.
    StderrTail(StderrTail),
    /// A resource limit was set.
    LimitChanged(LimitChanged),
    /// The jail's memory at one moment.
    MemorySample(MemorySample),
    /// Counters of the jail's cgroup and those above it.
    Counters(Counters),
    /// What the jail's tasks are doing at one moment.
    Snapshot(Snapshot),
    /// The kernel log's report of an OOM kill.
    KernelOom(KernelOom),
    /// A line of the kernel log about the jail.
    KernelMessage(KernelMessage),
    /// What uses a mount that could not be unmounted.
    MountUse(MountUse),
    /// What vanished with a mount namespace.
    ImplicitUnmounts(ImplicitUnmounts),
    /// What was left of the jail.
    LeakCheck(LeakCheck),
    /// procjail attached to what others had started.
    Attached(Attached),
    /// A process was there when procjail attached.
    Found(Found),
    /// procjail detached.
    Detached(Detached),
    /// Events were lost, or data could not be decoded.
    Lost(Lost),
}

/// An error number of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Errno {
    /// Number, positive.
    pub number: i32,
    /// Symbol, such as `ENOENT`.
    pub name: String,
}

impl Errno {
    /// The error of that number.
    pub fn new(number: i32) -> Self {
        Self {
            number,
            name: crate::names::errno(number),
        }
    }
}

/// A signal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Signal {
    /// Number.
    pub number: i32,
    /// Name, such as `SIGTERM` or `SIGRTMIN+3`.
    pub name: String,
}

impl Signal {
    /// A signal by its number.
    pub fn new(number: i32) -> Self {
        Self {
            number,
            name: crate::names::signal(number),
        }
    }
}

/// Events that this trace does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lost {
    /// Kind of event, as in `kind`; `undecodable` for data that could not be read.
    pub event_kind: String,
    /// The processor; null if it isn't known.
    pub cpu: Option<u32>,
    /// How many.
    pub count: u64,
}
