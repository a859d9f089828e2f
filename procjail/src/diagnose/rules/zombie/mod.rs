//! Zombies: processes that ended and that nobody collected.

mod outside;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use crate::diagnose::{Case, Family, Finding, ProcessId, Rank, Rule, Tagged};
use crate::event::{Disposition, Event, SignalResult, ThreadState};
use crate::render;

pub(super) const FAMILY: Family = Family {
    rules: &[
        Rule {
            id: "zombie-pid1-not-reaping",
            about: "PID 1 does not collect the children it has or inherits",
            alternatives: &[],
        },
        Rule {
            id: "zombie-parent-not-reaping",
            about: "a process does not collect its children",
            alternatives: &[],
        },
        Rule {
            id: "zombie-leader-live-threads",
            about: "a process's main thread ended, its other threads go on",
            alternatives: &[],
        },
        Rule {
            id: "zombie-traced",
            about: "a debugger has not collected the process that it traces",
            alternatives: &[],
        },
        Rule {
            id: "zombie-outside-parent",
            about: "a process that entered the jail from outside is not collected by its parent there",
            alternatives: &[],
        },
        Rule {
            id: "zombie-jail-init-unreaped",
            about: "PID 1 is dead, and its parent has not collected it",
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
        below_pid1(case)
            .into_iter()
            .map(|one| ("zombie-pid1-not-reaping", one)),
    );
    found.extend(
        below_parent(case)
            .into_iter()
            .map(|one| ("zombie-parent-not-reaping", one)),
    );
    found.extend(
        leader(case)
            .into_iter()
            .map(|one| ("zombie-leader-live-threads", one)),
    );
    found.extend(traced(case).into_iter().map(|one| ("zombie-traced", one)));
    found.extend(
        outside::outside_parent(case)
            .into_iter()
            .map(|one| ("zombie-outside-parent", one)),
    );
    found.extend(
        outside::pid1_unreaped(case)
            .into_iter()
            .map(|one| ("zombie-jail-init-unreaped", one)),
    );
    found
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

/// The SIGCHLD went to another process than the parent: that one traces it.
fn tracer_pid(case: &Case, id: ProcessId) -> Option<u32> {
    let notice = case.process(id).notice.as_ref()?;
    let (_, exit) = case.exit(id)?;
    (notice.parent_pid != exit.parent.pid && notice.parent_pid != 0 && exit.parent.pid != 0)
        .then_some(notice.parent_pid)
}

/// Zombies that lasted, each with the parent that did not collect it.
fn lasting(case: &Case) -> Vec<Zombie> {
    let jail_end = case
        .pid1()
        .map_or(case.end_ns(), |pid1| case.ended_ns(pid1));
    let mut found = Vec::new();
    for id in case.deaths() {
        let process = case.process(id);
        if process.is_pid1() || tracer_pid(case, id).is_some() {
            continue;
        }
        // Without a SIGCHLD its parent ignores that: the kernel discards it at once, however late the news.
        let (Some(mut parent), Some(_)) = (case.last_parent(id), &process.notice) else {
            continue;
        };
        let died = case.ended_ns(id);
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
        if collected.is_none() && !released && zombie.age_ns() >= LASTING_NS {
            found.push(zombie);
        }
    }
    found
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
        .map(|(name, count)| format!("{} {}", render::count(*count), render::escape(name)))
        .collect();
    let more = match names.len().saturating_sub(4) {
        0 => String::new(),
        count => format!(" and {count} other programs"),
    };
    told.join(", ") + &more
}

/// How fast they become more, where there are enough to tell: `, 12 more a minute`.
fn growth(zombies: &[Zombie]) -> String {
    let (Some(first), Some(last)) = (zombies.first(), zombies.last()) else {
        return String::new();
    };
    let span_ns = last.since_ns.saturating_sub(first.since_ns);
    match zombies.len() {
        0..5 => String::new(),
        _ if span_ns < LASTING_NS => String::new(),
        count => {
            let a_minute = (count as u64 - 1).saturating_mul(60_000_000_000) / span_ns;
            format!(", {} more a minute", render::count(a_minute))
        }
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
                    render::duration(zombie.age_ns())
                ),
            );
        }
    }
    if let Some((_, words)) = zombies.first().and_then(|first| attitude(case, first)) {
        finding = finding.fact(words);
    }
    finding
        .relies_on_all(&["reap", "exit"])
        .not(
            "zombies on their way to being collected",
            "they are older than a second",
        )
        .not(
            "main threads of processes that go on",
            "the last thread of each has ended",
        )
        .not(
            "processes that a debugger holds",
            "their SIGCHLD went to the parent, where it was seen",
        )
}

