//! Killed on somebody's decision, by a system call.

use std::collections::HashSet;

use super::stopped::is_grace;
use super::{Death, OOM_DAEMONS, OOM_KILL, deaths, grouped, shown, victims, was};
use crate::diagnose::rules::exit;
use crate::diagnose::rules::stop::attempt::Attempt;
use crate::diagnose::{Case, Confidence, Finding, Follows, Origin, ProcessId};
use crate::event::{Disposition, Event, SignalResult};
use crate::render;

/// Signals that people and programs end processes with. The others stand for a crash or a limit, and
/// have verdicts of their own.
fn is_ordinary(number: i32) -> bool {
    !matches!(
        number,
        libc::SIGSEGV
            | libc::SIGBUS
            | libc::SIGILL
            | libc::SIGFPE
            | libc::SIGABRT
            | libc::SIGSYS
            | libc::SIGTRAP
            | libc::SIGXCPU
            | libc::SIGXFSZ
    )
}

/// Killed from outside. What the OOM killers of user space and runtimes do has verdicts of its own.
pub(super) fn external(case: &Case) -> Vec<Finding> {
    let deaths = deaths(case);
    let attempt = Attempt::of(case);
    let outside = deaths.iter().filter(|death| {
        death.origin == Origin::Process
            && !death.event.task.in_jail
            && death.event.task.jail_pid.is_none()
            && is_ordinary(death.signal.signal.number)
            && !is_grace(case, attempt.as_ref(), death)
            && !attempt
                .as_ref()
                .is_some_and(|attempt| attempt.includes(case, death.event, death.signal))
            && !OOM_DAEMONS.contains(&death.event.task.comm.as_str())
    });
    grouped(outside, |death| {
        (death.event.task.pid, death.signal.signal.number)
    })
    .into_iter()
    .filter_map(|group| {
        let first = *group.first()?;
        let name = render::escape(&first.signal.signal.name);
        let ids = victims(&group);
        let who = case.who(&first.event.task);
        let verdict = format!(
            "{} {} killed from outside the jail: {name} from {who}.",
            case.names(&ids),
            was(ids.len())
        );
        let mut finding = Finding::new(verdict)
            .proven()
            .about(ids.iter().copied())
            .not(OOM_KILL, "a process sent the signal, not the kernel")
            .not(
                "the end of a grace period",
                "procjail did not send it, and no stop signal from the same sender came before",
            );
        finding = shown(
            case,
            finding,
            &group,
            &format!(", from {}", case.task_name(&first.event.task)),
        );
        if let Some((event, _)) = case.sender(&first.event.task) {
            finding = finding.shown_by(event, "who the sender is, as recorded at that moment");
        }
        // A stop signal that went to the wrong one, and what followed.
        finding = finding.follows(Follows::Rule("term-wrong-target"));
        Some(
            finding
                .relies_on_all(&["oom-kill"])
                .remedy(format!(
                    "Ask its owner: the process above, or whoever started it (cron, a script, a session). Have it \
                     send SIGTERM first, if a stop is what it wants{}.",
                    match name.as_str() {
                        "SIGKILL" => "; SIGKILL leaves no time to finish",
                        _ => "",
                    }
                )),
        )
    })
    .collect()
}

