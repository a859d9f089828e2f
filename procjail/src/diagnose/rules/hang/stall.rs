//! What the snapshots of a stall tell.

use crate::diagnose::{Case, Confidence, Finding, Follows, ProcessId};
use crate::event::{Event, FileSystem, Moment, Snapshot, ThreadState, What};
use crate::hang::{self, Hold};
use crate::render;

/// Processes that a verdict names.
const NAMED: usize = 3;

/// Threads held by the same, over all looks at it.
pub(super) struct Group<'a> {
    /// The first look, and the last that still found it.
    first: &'a Event,
    last: &'a Event,
    /// How long it had lasted at the first look, nanoseconds.
    waited_ns: u64,
    /// As last seen, one a process.
    holds: Vec<Hold<'a>>,
}

/// The looks at a stall, in order.
fn looks(case: &Case) -> impl Iterator<Item = (&Event, &Snapshot)> {
    case.snapshots()
        .filter(|(_, snapshot)| snapshot.moment == Moment::Stall)
}

/// The threads that are held by such a cause, together where it is the same one.
fn groups<'a>(case: &'a Case, wanted: impl Fn(&Hold<'_>) -> bool) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    for (event, snapshot) in looks(case) {
        for hold in hang::holds(snapshot) {
            if !wanted(&hold) {
                continue;
            }
            let pid = hold.thread.task.pid;
            match groups.iter_mut().find(|group| same(group, &hold)) {
                Some(group) => {
                    group.last = event;
                    match group
                        .holds
                        .iter_mut()
                        .find(|known| known.thread.task.pid == pid)
                    {
                        // The latest tells most.
                        Some(known) => *known = hold,
                        None => group.holds.push(hold),
                    }
                }
                None => groups.push(Group {
                    first: event,
                    last: event,
                    waited_ns: snapshot.waited_ns.unwrap_or(0),
                    holds: vec![hold],
                }),
            }
        }
    }
    groups
}

fn same(group: &Group<'_>, hold: &Hold<'_>) -> bool {
    use hang::Cause::*;
    group.holds.first().is_some_and(|first| {
        match (first.cause, hold.cause) {
            // What is told about a file system changes from look to look.
            (Fuse(Some(one)), Fuse(Some(two))) | (Server(Some(one)), Server(Some(two))) => {
                one.mount_point == two.mount_point
            }
            (ExitStop(Some(one)), ExitStop(Some(two))) | (NotReaped(one), NotReaped(two)) => {
                one.pid == two.pid
            }
            (one, two) => one == two,
        }
    })
}

impl<'a> Group<'a> {
    fn hold(&self) -> Option<&Hold<'a>> {
        self.holds.first()
    }

    fn processes<'b>(&'b self, case: &'b Case) -> impl Iterator<Item = ProcessId> + 'b {
        self.holds
            .iter()
            .filter_map(|hold| case.process_of(&hold.thread.task))
    }

    /// `worker (PID 7)`, `worker (PID 7), worker (PID 8) and 3 more`.
    fn names(&self, case: &Case) -> String {
        let names: Vec<String> = self
            .holds
            .iter()
            .take(NAMED)
            .map(|hold| name(case, hold.thread))
            .collect();
        match self.holds.len().saturating_sub(NAMED) {
            0 => names.join(", "),
            more => format!(
                "{} and {} more",
                names.join(", "),
                render::count(more as u64)
            ),
        }
    }

    /// How long it lasted, and a sentence if procjail gave up on it.
    fn lasted(&self, case: &Case) -> (String, &'static str) {
        let start = self.first.time_ns.saturating_sub(self.waited_ns);
        let steps = || {
            case.each(|what| match what {
                What::Teardown(step) => Some(step),
                _ => None,
            })
            .filter(|(event, _)| event.seq > self.first.seq)
        };
        let failed = steps().find(|(_, step)| step.error.is_some());
        // The last look comes after the step that failed.
        let end = failed
            .or_else(|| steps().find(|(event, _)| event.seq > self.last.seq))
            .map_or(self.last.time_ns, |(event, _)| event.time_ns);
        (
            render::duration(end.saturating_sub(start)),
            match failed {
                Some(_) => " procjail gave up.",
                None => "",
            },
        )
    }

    /// The finding that all of these have in common.
    fn finding(&self, case: &Case, cause: &str) -> Finding {
        let (lasted, end) = self.lasted(case);
        let verdict = format!(
            "Teardown waited {lasted} for {}: {cause}.{end}",
            self.names(case)
        );
        let mut finding = Finding::new(verdict);
        let ending = case.pid1();
        finding = finding.about(self.processes(case).filter(|id| Some(*id) != ending));
        if let Some(hold) = self.hold() {
            finding = finding
                .shown_by(
                    self.first,
                    format!(
                        "{} is still there, {}",
                        name(case, hold.thread),
                        hang::standing(hold)
                    ),
                )
                .remedy(sentence(&hang::remedy(hold)));
            if !hold.thread.stack.is_empty() {
                let frames: Vec<String> = hold
                    .thread
                    .stack
                    .iter()
                    .take(8)
                    .map(|frame| render::escape(frame))
                    .collect();
                finding = finding.fact(format!("its kernel stack: {}", frames.join(" < ")));
            }
        }
        if self.last.seq != self.first.seq {
            finding = finding.shown_by(self.last, "it is still there");
        }
        finding.at(self.first.time_ns.saturating_sub(self.waited_ns))
    }
}

