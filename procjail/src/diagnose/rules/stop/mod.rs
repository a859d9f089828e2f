//! A stop was requested, and the program did not stop.
//!
//! An [`Attempt`](attempt::Attempt) is looked at once: the signal is followed from PID 1 to the process
//! that held the stop up, and what became of it there decides. So there is one verdict at most on why
//! a stop ended by force, and the kill follows from it.

mod activity;
pub(super) mod attempt;
mod ended;
mod fate;
mod handled;
mod ignored;
mod inherited;
mod pending;
mod programs;
mod reached;
mod reload;
mod repeats;
mod target;
#[cfg(test)]
mod tests;
mod unfinished;
mod waits;

use crate::diagnose::{Case, Family, Finding, ProcessId, Rank, Rule, Tagged};
use crate::text;
use attempt::Attempt;
pub(super) use ended::{as_before, killed_with_pid1, left_to_die, passed_on_in_words, taken_at};
use fate::{Fate, Holdout};

pub(super) const FAMILY: Family = Family {
    rules: &[
        Rule {
            id: "term-ignored-pid1-default",
            about: "PID 1 has no handler for the stop signal, so the kernel drops it: only SIGKILL ends it",
            alternatives: &["an ignored signal", "a handler that came too late"],
        },
        Rule {
            id: "term-stuck-in-shell",
            about: "PID 1 is a shell that neither ended nor passed the stop signal on to the program it waits for",
            alternatives: &["a shell that became the program", "a trap that waits"],
        },
        Rule {
            id: "term-shell-trap-deferred",
            about: "a shell took the stop signal, but runs its trap only when the foreground command ends",
            alternatives: &["a shell without a trap", "a trap that does nothing"],
        },
        Rule {
            id: "term-shell-wait-interrupted",
            about: "the trap interrupted the shell's wait; it ended at once, and the program was killed with it",
            alternatives: &["the end of the grace period", "an OOM kill of the rest"],
        },
        Rule {
            id: "term-blocked",
            about: "the stop signal is blocked: it stays pending, and nobody takes it",
            alternatives: &["a mask of its own"],
        },
        Rule {
            id: "term-ignored-inherited",
            about: "the program ignores the stop signal because the one before it did: that survives an exec",
            alternatives: &["the program's own choice"],
        },
        Rule {
            id: "term-ignored-by-choice",
            about: "the program itself ignores the stop signal",
            alternatives: &["an inherited disposition"],
        },
        Rule {
            id: "term-handler-no-exit",
            about: "the handler ran, and the program went on as before until it was killed",
            alternatives: &[
                unfinished::ELSEWHERE,
                unfinished::IN_HAND,
                unfinished::ALIKE,
            ],
        },
        Rule {
            id: "term-shutdown-unfinished",
            about: "the signal was taken, and the shutdown was not complete when the grace period expired",
            alternatives: &[
                unfinished::DRAIN,
                unfinished::CHILD,
                unfinished::FILES,
                unfinished::SLEEP,
                unfinished::COMPUTING,
                unfinished::LOCK,
                unfinished::NO_END,
            ],
        },
        Rule {
            id: "term-deadlock",
            about: "the handler ran, and every thread waits for a lock since then",
            alternatives: &[unfinished::TIMED, unfinished::RELEASED],
        },
        Rule {
            id: "term-reload",
            about: "the signal made the program start over, as for a reload: it is not the one that stops it",
            alternatives: &[
                "a shutdown that executes a helper",
                "a supervisor that restarts what ends",
            ],
        },
        Rule {
            id: "term-reraised-pid1",
            about: "PID 1 cleaned up and sent itself the signal with the default action, which the kernel drops",
            alternatives: &["a handler of the program's own"],
        },
        Rule {
            id: "term-lost-before-exec",
            about: "the stop signal came before the program that handles it was there",
            alternatives: &["a program without a handler"],
        },
        Rule {
            id: "term-slow-shutdown",
            about: "the shutdown made progress, but needed more time than it was given",
            alternatives: &["a program that does not react"],
        },
        Rule {
            id: "term-shutdown-cpu-throttled",
            about: "the CPU limit held the shutdown back most of the time that it was given",
            alternatives: &["waiting for a disk, a lock or the network"],
        },
        Rule {
            id: "term-wrapper-not-forwarding",
            about: "a wrapper such as npm got the stop signal and did not pass it on",
            alternatives: &["a program that ignores the signal"],
        },
        Rule {
            id: "term-wrapper-exits-first",
            about: "a wrapper ended before the program below it, which was killed with the PID namespace",
            alternatives: &["the end of the grace period", "an OOM kill of the rest"],
        },
        Rule {
            id: "stop-signal-mismatch",
            about: "the stop signal is not the one that the program reacts to",
            alternatives: &["a program without any handler"],
        },
        Rule {
            id: "term-pending-stopped",
            about: "the process is stopped (SIGSTOP and the like), so its handler waits for SIGCONT",
            alternatives: &["a blocked signal"],
        },
        Rule {
            id: "term-held-by-tracer",
            about: "a debugger or tracer has stopped the process and holds the stop signal",
            alternatives: &[pending::BREAKPOINT],
        },
        Rule {
            id: "term-pending-frozen",
            about: "the cgroup is frozen, so signals wait for its thaw",
            alternatives: &["a process that hangs in the kernel"],
        },
        Rule {
            id: "term-pending-uninterruptible",
            about: "the process is in uninterruptible sleep, so the signal waits behind that",
            alternatives: &["a frozen cgroup", "a blocked signal"],
        },
        Rule {
            id: "term-wrong-target",
            about: "the stop signal went to another process than the one that should stop",
            alternatives: &["a program that ignores the signal"],
        },
        Rule {
            id: "term-not-sent",
            about: "SIGKILL came without a stop signal before it, or without time to obey one",
            alternatives: &["an OOM kill"],
        },
    ],
    rank: Rank::Problem,
    analyse,
};

