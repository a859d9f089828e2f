//! Crashes: signals that a process brings upon itself.

mod abort;
mod bus;
mod fault;
pub(super) mod seccomp;
mod segv;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use crate::diagnose::{Case, Origin, ProcessId, Rule};
use crate::event::{Event, SignalGenerated};
use crate::render;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "segv-fault",
        about: "the program accessed memory that it may not",
        find: segv::fault,
    },
    Rule {
        id: "segv-stack-overflow",
        about: "a thread's stack is exhausted",
        find: segv::stack_overflow,
    },
    Rule {
        id: "segv-vsyscall",
        about: "an old C library calls the kernel in a way that this machine has switched off",
        find: segv::vsyscall,
    },
    Rule {
        id: "abrt-self",
        about: "the program aborted itself",
        find: abort::itself,
    },
    Rule {
        id: "abrt-watchdog",
        about: "something outside the jail aborted the program",
        find: abort::watchdog,
    },
    Rule {
        id: "ill-cpu-feature",
        about: "the processor does not know an instruction",
        find: fault::illegal,
    },
    Rule {
        id: "fpe",
        about: "an integer was divided by zero, or a calculation overflowed",
        find: fault::arithmetic,
    },
    Rule {
        id: "trap-unhandled",
        about: "a breakpoint or a deliberate trap, with no debugger there",
        find: fault::trap,
    },
    Rule {
        id: "sigbus-shm-full",
        about: "a mapped file's tmpfs is full",
        find: bus::shm_full,
    },
    Rule {
        id: "sigbus-truncated",
        about: "a mapped file is shorter than its mapping",
        find: bus::truncated,
    },
    Rule {
        id: "sigbus-hwpoison",
        about: "the machine's memory is bad",
        find: bus::poisoned,
    },
    Rule {
        id: "sigsys-seccomp",
        about: "a seccomp filter ended the program for a system call",
        find: seccomp::killed,
    },
    Rule {
        id: "seccomp-thread-killed",
        about: "a seccomp filter ended one thread, and the program goes on without it",
        find: seccomp::thread_killed,
    },
    Rule {
        id: "seccomp-errno",
        about: "a policy made a system call fail",
        find: seccomp::refused,
    },
];

/// A process that a signal ended, with the signal.
#[derive(Clone, Copy)]
struct Crash<'a> {
    id: ProcessId,
    event: &'a Event,
    signal: &'a SignalGenerated,
}

/// Processes of the jail that ended by that signal and whose sender is known.
fn crashes(case: &Case, number: i32) -> Vec<Crash<'_>> {
    case.deaths()
        .into_iter()
        .filter(|id| {
            case.status(*id)
                .and_then(|status| status.signal.as_ref())
                .is_some_and(|signal| signal.number == number)
        })
        .filter_map(|id| {
            let (event, signal) = case.killing_signal(id)?;
            Some(Crash { id, event, signal })
        })
        .collect()
}

/// Those of them that the processor's fault ended.
fn faults(case: &Case, number: i32) -> Vec<Crash<'_>> {
    let mut crashes = crashes(case, number);
    crashes.retain(|crash| case.origin(crash.event, crash.signal) == Origin::Fault);
    crashes
}

/// Crashes alike: one verdict for all of them. In the order of the first ones.
fn alike<'a, K: std::hash::Hash + Eq>(
    case: &Case,
    crashes: Vec<Crash<'a>>,
    key: impl Fn(&Crash<'a>) -> K,
) -> Vec<Vec<Crash<'a>>> {
    let mut groups: Vec<Vec<Crash<'a>>> = Vec::new();
    let mut known = HashMap::new();
    for crash in crashes {
        let comm = case.process(crash.id).task.comm.clone();
        let at = *known.entry((comm, key(&crash))).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        if let Some(group) = groups.get_mut(at) {
            group.push(crash);
        }
    }
    groups
}

/// Who: `worker (PID 7)`, or `worker (PID 7) and 24 more like it`.
pub(super) fn names(case: &Case, ids: &[ProcessId]) -> String {
    let Some((first, rest)) = ids.split_first() else {
        return "an unknown process".to_owned();
    };
    match rest.len() as u64 {
        0 => case.name(*first),
        more => format!(
            "{} and {} more like it",
            case.name(*first),
            render::count(more)
        ),
    }
}

fn ids(crashes: &[Crash<'_>]) -> Vec<ProcessId> {
    crashes.iter().map(|crash| crash.id).collect()
}

/// Which thread crashed: nothing for the main one.
fn thread(crash: &Crash<'_>) -> String {
    let task = &crash.event.task;
    match task.tid == task.pid {
        true => String::new(),
        false => format!(
            " in its thread {} ({})",
            task.tid,
            render::escape(&task.comm)
        ),
    }
}
