//! Zombies that wait for somebody outside the jail, PID 1 among them.

use std::collections::HashSet;

use super::LASTING_NS;
use crate::diagnose::{Case, Finding};
use crate::event::{Event, Task, What};
use crate::text;

/// The kernel tells of a release in an RCU callback (delayed_put_task_struct() in kernel/exit.c), which a
/// busy machine runs seconds later, nanoseconds.
const RELEASE_LAG_NS: u64 = 10_000_000_000;
/// Freeing so much memory may take a second, bytes.
const LARGE_BYTES: u64 = 4 << 30;

/// Whether a task is neither of the jail nor its launcher.
fn is_outside(case: &Case, task: &Task) -> bool {
    task.pid != 0 && !task.in_jail && task.jail_pid.is_none() && !case.is_launcher(task)
}

/// When all of the jail's processes were dead; nothing if one of them lives on.
fn all_dead_ns(case: &Case) -> Option<u64> {
    let alive = case.processes().any(|(_, process)| {
        process.in_jail() && process.task.jail_pid.is_some() && process.exit.is_none()
    });
    let last = case.deaths().into_iter().map(|id| case.ended_ns(id)).max();
    last.filter(|_| !alive)
}

/// When PID 1 was collected.
fn collected(case: &Case) -> Option<&Event> {
    case.each(|what| matches!(what, What::JailExited(_)).then_some(()))
        .map(|(event, ())| event)
        .next()
}

/// PID 1's end that took long, though all others were dead.
struct SlowEnd<'a> {
    began: &'a Event,
    /// Nothing if it was not over when the trace ended.
    collected: Option<&'a Event>,
    until_ns: u64,
}

fn slow_end(case: &Case) -> Option<SlowEnd<'_>> {
    let (began, _) = case.exit(case.pid1()?)?;
    let collected = collected(case);
    let until_ns = collected.map_or(case.end_ns(), |event| event.time_ns);
    let waited_ns = until_ns.saturating_sub(all_dead_ns(case)?);
    (waited_ns >= LASTING_NS / 10).then_some(SlowEnd {
        began,
        collected,
        until_ns,
    })
}

pub(super) fn outside_parent(case: &Case) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut told = HashSet::new();
    let slow_end = slow_end(case);
    let pid1_ended_ns = case.pid1().map_or(case.end_ns(), |id| case.ended_ns(id));
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
        let freed_ns = process.freed_ns.unwrap_or(case.end_ns());
        let blocked = slow_end
            .as_ref()
            .filter(|slow| slow.began.time_ns < freed_ns);
        // An end that was not held up says that it was collected before, however late the news of it.
        let until_ns = freed_ns.min(blocked.map_or(pid1_ended_ns, |slow| slow.until_ns));
        let held_ns = until_ns.saturating_sub(exit.time_ns);
        let lasting_ns = match blocked {
            Some(_) => LASTING_NS,
            None => LASTING_NS + RELEASE_LAG_NS,
        };
        if held_ns < lasting_ns || !told.insert(ended.parent.pid) {
            continue;
        }
        let outsider = case.who(&ended.parent);
        let consequence = blocked.map_or_else(String::new, |slow| {
            format!(
                ", which kept PID 1 from ending for {}: it cannot go before all of its namespace are collected",
                text::duration(slow.until_ns.saturating_sub(slow.began.time_ns))
            )
        });
        let mut finding = Finding::new(format!(
            "{} was started in the jail from outside by {outsider}, which did not collect it for {} after its \
             end{consequence}.",
            case.name(id),
            text::duration(held_ns),
        ))
        .about([id])
        .shown_by(
            exit,
            format!("{} {}; its parent is outside the jail", case.name(id), case.did_end(&ended.status)),
        )
        .not("PID 1's neglect", "only the parent may collect it, and that is not PID 1")
        .relies_on_all(&["free"])
        .remedy(format!(
            "End {outsider} or have it wait for its child: an exec client, nsenter or a debugger that entered \
             the namespace and hangs."
        ));
        if let Some(slow) = blocked {
            finding = finding.proven().shown_by(slow.began, "PID 1 began to end");
        }
        if let Some(collected) = blocked.and_then(|slow| slow.collected) {
            finding = finding.shown_by(collected, "PID 1 had ended, and was collected");
        }
        findings.push(finding);
    }
    findings
}

pub(super) fn pid1_unreaped(case: &Case) -> Vec<Finding> {
    // Only the launcher tells when PID 1 was collected.
    if !case.is_launched() {
        return Vec::new();
    }
    let Some((pid1, (exit, ended))) = case.pid1().and_then(|pid1| Some((pid1, case.exit(pid1)?)))
    else {
        return Vec::new();
    };
    let Some(dead_ns) = all_dead_ns(case) else {
        return Vec::new();
    };
    // PID 1 is done when all others of its namespace are collected, which the kernel does for those that
    // have no parent outside; such a parent keeps its child to the end, as far as the trace tells.
    let ready_ns = case
        .deaths()
        .into_iter()
        .filter(|id| {
            case.exit(*id)
                .is_some_and(|(_, ended)| is_outside(case, &ended.parent))
        })
        .map(|id| case.process(id).freed_ns.unwrap_or(case.end_ns()))
        .fold(dead_ns, u64::max);
    let collected = collected(case);
    let until_ns = collected.map_or(case.end_ns(), |event| event.time_ns);
    let held_ns = until_ns.saturating_sub(ready_ns);
    if held_ns < LASTING_NS {
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
        text::duration(held_ns),
    ))
    .about([pid1])
    .shown_by(exit, format!("{} {}", case.name(pid1), case.did_end(&ended.status)))
    .not("processes that are left in the jail", "all that the trace knows of had ended")
    .relies_on_all(&["exit", "fork"])
    .remedy(format!(
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
