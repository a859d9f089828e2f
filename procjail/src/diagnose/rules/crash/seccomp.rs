//! Seccomp filters.

use std::collections::HashSet;

use super::{alike, crashes, ids, names};
use crate::diagnose::{Case, Finding, Origin, ProcessId};
use crate::event::FailedCall;
use crate::text;
use crate::words;

pub(super) fn killed(case: &Case) -> Vec<Finding> {
    let mut crashes = crashes(case, libc::SIGSYS);
    crashes.retain(|crash| case.origin(crash.event, crash.signal) == Origin::Seccomp);
    let call = |crash: &super::Crash<'_>| {
        crash
            .signal
            .syscall
            .as_ref()
            .map_or_else(|| "a system call".to_owned(), |call| call.name.clone())
    };
    let mut findings: Vec<Finding> = alike(case, crashes, call)
        .into_iter()
        .filter_map(|group| {
            let first = group.first()?;
            let call = call(first);
            let finding = Finding::new(format!(
                "{} called {call}, which its seccomp filter answers with death (SIGSYS, which a shell \
                 reports as 159).",
                names(case, &ids(&group)),
            ))
            .proven()
            .about(ids(&group))
            .shown_by(first.event, format!("SIGSYS with {} in {call}", first.signal.code.name))
            .not("a SIGSYS that somebody sent", "it has the code of seccomp, and the process itself is the sender")
            .remedy(fix(&call));
            Some(match case.exit(first.id) {
                Some((exit, ended)) => finding.shown_by(exit, words::status(&ended.status)),
                None => finding,
            })
        })
        .collect();
    findings.extend(killed_silently(case));
    findings
}

fn fix(call: &str) -> String {
    format!(
        "Allow {call} in the filter (the container's seccomp profile, systemd's SystemCallFilter=, or the \
         program's own sandbox), or have it answer with an error: a newer C library may use calls that an \
         old profile doesn't know."
    )
}

/// Before Linux 5.16 the filter ends the process without a signal that could be seen.
fn killed_silently(case: &Case) -> Option<Finding> {
    let silent: Vec<ProcessId> = case
        .deaths()
        .into_iter()
        .filter(|id| {
            case.status(*id)
                .and_then(|status| status.signal.as_ref())
                .is_some_and(|signal| signal.number == libc::SIGSYS)
                && !case
                    .received(*id)
                    .any(|(_, signal)| signal.signal.number == libc::SIGSYS)
        })
        .collect();
    let (exit, ended) = case.exit(*silent.first()?)?;
    Some(
        Finding::new(format!(
            "{} was ended by its seccomp filter for a system call that it forbids (SIGSYS, which a shell \
             reports as 159).",
            names(case, &silent)
        ))
        .proven()
        .about(silent.clone())
        .shown_by(exit, words::status(&ended.status))
        .not("a SIGSYS that somebody sent", "no SIGSYS was sent to it")
        .relies_on_all(&["signal-generated"])
        .remedy(fix("the call")),
    )
}

/// A thread's end with SIGSYS that nobody sent; the process goes on.
pub(super) fn thread_killed(case: &Case) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (id, process) in case.processes().filter(|(_, process)| process.in_jail()) {
        let sent = || {
            case.received(id)
                .any(|(_, signal)| signal.signal.number == libc::SIGSYS)
        };
        let died: Vec<_> = case
            .thread_exits(id)
            .filter(|(_, exit)| {
                let signal = exit.status.signal.as_ref();
                signal.is_some_and(|signal| signal.number == libc::SIGSYS)
            })
            .collect();
        let Some((event, _)) = died.first().copied() else {
            continue;
        };
        // The whole process may end of it, as a rule of its own says.
        let with_it = case
            .status(id)
            .and_then(|status| status.signal.as_ref())
            .is_some_and(|signal| signal.number == libc::SIGSYS);
        if with_it || sent() {
            continue;
        }
        let more = match died.len() as u64 {
            1 => String::new(),
            count => format!(" ({} threads so far)", text::count(count)),
        };
        let lived = case.ended_ns(id).saturating_sub(event.time_ns);
        findings.push(
            Finding::new(format!(
                "Thread {} ({}) of {} was ended by a seccomp filter without a signal or a message{more}; the \
                 process went on without it for {}, and whatever that thread held or did is stuck.",
                event.task.tid,
                text::escape(&event.task.comm),
                case.task_name(&process.task),
                text::duration(lived),
            ))
            .proven()
            .about([id])
            .shown_by(event, "the thread ended by SIGSYS, and only the thread")
            .fact("a filter's SECCOMP_RET_KILL_THREAD works that way")
                .not("a SIGSYS that somebody sent", "no SIGSYS was sent to the process")
            .relies_on_all(&["signal-generated"])
            .remedy(
                "Have the filter end the whole process (SECCOMP_RET_KILL_PROCESS), so that somebody notices, \
                 and allow the call that the thread made.",
            ),
        );
    }
    findings
}

/// Calls that only policies refuse to root, or that old filters don't know.
fn is_policy(call: &FailedCall) -> bool {
    match call.error.number {
        libc::ENOSYS => true,
        libc::EPERM => matches!(
            call.syscall.name.as_str(),
            "unshare"
                | "setns"
                | "mount"
                | "umount2"
                | "pivot_root"
                | "clone"
                | "clone3"
                | "bpf"
                | "perf_event_open"
                | "ptrace"
                | "process_vm_readv"
                | "keyctl"
                | "add_key"
                | "request_key"
                | "personality"
                | "userfaultfd"
                | "io_uring_setup"
                | "open_by_handle_at"
                | "init_module"
                | "finit_module"
                | "reboot"
                | "settimeofday"
                | "clock_settime"
                | "clock_adjtime"
                | "sethostname"
                | "set_mempolicy"
                | "mbind"
                | "move_pages"
                | "syslog"
                | "quotactl"
        ),
        _ => false,
    }
}

/// A process that ends badly just after a policy refused it a call.
pub(in crate::diagnose) fn refused(case: &Case) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut told = HashSet::new();
    for (id, event, failed) in case.all_failed_calls() {
        let Some(call) = failed.calls.last().filter(|call| is_policy(call)) else {
            continue;
        };
        let own_code = case
            .status(id)
            .and_then(|status| status.code)
            .is_some_and(|code| code != 0);
        if !own_code || !told.insert((&event.task.comm, &call.syscall.name)) {
            continue;
        }
        findings.push(
            Finding::new(format!(
                "{} ended {} after {} failed with {}: a policy refuses it (a seccomp filter, a security \
                 module, or a missing capability).",
                case.name(id),
                text::duration(call.before_ns),
                text::escape(&call.syscall.name),
                case.error(&call.error),
            ))
            .consistent()
            .about([id])
            .about(case.code_to(&[id]))
            .shown_by(event, "its last failed system call")
            .remedy(format!(
                "See whether {} works outside the container; if so, allow it in the seccomp profile, or give \
                 the capability that it needs. A filter should answer ENOSYS to calls it doesn't know, so \
                 that programs fall back.",
                text::escape(&call.syscall.name)
            )),
        );
    }
    findings
}
