//! The limit of a group above the jail: how much of it was the jail's, and whose the rest was.

use super::chain::Chain;
use super::kill::{Kill, Limit, held, jail_level, path, percent};
use super::limit::{shown, who_died};
use crate::diagnose::{Case, Confidence, Finding};
use crate::event::{MemoryCgroup, ProcessSample};
use crate::text;

/// Whose the memory was that is in the group and not in the jail.
enum Others<'a> {
    /// Next to none.
    None,
    /// Processes outside the jail hold a good part of it; this one most.
    Processes(&'a ProcessSample),
    /// The kernel log lists the group's processes, and those outside the jail hold so little of it, bytes.
    Nobody(u64),
    /// The trace has no list of the group's processes.
    Unknown,
}

fn others<'a>(kill: &Kill<'a>, used: u64, level: &MemoryCgroup) -> Others<'a> {
    let rest = level.usage_bytes.saturating_sub(used);
    if percent(used, level.usage_bytes) >= 90 {
        return Others::None;
    }
    let Some((_, log)) = kill.log.filter(|(_, log)| !log.processes.is_empty()) else {
        return Others::Unknown;
    };
    let outside = || log.processes.iter().filter(|one| !one.process.in_jail);
    let hold = outside()
        .map(|one| held(&one.memory))
        .fold(0, u64::saturating_add);
    match outside().max_by_key(|one| held(&one.memory)) {
        Some(most) if hold >= rest / 4 => Others::Processes(most),
        _ => Others::Nobody(hold),
    }
}

/// What the jail used of the group's memory, bytes.
fn used(kill: &Kill<'_>, own: Option<&MemoryCgroup>) -> u64 {
    match (own, kill.log) {
        (Some(own), _) => own.usage_bytes,
        (None, Some((_, log))) if !log.processes.is_empty() => log
            .processes
            .iter()
            .filter(|one| one.process.in_jail)
            .map(|one| held(&one.memory))
            .fold(0, u64::saturating_add),
        (None, _) => kill.victim_bytes(),
    }
}

pub(super) fn ancestor_limit(case: &Case, group: &[Kill<'_>]) -> Option<Finding> {
    let first = group.first()?;
    let level = first.level()?;
    let limit = first.limit_bytes()?;
    let whose = first.group(case);
    let own = jail_level(case, &first.oom.chain).and_then(|own| first.oom.chain.get(own));
    let used = used(first, own);
    let rest = text::bytes(level.usage_bytes.saturating_sub(used));
    let others = others(first, used, level);
    let path = match first.limit {
        Limit::Above(index) => path(&first.oom.chain, index),
        _ => String::new(),
    };
    let jail = match own {
        None => "The jail has no memory limit of its own and is in that cgroup directly".to_owned(),
        Some(own) => {
            let within = own.limit_bytes.map_or_else(
                || "has no limit of its own".to_owned(),
                |limit| format!("was within its own limit of {}", text::bytes(limit)),
            );
            format!("The jail used {} of it and {within}", text::bytes(used))
        }
    };
    let shmem = first
        .log
        .and_then(|(_, log)| Some(log.kinds.as_ref()?.shmem));
    let share = match (&others, shmem) {
        (Others::None, _) => format!("{jail}."),
        (Others::Processes(most), _) => format!(
            "{jail}; the other {rest} is in use outside the jail, most by {} with {}.",
            case.task_name(&most.process),
            text::bytes(held(&most.memory))
        ),
        (Others::Nobody(hold), shmem) => {
            let hold = match hold {
                0 => "no process outside the jail holds any of it".to_owned(),
                _ => format!(
                    "processes outside the jail hold only {} of it",
                    text::bytes(*hold)
                ),
            };
            let files = match shmem {
                Some(bytes) if bytes >= level.usage_bytes / 4 => format!(
                    ". Of all in that cgroup, {} is tmpfs files and shared memory, which stay when those who \
                     made them end",
                    text::bytes(bytes)
                ),
                _ => String::new(),
            };
            format!("{jail}; the other {rest} is in use outside it, and {hold}{files}.")
        }
        (Others::Unknown, _) => format!("{jail}; the other {rest} is in use outside the jail."),
    };
    let remedy = match others {
        Others::None => format!(
            "Raise the limit of {path}, or have the program use less; raising the jail's own limit changes \
             nothing."
        ),
        Others::Nobody(_) => format!(
            "Find what earlier jails left in {path}: files in tmpfs that are shared with the host (/dev/shm, \
             /tmp) stay charged to it until they are deleted. A --tmpfs of the jail's own goes with it."
        ),
        Others::Processes(_) | Others::Unknown => format!(
            "Find out who else uses memory in {path}, and raise its limit or move one of them; raising the \
             jail's own limit changes nothing."
        ),
    };
    let chain = Chain::of(case, group);
    let mut sentences = vec![
        format!(
            "{} because {whose} above the jail hit its limit of {}.",
            who_died(case, group),
            text::bytes(limit),
        ),
        share,
    ];
    sentences.extend(chain.sentence(case));
    let mut finding = shown(case, group, &chain, Finding::new(sentences.join(" "))).fact(format!(
        "{whose} used {} of {}",
        text::bytes(level.usage_bytes),
        text::bytes(limit)
    ));
    finding = finding
        .not(
            "a machine without memory",
            "the limit was full, and that alone makes the kernel kill",
        )
        .not(
            "the jail's own limit",
            match own.and_then(|own| Some((own, own.limit_bytes?))) {
                Some((own, limit)) => format!(
                    "it had used {} of {}",
                    text::bytes(own.usage_bytes),
                    text::bytes(limit)
                ),
                None => "it has none".to_owned(),
            },
        );
    Some(
        finding
            .confidence(match group.iter().all(|kill| kill.certain) {
                true => Confidence::Proven,
                false => Confidence::Likely,
            })
            .remedy(remedy),
    )
}
