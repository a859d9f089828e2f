//! PID 1 that waits for the last of its namespace.

use super::{Group, Looks, groups, name, sentence};
use crate::diagnose::{Case, Finding, Follows};
use crate::event::ThreadState;
use crate::hang::{self, Hold};
use crate::text;

/// PID 1 waits for the last of its namespace: for whom, and what holds that one.
pub(in crate::diagnose::rules::hang) fn pid_namespace(
    case: &Case,
    looks: &Looks<'_>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for group in groups(looks, |hold| hold.cause == hang::Cause::PidNamespace) {
        for init in &group.holds {
            findings.extend(zap(case, looks, &group, init));
        }
    }
    findings
}

fn zap(case: &Case, looks: &Looks<'_>, group: &Group<'_>, init: &Hold<'_>) -> Option<Finding> {
    let (event, _, holds) = looks.0.iter().rfind(|(_, snapshot, _)| {
        snapshot
            .threads
            .iter()
            .any(|thread| thread.task.pid == init.thread.task.pid)
    })?;
    let level = pids(init.thread).len();
    // Those of its namespace and of those below, which come first if they explain more.
    let members: Vec<&Hold<'_>> = holds
        .iter()
        .filter(|hold| {
            hold.thread.task.pid != init.thread.task.pid
                && pids(hold.thread).len() >= level
                && hold
                    .thread
                    .stall
                    .as_ref()
                    .is_some_and(|stall| stall.in_pid_namespace)
        })
        .collect();
    let who = name(case, init.thread);
    let nested = init.thread.stall.as_ref().is_some_and(hang::is_nested_init);
    let what = match nested {
        true => format!("{who}, PID 1 of a nested PID namespace,"),
        false => who,
    };
    let Some(first) = members.first() else {
        let explained = looks
            .0
            .iter()
            .flat_map(|(_, _, holds)| holds)
            .any(|hold| hold.cause != hang::Cause::PidNamespace);
        if explained {
            return None;
        }
        let finding = Finding::new(format!(
            "{what} is dead, but its end is not complete: the kernel waits for the rest of its PID namespace, which \
             could not be seen."
        ));
        return Some(
            finding
                .shown_by(event, "it waits in zap_pid_ns_processes")
                .consistent(),
        );
    };
    let more = match members.len() {
        1 => String::new(),
        count => format!(" (and {} more)", text::count(count as u64 - 1)),
    };
    let (lasted, end) = group.lasted(case);
    let end = match end {
        "" => "",
        _ => " procjail gave up.",
    };
    // What holds it has a finding of its own, but for a parent outside.
    let why = match first.cause {
        hang::Cause::NotReaped(_) => format!(": {}", hang::reason(first)),
        _ => format!(" (state {})", text::escape(&first.thread.state)),
    };
    let mut finding = Finding::new(format!(
        "{what} is dead, but its end took {lasted}: the kernel waits for {}{more} in its PID namespace{why}.{end}",
        name(case, first.thread),
    ))
        .proven()
        .shown_by(event, "it waits in zap_pid_ns_processes")
        .fact(
            "PID 1 of a PID namespace ends after all others in it are gone and reaped \
             (pid_namespaces(7))",
        )
        .not("a zombie that nobody reaps", "it is in state S, not Z")
        .at(group.first.time_ns.saturating_sub(group.waited_ns))
        .remedy(sentence(&hang::remedy(first)));
    if let Some(process) = case.process_of(&first.thread.task) {
        finding = match first.cause {
            // Nothing else explains it.
            hang::Cause::NotReaped(_) => finding.about([process]),
            _ => finding.follows(Follows::Process(process)),
        };
    }
    Some(finding)
}

fn pids(thread: &ThreadState) -> &[u32] {
    thread
        .stall
        .as_ref()
        .map_or(&[], |stall| &stall.namespace_pids)
}
