//! Where a disposition or a mask comes from: a program sets it, and it survives forks and execs.

use crate::diagnose::{Case, ProcessId, program_of};
use crate::event::{Event, Signal, SignalSets, What};
use crate::text;

/// What is inherited.
pub(super) type Set = fn(&SignalSets) -> &[Signal];

/// `SIG_IGN`.
pub(super) fn ignored(sets: &SignalSets) -> &[Signal] {
    &sets.ignored
}

/// The mask.
pub(super) fn blocked(sets: &SignalSets) -> &[Signal] {
    &sets.blocked
}

/// Who set it.
pub(super) enum Source<'a> {
    /// The program itself: when it started, that was not so.
    Itself(&'a Event),
    /// What ran before: who it was, and the last fork or exec over which it came.
    Other(String, &'a Event),
}

/// Who set a signal's disposition or mask in a process. None if the trace has no sets of the forks and execs in
/// question.
pub(super) fn source(case: &Case, process: ProcessId, number: i32, set: Set) -> Option<Source<'_>> {
    let (last, from) = start(case, process, u64::MAX)?;
    if !has(last, number, set)? {
        return Some(Source::Itself(from));
    }
    // What ran before procjail came may have set it or inherited it.
    if is_found(from) {
        return None;
    }
    let (mut id, mut event) = (process, from);
    // It ends: each step goes to an earlier event.
    while let Some((start, earlier)) = before(case, id, event) {
        let owner = case.process_of(&earlier.task).unwrap_or(id);
        match has(start, number, set) {
            Some(true) if is_found(earlier) => {
                return Some(Source::Other(name(case, earlier, owner), from));
            }
            Some(true) => (id, event) = (owner_of(case, earlier, id), earlier),
            Some(false) => return Some(Source::Other(name(case, earlier, owner), from)),
            None => return None,
        }
    }
    let starter = match case.is_launched() {
        true => "what started the jail",
        false => "what started it from outside",
    };
    Some(Source::Other(starter.to_owned(), from))
}

/// It ran when procjail attached.
fn is_found(start: &Event) -> bool {
    matches!(start.what, What::Found(_))
}

/// The time of a start, for a sentence.
pub(super) fn when(start: &Event) -> &'static str {
    match is_found(start) {
        true => "when procjail attached",
        false => "when its program started",
    }
}

/// The last exec of a process before an event's number, or its fork.
fn start(case: &Case, process: ProcessId, before: u64) -> Option<(Option<&SignalSets>, &Event)> {
    let exec = case
        .execs(process)
        .rfind(|(event, _)| event.seq < before)
        .map(|(event, exec)| match &event.what {
            What::Found(found) => (Some(&found.signals), event),
            _ => (exec.signals.as_ref(), event),
        });
    exec.or_else(|| {
        let event = case.event(case.process(process).forked?);
        let What::Fork(fork) = &event.what else {
            return None;
        };
        (event.seq < before).then_some((fork.signals.as_ref(), event))
    })
}

/// The start before one: of the same process, or of its maker before the fork.
fn before<'a>(
    case: &'a Case,
    process: ProcessId,
    event: &Event,
) -> Option<(Option<&'a SignalSets>, &'a Event)> {
    match &event.what {
        What::Fork(_) => start(case, case.process(process).creator?, event.seq),
        _ => start(case, process, event.seq),
    }
}

/// The process that a start belongs to: the child of a fork.
fn owner_of(case: &Case, event: &Event, fallback: ProcessId) -> ProcessId {
    let task = match &event.what {
        What::Fork(fork) => &fork.child,
        _ => &event.task,
    };
    case.process_of(task).unwrap_or(fallback)
}

fn has(sets: Option<&SignalSets>, number: i32, set: Set) -> Option<bool> {
    Some(set(sets?).iter().any(|signal| signal.number == number))
}

/// Who ran from a start on.
fn name(case: &Case, start: &Event, owner: ProcessId) -> String {
    let exec = match &start.what {
        What::Exec(exec) => Some(exec),
        What::Found(found) => Some(&found.program),
        _ => None,
    };
    match exec {
        Some(exec) => {
            let program = text::escape(program_of(&exec.filename));
            match case.process(owner).task.jail_pid {
                Some(pid) => format!("{program} (PID {pid})"),
                None => program,
            }
        }
        // Between a fork and the exec, the child sets it for what it executes.
        None => format!(
            "{} before its exec",
            case.name(owner_of(case, start, owner))
        ),
    }
}
