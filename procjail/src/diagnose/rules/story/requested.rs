//! PID 1 was asked to stop, and did.

use crate::diagnose::rules::stop::attempt::{Attempt, asks_to_stop};
use crate::diagnose::rules::stop::{killed_with_pid1, left_to_die, taken_at, told_by};
use crate::diagnose::{Case, Confidence, Finding, Origin, ProcessId, program_of};
use crate::event::{
    Disposition, Event, Exit, ForwardAction, Signal, SignalGenerated, SignalResult,
};
use crate::render;

/// How long before PID 1's end a signal may have come that is not known to ask for a stop, nanoseconds.
const LONG_NS: u64 = 10_000_000_000;

/// Who asked, with what, and how it went.
pub(super) fn ended(case: &Case) -> Option<Finding> {
    let pid1 = case.pid1()?;
    let (event, exit) = case.exit(pid1)?;
    match Attempt::of(case) {
        Some(attempt) if attempt.forced.is_none() && answers(&attempt.signal.number, exit) => {
            by_request(case, &attempt, event, exit)
        }
        Some(_) => None,
        None => by_signal(case, pid1, event, exit),
    }
}

/// PID 1 exited, or the signal itself ended it.
fn answers(number: &i32, exit: &Exit) -> bool {
    exit.status
        .signal
        .as_ref()
        .is_none_or(|signal| signal.number == *number)
}

/// A stop was asked for: of procjail, or by a signal to PID 1 that stands for one.
fn by_request(case: &Case, attempt: &Attempt<'_>, event: &Event, exit: &Exit) -> Option<Finding> {
    let who = case.name(attempt.pid1);
    let name = render::escape(&attempt.signal.name);
    let (took, how) = took(case, attempt, exit)?;
    let asked = attempt.request_in_words(case);
    let told = told_by(case, attempt, attempt.pid1);
    let passed = match told.is_empty() {
        true => String::new(),
        false => format!(", passed it on to {}", case.names(&told)),
    };
    let mut fact = format!(
        "{asked}. {who} {how}{passed}{} {} {} after the request.",
        if passed.is_empty() { " and" } else { ", and" },
        case.did_end(&exit.status),
        case.between(attempt.asked, event)
    );
    let by_default: Vec<ProcessId> = told
        .iter()
        .filter(|id| ended_by(case, **id, attempt))
        .copied()
        .collect();
    if !by_default.is_empty() {
        fact += &format!(
            " {name} ended {}, which {} no handler for it.",
            case.names(&by_default),
            if by_default.len() == 1 { "has" } else { "have" }
        );
    }
    let left = killed_with_pid1(case, attempt);
    if !left.is_empty() {
        fact += &format!(" Left behind: {}.", left_to_die(case, attempt, &left));
    }
    let mut remedy = match left.is_empty() {
        true => String::new(),
        false => "Have PID 1 end what runs below it and wait for it before it exits; some supervisors do so at another \
                  signal than this one."
            .to_owned(),
    };
    if let Some(held) = held(case, attempt) {
        fact += &format!(" {held}");
        remedy = "Have PID 1 handle the signal from its start on. procjail trace --stop-as-is passes it on at once, as \
                  other runtimes do, and shows what is lost."
            .to_owned();
    }
    let mut finding = Finding::new(fact).shown_by(attempt.asked, asked);
    if let Some(took) = took {
        finding = finding.shown_by(took, format!("{who} {how}"));
    }
    for (event, _) in by_default.iter().take(3).filter_map(|id| case.exit(*id)) {
        finding = finding.shown_by(event, format!("{} ended", case.task_name(&event.task)));
    }
    finding = finding.shown_by(event, format!("{who} {}", case.did_end(&exit.status)));
    Some(
        finding
            .proven()
            .about([attempt.pid1])
            .in_order()
            .not(
                "a kill at the end of the grace period",
                "PID 1 ended before that",
            )
            .relies_on_all(&["signal-generated"])
            .remedy(remedy),
    )
}

