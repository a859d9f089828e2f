//! No more processes: refused forks, and too many of them.

mod bomb;
mod memory;
mod pids;
mod user;

use super::exit::reason::times;
use crate::diagnose::errno::FORKS;
use crate::diagnose::{Case, Confidence, Family, Finding, ProcessId, Rank, Rule, Tagged, is_bad};
use crate::event::{Event, FailedCall, FailedCalls, KernelMessage, What};
use crate::text;

pub(super) const FAMILY: Family = Family {
    rules: &[
        Rule {
            id: "fork-eagain-pids-max",
            about: "a fork was refused because the limit of processes (pids.max) was reached",
            alternatives: &[USER, MACHINE, pids::ABOVE, pids::INSIDE],
        },
        Rule {
            id: "fork-eagain-nproc",
            about: "a fork was refused because the user has too many processes (RLIMIT_NPROC)",
            alternatives: &[user::JAIL, MACHINE],
        },
        Rule {
            id: "fork-eagain-system",
            about: "a fork was refused by a limit of the machine or of a PID namespace",
            alternatives: &[USER],
        },
        Rule {
            id: "fork-enomem",
            about: "a fork failed with ENOMEM: no memory, or a PID namespace that has ended",
            alternatives: &[MEMORY],
        },
        Rule {
            id: "fork-bomb",
            about: "processes make processes without end",
            alternatives: &["a pool of workers", "a shell that starts commands"],
        },
    ],
    rank: Rank::Problem,
    analyse,
};

/// What there is of this family in a case.
fn analyse(case: &Case) -> Vec<Tagged> {
    let mut found = Vec::new();
    found.extend(
        pids::pids_max(case)
            .into_iter()
            .map(|one| ("fork-eagain-pids-max", one)),
    );
    found.extend(
        user::nproc(case)
            .into_iter()
            .map(|one| ("fork-eagain-nproc", one)),
    );
    found.extend(
        system(case)
            .into_iter()
            .map(|one| ("fork-eagain-system", one)),
    );
    found.extend(
        memory::no_memory(case)
            .into_iter()
            .map(|one| ("fork-enomem", one)),
    );
    found.extend(bomb::bomb(case).into_iter().map(|one| ("fork-bomb", one)));
    found
}

const USER: &str = "the limit of its user (RLIMIT_NPROC)";
const MACHINE: &str =
    "a limit of the machine (kernel.threads-max, kernel.pid_max) or of a cgroup above the jail";
const MEMORY: &str = "memory that was refused (vm.overcommit_memory, a memory limit)";

/// A refused fork this long before the end is not what ended it, nanoseconds.
const RECENT_NS: u64 = 5_000_000_000;

/// A fork that failed in a process that then ended badly.
#[derive(Clone, Copy)]
struct Refused<'a> {
    event: &'a Event,
    id: ProcessId,
    call: &'a FailedCall,
    count: usize,
}

fn refused(case: &Case, errno: i32) -> Vec<Refused<'_>> {
    case.all_failed_calls()
        .filter_map(|(id, event, calls)| Refused::new(case, id, event, calls, errno))
        .collect()
}

impl<'a> Refused<'a> {
    fn new(
        case: &Case,
        id: ProcessId,
        event: &'a Event,
        calls: &'a FailedCalls,
        errno: i32,
    ) -> Option<Self> {
        let is = |call: &&FailedCall| {
            call.error.number == errno
                && FORKS.contains(&call.syscall.name.as_str())
                && call.before_ns <= RECENT_NS
        };
        // An OOM victim's calls fail while it is dying.
        if case.process(id).oom_kill.is_some() {
            return None;
        }
        Some(Self {
            event,
            id,
            call: calls.calls.iter().rev().find(is)?,
            count: calls.calls.iter().filter(is).map(times).sum(),
        })
    }
}

/// The errors with which a fork is refused.
const REFUSALS: [i32; 2] = [libc::EAGAIN, libc::ENOMEM];

