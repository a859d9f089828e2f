//! Which events a reader of text can do without.

use crate::event::{Event, What};

/// A child that was reaped within so long was no zombie worth telling of, nanoseconds.
const PROMPT_NS: u64 = 100_000_000;

/// True for events that text leaves out unless asked for: they repeat what other lines say, or are
/// of threads. JSON and the trace file have them all.
pub fn is_minor(event: &Event) -> bool {
    match &event.what {
        What::Free(_) | What::Wait(_) | What::MemorySample(_) | What::Counters(_) => true,
        What::Fork(fork) => fork.thread,
        // A search along PATH. The line of the exit says it where nothing was found in the end.
        What::ExecFailed(failed) => failed.error.number == libc::ENOENT,
        // As it should be: the parent was waiting.
        What::Reap(reap) => reap.zombie_ns.is_some_and(|ns| ns < PROMPT_NS),
        What::Exit(exit) => {
            // A seccomp filter ends a thread alone, and nothing else tells of it.
            let filter = exit.status.signal.as_ref();
            !exit.process && filter.is_none_or(|signal| signal.number != libc::SIGSYS)
        }
        // The parent is told of a child's end, which the exit's line says.
        What::SignalGenerated(signal) => {
            signal.signal.number == libc::SIGCHLD && signal.code.number > 0
        }
        What::SignalDelivered(signal) => {
            let child = signal.signal.number == libc::SIGCHLD && signal.code.number > 0;
            let thread = signal.signal.number == libc::SIGKILL && event.task.tid != event.task.pid;
            child || thread
        }
        _ => false,
    }
}
