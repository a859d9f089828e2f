//! Limits of a process: CPU time, file size, descriptors; of the kernel; and no room left.

use std::collections::HashMap;

use super::crash::names;
use super::exit::reason;
use super::refused;
use crate::diagnose::{Case, Family, Finding, Origin, ProcessId, Rank, Rule, Tagged, is_bad};
use crate::event::{Event, FailedCall, Moment, SignalResult};
use crate::text;
use crate::words;

pub(super) const FAMILY: Family = Family {
    rules: &[
        Rule {
            id: "rlimit-cpu",
            about: "the limit of CPU time was reached",
            alternatives: &["the OOM killer", "kill(2) by somebody"],
        },
        Rule {
            id: "rlimit-fsize",
            about: "the limit of a file's size was reached",
            alternatives: &["a SIGXFSZ that somebody sent", "a full disk"],
        },
        Rule {
            id: "enospc",
            about: "no room was left on a file system",
            alternatives: &["no inodes left there"],
        },
        Rule {
            id: "emfile",
            about: "the limit of open files was reached",
            alternatives: &["a limit of the object itself"],
        },
        Rule {
            id: "kernel-limit",
            about: "the kernel refused another of its objects: inotify watches, namespaces, semaphores, mounts, \
                    keys, huge pages",
            alternatives: &["another limit with the same error"],
        },
        Rule {
            id: "cpu-throttled",
            about: "the jail's CPU limit made it wait in most periods",
            alternatives: &["a limit of a cgroup above"],
        },
    ],
    rank: Rank::Problem,
    analyse,
};

/// What there is of this family in a case.
fn analyse(case: &Case) -> Vec<Tagged> {
    let mut found = Vec::new();
    found.extend(cpu(case).into_iter().map(|one| ("rlimit-cpu", one)));
    let sizes = file_size(case).into_iter().chain(refused_size(case));
    found.extend(sizes.map(|one| ("rlimit-fsize", one)));
    // Refused memory belongs to another family.
    let refused = refused::all(case).iter();
    found.extend(refused.filter(|(id, _)| *id != refused::MEMORY).cloned());
    found.extend(throttled(case).map(|one| ("cpu-throttled", one)));
    found
}

/// A limit of a process when it ended, in words.
fn limit(case: &Case, id: ProcessId, name: &str, unit: fn(u64) -> String) -> Option<String> {
    case.limit(id, name, case.ended_ns(id))
        .map(|limit| unit(limit.soft))
}

/// Processes that a signal of that origin ended, with the signal.
fn ended_by(case: &Case, numbers: &[i32], origin: Origin) -> Vec<(ProcessId, i32)> {
    case.deaths()
        .into_iter()
        .filter_map(|id| {
            let (event, signal) = case.killing_signal(id)?;
            let number = signal.signal.number;
            // Such limits act in the process itself; asking for the origin takes a while.
            let own = event.task.pid == signal.target.pid && numbers.contains(&number);
            let fits = own && case.origin(event, signal) == origin;
            fits.then_some((id, number))
        })
        .collect()
}

fn cpu(case: &Case) -> Vec<Finding> {
    let ended = ended_by(case, &[libc::SIGXCPU, libc::SIGKILL], Origin::CpuLimit);
    let mut findings = Vec::new();
    for number in [libc::SIGXCPU, libc::SIGKILL] {
        let ids: Vec<ProcessId> = ended
            .iter()
            .filter(|(_, by)| *by == number)
            .map(|(id, _)| *id)
            .collect();
        let Some(first) = ids.first().copied() else {
            continue;
        };
        let Some((event, _)) = case.killing_signal(first) else {
            continue;
        };
        let soft = number == libc::SIGXCPU;
        let used = case
            .exit(first)
            .map(|(_, exit)| exit.user_ns + exit.system_ns)
            .filter(|ns| *ns > 0)
            .map_or_else(
                || "its CPU time".to_owned(),
                |ns| format!("{} of CPU time", text::duration(ns)),
            );
        let which = match (
            soft,
            limit(case, first, "cpu", |seconds| format!(" of {seconds} s")),
        ) {
            (true, limit) => format!(
                "its soft limit{} (SIGXCPU, 152 to a shell)",
                limit.unwrap_or_default()
            ),
            (false, _) => "its hard limit (SIGKILL, 137 to a shell)".to_owned(),
        };
        let mut finding = Finding::new(format!(
            "{} used {used} and was ended at {which}; this is not an OOM kill, and nobody sent the signal.",
            names(case, &ids),
        ))
        .proven()
        .about(ids.clone())
        .shown_by(
            event,
            "the kernel's own signal, raised in the process by the tick of its clock",
        )
        .not("the OOM killer", "it names its victim, and did not name this process")
        .not("kill(2) by somebody", "the code is the kernel's (SI_KERNEL), and no system call was under way")
        .relies_on_all(&["oom-kill"])
        .remedy(
            "Raise the limit (--rlimit cpu=, ulimit -t, LimitCPU=), or find the loop that burns the time. To \
             slow a program down instead of ending it, use a CPU share or quota (--cpus).",
        );
        let warned = case.received(first).find(|(_, signal)| {
            signal.signal.number == libc::SIGXCPU && signal.code.number > 0 && !soft
        });
        if let Some((event, signal)) = warned {
            let why = match signal.result {
                SignalResult::Ignored if signal.unkillable => "PID 1 had no handler for it",
                SignalResult::Ignored => "the program ignores it",
                _ => "the program goes on after it",
            };
            finding = finding.shown_by(event, format!("SIGXCPU at the soft limit before: {why}"));
        }
        if let Some((exit, ended)) = case.exit(first) {
            finding = finding.shown_by(exit, words::status(&ended.status));
        }
        findings.push(finding);
    }
    findings
}

