//! Dead processes that wait for their tracer.

use std::collections::BTreeMap;

use super::{LASTING_NS, Zombie};
use crate::diagnose::{Case, Finding, ProcessId};
use crate::event::Event;
use crate::text;

/// Who traced a process when it ended, host PID, and the event that says so: its exit, or a look at the zombie.
/// Nothing else tells it: a SIGCHLD goes to another process than the parent also when the parent is gone.
pub(super) fn tracer(case: &Case, id: ProcessId) -> Option<(u32, &Event)> {
    let (event, exit) = case.exit(id)?;
    if let Some(tracer) = exit.tracer.as_ref().filter(|tracer| tracer.pid != 0) {
        return Some((tracer.pid, event));
    }
    let pid = case.process(id).task.pid;
    case.snapshots()
        .filter(|(look, _)| look.time_ns >= event.time_ns)
        .find_map(|(look, snapshot)| {
            let thread = snapshot.threads.iter().find(|thread| {
                let task = &thread.task;
                task.pid == pid && task.tid == pid && thread.state == "Z" && thread.tracer_pid != 0
            })?;
            Some((thread.tracer_pid, look))
        })
}

/// Zombies that their tracer did not wait for, by tracer.
pub(super) fn held(case: &Case) -> Vec<Finding> {
    let mut by_tracer: BTreeMap<u32, Vec<(Zombie, &Event)>> = BTreeMap::new();
    for id in case.deaths() {
        let Some((tracer, told)) = tracer(case, id) else {
            continue;
        };
        let collected = case.reap(id).map(|(event, _)| event.time_ns);
        let gone = case
            .process_by_pid(tracer)
            .map_or(case.end_ns(), |tracer| case.ended_ns(tracer));
        let zombie = Zombie {
            id,
            parent: id,
            since_ns: case.ended_ns(id),
            until_ns: gone.min(collected.unwrap_or(u64::MAX)),
        };
        if zombie.age_ns() >= LASTING_NS {
            by_tracer.entry(tracer).or_default().push((zombie, told));
        }
    }
    by_tracer
        .into_iter()
        .filter_map(|(tracer, zombies)| {
            let (first, told) = zombies.first()?;
            let (exit, ended) = case.exit(first.id)?;
            // A parent that traces its child is the one to collect it.
            if ended.parent.pid == tracer {
                return None;
            }
            let name = case
                .process_by_pid(tracer)
                .map_or_else(|| format!("host PID {tracer}"), |id| case.name(id));
            let parent = case.task_name(&ended.parent);
            let ids: Vec<ProcessId> = zombies.iter().map(|(zombie, _)| zombie.id).collect();
            Some(
                Finding::new(format!(
                    "{} ended, but {name} traced it and did not wait for it for {}: until it does or ends, the \
                     parent {parent} cannot collect it.",
                    case.names(&ids),
                    text::duration(first.age_ns()),
                ))
                .proven()
                .about(ids)
                .shown_by(
                    exit,
                    format!(
                        "{} {}; its parent is {parent}",
                        case.name(first.id),
                        case.did_end(&ended.status)
                    ),
                )
                .shown_by(told, format!("its tracer was {name}"))
                .not(
                    "a parent that does not wait",
                    "the kernel does not give it a child that somebody else traces",
                )
                .relies_on_all(&["reap"])
                .remedy(format!(
                    "End {name} (a debugger, strace, or a crash reporter), or have it wait for what it traces."
                )),
            )
        })
        .collect()
}
