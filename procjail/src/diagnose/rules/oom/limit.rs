//! Whose limit it was: the one verdict that explains why an OOM victim died.

use std::collections::BTreeMap;

use super::Look;
use super::above;
use super::chain::Chain;
use super::kill::{Kill, Limit, held, jail_level, percent};
use super::makeup::{ANON, Makeup, Purpose, makeup};
use super::shape;
use crate::diagnose::{Case, Confidence, Finding, Follows, Tagged};
use crate::event::What;
use crate::text;

/// What an OOM kill of the machine could be as well.
pub(super) const ROOM: &str = "a limit that was hit and had room again a moment later";

/// Most victims that a sentence names.
const NAMED: usize = 4;
/// From here on a kind of memory is what the limit was full of, percent.
const MOST: u64 = 50;
/// Up to here a victim held next to nothing, percent of the limit.
const LITTLE: u64 = 10;

/// The verdicts on whose limit it was; `remedy` is that of what the memory was, if that is known.
pub(super) fn analyse(look: &Look<'_>, remedy: Option<String>) -> Vec<Tagged> {
    let case = look.case;
    let own = by_limit(look, |kill| matches!(kill.limit, Limit::Own(_)))
        .into_iter()
        .filter_map(|group| {
            let finding = own_limit(case, &group, remedy.clone())?;
            let first = look.first.as_ref().map(|(kill, _)| kill.event.seq);
            let has_first = group.iter().any(|kill| Some(kill.event.seq) == first);
            Some(match has_first && shape::is_shmem(look) {
                true => finding.follows(Follows::Rule("oom-shmem-tmpfs")),
                false => finding,
            })
        })
        .map(|finding| ("oom-own-limit", finding));
    let above = by_limit(look, |kill| matches!(kill.limit, Limit::Above(_)))
        .into_iter()
        .filter_map(|group| above::ancestor_limit(case, &group))
        .map(|finding| ("oom-ancestor-limit", finding));
    own.chain(above)
        .chain(global(look).map(|finding| ("oom-global", finding)))
        .chain(nodes(look).map(|finding| ("oom-cpuset-mempolicy", finding)))
        .collect()
}

