//! Main threads that ended while others of their process go on.

use std::collections::{BTreeMap, HashMap};

use super::LASTING_NS;
use crate::diagnose::{Case, Finding, ProcessId};
use crate::event::{Event, ThreadState};
use crate::text;

/// Main threads that snapshots show dead while others live, by host PID.
fn dead_leaders(case: &Case) -> HashMap<u32, (&Event, &ThreadState)> {
    let mut found = HashMap::new();
    for (event, snapshot) in case.snapshots() {
        for thread in &snapshot.threads {
            let task = &thread.task;
            if task.pid == task.tid && thread.state == "Z" && thread.threads > 1 {
                found.entry(task.pid).or_insert((event, thread));
            }
        }
    }
    found
}

/// A thread of the process that the last snapshot shows waiting in the kernel.
fn stuck(case: &Case, id: ProcessId) -> Option<String> {
    let pid = case.process(id).task.pid;
    let (_, snapshot) = case.snapshots().last()?;
    let thread = snapshot
        .threads
        .iter()
        .find(|thread| thread.task.pid == pid && thread.state == "D")?;
    Some(format!(
        "thread {} waits in the kernel in {}",
        thread.task.tid,
        text::escape(&thread.wait_channel)
    ))
}

/// A process that went on without its main thread.
struct Headless<'a> {
    id: ProcessId,
    left: Option<&'a Event>,
    seen: Option<(&'a Event, &'a ThreadState)>,
    lasted_ns: u64,
}

/// Main threads that ended long before their processes, by program.
pub(super) fn dead(case: &Case) -> Vec<Finding> {
    let seen = dead_leaders(case);
    let mut by_program: BTreeMap<&str, Vec<Headless<'_>>> = BTreeMap::new();
    for (id, process) in case.processes().filter(|(_, process)| process.in_jail()) {
        let left = case
            .thread_exits(id)
            .find(|(event, _)| event.task.tid == event.task.pid)
            .map(|(event, _)| event);
        let seen = seen.get(&process.task.pid).copied();
        let Some(event) = left.or(seen.map(|(event, _)| event)) else {
            continue;
        };
        let lasted_ns = case.ended_ns(id).saturating_sub(event.time_ns);
        if lasted_ns >= LASTING_NS {
            by_program
                .entry(&process.task.comm)
                .or_default()
                .push(Headless {
                    id,
                    left,
                    seen,
                    lasted_ns,
                });
        }
    }
    by_program
        .into_values()
        .filter_map(|alike| alike.first().map(|first| one(case, first, &alike)))
        .collect()
}

fn one(case: &Case, first: &Headless<'_>, alike: &[Headless<'_>]) -> Finding {
    let threads = first.seen.map_or_else(
        || "its other threads".to_owned(),
        |(_, state)| {
            let others = u64::from(state.threads).saturating_sub(1);
            text::plural(others, "other thread", "other threads")
        },
    );
    let stuck = stuck(case, first.id).map_or_else(String::new, |stuck| format!(" ({stuck})"));
    let more = match alike.len() as u64 - 1 {
        0 => String::new(),
        more => format!(
            " So it was with {}.",
            text::plural(more, "more process", "more processes")
        ),
    };
    let mut finding = Finding::new(format!(
        "The main thread of {} ended, and {threads} went on{stuck} for {}: tools show a zombie that cannot be \
         collected, though the process is alive.{more}",
        case.name(first.id),
        text::duration(first.lasted_ns),
    ))
    .proven()
    .about(alike.iter().map(|one| one.id))
    .not(
        "a zombie that its parent neglects",
        "the process has not ended: no wait can return it yet",
    )
    .remedy(
        "End the process with exit() or by returning from main, not the main thread alone (pthread_exit, or a \
         runtime whose main thread panicked). If a thread is stuck, find out what it waits for.",
    );
    if let Some(event) = first.left {
        finding = finding.shown_by(event, "the main thread ended, and was not the last one");
    }
    if let Some((event, state)) = first.seen {
        finding = finding.shown_by(
            event,
            format!("the process in state Z with {} threads", state.threads),
        );
    }
    if let Some((exit, _)) = case.exit(first.id) {
        finding = finding.shown_by(exit, "its last thread ended");
    }
    finding
}
