//! Killed on somebody's decision, by a system call.

use std::collections::HashSet;

use super::broadcast::{bursts, told_as_one};
use super::stopped::is_grace;
use super::{Death, OOM_DAEMONS, OOM_KILL, deaths, grouped, shown, victims, was};
use crate::diagnose::rules::exit;
use crate::diagnose::rules::stop::attempt::Attempt;
use crate::diagnose::{Case, Finding, Follows, Origin, ProcessId};
use crate::event::{Disposition, SignalResult};
use crate::text;

/// Signals that people and programs end processes with. The others stand for a crash or a limit, and
/// have verdicts of their own.
pub(super) fn is_ordinary(number: i32) -> bool {
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
        let name = text::escape(&first.signal.signal.name);
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
                match case.is_launched() {
                    true => "procjail did not send it, and no stop signal from the same sender came before",
                    false => "no stop signal from the same sender came before",
                },
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
            text::escape(&first.signal.signal.name)
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
            text::duration(age)
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
                text::duration(event.time_ns.saturating_sub(case.born_ns(child)))
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
                    text::plural(group.len() as u64, "process", "processes"),
                    case.between(first.event, last.event)
                ))
                .not(
                    "a kill(2) of each",
                    "the sender was writing to a file, not in kill(2)",
                )
                .not(OOM_KILL, "a process sent the signal, not the kernel")
                .not(
                    "procjail itself",
                    match case.is_launched() {
                        true => "the sender is another process",
                        false => "it only watched",
                    },
                )
                .relies_on_all(&["oom-kill"])
                .remedy("Find out what the sender is: a runtime or service manager that removes the cgroup, or a script.");
            Some(finding)
        })
        .collect()
}
