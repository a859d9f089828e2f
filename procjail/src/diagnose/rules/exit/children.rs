//! Statuses that nobody gets, and children that outlive the main command.

use std::collections::{HashMap, HashSet};

use crate::diagnose::rules::crash::names;
use crate::diagnose::{Case, Finding, ProcessId, is_bad};
use crate::event::{Disposition, Event, FailedCall, SignalResult, What};
use crate::text;

/// A main command that returns within this time only started a daemon, nanoseconds.
const DAEMON_NS: u64 = 10_000_000_000;
/// It returns so soon after the last process that it leaves was made, nanoseconds.
const READY_NS: u64 = 1_000_000_000;
/// A copy that is made so shortly before the end is made to go on in its stead, nanoseconds.
const LAST_ACT_NS: u64 = 20_000_000;
/// A daemon's launcher returns so soon after it was made, nanoseconds.
const AT_ONCE_NS: u64 = 500_000_000;
/// The kernel releases a process that nobody needs to collect within this time, nanoseconds.
const RELEASE_NS: u64 = 1_000_000_000;
/// `P_PID` of waitid(2).
const P_PID: u64 = 1;

/// The child that a failed wait was for, as the waiter numbers it; `None` for any.
fn waited_for(call: &FailedCall) -> Option<u32> {
    let first = *call.args.first()?;
    match call.syscall.name.as_str() {
        "wait4" => u32::try_from(first as i32).ok().filter(|pid| *pid != 0),
        "waitid" if first == P_PID => call.args.get(1).map(|pid| *pid as u32),
        _ => None,
    }
}

/// Waits for one child that found none (ECHILD), with the process and the child.
fn in_vain(case: &Case) -> Vec<(ProcessId, &Event, &FailedCall, ProcessId)> {
    let mut found = Vec::new();
    for (id, event, failed) in case.all_failed_calls() {
        for call in failed
            .calls
            .iter()
            .filter(|call| call.error.number == libc::ECHILD)
        {
            let Some(pid) = waited_for(call) else {
                continue;
            };
            let child = case
                .process(id)
                .children
                .iter()
                .rev()
                .find(|child| case.process(**child).task.jail_pid == Some(pid));
            if let Some(child) = child {
                found.push((id, event, call, *child));
            }
        }
    }
    found
}

/// A wait for a child that another wait of the same process had collected.
pub(super) fn stolen(case: &Case) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (id, event, call, child) in in_vain(case) {
        let Some((reap, _)) = case.reap(child) else {
            continue;
        };
        if case.process_of(&reap.task) != Some(id) {
            continue;
        }
        // Of a child that did its work nothing is missed, nor of one that the parent ended itself.
        let ended = case
            .killing_signal(child)
            .is_some_and(|(event, _)| case.process_of(&event.task) == Some(id));
        let Some(status) = case.status(child).filter(|status| is_bad(status) && !ended) else {
            continue;
        };
        let status = case.did_end(status);
        let by = match reap.task.tid == call.tid {
            true => "the same thread (a handler of SIGCHLD, or a loop that collects any child)"
                .to_owned(),
            false => format!(
                "its thread {} ({})",
                reap.task.tid,
                text::escape(&reap.task.comm)
            ),
        };
        findings.push(
            Finding::new(format!(
                "{} waited for its child {} and got ECHILD, as {by} had collected it first: that wait did not \
                 tell that the child {status}.",
                case.name(id),
                case.name(child),
            ))
            .proven()
            .about([id])
            .about(case.code_to(&[id]))
            .shown_by(reap, format!("{} collected by {by}", case.name(child)))
            .shown_by(
                event,
                format!("{} for it failed with ECHILD, {} before the end", call.syscall.name, text::duration(call.before_ns)),
            )
            .not("a child that the kernel discarded", "the wait that collected it is in the trace")
            .remedy(
                "Let one place in the program collect children: no wait(-1), SIGCHLD handler or reaping library \
                 beside code that waits for its own children by PID (or pidfd).",
            ),
        );
    }
    findings
}

/// The kernel released a child so soon after its end that nobody can have collected it.
fn released_at_once(case: &Case, id: ProcessId, parent: ProcessId) -> bool {
    case.process(id).freed_ns.is_some_and(|freed| {
        freed.saturating_sub(case.ended_ns(id)) <= RELEASE_NS && freed < case.ended_ns(parent)
    })
}