/// A thread by its process: `worker (PID 7)`, `thread helper of worker (PID 7)`.
fn name(case: &Case, thread: &ThreadState) -> String {
    let task = &thread.task;
    let process = match case.process_of(task) {
        Some(process) => case.name(process),
        None => case.task_name(task),
    };
    match task.tid == task.pid {
        true => process,
        false => format!("thread {} of {process}", render::escape(&task.comm)),
    }
}

/// With a capital letter and a full stop.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_uppercase());
    match first {
        // A command is written as it is.
        _ if text.starts_with("echo ")
            || text.starts_with("kill ")
            || text.starts_with("umount ") =>
        {
            format!("Run: {text}.")
        }
        Some(first) => format!("{first}{}.", chars.as_str()),
        None => String::new(),
    }
}

/// One finding for each group, with the reason as the words have it.
fn each(
    case: &Case,
    wanted: impl Fn(&Hold<'_>) -> bool,
    finish: impl Fn(&Group<'_>, Finding) -> Finding,
) -> Vec<Finding> {
    groups(case, wanted)
        .iter()
        .filter_map(|group| {
            let hold = group.hold()?;
            Some(finish(group, group.finding(case, &hang::reason(hold))))
        })
        .collect()
}

fn not_frozen(finding: Finding) -> Finding {
    finding.not("a frozen cgroup", "no freezer holds it, its own or above")
}

pub(super) fn fuse(case: &Case) -> Vec<Finding> {
    let wanted = |hold: &Hold<'_>| {
        matches!(
            hold.cause,
            hang::Cause::Fuse(_) | hang::Cause::CoreDump(Some(_))
        ) && file_system(hold).is_none_or(|target| target.fs_type.starts_with("fuse"))
    };
    each(case, wanted, |group, finding| {
        let target = group.hold().and_then(|hold| file_system(hold));
        let mut finding = not_frozen(finding);
        if let Some(target) = target {
            if let Some(waiting) = target.waiting {
                finding = finding.fact(format!(
                    "{} without an answer on FUSE connection {}",
                    render::plural(waiting, "request", "requests"),
                    target.connection.unwrap_or(0)
                ));
            }
            if let Some(inside) = target.daemons.iter().find(|one| one.in_pid_namespace) {
                finding = finding.fact(format!(
                    "the daemon, {}, is in the jail itself: it is killed before those who wait for it",
                    render::escape(&inside.comm)
                ));
            }
            if target.certain && target.waiting != Some(0) {
                finding = finding.proven();
            }
        }
        finding
    })
}

fn file_system<'a>(hold: &Hold<'a>) -> Option<&'a FileSystem> {
    hold.thread.stall.as_ref()?.file_system.as_ref()
}

pub(super) fn server(case: &Case) -> Vec<Finding> {
    let wanted = |hold: &Hold<'_>| matches!(hold.cause, hang::Cause::Server(_));
    each(case, wanted, |group, finding| {
        let known = group.hold().and_then(|hold| file_system(hold));
        not_frozen(finding).confidence(match known {
            Some(target) if target.certain => Confidence::Likely,
            _ => Confidence::ConsistentWith,
        })
    })
}

pub(super) fn block(case: &Case) -> Vec<Finding> {
    each(
        case,
        |hold| hold.cause == hang::Cause::Block,
        |_, finding| not_frozen(finding).consistent(),
    )
}

pub(super) fn driver(case: &Case) -> Vec<Finding> {
    each(
        case,
        |hold| matches!(hold.cause, hang::Cause::Driver(_)),
        |_, finding| not_frozen(finding).consistent(),
    )
}

pub(super) fn frozen(case: &Case) -> Vec<Finding> {
    each(
        case,
        |hold| matches!(hold.cause, hang::Cause::Frozen(_)),
        |_, finding| {
            finding.proven().not(
                "a wait for a disk or a file server",
                "the v1 freezer shows what it holds as state D, wherever that was",
            )
        },
    )
}

pub(super) fn exit_stop(case: &Case) -> Vec<Finding> {
    each(
        case,
        |hold| {
            matches!(hold.cause, hang::Cause::ExitStop(_))
                || matches!(hold.cause, hang::Cause::NotReaped(owner)
                    if owner.pid == hold.thread.tracer_pid)
        },
        |group, finding| {
            let known = group.hold().is_some_and(|hold| hold.thread.tracer_pid != 0);
            not_frozen(match known {
                true => finding.proven(),
                false => finding,
            })
            .not(
                "a debugger's breakpoint",
                "SIGKILL ends any other stop of a traced process",
            )
        },
    )
}

