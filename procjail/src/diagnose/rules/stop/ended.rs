//! PID 1 took the stop signal and ended by itself, too early or too late; and shells whose trap has to
//! wait.

use std::collections::BTreeMap;

use super::activity::{Activity, Look, Place, call_of, waits_for_events};
use super::attempt::Attempt;
use super::fate::{Holdout, has, reraised, survivors, was_asked};
use super::handled::taken;
use super::programs::{Kind, kind};
use super::reached::{self, SIGNALS};
use super::{asked, ends};
use crate::diagnose::Tagged;
use crate::diagnose::{Case, Confidence, Finding, Origin, ProcessId};
use crate::event::{Disposition, Event, SignalGenerated};
use crate::text;

/// The shell took the signal; its trap waits for the foreground command.
pub(super) fn trap_deferred(
    case: &Case,
    attempt: &Attempt<'_>,
    holdout: &Holdout<'_>,
    command: ProcessId,
) -> Tagged {
    let who = case.name(holdout.process);
    let (_, name) = holdout.signal(attempt);
    let fact = format!(
        "{who} ran its handler for {name} and did not end; {}, the last child that it started, never got a signal. {}.",
        case.name(command),
        attempt.killed(case, "Both were")
    );
    let look = Activity::of(case, attempt, holdout);
    let mut finding = taken(case, attempt, holdout, fact);
    if let Some((last, main)) = look
        .last
        .as_ref()
        .and_then(|last| Some((last, last.main()?)))
    {
        finding = finding.proven().shown_by(
            last.event,
            format!("{who} waits for a child ({})", text::escape(call_of(main))),
        );
    }
    (
        "term-shell-trap-deferred",
        deferred(case, attempt, holdout.process, finding, command),
    )
}

fn deferred(
    case: &Case,
    attempt: &Attempt<'_>,
    shell: ProcessId,
    finding: Finding,
    command: ProcessId,
) -> Finding {
    let finding = finding
        .fact(format!(
            "{} sent no signal to {} meanwhile",
            case.name(shell),
            case.name(command)
        ))
        .cause(
            format!(
                "A shell runs a trap only when its foreground command has ended, and waits for {}.",
                case.name(command)
            ),
            Confidence::Proven,
        );
    ends(case, attempt, finding)
        .not("a shell without a trap", "its handler ran")
        .relies_on_all(SIGNALS)
        .remedy(
            "Run the command in the background and wait for it (`PROGRAM & wait $!`): a trap interrupts wait, \
             but not a foreground command. Or `exec PROGRAM`.",
        )
}

/// PID 1 ended by itself: too early for those below it, late because its trap had to wait, or with another code
/// than it meant to.
pub(super) fn ended(case: &Case, attempt: &Attempt<'_>) -> Option<Tagged> {
    let pid1 = attempt.pid1;
    let (exit_event, exit) = case.exit(pid1)?;
    let code = exit.status.code?;
    let took = taken_at(case, attempt)?;
    let told = told_by(case, attempt, pid1);
    let kind = kind(case, pid1);
    if kind == Kind::Shell
        && told.is_empty()
        && let Some(late) = late_trap(case, attempt, took, exit_event)
    {
        return Some(late);
    }
    let killed: Vec<ProcessId> = killed_with_pid1(case, attempt)
        .into_iter()
        .filter(|id| !outlasts(case, attempt, *id))
        .collect();
    if killed.is_empty() {
        let (raised, _) = reraised(case, pid1, attempt.signal.number, took)?;
        let soon = exit_event.time_ns.saturating_sub(raised.time_ns) <= SOON_NS;
        let holdout = Holdout::of(case, attempt);
        // Who tells others to end has a handler that ends the program, and the code is its own.
        let own = told.is_empty();
        return (own && code != 0 && code != 128 + attempt.signal.number && soon)
            .then(|| reached::reraised(case, attempt, &holdout, took, raised));
    }
    let id = match kind {
        Kind::Shell => "term-shell-wait-interrupted",
        Kind::Wrapper => "term-wrapper-exits-first",
        Kind::Other if !told.is_empty() => "term-wrapper-exits-first",
        Kind::Other => return None,
    };
    let who = case.name(pid1);
    let signal = text::escape(&attempt.signal.name);
    let after = case.between(took, exit_event);
    let status = case.did_end(&exit.status);
    let passed = match told.is_empty() {
        true => "passed it on to no process".to_owned(),
        false => passed_on_in_words(case, attempt).join(", "),
    };
    let fact = format!(
        "{who} ran its handler for {signal}, {passed}, and {status} {after} later; {}.",
        left_to_die(case, attempt, &killed)
    );
    let mut finding = asked(case, attempt, Finding::new(fact).about([pid1]))
        .shown_by(took, format!("{who} ran its handler for {signal}"));
    for (event, sent) in case
        .sent(pid1)
        .filter(|(event, sent)| is_told(case, attempt, pid1, event, sent))
        .take(3)
    {
        let target = case.task_name(&sent.target);
        finding = finding.shown_by(
            event,
            format!("it sent {} to {target}", text::escape(&sent.signal.name)),
        );
    }
    for (event, ended) in told
        .iter()
        .take(3)
        .filter_map(|id| case.exit(*id))
        .filter(|(event, _)| event.seq < exit_event.seq)
    {
        finding = finding.shown_by(
            event,
            format!(
                "{} {}",
                case.task_name(&event.task),
                case.did_end(&ended.status)
            ),
        );
    }
    let finding = finding
        .shown_by(exit_event, format!("{who} {status}; {} still ran", case.names(&killed)))
        .in_order()
        .proven()
        .cause(
            match kind {
                Kind::Shell => "The trap interrupts the shell's wait, and the script goes on to its end.",
                _ => "It does not wait for all that runs below it.",
            },
            Confidence::Likely,
        )
        .or(match kind {
            Kind::Shell => "a trap that ends the script on purpose",
            _ => "it waited for its own child, and that one left the rest behind",
        })
        .not("the end of the grace period", "PID 1 ended by itself, before that")
        .not(
            "an OOM kill of the rest",
            "the SIGKILL comes from the end of PID 1's namespace",
        )
        .relies_on_all(SIGNALS)
        .remedy(match kind {
            Kind::Shell => {
                "Wait again after the trap has run, until the program is gone: `while kill -0 $pid; do wait \
                 $pid; done`. Or `exec PROGRAM`, or an init at PID 1."
            }
            _ => {
                "Run the program itself instead of the wrapper, or put an init at PID 1 that signals the whole group \
                 and waits for all (tini -g, dumb-init)."
            }
        });
    Some((id, finding))
}