/// Killed by one of its own. Other signals than SIGKILL are how programs end their children: of those only what led to
/// the end of the run is told, where neither the parent nor a stop is behind it.
pub(super) fn internal(case: &Case) -> Vec<Finding> {
    let deaths = deaths(case);
    let attempt = Attempt::of(case);
    let in_bursts: HashSet<ProcessId> = bursts(case, &deaths)
        .iter()
        .filter(|burst| told_as_one(case, attempt.as_ref(), burst))
        .flatten()
        .map(|death| death.process)
        .collect();
    let led: HashSet<ProcessId> = exit::led_to_end(case).into_iter().collect();
    let another = |death: &Death<'_>| {
        let killer = case.process_of(&death.event.task);
        let asked = attempt
            .as_ref()
            .is_some_and(|attempt| attempt.includes(case, death.event, death.signal));
        death.origin == Origin::Process
            && is_ordinary(death.signal.signal.number)
            && led.contains(&death.process)
            && case.process(death.process).creator != killer
            && !asked
    };
    let inside = deaths.iter().filter(|death| {
        matches!(death.origin, Origin::Process | Origin::Itself)
            && death.event.task.in_jail
            && (death.signal.signal.number == libc::SIGKILL || another(death))
            && !in_bursts.contains(&death.process)
    });
    grouped(inside, |death| {
        let killer = case.process_of(&death.event.task);
        let stops = stopped_by(case, attempt.as_ref(), killer, death).is_some();
        (
            death.event.task.pid,
            death.signal.signal.number,
            relation(case, killer, death.process),
            stops,
        )
    })
    .into_iter()
    .filter_map(|group| {
        let first = *group.first()?;
        let ids = victims(&group);
        let killer = case.process_of(&first.event.task);
        let relation = relation(case, killer, first.process);
        let who = case.task_name(&first.event.task);
        let asked = case
            .received(first.process)
            .find(|(event, signal)| {
                event.seq < first.event.seq
                    && event.task.pid == first.event.task.pid
                    && signal.signal.number == libc::SIGTERM
                    && first.signal.signal.number == libc::SIGKILL
            })
            .map(|(event, _)| event);
        let handled = asked.and_then(|asked| case.delivery_of(asked)).is_some_and(|(_, taken)| {
            taken.disposition == Disposition::Handler
        });
        let before = match asked {
            Some(asked) => format!(
                ", {} after SIGTERM{}",
                case.between(asked, first.event),
                if handled { ", whose handler had run" } else { "" }
            ),
            None if stopped_by(case, attempt.as_ref(), killer, first).is_some() => {
                format!(", without a signal before that asks to stop, when {who} was asked to stop")
            }
            None => String::new(),
        };
        let by = match relation {
            "itself" => "itself".to_owned(),
            relation => format!("{relation} {who}"),
        };
        let age = first
            .event
            .time_ns
            .saturating_sub(case.born_ns(first.process));
        let verdict = format!(
            "{} {} killed inside the jail, by {by}, with {}{before}.",
            case.names(&ids),
            was(ids.len()),
            render::escape(&first.signal.signal.name)
        );
        let mut finding = Finding::new(verdict)
            .proven()
            .about(ids.iter().copied())
            .not(OOM_KILL, "a process of the jail sent the signal, not the kernel")
            .not("a kill from outside", "the sender is in the jail");
        if let Some(pid1) = stopped_by(case, attempt.as_ref(), killer, first) {
            finding = finding.about([pid1]);
        }
        if first.signal.sender_exiting && let Some(killer) = killer {
            finding = finding.follows(Follows::Process(killer));
        }
        if let Some(asked) = asked {
            finding = finding.shown_by(asked, format!("{who} had sent it SIGTERM"));
        }
        finding = shown(case, finding, &group, &format!(", from {who}")).fact(format!(
            "{} had run for {}",
            case.name(first.process),
            render::duration(age)
        ));
        Some(finding.relies_on_all(&["oom-kill"]).remedy(match relation {
            _ if asked.is_some() => {
                "The sender waits only so long after SIGTERM: raise its timeout if it has one, shorten the shutdown of \
                 what it killed, or take it out of the way (setpriv or gosu in place of su, `exec` in a script)."
            }
            "its parent" => {
                "Look at why the parent kills it: worker managers do so when one does not answer in time, and \
                 their log may guess at memory. Raise that timeout, or fix what hangs."
            }
            _ => "Look at what the sender is for, and why it kills.",
        }))
    })
    .collect()
}

