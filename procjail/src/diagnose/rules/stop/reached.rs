//! The stop signal was not taken: PID 1 has no handler for it, or blocks it.

use super::attempt::Attempt;
use super::fate::{Fate, Holdout, has, last_look, looks, survivors, threads_of, was_asked};
use super::handled::not_forwarding;
use super::inherited::{self, Source, source};
use super::programs::{Kind, kind};
use super::{asked, ends, finding, unsignalled, until};
use crate::diagnose::Tagged;
use crate::diagnose::{Case, Confidence, Finding, ProcessId, program_of};
use crate::event::{Disposition, Event, Signal, SignalResult};
use crate::text;

/// What a verdict relies on that says that nothing was taken or passed on.
pub(super) const SIGNALS: &[&str] = &["signal-generated", "signal-delivered"];

/// The kernel drops signals that PID 1 of a PID namespace has no handler for (`sig_task_ignored()` in
/// kernel/signal.c). What PID 1 is tells what to do about it.
pub(super) fn dropped(case: &Case, attempt: &Attempt<'_>) -> Tagged {
    let below = survivors(case, attempt, attempt.pid1);
    let untold: Vec<ProcessId> = below
        .into_iter()
        .filter(|id| !was_asked(case, attempt, *id))
        .collect();
    let caught = caught_instead(case, attempt);
    if let Some(lost) = lost(case, attempt) {
        return lost;
    }
    match kind(case, attempt.pid1) {
        Kind::Shell if !untold.is_empty() => stuck_in_shell(case, attempt, &untold),
        Kind::Wrapper if !untold.is_empty() => not_forwarding(case, attempt, &untold, |verdict| {
            at_pid1(case, attempt, verdict)
        }),
        Kind::Other if !caught.is_empty() => mismatch(case, attempt, &caught),
        _ => pid1_default(case, attempt),
    }
}

/// [`finding`] for PID 1 itself, whose signal was dropped.
fn at_pid1(case: &Case, attempt: &Attempt<'_>, verdict: String) -> Finding {
    let holdout = Holdout {
        process: attempt.pid1,
        sent: attempt.sent,
        path: vec![attempt.pid1],
        fate: Fate::Dropped,
    };
    let fared = "dropped by the kernel, as its action is the default one and the target is PID 1 of its \
                 namespace";
    ends(
        case,
        attempt,
        finding(case, attempt, &holdout, verdict, fared),
    )
}

/// The signal came while PID 1 was another program, or had not installed its handler yet.
fn lost(case: &Case, attempt: &Attempt<'_>) -> Option<Tagged> {
    let (sent, signal) = attempt.sent?;
    let number = signal.signal.number;
    let name = text::escape(&signal.signal.name);
    let pid1 = attempt.pid1;
    let executed = case
        .execs(pid1)
        .find(|(event, _)| event.seq > sent.seq && case.began_ns(event) > sent.time_ns);
    let from = executed.map_or(sent.seq, |(event, _)| event.seq);
    // One that came later met the program that was there then.
    let again = case.received(pid1).any(|(event, later)| {
        event.seq > from && later.signal.number == number && later.result == SignalResult::Ignored
    });
    if again {
        return None;
    }
    let look = looks(case, attempt)
        .filter(|(event, _)| event.seq > from)
        .find(|(_, snapshot)| {
            threads_of(case, snapshot, pid1)
                .iter()
                .any(|thread| has(&thread.caught, number))
        });
    let was = text::escape(&sent_to(case, attempt, sent));
    let fact = match executed {
        Some((event, exec)) => format!(
            "{name} came when PID 1 was {was}, which has no handler for it, and the kernel dropped it; {} later \
             PID 1 executed `{}`, which never got the signal.{}",
            case.between(sent, event),
            text::command_line(&exec.argv, 60),
            until(case, attempt, 1)
        ),
        None => {
            look?;
            format!(
                "{name} came while {was} (PID 1) had no handler for it, and the kernel dropped it; it has one since.{}",
                until(case, attempt, 1)
            )
        }
    };
    let mut finding = at_pid1(case, attempt, fact).proven();
    if let Some((event, exec)) = executed {
        finding = finding.shown_by(
            event,
            format!("PID 1 executed `{}`", text::command_line(&exec.argv, 60)),
        );
    }
    finding = finding.cause(
        "The signal was lost: it came before the program that handles it was ready.",
        match executed.is_some() {
            true => Confidence::Proven,
            false => Confidence::Likely,
        },
    );
    if executed.is_none() {
        finding = finding.or("a handler that the program had taken off for a while");
    }
    if let Some((event, _)) = look {
        finding = finding
            .shown_by(event, format!("PID 1 has a handler for {name}"))
            .not("a program without a handler", "it has one at a later look");
    }
    let finding = finding
        .in_order()
        .not("an ignored signal", "its action was the default one, not SIG_IGN")
        .relies_on_all(&["signal-generated", "signal-delivered", "exec"])
        .remedy(format!(
            "Have PID 1 handle {name} from the start: a trap in the script that runs before the program, an init at \
             PID 1 (procjail --init, tini, dumb-init), or no script at all. Whoever stops it can send the signal again."
        ));
    Some(("term-lost-before-exec", finding))
}

