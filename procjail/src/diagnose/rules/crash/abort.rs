//! SIGABRT.

use super::words::last_words;
use super::{Crash, alike, crashes, ids, names, segv, thread};
use crate::diagnose::{Case, Confidence, Finding, Origin, ProcessId};
use crate::event::{Event, SignalResult};
use crate::words;

/// abort(3) goes on to an instruction that faults when its signal did nothing; within this time,
/// nanoseconds.
const SECOND_TRY_NS: u64 = 1_000_000_000;

/// The SIGABRT that PID 1 sent itself shortly before its end, and that the kernel dropped.
pub(super) fn ignored(case: &Case, id: ProcessId) -> Option<&Event> {
    let (exit, _) = case.exit(id)?;
    case.received(id)
        .find(|(event, signal)| {
            signal.signal.number == libc::SIGABRT
                && signal.result == SignalResult::Ignored
                && signal.unkillable
                && event.task.pid == signal.target.pid
                && exit.time_ns.saturating_sub(event.time_ns) <= SECOND_TRY_NS
        })
        .map(|(event, _)| event)
}

const READ: &str = "Read what the program wrote to stderr last: abort(3) follows a failed assertion, an uncaught \
    exception, a corrupted heap or a runtime out of memory, and mostly says which. For its stack, record a core \
    (--rlimit core=unlimited).";

/// Why it aborted, by its last words, and what to do then.
fn why(case: &Case, id: ProcessId, finding: Finding) -> Finding {
    let Some(words) = last_words(case, id) else {
        return finding.fact_alone().remedy(READ);
    };
    let finding = words.show(finding);
    let Some(means) = words.means else {
        return finding.fact_alone().remedy(READ);
    };
    finding
        .cause(
            format!("It was {means}: {}.", words.quoted()),
            Confidence::Likely,
        )
        .remedy(
            "Find the place that its message names; for the stack of that moment, record a core (--rlimit \
             core=unlimited) and open it in a debugger.",
        )
}

pub(super) fn itself(case: &Case) -> Vec<Finding> {
    let mut aborted = crashes(case, libc::SIGABRT);
    aborted.retain(|crash| {
        case.origin(crash.event, crash.signal) == Origin::Itself
            && segv::noticed(case, crash.id).is_none()
    });
    let mut findings: Vec<Finding> = alike(case, aborted, |_| ())
        .into_iter()
        .filter_map(|group| Some(aborted_itself(case, group.first()?, &group)))
        .collect();
    findings.extend(case.pid1().and_then(|pid1| pid1_aborted(case, pid1)));
    findings
}

fn aborted_itself(case: &Case, first: &Crash<'_>, group: &[Crash<'_>]) -> Finding {
    let call = first
        .signal
        .syscall
        .as_ref()
        .map_or("a system call", |call| call.name.as_str());
    let finding = Finding::new(format!(
        "{} aborted itself{} (SIGABRT, which a shell reports as 134).",
        names(case, &ids(group)),
        thread(first),
    ))
    .proven()
    .about(ids(group))
    .shown_by(
        first.event,
        format!("it sent SIGABRT to itself by {call}, as abort() does"),
    )
    .not(
        "somebody else's SIGABRT, such as a watchdog's",
        "the sender is the process itself",
    );
    let finding = why(case, first.id, finding);
    match case.exit(first.id) {
        Some((exit, ended)) => finding.shown_by(exit, words::status(&ended.status)),
        None => finding,
    }
}

/// PID 1 of a PID namespace has no default action for signals of its own, abort's included.
fn pid1_aborted(case: &Case, pid1: ProcessId) -> Option<Finding> {
    let sent = ignored(case, pid1)?;
    let (exit, ended) = case.exit(pid1)?;
    ended.status.signal.as_ref()?;
    segv::noticed(case, pid1).is_none().then(|| {
        let finding = Finding::new(format!(
            "{} sent itself SIGABRT, which the kernel dropped, as PID 1 has no handler for it. It {} {} later, \
             as abort(3) goes on to an instruction that faults.",
            case.name(pid1),
            case.did_end(&ended.status),
            case.between(sent, exit),
        ))
        .proven()
        .about([pid1])
        .shown_by(sent, "it sent SIGABRT to itself: ignored, as PID 1 has no handler for it")
        .shown_by(exit, words::status(&ended.status))
        .not("a bad access to memory", "the fault follows the SIGABRT at once");
        why(case, pid1, finding)
    })
}

pub(super) fn watchdog(case: &Case) -> Vec<Finding> {
    let mut crashes = crashes(case, libc::SIGABRT);
    crashes.retain(|crash| {
        let sender = &crash.event.task;
        case.origin(crash.event, crash.signal) == Origin::Process
            && sender.jail_pid.is_none()
            && !sender.in_jail
            && !case.is_launcher(sender)
    });
    alike(case, crashes, |crash| crash.event.task.pid)
        .into_iter()
        .filter_map(|group| {
            let first = group.first()?;
            let who = case.who(&first.event.task);
            let finding = Finding::new(format!(
                "{} was sent SIGABRT from outside the jail by {who}.",
                names(case, &ids(&group)),
            ))
            .proven()
            .cause(
                "A watchdog, whose reports the program no longer made.",
                Confidence::Likely,
            )
            .or("somebody who wanted a core dump")
            .about(ids(&group))
            .shown_by(first.event, format!("{who} sent SIGABRT"))
            .not("a program that aborts itself", "the sender is another process")
            .remedy(
                "Look what the program waited for (its stack is in the core), or whether it got no processor \
                 or memory; then fix the stall or give the watchdog more time.",
            );
            Some(finding)
        })
        .collect()
}
