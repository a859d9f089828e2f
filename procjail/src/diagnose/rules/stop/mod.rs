//! A stop was requested, and the program did not stop.
//!
//! An [`Attempt`](attempt::Attempt) is looked at once: the signal is followed from PID 1 to the process
//! that held the stop up, and what became of it there decides. So there is one verdict at most on why
//! a stop ended by force, and the kill follows from it.

pub(super) mod attempt;
mod ended;
mod fate;
mod handled;
mod ignored;
mod pending;
mod programs;
mod reached;
mod target;
#[cfg(test)]
mod tests;

use crate::diagnose::{Case, Finding, ProcessId, Rule};
use crate::render;
use attempt::Attempt;
use fate::{Fate, Holdout};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "term-ignored-pid1-default",
        about: "PID 1 has no handler for the stop signal, so the kernel drops it: only SIGKILL ends it",
        find: |case| why(case, "term-ignored-pid1-default"),
    },
    Rule {
        id: "term-stuck-in-shell",
        about: "PID 1 is a shell that neither ended nor passed the stop signal on to the program it waits for",
        find: |case| why(case, "term-stuck-in-shell"),
    },
    Rule {
        id: "term-shell-trap-deferred",
        about: "a shell took the stop signal, but runs its trap only when the foreground command ends",
        find: |case| why(case, "term-shell-trap-deferred"),
    },
    Rule {
        id: "term-shell-wait-interrupted",
        about: "the trap interrupted the shell's wait; it ended at once, and the program was killed with it",
        find: |case| why(case, "term-shell-wait-interrupted"),
    },
    Rule {
        id: "term-blocked",
        about: "the stop signal is blocked: it stays pending, and nobody takes it",
        find: |case| why(case, "term-blocked"),
    },
    Rule {
        id: "term-ignored-inherited",
        about: "the program ignores the stop signal because the one before it did: that survives an exec",
        find: |case| why(case, "term-ignored-inherited"),
    },
    Rule {
        id: "term-ignored-by-choice",
        about: "the program itself ignores the stop signal",
        find: |case| why(case, "term-ignored-by-choice"),
    },
    Rule {
        id: "term-handler-no-exit",
        about: "the handler ran, and the program went on as before until it was killed",
        find: |case| why(case, "term-handler-no-exit"),
    },
    Rule {
        id: "term-slow-shutdown",
        about: "the shutdown made progress, but needed more time than it was given",
        find: |case| why(case, "term-slow-shutdown"),
    },
    Rule {
        id: "term-shutdown-cpu-throttled",
        about: "the CPU limit held the shutdown back most of the time that it was given",
        find: |case| why(case, "term-shutdown-cpu-throttled"),
    },
    Rule {
        id: "term-wrapper-not-forwarding",
        about: "a wrapper such as npm got the stop signal and did not pass it on",
        find: |case| why(case, "term-wrapper-not-forwarding"),
    },
    Rule {
        id: "term-wrapper-exits-first",
        about: "a wrapper ended before the program below it, which was killed with the PID namespace",
        find: |case| why(case, "term-wrapper-exits-first"),
    },
    Rule {
        id: "stop-signal-mismatch",
        about: "the stop signal is not the one that the program reacts to",
        find: |case| why(case, "stop-signal-mismatch"),
    },
    Rule {
        id: "term-pending-stopped",
        about: "the process is stopped (SIGSTOP and the like), so its handler waits for SIGCONT",
        find: |case| why(case, "term-pending-stopped"),
    },
    Rule {
        id: "term-pending-frozen",
        about: "the cgroup is frozen, so signals wait for its thaw",
        find: |case| why(case, "term-pending-frozen"),
    },
    Rule {
        id: "term-pending-uninterruptible",
        about: "the process is in uninterruptible sleep, so the signal waits behind that",
        find: |case| why(case, "term-pending-uninterruptible"),
    },
    Rule {
        id: "term-wrong-target",
        about: "the stop signal went to another process than the one that should stop",
        find: |case| why(case, "term-wrong-target"),
    },
    Rule {
        id: "term-not-sent",
        about: "SIGKILL came without a stop signal before it, or without time to obey one",
        find: target::not_sent,
    },
];