fn file_size(case: &Case) -> Vec<Finding> {
    let ids: Vec<ProcessId> = ended_by(case, &[libc::SIGXFSZ], Origin::FileSizeLimit)
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    let Some((event, signal)) = ids.first().and_then(|id| case.killing_signal(*id)) else {
        return Vec::new();
    };
    let size = ids.first().and_then(|id| {
        limit(case, *id, "fsize", |bytes| {
            format!(" of {}", text::bytes(bytes))
        })
    });
    let call = signal
        .syscall
        .as_ref()
        .map_or("a write", |call| call.name.as_str());
    let finding = Finding::new(format!(
        "{} wrote more to a file than its limit{} allows, and was ended for it (SIGXFSZ, 153 to a shell).",
        names(case, &ids),
        size.unwrap_or_default()
    ))
    .proven()
    .about(ids.clone())
    .shown_by(event, format!("SIGXFSZ from its own {call}"))
    .not("a SIGXFSZ that somebody sent", "the sender is the process itself, in a call that writes")
    .not("a full disk", "that is an error (ENOSPC), not a signal")
    .remedy(
        "Raise the limit (--rlimit fsize=, ulimit -f, LimitFSIZE=), or rotate the file that grows. A program \
         that ignores SIGXFSZ gets the error EFBIG instead.",
    );
    vec![match ids.first().and_then(|id| case.exit(*id)) {
        Some((exit, ended)) => finding.shown_by(exit, words::status(&ended.status)),
        None => finding,
    }]
}

/// Programs that ignore SIGXFSZ and gave up at the error: one for each.
fn refused_size(case: &Case) -> Vec<Finding> {
    let gave_up = |id: ProcessId| {
        let bytes = case.limit(id, "fsize", case.ended_ns(id))?.soft;
        let (exit, ended) = case
            .exit(id)
            .filter(|(_, ended)| ended.status.code.is_some_and(|code| code != 0))?;
        let reason = reason::reason(case, id)?;
        (reason.failed.call.error.number == libc::EFBIG).then(|| {
            let name = case.name(id);
            let end = words::status(&ended.status);
            let words = reason::words(case, &reason.failed.call);
            Finding::new(format!(
                "{name} {}; {words}. Its limit on the size of a file (RLIMIT_FSIZE) is {}.",
                case.did_end(&ended.status),
                text::bytes(bytes)
            ))
            .proven()
            .about([id])
            .about(case.code_to(&[id]))
            .shown_by(reason.failed.event, words)
            .shown_by(exit, end)
            .cause("The file came to that limit.", reason.confidence)
            .or("the largest file that its file system allows")
            .not("a full disk", "the error is EFBIG, not ENOSPC")
            .not("a SIGXFSZ that somebody sent", "no signal ended it")
            .remedy("Raise the limit (--rlimit fsize=, ulimit -f, LimitFSIZE=), or rotate the file that grows.")
        })
    };
    case.deaths().into_iter().filter_map(gave_up).collect()
}

/// A process that ended badly with such errors among its last ones.
pub(super) struct Failed<'a> {
    pub(super) id: ProcessId,
    event: &'a Event,
    pub(super) last: &'a FailedCall,
    count: usize,
}

/// Processes whose ends are told by calls that failed, for rules that ask whether they are explained.
pub(super) fn failures(case: &Case) -> Vec<ProcessId> {
    let others = super::cgroup::refused(case);
    let others = others.into_iter().chain(refused_size(case));
    let refused = refused::all(case).iter().map(|(_, one)| one);
    refused
        .flat_map(|finding| finding.subjects.clone())
        .chain(others.flat_map(|finding| finding.subjects))
        .collect()
}

