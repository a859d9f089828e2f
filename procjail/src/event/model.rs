//! What a trace is made of: [`Event`]s.
//!
//! An event is one fact, told by the kernel or by the launcher. Its form is the same live and in a
//! file: [`crate::trace`] writes it as one JSON object, [`crate::render`] as one line of text.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::evidence::{
    Counters, FailedCalls, Fault, KernelMessage, KernelOom, MemorySample, Sender, Snapshot, Stack,
};
use super::executed::ExecutedFile;
use super::leak::{ImplicitUnmounts, LeakCheck, Leftover, MountUse};

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
    /// All probes are attached and APP may execute.
    GateOpened(GateOpened),
    /// The launcher got a signal meant for APP.
    SignalForwarded(SignalForwarded),
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
    /// Events were lost, or data could not be decoded.
    Lost(Lost),
}

/// A process or thread was made by the event's task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Fork {
    /// The new task.
    pub child: Task,
    /// It is a thread of the same process.
    pub thread: bool,
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

/// A signal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Signal {
    /// Number.
    pub number: i32,
    /// Name, such as `SIGTERM` or `SIGRTMIN+3`.
    pub name: String,
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

/// The kernel released the last of a process: it is certain now that it was reaped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Free {
    /// The process.
    pub process: Task,
}

/// The event's task sent a signal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SignalGenerated {
    /// What was sent.
    pub signal: Signal,
    /// Where it comes from, such as `SI_USER`, `SI_KERNEL`, `SEGV_MAPERR`.
    pub code: SignalCode,
    /// Whom it was sent to.
    pub target: Task,
    /// Sent to the process, not to one of its threads.
    pub group: bool,
    /// What the kernel did with it.
    pub result: SignalResult,
    /// What the target does with this signal.
    pub disposition: Disposition,
    /// The target thread blocks it.
    pub blocked: bool,
    /// The target is the PID 1 of a PID namespace: signals without a handler don't reach it.
    pub unkillable: bool,
    /// The target was ending already (for a fatal signal: it is set by this very signal).
    pub exiting: bool,
    /// System call that the sender is in; null for none (a fault, an interrupt).
    pub syscall: Option<Syscall>,
    /// The sender is ending.
    pub sender_exiting: bool,
    /// The sender is a kernel thread.
    pub sender_kthread: bool,
    /// The sender is the target's tracer (ptrace(2)).
    #[serde(default)]
    pub sender_traces_target: bool,
    /// Where the processor faulted; null for a signal that is not a fault's.
    #[serde(default)]
    pub fault: Option<Fault>,
}

/// `si_code` of a signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SignalCode {
    /// Number.
    pub number: i32,
    /// Symbol.
    pub name: String,
}

/// A system call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Syscall {
    /// Number on the machine's architecture.
    pub number: i64,
    /// Name, such as `kill`; `syscall_N` if unknown.
    pub name: String,
}

/// What the kernel did with a signal (`TRACE_SIGNAL_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SignalResult {
    /// Queued for the target.
    Delivered,
    /// Dropped: see disposition, `unkillable` and `exiting`.
    Ignored,
    /// Dropped: the same signal is pending already.
    AlreadyPending,
    /// Dropped: the queue is full (real-time signals).
    OverflowFail,
    /// Queued without its details.
    LoseInfo,
    /// A value that this version doesn't know.
    Unknown,
}

/// What a process does with a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Disposition {
    /// SIG_DFL.
    Default,
    /// SIG_IGN.
    Ignore,
    /// A handler.
    Handler,
}

/// The event's task took a signal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SignalDelivered {
    /// What was taken. Nine may stand for another fatal signal: see `fatal`.
    pub signal: Signal,
    /// Where it comes from.
    pub code: SignalCode,
    /// What is done with it.
    pub disposition: Disposition,
    /// Where SIGKILL is delivered: the signal that really ends the process, which may be SIGKILL too;
    /// null if it ends by exit_group(2). Null for any other signal.
    pub fatal: Option<Signal>,
    /// Time since it was sent, nanoseconds; null if that was not seen.
    pub latency_ns: Option<u64>,
    /// The event that sent it; null if that was not seen.
    pub generated_seq: Option<u64>,
}

