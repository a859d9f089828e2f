//! PIDs that more than one process had: a number in a log, or in a program's memory, may mean another one.

use std::collections::BTreeMap;

use crate::diagnose::{Case, Finding, ProcessId};
use crate::event::{Event, SignalGenerated};
use crate::text;

/// So many bearers of a number are told of.
const TOLD: usize = 4;

pub(super) fn reused(case: &Case) -> Vec<Finding> {
    let reused = bearers(case);
    let Some((number, first)) = reused.first() else {
        return Vec::new();
    };
    let others = reused.len() as u64 - 1;
    let more = match others {
        0 => String::new(),
        _ => format!(
            " So did {}.",
            text::plural(others, "other PID", "other PIDs")
        ),
    };
    let mut finding = Finding::new(format!(
        "PID {number} belonged to {} in turn: the number in a log or in a program's memory may mean any of them.{more}",
        text::plural(first.len() as u64, "process", "different processes"),
    ))
    .proven();
    for (_, ids) in reused.iter().take(TOLD) {
        for id in ids.iter().take(TOLD) {
            if let Some(event) = born(case, *id) {
                finding = finding.shown_by(event, format!("{} was started", case.name(*id)));
            }
        }
    }
    for (_, ids) in &reused {
        if let Some((event, signal, sender)) = mistaken(case, ids) {
            finding = finding.shown_by(
                event,
                format!(
                    "{} sent {} to that PID; it may have meant the earlier process",
                    case.task_name(sender),
                    text::escape(&signal.signal.name)
                ),
            );
            break;
        }
    }
    // That a number is used again is news of the moment when it is, not of the first process's start.
    let again = first.get(1).map_or(0, |id| case.born_ns(*id));
    vec![
        finding
            .in_order()
            .at(again)
            .not(
                "one process that executed another program",
                "they have different start times",
            )
            .remedy(
                "Identify a process by PID and start time, as this trace does, or by a pidfd (pidfd_open(2)), which never \
                 means another one. A larger kernel.pid_max makes reuse rarer.",
            ),
    ]
}

/// The numbers inside the jail that several processes had, with these in the order of their births.
fn bearers(case: &Case) -> Vec<(u32, Vec<ProcessId>)> {
    let mut by_number: BTreeMap<u32, Vec<(u64, ProcessId)>> = BTreeMap::new();
    for (id, process) in case.processes() {
        // Without a start time it may be one that is known already.
        if let (Some(pid), 1..) = (process.task.jail_pid, process.task.start_ns) {
            let bearers = by_number.entry(pid).or_default();
            bearers.push((process.task.start_ns, id));
        }
    }
    by_number
        .into_iter()
        .filter(|(_, bearers)| bearers.len() > 1)
        .map(|(pid, mut bearers)| {
            bearers.sort_unstable();
            (pid, bearers.into_iter().map(|(_, id)| id).collect())
        })
        .collect()
}

fn born(case: &Case, id: ProcessId) -> Option<&Event> {
    case.process(id).forked.map(|index| case.event(index))
}

/// A signal by a process to a later bearer of a number, that neither made that one nor is it.
fn mistaken<'a>(
    case: &'a Case,
    ids: &[ProcessId],
) -> Option<(&'a Event, &'a SignalGenerated, &'a crate::event::Task)> {
    ids.iter().skip(1).find_map(|id| {
        case.received(*id).find_map(|(event, signal)| {
            let sender = case.process_of(&event.task);
            let maker = case.process(*id).creator;
            let by_number = signal.syscall.is_some()
                && signal.code.number <= 0
                && !signal.sender_exiting
                && sender != Some(*id)
                && sender != maker
                && !case.is_launcher(&event.task);
            by_number.then_some((event, signal, &event.task))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Scene, inside, outside};
    use crate::diagnose::Confidence;
    use crate::event::Task;

    /// A worker of PID 1 that has the number 7, as the `nth` one.
    fn worker(nth: u64) -> Task {
        let first = inside(7, "worker");
        Task {
            pid: first.pid + nth as u32,
            tid: first.tid + nth as u32,
            start_ns: first.start_ns + nth * 100_000_000,
            ..first
        }
    }

    #[test]
    fn a_number_of_two_processes_is_told() {
        let mut scene = Scene::new(&["app"]);
        let app = inside(1, "app");
        scene.fork(10, app.clone(), worker(0));
        scene.exit(20, worker(0), 0, 0);
        scene.fork(110, app.clone(), worker(1));
        scene.signal(120, outside(500, "cron"), worker(1), libc::SIGTERM, 0);
        scene.exit(130, worker(1), 0, 0);
        scene.exit(200, app, 0, 0);
        let (confidence, verdict) = scene.expect("pid-reused");
        assert_eq!(confidence, Confidence::Proven);
        assert!(verdict.starts_with("PID 7 belonged to 2 different processes in turn"));
        assert!(!verdict.contains("other number"), "{verdict}");
    }

    #[test]
    fn a_process_that_executes_another_program_is_still_the_same() {
        let mut scene = Scene::new(&["app"]);
        let app = inside(1, "app");
        scene.fork(10, app.clone(), worker(0));
        scene.exec(20, worker(0), &["other"]);
        scene.fork(30, app.clone(), inside(8, "worker"));
        scene.exit(200, app, 0, 0);
        scene.expect_no("pid-reused");
    }
}
