//! Whose limit it was: the one verdict that explains why an OOM victim died.

use std::collections::BTreeMap;

use super::kill::{
    Kill, Limit, Makeup, held, jail_level, kills, makeup, path, percent, what_it_held,
};
use crate::diagnose::{Case, Confidence, Finding};
use crate::render;

/// Most victims that a sentence names.
const NAMED: usize = 4;

pub(super) fn own(case: &Case) -> Vec<Finding> {
    by_limit(case, |kill| matches!(kill.limit, Limit::Own(_)))
        .iter()
        .filter_map(|group| own_limit(case, group))
        .collect()
}

pub(super) fn ancestor(case: &Case) -> Vec<Finding> {
    by_limit(case, |kill| matches!(kill.limit, Limit::Above(_)))
        .iter()
        .filter_map(|group| ancestor_limit(case, group))
        .collect()
}

/// The kills that `is` takes, by the group whose limit was hit, in order.
fn by_limit<'a>(case: &'a Case, is: fn(&Kill<'_>) -> bool) -> Vec<Vec<Kill<'a>>> {
    let mut groups: BTreeMap<u64, Vec<Kill<'a>>> = BTreeMap::new();
    for kill in kills(case).into_iter().filter(is) {
        let id = kill.level().map_or(0, |level| level.id);
        groups.entry(id).or_default().push(kill);
    }
    groups.into_values().collect()
}

/// `java (PID 3) was OOM-killed`, or the number of victims with the first names.
fn who_died(case: &Case, group: &[Kill<'_>]) -> String {
    let names: Vec<String> = group
        .iter()
        .take(NAMED)
        .map(|kill| kill.name(case))
        .collect();
    match group.len() {
        1 => format!("{} was OOM-killed", names.join("")),
        count => format!(
            "{count} processes were OOM-killed ({}{})",
            names.join(", "),
            if count > NAMED { ", …" } else { "" }
        ),
    }
}

/// The finding with all that shows the kills; at most so many of them, as they are alike.
fn shown(case: &Case, group: &[Kill<'_>], mut finding: Finding) -> Finding {
    for kill in group.iter().take(NAMED) {
        finding = finding.shown_by(
            kill.event,
            format!(
                "the OOM killer chose {}, which held {}; {}",
                kill.name(case),
                what_it_held(&kill.oom.memory),
                trigger(case, kill)
            ),
        );
        if let Some((log, told)) = kill.log {
            let told_of = match (&told.limit_cgroup, told.constraint.as_str()) {
                (Some(cgroup), _) => format!("the limit of {} was hit", render::escape(cgroup)),
                (None, "none") => "no limit was hit, the machine was full".to_owned(),
                (None, other) => format!("the constraint was {}", render::escape(other)),
            };
            finding = finding.shown_by(log, format!("the kernel log says: {told_of}"));
        }
    }
    finding.about(group.iter().filter_map(|kill| kill.victim))
}

fn trigger(case: &Case, kill: &Kill<'_>) -> String {
    let what = match &kill.oom.syscall {
        Some(call) => format!("in {}", render::escape(&call.name)),
        None => "by touching memory".to_owned(),
    };
    match kill.event.task.pid == kill.oom.victim.pid {
        true => format!("it asked for more itself ({what})"),
        false => format!(
            "{} had asked for more ({what})",
            case.task_name(&kill.event.task)
        ),
    }
}

/// What the memory was, in one more sentence.
fn most_of_it(case: &Case, kill: &Kill<'_>, makeup: &Makeup<'_>) -> String {
    let (kind, bytes) = makeup.largest();
    let hog = makeup
        .hog()
        .filter(|hog| hog.process.pid != kill.oom.victim.pid)
        .map_or_else(String::new, |hog| {
            format!(
                ", and the largest process was {} with {}",
                case.task_name(&hog.process),
                render::bytes(held(&hog.memory))
            )
        });
    format!(
        " Most of it was {kind}: {} ({}%){hog}.",
        render::bytes(bytes),
        makeup.percent(bytes)
    )
}

fn own_limit(case: &Case, group: &[Kill<'_>]) -> Option<Finding> {
    let first = group.first()?;
    let level = first.level()?;
    let limit = first.limit_bytes()?;
    let whose = first.group(case);
    let with_swap = level.limit_bytes.is_none_or(|memory| {
        level.usage_bytes.saturating_add(memory / 16) < memory && level.swap_limit_bytes.is_some()
    });
    let (limit, what) = match level.swap_limit_bytes {
        Some(both) if with_swap => (both, "limit of memory and swap together,"),
        _ => (limit, "memory limit of"),
    };
    let held = match group {
        [only] => share(only, limit),
        _ => String::new(),
    };
    let makeup = makeup(case, first);
    let most = makeup
        .as_ref()
        .map_or_else(String::new, |makeup| most_of_it(case, first, makeup));
    let peak = case.footer.as_ref().and_then(|end| end.peak_memory_bytes);
    let verdict = format!(
        "{} because {whose} hit its own {what} {}{held}.{most}",
        who_died(case, group),
        render::bytes(limit),
    );
    let mut finding = shown(case, group, Finding::new(verdict));
    if let Some(makeup) = makeup {
        finding = makeup.show(finding);
    }
    finding = finding.fact(format!(
        "{whose} used {} of {} at that moment",
        render::bytes(level.usage_bytes),
        render::bytes(limit)
    ));
    if let Some(count) = case.counter_growth(0, "memory.events:oom_kill") {
        finding = finding.fact(format!("its counter oom_kill rose by {count}"));
    }
    if let Some(peak) = peak {
        finding = finding.fact(format!("the jail's peak was {}", render::bytes(peak)));
    }
    let above = first.oom.chain.iter().skip_while(|one| one.id != level.id);
    if above.skip(1).all(|one| one.limit_bytes.is_none()) && !first.oom.chain_truncated {
        finding = finding.not("a limit above the jail", "no group above has one");
    } else if first.certain {
        finding = finding.not(
            "a limit above the jail",
            match first.log {
                Some(_) => "the kernel log names this one",
                None => "every group above had room",
            },
        );
    }
    finding = finding.not(
        "a machine without memory",
        "the limit was full, and that alone makes the kernel kill",
    );
    let proven = group.iter().all(|kill| kill.certain);
    Some(
        finding
            .confidence(match proven {
                true => Confidence::Proven,
                false => Confidence::Likely,
            })
            .remedy(format!(
                "Raise the limit above what the program needs at its peak (now {}), or make it use \
                 less; what the memory is made of says where to look.",
                render::bytes(limit)
            )),
    )
}

/// What a victim had of the limit, for a sentence. What it had mapped counts only where it is most: files
/// of programs and libraries, also those in tmpfs, are mostly charged to whoever read them first.
fn share(kill: &Kill<'_>, limit: u64) -> String {
    let memory = &kill.oom.memory;
    let own = memory.anon_bytes.saturating_add(memory.page_table_bytes);
    let mapped = |bytes: u64| match percent(bytes, limit) >= 50 && percent(own, limit) < 50 {
        true => bytes.min(limit),
        false => 0,
    };
    let (kind, bytes) = [
        ("heap and stack", memory.anon_bytes),
        ("page tables", memory.page_table_bytes),
        ("mapped files", mapped(memory.file_bytes)),
        ("shared memory", mapped(memory.shmem_bytes)),
    ]
    .into_iter()
    .max_by_key(|(_, bytes)| *bytes)
    .unwrap_or(("heap and stack", 0));
    match percent(bytes, limit) {
        part @ 10.. => format!(
            "; it held {} of {kind}, {}% of that",
            render::bytes(bytes),
            part.min(100)
        ),
        _ => format!("; it held only {} of that itself", render::bytes(own)),
    }
}

fn ancestor_limit(case: &Case, group: &[Kill<'_>]) -> Option<Finding> {
    let first = group.first()?;
    let level = first.level()?;
    let limit = first.limit_bytes()?;
    let whose = first.group(case);
    let own = jail_level(case, &first.oom.chain).and_then(|own| first.oom.chain.get(own));
    let used = own.map_or(first.victim_bytes(), |own| own.usage_bytes);
    let others = level.usage_bytes.saturating_sub(used);
    // Where nobody else is in the group, a look at siblings would find nothing.
    let mostly_own = percent(used, level.usage_bytes) >= 90;
    let share = match (own, mostly_own) {
        (Some(_), true) => format!(
            "nearly all of it ({}) is the jail's own: its limit is merely set one level up",
            render::bytes(used)
        ),
        (Some(own), false) => {
            let within = own.limit_bytes.map_or_else(
                || "has no limit of its own".to_owned(),
                |limit| format!("was within its own limit of {}", render::bytes(limit)),
            );
            format!(
                "the jail used {} and {within}; the other {} belong to others in that cgroup",
                render::bytes(used),
                render::bytes(others)
            )
        }
        (None, _) => "the jail has no memory limit, so it lives in that cgroup with others".into(),
    };
    let verdict = format!(
        "{} because {whose} above the jail hit its limit of {}: {share}.",
        who_died(case, group),
        render::bytes(limit),
    );
    let mut finding = shown(case, group, Finding::new(verdict)).fact(format!(
        "{whose} used {} of {}",
        render::bytes(level.usage_bytes),
        render::bytes(limit)
    ));
    if let Some(own) = own {
        finding = finding.not(
            "the jail's own limit",
            match own.limit_bytes {
                Some(limit) => format!(
                    "it had used {} of {}",
                    render::bytes(own.usage_bytes),
                    render::bytes(limit)
                ),
                None => "it has none".to_owned(),
            },
        );
    }
    let fix = match mostly_own {
        true => format!(
            "Raise the limit of {}, or make the program use less; the jail's own limit is not the one \
             that binds.",
            path(&first.oom.chain, level_index(first))
        ),
        false => format!(
            "Find out who else uses memory in {}, and raise its limit or move one of them; raising the \
             jail's own limit changes nothing.",
            path(&first.oom.chain, level_index(first))
        ),
    };
    Some(
        finding
            .confidence(match group.iter().all(|kill| kill.certain) {
                true => Confidence::Proven,
                false => Confidence::Likely,
            })
            .remedy(fix),
    )
}

fn level_index(kill: &Kill<'_>) -> usize {
    match kill.limit {
        Limit::Own(level) | Limit::Above(level) => level,
        _ => 0,
    }
}

pub(super) fn global(case: &Case) -> Vec<Finding> {
    let group: Vec<Kill<'_>> = kills(case)
        .into_iter()
        .filter(|kill| kill.limit == Limit::Machine)
        .collect();
    let Some(first) = group.first() else {
        return Vec::new();
    };
    let own = jail_level(case, &first.oom.chain).and_then(|own| first.oom.chain.get(own));
    let jail = own.map_or_else(
        || "the jail has no memory limit".to_owned(),
        |own| match own.limit_bytes {
            Some(limit) => format!(
                "the jail was below its limit ({} of {})",
                render::bytes(own.usage_bytes),
                render::bytes(limit)
            ),
            None => format!(
                "the jail has no memory limit and used {}",
                render::bytes(own.usage_bytes)
            ),
        },
    );
    let machine = match case.header.host.memory_bytes {
        0 => "the machine's memory was".to_owned(),
        bytes => format!("the machine's {} were", render::bytes(bytes)),
    };
    let verdict = format!(
        "{} because {machine} used up, not because of a limit: {jail}. The kernel takes the process \
         with the highest score (memory, plus oom_score_adj, here {}).",
        who_died(case, &group),
        first.oom.oom_score_adj,
    );
    let finding = shown(case, &group, Finding::new(verdict));
    // Every group that could have been hit counts it, were it one.
    let counted = case.counter_growth(0, "memory.events:oom");
    let confidence = match (group.iter().all(|kill| kill.certain), counted) {
        (true, _) => Confidence::Proven,
        (false, Some(0)) => Confidence::Likely,
        (false, _) => Confidence::ConsistentWith,
    };
    vec![
        finding
            .confidence(confidence)
            .not(
                "a memory limit",
                "no group from the victim's own up to the root was at its limit",
            )
            .remedy(
                "Give the machine's programs memory limits that fit together, or the machine more \
                 memory; a lower oom_score_adj only makes another process die.",
            ),
    ]
}

pub(super) fn nodes(case: &Case) -> Vec<Finding> {
    let group: Vec<Kill<'_>> = kills(case)
        .into_iter()
        .filter(|kill| kill.limit == Limit::Nodes)
        .collect();
    let Some(log) = group.first().and_then(|kill| kill.log) else {
        return Vec::new();
    };
    let allowed = match log.1.mems_allowed.as_str() {
        "" => String::new(),
        nodes => format!(" ({})", render::escape(nodes)),
    };
    let what = match log.1.constraint.as_str() {
        "cpuset" => "its cpuset (cpuset.mems)",
        _ => "a memory policy (mbind(2), numactl)",
    };
    let verdict = format!(
        "{} although memory was free: {what} allows only some NUMA nodes{allowed}, and those were full.",
        who_died(case, &group)
    );
    vec![
        shown(case, &group, Finding::new(verdict))
            .proven()
            .not("a memory limit", "the kernel log names another constraint")
            .remedy("Allow more nodes (cpuset.mems), bind less strictly (numactl --preferred), or move the jail."),
    ]
}
