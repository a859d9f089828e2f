//! Forks that fail with ENOMEM.

use super::{MEMORY, of, refused, who_failed};
use crate::diagnose::{Case, Confidence, Finding, ProcessId};
use crate::event::{Event, What};

/// The PID namespace that a process makes its children in, if it made or entered one itself: the call, and the
/// first of its children in it, which is PID 1 there.
fn own_namespace(case: &Case, id: ProcessId, before_ns: u64) -> Option<(&Event, ProcessId)> {
    let (event, _) = case
        .each(|what| match what {
            What::Mount(call) if call.call == "unshare" && call.error.is_none() => Some(call),
            _ => None,
        })
        .filter(|(event, call)| {
            call.flags & libc::CLONE_NEWPID as u64 != 0
                && event.time_ns <= before_ns
                && case.process_of(&event.task) == Some(id)
        })
        .last()?;
    let first = case
        .process(id)
        .children
        .iter()
        .copied()
        .filter(|child| case.born_ns(*child) > event.time_ns)
        .min_by_key(|child| case.born_ns(*child))?;
    Some((event, first))
}

/// Memory that was refused, or a PID namespace that nothing can be made in any more.
pub(super) fn no_memory(case: &Case) -> Vec<Finding> {
    let failed = refused(case, libc::ENOMEM);
    let Some(first) = failed.first() else {
        return Vec::new();
    };
    let time_ns = first.event.time_ns.saturating_sub(first.call.before_ns);
    let ended_before = |id: ProcessId| case.exit(id).filter(|(end, _)| end.time_ns <= time_ns);
    let finding = Finding::new(format!("{} with ENOMEM.", who_failed(case, &failed))).proven();
    let own = own_namespace(case, first.id, time_ns)
        .and_then(|(made, init)| Some((made, init, ended_before(init)?.0)));
    let jail = case
        .pid1()
        .filter(|pid1| *pid1 != first.id)
        .and_then(|pid1| Some(ended_before(pid1)?.0));
    let finding = match (own, jail) {
        (Some((made, init, end)), _) => finding
            .cause(
                format!(
                    "The PID namespace that {} had made for its children (unshare) ended with its first process, {}: no \
                     process can be made in it any more. Memory has nothing to do with it.",
                    case.name(first.id),
                    case.name(init)
                ),
                Confidence::Proven,
            )
            .not(MEMORY, "the namespace's first process had ended, after which every fork fails so")
            .shown_by(made, "unshare with CLONE_NEWPID")
            .shown_by(end, format!("{} ended, PID 1 in there", case.name(init)))
            .remedy("Use unshare --pid --fork, or have a process that stays as the first one in the namespace."),
        (None, Some(end)) => finding
            .cause(
                "PID 1 of the jail had ended: nothing new begins in a PID namespace without it.",
                Confidence::Likely,
            )
            .or(MEMORY)
            .shown_by(end, "PID 1 had ended")
            .remedy("Do not enter a jail that is ending; keep its PID 1 alive as long as others need it."),
        (None, None) => finding
            .cause(
                "Memory for a process was refused, by the rules of vm.overcommit_memory or by a memory limit.",
                Confidence::ConsistentWith,
            )
            .or("a PID namespace whose first process has ended")
            .remedy("Give the jail more memory, or fork from a smaller process; see vm.overcommit_memory."),
    };
    vec![of(case, finding, &failed)]
}
