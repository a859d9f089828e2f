//! Who died for it: one or many, once or again and again.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::Look;
use super::kill::{Kill, Limit, own, percent};
use super::makeup::Makeup;
use super::shape::alike;
use crate::diagnose::{Case, Confidence, Finding, Origin, ProcessId, Tagged};
use crate::event::What;
use crate::text;

/// Victims of one decision follow each other this closely, nanoseconds: another decision needs the
/// memory of the last victim first.
const AT_ONCE_NS: u64 = 200_000;
/// So many processes of one program are many.
const MANY: usize = 8;
/// So many runs of one program that end alike are a loop.
const RUNS: usize = 3;
/// A program that dies this soon after its start has hardly begun, nanoseconds.
const BEGINNING_NS: u64 = 100_000_000;
/// Up to this limit it is the limit that is too small, not the program that takes too much, bytes.
const TINY_BYTES: u64 = 16 << 20;

pub(super) fn analyse(look: &Look<'_>) -> Vec<Tagged> {
    let tag = |id: &'static str| move |finding: Finding| (id, finding);
    group(look)
        .into_iter()
        .map(tag("oom-group-kill"))
        .chain(
            shared_memory(look)
                .into_iter()
                .map(tag("oom-shared-mm-collateral")),
        )
        .chain(many(look).map(tag("oom-fork-bomb")))
        .chain(again(look).into_iter().map(tag("oom-repeat-loop")))
        .chain(at_start(look).map(tag("oom-at-start")))
        .collect()
}

fn group(look: &Look<'_>) -> Vec<Finding> {
    let case = look.case;
    let set = case
        .header
        .jail
        .limits
        .get("memory.oom.group")
        .map(String::as_str)
        == Some("1");
    let counted = case.counter_growth(0, "memory.events:oom_group_kill") > Some(0);
    let logged = case
        .each(|what| match what {
            What::KernelMessage(message) if message.text.contains("memory.oom.group set") => {
                Some(message)
            }
            _ => None,
        })
        .next();
    let known = set || counted || logged.is_some();
    // v1 has no such setting.
    if !known && case.cgroup_v1() {
        return Vec::new();
    }
    let window = if known { 100 * AT_ONCE_NS } else { AT_ONCE_NS };
    let mut groups: Vec<Vec<Kill<'_>>> = Vec::new();
    for kill in look.kills.iter().copied() {
        let goes_on = groups
            .last()
            .and_then(|group| group.last())
            .is_some_and(|last| {
                last.event.task.tid == kill.event.task.tid
                    && kill.event.time_ns.saturating_sub(last.event.time_ns) <= window
            });
        match groups.last_mut() {
            Some(group) if goes_on => group.push(kill),
            _ => groups.push(vec![kill]),
        }
    }
    groups
        .iter()
        .filter(|group| group.len() > 1)
        .filter_map(|group| {
            let (chosen, rest) = group.split_first()?;
            let names: Vec<String> = rest.iter().take(4).map(|kill| kill.name(case)).collect();
            let mut finding = Finding::new(format!(
                "The OOM killer chose {}; because memory.oom.group is set, all {} processes of the group \
                 were killed with it ({}{}).",
                chosen.name(case),
                group.len(),
                names.join(", "),
                if rest.len() > 4 { ", …" } else { "" }
            ))
            .shown_by(chosen.event, "the first victim is the one that was chosen");
            for kill in rest.iter().take(4) {
                finding = finding.shown_by(kill.event, "killed with it");
            }
            if set {
                finding = finding.fact("the jail has memory.oom.group 1");
            }
            if counted {
                finding = finding.fact("the counter oom_group_kill rose");
            }
            if let Some((event, message)) = logged {
                finding = finding.shown_by(event, text::escape(&message.text));
            }
            Some(
                chosen.qualify(
                    finding
                        .confidence(match known {
                            true => Confidence::Proven,
                            false => Confidence::Likely,
                        })
                        .not(
                            "one OOM kill after another",
                            "they follow within microseconds, with no time to free anything",
                        )
                        .remedy(
                            "Unset memory.oom.group (--oom-group) if the processes can do without each \
                             other; otherwise give the group more memory.",
                        ),
                ),
            )
        })
        .collect()
}

