//! Children that a process starts again and again: their ends are no progress of a shutdown.

use super::attempt::Attempt;
use crate::diagnose::{Case, ProcessId, program_of};

/// A child whose like its parent started before, and again after the stop signal had come.
pub(super) fn in_rhythm(case: &Case, attempt: &Attempt<'_>, child: ProcessId) -> bool {
    let Some(parent) = case.process(child).creator else {
        return false;
    };
    // One that was told to end did not end by itself.
    !super::fate::was_asked(case, attempt, child)
        && restarted(case, attempt, parent)
            .is_some_and(|again| Some(again.program) == own_program(case, child))
}

/// A program that a process started before the stop signal and since then, and that ended by itself each time.
pub(super) struct Again<'a> {
    /// The program's name.
    pub program: &'a str,
    /// How often since.
    pub since: usize,
}

/// What a process went on starting.
pub(super) fn restarted<'a>(
    case: &'a Case,
    attempt: &Attempt<'_>,
    parent: ProcessId,
) -> Option<Again<'a>> {
    let asked_ns = attempt.asked.time_ns;
    let end_ns = attempt.end_ns(case);
    let children = &case.process(parent).children;
    let since = |id: &&ProcessId| (asked_ns..end_ns).contains(&case.born_ns(**id));
    let program = children
        .iter()
        .rev()
        .filter(since)
        .find_map(|id| own_program(case, *id))?;
    let alike = |id: &&ProcessId| own_program(case, **id) == Some(program);
    let before = children
        .iter()
        .filter(alike)
        .filter(|id| case.born_ns(**id) < asked_ns)
        .count();
    let after: Vec<ProcessId> = children
        .iter()
        .filter(since)
        .filter(alike)
        .copied()
        .collect();
    // A new generation comes once and stays.
    let ended = after
        .iter()
        .filter(|id| case.ended_ns(**id) < end_ns)
        .count();
    (before > 0 && ended > 0 && after.len() > 1).then_some(Again {
        program,
        since: after.len(),
    })
}

/// The program that a process executed itself.
fn own_program(case: &Case, id: ProcessId) -> Option<&str> {
    let (_, exec) = case.execs(id).next_back()?;
    Some(program_of(&exec.filename))
}