/// The program that PID 1 ran when a signal came.
fn sent_to(case: &Case, attempt: &Attempt<'_>, sent: &Event) -> String {
    let exec = case
        .execs(attempt.pid1)
        .rfind(|(event, _)| event.seq < sent.seq || case.began_ns(event) < sent.time_ns);
    exec.map_or_else(
        || case.process(attempt.pid1).task.comm.clone(),
        |(_, exec)| program_of(&exec.filename).to_owned(),
    )
}

/// PID 1 ran a handler, and sent itself the signal again with the default action.
pub(super) fn reraised(
    case: &Case,
    attempt: &Attempt<'_>,
    holdout: &Holdout<'_>,
    taken: &Event,
    raised: &Event,
) -> Tagged {
    let who = case.name(holdout.process);
    let (_, name) = holdout.signal(attempt);
    let own = ended_itself(case, attempt);
    let then = match &own {
        Some((exit, how)) => format!("it {how} {} later.", case.between(raised, exit)),
        None => format!("it went on.{}", until(case, attempt, 1)),
    };
    let fact = format!(
        "{who} ran its handler for {name}, then set the default action and sent itself {name} after {}. The kernel \
         drops that for PID 1 of a PID namespace: {then}",
        case.between(taken, raised)
    );
    let mut finding = asked(
        case,
        attempt,
        Finding::new(fact).proven().about([holdout.process]),
    )
    .shown_by(taken, format!("{who} ran its handler for {name}"))
    .shown_by(
        raised,
        format!("{name} from itself, with the default action: dropped, as it is PID 1"),
    );
    if let Some((exit, how)) = &own {
        finding = finding.shown_by(exit, format!("{who} {how}"));
    }
    let runtimes =
        "the runtime's handler: the program has none of its own, and the runtime re-raises the signal".to_owned();
    let own =
        "a handler of the program's own re-raises the signal when it has cleaned up".to_owned();
    // A runtime's handler has little to do.
    let (cause, other) = match raised.time_ns.saturating_sub(taken.time_ns) < AT_ONCE_NS {
        true => (runtimes, own),
        false => (own, runtimes),
    };
    let finding = ends(case, attempt, finding)
        .cause(
            format!("It was {cause}. That ends every process but PID 1."),
            Confidence::Likely,
        )
        .or(other)
        .not("an ignored or blocked signal", "a handler took it")
        .relies_on_all(&["exit"])
        .remedy(format!(
            "Put an init at PID 1 (procjail --init, docker run --init, tini), or install a handler for {name} in the \
             program that ends it by exit()."
        ));
    ("term-reraised-pid1", finding)
}

