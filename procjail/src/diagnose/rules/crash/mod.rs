//! Crashes: signals that a process brings upon itself.

mod abort;
mod bus;
mod fault;
mod instruction;
#[cfg(test)]
mod raised_tests;
pub(super) mod seccomp;
mod segv;
#[cfg(test)]
mod tests;
mod words;

use std::collections::HashMap;

use crate::diagnose::{Case, Family, Finding, Origin, ProcessId, Rank, Rule, Tagged};
use crate::event::{Event, SignalGenerated};
use crate::text;

pub(super) const FAMILY: Family = Family {
    rules: &[
        Rule {
            id: "segv-fault",
            about: "the program accessed memory that is not mapped or not allowed",
            alternatives: &["another bug that makes such an address"],
        },
        Rule {
            id: "segv-stack-overflow",
            about: "a thread's stack is exhausted",
            alternatives: &[segv::STACK_POINTER],
        },
        Rule {
            id: "segv-vsyscall",
            about: "an old C library calls the kernel in a way that this machine has switched off",
            alternatives: &["a wild jump"],
        },
        Rule {
            id: "abrt-self",
            about: "the program aborted itself",
            alternatives: &["an abort for another reason than its last words"],
        },
        Rule {
            id: "abrt-watchdog",
            about: "something outside the jail aborted the program",
            alternatives: &["somebody who wanted a core dump"],
        },
        Rule {
            id: "ill-cpu-feature",
            about: "the processor does not know an instruction",
            alternatives: &["a jump to data", "a trap that was put there on purpose"],
        },
        Rule {
            id: "ill-trap",
            about: "the program stopped itself at an instruction that is defined to fault",
            alternatives: &["a jump to data that happens to have these bytes"],
        },
        Rule {
            id: "fpe",
            about: "an integer was divided by zero, or a calculation overflowed",
            alternatives: &["a signal that somebody sent"],
        },
        Rule {
            id: "trap-unhandled",
            about: "a breakpoint or a deliberate trap, with no debugger there",
            alternatives: &["a breakpoint that was left"],
        },
        Rule {
            id: "sigbus-shm-full",
            about: "a mapped file's tmpfs is full",
            alternatives: &[
                "a file that was cut while it was mapped",
                "huge pages of which none was left",
            ],
        },
        Rule {
            id: "sigbus-truncated",
            about: "a mapped file is shorter than its mapping",
            alternatives: &[
                "huge pages of which none was left",
                "a disk that could not be read",
            ],
        },
        Rule {
            id: "sigbus-hwpoison",
            about: "the machine's memory is bad",
            alternatives: &["an error that was injected"],
        },
        Rule {
            id: "sigsys-seccomp",
            about: "a seccomp filter ended the program for a system call",
            alternatives: &["a SIGSYS that somebody sent"],
        },
        Rule {
            id: "seccomp-thread-killed",
            about: "a seccomp filter ended one thread, and the program goes on without it",
            alternatives: &["a SIGSYS that somebody sent"],
        },
        Rule {
            id: "seccomp-errno",
            about: "a policy made a system call fail",
            alternatives: &["a missing permission for the object of the call"],
        },
    ],
    rank: Rank::Problem,
    analyse,
};

/// What there is of this family in a case.
fn analyse(case: &Case) -> Vec<Tagged> {
    let mut found = Vec::new();
    found.extend(segv::fault(case).into_iter().map(|one| ("segv-fault", one)));
    found.extend(
        segv::stack_overflow(case)
            .into_iter()
            .map(|one| ("segv-stack-overflow", one)),
    );
    found.extend(
        segv::vsyscall(case)
            .into_iter()
            .map(|one| ("segv-vsyscall", one)),
    );
    found.extend(
        abort::itself(case)
            .into_iter()
            .map(|one| ("abrt-self", one)),
    );
    found.extend(
        abort::watchdog(case)
            .into_iter()
            .map(|one| ("abrt-watchdog", one)),
    );
    found.extend(fault::illegal(case));
    found.extend(fault::arithmetic(case).into_iter().map(|one| ("fpe", one)));
    found.extend(
        fault::trap(case)
            .into_iter()
            .map(|one| ("trap-unhandled", one)),
    );
    found.extend(
        bus::shm_full(case)
            .into_iter()
            .map(|one| ("sigbus-shm-full", one)),
    );
    found.extend(
        bus::truncated(case)
            .into_iter()
            .map(|one| ("sigbus-truncated", one)),
    );
    found.extend(
        bus::poisoned(case)
            .into_iter()
            .map(|one| ("sigbus-hwpoison", one)),
    );
    found.extend(
        seccomp::killed(case)
            .into_iter()
            .map(|one| ("sigsys-seccomp", one)),
    );
    found.extend(
        seccomp::thread_killed(case)
            .into_iter()
            .map(|one| ("seccomp-thread-killed", one)),
    );
    found.extend(
        seccomp::refused(case)
            .into_iter()
            .map(|one| ("seccomp-errno", one)),
    );
    found
}

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
            text::count(more)
        ),
    }
}

fn ids(crashes: &[Crash<'_>]) -> Vec<ProcessId> {
    crashes.iter().map(|crash| crash.id).collect()
}

/// That a handler took the fault first, and the thread then raised the signal again; nothing where none did.
fn raised_again(case: &Case, crash: &Crash<'_>) -> String {
    case.raised_again(crash.id)
        .map_or_else(String::new, |(event, _)| {
            format!(
                " Its handler took that, and {} later the same thread raised {} again, which ended it.",
                case.between(crash.event, event),
                text::escape(&crash.signal.signal.name),
            )
        })
}

/// The signal that was raised again, as evidence.
fn show_raised(case: &Case, crash: &Crash<'_>, finding: Finding) -> Finding {
    let Some((event, signal)) = case.raised_again(crash.id) else {
        return finding;
    };
    let call = signal
        .syscall
        .as_ref()
        .map_or("a system call", |call| call.name.as_str());
    let how = format!("the same signal by {}, to itself", text::escape(call));
    finding.shown_by(event, how)
}

/// Which thread crashed: nothing for the main one.
fn thread(crash: &Crash<'_>) -> String {
    let task = &crash.event.task;
    match task.tid == task.pid {
        true => String::new(),
        false => format!(" in its thread {} ({})", task.tid, text::escape(&task.comm)),
    }
}
