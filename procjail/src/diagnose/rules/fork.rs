//! No more processes: refused forks, and too many of them.

use std::collections::BTreeMap;

use crate::diagnose::{Case, Confidence, Family, Finding, Follows, ProcessId, Rank, Rule, Tagged};
use crate::event::{Event, FailedCall, KernelMessage, What};
use crate::render;

pub(super) const FAMILY: Family = Family {
    rules: &[
        Rule {
            id: "fork-eagain-pids-max",
            about: "a fork was refused because the limit of processes (pids.max) was reached",
            alternatives: &[],
        },
        Rule {
            id: "fork-eagain-nproc",
            about: "a fork was refused because the user has too many processes (RLIMIT_NPROC)",
            alternatives: &[],
        },
        Rule {
            id: "fork-eagain-system",
            about: "a fork was refused by a limit of the machine or of a PID namespace",
            alternatives: &[],
        },
        Rule {
            id: "fork-enomem",
            about: "a fork failed for want of memory, or because the PID namespace has ended",
            alternatives: &[],
        },
        Rule {
            id: "fork-bomb",
            about: "processes make processes without end",
            alternatives: &[],
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
    found.extend(no_memory(case).into_iter().map(|one| ("fork-enomem", one)));
    found.extend(bomb(case).into_iter().map(|one| ("fork-bomb", one)));
    found
}

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
        .filter_map(|(id, event, calls)| {
            let is = |call: &&FailedCall| {
                call.error.number == errno
                    && matches!(
                        call.syscall.name.as_str(),
                        "clone" | "clone3" | "fork" | "vfork"
                    )
                    && call.before_ns <= RECENT_NS
            };
            // An OOM victim's calls fail while it is dying.
            if case.process(id).oom_kill.is_some() {
                return None;
            }
            Some(Refused {
                event,
                id,
                call: calls.calls.iter().rev().find(is)?,
                count: calls.calls.iter().filter(is).count(),
            })
        })
        .collect()
}

/// A process ended badly soon after a fork of it was refused.
pub(super) fn refused_to(case: &Case, id: ProcessId) -> bool {
    [libc::EAGAIN, libc::ENOMEM]
        .into_iter()
        .any(|errno| refused(case, errno).iter().any(|refused| refused.id == id))
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

fn pids_max(case: &Case) -> Vec<Finding> {
    let level = refusing_level(case);
    let log = logged(case);
    let failed = refused(case, libc::EAGAIN);
    let limit = pids_limit(case);
    let peak = limit.and_then(|limit| peak(case, limit));
    let counted = level.is_some() || log.is_some();
    if !counted && (limit.is_none() || peak.is_none()) {
        return Vec::new();
    }
    // Without a counter: full is not refused, unless a fork is known to have failed.
    let confidence = match (counted, failed.is_empty()) {
        (true, _) => Confidence::Proven,
        (false, false) => Confidence::Likely,
        (false, true) => Confidence::ConsistentWith,
    };
    let (whose, limit) = match (&level, limit) {
        (Some((_, index, path, _)), _) if *index > 0 => (
            format!("the cgroup {path} above the jail"),
            case.counter(*index, "pids.max"),
        ),
        (_, limit) => ("the jail".to_owned(), limit),
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
    let certain = match counted || !failed.is_empty() {
        true => "Forks were refused (EAGAIN)",
        false => "Forks may have been refused (EAGAIN)",
    };
    let mut finding = Finding::new(format!(
        "{certain} because {whose} had reached {limit_words}.{who}"
    ));
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
    for failed in failed.iter().take(3) {
        finding = finding.shown_by(
            failed.event,
            format!(
                "{}: {} failed with EAGAIN",
                case.name(failed.id),
                render::escape(&failed.call.syscall.name)
            ),
        );
    }
    if counted {
        finding = finding.not(
            "a limit of the user or the machine",
            "the counter of the cgroup rose",
        );
    }
    vec![
        finding
            .about(failed.iter().map(|failed| failed.id))
            .follows(Follows::Rule("fork-bomb"))
            .confidence(confidence)
            .remedy(
                "Find out why there are so many (zombies count too, until they are collected, and so do \
                 threads), or raise --pids.",
            ),
    ]
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

fn nproc(case: &Case) -> Vec<Finding> {
    let Some(limit) = case.header.jail.rlimits.get("nproc").copied().flatten() else {
        return Vec::new();
    };
    let failed = refused(case, libc::EAGAIN);
    let Some(first) = failed.first() else {
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
    vec![
        Finding::new(format!(
            "A fork of {} was refused (EAGAIN) by the limit of processes of its user, {} (RLIMIT_NPROC): \
             that counts all processes of that user ID on the machine, in other jails and containers too.",
            case.name(first.id),
            render::count(limit)
        ))
        .about(failed.iter().map(|failed| failed.id))
        .shown_by(
            first.event,
            format!(
                "{} failed with EAGAIN{}",
                render::escape(&first.call.syscall.name),
                if first.count > 1 { ", more than once" } else { "" }
            ),
        )
        .not(
            "the jail's own limit (pids.max)",
            match unmoved {
                true => "its counter did not move",
                false => "it was not reached",
            },
        )
        .confidence(match unmoved || pids_limit(case).is_none() {
            true => Confidence::Proven,
            false => Confidence::Likely,
        })
        .remedy("Raise --rlimit nproc=, or give each jail a user ID of its own and limit it with --pids."),
    ]
}

fn system(case: &Case) -> Vec<Finding> {
    let failed = refused(case, libc::EAGAIN);
    let Some(first) = failed.first() else {
        return Vec::new();
    };
    if refusing_level(case).is_some()
        || logged(case).is_some()
        || case
            .header
            .jail
            .rlimits
            .get("nproc")
            .is_some_and(Option::is_some)
        || pids_limit(case).is_some_and(|limit| peak(case, limit).is_some())
    {
        return Vec::new();
    }
    vec![
        Finding::new(format!(
            "A fork of {} was refused (EAGAIN), and neither the jail's limit of processes nor its user's was \
             reached: kernel.threads-max, kernel.pid_max or a limit above the jail would explain it.",
            case.name(first.id)
        ))
        .about(failed.iter().map(|failed| failed.id))
        .shown_by(
            first.event,
            format!("{} failed with EAGAIN", render::escape(&first.call.syscall.name)),
        )
        .consistent()
        .remedy("Compare the machine's number of threads with kernel.threads-max and kernel.pid_max, and look at pids.events of the groups above."),
    ]
}

fn no_memory(case: &Case) -> Vec<Finding> {
    let failed = refused(case, libc::ENOMEM);
    let Some(first) = failed.first() else {
        return Vec::new();
    };
    let time_ns = first.event.time_ns.saturating_sub(first.call.before_ns);
    let ended = case
        .pid1()
        .and_then(|pid1| case.exit(pid1))
        .filter(|(end, _)| end.time_ns <= time_ns && first.event.task.jail_pid != Some(1));
    let shown = format!(
        "{} failed with ENOMEM",
        render::escape(&first.call.syscall.name)
    );
    let finding = match ended {
        Some((end, _)) => Finding::new(format!(
            "{} could not make a process (ENOMEM) because PID 1 of the jail had ended: nothing new begins in \
             a PID namespace without it.",
            case.name(first.id)
        ))
        .shown_by(first.event, shown)
        .shown_by(end, "PID 1 had ended")
        .confidence(Confidence::Likely)
        .remedy("Do not enter a jail that is ending; keep its PID 1 alive as long as others need it."),
        None => Finding::new(format!(
            "{} could not make a process (ENOMEM): memory for it was refused, by the rules of \
             vm.overcommit_memory or by a memory limit.",
            case.name(first.id)
        ))
        .shown_by(first.event, shown)
        .consistent()
        .remedy("Give the jail more memory, or fork from a smaller process; see vm.overcommit_memory."),
    };
    vec![finding.about(failed.iter().map(|failed| failed.id))]
}

/// So many processes made within [`BURST_NS`] are a burst.
const BURST: usize = 24;
const BURST_NS: u64 = 1_000_000_000;
/// So many generations, each made by the one before, are no pool of workers.
const GENERATIONS: usize = 4;

fn bomb(case: &Case) -> Vec<Finding> {
    let mut births: Vec<(u64, ProcessId)> = case
        .processes()
        .filter(|(_, process)| process.in_jail() && process.forked.is_some())
        .map(|(id, _)| (case.born_ns(id), id))
        .collect();
    births.sort();
    let mut depths: BTreeMap<ProcessId, usize> = BTreeMap::new();
    let mut makers: BTreeMap<ProcessId, usize> = BTreeMap::new();
    for (_, id) in &births {
        let process = case.process(*id);
        // One that executed another program is not the bomb's: a shell that starts commands is none.
        let same = process
            .creator
            .is_some_and(|creator| case.process(creator).task.comm == process.task.comm);
        let depth = process
            .creator
            .filter(|_| same)
            .map_or(0, |creator| depths.get(&creator).copied().unwrap_or(0) + 1);
        depths.insert(*id, depth);
        if let Some(creator) = process.creator.filter(|_| same) {
            *makers.entry(creator).or_default() += 1;
        }
    }
    // The busiest second.
    let mut from = 0;
    let mut burst: Option<(usize, usize)> = None;
    for to in 0..births.len() {
        while births
            .get(from)
            .zip(births.get(to))
            .is_some_and(|((early, _), (late, _))| early + BURST_NS < *late)
        {
            from += 1;
        }
        if burst.is_none_or(|(first, last)| last - first < to - from) {
            burst = Some((from, to));
        }
    }
    let Some(those) = burst.and_then(|(first, last)| births.get(first..=last)) else {
        return Vec::new();
    };
    let deepest = those
        .iter()
        .max_by_key(|(_, id)| depths.get(id).copied().unwrap_or(0));
    let Some((_, deepest)) = deepest else {
        return Vec::new();
    };
    let depth = depths.get(deepest).copied().unwrap_or(0);
    let branching = those
        .iter()
        .filter(|(_, id)| makers.contains_key(id))
        .count();
    // Subshells are many generations too, but each ends before the next begins.
    let until = those.last().map_or(0, |(born, _)| *born);
    let living = those
        .iter()
        .filter(|(_, id)| case.alive_at(*id, until))
        .count();
    if those.len() < BURST
        || depth < GENERATIONS
        || branching < those.len() / 8
        || living < those.len() / 2
    {
        return Vec::new();
    }
    let (Some((start, first)), Some((end, last))) = (those.first(), those.last()) else {
        return Vec::new();
    };
    let took = end.saturating_sub(*start);
    // From one process to all of them, in doublings.
    let doublings = (those.len() as f64).log2().max(1.0);
    let doubled = (took as f64 / doublings) as u64;
    let program = render::escape(&case.process(*deepest).task.comm);
    let mut finding = Finding::new(format!(
        "A fork bomb: {program} made {} processes within {}, over {depth} generations; their number doubled \
         about every {}.",
        those.len(),
        render::duration(took),
        render::duration(doubled)
    ));
    for (id, shows) in [(first, "one of the first"), (last, "the last")] {
        if let Some(forked) = case.process(*id).forked {
            finding = finding.shown_by(case.event(forked), shows);
        }
    }
    vec![
        finding
            .fact(format!(
                "{branching} of them made processes in turn, and {living} were alive at the end of it: no pool of \
                 workers, and no shell that starts commands"
            ))
            .proven()
            .remedy(
                "Limit the jail's processes (--pids), and end what makes them without a bound.",
            ),
    ]
}
