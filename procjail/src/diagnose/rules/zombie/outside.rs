//! Zombies that wait for somebody outside the jail, PID 1 among them.

use std::collections::HashSet;

use super::LASTING_NS;
use crate::diagnose::{Case, Finding};
use crate::event::{Task, What};
use crate::render;

/// Freeing so much memory may take a second, bytes.
const LARGE_BYTES: u64 = 4 << 30;

/// Whether a task is neither of the jail nor its launcher.
fn is_outside(case: &Case, task: &Task) -> bool {
    task.pid != 0 && !task.in_jail && task.jail_pid.is_none() && !case.is_launcher(task)
}

pub(super) fn outside_parent(case: &Case) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut told = HashSet::new();
    let pid1_end = case.pid1().and_then(|pid1| case.exit(pid1));
    for id in case.deaths() {
        let process = case.process(id);
        if process.is_pid1() || process.task.jail_pid.is_none() {
            continue;
        }
        let Some((exit, ended)) = case
            .exit(id)
            .filter(|(_, ended)| is_outside(case, &ended.parent))
        else {
            continue;
        };
        let until_ns = process.freed_ns.unwrap_or(case.end_ns());
        let held_ns = until_ns.saturating_sub(exit.time_ns);
        if held_ns < LASTING_NS || !told.insert(ended.parent.pid) {
            continue;
        }
        let outsider = case.who(&ended.parent);
        let collected = case
            .each(|what| matches!(what, What::JailExited(_)).then_some(()))
            .map(|(event, ())| event)
            .next();
        let waited = pid1_end
            .zip(collected)
            .filter(|((end, _), collected)| {
                end.time_ns < until_ns
                    && collected.time_ns.saturating_sub(end.time_ns) >= LASTING_NS / 10
            })
            .map(|((end, _), collected)| (end, collected));
        let blocked = waited.map_or_else(String::new, |(end, collected)| {
            format!(
                ", which kept PID 1 from ending for {}: it cannot go before all of its namespace are collected",
                case.between(end, collected)
            )
        });
        let mut finding = Finding::new(format!(
            "{} was started in the jail from outside by {outsider}, which did not collect it for {} after its \
             end{blocked}.",
            case.name(id),
            render::duration(held_ns),
        ))
        .proven()
        .about([id])
        .shown_by(
            exit,
            format!("{} {}; its parent is outside the jail", case.name(id), case.did_end(&ended.status)),
        )
        .not("PID 1's neglect", "only the parent may collect it, and that is not PID 1")
        .relies_on_all(&["free"])
        .fix(format!(
            "End {outsider} or have it wait for its child: an exec client, nsenter or a debugger that entered \
             the namespace and hangs."
        ));
        if let Some((end, collected)) = waited {
            finding = finding
                .shown_by(end, "PID 1 began to end")
                .shown_by(collected, "PID 1 had ended, and was collected");
        }
        findings.push(finding);
    }
    findings
}

pub(super) fn pid1_unreaped(case: &Case) -> Vec<Finding> {
    let Some((pid1, (exit, ended))) = case.pid1().and_then(|pid1| Some((pid1, case.exit(pid1)?)))
    else {
        return Vec::new();
    };
    // PID 1 is done when all others of its namespace are collected, which the kernel does for those that
    // have no parent outside.
    let ready_ns = case
        .deaths()
        .into_iter()
        .flat_map(|id| {
            let outside = case
                .exit(id)
                .is_some_and(|(_, ended)| is_outside(case, &ended.parent));
            let released = match outside {
                // Its parent keeps it to the end, as far as the trace tells.
                true => Some(case.process(id).freed_ns.unwrap_or(case.end_ns())),
                false => None,
            };
            [Some(case.ended_ns(id)), released]
        })
        .flatten()
        .chain([exit.time_ns])
        .max()
        .unwrap_or(exit.time_ns);
    let collected = case
        .each(|what| matches!(what, What::JailExited(_)).then_some(()))
        .map(|(event, ())| event)
        .next();
    let until_ns = collected.map_or(case.end_ns(), |event| event.time_ns);
    let held_ns = until_ns.saturating_sub(ready_ns);
    if held_ns < LASTING_NS {
        return Vec::new();
    }
    let alive = case.processes().any(|(id, process)| {
        process.in_jail() && process.task.jail_pid.is_some() && process.exit.is_none() && id != pid1
    });
    if alive {
        return Vec::new();
    }
    // It was awake and waited: what for, it told.
    let waited = case
        .snapshots()
        .any(|(event, snapshot)| snapshot.waited_ns.is_some() && event.time_ns <= until_ns);
    if waited {
        return Vec::new();
    }
    let parent = case.task_name(&ended.parent);
    let mut finding = Finding::new(format!(
        "{} was dead, and so was all of its namespace, but its parent {parent} did not collect it for {}: the \
         jail seemed to run on.",
        case.name(pid1),
        render::duration(held_ns),
    ))
    .about([pid1])
    .shown_by(exit, format!("{} {}", case.name(pid1), case.did_end(&ended.status)))
    .not("processes that are left in the jail", "all that the trace knows of had ended")
    .relies_on_all(&["exit", "fork"])
    .fix(format!(
        "Look at what kept {parent} from waiting: stopped (SIGSTOP, a debugger), frozen, or short of processor \
         time."
    ));
    if let Some(event) = collected {
        finding = finding.shown_by(event, format!("{parent} collected it"));
    }
    if ended.max_rss_bytes < LARGE_BYTES {
        finding = finding
            .not(
                "memory that took long to free",
                "it had too little for that",
            )
            .proven();
    }
    vec![finding]
}