/// A process ended soon after a fork of it was refused.
pub(super) fn refused_to(case: &Case, id: ProcessId) -> bool {
    case.failed_calls(id).is_some_and(|(event, calls)| {
        REFUSALS
            .into_iter()
            .any(|errno| Refused::new(case, id, event, calls, errno).is_some())
    })
}

/// All processes that ended soon after a fork of theirs was refused.
pub(super) fn refused_to_any(case: &Case) -> impl Iterator<Item = ProcessId> {
    case.processes()
        .map(|(id, _)| id)
        .filter(|id| refused_to(case, *id))
}

/// The finding on those, with what they failed with. Where nobody ended badly, it is a note.
fn of(case: &Case, finding: Finding, failed: &[Refused<'_>]) -> Finding {
    let ids: Vec<ProcessId> = failed.iter().map(|failed| failed.id).collect();
    let mut finding = finding.about(case.code_to(&ids)).about(ids.iter().copied());
    for failed in failed.iter().take(3) {
        let error = case.error(&failed.call.error);
        finding = finding.shown_by(
            failed.event,
            format!(
                "{}: {} failed with {error}{}",
                case.name(failed.id),
                text::escape(&failed.call.syscall.name),
                match failed.count {
                    0 | 1 => String::new(),
                    count => format!(", {count} times"),
                }
            ),
        );
    }
    let bad = |id: &ProcessId| case.status(*id).is_some_and(is_bad);
    match ids.is_empty() || ids.iter().any(bad) {
        true => finding,
        false => finding.note(),
    }
}

/// The level whose limit of processes refused a fork: its path, and how often.
fn refusing_level(case: &Case) -> Option<(Option<&Event>, usize, String, u64)> {
    let (event, counters) = case
        .each(|what| match what {
            What::Counters(counters) => Some(counters),
            _ => None,
        })
        .last()?;
    counters
        .levels
        .iter()
        .enumerate()
        .find_map(|(index, level)| {
            let count = case.counter_growth(index, "pids.events:max")?;
            (count > 0).then(|| (Some(event), index, text::escape(&level.path), count))
        })
}

fn logged(case: &Case) -> Option<(&Event, &KernelMessage)> {
    case.each(|what| match what {
        What::KernelMessage(message)
            if message.text.contains("fork rejected by pids controller") =>
        {
            Some(message)
        }
        _ => None,
    })
    .next()
}

fn pids_limit(case: &Case) -> Option<u64> {
    case.header.jail.limits.get("pids.max")?.parse().ok()
}

/// So many forks: `1 fork`, `9 forks`.
fn forks(count: u64) -> String {
    match count {
        1 => "1 fork".to_owned(),
        count => format!("{} forks", text::count(count)),
    }
}

/// Whose forks failed: `3 forks of bash (PID 1) failed`.
fn who_failed(case: &Case, failed: &[Refused<'_>]) -> String {
    let ids: Vec<ProcessId> = failed.iter().map(|failed| failed.id).collect();
    let count: usize = failed.iter().map(|failed| failed.count).sum();
    format!("{} of {} failed", forks(count as u64), case.names(&ids))
}

fn system(case: &Case) -> Vec<Finding> {
    let failed = refused(case, libc::EAGAIN);
    let Some(first) = failed.first() else {
        return Vec::new();
    };
    if refusing_level(case).is_some()
        || logged(case).is_some()
        || user::user_limit(case, first).is_some()
        || pids_limit(case).is_some_and(|limit| pids::peak(case, limit).is_some())
    {
        return Vec::new();
    }
    let finding = Finding::new(format!("{} with EAGAIN.", who_failed(case, &failed)))
        .proven()
        .cause(
            "Neither the jail's limit of processes nor its user's was reached, as far as is known: kernel.threads-max, \
             kernel.pid_max or a limit above the jail would explain it.",
            Confidence::ConsistentWith,
        )
        .or(USER)
        .remedy(
            "Compare the machine's number of threads with kernel.threads-max and kernel.pid_max, and look at \
             pids.events of the groups above.",
        );
    vec![of(case, finding, &failed)]
}
