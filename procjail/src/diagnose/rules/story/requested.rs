//! PID 1 was asked to stop, and did.

use crate::diagnose::rules::exit;
use crate::diagnose::rules::stop::attempt::{Attempt, asks_to_stop};
use crate::diagnose::rules::stop::{
    as_before, killed_with_pid1, left_to_die, passed_on_in_words, taken_at,
};
use crate::diagnose::{Case, Confidence, Finding, Origin, ProcessId, program_of};
use crate::event::{Disposition, Event, Exit, ForwardAction, Signal, SignalResult};
use crate::text;

/// How long before PID 1's end a signal may have come that is not known to ask for a stop, nanoseconds.
const LONG_NS: u64 = 10_000_000_000;

/// What the end may have come from instead.
pub(super) const ELSE: &str = "an end for another reason";

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
    let name = text::escape(&attempt.signal.name);
    let (took, how) = took(case, attempt, exit)?;
    let asked = attempt.request_in_words(case);
    let mut steps = vec![how.to_owned()];
    steps.extend(passed_on_in_words(case, attempt));
    let mut fact = format!(
        "{asked}. {who} {} and {} {} after the request.",
        steps.join(", "),
        case.did_end(&exit.status),
        case.between(attempt.asked, event)
    );
    let by_default = ended_by(case, attempt);
    if !by_default.is_empty() {
        fact += &format!(
            " {name} ended {}, which had no handler for it.",
            case.names(&by_default)
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
        because(case, attempt, exit, finding)
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
        return queued.then_some((Some(event), "had it blocked (as for sigwait or signalfd)"));
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

/// The processes that the stop signal ended when PID 1 had passed it on, as they have no handler for it.
fn ended_by(case: &Case, attempt: &Attempt<'_>) -> Vec<ProcessId> {
    let by_default = |id: &ProcessId| {
        case.killing_signal(*id).is_some_and(|(event, signal)| {
            attempt.spans(case, event)
                && signal.signal.number == attempt.signal.number
                && signal.disposition == Disposition::Default
                && case.process_of(&event.task) == Some(attempt.pid1)
        })
    };
    let mut ended: Vec<ProcessId> = case.deaths().into_iter().filter(by_default).collect();
    ended.sort();
    ended
}

/// Why PID 1 exited, with what else it may have been: a handler that only takes note is not seen from outside.
fn because(case: &Case, attempt: &Attempt<'_>, exit: &Exit, finding: Finding) -> Finding {
    let name = text::escape(&attempt.signal.name);
    if exit.status.signal.is_some() {
        return finding.not(ELSE, format!("{name} itself ended it"));
    }
    let failure = exit::failed_otherwise(case, attempt.pid1, attempt.asked.time_ns)
        .filter(|_| exit.status.code != Some(128 + attempt.signal.number));
    let same = as_before(case, attempt);
    let confidence = match failure.is_some() || same.is_some() {
        true => Confidence::ConsistentWith,
        false => Confidence::Likely,
    };
    let mut finding = finding.cause(format!("It ended because of the {name}."), confidence);
    if let Some(line) = failure {
        finding = finding.or(format!(
            "what it wrote to stderr after that: `{}`",
            text::escape(&line)
        ));
    }
    if let Some(look) = same {
        finding = finding.shown_by(
            look,
            "it waited in the same call, with the same stack, as before the signal",
        );
    }
    finding.or(ELSE)
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
        text::escape(program),
        case.between(held, sent),
        text::escape(&signal.signal.name)
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
    let name = text::escape(&signal.signal.name);
    let how = match taken {
        Some(_) => "ran its handler",
        None if signal.blocked => "had it blocked (as for sigwait or signalfd)",
        None => "has a handler for it",
    };
    let start = match case.origin(sent, signal) {
        Origin::Itself => format!("{who} sent itself {name},"),
        Origin::TerminalKey => format!("A key at the terminal sent {name} to {who}, which"),
        Origin::Hangup => format!("The hangup of the terminal sent {name} to {who}, which"),
        _ => format!("{} sent {name} to {who}, which", case.who(&sent.task)),
    };
    let fact = format!(
        "{start} {how} and {} {} later.",
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
            .or(ELSE),
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