/// The kills that `is` takes, by the group whose limit was hit, in order.
fn by_limit<'a>(look: &Look<'a>, is: fn(&Kill<'_>) -> bool) -> Vec<Vec<Kill<'a>>> {
    let mut groups: BTreeMap<u64, Vec<Kill<'a>>> = BTreeMap::new();
    for kill in look.kills.iter().copied().filter(is) {
        let id = kill.level().map_or(0, |level| level.id);
        groups.entry(id).or_default().push(kill);
    }
    groups.into_values().collect()
}

/// `java (PID 3) was OOM-killed`, or the number of victims with the first names.
pub(super) fn who_died(case: &Case, group: &[Kill<'_>]) -> String {
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

/// The finding with all that shows the kills; at most so many of them, as they are alike. It explains the victims'
/// ends, and those of the processes that ended because of them.
pub(super) fn shown(
    case: &Case,
    group: &[Kill<'_>],
    chain: &Chain<'_>,
    mut finding: Finding,
) -> Finding {
    for kill in group.iter().take(NAMED) {
        finding = finding.shown_by(
            kill.event,
            format!(
                "the OOM killer chose {}, which held {}; {}",
                kill.name(case),
                what_it_held(kill),
                trigger(case, kill)
            ),
        );
        if let Some((log, told)) = kill.log {
            let told_of = match (&told.limit_cgroup, told.constraint.as_str()) {
                (Some(cgroup), _) => format!("the limit of {} was hit", text::escape(cgroup)),
                (None, "none") => "no limit was hit, the machine was full".to_owned(),
                (None, other) => format!("the constraint was {}", text::escape(other)),
            };
            finding = finding.shown_by(log, format!("the kernel log says: {told_of}"));
        }
    }
    for link in chain.links.iter().take(NAMED) {
        if let What::Reap(_) = link.learnt.what {
            finding = finding.shown_by(
                link.learnt,
                format!("{} collects a status that is not 0", case.name(link.id)),
            );
        }
        finding = finding.shown_by(link.exit, format!("the end of {}", case.name(link.id)));
        if let Some((event, tail)) = case.stderr(link.id) {
            finding = finding.shown_by(
                event,
                format!("it wrote last: {}", text::escape(last_line(&tail.text))),
            );
        }
    }
    finding
        .about(group.iter().filter_map(|kill| kill.victim))
        .about(chain.all())
}

/// The last line that is not empty.
fn last_line(text: &str) -> &str {
    text.lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or_default()
}

fn trigger(case: &Case, kill: &Kill<'_>) -> String {
    let who = case.task_name(&kill.event.task);
    let who = match kill.event.task.pid == kill.oom.victim.pid {
        true => "it",
        false => who.as_str(),
    };
    match (Purpose::of(kill.oom).doing(), &kill.oom.syscall) {
        (Some(doing), _) => format!("{who} {doing}"),
        (None, Some(call)) => format!("{who} had asked for more in {}", text::escape(&call.name)),
        (None, None) => format!("{who} had touched memory"),
    }
}

/// What a victim held, by kind: `39.5 MiB: 39.4 MiB anonymous memory, …`.
fn what_it_held(kill: &Kill<'_>) -> String {
    let memory = &kill.oom.memory;
    let parts: Vec<String> = [
        ("anonymous", memory.anon_bytes),
        ("shared", memory.shmem_bytes),
        ("page tables", memory.page_table_bytes),
        ("mapped files", memory.file_bytes),
        ("swapped out", memory.swap_bytes),
    ]
    .into_iter()
    .filter(|(_, bytes)| *bytes > 0)
    .map(|(kind, bytes)| format!("{} {kind}", text::bytes(bytes)))
    .collect();
    match parts.is_empty() {
        true => "nothing that was counted".to_owned(),
        false => parts.join(", "),
    }
}

/// What the memory was, for the verdict: by kind where it was not just the victim's, by process where others had
/// much of it, and what was under way.
fn what_it_was(case: &Case, group: &[Kill<'_>], makeup: Option<&Makeup<'_>>) -> Vec<String> {
    let Some(first) = group.first() else {
        return Vec::new();
    };
    let mut sentences = Vec::new();
    if let [only] = group {
        sentences.extend(share(only));
    }
    let Some(makeup) = makeup else {
        return sentences;
    };
    let (kind, bytes) = makeup.largest();
    let plain = kind == ANON && percent(first.oom.memory.anon_bytes, bytes) >= 90;
    if !plain && makeup.percent(bytes) >= MOST {
        sentences.push(format!(
            "Of the {} in use, {} ({}%) was {kind}.",
            text::bytes(makeup.usage_bytes),
            text::bytes(bytes),
            makeup.percent(bytes)
        ));
    }
    sentences.extend(makeup.who_had_it(case, first));
    let purpose = Purpose::of(first.oom);
    if let Some(doing) = purpose.doing().filter(|_| purpose.is_of(kind)) {
        sentences.push(format!(
            "When it was hit, {} {doing}.",
            case.task_name(&first.event.task)
        ));
    }
    sentences
}

/// What a victim had of the limit.
fn share(kill: &Kill<'_>) -> Option<String> {
    let limit = kill.limit_bytes()?;
    let memory = &kill.oom.memory;
    let (kind, bytes) = [
        (ANON, memory.anon_bytes),
        ("page tables", memory.page_table_bytes),
        ("shared memory", memory.shmem_bytes),
    ]
    .into_iter()
    .max_by_key(|(_, bytes)| *bytes)?;
    Some(match percent(bytes, limit) {
        part if part > LITTLE => format!(
            "It held {} of {kind}, {part}% of the limit.",
            text::bytes(bytes.min(limit))
        ),
        _ if percent(memory.file_bytes, limit) >= MOST => format!(
            "It held {} itself, and had {} of files mapped.",
            text::bytes(held(memory)),
            text::bytes(memory.file_bytes)
        ),
        _ => format!("It held only {} itself.", text::bytes(held(memory))),
    })
}

fn own_limit(case: &Case, group: &[Kill<'_>], remedy: Option<String>) -> Option<Finding> {
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
    let makeup = makeup(case, first);
    let chain = Chain::of(case, group);
    let mut sentences = vec![format!(
        "{} because {whose} hit its own {what} {}.",
        who_died(case, group),
        text::bytes(limit),
    )];
    sentences.extend(what_it_was(case, group, makeup.as_ref()));
    sentences.extend(chain.sentence(case));
    let mut finding = shown(case, group, &chain, Finding::new(sentences.join(" ")));
    if let Some(makeup) = makeup {
        finding = makeup.show(finding);
    }
    finding = finding.fact(format!(
        "{whose} used {} of {} at that moment",
        text::bytes(level.usage_bytes),
        text::bytes(limit)
    ));
    if let Some(count) = case.counter_growth(0, "memory.events:oom_kill") {
        finding = finding.fact(format!("its counter oom_kill rose by {count}"));
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
            .remedy(remedy.unwrap_or_else(|| {
                format!(
                    "Give it more than {} (--memory), or have it use less. How much it would need this trace \
                     does not show: it was killed at the limit.",
                    text::bytes(limit)
                )
            })),
    )
}

/// The kills that one reason explains, and what followed.
fn of_limit<'a>(look: &Look<'a>, limit: Limit) -> Vec<Kill<'a>> {
    let kills = look.kills.iter().copied();
    kills.filter(|kill| kill.limit == limit).collect()
}

fn global(look: &Look<'_>) -> Option<Finding> {
    let case = look.case;
    let group = of_limit(look, Limit::Machine);
    let first = group.first()?;
    let own = jail_level(case, &first.oom.chain).and_then(|own| first.oom.chain.get(own));
    let jail = own.map_or_else(
        || "the jail has no memory limit".to_owned(),
        |own| match own.limit_bytes {
            Some(limit) => format!(
                "the jail was below its limit ({} of {})",
                text::bytes(own.usage_bytes),
                text::bytes(limit)
            ),
            None => format!(
                "the jail has no memory limit and used {}",
                text::bytes(own.usage_bytes)
            ),
        },
    );
    let machine = match case.header.host.memory_bytes {
        0 => "the machine's memory".to_owned(),
        bytes => format!("the machine's {}", text::bytes(bytes)),
    };
    let sure = group.iter().all(|kill| kill.certain);
    let chain = Chain::of(case, &group);
    let who = who_died(case, &group);
    let mut sentences = vec![match sure {
        true => format!("{who} because {machine} was used up, not because of a limit: {jail}."),
        false => format!(
            "{who}, and no group from its own up to the root was seen at its limit: {jail}."
        ),
    }];
    sentences.push(format!(
        "The kernel takes the process with the highest score (memory, plus oom_score_adj, here {}).",
        first.oom.oom_score_adj
    ));
    sentences.extend(chain.sentence(case));
    let finding = shown(case, &group, &chain, Finding::new(sentences.join(" ")));
    // Every group that could have been hit counts it, were it one.
    let counted = case.counter_growth(0, "memory.events:oom");
    let finding = finding
        .proven()
        .not(
            "a memory limit",
            "no group from the victim's own up to the root was at its limit",
        )
        .remedy(
            "Give the machine's programs memory limits that fit together, or the machine more memory; a lower \
             oom_score_adj only makes another process die.",
        );
    Some(match sure {
        true => finding.not(ROOM, "the kernel log names no limit"),
        false => finding
            .cause(
                format!("{} was used up.", capital(&machine)),
                match counted {
                    Some(0) => Confidence::Likely,
                    _ => Confidence::ConsistentWith,
                },
            )
            .or(ROOM),
    })
}

fn nodes(look: &Look<'_>) -> Option<Finding> {
    let case = look.case;
    let group = of_limit(look, Limit::Nodes);
    let log = group.first()?.log?;
    let allowed = match log.1.mems_allowed.as_str() {
        "" => String::new(),
        nodes => format!(" ({})", text::escape(nodes)),
    };
    let what = match log.1.constraint.as_str() {
        "cpuset" => "its cpuset (cpuset.mems)",
        _ => "a memory policy (mbind(2), numactl)",
    };
    let chain = Chain::of(case, &group);
    let mut sentences = vec![format!(
        "{} because {what} allows only some NUMA nodes{allowed}, and those were full.",
        who_died(case, &group)
    )];
    sentences.extend(chain.sentence(case));
    Some(
        shown(case, &group, &chain, Finding::new(sentences.join(" ")))
            .proven()
            .not("a memory limit", "the kernel log names another constraint")
            .remedy(
                "Allow more nodes (cpuset.mems), bind less strictly (numactl --preferred), or move the jail.",
            ),
    )
}

/// With a capital letter, for the start of a sentence.
pub(super) fn capital(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}
