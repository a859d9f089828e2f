//! No more processes: refused forks, and too many of them.

mod bomb;
mod memory;

use std::collections::BTreeMap;

use super::exit::reason::times;
use crate::diagnose::errno::FORKS;
use crate::diagnose::{
    Case, Confidence, Family, Finding, Follows, Limit, ProcessId, Rank, Rule, Tagged, is_bad,
};
use crate::event::{Event, FailedCall, FailedCalls, KernelMessage, What};
use crate::render;

pub(super) const FAMILY: Family = Family {
    rules: &[
        Rule {
            id: "fork-eagain-pids-max",
            about: "a fork was refused because the limit of processes (pids.max) was reached",
            alternatives: &[USER, MACHINE, ABOVE, INSIDE],
        },
        Rule {
            id: "fork-eagain-nproc",
            about: "a fork was refused because the user has too many processes (RLIMIT_NPROC)",
            alternatives: &[JAIL, MACHINE],
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
        pids_max(case)
            .into_iter()
            .map(|one| ("fork-eagain-pids-max", one)),
    );
    found.extend(
        nproc(case)
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

/// Whose limit of processes it may be instead.
const ABOVE: &str = "the limit of another cgroup above the jail";
const INSIDE: &str = "the limit of a cgroup made inside the jail";

/// What may refuse a fork.
const JAIL: &str = "the jail's own limit (pids.max)";
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
                render::escape(&failed.call.syscall.name),
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
            (count > 0).then(|| (Some(event), index, render::escape(&level.path), count))
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

/// The level with the lowest limit of processes, which is the first to be reached, and that limit. `counted` is the
/// level whose counter rose; its own limit or one above it was hit.
fn tightest(case: &Case, counted: usize) -> Option<(usize, u64)> {
    let (_, last) = case
        .each(|what| match what {
            What::Counters(counters) => Some(counters),
            _ => None,
        })
        .last()?;
    let limit = |index: usize| {
        let own = (index == 0).then(|| pids_limit(case)).flatten();
        own.or_else(|| case.counter(index, "pids.max"))
    };
    (counted..last.levels.len())
        .filter_map(|index| Some((index, limit(index)?)))
        .min_by_key(|(index, limit)| (*limit, *index))
}

/// The path of a level's cgroup.
fn path(case: &Case, index: usize) -> String {
    case.each(|what| match what {
        What::Counters(counters) => counters.levels.get(index),
        _ => None,
    })
    .last()
    .map_or_else(String::new, |(_, level)| render::escape(&level.path))
}

fn pids_max(case: &Case) -> Vec<Finding> {
    let level = refusing_level(case);
    let log = logged(case);
    let failed = refused(case, libc::EAGAIN);
    let counted = level.is_some() || log.is_some();
    let hit = match &level {
        Some((_, index, ..)) => tightest(case, *index),
        None => pids_limit(case).map(|limit| (0, limit)),
    };
    let limit = hit.map(|(_, limit)| limit);
    let peak = limit.and_then(|limit| peak(case, limit));
    let unmoved = case.counter_growth(0, "pids.events:max") == Some(0);
    if !counted && (limit.is_none() || peak.is_none() || (unmoved && failed.is_empty())) {
        return Vec::new();
    }
    // Without a counter: full is not refused, unless a fork is known to have failed.
    // Whose limit it was is seen only where the jail alone had as many processes as that allows: the counter may
    // be that of the cgroup that forked, whichever limit above it was reached.
    let full = counted && peak.is_some();
    let confidence = match (counted, failed.is_empty()) {
        (true, _) if full => Confidence::Proven,
        (true, _) | (false, false) => Confidence::Likely,
        (false, true) => Confidence::ConsistentWith,
    };
    let whose = match hit {
        Some((0, _)) => "the jail".to_owned(),
        Some((index, _)) => format!("the cgroup {} above the jail", path(case, index)),
        None => "a cgroup above the jail, or one made inside it,".to_owned(),
    };
    let limit_words = limit.map_or_else(
        || "its limit of processes".to_owned(),
        |limit| {
            format!(
                "its limit of {} processes and threads (pids.max)",
                render::count(limit)
            )
        },
    );
    let census = peak
        .as_ref()
        .map(|(event, living)| census(case, living, event));
    let who = census.as_ref().map_or_else(String::new, |words| {
        format!(" At that moment there were {words}.")
    });
    let fact = match (&level, failed.is_empty()) {
        (Some((.., count)), _) => {
            format!(
                "{} of the jail {} refused with EAGAIN.",
                forks(*count),
                if *count == 1 { "was" } else { "were" }
            )
        }
        (None, false) => format!("{} with EAGAIN.", who_failed(case, &failed)),
        (None, true) if log.is_some() => "The kernel refused the jail a fork.".to_owned(),
        (None, true) => "Forks may have been refused with EAGAIN.".to_owned(),
    };
    let mut finding = Finding::new(fact)
        .confidence(match counted || !failed.is_empty() {
            true => Confidence::Proven,
            false => Confidence::ConsistentWith,
        })
        .cause(
            format!("{} had reached {limit_words}.{who}", capital(&whose)),
            confidence,
        );
    if !counted && failed.is_empty() {
        finding = finding.note();
    }
    if let Some((event, _)) = &peak {
        finding = finding.shown_by(event, "the process that made it full");
    }
    if let Some((Some(event), _, _, count)) = &level {
        finding = finding.shown_by(
            event,
            format!(
                "the counter max of pids.events rose by {}",
                render::count(*count)
            ),
        );
    }
    if let Some((event, message)) = log {
        finding = finding.shown_by(event, render::escape(&message.text));
    }
    finding = match counted {
        true => finding
            .not(USER, "the counter of the cgroup rose")
            .not(MACHINE, "the counter of the cgroup rose"),
        false => finding.or(USER).or(MACHINE),
    };
    let held = "the jail alone had as many processes as this limit allows";
    finding = match full {
        true => finding.not(ABOVE, held).not(INSIDE, held),
        false => finding.or(ABOVE).or(INSIDE),
    };
    let raise = match hit {
        Some((0, _)) => "--pids".to_owned(),
        Some((index, _)) => format!("pids.max of the cgroup {}", path(case, index)),
        None => "pids.max of the cgroup whose limit it is".to_owned(),
    };
    vec![
        of(case, finding, &failed)
            .follows(Follows::Rule("fork-bomb"))
            .remedy(format!(
                "Find out why there are so many (zombies count too, until they are collected, and so do threads), or \
                 raise {raise}."
            )),
    ]
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

/// So many forks: `1 fork`, `9 forks`.
fn forks(count: u64) -> String {
    match count {
        1 => "1 fork".to_owned(),
        count => format!("{} forks", render::count(count)),
    }
}

/// Whose forks failed: `3 forks of bash (PID 1) failed`.
fn who_failed(case: &Case, failed: &[Refused<'_>]) -> String {
    let ids: Vec<ProcessId> = failed.iter().map(|failed| failed.id).collect();
    let count: usize = failed.iter().map(|failed| failed.count).sum();
    format!("{} of {} failed", forks(count as u64), case.names(&ids))
}

/// When so many processes existed for the first time, dead ones that were not collected included, and
/// which.
fn peak(case: &Case, limit: u64) -> Option<(&Event, Vec<ProcessId>)> {
    // Births and removals in order of time; a removal that is not known never comes.
    let mut changes: Vec<(u64, bool, ProcessId)> = Vec::new();
    for (id, process) in case.processes().filter(|(_, process)| process.in_jail()) {
        changes.push((case.born_ns(id), true, id));
        // A process leaves the count when it is released (pids_release() in kernel/cgroup/pids.c).
        let reaped = process.reap.map(|index| case.event(index).time_ns);
        let gone = match (process.freed_ns, reaped) {
            (Some(freed), Some(reaped)) => Some(freed.min(reaped)),
            (freed, reaped) => freed.or(reaped),
        };
        if let Some(gone) = gone {
            changes.push((gone, false, id));
        }
    }
    changes.sort();
    let mut there: BTreeMap<ProcessId, ()> = BTreeMap::new();
    for (_, came, id) in changes {
        if came {
            there.insert(id, ());
        } else {
            there.remove(&id);
        }
        if there.len() as u64 >= limit {
            let forked = case.process(id).forked?;
            return Some((case.event(forked), there.into_keys().collect()));
        }
    }
    None
}

/// What there was, by program: `12 of sh, 3 of them dead and not collected`.
fn census(case: &Case, living: &[ProcessId], event: &Event) -> String {
    let mut programs: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for id in living {
        let dead = !case.alive_at(*id, event.time_ns);
        let entry = programs
            .entry(case.process(*id).task.comm.as_str())
            .or_default();
        entry.0 += 1;
        entry.1 += usize::from(dead);
    }
    let mut list: Vec<(&str, (usize, usize))> = programs.into_iter().collect();
    list.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
    let words: Vec<String> = list
        .iter()
        .take(3)
        .map(|(program, (count, dead))| {
            let zombies = match dead {
                0 => String::new(),
                dead => format!(" ({dead} dead and not collected)"),
            };
            format!("{count} of {}{zombies}", render::escape(program))
        })
        .collect();
    words.join(", ")
}

/// The user that the jail's processes were started as; `None` for root, whom RLIMIT_NPROC does not bind.
fn user(case: &Case) -> Option<&str> {
    let plan = case.header.jail.plan.iter();
    plan.filter_map(|step| step.strip_prefix("become user "))
        .filter_map(|step| step.split(' ').next())
        .find(|uid| *uid != "0")
}

/// The limit of the user's processes that may have refused a fork, and how many the jail alone had then.
fn user_limit<'a>(case: &'a Case, refused: &Refused<'_>) -> Option<(Limit<'a>, usize)> {
    let time_ns = refused.event.time_ns.saturating_sub(refused.call.before_ns);
    let limit = case.limit(refused.id, "nproc", time_ns)?;
    let count = case
        .processes()
        .filter(|(id, process)| {
            // A zombie counts until it is collected.
            let reaped = process.reap.map(|index| case.event(index).time_ns);
            process.in_jail()
                && case.born_ns(*id) <= time_ns
                && reaped
                    .or(process.freed_ns)
                    .is_none_or(|gone| gone > time_ns)
        })
        .count();
    let reached = count as u64 >= limit.soft;
    (reached || user(case).is_some() || limit.set.is_some()).then_some((limit, count))
}

fn nproc(case: &Case) -> Vec<Finding> {
    let failed = refused(case, libc::EAGAIN);
    let Some((limit, count)) = failed.first().and_then(|first| user_limit(case, first)) else {
        return Vec::new();
    };
    if refusing_level(case).is_some() || logged(case).is_some() {
        return Vec::new();
    }
    // The counter did not move, or could not be read; a full jail could have refused as well.
    let unmoved = case.counter_growth(0, "pids.events:max") == Some(0);
    let full = pids_limit(case).is_some_and(|limit| peak(case, limit).is_some());
    if full && !unmoved {
        return Vec::new();
    }
    let whose = user(case).map_or_else(|| "Its user".to_owned(), |uid| format!("The user {uid}"));
    let set = limit.set.map_or_else(String::new, |event| {
        format!(", which {} had set", case.task_name(&event.task))
    });
    let mut finding = Finding::new(format!("{} with EAGAIN.", who_failed(case, &failed)))
        .proven()
        .cause(
            format!(
                "{whose} may have {} processes and threads (RLIMIT_NPROC){set}: those in other jails and containers \
                 count too.",
                render::count(limit.soft)
            ),
            Confidence::Proven,
        )
        .fact(format!("the jail alone had {} processes then", render::count(count as u64)))
        .remedy("Raise --rlimit nproc=, or give each jail a user ID of its own and limit it with --pids.");
    if unmoved || pids_limit(case).is_none() {
        finding = finding.not(
            JAIL,
            match unmoved {
                true => "its counter did not move",
                false => "it has none",
            },
        );
    }
    if count as u64 >= limit.soft && user(case).is_some() {
        finding = finding.not(
            MACHINE,
            "the jail alone had as many processes as its user may have",
        );
    }
    vec![of(case, finding, &failed)]
}

fn system(case: &Case) -> Vec<Finding> {
    let failed = refused(case, libc::EAGAIN);
    let Some(first) = failed.first() else {
        return Vec::new();
    };
    if refusing_level(case).is_some()
        || logged(case).is_some()
        || user_limit(case, first).is_some()
        || pids_limit(case).is_some_and(|limit| peak(case, limit).is_some())
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