/// A handler that re-raises so soon has done nothing before, nanoseconds.
const AT_ONCE_NS: u64 = 20_000_000;

/// PID 1 ended by an exit code of its own: when, and how.
fn ended_itself<'a>(case: &'a Case, attempt: &Attempt<'_>) -> Option<(&'a Event, String)> {
    let (event, exit) = case.exit(attempt.pid1)?;
    exit.status.code?;
    Some((event, case.did_end(&exit.status)))
}

/// How the signal fared, for the start of a verdict.
fn no_handler(case: &Case, attempt: &Attempt<'_>) -> String {
    format!(
        "{} has no handler for {}, and the kernel drops such signals for PID 1 of a PID namespace",
        case.name(attempt.pid1),
        text::escape(&attempt.signal.name)
    )
}

fn pid1_default(case: &Case, attempt: &Attempt<'_>) -> Tagged {
    let verdict = format!(
        "{}: only SIGKILL ends it.{}",
        no_handler(case, attempt),
        until(case, attempt, 1)
    );
    let finding = at_pid1(case, attempt, verdict)
        .proven()
        .not(
            "an ignored signal",
            "its action is the default one, not SIG_IGN",
        )
        .not(
            "a handler that came too late",
            "there still was none when the grace period expired",
        )
        .relies_on_all(SIGNALS)
        .remedy(format!(
            "Install a handler for {}, or put an init at PID 1 that passes it on (procjail --init, \
             tini, dumb-init): a process that is not PID 1 ends by it without a handler.",
            text::escape(&attempt.signal.name)
        ));
    ("term-ignored-pid1-default", finding)
}

/// PID 1 is a shell without a trap. `sh -c` with a single command executes it in its own place; then
/// PID 1 is the program, and not a shell.
fn stuck_in_shell(case: &Case, attempt: &Attempt<'_>, untold: &[ProcessId]) -> Tagged {
    let signal = text::escape(&attempt.signal.name);
    let verdict = format!(
        "{} is a shell without a trap for {signal}: it neither ended nor passed the signal on, and {} \
         never got it.{}",
        case.name(attempt.pid1),
        case.names(untold),
        until(case, attempt, untold.len() + 1)
    );
    let finding = at_pid1(case, attempt, verdict)
        .proven()
        .fact(unsignalled(case, untold))
        .not(
            "a shell that became the program",
            "its last exec is that of the shell, and the program is a process of its own",
        )
        .not("a trap that waits", "the shell has no handler")
        .relies_on_all(SIGNALS)
        .remedy(
            "Start the program directly (exec form), or with `exec PROGRAM` in the script; where a shell \
             must stay, run the program in the background, trap the signal, pass it on, and wait.",
        );
    ("term-stuck-in-shell", finding)
}

/// Other signals that ask to stop and that PID 1 has handlers for. Interpreters have one for SIGINT
/// whatever they run, so that alone says little about a program that doesn't handle SIGTERM.
fn caught_instead<'a>(case: &'a Case, attempt: &Attempt<'_>) -> Vec<&'a Signal> {
    let asks = |number: i32| {
        matches!(number, libc::SIGTERM | libc::SIGQUIT | libc::SIGWINCH)
            || number == libc::SIGRTMIN() + 3
            || (number == libc::SIGINT && attempt.signal.number != libc::SIGTERM)
    };
    let seen = looks(case, attempt)
        .flat_map(|(_, snapshot)| threads_of(case, snapshot, attempt.pid1))
        .flat_map(|thread| &thread.caught);
    let sent = case
        .received(attempt.pid1)
        .filter(|(_, signal)| signal.disposition == Disposition::Handler)
        .map(|(_, signal)| &signal.signal);
    let mut caught: Vec<&Signal> = seen
        .chain(sent)
        .filter(|signal| asks(signal.number) && signal.number != attempt.signal.number)
        .collect();
    caught.sort_by_key(|signal| signal.number);
    caught.dedup_by_key(|signal| signal.number);
    caught
}