fn shared_memory(look: &Look<'_>) -> Vec<Finding> {
    let (case, all) = (look.case, &look.kills);
    if all.is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (event, signal) in case.signals() {
        if signal.signal.number != libc::SIGKILL
            || case.origin(event, signal) != Origin::OomSharedMemory
        {
            continue;
        }
        let Some(kill) = all.iter().min_by_key(|kill| {
            kill.event.time_ns.abs_diff(event.time_ns)
                + u64::from(kill.event.task.tid != event.task.tid) * 1_000_000_000
        }) else {
            continue;
        };
        let who = case.process_of(&signal.target);
        let name = case.task_name(&signal.target);
        found.push(
            kill.qualify(
                Finding::new(format!(
                    "{name} was killed with the OOM victim {}, as it shares its memory: the kernel kills all \
                     that use the victim's address space.",
                    kill.name(case)
                ))
                .about(who)
                .shown_by(event, format!("the kernel sent SIGKILL to {name}"))
                .shown_by(kill.event, format!("and chose {} as victim", kill.name(case)))
                .not("an OOM victim of its own", "the kernel named another one")
                .proven()
                .remedy(
                    "Processes that share memory (clone(2) with CLONE_VM, vfork(2)) die together; give \
                     them memory of their own.",
                ),
            ),
        );
    }
    found
}

fn many(look: &Look<'_>) -> Option<Finding> {
    let case = look.case;
    let (kill, makeup) = look.first.as_ref()?;
    let usage = kill.usage_bytes();
    let count = alike(case, kill);
    let share = percent(own(&kill.oom.memory), usage);
    // The victim may be the one that made them. What each had at its end is known of those that ended.
    let ends: Vec<u64> = case
        .processes()
        .filter(|(id, process)| {
            process.in_jail()
                && process.task.comm == kill.oom.victim.comm
                && case.alive_at(*id, kill.event.time_ns)
        })
        .filter_map(|(id, _)| case.exit(id))
        .map(|(_, exit)| exit.max_rss_bytes)
        .collect();
    let together = ends.iter().fold(own(&kill.oom.memory), |sum, bytes| {
        sum.saturating_add(*bytes)
    });
    let largest = ends.iter().copied().max().unwrap_or(0);
    let anon = |makeup: &Makeup<'_>| makeup.percent(makeup.kinds.anon) >= 50;
    let heap = makeup.as_ref().is_none_or(anon);
    if count < MANY || share > 15 || percent(largest, usage) > 40 || together < usage / 2 || !heap {
        return None;
    }
    let program = text::escape(&kill.oom.victim.comm);
    let firstborn = case
        .processes()
        .filter(|(_, process)| process.task.comm == kill.oom.victim.comm)
        .map(|(id, _)| case.born_ns(id))
        .filter(|born| *born > 0)
        .min()
        .unwrap_or(kill.event.time_ns);
    let took = kill.event.time_ns.saturating_sub(firstborn);
    Some(
        kill.qualify(
            Finding::new(format!(
                "{count} processes of {program} were there when the limit was hit, and none had much of it: {} \
                 for each on average.",
                text::bytes(usage / count as u64)
            ))
            .shown_by(
                kill.event,
                format!("the victim had {share}% of what was in use"),
            )
            .fact(format!("made within {}", text::duration(took)))
            .relies_on_all(&["fork", "exit"])
            .proven()
            .cause(
                "There are too many of them for the limit.",
                Confidence::Likely,
            )
            .or("each takes more than it should")
            .remedy("Start fewer of them, cap their number (--pids), or size the limit for all of them."),
        ),
    )
}