/// Children that the kernel discarded, by their parent. Those of `missed` were waited for in vain.
fn unclaimed(case: &Case, missed: &HashSet<ProcessId>) -> HashMap<ProcessId, Vec<ProcessId>> {
    let mut found: HashMap<ProcessId, Vec<ProcessId>> = HashMap::new();
    // Who collects children that the trace can't name may have collected any of its own.
    let unclear: HashSet<u32> = case
        .each(|what| match what {
            What::Reap(reap) if reap.child.pid == 0 => Some(()),
            _ => None,
        })
        .map(|(event, ())| event.task.pid)
        .collect();
    for id in case.deaths() {
        let process = case.process(id);
        if process.reap.is_some() || process.is_pid1() {
            continue;
        }
        let Some(parent) = case.last_parent(id) else {
            continue;
        };
        // The news of a release may be late; a wait that found no such child tells the same.
        // Without the probe that tells of waits, every child is released without one.
        let seen = case.header.tells_reaps();
        let gone = missed.contains(&id) || (seen && released_at_once(case, id, parent));
        let said = process.notice.as_ref().is_some_and(|notice| {
            notice.disposition != Disposition::Handler && notice.parent_pid != 0
        });
        if gone
            && !said
            && case.process(parent).in_jail()
            && !unclear.contains(&case.process(parent).task.pid)
        {
            found.entry(parent).or_default().push(id);
        }
    }
    // A parent that collects children does not ignore them.
    found.retain(|parent, _| case.process(*parent).collected.is_empty());
    found
}

/// Children that end without a SIGCHLD and are released without a wait: the parent ignores SIGCHLD, or
/// has SA_NOCLDWAIT.
pub(super) fn discarded(case: &Case) -> Vec<Finding> {
    let in_vain = in_vain(case);
    let missed = in_vain.iter().map(|(.., child)| *child).collect();
    let mut parents: Vec<(ProcessId, Vec<ProcessId>)> =
        unclaimed(case, &missed).into_iter().collect();
    parents.sort();
    let mut findings = Vec::new();
    for (parent, children) in parents {
        let waited = in_vain.iter().find(|(id, ..)| *id == parent);
        let bad: Vec<ProcessId> = children
            .iter()
            .copied()
            .filter(|child| case.status(*child).is_some_and(is_bad))
            .collect();
        // Who does not want to know, and misses nothing, does so on purpose.
        let failed = case.status(parent).is_some_and(is_bad);
        if waited.is_none() && bad.is_empty() && !failed {
            continue;
        }
        let first = bad.first().or(children.first()).copied();
        let Some((first, (exit, ended))) = first.and_then(|first| Some((first, case.exit(first)?)))
        else {
            continue;
        };
        let mut finding = Finding::new(format!(
            "{} ignores SIGCHLD, so the kernel discards how its children end: {} {}, and no wait could tell.",
            case.name(parent),
            names(case, &children),
            case.did_end(&ended.status),
        ))
        .proven()
        .about(children.clone())
        .shown_by(exit, format!("{} {}", case.name(first), case.did_end(&ended.status)))
        .fact(match released_at_once(case, first, parent) {
            true => "its parent got no SIGCHLD for it, and the kernel released it at once without a wait",
            false => "its parent got no SIGCHLD for it, and a wait for it found no such child",
        })
        .not("a zombie", "the kernel has released it")
        .not("a wait elsewhere in the process", "no wait of the process returned it")
        .relies_on_all(&["reap", "signal-generated"])
        .remedy(
            "Set SIGCHLD to its default action before making children (it is inherited through exec when \
             ignored: look at who starts the program), and don't use SA_NOCLDWAIT where statuses matter.",
        );
        if let Some((_, event, call, _)) = waited {
            finding = finding.shown_by(
                event,
                format!("its {} failed with ECHILD", call.syscall.name),
            );
            // The parent's own end follows from it.
            finding = finding.about([parent]).about(case.code_to(&[parent]));
        }
        findings.push(finding);
    }
    findings
}

/// Processes that were still running when the main command ended: the kernel killed them with the namespace.
pub(in crate::diagnose::rules) fn left(case: &Case, main: ProcessId) -> Vec<ProcessId> {
    let end_ns = case.ended_ns(main);
    let killed = |id: &ProcessId| {
        case.status(*id)
            .and_then(|status| status.signal.as_ref())
            .is_some_and(|signal| signal.number == libc::SIGKILL)
    };
    case.descendants(main)
        .into_iter()
        .filter(|id| case.process(*id).in_jail() && case.ended_ns(*id) > end_ns)
        .filter(|id| case.exit(*id).is_none() || killed(id))
        .collect()
}

