//! Zombies: processes that ended and that nobody collected.

mod leader;
mod outside;
#[cfg(test)]
mod tests;
mod traced;

use std::collections::BTreeMap;

use crate::diagnose::rules::stop::attempt::Attempt;
use crate::diagnose::{Case, Confidence, Family, Finding, ProcessId, Rank, Rule, Tagged};
use crate::event::{Disposition, SignalResult};
use crate::text;

/// What may keep a process from collecting its children.
const NOW_AND_THEN: &str = "it collects children from time to time only";
const STUCK: &str = "it was stopped or blocked for all that time";

pub(super) const FAMILY: Family = Family {
    rules: &[
        Rule {
            id: "zombie-pid1-not-reaping",
            about: "PID 1 does not collect the children it has or inherits",
            alternatives: &[NOW_AND_THEN, STUCK],
        },
        Rule {
            id: "zombie-parent-not-reaping",
            about: "a process does not collect its children",
            alternatives: &[NOW_AND_THEN, STUCK],
        },
        Rule {
            id: "zombie-leader-live-threads",
            about: "a process's main thread ended, its other threads go on",
            alternatives: &["a zombie that its parent neglects"],
        },
        Rule {
            id: "zombie-traced",
            about: "a debugger has not collected the process that it traces",
            alternatives: &["a parent that does not wait"],
        },
        Rule {
            id: "zombie-outside-parent",
            about: "a process that entered the jail from outside is not collected by its parent there",
            alternatives: &["PID 1's neglect"],
        },
        Rule {
            id: "zombie-jail-init-unreaped",
            about: "PID 1 is dead, and its parent has not collected it",
            alternatives: &[
                "processes that are left in the jail",
                "memory that took long to free",
            ],
        },
    ],
    rank: Rank::Problem,
    analyse,
};

/// What there is of this family in a case.
fn analyse(case: &Case) -> Vec<Tagged> {
    let (below_pid1, below_others): (Vec<Zombie>, Vec<Zombie>) = lasting(case)
        .into_iter()
        .partition(|zombie| Some(zombie.parent) == case.pid1());
    let tag = |id: &'static str, found: Vec<Finding>| found.into_iter().map(move |one| (id, one));
    tag("zombie-pid1-not-reaping", below(case, below_pid1))
        .chain(tag(
            "zombie-parent-not-reaping",
            below_parents(case, below_others),
        ))
        .chain(tag("zombie-leader-live-threads", leader::dead(case)))
        .chain(tag("zombie-traced", traced::held(case)))
        .chain(tag("zombie-outside-parent", outside::outside_parent(case)))
        .chain(tag(
            "zombie-jail-init-unreaped",
            outside::pid1_unreaped(case),
        ))
        .collect()
}

/// Younger ones are on their way, nanoseconds.
const LASTING_NS: u64 = 1_000_000_000;

/// A dead process that nobody collected for a while.
#[derive(Clone, Copy)]
struct Zombie {
    id: ProcessId,
    /// Whose it was in the end.
    parent: ProcessId,
    since_ns: u64,
    until_ns: u64,
}

impl Zombie {
    fn age_ns(&self) -> u64 {
        self.until_ns.saturating_sub(self.since_ns)
    }
}

/// The process that the kernel told of an end. Where that is not the parent at the exit, the parent ended in
/// between, as when a signal kills both; or the process was traced.
fn told(case: &Case, id: ProcessId) -> Option<ProcessId> {
    let notice = case.process(id).notice.as_ref()?;
    let parent = case.last_parent(id)?;
    if case.process(parent).task.pid == notice.parent_pid {
        return Some(parent);
    }
    let orphaned = case.ended_ns(parent) <= notice.time_ns;
    orphaned
        .then(|| case.process_by_pid(notice.parent_pid))
        .flatten()
}

/// Zombies that lasted, each with the parent that did not collect it.
fn lasting(case: &Case) -> Vec<Zombie> {
    let jail_end = case
        .pid1()
        .map_or(case.end_ns(), |pid1| case.ended_ns(pid1));
    let mut found = Vec::new();
    for id in case.deaths() {
        let process = case.process(id);
        if process.is_pid1() || traced::tracer(case, id).is_some() {
            continue;
        }
        // Without a SIGCHLD its parent ignores that: the kernel discards it at once, however late the news.
        let Some(mut parent) = told(case, id) else {
            continue;
        };
        // The end may take long, as that of much memory; a zombie it is when the parent is told.
        let told_ns = process.notice.as_ref().map_or(0, |notice| notice.time_ns);
        let died = case.ended_ns(id).max(told_ns);
        let mut since_ns = died;
        let mut until_ns = case.ended_ns(parent).min(jail_end);
        // A zombie whose parent ends goes on to PID 1.
        if case.ended_ns(parent) < jail_end
            && until_ns.saturating_sub(died) < LASTING_NS
            && let Some(pid1) = case.pid1()
        {
            since_ns = case.ended_ns(parent).max(died);
            parent = pid1;
            until_ns = jail_end;
        }
        let collected = case.reap(id).filter(|(event, _)| {
            event.time_ns <= until_ns || case.process_of(&event.task) == Some(parent)
        });
        let released = process.freed_ns.is_some_and(|freed| freed < until_ns);
        let zombie = Zombie {
            id,
            parent,
            since_ns,
            until_ns,
        };
        let stopping = Some(parent) == case.pid1() && in_a_stop(case, since_ns);
        if collected.is_none() && !released && !stopping && zombie.age_ns() >= LASTING_NS {
            found.push(zombie);
        }
    }
    found.extend(found_dead(case, jail_end));
    found.sort_by_key(|zombie| zombie.since_ns);
    found
}