fn again(look: &Look<'_>) -> Vec<Finding> {
    let case = look.case;
    let mut runs: HashMap<(ProcessId, &str), Vec<(Kill<'_>, u64)>> = HashMap::new();
    for kill in look.kills.iter().copied() {
        let Some(victim) = kill.victim else { continue };
        let Some(creator) = case.process(victim).creator else {
            continue;
        };
        let born = case.born_ns(victim);
        let list = runs
            .entry((creator, kill.oom.victim.comm.as_str()))
            .or_default();
        // Made after the one before had been collected: started again, not started with it.
        if list
            .last()
            .is_none_or(|(last, _)| collected_ns(case, last).is_some_and(|at_ns| born > at_ns))
        {
            list.push((kill, kill.event.time_ns.saturating_sub(born)));
        }
    }
    let mut loops: Vec<_> = runs
        .into_iter()
        .filter(|(_, list)| list.len() >= RUNS)
        .collect();
    loops.sort_by_key(|(_, list)| {
        (
            Reverse(list.len()),
            list.first().map(|(kill, _)| kill.event.seq),
        )
    });
    let mut found: Vec<Finding> = Vec::new();
    let mut told: Vec<&str> = Vec::new();
    for ((creator, program), list) in &loops {
        let (Some((first, _)), Some((last, _))) = (list.first(), list.last()) else {
            continue;
        };
        // One finding for a program that several processes start.
        if told.contains(program) {
            continue;
        }
        told.push(program);
        let others = loops
            .iter()
            .filter(|((_, other), _)| other == program)
            .count()
            - 1;
        let others = match others {
            0 => String::new(),
            1 => " Another process did the same with it.".to_owned(),
            count => format!(" {count} other processes did the same with it."),
        };
        let times: Vec<u64> = list.iter().map(|(_, lived)| *lived).collect();
        let memory: Vec<u64> = list.iter().map(|(kill, _)| own(&kill.oom.memory)).collect();
        let alike = spread(&memory) <= 2.0;
        let parent = case.name(*creator);
        let mut finding = Finding::new(format!(
            "{parent} started {} {} times within {}, each time after the one before had been OOM-killed: they \
             lived {} and held {} (the median).{others}",
            text::escape(program),
            list.len(),
            text::duration(last.event.time_ns.saturating_sub(first.event.time_ns)),
            text::duration(median(&times)),
            text::bytes(median(&memory)),
        ));
        for (kill, lived) in list.iter().take(4) {
            finding = finding.shown_by(
                kill.event,
                format!(
                    "{} dies after {} with {}",
                    kill.name(case),
                    text::duration(*lived),
                    text::bytes(own(&kill.oom.memory))
                ),
            );
        }
        found.push(
            first.qualify(
                finding
                    .not(
                        "memory that a kill does not free",
                        "each victim was made after the one before had died, and had the memory itself",
                    )
                    .confidence(match alike {
                        true => Confidence::Proven,
                        false => Confidence::Likely,
                    })
                    .remedy("Stop starting it again without end: have it use less, or give it more (--memory)."),
            ),
        );
    }
    found
}

/// When the victim of a kill was collected; its death where reaps are not recorded.
fn collected_ns(case: &Case, kill: &Kill<'_>) -> Option<u64> {
    if !case.header.tells_reaps() {
        return Some(kill.event.time_ns);
    }
    let (event, _) = case.reap(kill.victim?)?;
    Some(event.time_ns)
}

/// Largest to smallest; huge if one is nothing.
fn spread(values: &[u64]) -> f64 {
    match (values.iter().min(), values.iter().max()) {
        (Some(0), _) | (None, _) => f64::MAX,
        (Some(least), Some(most)) => *most as f64 / *least as f64,
        _ => f64::MAX,
    }
}

fn median(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}

fn at_start(look: &Look<'_>) -> Option<Finding> {
    let case = look.case;
    let pid1 = case.pid1()?;
    let kill = look
        .kills
        .iter()
        .find(|kill| kill.victim == Some(pid1) && matches!(kill.limit, Limit::Own(_)))?;
    let limit = kill.limit_bytes().unwrap_or(u64::MAX);
    let start = case.execs(pid1).next();
    let after = start.map(|(event, _)| kill.event.time_ns.saturating_sub(case.began_ns(event)));
    let (when, confidence) = match after {
        None => (
            "before it could execute anything".to_owned(),
            Confidence::Proven,
        ),
        // A program that leaps to a limit of some size in its first moments did start.
        Some(after) if after <= BEGINNING_NS && limit <= TINY_BYTES => (
            format!("{} after it had begun", text::duration(after)),
            Confidence::Likely,
        ),
        Some(_) => return None,
    };
    Some(
        kill.qualify(
            Finding::new(format!(
                "{} was killed {when}; the limit is {}.",
                kill.name(case),
                text::bytes(limit),
            ))
            .shown_by(kill.event, "PID 1 is the victim")
            .proven()
            .relies_on_all(&["exec"])
            .cause("The limit is too small for the program to start.", confidence)
            .remedy(
                "Give it more (--memory): a small static program takes about 1 MiB, most take 10 MiB and more, \
                 and the runtimes of Java or Node 50 MiB before they do anything.",
            ),
        ),
    )
}