/// A helper that ignores what asks it to stop, and so waits for its maker's end by itself.
fn outlasts(case: &Case, attempt: &Attempt<'_>, id: ProcessId) -> bool {
    let activity = Activity::of_process(case, attempt, id);
    let ignores = |look: &Look<'_>| {
        look.main()
            .is_some_and(|thread| has(&thread.ignored, attempt.signal.number))
    };
    activity.before.as_ref().is_some_and(ignores) && !was_asked(case, attempt, id)
}

/// An exit so soon after the signal that a process sent itself comes from it, nanoseconds.
const SOON_NS: u64 = 1_000_000_000;

/// When PID 1's handler for the stop signal ran.
pub(in crate::diagnose::rules) fn taken_at<'a>(
    case: &'a Case,
    attempt: &Attempt<'a>,
) -> Option<&'a Event> {
    let (sent, _) = attempt.sent?;
    case.delivered(attempt.pid1)
        .find(|(taken, what)| {
            what.signal.number == attempt.signal.number
                && what.disposition == Disposition::Handler
                && taken.time_ns >= sent.time_ns
        })
        .map(|(taken, _)| taken)
}

/// A process sent that signal on to another, within the attempt.
fn is_told(
    case: &Case,
    attempt: &Attempt<'_>,
    from: ProcessId,
    event: &Event,
    sent: &SignalGenerated,
) -> bool {
    attempt.spans(case, event)
        && !matches!(sent.signal.number, libc::SIGCHLD | libc::SIGCONT)
        && case.process_of(&sent.target) != Some(from)
        && case.origin(event, sent) == Origin::Process
}

/// The processes that one sent signals on to.
fn told_by(case: &Case, attempt: &Attempt<'_>, from: ProcessId) -> Vec<ProcessId> {
    let mut told: Vec<ProcessId> = case
        .sent(from)
        .filter(|(event, sent)| is_told(case, attempt, from, event, sent))
        .filter_map(|(_, sent)| case.process_of(&sent.target))
        .collect();
    told.sort();
    told.dedup();
    told
}

/// What PID 1 sent on within the attempt, in words: `passed it on to a (PID 2)`, `sent SIGQUIT to b (PID 3)`. One for
/// each signal, the stop signal first.
pub(in crate::diagnose::rules) fn passed_on_in_words(
    case: &Case,
    attempt: &Attempt<'_>,
) -> Vec<String> {
    let mut told: BTreeMap<(bool, i32), (String, Vec<ProcessId>)> = BTreeMap::new();
    for (event, sent) in case.sent(attempt.pid1) {
        let Some(target) = case
            .process_of(&sent.target)
            .filter(|_| is_told(case, attempt, attempt.pid1, event, sent))
        else {
            continue;
        };
        let number = sent.signal.number;
        let (_, targets) = told
            .entry((number != attempt.signal.number, number))
            .or_insert_with(|| (text::escape(&sent.signal.name), Vec::new()));
        if !targets.contains(&target) {
            targets.push(target);
        }
    }
    told.into_iter()
        .map(|((other, _), (name, targets))| match other {
            true => format!("sent {name} to {}", case.names(&targets)),
            false => format!("passed it on to {}", case.names(&targets)),
        })
        .collect()
}