/// How PID 1 took the signal: the event, and in words. None if it never did.
fn took<'a>(
    case: &'a Case,
    attempt: &Attempt<'a>,
    exit: &Exit,
) -> Option<(Option<&'a Event>, &'static str)> {
    if let Some(event) = taken_at(case, attempt) {
        return Some((Some(event), "ran its handler"));
    }
    if exit.status.signal.is_some() {
        return Some((
            attempt.sent.map(|(event, _)| event),
            "had no handler for it",
        ));
    }
    if let Some((event, signal)) = attempt.sent {
        let queued = signal.result == SignalResult::Delivered && signal.blocked;
        return queued.then_some((
            Some(event),
            "had it blocked, as programs do that wait for it with sigwait or signalfd",
        ));
    }
    // Of signals that do nothing by default the trace has the launcher's word only.
    case.forwards()
        .find(|(event, forwarded)| {
            event.seq > attempt.asked.seq
                && forwarded.action == ForwardAction::Forwarded
                && forwarded.signal.number == attempt.signal.number
        })
        .map(|(event, _)| (Some(event), "was sent it"))
}

/// The signal that PID 1 passed on ended a process, which had no handler for it.
fn ended_by(case: &Case, id: ProcessId, attempt: &Attempt<'_>) -> bool {
    case.killing_signal(id).is_some_and(|(event, signal)| {
        attempt.spans(case, event)
            && signal.signal.number != libc::SIGKILL
            && signal.disposition == Disposition::Default
    })
}

/// procjail held the signal until there was a handler for it: a sentence on that.
fn held(case: &Case, attempt: &Attempt<'_>) -> Option<String> {
    let held = attempt.held?;
    let (sent, signal) = attempt.sent?;
    if signal.disposition != Disposition::Handler {
        return None;
    }
    let program = case
        .execs(attempt.pid1)
        .rfind(|(event, _)| event.seq < held.seq)
        .map_or("the program", |(_, exec)| program_of(&exec.filename));
    Some(format!(
        "When it was asked, PID 1 was {} and had no handler, so procjail held the signal for {}; outside procjail this \
         {} would have been lost.",
        render::escape(program),
        case.between(held, sent),
        render::escape(&signal.signal.name)
    ))
}

/// A signal that may have made PID 1 exit: one from itself, or one that does not always mean a stop.
fn by_signal(case: &Case, pid1: ProcessId, event: &Event, exit: &Exit) -> Option<Finding> {
    let (sent, signal) = case.received(pid1).rev().find(|(sent, signal)| {
        sent.seq < event.seq
            && event.time_ns - sent.time_ns <= LONG_NS
            && may_ask(&signal.signal)
            && signal.result == SignalResult::Delivered
            && (signal.disposition == Disposition::Handler || signal.blocked)
            && matches!(
                case.origin(sent, signal),
                Origin::Process | Origin::Itself | Origin::TerminalKey | Origin::Hangup
            )
            && answers(&signal.signal.number, exit)
    })?;
    let taken = case
        .delivery_of(sent)
        .filter(|(_, taken)| taken.disposition == Disposition::Handler);
    let who = case.name(pid1);
    let name = render::escape(&signal.signal.name);
    let from = sender(case, sent, signal);
    let start = match case.origin(sent, signal) {
        Origin::Itself => format!("{who} sent itself {name}. It"),
        _ => format!("{from} sent {name} to {who}, which"),
    };
    let fact = format!(
        "{start} {} and {} {} later.",
        match taken {
            Some(_) => "ran its handler",
            None => "had it blocked, as programs do that wait for it with sigwait or signalfd,",
        },
        case.did_end(&exit.status),
        case.between(sent, event)
    );
    let mut finding = Finding::new(fact)
        .proven()
        .about([pid1])
        .shown_by(sent, format!("{name} to {who}"));
    if let Some((taken, _)) = taken {
        finding = finding.shown_by(taken, format!("{who} ran its handler for {name}"));
    }
    Some(
        finding
            .shown_by(event, format!("{who} {}", case.did_end(&exit.status)))
            .cause(
                format!("It ended because of the {name}."),
                Confidence::Likely,
            )
            .or("an end for another reason"),
    )
}

fn may_ask(signal: &Signal) -> bool {
    asks_to_stop(signal.number)
        || matches!(
            signal.number,
            libc::SIGHUP | libc::SIGUSR1 | libc::SIGUSR2 | libc::SIGPWR | libc::SIGWINCH
        )
        || signal.number >= libc::SIGRTMIN()
}

/// Who sent it.
fn sender(case: &Case, sent: &Event, signal: &SignalGenerated) -> String {
    match case.origin(sent, signal) {
        Origin::TerminalKey => "A key at the terminal".to_owned(),
        Origin::Hangup => "The hangup of the terminal".to_owned(),
        _ => case.who(&sent.task),
    }
}
