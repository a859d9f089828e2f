//! Signals: sent and taken.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Signal, Task};
use crate::event::Fault;

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

impl Syscall {
    /// The call of that number.
    pub fn new(number: i64) -> Self {
        Self {
            number,
            name: crate::names::syscall(number),
        }
    }

    /// The call that a task is in: none for a negative number, as the kernel tells it.
    pub fn entered(number: i64) -> Option<Self> {
        (number >= 0).then(|| Self::new(number))
    }
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