fn below_pid1(case: &Case) -> Vec<Finding> {
    let Some(pid1) = case.pid1() else {
        return Vec::new();
    };
    let mut zombies = lasting(case);
    zombies.retain(|zombie| zombie.parent == pid1);
    zombies.sort_by_key(|zombie| zombie.since_ns);
    if zombies.is_empty() {
        return Vec::new();
    }
    let own = zombies
        .iter()
        .filter(|zombie| case.process(zombie.id).creator == Some(pid1))
        .count();
    let inherited = zombies.len() - own;
    let count = zombies.len() as u64;
    let whose = match (own, inherited) {
        (0, _) => match count {
            1 => "an orphan that it inherited".to_owned(),
            _ => "orphans that it inherited".to_owned(),
        },
        (_, 0) => match count {
            1 => "a child of its own".to_owned(),
            _ => "children of its own".to_owned(),
        },
        _ => format!("{own} children of its own and {inherited} orphans that it inherited"),
    };
    let finding = Finding::new(format!(
        "{} never collects its dead children: {} ({}) under it{}, {whose}. Each keeps its PID until PID 1 ends.",
        case.name(pid1),
        render::plural(count, "zombie", "zombies"),
        census(case, &zombies),
        growth(&zombies),
    ))
    .proven()
    .about(zombies.iter().map(|zombie| zombie.id))
    .remedy(
        "Put an init that collects orphans at PID 1 (procjail --init, docker run --init, tini, dumb-init); an \
         application at PID 1 that makes children has to wait for them itself.",
    );
    vec![shown(case, finding, &zombies)]
}

fn below_parent(case: &Case) -> Vec<Finding> {
    let pid1 = case.pid1();
    let mut by_parent: BTreeMap<ProcessId, Vec<Zombie>> = BTreeMap::new();
    for zombie in lasting(case) {
        let own = case.process(zombie.id).creator == Some(zombie.parent);
        if own && Some(zombie.parent) != pid1 && case.process(zombie.parent).in_jail() {
            by_parent.entry(zombie.parent).or_default().push(zombie);
        }
    }
    by_parent
        .into_iter()
        .map(|(parent, zombies)| {
            let finding = Finding::new(format!(
                "{} is alive and does not collect its dead children: {} ({}){}.",
                case.name(parent),
                render::plural(zombies.len() as u64, "zombie", "zombies"),
                census(case, &zombies),
                growth(&zombies),
            ))
            .proven()
            .about(zombies.iter().map(|zombie| zombie.id))
            .not(
                "PID 1's neglect",
                "they are not orphans: the process that made them lives, and only it may collect them",
            )
            .remedy(
                "Make that program wait for its children (waitpid, a SIGCHLD handler). An init at PID 1 does \
                 not help: it gets them only when their parent ends.",
            );
            shown(case, finding, &zombies)
        })
        .collect()
}

/// Main threads that snapshots show dead while others live, by host PID.
fn dead_leaders(case: &Case) -> HashMap<u32, (&Event, &ThreadState)> {
    let mut found = HashMap::new();
    for (event, snapshot) in case.snapshots() {
        for thread in &snapshot.threads {
            let task = &thread.task;
            if task.pid == task.tid && thread.state == "Z" && thread.threads > 1 {
                found.entry(task.pid).or_insert((event, thread));
            }
        }
    }
    found
}

/// A thread of the process that the last snapshot shows waiting in the kernel.
fn stuck(case: &Case, id: ProcessId) -> Option<String> {
    let pid = case.process(id).task.pid;
    let (_, snapshot) = case.snapshots().last()?;
    let thread = snapshot
        .threads
        .iter()
        .find(|thread| thread.task.pid == pid && thread.state == "D")?;
    Some(format!(
        "thread {} waits in the kernel in {}",
        thread.task.tid,
        render::escape(&thread.wait_channel)
    ))
}