/// The main command put something in the background, as a daemon does, and returned, and the rest went with it.
pub(super) fn daemonized(case: &Case, main: ProcessId) -> Option<Finding> {
    let (exit, ended) = case.exit(main)?;
    let lived = case.age_ns(main, exit.time_ns);
    if ended.status.code != Some(0)
        || !case.from_the_start()
        || asked_ns(case, main).is_some()
        || lived > DAEMON_NS
    {
        return None;
    }
    let left = left(case, main);
    let session = |id: ProcessId| case.exit(id).map_or(0, |(_, exit)| exit.session);
    let own = session(main);
    let last_made = case
        .process(main)
        .children
        .iter()
        .map(|child| case.born_ns(*child))
        .max();
    // Who made other children after it or became another program, and went on, had work of its own: what is left is a
    // helper.
    let helper = |id: ProcessId| {
        let born = case.born_ns(id);
        let became = case
            .execs(main)
            .any(|(event, _)| case.began_ns(event) > born);
        let made = last_made.is_some_and(|last| last > born);
        became || (made && exit.time_ns.saturating_sub(born) > AT_ONCE_NS)
    };
    // A session of its own, or a maker that ended first: what setsid and a double fork do. Or a copy of the program
    // that was its last act, which the kernel killed before it came to that.
    let apart = |id: ProcessId| {
        let session = session(id);
        let creator = case.process(id).creator;
        let copy = creator == Some(main)
            && case.execs(id).next().is_none()
            && exit.time_ns.saturating_sub(case.born_ns(id)) <= LAST_ACT_NS;
        let above = creator.filter(|creator| *creator != main);
        (own != 0 && session != 0 && session != own)
            || copy
            // Not what another program left running, as xargs(1) does that gives up.
            || above.is_some_and(|creator| {
                case.ended_ns(creator) <= exit.time_ns && case.execs(creator).next().is_none()
            })
    };
    let daemon = left.iter().copied().find(|id| apart(*id) && !helper(*id))?;
    // It returns as soon as the daemon and its workers are there.
    let ready = left.iter().map(|id| case.born_ns(*id)).max()?;
    if exit.time_ns.saturating_sub(ready) > READY_NS {
        return None;
    }
    let name = case.name(main);
    let detached = own != 0 && session(daemon) != own;
    let mut finding = Finding::new(format!(
        "{name} exited with 0 after {}, {} after {}. The jail ended with it: the kernel \
         killed {}, which {} still running, with the PID namespace.",
        text::duration(lived),
        text::duration(exit.time_ns.saturating_sub(case.born_ns(daemon))),
        match detached {
            true => format!(
                "{} was started, now in a session of its own (setsid)",
                case.name(daemon)
            ),
            false => format!("it had put {} in the background", case.name(daemon)),
        },
        case.names(&left),
        match left.len() {
            1 => "was",
            _ => "were",
        }
    ))
    .about(case.pid1())
    .about([main])
    .shown_by(exit, format!("{name} {}", case.did_end(&ended.status)))
    .not("a crash", "PID 1 ended by itself with 0")
    .not("a stop", "no signal had asked it to end")
    .relies_on_all(&["signal-generated"])
    .remedy(
        "Run the program in the foreground (its option is often --foreground, -F, --nodaemon or \
         \"daemon off\"), or have PID 1 wait for what it started.",
    );
    if let Some((event, _)) = case.exit(daemon) {
        let words = format!(
            "{} ended only after that, with the namespace",
            case.name(daemon)
        );
        finding = finding.shown_by(event, words).proven();
    }
    Some(finding)
}

/// When the main command was first asked to end, as far as it can have taken note: by a signal that it did not ignore,
/// or through procjail. CLOCK_BOOTTIME nanoseconds.
pub(in crate::diagnose::rules) fn asked_ns(case: &Case, main: ProcessId) -> Option<u64> {
    let end_ns = case.ended_ns(main);
    let signals = case
        .received(main)
        .filter(|(event, signal)| {
            asks(signal.signal.number)
                && case.process_of(&event.task) != Some(main)
                && signal.result != SignalResult::Ignored
        })
        .map(|(event, _)| event.time_ns);
    let stop = case.stop_request().map(|(event, _)| event.time_ns);
    signals
        .chain(stop)
        .filter(|time_ns| *time_ns <= end_ns)
        .min()
}

/// Signals with which programs are asked to end, or to do something that ends them.
fn asks(number: i32) -> bool {
    !matches!(
        number,
        libc::SIGCHLD
            | libc::SIGCONT
            | libc::SIGURG
            | libc::SIGPIPE
            | libc::SIGSTOP
            | libc::SIGTSTP
            | libc::SIGTTIN
            | libc::SIGTTOU
            | libc::SIGIO
    )
}
