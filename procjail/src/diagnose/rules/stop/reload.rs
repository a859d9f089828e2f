//! The signal made the program start over, as it does for a reload: no stop.

use super::attempt::Attempt;
use super::fate::{Holdout, was_asked};
use super::handled::taken;
use super::repeats::restarted;
use super::{ends, until};
use crate::diagnose::{Case, Confidence, ProcessId, Tagged};
use crate::text;

/// It executed a program after the signal, or replaced the processes below it.
pub(super) fn reloaded(
    case: &Case,
    attempt: &Attempt<'_>,
    holdout: &Holdout<'_>,
) -> Option<Tagged> {
    executed(case, attempt, holdout).or_else(|| replaced(case, attempt, holdout))
}

fn executed(case: &Case, attempt: &Attempt<'_>, holdout: &Holdout<'_>) -> Option<Tagged> {
    let (event, exec) = holdout.executed_since(case, attempt)?;
    let who = case.name(holdout.process);
    let (_, name) = holdout.signal(attempt);
    let program = text::command_line(&exec.argv, 60);
    let fact = format!(
        "{who} took {name}, executed `{program}` in its own place {} later, and that went on.{}",
        text::duration(event.time_ns.saturating_sub(holdout.since_ns(attempt))),
        until(case, attempt, 1)
    );
    let finding = taken(case, attempt, holdout, fact)
        .proven()
        .shown_by(event, format!("it executed `{program}`"))
        .cause(
            format!("{name} makes it start anew, as for a reload or an upgrade."),
            Confidence::Likely,
        )
        .or("a shutdown that executes a helper in its own place");
    Some(finish(case, attempt, finding, &name))
}

/// What was below it ended, and others of its making live.
fn replaced(case: &Case, attempt: &Attempt<'_>, holdout: &Holdout<'_>) -> Option<Tagged> {
    let process = holdout.process;
    if restarted(case, attempt, process).is_some() {
        return None;
    }
    let since_ns = holdout.since_ns(attempt);
    let end_ns = attempt.end_ns(case);
    let half_ns = since_ns + end_ns.saturating_sub(since_ns) / 2;
    let children = &case.process(process).children;
    let old: Vec<ProcessId> = children
        .iter()
        .filter(|id| case.born_ns(**id) < since_ns && case.ended_ns(**id) > since_ns)
        .copied()
        .collect();
    let gone: Vec<ProcessId> = old
        .iter()
        .filter(|id| case.ended_ns(**id) < end_ns)
        .copied()
        .collect();
    let new: Vec<ProcessId> = children
        .iter()
        .filter(|id| (since_ns..half_ns).contains(&case.born_ns(**id)))
        .filter(|id| case.alive_at(**id, end_ns) && !was_asked(case, attempt, **id))
        .copied()
        .collect();
    let program = |id: &ProcessId| case.program(*id).map(|(event, _)| event.seq);
    let same_kind = new.iter().any(|new| {
        old.iter()
            .any(|old| alike(case, *new, *old) || program(new) == program(old))
    });
    if gone.is_empty() || new.is_empty() || !same_kind {
        return None;
    }
    let who = case.name(process);
    let (_, name) = holdout.signal(attempt);
    let fact = format!(
        "{who} took {name}, started {}, and {} that it had before ended; it went on with the new {}.{}",
        case.names(&new),
        text::plural(gone.len() as u64, "process", "processes"),
        if new.len() == 1 { "one" } else { "ones" },
        until(case, attempt, 2)
    );
    let mut finding = taken(case, attempt, holdout, fact).proven();
    if let Some(event) = new.first().and_then(|id| case.process(*id).forked) {
        finding = finding.shown_by(case.event(event), "the first new process");
    }
    if let Some((event, _)) = gone.first().and_then(|id| case.exit(*id)) {
        finding = finding.shown_by(event, "the first of the old ones ended");
    }
    let finding = finding
        .cause(
            format!("{name} makes it reload: new processes take over from the old ones."),
            Confidence::Likely,
        )
        .or("a supervisor that restarts whatever ends, its own shutdown included");
    Some(finish(case, attempt, finding, &name))
}

/// Both executed a program of the same name.
fn alike(case: &Case, one: ProcessId, other: ProcessId) -> bool {
    let name = |id| case.program(id).map(|(_, exec)| exec.filename.as_str());
    name(one).is_some() && name(one) == name(other)
}

fn finish(
    case: &Case,
    attempt: &Attempt<'_>,
    finding: crate::diagnose::Finding,
    name: &str,
) -> Tagged {
    let finding = ends(case, attempt, finding)
        .not("an ignored or blocked signal", "it was taken")
        .remedy(format!(
            "{name} is not the signal that stops this program: look up which one does (its manual, STOPSIGNAL of \
             its image) and give it to procjail --stop-signal."
        ));
    ("term-reload", finding)
}