/// PID 1 waits for the last of its namespace: for whom, and what holds that one.
pub(super) fn pid_namespace(case: &Case) -> Vec<Finding> {
    let mut findings = Vec::new();
    for group in groups(case, |hold| hold.cause == hang::Cause::PidNamespace) {
        for init in &group.holds {
            findings.extend(zap(case, &group, init));
        }
    }
    findings
}

fn zap(case: &Case, group: &Group<'_>, init: &Hold<'_>) -> Option<Finding> {
    let (event, snapshot) = looks(case)
        .filter(|(_, snapshot)| {
            snapshot
                .threads
                .iter()
                .any(|thread| thread.task.pid == init.thread.task.pid)
        })
        .last()?;
    let level = pids(init.thread).len();
    // Those of its namespace and of those below, which come first if they explain more.
    let members: Vec<Hold<'_>> = hang::holds(snapshot)
        .into_iter()
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
        let explained = looks(case).any(|(_, snapshot)| {
            let found = hang::holds(snapshot);
            found
                .iter()
                .any(|hold| hold.cause != hang::Cause::PidNamespace)
        });
        if explained {
            return None;
        }
        let finding = Finding::new(format!(
            "{what} is dead but not gone: it waits for the rest of its PID namespace, which could not be seen."
        ));
        return Some(
            finding
                .shown_by(event, "it waits in zap_pid_ns_processes")
                .consistent(),
        );
    };
    let more = match members.len() {
        1 => String::new(),
        count => format!(" (and {} more)", render::count(count as u64 - 1)),
    };
    let (lasted, end) = group.lasted(case);
    let verdict = format!(
        "{what} is dead but could not finish for {lasted}: it waits for {}{more}, {}.{end}",
        name(case, first.thread),
        hang::standing(first)
    );
    let mut finding = Finding::new(verdict)
        .proven()
        .shown_by(event, "it waits in zap_pid_ns_processes")
        .fact(
            "PID 1 of a PID namespace ends after all others in it are gone and reaped \
             (pid_namespaces(7)); it has left its cgroup and its mounts before",
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

/// What is left has the output open, so who reads it waits too.
pub(super) fn output_held(case: &Case) -> Vec<Finding> {
    let Some((event, snapshot)) = looks(case).last() else {
        return Vec::new();
    };
    let holder = |thread: &&ThreadState| {
        let stall = thread.stall.as_ref();
        stall.is_some_and(|stall| stall.holds_output)
    };
    let Some(thread) = snapshot.threads.iter().find(holder) else {
        return Vec::new();
    };
    let mut finding = Finding::new(format!(
        "{} is left and still has the jail's output open: whoever reads it from a pipe waits for its end.",
        name(case, thread)
    ))
    .proven()
    .shown_by(event, "the pipe of procjail's standard output or error is among its descriptors")
    .remedy("Free the process; in programs that leave others behind, redirect the output of those.");
    for rule in [
        "hang-d-state-fuse",
        "hang-d-state-nfs",
        "hang-d-state-block",
        "hang-d-state-driver",
        "hang-frozen",
        "hang-ptrace-exit-stop",
    ] {
        finding = finding.follows(Follows::Rule(rule));
    }
    vec![finding]
}

/// An execve that waits, at a stall or while a stop is waited for.
pub(super) fn dethread(case: &Case) -> Vec<Finding> {
    let found = case.snapshots().find_map(|(event, snapshot)| {
        let waits = |thread: &&ThreadState| hang::cause(thread) == Some(hang::Cause::ExecDethread);
        Some((event, snapshot, snapshot.threads.iter().find(waits)?))
    });
    let Some((event, snapshot, thread)) = found else {
        return Vec::new();
    };
    let others: Vec<&ThreadState> = snapshot
        .threads
        .iter()
        .filter(|other| other.task.pid == thread.task.pid && other.task.tid != thread.task.tid)
        .collect();
    let Some(other) = others
        .iter()
        .max_by_key(|other| (other.tracer_pid != 0, other.state == "D"))
    else {
        return Vec::new();
    };
    let who = name(case, thread);
    let traced = match other.tracer_pid {
        0 => String::new(),
        tracer => format!(", which host PID {tracer} traces"),
    };
    let verdict = format!(
        "{who} executes another program, but its execve waits for {} of its own to go: {} in state {}{traced}.",
        render::plural(others.len() as u64, "thread", "threads"),
        match other.task.comm.as_str() == thread.task.comm {
            true => format!("thread {}", other.task.tid),
            false => format!(
                "thread {} ({})",
                other.task.tid,
                render::escape(&other.task.comm)
            ),
        },
        render::escape(&other.state),
    );
    let mut finding = Finding::new(verdict)
        .proven()
        .shown_by(event, "it waits in de_thread, within execve")
        .not(
            "a program that hangs by itself",
            "it is in the kernel, between two programs",
        )
        .remedy(match other.tracer_pid {
            0 => "Free the thread that it waits for.".to_owned(),
            tracer => format!("End the tracer, host PID {tracer}, or have it let the thread go."),
        });
    if let Some(process) = case.process_of(&thread.task) {
        finding = finding.about(Some(process).filter(|id| case.pid1() != Some(*id)));
    }
    vec![finding]
}
