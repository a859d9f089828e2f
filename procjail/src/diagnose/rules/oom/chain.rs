//! What an OOM kill led to: the processes that ended because of it, one after the other, or that wait in vain.

use std::collections::HashSet;

use super::kill::{Kill, ended};
use crate::diagnose::{Case, Origin, Passing, ProcessId, is_bad};
use crate::event::{Event, Moment, Snapshot, What};
use crate::text;

/// A parent that ends badly this soon after it collected a victim is taken to end because of it, nanoseconds;
/// later only if it began nothing new.
const SOON_NS: u64 = 10_000_000_000;
/// A child that lives this long is no clean-up, nanoseconds.
const WORK_NS: u64 = 500_000_000;
/// Kills whose consequences are looked for, the last ones: more are restarts.
const KILLS: usize = 256;
/// As soon as that where nobody collected the victim, nanoseconds.
const UNCOLLECTED_NS: u64 = 2_000_000_000;
/// A jail in which nothing begins or ends for so long is idle, nanoseconds.
const IDLE_NS: u64 = 2_000_000_000;
/// A pool takes this long to replace a worker and to settle, nanoseconds.
const SETTLE_NS: u64 = 1_000_000_000;

/// Whoever asks for a stop may have ended others a moment before, nanoseconds.
const END_NS: u64 = 250_000_000;

/// A process that ended badly after its child had, or after a victim had.
#[derive(Clone, Copy, Debug)]
pub struct Link<'a> {
    pub id: ProcessId,
    /// The collection of the one before it in the chain; its end where nobody collected it.
    pub learnt: &'a Event,
    pub exit: &'a Event,
}

/// What followed from some kills.
#[derive(Clone, Debug, Default)]
pub struct Chain<'a> {
    /// Upwards from the victims.
    pub links: Vec<Link<'a>>,
    /// Processes that those of the chain killed on their way.
    pub ended_by_them: Vec<ProcessId>,
    victims: usize,
}

impl<'a> Chain<'a> {
    /// That of these kills.
    pub fn of(case: &'a Case, kills: &[Kill<'_>]) -> Self {
        let last = kills
            .get(kills.len().saturating_sub(KILLS)..)
            .unwrap_or_default();
        let victims: Vec<ProcessId> = last.iter().filter_map(|kill| kill.victim).collect();
        let mut known: HashSet<ProcessId> = victims.iter().copied().collect();
        let mut next = victims;
        let mut chain = Self {
            victims: kills.len(),
            ..Self::default()
        };
        while let Some(child) = next.pop() {
            let Some(link) = link(case, child, &known).filter(|link| known.insert(link.id)) else {
                continue;
            };
            chain.links.push(link);
            for id in ended_by(case, &link) {
                if known.insert(id) {
                    chain.ended_by_them.push(id);
                }
            }
            next.push(link.id);
        }
        chain.links.sort_by_key(|link| link.exit.seq);
        chain
    }

    /// All processes that ended because of the kills.
    pub fn all(&self) -> impl Iterator<Item = ProcessId> + '_ {
        let links = self.links.iter().map(|link| link.id);
        links.chain(self.ended_by_them.iter().copied())
    }

    /// PID 1 is among them.
    pub fn has(&self, id: ProcessId) -> bool {
        self.links.iter().any(|link| link.id == id)
    }

    /// What it did in a sentence: `sh (PID 2) collected it and exited with 137 after 3 ms; make (PID 1) …`.
    pub fn sentence(&self, case: &Case) -> Option<String> {
        const NAMED: usize = 3;
        let steps: Vec<String> = self
            .links
            .iter()
            .enumerate()
            .filter(|(at, _)| *at + NAMED > self.links.len() || *at == 0)
            .filter_map(|(at, link)| {
                let (_, exit) = case.exit(link.id)?;
                let after = text::duration(link.exit.time_ns.saturating_sub(link.learnt.time_ns));
                let collected = matches!(link.learnt.what, What::Reap(_));
                let whom = match (at, self.victims) {
                    (0, 1) => "it",
                    (0, _) => "one of them",
                    _ => "that one",
                };
                let learnt = match collected {
                    true => format!("collected {whom} and "),
                    false => String::new(),
                };
                let later = match collected {
                    true => format!("{after} later"),
                    false => format!("{after} after the end of {whom}"),
                };
                Some(format!(
                    "{} {learnt}{}, {later}",
                    case.name(link.id),
                    ended(&exit.status)
                ))
            })
            .collect();
        (!steps.is_empty()).then(|| format!("{}.", steps.join(", then ")))
    }
}