/// A parent that sends its child SIGABRT, as managers do with a worker that does not answer.
pub(super) fn aborted(case: &Case) -> Vec<Finding> {
    case.signals()
        .filter(|(event, signal)| {
            signal.signal.number == libc::SIGABRT
                && signal.result == SignalResult::Delivered
                && case.origin(event, signal) == Origin::Process
        })
        .filter_map(|(event, signal)| {
            let child = case.process_of(&signal.target)?;
            let parent = case.process(child).creator?;
            (case.process_of(&event.task) == Some(parent)).then_some(())?;
            let (exit, ended) = case.exit(child).filter(|(exit, _)| exit.seq > event.seq)?;
            let fact = format!(
                "{} sent SIGABRT to its child {}, which {} {} later; it had run for {}.",
                case.name(parent),
                case.name(child),
                case.did_end(&ended.status),
                case.between(event, exit),
                render::duration(event.time_ns.saturating_sub(case.born_ns(child)))
            );
            let mut finding = Finding::new(fact);
            if event.task.in_jail {
                finding = finding.not("a kill from outside", "its parent is in the jail");
            }
            Some(
                finding
                    .proven()
                    .about([child])
                    .shown_by(event, format!("SIGABRT from {}", case.name(parent)))
                    .shown_by(exit, format!("{} {}", case.name(child), case.did_end(&ended.status)))
                    .not("an abort of its own", "its parent sent the signal")
                    .not(OOM_KILL, "a process of the jail sent the signal, not the kernel")
                    .relies_on_all(&["oom-kill"])
                    .remedy(
                        "Look at what the child was doing: managers abort a worker that does not answer in time. Raise \
                         that timeout, or fix what takes so long.",
                    ),
            )
        })
        .collect()
}

/// PID 1, if it killed what it had passed a stop on to: then that is how the stop went.
fn stopped_by(
    case: &Case,
    attempt: Option<&Attempt<'_>>,
    killer: Option<ProcessId>,
    death: &Death<'_>,
) -> Option<ProcessId> {
    let attempt = attempt?;
    (killer == Some(attempt.pid1) && attempt.spans(case, death.event)).then_some(attempt.pid1)
}

/// What a killer is to its victim.
fn relation(case: &Case, killer: Option<ProcessId>, victim: ProcessId) -> &'static str {
    let Some(killer) = killer else {
        return "another process,";
    };
    let creator = case.process(victim).creator;
    match () {
        () if killer == victim => "itself",
        () if creator == Some(killer) => "its parent",
        () if case.process(killer).is_pid1() => "the jail's",
        () if case.process(killer).creator == Some(victim) => "its child",
        () if case.process(killer).creator == creator && creator.is_some() => "its sibling",
        () if case.is_below(victim, killer) => "its ancestor",
        () => "another process,",
    }
}

/// A write to cgroup.kill by somebody else than the launcher.
pub(super) fn cgroup_kill(case: &Case) -> Vec<Finding> {
    let deaths = deaths(case);
    let by_cgroup = deaths.iter().filter(|death| {
        death.origin == Origin::CgroupKill
            && !case.is_launcher(&death.event.task)
            && !OOM_DAEMONS.contains(&death.event.task.comm.as_str())
    });
    grouped(by_cgroup, |death| death.event.task.pid)
        .into_iter()
        .filter_map(|group| {
            let first = *group.first()?;
            let last = *group.last()?;
            let ids = victims(&group);
            let who = case.who(&first.event.task);
            let verdict = format!(
                "{} {} killed by a write to cgroup.kill, from {who}: that ends all of a cgroup at once.",
                case.names(&ids),
                was(ids.len())
            );
            let finding = Finding::new(verdict)
                .proven()
                .about(ids.iter().copied())
                .follows(Follows::Rule("kill-after-grace"));
            let finding = shown(case, finding, &group, ", from within write(2)")
                .fact(format!(
                    "{} within {}",
                    render::plural(group.len() as u64, "process", "processes"),
                    case.between(first.event, last.event)
                ))
                .not(
                    "a kill(2) of each",
                    "the sender was writing to a file, not in kill(2)",
                )
                .not(OOM_KILL, "a process sent the signal, not the kernel")
                .not("procjail itself", "the sender is another process")
                .relies_on_all(&["oom-kill"])
                .remedy("Find out what the sender is: a runtime or service manager that removes the cgroup, or a script.");
            Some(finding)
        })
        .collect()
}

/// Two signals of one call come right after each other: it holds the lock of the process table.
const ONE_GO_NS: u64 = 1_000_000;

/// Deaths by signals that one sender sent to several processes in one go.
fn bursts<'d, 'a>(case: &'a Case, deaths: &'d [Death<'a>]) -> Vec<Vec<&'d Death<'a>>> {
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
fn told_as_one(case: &Case, attempt: Option<&Attempt<'_>>, burst: &[&Death<'_>]) -> bool {
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
    let name = render::escape(&first.signal.signal.name);
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
    let name = render::escape(&first.signal.signal.name);
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
