//! The stop signal is ignored: by the program itself, or by what started it.

use super::attempt::Attempt;
use super::fate::{Holdout, has, looks, survivors, threads_of, was_asked};
use super::inherited::{self, Source, source};
use super::{ends, finding, until};
use crate::diagnose::Tagged;
use crate::diagnose::{Case, Confidence, ProcessId, program_of};
use crate::event::{Disposition, Event, What};
use crate::text;

/// SIG_IGN. It survives an exec, a handler doesn't: so a program may have inherited it.
pub(super) fn ignored(case: &Case, attempt: &Attempt<'_>, holdout: &Holdout<'_>) -> Tagged {
    let (number, _) = holdout.signal(attempt);
    match source(case, holdout.process, number, inherited::ignored) {
        Some(source) => from(case, attempt, holdout, source),
        None => without_record(case, attempt, holdout),
    }
}

/// The forks and execs tell who set it.
fn from(case: &Case, attempt: &Attempt<'_>, holdout: &Holdout<'_>, source: Source<'_>) -> Tagged {
    let who = case.name(holdout.process);
    let (number, name) = holdout.signal(attempt);
    let untold: Vec<ProcessId> = survivors(case, attempt, holdout.process)
        .into_iter()
        .filter(|id| !was_asked(case, attempt, *id))
        .collect();
    let below = match untold.is_empty() {
        true => String::new(),
        false => format!(" {} below it never got a signal.", case.names(&untold)),
    };
    let end = match attempt.forced {
        Some(_) => format!(" {}.", attempt.killed(case, &format!("{who} was"))),
        None => String::new(),
    };
    let fact = format!("{who} ignores {name} (SIG_IGN), so the kernel dropped it.{below}{end}");
    let finding = finding(case, attempt, holdout, fact, "ignored (SIG_IGN)")
        .proven()
        .not(
            "PID 1 without a handler",
            "the action is SIG_IGN, not the default one",
        )
        .not(
            "a program that was ending already",
            "it was not, when the signal came",
        );
    let short = crate::names::signal(number);
    let short = short.trim_start_matches("SIG");
    match source {
        Source::Itself(start) => {
            let finding = finding
                .shown_by(
                    start,
                    format!("{}, it did not ignore {name}", inherited::when(start)),
                )
                .cause(
                    format!("Its program chose to ignore {name}."),
                    Confidence::Proven,
                )
                .not(
                    "an inherited disposition",
                    match start.what {
                        What::Found(_) => "the same program did not ignore it before",
                        _ => "its program started without it",
                    },
                );
            let finding = ends(case, attempt, finding).remedy(not_ignored(&name));
            ("term-ignored-by-choice", finding)
        }
        Source::Other(by, over) => {
            let finding = finding
                .shown_by(over, format!("its program started with {name} ignored"))
                .cause(
                    format!(
                        "It inherited that from {by}: SIG_IGN survives fork and exec, handlers do not."
                    ),
                    Confidence::Proven,
                )
                .not("the program's own choice", "it was ignored when its program started");
            let finding = ends(case, attempt, finding).remedy(format!(
                "Let what starts it set {name} to its default action before the exec: no `trap '' {short}` or nohup in \
                 a script, SIG_DFL in a launcher. Or let the program install a handler."
            ));
            ("term-ignored-inherited", finding)
        }
    }
}

