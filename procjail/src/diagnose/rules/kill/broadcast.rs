//! Killed together with others, by one call as it seems.

use std::collections::HashSet;

use super::stopped::is_grace;
use super::who::is_ordinary;
use super::{Death, OOM_KILL, deaths, grouped, shown, victims, was};
use crate::diagnose::rules::stop::attempt::Attempt;
use crate::diagnose::{Case, Confidence, Finding, Origin, ProcessId};
use crate::event::{Disposition, Event};
use crate::text;

/// Two signals of one call come right after each other: it holds the lock of the process table.
const ONE_GO_NS: u64 = 1_000_000;

/// Deaths by signals that one sender sent to several processes in one go.
pub(super) fn bursts<'d, 'a>(case: &'a Case, deaths: &'d [Death<'a>]) -> Vec<Vec<&'d Death<'a>>> {
    let sent = deaths.iter().filter(|death| {
        death.origin == Origin::Process
            && !case.is_launcher(&death.event.task)
            && is_ordinary(death.signal.signal.number)
            && death
                .signal
                .syscall
                .as_ref()
                .is_some_and(|call| call.name == "kill")
    });
    let by_sender = grouped(sent, |death| {
        (death.event.task.tid, death.signal.signal.number)
    });
    let mut bursts = Vec::new();
    for mut group in by_sender {
        group.sort_by_key(|death| death.event.seq);
        let mut burst: Vec<&Death<'_>> = Vec::new();
        for death in group {
            let follows = burst.last().is_none_or(|last| {
                death.event.time_ns.saturating_sub(last.event.time_ns) <= ONE_GO_NS
            });
            if !follows {
                bursts.push(std::mem::take(&mut burst));
            }
            burst.push(death);
        }
        bursts.push(burst);
    }
    bursts.retain(|burst| burst.len() > 1);
    bursts
}

/// kill(-1), kill(-group), or a loop that comes to the same.
pub(super) fn broadcast(case: &Case) -> Vec<Finding> {
    let deaths = deaths(case);
    let attempt = Attempt::of(case);
    bursts(case, &deaths)
        .into_iter()
        .filter_map(|burst| {
            let first = *burst.first()?;
            if is_grace(case, attempt.as_ref(), first) {
                return None;
            }
            // What is sent on at a stop is meant, unless it meets those that others are to end.
            let forwards = first.signal.signal.number != libc::SIGKILL
                && attempt
                    .as_ref()
                    .is_some_and(|attempt| attempt.spans(case, first.event));
            match forwards {
                true => past_their_parent(case, &burst),
                false if told_as_one(case, attempt.as_ref(), &burst) => {
                    Some(in_one_go(case, &burst))
                }
                false => None,
            }
        })
        .collect()
}

/// It looks like one call, and is worth a verdict: it met others' children, or all of the jail, and no stop asked for
/// it.
pub(super) fn told_as_one(
    case: &Case,
    attempt: Option<&Attempt<'_>>,
    burst: &[&Death<'_>],
) -> bool {
    let Some(first) = burst.first() else {
        return false;
    };
    let everything = || {
        first.signal.signal.number == libc::SIGKILL
            && reach(case, first.event, &victims(burst)) == Reach::All
            && !attempt.is_some_and(|attempt| attempt.spans(case, first.event))
    };
    !of_its_children(case, burst) || everything()
}

/// What a manager does with what it made is its own affair, one by one or by their group.
fn of_its_children(case: &Case, burst: &[&Death<'_>]) -> bool {
    burst.iter().all(|death| {
        case.process_of(&death.event.task)
            .is_some_and(|sender| case.is_below(death.process, sender))
    })
}

fn in_one_go(case: &Case, burst: &[&Death<'_>]) -> Finding {
    let (first, last) = (burst[0], burst[burst.len() - 1]);
    let ids = victims(burst);
    let name = text::escape(&first.signal.signal.name);
    let who = case.who(&first.event.task);
    let call = match reach(case, first.event, &ids) {
        Reach::All => format!(
            "One kill(-1, {name}): it reaches all of the jail but PID 1 and the sender, as here."
        ),
        Reach::Group => {
            format!("One kill(-group, {name}): the victims are all of one process group.")
        }
        Reach::Some => format!("One kill(-group, {name})."),
    };
    let fact = format!(
        "{who} sent {name} to {} processes within {}: {} {} killed.",
        ids.len(),
        case.between(first.event, last.event),
        case.names(&ids),
        was(ids.len())
    );
    let finding = Finding::new(fact)
        .proven()
        .cause(
            call,
            // Who ends all that it made may well do so one by one.
            match of_its_children(case, burst) {
                true => Confidence::ConsistentWith,
                false => Confidence::Likely,
            },
        )
        .or("one kill(2) for each of them")
        .about(ids.iter().copied());
    shown(case, finding, burst, ", from within kill(2)")
        .not("a write to cgroup.kill", "the sender was in kill(2)")
        .not(OOM_KILL, "a process sent the signals, not the kernel")
        .relies_on_all(&["oom-kill"])
        .remedy(
            "Look at the sender's code for kill with -1, 0 or a negative PID: a variable that is empty or was never \
             set has that effect (`kill -9 -$pid`). Signal the PID that is meant.",
        )
}

/// A stop signal to a whole process group, which also met workers that their parent was to end: copies of it,
/// without a handler, while it has one.
fn past_their_parent(case: &Case, burst: &[&Death<'_>]) -> Option<Finding> {
    let sender = case.process_of(&burst.first()?.event.task);
    let handles = |id: ProcessId, number: i32| {
        case.received(id).any(|(_, signal)| {
            signal.signal.number == number && signal.disposition == Disposition::Handler
        })
    };
    let workers: Vec<&Death<'_>> = burst
        .iter()
        .filter(|death| {
            let parent = case.process(death.process).creator;
            parent != sender
                && case.execs(death.process).next().is_none()
                && parent.is_some_and(|parent| handles(parent, death.signal.signal.number))
        })
        .copied()
        .collect();
    let first = *workers.first()?;
    let parent = case.process(first.process).creator?;
    let ids = victims(&workers);
    let name = text::escape(&first.signal.signal.name);
    let who = case.task_name(&first.event.task);
    let fact = format!(
        "{who} sent {name} not only to {}, which has a handler for it, but also to its {} {}, which {} none: {} {} \
         killed by it.",
        case.name(parent),
        if ids.len() == 1 { "worker" } else { "workers" },
        case.names(&ids),
        if ids.len() == 1 { "has" } else { "have" },
        if ids.len() == 1 { "it" } else { "they" },
        was(ids.len())
    );
    let finding = Finding::new(fact)
        .proven()
        .about(ids.iter().copied())
        .cause(
            format!("{who} signals a whole process group, and so ends the workers before their parent can."),
            Confidence::Likely,
        )
        .or("one kill(2) for each of them");
    Some(
        shown(case, finding, &workers, &format!(", from {who}"))
            .not(OOM_KILL, "a process sent the signals, not the kernel")
            .relies_on_all(&["oom-kill"])
            .remedy(
                "Signal the main process only (dumb-init --single-child, tini without -g), or let the workers ignore \
                 the signal: their parent ends them.",
            ),
    )
}

/// Whom a burst reached.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// All that lived but PID 1 and the sender.
    All,
    /// All of one process group.
    Group,
    /// Some.
    Some,
}

fn reach(case: &Case, event: &Event, victims: &[ProcessId]) -> Reach {
    let hit: HashSet<ProcessId> = victims.iter().copied().collect();
    let sender = case.process_of(&event.task);
    let alive = |id: ProcessId| case.alive_at(id, event.time_ns);
    let living: Vec<ProcessId> = case
        .processes()
        .filter(|(id, process)| process.in_jail() && alive(*id))
        .map(|(id, _)| id)
        .collect();
    let spared = |id: &ProcessId| case.process(*id).is_pid1() || Some(*id) == sender;
    if living.iter().all(|id| spared(id) || hit.contains(id)) {
        return Reach::All;
    }
    let group = |id: ProcessId| case.exit(id).map_or(0, |(_, exit)| exit.process_group);
    let Some(first) = victims
        .first()
        .map(|id| group(*id))
        .filter(|group| *group != 0)
    else {
        return Reach::Some;
    };
    let members = living.iter().filter(|id| group(**id) == first);
    let all = victims.iter().all(|id| group(*id) == first);
    match all && members.clone().all(|id| hit.contains(id) || spared(id)) {
        true => Reach::Group,
        false => Reach::Some,
    }
}
