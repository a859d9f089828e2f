//! The stop signal went elsewhere, or was never sent.

use super::attempt::{Attempt, asks_to_stop};
use super::fate::Holdout;
use super::reached::SIGNALS;
use super::{ends, finding};
use crate::diagnose::Tagged;
use crate::diagnose::{Case, Finding, Origin, ProcessId};
use crate::event::{Event, SignalGenerated, SignalResult};
use crate::text;

/// PID 1 passed the signal on, but not to the one that went on running.
pub(super) fn missed(
    case: &Case,
    attempt: &Attempt<'_>,
    holdout: &Holdout<'_>,
    missed: ProcessId,
) -> Tagged {
    let who = case.name(holdout.process);
    let told = case
        .sent(holdout.process)
        .find(|(event, signal)| {
            attempt.spans(case, event)
                && signal.signal.number != libc::SIGCHLD
                && case.process_of(&signal.target) != Some(holdout.process)
        })
        .map(|(event, signal)| (event, &signal.signal.name, case.task_name(&signal.target)));
    let (name, others) = match &told {
        Some((_, name, others)) => (text::escape(name), others.clone()),
        None => (text::escape(&attempt.signal.name), "others".to_owned()),
    };
    let verdict = format!(
        "{who} passed {name} on to {others}, but not to {}, which never got a signal. {}.",
        case.name(missed),
        attempt.killed(case, "It was")
    );
    let mut finding = finding(case, attempt, holdout, verdict, "");
    if let Some((event, ..)) = told {
        finding = finding.shown_by(event, format!("{name} to {others}"));
    }
    let finding = ends(case, attempt, finding)
        .proven()
        .fact(format!("no signal to {} before the kill", case.name(missed)))
        .not("a program that ignores the signal", "it was never sent to it")
        .relies_on_all(SIGNALS)
        .remedy(
            "Signal all that has to stop. A process that called setsid or setpgid is not in the group that \
             kill(-pgid) reaches, and a PID file may name a process of an earlier run.",
        );
    ("term-wrong-target", finding)
}

/// Without an attempt on PID 1: somebody asked another process of the jail to stop, then PID 1 was
/// killed.
pub(super) fn wrong(case: &Case) -> Option<Tagged> {
    let pid1 = case.pid1()?;
    let (kill, killer) = kill_of(case, pid1)?;
    let (event, signal) = case.signals().find(|(event, signal)| {
        event.seq < kill.seq
            && asks_to_stop(signal.signal.number)
            && !event.task.in_jail
            && !case.is_launcher(&event.task)
            && signal.target.in_jail
            && case.process_of(&signal.target) != Some(pid1)
            && case.origin(event, signal) == Origin::Process
    })?;
    let got = case.process_of(&signal.target)?;
    let name = text::escape(&signal.signal.name);
    let verdict = format!(
        "{name} went to {}, not to {}, which was killed {} later without ever having been asked to stop.",
        case.name(got),
        case.pid1_name(),
        case.between(event, kill)
    );
    let finding = Finding::new(verdict)
        .about([pid1, got])
        .shown_by(
            event,
            format!("{} sent {name} to {}", case.who(&event.task), case.name(got)),
        )
        .shown_by(
            kill,
            format!(
                "{} sent {} to {}",
                case.who(&kill.task),
                text::escape(&killer.signal.name),
                case.pid1_name()
            ),
        )
        .proven()
        .in_order()
        .fact(format!("{} got no stop signal", case.pid1_name()))
        .not("a program that ignores the signal", "it was never sent to it")
        .relies_on_all(SIGNALS)
        .remedy("Send the stop signal to the main process: look at the PID file, or at what the script takes for its PID.");
    Some(("term-wrong-target", finding))
}

/// SIGKILL for PID 1, on somebody's decision.
fn kill_of(case: &Case, pid1: ProcessId) -> Option<(&Event, &SignalGenerated)> {
    case.received(pid1).find(|(event, signal)| {
        signal.signal.number == libc::SIGKILL
            && signal.result == SignalResult::Delivered
            && matches!(
                case.origin(event, signal),
                Origin::Process | Origin::CgroupKill
            )
    })
}

/// SIGKILL was the first that PID 1 heard of a stop.
pub(super) fn not_sent(case: &Case) -> Vec<Finding> {
    let Some(pid1) = case.pid1() else {
        return Vec::new();
    };
    let Some((kill, _)) = kill_of(case, pid1) else {
        return Vec::new();
    };
    let who = case.name(pid1);
    let attempt = Attempt::of(case);
    let (verdict, fix) = match &attempt {
        Some(attempt) => match (attempt.request, attempt.kill) {
            (Some(_), Some((_, kill))) if kill.reason == "stop-signal" => (
                format!(
                    "{who} was not asked to stop: the stop signal is SIGKILL, so it had no chance to finish."
                ),
                "Stop it with a signal that it can handle: procjail --stop-signal TERM.",
            ),
            (Some(request), Some(_)) if request.timeout_ns == 0 => (
                format!(
                    "{who} got {}, and SIGKILL at once: the grace period is 0.",
                    text::escape(&request.stop_signal.name)
                ),
                "Give it time: procjail --stop-timeout.",
            ),
            _ => return Vec::new(),
        },
        // procjail removes a jail whose program never ran.
        None if case.is_launcher(&kill.task) || wrong(case).is_some() => return Vec::new(),
        None => (
            format!("{who} got no stop signal before SIGKILL: it had no chance to finish."),
            "Send SIGTERM first, and SIGKILL only when it does not help.",
        ),
    };
    let finding = Finding::new(verdict)
        .proven()
        .about(attempt.is_some().then_some(pid1))
        .shown_by(
            kill,
            format!(
                "SIGKILL from {}, the first signal that asks it to end",
                case.who(&kill.task)
            ),
        )
        .not("an OOM kill", "a process sent the SIGKILL, not the kernel")
        .relies_on_all(&["signal-generated"])
        .remedy(fix);
    vec![match attempt {
        Some(attempt) => finding.at(attempt.asked.time_ns),
        None => finding.follows(crate::diagnose::Follows::Process(pid1)),
    }]
}