/// Those that were zombies when procjail attached, and still are.
fn found_dead(case: &Case, jail_end: u64) -> impl Iterator<Item = Zombie> {
    case.processes().filter_map(move |(id, process)| {
        let found = case.event(process.found_dead?);
        let parent = process.creator?;
        let zombie = Zombie {
            id,
            parent,
            since_ns: found.time_ns,
            until_ns: case.ended_ns(parent).min(jail_end),
        };
        let gone = process.freed_ns.is_some() || process.reap.is_some();
        (!gone && zombie.age_ns() >= LASTING_NS).then_some(zombie)
    })
}

/// PID 1 had been asked to stop by then, and did within the grace period: it collects what it stops at its end.
fn in_a_stop(case: &Case, time_ns: u64) -> bool {
    Attempt::of(case)
        .is_some_and(|attempt| attempt.forced.is_none() && attempt.asked.time_ns <= time_ns)
}

/// How many of which: `26 curl, 3 sh`.
fn census(case: &Case, zombies: &[Zombie]) -> String {
    let mut names: BTreeMap<&str, u64> = BTreeMap::new();
    for zombie in zombies {
        *names
            .entry(case.process(zombie.id).task.comm.as_str())
            .or_default() += 1;
    }
    let mut names: Vec<(&str, u64)> = names.into_iter().collect();
    names.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let told: Vec<String> = names
        .iter()
        .take(4)
        .map(|(name, count)| format!("{} {}", text::count(*count), text::escape(name)))
        .collect();
    let more = match names.len().saturating_sub(4) {
        0 => String::new(),
        count => format!(" and {count} other programs"),
    };
    told.join(", ") + &more
}

/// How long it took until there were so many, where that was long: ` within 54.0 s`.
fn spread(zombies: &[Zombie]) -> String {
    let (Some(first), Some(last)) = (zombies.first(), zombies.last()) else {
        return String::new();
    };
    match last.since_ns.saturating_sub(first.since_ns) {
        0..LASTING_NS => String::new(),
        span_ns => format!(" within {}", text::duration(span_ns)),
    }
}

/// What the parent does with the news of a child's end.
fn attitude(case: &Case, zombie: &Zombie) -> Option<(u64, &'static str)> {
    let notice = case.process(zombie.id).notice.as_ref()?;
    let words = match (notice.result, notice.disposition) {
        (SignalResult::Ignored, _) | (_, Disposition::Default) => {
            "its SIGCHLD was dropped: the parent has no handler for it, and was not waiting"
        }
        (SignalResult::AlreadyPending, _) => "its SIGCHLD came while another one was pending",
        (_, Disposition::Handler) => "its SIGCHLD reached a handler, and no wait followed",
        _ => return None,
    };
    Some((notice.seq, words))
}

fn shown(case: &Case, mut finding: Finding, zombies: &[Zombie]) -> Finding {
    for zombie in zombies.iter().take(3) {
        if let Some((exit, ended)) = case.exit(zombie.id) {
            finding = finding.shown_by(
                exit,
                format!(
                    "{} {}; not collected for {}",
                    case.name(zombie.id),
                    case.did_end(&ended.status),
                    text::duration(zombie.age_ns())
                ),
            );
        } else if let Some(index) = case.process(zombie.id).found_dead {
            let name = case.name(zombie.id);
            let age = text::duration(zombie.age_ns());
            finding = finding.shown_by(
                case.event(index),
                format!("{name} was dead when procjail attached; not collected for {age} since"),
            );
        }
    }
    if let Some((_, words)) = zombies.first().and_then(|first| attitude(case, first)) {
        finding = finding.fact(words);
    }
    finding
        .proven()
        .about(zombies.iter().map(|zombie| zombie.id))
        .relies_on_all(&["reap", "exit"])
        .not(
            "zombies on their way to being collected",
            "they are older than a second",
        )
        .not(
            "main threads of processes that go on",
            "the last thread of each has ended",
        )
}

/// Something that the process did while it had the zombies: it was neither stopped nor blocked all the time.
fn awake(case: &Case, parent: ProcessId, zombies: &[Zombie]) -> Option<String> {
    let since_ns = zombies.first()?.since_ns;
    let process = case.process(parent);
    let later = |ns: u64| ns > since_ns + LASTING_NS / 10;
    let collected = process.collected.iter().find(|child| {
        case.reap(**child)
            .is_some_and(|(event, _)| later(event.time_ns))
    });
    if let Some(child) = collected {
        return Some(format!("it collected {} meanwhile", case.name(*child)));
    }
    let made = process
        .children
        .iter()
        .find(|child| later(case.born_ns(**child)));
    made.map(|child| format!("it started {} meanwhile", case.name(*child)))
}