/// A finding, and the rule that it belongs to.
type Verdict = (&'static str, Finding);

/// Why the stop did not go as it should, if that is what the rule of that id finds.
fn why(case: &Case, id: &str) -> Vec<Finding> {
    let verdict = match Attempt::of(case) {
        Some(attempt) if attempt.forced.is_some() => forced(case, &attempt),
        Some(attempt) => not_forced(case, &attempt),
        None => target::wrong(case),
    };
    verdict
        .filter(|(found, _)| *found == id)
        .map(|(_, finding)| finding)
        .into_iter()
        .collect()
}

/// The attempt ended by force: what held it up?
fn forced(case: &Case, attempt: &Attempt<'_>) -> Option<Verdict> {
    if attempt
        .kill
        .is_some_and(|(_, kill)| kill.reason == "stop-signal")
        || !had_time(attempt)
    {
        return None;
    }
    let holdout = Holdout::of(case, attempt);
    if let Some(frozen) = pending::frozen(case, attempt, &holdout) {
        return Some(frozen);
    }
    match &holdout.fate {
        Fate::Dropped => Some(reached::dropped(case, attempt)),
        Fate::Ignored => Some(ignored::ignored(case, attempt, &holdout)),
        Fate::Handled(_) | Fate::Awaited if !attempt.waited(case) => None,
        Fate::Handled(_) | Fate::Awaited => Some(handled::outlived(case, attempt, &holdout)),
        Fate::Blocked => Some(reached::blocked(case, attempt, &holdout)),
        Fate::Queued => pending::queued(case, attempt, &holdout),
        Fate::Unknown => None,
    }
}

/// PID 1 ended by itself, or is still there: only some things can be wrong.
fn not_forced(case: &Case, attempt: &Attempt<'_>) -> Option<Verdict> {
    if let Some(verdict) = ended::ended(case, attempt) {
        return Some(verdict);
    }
    // Nobody killed it, and it does not stop: what became of the signal is worth telling all the same.
    let holdout = Holdout::of(case, attempt);
    match holdout.fate {
        Fate::Dropped if attempt.sent.is_some() && holdout.is_pid1() => {
            Some(reached::dropped(case, attempt))
        }
        Fate::Ignored if holdout.is_pid1() => Some(ignored::ignored(case, attempt, &holdout)),
        _ => None,
    }
}

fn had_time(attempt: &Attempt<'_>) -> bool {
    attempt.request.is_none_or(|request| request.timeout_ns > 0)
}

/// What all verdicts on an attempt have: whose end it explains, the request, the way of the signal, and
/// how it `fared` at its end, if that is no event of its own.
fn finding(
    case: &Case,
    attempt: &Attempt<'_>,
    holdout: &Holdout<'_>,
    verdict: String,
    fared: &str,
) -> Finding {
    let mut finding = Finding::new(verdict);
    if attempt.forced.is_some() {
        finding = finding.about(holdout.path.iter().copied());
    }
    finding = asked(case, attempt, finding);
    let name = render::escape(&attempt.signal.name);
    if let Some(held) = attempt.held.filter(|_| attempt.sent.is_none()) {
        finding = finding.shown_by(
            held,
            format!(
                "procjail looked, saw no handler for {name}, and held it back until there is one"
            ),
        );
    }
    let fared = match fared {
        "" => String::new(),
        fared => format!(": {fared}"),
    };
    let own = holdout.is_pid1();
    if let Some((event, _)) = attempt.sent {
        let seen = event.seq == attempt.asked.seq;
        let text = match own {
            true => format!("{name} to {}{fared}", case.name(attempt.pid1)),
            false => format!("{name} to {}", case.name(attempt.pid1)),
        };
        if !seen || (own && !fared.is_empty()) {
            finding = finding.shown_by(event, text);
        }
    }
    if let Some((event, _)) = attempt.late.filter(|_| own && !fared.is_empty()) {
        finding = finding.shown_by(event, format!("{name}, sent when the time was up{fared}"));
    }
    if let Some((event, signal)) = holdout.sent.filter(|_| !own) {
        finding = finding.shown_by(
            event,
            format!(
                "{} passed {} on to {}{fared}",
                case.task_name(&event.task),
                render::escape(&signal.signal.name),
                case.name(holdout.process)
            ),
        );
    }
    finding
}

/// The request, as the first piece of evidence.
fn asked(case: &Case, attempt: &Attempt<'_>, finding: Finding) -> Finding {
    let text = match attempt.request {
        Some(request) => format!(
            "procjail was asked to stop the jail ({}); PID 1 has {} to obey",
            render::escape(&request.signal.name),
            render::duration(request.timeout_ns)
        ),
        None => format!(
            "{} sent {} to {}",
            case.who(&attempt.asked.task),
            render::escape(&attempt.signal.name),
            case.name(attempt.pid1)
        ),
    };
    finding.shown_by(attempt.asked, text)
}

/// The end by force, as the last event.
fn ends(case: &Case, attempt: &Attempt<'_>, finding: Finding) -> Finding {
    let finding = match attempt.forced {
        Some(event) => finding.shown_by(
            event,
            format!(
                "{} sent SIGKILL, after {}",
                case.who(&event.task),
                render::duration(attempt.lasted_ns(case))
            ),
        ),
        None => finding,
    };
    finding.in_order()
}

/// The fact that nobody told these processes.
fn unsignalled(case: &Case, processes: &[ProcessId]) -> String {
    format!(
        "no signal was sent to {} from the request to the kill",
        case.names(processes)
    )
}

/// How it ended for some processes, as a sentence; empty if nobody was killed.
fn until(case: &Case, attempt: &Attempt<'_>, processes: usize) -> String {
    let who = match processes {
        0 | 1 => "It was",
        2 => "Both were",
        _ => "All were",
    };
    match attempt.forced {
        Some(_) => format!(" {}.", attempt.killed(case, who)),
        None => String::new(),
    }
}
