//! Forks that pids.max of a cgroup refused.

use std::collections::BTreeMap;

use super::{MACHINE, USER, forks, logged, of, pids_limit, refused, refusing_level, who_failed};
use crate::diagnose::{Case, Confidence, Finding, Follows, ProcessId};
use crate::event::{Event, What};
use crate::text;

/// Whose limit of processes it may be instead.
pub(super) const ABOVE: &str = "the limit of another cgroup above the jail";

pub(super) const INSIDE: &str = "the limit of a cgroup made inside the jail";

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
    .map_or_else(String::new, |(_, level)| text::escape(&level.path))
}

pub(super) fn pids_max(case: &Case) -> Vec<Finding> {
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
                text::count(limit)
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
                text::count(*count)
            ),
        );
    }
    if let Some((event, message)) = log {
        finding = finding.shown_by(event, text::escape(&message.text));
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

/// When so many processes existed for the first time, dead ones that were not collected included, and
/// which.
pub(super) fn peak(case: &Case, limit: u64) -> Option<(&Event, Vec<ProcessId>)> {
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
            format!("{count} of {}{zombies}", text::escape(program))
        })
        .collect();
    words.join(", ")
}