/// The children that the program which a process executed last has collected: an earlier one says nothing of it.
fn collected(case: &Case, parent: ProcessId) -> Vec<ProcessId> {
    let executed = case.execs(parent).next_back();
    let since = executed.map_or(0, |(event, _)| event.seq);
    case.collected_by(parent)
        .filter(|(_, reap)| reap.seq > since)
        .map(|(child, _)| child)
        .collect()
}

/// Why a parent leaves these, where what it did with others says so.
fn reason(case: &Case, parent: ProcessId, zombies: &[Zombie], finding: Finding) -> Finding {
    let merged = zombies.iter().any(|zombie| {
        let notice = case.process(zombie.id).notice.as_ref();
        notice.is_some_and(|notice| {
            notice.result == SignalResult::AlreadyPending
                && notice.disposition == Disposition::Handler
        })
    });
    if !merged || collected(case, parent).is_empty() {
        return finding.fact_alone();
    }
    let finding = finding
        .cause(
            "It waits for one child per SIGCHLD, but pending SIGCHLDs merge: of children that end together it \
             collects one.",
            Confidence::Likely,
        )
        .or(NOW_AND_THEN);
    match awake(case, parent, zombies) {
        Some(what) => finding.not(STUCK, what),
        None => finding.or(STUCK),
    }
}

/// The trace tells who made them. Of what ran before it only the parent of that moment is known.
fn made_in_trace(case: &Case, zombies: &[Zombie]) -> bool {
    let mut processes = zombies.iter().map(|zombie| case.process(zombie.id));
    processes.all(|process| process.forked.is_some()) || case.is_launched()
}

/// PID 1's.
fn below(case: &Case, zombies: Vec<Zombie>) -> Vec<Finding> {
    let Some(pid1) = case.pid1().filter(|_| !zombies.is_empty()) else {
        return Vec::new();
    };
    let own = zombies
        .iter()
        .filter(|zombie| case.process(zombie.id).creator == Some(pid1))
        .count();
    let inherited = zombies.len() - own;
    let count = zombies.len() as u64;
    let whose = match (own, inherited, count) {
        _ if !made_in_trace(case, &zombies) => String::new(),
        (0, _, 1) => ": an orphan that it inherited".to_owned(),
        (0, ..) => ": orphans that it inherited".to_owned(),
        (_, 0, 1) => ": a child of its own".to_owned(),
        (_, 0, _) => ": children of its own".to_owned(),
        _ => format!(": {own} children of its own and {inherited} orphans that it inherited"),
    };
    let others = match collected(case, pid1).len() as u64 {
        0 => String::new(),
        count => format!(
            ". It collected {}",
            text::plural(count, "other child", "other children")
        ),
    };
    let finding = Finding::new(format!(
        "{} did not collect {} ({}){}{whose}{others}. Each keeps its PID until PID 1 ends.",
        case.name(pid1),
        text::plural(count, "zombie", "zombies"),
        census(case, &zombies),
        spread(&zombies),
    ))
    .remedy(
        "Run an init that collects orphans as PID 1 (procjail --init, docker run --init, tini, dumb-init). An \
         application that starts children as PID 1 has to wait for them itself.",
    );
    let finding = reason(case, pid1, &zombies, finding);
    vec![shown(case, finding, &zombies)]
}

/// Other processes', by program: five workers that do the same are one finding.
fn below_parents(case: &Case, zombies: Vec<Zombie>) -> Vec<Finding> {
    let mut by_program: BTreeMap<&str, Vec<Zombie>> = BTreeMap::new();
    for zombie in zombies {
        let parent = case.process(zombie.parent);
        let own = case.process(zombie.id).creator == Some(zombie.parent);
        if own && parent.in_jail() {
            let comm = parent.task.comm.as_str();
            by_program.entry(comm).or_default().push(zombie);
        }
    }
    by_program
        .into_values()
        .filter_map(|zombies| {
            let first = zombies.first()?.parent;
            let mut parents: Vec<ProcessId> = zombies.iter().map(|zombie| zombie.parent).collect();
            parents.sort();
            parents.dedup();
            let finding = Finding::new(format!(
                "{} did not collect {} ({}){} while alive.",
                case.names(&parents),
                text::plural(zombies.len() as u64, "dead child", "dead children"),
                census(case, &zombies),
                spread(&zombies),
            ))
            .not(
                "PID 1's neglect",
                match made_in_trace(case, &zombies) {
                    true => {
                        "they are not orphans: the process that started them was alive, and only it may collect them"
                    }
                    false => "their parent was alive, and only it may collect them",
                },
            )
            .remedy(
                "Have that program wait for its children (waitpid, a SIGCHLD handler). An init as PID 1 does \
                 not help: it inherits them only when their parent ends.",
            );
            let finding = reason(case, first, &zombies, finding);
            Some(shown(case, finding, &zombies))
        })
        .collect()
}