fn leader(case: &Case) -> Vec<Finding> {
    let mut findings = Vec::new();
    let seen = dead_leaders(case);
    for (id, process) in case.processes().filter(|(_, process)| process.in_jail()) {
        let left = case
            .thread_exits(id)
            .find(|(event, _)| event.task.tid == event.task.pid);
        let seen = seen.get(&process.task.pid).copied();
        let Some(event) = left
            .map(|(event, _)| event)
            .or(seen.map(|(event, _)| event))
        else {
            continue;
        };
        let lasted = case.ended_ns(id).saturating_sub(event.time_ns);
        if lasted < LASTING_NS {
            continue;
        }
        let threads = seen.map_or_else(
            || "its other threads".to_owned(),
            |(_, state)| {
                let others = u64::from(state.threads).saturating_sub(1);
                render::plural(others, "other thread", "other threads")
            },
        );
        let stuck = stuck(case, id);
        let reason = stuck.as_ref().map_or_else(
            || "went on".to_owned(),
            |stuck| format!("went on ({stuck})"),
        );
        let mut finding = Finding::new(format!(
            "The main thread of {} ended, and {threads} {reason} for {}: tools show a zombie that cannot be \
             collected, though the process lives.",
            case.task_name(&process.task),
            render::duration(lasted),
        ))
        .proven()
        .about([id])
        .not("a zombie that its parent neglects", "the process has not ended: no wait can return it yet")
        .remedy(
            "End the process with exit() or by returning from main, not the main thread alone (pthread_exit, \
             or a runtime whose main thread panicked); if a thread is stuck, what it waits for is the cause.",
        );
        if let Some((event, _)) = left {
            finding = finding.shown_by(event, "the main thread ended, and was not the last one");
        }
        if let Some((event, state)) = seen {
            finding = finding.shown_by(
                event,
                format!("the process in state Z with {} threads", state.threads),
            );
        }
        if let Some((exit, _)) = case.exit(id) {
            finding = finding.shown_by(exit, "its last thread ended");
        }
        findings.push(finding);
    }
    findings
}

fn traced(case: &Case) -> Vec<Finding> {
    let mut by_tracer: HashMap<u32, Vec<Zombie>> = HashMap::new();
    for id in case.deaths() {
        let Some(tracer) = tracer_pid(case, id) else {
            continue;
        };
        let since_ns = case.ended_ns(id);
        let collected = case.reap(id).map(|(event, _)| event.time_ns);
        let gone = case
            .process_by_pid(tracer)
            .map_or(case.end_ns(), |tracer| case.ended_ns(tracer));
        let until_ns = gone.min(collected.unwrap_or(u64::MAX));
        let zombie = Zombie {
            id,
            parent: id,
            since_ns,
            until_ns,
        };
        if zombie.age_ns() >= LASTING_NS {
            by_tracer.entry(tracer).or_default().push(zombie);
        }
    }
    let mut tracers: Vec<(u32, Vec<Zombie>)> = by_tracer.into_iter().collect();
    tracers.sort_by_key(|(_, zombies)| zombies.first().map(|zombie| zombie.since_ns));
    tracers
        .into_iter()
        .filter_map(|(tracer, zombies)| {
            let first = zombies.first()?;
            let (exit, ended) = case.exit(first.id)?;
            let name = case
                .process_by_pid(tracer)
                .map_or_else(|| format!("host PID {tracer}"), |id| case.name(id));
            let parent = case.task_name(&ended.parent);
            Some(
                Finding::new(format!(
                    "{} ended, but {name} traces it and has not waited for it in {}: until it does or ends, \
                     the parent {parent} cannot collect it.",
                    super::crash::names(case, &zombies.iter().map(|zombie| zombie.id).collect::<Vec<_>>()),
                    render::duration(first.age_ns()),
                ))
                .proven()
                .about(zombies.iter().map(|zombie| zombie.id))
                .shown_by(exit, format!("{} {}; its parent is {parent}", case.name(first.id), case.did_end(&ended.status)))
                .fact(format!("the SIGCHLD for it went to {name}, which is not its parent: that is its tracer"))
                .not("a parent that does not wait", "the kernel does not give it a child that somebody traces")
                .relies_on_all(&["reap"])
                .remedy(format!("End {name} (a debugger, strace, or a crash reporter), or have it wait for what it traces.")),
            )
        })
        .collect()
}
