//! PID 1 took the stop signal and ended by itself, too early or too late; and shells whose trap has to
//! wait.

use super::attempt::Attempt;
use super::fate::{Holdout, survivors, was_asked};
use super::handled::{passes_on, taken};
use super::programs::{Kind, kind};
use super::reached::SIGNALS;
use super::{asked, ends};
use crate::diagnose::Tagged;
use crate::diagnose::{Case, Finding, Origin, ProcessId};
use crate::event::Event;
use crate::render;

/// The shell took the signal; its trap waits for the foreground command.
pub(super) fn trap_deferred(
    case: &Case,
    attempt: &Attempt<'_>,
    holdout: &Holdout<'_>,
    command: ProcessId,
) -> Tagged {
    let who = case.name(holdout.process);
    let (_, name) = holdout.signal(attempt);
    let verdict = format!(
        "{who} took {name} but runs its trap only when {}, its foreground command, ends: that one never got \
         the signal. {}.",
        case.name(command),
        attempt.killed(case, "Both were")
    );
    let finding = taken(case, attempt, holdout, verdict);
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
    let finding = finding.fact(format!(
        "{} sent no signal to {} meanwhile",
        case.name(shell),
        case.name(command)
    ));
    ends(case, attempt, finding)
        .not("a shell without a trap", "its handler ran")
        .relies_on_all(SIGNALS)
        .remedy(
            "Run the command in the background and wait for it (`PROGRAM & wait $!`): a trap interrupts wait, \
             but not a foreground command. Or `exec PROGRAM`.",
        )
}

/// PID 1 ended by itself: too early for those below it, or late because its trap had to wait.
pub(super) fn ended(case: &Case, attempt: &Attempt<'_>) -> Option<Tagged> {
    let pid1 = attempt.pid1;
    let (exit_event, exit) = case.exit(pid1)?;
    exit.status.code?;
    let holdout = Holdout::of(case, attempt);
    // Whoever it passed the signal on to may be alive still; what counts is PID 1.
    let took = attempt.sent.and_then(|(sent, _)| {
        case.delivered(pid1)
            .find(|(taken, what)| {
                what.signal.number == attempt.signal.number && taken.time_ns >= sent.time_ns
            })
            .map(|(taken, _)| taken)
    });
    let passed = passes_on(case, attempt, pid1);
    let kind = kind(case, pid1);
    let killed: Vec<ProcessId> = survivors(case, attempt, pid1)
        .into_iter()
        .filter(|id| {
            case.killing_signal(*id).is_some_and(|(event, signal)| {
                case.origin(event, signal) == Origin::PidNamespaceEnd
            })
        })
        .collect();
    let took = took?;
    if killed.is_empty() {
        return late_trap(case, attempt, took, exit_event)
            .filter(|_| kind == Kind::Shell && !passed);
    }
    let id = match kind {
        Kind::Shell => "term-shell-wait-interrupted",
        Kind::Wrapper => "term-wrapper-exits-first",
        Kind::Other if passed => "term-wrapper-exits-first",
        Kind::Other => return None,
    };
    let who = case.name(pid1);
    let signal = render::escape(&attempt.signal.name);
    let after = case.between(took, exit_event);
    let status = case.ended(&exit.status);
    let victims = case.names(&killed);
    let verdict = match (kind, passed) {
        (Kind::Shell, true) => format!(
            "The trap of {who} passed {signal} on, but interrupted the shell's wait: it {status}, {after} \
             later, and {victims} was killed in the middle of its shutdown."
        ),
        (Kind::Shell, false) => format!(
            "The trap of {who} ended the shell at {signal} ({status}) without waiting for {victims}, which \
             was killed with it."
        ),
        (_, true) => format!(
            "{who} passed {signal} on and {status}, {after} later, before {victims}, which was killed with \
             the PID namespace in the middle of its shutdown."
        ),
        (_, false) => format!(
            "{who} {status} {after} after {signal} without waiting for {victims}, which was killed with the \
             PID namespace."
        ),
    };
    let mut finding = asked(case, attempt, Finding::new(verdict).about([pid1]))
        .shown_by(took, format!("{who} ran its handler for {signal}"));
    if let Some((event, _)) = holdout.sent.filter(|_| !holdout.is_pid1()) {
        finding = finding.shown_by(
            event,
            format!("it passed the signal on to {}", case.name(holdout.process)),
        );
    }
    let finding = finding
        .shown_by(exit_event, format!("{who} {status}; {victims} still runs"))
        .proven()
        .not("the stop window", "PID 1 ended by itself, before it was over")
        .not(
            "an OOM kill of the rest",
            "the SIGKILL comes from the end of PID 1's namespace",
        )
        .remedy(match kind {
            Kind::Shell => {
                "Wait again after the trap has run, until the program is gone: `while kill -0 $pid; do wait \
                 $pid; done`. Or `exec PROGRAM`, or an init at PID 1."
            }
            _ => {
                "Run the program itself instead of the wrapper, or put an init at PID 1 that waits for all \
                 (tini, dumb-init, procjail --init)."
            }
        });
    Some((id, finding))
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
    let signal = render::escape(&attempt.signal.name);
    let verdict = format!(
        "{who} took {signal} but ran its trap only {} later, when {}, its foreground command, had ended.",
        render::duration(waited),
        case.name(command)
    );
    let finding = asked(case, attempt, Finding::new(verdict).about([pid1]))
        .shown_by(took, format!("{who} ran its handler for {signal}"))
        .shown_by(reap, format!("{} had ended by itself", case.name(command)))
        .shown_by(
            exit,
            format!("{who} ended {} after that", render::duration(then)),
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