fn mismatch(case: &Case, attempt: &Attempt<'_>, caught: &[&Signal]) -> Tagged {
    let names: Vec<String> = caught
        .iter()
        .map(|signal| text::escape(&signal.name))
        .collect();
    let signal = text::escape(&attempt.signal.name);
    let verdict = format!(
        "The stop signal {signal} is not one that {} reacts to: it has no handler for it, but it has one \
         for {}.{}",
        case.name(attempt.pid1),
        names.join(", "),
        until(case, attempt, 1)
    );
    let mut finding = at_pid1(case, attempt, verdict).proven();
    let look = looks(case, attempt).find(|(_, snapshot)| {
        threads_of(case, snapshot, attempt.pid1)
            .iter()
            .any(|thread| caught.iter().any(|one| has(&thread.caught, one.number)))
    });
    if let Some((event, _)) = look {
        finding = finding.shown_by(event, format!("it has handlers for {}", names.join(", ")));
    }
    let finding = finding
        .in_order()
        .not(
            "a program without any handler",
            "it has handlers for other signals that ask to stop",
        )
        .relies_on_all(SIGNALS)
        .remedy(format!(
            "Stop it with {} (procjail --stop-signal, STOPSIGNAL of an image), or let it handle {signal} \
             as well.",
            names.first().map_or("SIGTERM", String::as_str)
        ));
    ("stop-signal-mismatch", finding)
}

/// Blocked in every thread, and nobody waits for it.
pub(super) fn blocked(case: &Case, attempt: &Attempt<'_>, holdout: &Holdout<'_>) -> Tagged {
    let who = case.name(holdout.process);
    let (number, name) = holdout.signal(attempt);
    let verdict = format!(
        "{who} blocks {name}, and nothing in it waits for it: the signal stayed pending.{}",
        until(case, attempt, 1)
    );
    let finding = finding(case, attempt, holdout, verdict, "queued, as it is blocked");
    let finding = match last_look(case, attempt, holdout.process) {
        Some((event, threads)) if threads.iter().any(|one| has(&one.pending, number)) => {
            let all = threads.iter().all(|thread| has(&thread.blocked, number));
            let shown = finding.shown_by(
                event,
                format!(
                    "{name} is still pending, and blocked in {}",
                    match (all, threads.len()) {
                        (true, 1) => "its only thread".to_owned(),
                        (true, count) => format!("all of its {count} threads"),
                        (false, _) => "some of its threads".to_owned(),
                    }
                ),
            );
            match all {
                true => shown.proven().not(
                    "a program that waits for signals (sigwait, signalfd)",
                    "that would have taken it; it is still pending",
                ),
                false => shown,
            }
        }
        // It may have been waited for, for all that is known.
        _ => finding.consistent().fact("no handler ran for it"),
    };
    let finding = match source(case, holdout.process, number, inherited::blocked) {
        Some(Source::Other(by, over)) => finding
            .shown_by(over, format!("its program started with {name} blocked"))
            .cause(
                format!("It inherited the mask from {by}: a mask survives fork and exec."),
                Confidence::Proven,
            )
            .not(
                "a mask of its own",
                "it was blocked when its program started",
            ),
        Some(Source::Itself(start)) => finding.fact_alone().shown_by(
            start,
            format!("{}, {name} was not blocked", inherited::when(start)),
        ),
        None => finding.fact_alone(),
    };
    let finding = ends(case, attempt, finding)
        .not("an ignored signal", "a blocked signal is queued, not dropped")
        .relies_on_all(SIGNALS)
        .remedy(
            "Unblock the signal, or reset the mask before the exec: it is inherited. A thread that waits for \
             signals (sigwait, signalfd) has to be running when the stop comes.",
        );
    ("term-blocked", finding)
}