/// The OOM killer chose a victim; the event's task triggered it by its allocation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OomKill {
    /// Who dies.
    pub victim: Task,
    /// Its memory at that instant.
    pub memory: ProcessMemory,
    /// `oom_score_adj` of the victim.
    pub oom_score_adj: i32,
    /// The kernel's own SIGKILL to the victim was seen: not a false alarm.
    pub killed_by_kernel: bool,
    /// System call in which the trigger allocated; null for a page fault.
    pub syscall: Option<Syscall>,
    /// Memory cgroups from the victim's own up to the root.
    pub chain: Vec<MemoryCgroup>,
    /// There are more levels than were recorded.
    pub chain_truncated: bool,
    /// What the trigger was doing.
    #[serde(default)]
    pub stack: Stack,
}

/// Memory of a process by kind, bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessMemory {
    /// Anonymous.
    pub anon_bytes: u64,
    /// Mapped files.
    pub file_bytes: u64,
    /// Mapped shared memory.
    pub shmem_bytes: u64,
    /// Swapped out.
    pub swap_bytes: u64,
    /// Page tables.
    pub page_table_bytes: u64,
    /// Size of the address space.
    pub total_vm_bytes: u64,
}

/// A memory cgroup at the instant of a kill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryCgroup {
    /// ID in the hierarchy that has the memory controller.
    pub id: u64,
    /// Name of its directory; `/` for the root.
    pub name: String,
    /// In use, bytes.
    pub usage_bytes: u64,
    /// Limit, bytes; null for none.
    pub limit_bytes: Option<u64>,
    /// Swap (v2), or memory plus swap (v1), in use, bytes.
    pub swap_usage_bytes: u64,
    /// Limit of it, bytes; null for none.
    pub swap_limit_bytes: Option<u64>,
    /// Its memory limit is the one that was hit: the lowest level with no room left.
    pub at_limit: bool,
}

/// The OOM reaper worked on a victim that was slow to die.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OomReap {
    /// How far it is.
    pub stage: OomReapStage,
    /// The victim.
    pub victim: Task,
}

/// Steps of the OOM reaper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OomReapStage {
    /// Asked to help.
    Wake,
    /// Started.
    Start,
    /// Freed its memory.
    Finish,
    /// Could not.
    Skip,
    /// A value that this version doesn't know.
    Unknown,
}

/// A system call on mounts or namespaces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Mount {
    /// Name of the call, such as `mount` or `umount2`.
    pub call: String,
    /// Source, from-path or new root; empty if the call has none.
    pub source: String,
    /// Target, to-path or put-old; empty if the call has none.
    pub target: String,
    /// Type of file system; empty if the call has none.
    pub fs_type: String,
    /// Flags as given.
    pub flags: u64,
    /// Their names.
    pub flag_names: Vec<String>,
    /// The call's arguments that are numbers (descriptors), in order.
    pub args: Vec<u64>,
    /// What it returned; null if it never did.
    pub result: Option<i64>,
    /// Why it failed; null if it didn't.
    pub error: Option<Errno>,
    /// From entry to return, nanoseconds.
    pub duration_ns: u64,
}

/// A cgroup of the jail changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cgroup {
    /// How.
    pub change: CgroupChange,
    /// Path of the cgroup in its hierarchy.
    pub path: String,
    /// Who moved in; null unless `attach`.
    pub member: Option<Task>,
}

/// Changes of a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CgroupChange {
    /// A task moved in.
    Attach,
    /// The first task came.
    Populated,
    /// The last task left.
    Empty,
    /// All its tasks are frozen.
    Frozen,
    /// They run again.
    Thawed,
    /// It was made.
    Mkdir,
    /// It was removed.
    Rmdir,
    /// A value that this version doesn't know.
    Unknown,
}

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

/// APP may execute from here on.
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

/// The stop window opened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StopRequested {
    /// The signal that the launcher got.
    pub signal: Signal,
    /// The signal that PID 1 gets.
    pub stop_signal: Signal,
    /// How long it may take, nanoseconds.
    pub timeout_ns: u64,
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
