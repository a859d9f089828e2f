//! Who died for it: one or many, once or again and again, and what the rest of the jail made of it.

use std::collections::HashMap;

use super::kill::{Kill, Limit, ended, kills, makeup, own, percent};
use super::shape::alike;
use crate::diagnose::{Case, Confidence, Finding, Origin, ProcessId};
use crate::event::{Event, What};
use crate::render;

/// Victims of one decision follow each other this closely, nanoseconds: another decision needs the
/// memory of the last victim first.
const AT_ONCE_NS: u64 = 200_000;
/// A parent that ends this soon after its child may end because of it, nanoseconds.
const REACTION_NS: u64 = 1_000_000_000;
/// So many processes of one program are many.
const MANY: usize = 8;
/// So many runs of one program that end alike are a loop.
const RUNS: usize = 3;
/// A program that dies this soon after its start has hardly begun, nanoseconds.
const BEGINNING_NS: u64 = 100_000_000;
/// Up to this limit it is the limit that is too small, not the program that takes too much, bytes.
const TINY_BYTES: u64 = 16 << 20;

pub(super) fn group(case: &Case) -> Vec<Finding> {
    let all = kills(case);
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
    let window = if known { 100 * AT_ONCE_NS } else { AT_ONCE_NS };
    let mut groups: Vec<Vec<Kill<'_>>> = Vec::new();
    for kill in all {
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
                finding = finding.shown_by(kill.event, "killed in the same breath");
            }
            if set {
                finding = finding.fact("the jail has memory.oom.group 1");
            }
            if counted {
                finding = finding.fact("the counter oom_group_kill rose");
            }
            if let Some((event, message)) = logged {
                finding = finding.shown_by(event, render::escape(&message.text));
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

pub(super) fn shared_memory(case: &Case) -> Vec<Finding> {
    let all = kills(case);
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
                    "{name} was killed because it shares its memory with the OOM victim {}, which would \
                     have freed nothing otherwise.",
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

pub(super) fn invisible(case: &Case) -> Vec<Finding> {
    let Some(pid1) = case.pid1() else {
        return Vec::new();
    };
    let all = kills(case);
    if all.is_empty() || all.iter().any(|kill| kill.victim == Some(pid1)) {
        return Vec::new();
    }
    let Some((kill, victim)) = all.iter().find_map(|kill| Some((kill, kill.victim?))) else {
        return Vec::new();
    };
    let end = case.exit(pid1);
    let lived_on = end.map(|(event, _)| event.time_ns.saturating_sub(kill.event.time_ns));
    let went_on = match (end, lived_on) {
        (Some((_, exit)), _) if exit.status.code == Some(0) => true,
        (_, Some(lived_on)) => lived_on > REACTION_NS,
        (None, None) => true,
        _ => false,
    };
    if !went_on {
        return Vec::new();
    }
    let pid1_name = case.name(pid1);
    let outcome = match (end, lived_on) {
        (Some((_, exit)), Some(lived_on)) => format!(
            "{pid1_name} went on for {} and {}",
            render::duration(lived_on),
            ended(&exit.status)
        ),
        _ => format!("{pid1_name} was still running when the trace ended"),
    };
    let reaction = match case.reap(victim) {
        Some((event, _)) => {
            let restarted = case.process_of(&event.task).is_some_and(|parent| {
                case.process(parent).children.iter().any(|child| {
                    case.born_ns(*child) > event.time_ns
                        && case.process(*child).task.comm == kill.oom.victim.comm
                })
            });
            match restarted {
                true => format!("{} saw it and started another", case.task_name(&event.task)),
                false => format!(
                    "{} saw it and started no other",
                    case.task_name(&event.task)
                ),
            }
        }
        None => "nobody collected its status".to_owned(),
    };
    let more = match all.len() {
        1 => String::new(),
        count => format!(" (the first of {count})"),
    };
    vec![
        kill.qualify(
            Finding::new(format!(
                "{}{more} was OOM-killed while PID 1 lived, so from outside the jail looked healthy: \
                 {outcome}; {reaction}.",
                kill.name(case)
            ))
            .shown_by(kill.event, format!("{} dies", kill.name(case)))
            .not("the end of the jail", "PID 1 was not the victim")
            .proven()
            .remedy(
                "Let PID 1 end, or alert, when a worker dies; or set memory.oom.group (--oom-group), so \
                 that all die together. Watch the growth of oom_kill in memory.events.",
            ),
        ),
    ]
}

pub(super) fn many(case: &Case) -> Vec<Finding> {
    let all = kills(case);
    let Some(kill) = all
        .iter()
        .find(|kill| matches!(kill.limit, Limit::Own(_) | Limit::Above(_)))
    else {
        return Vec::new();
    };
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
    let heap = makeup(case, kill).is_none_or(|makeup| makeup.percent(makeup.kinds.anon) >= 50);
    if count < MANY || share > 15 || percent(largest, usage) > 40 || together < usage / 2 || !heap {
        return Vec::new();
    }
    let program = render::escape(&kill.oom.victim.comm);
    let firstborn = case
        .processes()
        .filter(|(_, process)| process.task.comm == kill.oom.victim.comm)
        .map(|(id, _)| case.born_ns(id))
        .filter(|born| *born > 0)
        .min()
        .unwrap_or(kill.event.time_ns);
    let took = kill.event.time_ns.saturating_sub(firstborn);
    vec![
        kill.qualify(
            Finding::new(format!(
                "{count} processes of {program} filled the limit together, about {} each: no single one is \
                 at fault, there are too many.",
                render::bytes(usage / count as u64)
            ))
            .shown_by(
                kill.event,
                format!("the victim had {share}% of what was in use"),
            )
            .fact(format!(
                "{count} of them lived at that moment, made within {}",
                render::duration(took)
            ))
            .relies_on_all(&["fork", "exit"])
            .proven()
            .remedy("Start fewer workers, cap their number (--pids), or size the limit for all of them."),
        ),
    ]
}

pub(super) fn again(case: &Case) -> Vec<Finding> {
    let mut runs: HashMap<(ProcessId, &str), Vec<(Kill<'_>, u64)>> = HashMap::new();
    for kill in kills(case) {
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
    let mut found: Vec<Finding> = Vec::new();
    for ((creator, program), list) in &runs {
        let (Some((first, _)), Some((last, _))) = (list.first(), list.last()) else {
            continue;
        };
        if list.len() < RUNS {
            continue;
        }
        let times: Vec<u64> = list.iter().map(|(_, lived)| *lived).collect();
        let memory: Vec<u64> = list.iter().map(|(kill, _)| own(&kill.oom.memory)).collect();
        let alike = spread(&memory) <= 2.0;
        let parent = case.name(*creator);
        let mut finding = Finding::new(format!(
            "{} was OOM-killed and started again {} times within {}: each run died after about {} with about \
             {}, at the same limit. {parent} starts it again each time.",
            render::escape(program),
            list.len(),
            render::duration(last.event.time_ns.saturating_sub(first.event.time_ns)),
            render::duration(median(&times)),
            render::bytes(median(&memory)),
        ));
        for (kill, lived) in list.iter().take(4) {
            finding = finding.shown_by(
                kill.event,
                format!(
                    "{} dies after {} with {}",
                    kill.name(case),
                    render::duration(*lived),
                    render::bytes(own(&kill.oom.memory))
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
                    .remedy("Stop starting it again without end; raise the limit or make the program use less."),
            ),
        );
    }
    found
}

/// When the victim of a kill was collected; its death where reaps are not recorded.
fn collected_ns(case: &Case, kill: &Kill<'_>) -> Option<u64> {
    if !case.has_probe("sys_exit") {
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

pub(super) fn at_start(case: &Case) -> Vec<Finding> {
    let Some(pid1) = case.pid1() else {
        return Vec::new();
    };
    let all = kills(case);
    let Some(kill) = all
        .iter()
        .find(|kill| kill.victim == Some(pid1) && matches!(kill.limit, Limit::Own(_)))
    else {
        return Vec::new();
    };
    let limit = kill.limit_bytes().unwrap_or(u64::MAX);
    let start = case.execs(pid1).next();
    let after = start.map(|(event, _)| kill.event.time_ns.saturating_sub(event.time_ns));
    let (when, confidence) = match after {
        None => (
            "before it could execute anything".to_owned(),
            Confidence::Proven,
        ),
        // A program that leaps to a limit of some size in its first moments did start.
        Some(after) if after <= BEGINNING_NS && limit <= TINY_BYTES => (
            format!("{} after it had begun", render::duration(after)),
            Confidence::Likely,
        ),
        Some(_) => return Vec::new(),
    };
    vec![
        kill.qualify(
            Finding::new(format!(
                "The limit of {} is too small to start: {} was killed {when}.",
                render::bytes(limit),
                kill.name(case)
            ))
            .shown_by(kill.event, "PID 1 is the victim")
            .confidence(confidence)
            .relies_on_all(&["exec"])
            .remedy(
                "Give it more: a small static program takes about 1 MiB, most take 10 MiB and more, and \
                 the runtimes of Java or Node 50 MiB before they do anything.",
            ),
        ),
    ]
}

pub(super) fn earlier(case: &Case) -> Vec<Finding> {
    let Some(pid1) = case.pid1() else {
        return Vec::new();
    };
    let Some((end, exit)) = case.exit(pid1) else {
        return Vec::new();
    };
    let all = kills(case);
    let Some(last) = all.last().filter(|last| last.event.seq < end.seq) else {
        return Vec::new();
    };
    if all.iter().any(|kill| kill.victim == Some(pid1)) {
        return Vec::new();
    }
    let Some((event, reason)) = other_reason(case, pid1, last) else {
        return Vec::new();
    };
    vec![
        last.qualify(
            Finding::new(format!(
                "The OOM kill of {} at {} is not why the jail ended at {}: {reason}.",
                last.name(case),
                case.at(last.event),
                case.at(end)
            ))
            .shown_by(last.event, "the last OOM kill")
            .shown_by(event, "what led to the end")
            .shown_by(end, format!("PID 1 {}", ended(&exit.status)))
            .not(
                "an end because of the OOM kill",
                format!(
                    "PID 1 lived on for {} and was not the victim",
                    case.between(last.event, end)
                ),
            )
            .relies_on_all(&["oom-kill"])
            .proven()
            .remedy(
                "Treat the two apart. Flags such as OOMKilled that only tell that the counter oom_kill is \
                 not 0 mix them up.",
            ),
        ),
    ]
}

/// What ended PID 1 for a reason of its own, after the kill.
fn other_reason<'a>(
    case: &'a Case,
    pid1: ProcessId,
    kill: &Kill<'_>,
) -> Option<(&'a Event, String)> {
    if let Some((event, signal)) = case.killing_signal(pid1) {
        let origin = case.origin(event, signal);
        let from_outside = event.task.jail_pid.is_none() && !event.task.in_jail;
        let others = origin.is_deliberate() && from_outside;
        if event.seq < kill.event.seq || !others {
            return None;
        }
        return Some((
            event,
            format!("{} sent it {}", case.who(&event.task), signal.signal.name),
        ));
    }
    let (event, stop) = case.stop_request()?;
    let (end, _) = case.exit(pid1)?;
    (event.seq > kill.event.seq && event.seq < end.seq).then(|| {
        (
            event,
            format!("a stop was requested by {}", stop.signal.name),
        )
    })
}