/// What there is of this family in a case.
fn analyse(case: &Case) -> Vec<Tagged> {
    let why = match Attempt::of(case) {
        Some(attempt) => {
            let why = match attempt.forced {
                Some(_) => forced(case, &attempt),
                None => not_forced(case, &attempt),
            };
            // All that matters comes after the request.
            why.map(|(id, finding)| (id, finding.begins_in_trace()))
        }
        None => target::wrong(case),
    };
    let not_sent = target::not_sent(case);
    why.into_iter()
        .chain(not_sent.into_iter().map(|one| ("term-not-sent", one)))
        .collect()
}

/// The attempt ended by force: what held it up?
fn forced(case: &Case, attempt: &Attempt<'_>) -> Option<Tagged> {
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
        Fate::Reraised(taken, raised) => {
            Some(reached::reraised(case, attempt, &holdout, taken, raised))
        }
        Fate::Ignored => Some(ignored::ignored(case, attempt, &holdout)),
        Fate::Handled(_) | Fate::Awaited if !attempt.waited(case) => None,
        Fate::Handled(_) | Fate::Awaited => Some(handled::outlived(case, attempt, &holdout)),
        Fate::Blocked => Some(reached::blocked(case, attempt, &holdout)),
        Fate::Queued => pending::queued(case, attempt, &holdout),
        Fate::Unknown => None,
    }
}

/// PID 1 ended by itself, or is still there: only some things can be wrong.
fn not_forced(case: &Case, attempt: &Attempt<'_>) -> Option<Tagged> {
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
    let name = text::escape(&attempt.signal.name);
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
        finding = finding.shown_by(
            event,
            format!("{name}, sent when the grace period expired{fared}"),
        );
    }
    if let Some((event, signal)) = holdout.sent.filter(|_| !own) {
        finding = finding.shown_by(
            event,
            format!(
                "{} passed {} on to {}{fared}",
                case.task_name(&event.task),
                text::escape(&signal.signal.name),
                case.name(holdout.process)
            ),
        );
    }
    finding
}

/// The request, as the first piece of evidence.
fn asked(case: &Case, attempt: &Attempt<'_>, finding: Finding) -> Finding {
    let grace = match attempt.request {
        Some(request) => format!("; grace period: {}", text::duration(request.timeout_ns)),
        None => String::new(),
    };
    let text = format!("{}{grace}", attempt.request_in_words(case));
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
                text::duration(attempt.lasted_ns(case))
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