/// The process that learnt of the end of `child`, if it ended badly because of that.
fn link<'a>(case: &'a Case, child: ProcessId, known: &HashSet<ProcessId>) -> Option<Link<'a>> {
    let (child_end, _) = case.exit(child)?;
    let reap = case.reap(child).map(|(event, _)| event);
    let id = match reap {
        Some(event) => case.process_of(&event.task),
        None => case.last_parent(child),
    }?;
    if !case.process(id).in_jail() || known.contains(&id) {
        return None;
    }
    let learnt = reap.unwrap_or(child_end);
    let (exit, status) = case.exit(id)?;
    if exit.seq < learnt.seq || !is_bad(&status.status) {
        return None;
    }
    let age_ns = exit.time_ns.saturating_sub(learnt.time_ns);
    let soon = match reap {
        Some(_) => match went_on(case, id, child, learnt, exit) {
            GoingOn::No => true,
            GoingOn::Started => age_ns <= SOON_NS,
            GoingOn::Succeeded => false,
        },
        None => age_ns <= UNCOLLECTED_NS,
    };
    (soon && !ended_otherwise(case, id, learnt) && !blames_another(case, id, child, known))
        .then_some(Link { id, learnt, exit })
}

/// What a process did after a child's death.
enum GoingOn {
    /// It started nothing.
    No,
    /// It started something, such as a clean-up or another one of the same.
    Started,
    /// It did other work, and with success.
    Succeeded,
}

fn went_on(case: &Case, id: ProcessId, child: ProcessId, learnt: &Event, exit: &Event) -> GoingOn {
    let program = &case.process(child).task.comm;
    let mut going_on = GoingOn::No;
    for other in &case.process(id).children {
        let born_ns = case.born_ns(*other);
        if born_ns <= learnt.time_ns || born_ns >= exit.time_ns {
            continue;
        }
        going_on = GoingOn::Started;
        let worked = case.exit(*other).is_some_and(|(end, ended)| {
            end.seq < exit.seq
                && !is_bad(&ended.status)
                && end.time_ns.saturating_sub(born_ns) >= WORK_NS
        });
        if worked && case.process(*other).task.comm != *program {
            return GoingOn::Succeeded;
        }
    }
    going_on
}

/// Somebody else, or a fault of its own, ended the process after it had learnt of the death.
fn ended_otherwise(case: &Case, id: ProcessId, learnt: &Event) -> bool {
    if let Some((event, signal)) = case.killing_signal(id) {
        return case.origin(event, signal) != Origin::Itself;
    }
    // An exit code may answer a signal that asked it to stop.
    case.received(id).any(|(event, signal)| {
        event.seq > learnt.seq
            && event.task.jail_pid.is_none()
            && !event.task.in_jail
            && case.origin(event, signal).is_deliberate()
            && matches!(
                signal.signal.number,
                libc::SIGTERM | libc::SIGINT | libc::SIGQUIT | libc::SIGHUP
            )
    })
}

/// Its exit code is that of another child, which ended for a reason of its own. A helper that was started
/// afterwards, returned a code and printed nothing is no such reason: managers look around (pgrep, kill) before they
/// give up.
fn blames_another(
    case: &Case,
    id: ProcessId,
    child: ProcessId,
    known: &HashSet<ProcessId>,
) -> bool {
    let silent_helper = |other: ProcessId| {
        let after = case.born_ns(other) > case.ended_ns(child);
        let killed = case
            .status(other)
            .is_some_and(|status| status.signal.is_some());
        after && !killed && case.stderr(other).is_none() && case.stderr(id).is_some()
    };
    case.passed_on(id).is_some_and(|passed| {
        passed.how != Passing::Changed
            && passed.child != child
            && !known.contains(&passed.child)
            && !killed_by(case, passed.child, id)
            && !silent_helper(passed.child)
    })
}