/// The same from a trace that has no dispositions of forks and execs.
fn without_record(case: &Case, attempt: &Attempt<'_>, holdout: &Holdout<'_>) -> Tagged {
    let process = holdout.process;
    let (number, name) = holdout.signal(attempt);
    let last_exec = case.execs(process).next_back().map(|(event, _)| event);
    let before = last_exec.and_then(|exec| {
        ignored_before(case, process, number, exec)
            .map(|shown| (shown, "the program before it ignored it".to_owned()))
            .or_else(|| {
                let creator = case.process(process).creator?;
                let forked = case.event(case.process(process).forked?);
                ignored_before(case, creator, number, forked)
                    .map(|shown| (shown, format!("{} ignored it", case.name(creator))))
            })
    });
    let parent = case.process(process).creator.filter(|creator| {
        last_exec.is_some()
            && looks(case, attempt)
                .flat_map(|(_, snapshot)| threads_of(case, snapshot, *creator))
                .any(|thread| has(&thread.ignored, number))
    });
    let again = case.execs(process).count() > 1;
    let first = case.process(process).is_pid1() && !again;
    let who = case.name(process);
    let end = until(case, attempt, 1);
    let start = |verdict: String| {
        finding(case, attempt, holdout, verdict, "ignored (SIG_IGN)")
            .not(
                "PID 1 without a handler",
                "the action is SIG_IGN, not the default one",
            )
            .not(
                "a program that was ending already",
                "it was not, when the signal came",
            )
    };
    if before.is_some() || parent.is_some() || (again && !first) {
        let from = match (again, parent.or(case.process(process).creator)) {
            (true, _) => {
                let earlier = case.execs(process).rev().nth(1);
                earlier.map_or_else(
                    || "the program before it".to_owned(),
                    |(_, exec)| {
                        format!(
                            "{}, which ran in this process before",
                            text::escape(program_of(&exec.filename))
                        )
                    },
                )
            }
            (false, Some(parent)) => case.name(parent),
            (false, None) => "what started it".to_owned(),
        };
        let verdict = format!(
            "{who} runs with {name} ignored, which it inherited from {from}: an exec resets handlers, but \
             not SIG_IGN.{end}"
        );
        let mut finding = start(verdict);
        finding = match &before {
            Some((shown, text)) => finding
                .shown_by(
                    shown,
                    format!("{text} already: a {name} came, and had no effect"),
                )
                .not(
                    "the program's own choice",
                    "it was ignored before its program started",
                )
                .proven(),
            None if parent.is_some() => finding.fact("its parent ignores the signal as well"),
            None => finding.consistent(),
        };
        if let Some(exec) = last_exec.filter(|_| before.is_some()) {
            finding = finding.shown_by(exec, "the program that runs now was executed after that");
        }
        let finding = ends(case, attempt, finding).remedy(format!(
            "Let what starts it reset the signal before the exec: no `trap '' {short}` or nohup in the \
             script, SIG_DFL in the launcher. Or let the program install a handler.",
            short = name.trim_start_matches("SIG")
        ));
        return ("term-ignored-inherited", finding);
    }
    if !case.is_launched() && !again {
        let verdict = format!("{who} ignores {name} (SIG_IGN), so the kernel dropped it.{end}");
        let finding = start(verdict)
            .proven()
            .cause(
                format!("Its program chose to ignore {name}, before procjail attached."),
                Confidence::ConsistentWith,
            )
            .or("an inherited disposition");
        return (
            "term-ignored-by-choice",
            ends(case, attempt, finding).remedy(not_ignored(&name)),
        );
    }
    let verdict =
        format!("{who} ignores {name} by its own choice (SIG_IGN), so nothing happened.{end}");
    let mut finding = start(verdict);
    let program = owner_of_program(case, process);
    let started_clean =
        case.is_launched() && case.process(program).is_pid1() && case.execs(program).count() == 1;
    let changed = last_exec.and_then(|exec| {
        case.received(process).find(|(event, signal)| {
            event.seq > exec.seq
                && signal.signal.number == number
                && signal.disposition != Disposition::Ignore
        })
    });
    if started_clean {
        finding = finding
            .proven()
            .not(
                "an inherited disposition",
                "procjail starts PID 1 with every signal at its default action, and it executed nothing \
                 since",
            )
            .relies_on_all(&["exec"]);
    } else if let Some((event, _)) = changed {
        finding = finding
            .proven()
            .shown_by(event, "the same program did not ignore it before")
            .not(
                "an inherited disposition",
                "the same program did not ignore it before",
            );
    }
    let finding = ends(case, attempt, finding).remedy(not_ignored(&name));
    ("term-ignored-by-choice", finding)
}

fn not_ignored(name: &str) -> String {
    format!(
        "Don't ignore {name} in the program, or stop it with the signal that it handles (procjail --stop-signal)."
    )
}

/// A signal that a process ignored before an event.
fn ignored_before<'a>(
    case: &'a Case,
    process: ProcessId,
    number: i32,
    before: &Event,
) -> Option<&'a Event> {
    case.received(process)
        .find(|(event, signal)| {
            event.seq < before.seq
                && signal.signal.number == number
                && signal.disposition == Disposition::Ignore
        })
        .map(|(event, _)| event)
}

/// The process that executed the program that a process runs: itself, or the one it is a copy of.
fn owner_of_program(case: &Case, process: ProcessId) -> ProcessId {
    let mut owner = process;
    while case.execs(owner).next().is_none() {
        match case.process(owner).creator {
            // Made before what is made by it: the chain ends.
            Some(creator) if creator != owner => owner = creator,
            _ => break,
        }
    }
    owner
}
