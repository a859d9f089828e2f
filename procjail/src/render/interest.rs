//! Which events a reader of text can do without.

use crate::event::{Event, What};

/// True for events that text leaves out unless asked for: they repeat what other lines say, or are
/// of threads. JSON and the trace file have them all.
pub fn is_minor(event: &Event) -> bool {
    match &event.what {
        What::Free(_) | What::Wait(_) => true,
        What::Fork(fork) => fork.thread,
        What::Exit(exit) => !exit.process,
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