fn killed_by(case: &Case, id: ProcessId, killer: ProcessId) -> bool {
    case.killing_signal(id)
        .is_some_and(|(event, _)| case.process_of(&event.task) == Some(killer))
}

/// The processes that one of the chain killed after it had learnt of the death.
fn ended_by(case: &Case, link: &Link<'_>) -> Vec<ProcessId> {
    case.deaths()
        .into_iter()
        .filter(|id| {
            *id != link.id
                && case.killing_signal(*id).is_some_and(|(event, signal)| {
                    event.seq > link.learnt.seq
                        && case.process_of(&event.task) == Some(link.id)
                        && case.origin(event, signal) == Origin::Process
                })
        })
        .collect()
}

/// A parent that lost a worker and waits.
#[derive(Clone, Copy, Debug)]
pub struct Waiting<'a> {
    /// Who collected the victim.
    pub parent: ProcessId,
    pub reap: &'a Event,
    /// The worker that was made in the victim's place.
    pub replaced_by: Option<ProcessId>,
    /// From the kill until it was ended, or until the trace ends, nanoseconds.
    pub idle_ns: u64,
    /// A look at its threads in that time.
    pub seen: Option<&'a Event>,
}

/// Whether the jail stood still after a kill: nothing began or ended, nobody listens for work, and no thread ran
/// when it was looked at.
pub fn waiting<'a>(case: &'a Case, kill: &Kill<'_>) -> Option<Waiting<'a>> {
    let victim = kill.victim?;
    let (reap, _) = case.reap(victim)?;
    let parent = case.process_of(&reap.task)?;
    let from_ns = reap.time_ns;
    let stop_ns = case
        .stop_request()
        .map(|(event, _)| event.time_ns)
        .filter(|at| *at > from_ns);
    let until_ns = stop_ns
        .unwrap_or(case.ended_ns(parent))
        .min(case.ended_ns(parent));
    let idle_ns = until_ns.saturating_sub(from_ns);
    let by_itself = case.exit(parent).is_some_and(|(_, exit)| {
        stop_ns.is_none()
            && (exit.status.signal.is_none()
                || case
                    .killing_signal(parent)
                    .is_some_and(|(event, signal)| case.origin(event, signal) == Origin::Itself))
    });
    if idle_ns < IDLE_NS || by_itself {
        return None;
    }
    let lively = case.events().iter().any(|event| {
        let time = event.time_ns > from_ns + SETTLE_NS && event.time_ns + END_NS < until_ns;
        let started_or_ended = match &event.what {
            What::Fork(_) | What::Exec(_) => true,
            What::Exit(exit) => exit.process,
            _ => false,
        };
        time && started_or_ended && event.task.in_jail
    });
    let looks: Vec<_> = case
        .snapshots()
        .filter(|(event, look)| {
            event.time_ns > from_ns
                && matches!(
                    look.moment,
                    Moment::StopRequested | Moment::StopHalf | Moment::StopDeadline
                )
        })
        .collect();
    let asleep = |look: &Snapshot| {
        let awake = |state: &str| matches!(state, "R" | "D");
        look.threads.iter().all(|thread| !awake(&thread.state))
    };
    // Who is signalled wakes up for a moment.
    let seen = looks.iter().find(|(_, look)| asleep(look));
    let serves = looks
        .iter()
        .any(|(_, look)| look.processes.iter().any(|one| !one.listening.is_empty()));
    if lively || serves || (seen.is_none() && !looks.is_empty()) {
        return None;
    }
    let replaced_by = case
        .process(parent)
        .children
        .iter()
        .copied()
        .find(|child| case.born_ns(*child) > from_ns);
    Some(Waiting {
        parent,
        reap,
        replaced_by,
        idle_ns,
        seen: seen.map(|(event, _)| *event),
    })
}