/// What makes two ends alike: one sentence must be true of both.
#[derive(PartialEq, Eq, Hash)]
struct Alike<'a> {
    program: &'a str,
    call: &'a str,
    error: i32,
    path: Option<&'a str>,
    code: Option<i32>,
    signal: Option<i32>,
}

/// Programs that ended badly after calls failed so: one verdict for those that are alike.
pub(super) fn failed<'a>(case: &'a Case, errors: &[i32]) -> Vec<Vec<Failed<'a>>> {
    let mut groups: Vec<Vec<Failed<'a>>> = Vec::new();
    let mut known: HashMap<Alike<'_>, usize> = HashMap::new();
    for (id, event, failed) in case.all_failed_calls() {
        let fits = |call: &&FailedCall| errors.contains(&call.error.number);
        let Some(last) = failed.calls.iter().rev().find(fits) else {
            continue;
        };
        let Some(status) = case.status(id).filter(|status| is_bad(status)) else {
            continue;
        };
        let alike = Alike {
            program: event.task.comm.as_str(),
            call: last.syscall.name.as_str(),
            error: last.error.number,
            path: last.path.as_deref(),
            code: status.code,
            signal: status.signal.as_ref().map(|signal| signal.number),
        };
        let at = *known.entry(alike).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        if let Some(group) = groups.get_mut(at) {
            group.push(Failed {
                id,
                event,
                last,
                count: failed.calls.iter().filter(fits).count(),
            });
        }
    }
    groups
}

/// The verdict on such a group: what it was, where, and how it ended.
pub(super) fn ended_after(
    case: &Case,
    group: &[Failed<'_>],
    what: &str,
    fix: &str,
) -> Option<Finding> {
    let first = group.first()?;
    let ids: Vec<ProcessId> = group.iter().map(|failed| failed.id).collect();
    let call = first.last;
    let path = call
        .path
        .as_ref()
        .map_or_else(String::new, |path| format!(" of {}", text::escape(path)));
    let status = case.status(first.id)?;
    let (exit, _) = case.exit(first.id)?;
    // The time is that of one.
    let whose = match group.len() {
        1 => String::new(),
        _ => format!("{} ", case.name(first.id)),
    };
    let mut finding = Finding::new(format!(
        "{} {}, {whose}{} after {what}: {}{path} failed with {}.",
        names(case, &ids),
        case.did_end(status),
        text::duration(call.before_ns),
        text::escape(&call.syscall.name),
        case.error(&call.error),
    ))
    .about(ids.clone())
    .about(case.code_to(&ids))
    .shown_by(
        first.event,
        match first.count {
            1 => "one of its last failed system calls".to_owned(),
            count => format!("{count} of its last failed system calls failed so"),
        },
    )
    .shown_by(exit, words::status(status))
    .remedy(fix);
    // The last thing that failed, and nothing that another process did: nothing else explains it.
    let only = |failed: &Failed<'_>| {
        let calls = case.failed_calls(failed.id);
        calls.and_then(|(_, failed)| failed.calls.last()) == Some(failed.last)
            && case.passed_on(failed.id).is_none()
    };
    if status.code.is_some() && group.iter().all(only) {
        finding = finding
            .proven()
            .not(
                "another error",
                "it is the last system call that failed before the program returned",
            )
            .not(
                "a child's failure",
                "no child of it had ended badly just before",
            );
    }
    Some(finding)
}

/// Periods in which a jail that has a CPU limit must wait, of which it is worth a word: more than half.
const MOST: u64 = 2;
/// So few periods (100 ms each, mostly) say nothing.
const PERIODS: u64 = 5;

/// The jail's own limit (`--cpus`) made it wait.
fn throttled(case: &Case) -> Option<Finding> {
    let periods = case.counter_growth(0, "cpu.stat:nr_periods")?;
    let throttled = case.counter_growth(0, "cpu.stat:nr_throttled")?;
    if periods < PERIODS || throttled < periods.div_ceil(MOST) {
        return None;
    }
    let (event, _) = case.counters(Moment::End)?;
    let waited = case
        .counter_growth(0, "cpu.stat:throttled_usec")
        .map_or_else(String::new, |us| {
            format!(", {} in all", text::duration(us.saturating_mul(1000)))
        });
    Some(
        Finding::new(format!(
            "The jail was throttled in {} of {} periods: it had used up its CPU limit and had to wait for the next \
             one{waited}.",
            text::count(throttled),
            text::count(periods)
        ))
        .proven()
        .shown_by(event, "nr_throttled and nr_periods of cpu.stat")
        .not("a limit of a cgroup above", "cpu.stat counts what the jail's own limit cut short")
        .remedy("Raise the limit (--cpus), or have it run fewer threads at a time.")
        .note(),
    )
}

#[cfg(test)]
#[path = "limit_tests.rs"]
mod tests;