/// The last look at PID 1, if it was doing there what it did before the signal, and nothing that the stop waits for: it
/// sent no signal on, and waited in the same call with the same stack.
pub(in crate::diagnose::rules) fn as_before<'a>(
    case: &'a Case,
    attempt: &Attempt<'_>,
) -> Option<&'a Event> {
    let activity = Activity::of_process(case, attempt, attempt.pid1);
    let main = activity.main()?;
    let same = activity.place() == Some(Place::Same) && activity.same_calls() == Some(true);
    (same && !waits_for_events(main) && told_by(case, attempt, attempt.pid1).is_empty())
        .then_some(activity.last?.event)
}

/// The processes that were there at the request and were killed when PID 1 had ended.
pub(in crate::diagnose::rules) fn killed_with_pid1(
    case: &Case,
    attempt: &Attempt<'_>,
) -> Vec<ProcessId> {
    let by_end = |id: &ProcessId| {
        case.killing_signal(*id)
            .is_some_and(|(event, signal)| case.origin(event, signal) == Origin::PidNamespaceEnd)
    };
    survivors(case, attempt, attempt.pid1)
        .into_iter()
        .filter(by_end)
        .collect()
}

/// What the processes that PID 1 left had got, for the end of a sentence.
pub(in crate::diagnose::rules) fn left_to_die(
    case: &Case,
    attempt: &Attempt<'_>,
    killed: &[ProcessId],
) -> String {
    let ran = |id: &ProcessId| {
        case.delivered(*id).any(|(event, what)| {
            event.time_ns >= attempt.asked.time_ns
                && what.disposition == Disposition::Handler
                && what.signal.number != libc::SIGCHLD
        })
    };
    let (running, rest): (Vec<ProcessId>, Vec<ProcessId>) = killed.iter().partition(|id| ran(id));
    let (got, untold): (Vec<ProcessId>, Vec<ProcessId>) = rest
        .into_iter()
        .partition(|id| was_asked(case, attempt, *id));
    let kinds = [
        (running, "whose handler had run, "),
        (got, "which had got a signal, "),
        (untold, "which never got a signal, "),
    ];
    let parts: Vec<String> = kinds
        .iter()
        .filter(|(ids, _)| !ids.is_empty())
        .map(|(ids, what)| {
            let was = if ids.len() == 1 { "was" } else { "were" };
            format!(
                "{}, {what}{was} killed with the PID namespace",
                case.names(ids)
            )
        })
        .collect();
    parts.join("; ")
}

/// The trap ran only after the foreground command had ended: late, but the shell stopped.
fn late_trap(case: &Case, attempt: &Attempt<'_>, took: &Event, exit: &Event) -> Option<Tagged> {
    const SHORT_NS: u64 = 200_000_000;
    let pid1 = attempt.pid1;
    let (reap, command) = case
        .process(pid1)
        .children
        .iter()
        .filter(|child| case.born_ns(**child) <= attempt.asked.time_ns)
        .filter_map(|child| Some((case.reap(*child)?.0, *child)))
        .filter(|(reap, _)| reap.seq > took.seq && reap.seq < exit.seq)
        .max_by_key(|(reap, _)| reap.seq)?;
    let waited = reap.time_ns.saturating_sub(took.time_ns);
    let then = exit.time_ns.saturating_sub(reap.time_ns);
    if waited < SHORT_NS || then > SHORT_NS || was_asked(case, attempt, command) {
        return None;
    }
    let who = case.name(pid1);
    let signal = text::escape(&attempt.signal.name);
    let left = killed_with_pid1(case, attempt);
    let rest = match left.is_empty() {
        true => String::new(),
        false => format!(" {}.", left_to_die(case, attempt, &left)),
    };
    let verdict = format!(
        "{who} took {signal} but ended only {} later, when {}, its foreground command, had ended.{rest}",
        text::duration(waited),
        case.name(command)
    );
    let finding = asked(case, attempt, Finding::new(verdict).about([pid1]))
        .shown_by(took, format!("{who} ran its handler for {signal}"))
        .shown_by(reap, format!("{} had ended by itself", case.name(command)))
        .shown_by(
            exit,
            format!("{who} ended {} after that", text::duration(then)),
        );
    Some((
        "term-shell-trap-deferred",
        deferred(case, attempt, pid1, finding, command)
            .proven()
            .not(
                "a trap that does nothing",
                "the shell ended as soon as the command had, and not by its own",
            ),
    ))
}
