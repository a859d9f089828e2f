//! What the snapshots of a stall tell.

mod namespace;

pub(super) use namespace::pid_namespace;

use crate::diagnose::{Case, Confidence, Finding, Follows, ProcessId};
use crate::event::{Event, FileSystem, KernelWait, Moment, Snapshot, ThreadState, What};
use crate::hang::{self, Hold};
use crate::text;

/// Processes that a verdict names.
const NAMED: usize = 3;

/// What else it could be.
pub(super) const OTHER_MOUNT: &str = "another mount of that kind";
pub(super) const FROZEN: &str = "a frozen cgroup";
pub(super) const SLOW_SERVER: &str = "a server that is slow to answer";
pub(super) const SLOW_DISK: &str = "a disk that is slow to answer";
pub(super) const FILE_SERVER: &str =
    "a disk of the network (NBD, iSCSI) whose server does not answer";
pub(super) const DEVICE: &str = "a device that does not answer its driver";
pub(super) const OTHER_MODULE: &str = "another part of the kernel that the driver called";
pub(super) const OTHER_WAIT: &str = "a wait for a disk or a file server";
pub(super) const UNKNOWN_TRACER: &str = "a tracer that is stopped or stuck itself";

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

/// A look at a stall: the event, what it saw, and what held each thread.
type Look<'a> = (&'a Event, &'a Snapshot, Vec<Hold<'a>>);

/// The looks at a stall, in order.
pub(super) struct Looks<'a>(Vec<Look<'a>>);

impl<'a> Looks<'a> {
    /// Those of a case.
    pub(super) fn at(case: &'a Case) -> Looks<'a> {
        Looks(
            case.snapshots()
                .filter(|(_, snapshot)| snapshot.moment == Moment::Stall)
                .map(|(event, snapshot)| (event, snapshot, hang::holds(snapshot)))
                .collect(),
        )
    }
}

/// The threads that are held by such a cause, together where it is the same one.
fn groups<'a>(looks: &Looks<'a>, wanted: impl Fn(&Hold<'_>) -> bool) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    for (event, snapshot, holds) in &looks.0 {
        for &hold in holds {
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
            more => format!("{} and {} more", names.join(", "), text::count(more as u64)),
        }
    }

    /// How long it lasted, and what to add if procjail gave up on it.
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
            text::duration(end.saturating_sub(start)),
            match failed {
                Some(_) => ", then gave up",
                None => "",
            },
        )
    }

    /// The finding that all of these have in common: who was waited for, and why.
    fn finding(&self, case: &Case, reason: &str, confidence: Confidence) -> Finding {
        let (lasted, end) = self.lasted(case);
        let fact = format!("Teardown waited {lasted} for {}{end}.", self.names(case));
        let mut finding = Finding::new(fact)
            .proven()
            .cause(sentence(reason), confidence);
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
                    .map(|frame| text::escape(frame))
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
        false => format!("thread {} of {process}", text::escape(&task.comm)),
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
    looks: &Looks<'_>,
    confidence: Confidence,
    wanted: impl Fn(&Hold<'_>) -> bool,
    finish: impl Fn(&Group<'_>, Finding) -> Finding,
) -> Vec<Finding> {
    groups(looks, wanted)
        .iter()
        .filter_map(|group| {
            let reason = hang::reason(group.hold()?);
            Some(finish(group, group.finding(case, &reason, confidence)))
        })
        .collect()
}

fn not_frozen(finding: Finding) -> Finding {
    finding.not(FROZEN, "no freezer holds it, its own or above")
}

pub(super) fn fuse(case: &Case, looks: &Looks<'_>) -> Vec<Finding> {
    let wanted = |hold: &Hold<'_>| {
        matches!(
            hold.cause,
            hang::Cause::Fuse(_) | hang::Cause::CoreDump(Some(_))
        ) && file_system(hold).is_none_or(|target| target.fs_type.starts_with("fuse"))
    };
    // Its stack says that it waits for an answer; which daemon's, the mount says.
    each(case, looks, Confidence::Proven, wanted, |group, finding| {
        let target = group.hold().and_then(|hold| file_system(hold));
        let mut finding = not_frozen(finding);
        if let Some(target) = target {
            if let Some(waiting) = target.waiting {
                finding = finding.fact(format!(
                    "{} without an answer on FUSE connection {}",
                    text::plural(waiting, "request", "requests"),
                    target.connection.unwrap_or(0)
                ));
            }
            if let Some(inside) = target.daemons.iter().find(|one| one.in_pid_namespace) {
                finding = finding.fact(format!(
                    "the daemon, {}, is in the jail itself: it is killed before those who wait for it",
                    text::escape(&inside.comm)
                ));
            }
            if target.certain && target.waiting != Some(0) {
                finding = finding.not(OTHER_MOUNT, "the file that it uses is on this one");
            }
        }
        finding
    })
}

fn file_system<'a>(hold: &Hold<'a>) -> Option<&'a FileSystem> {
    hold.thread.stall.as_ref()?.file_system.as_ref()
}

pub(super) fn server(case: &Case, looks: &Looks<'_>) -> Vec<Finding> {
    let wanted = |hold: &Hold<'_>| matches!(hold.cause, hang::Cause::Server(_));
    each(case, looks, Confidence::Likely, wanted, |group, finding| {
        let known = group.hold().and_then(|hold| file_system(hold));
        let finding = not_frozen(finding).or(SLOW_SERVER);
        match known {
            Some(target) if target.certain => {
                finding.not(OTHER_MOUNT, "the file that it uses is on this one")
            }
            _ => finding.or(OTHER_MOUNT),
        }
    })
}

pub(super) fn block(case: &Case, looks: &Looks<'_>) -> Vec<Finding> {
    let wanted = |hold: &Hold<'_>| hold.cause == hang::Cause::Block;
    let sure = Confidence::ConsistentWith;
    each(case, looks, sure, wanted, |_, finding| {
        not_frozen(finding).or(SLOW_DISK).or(FILE_SERVER)
    })
}

pub(super) fn driver(case: &Case, looks: &Looks<'_>) -> Vec<Finding> {
    let wanted = |hold: &Hold<'_>| matches!(hold.cause, hang::Cause::Driver(_));
    let sure = Confidence::ConsistentWith;
    each(case, looks, sure, wanted, |_, finding| {
        not_frozen(finding).or(DEVICE).or(OTHER_MODULE)
    })
}

pub(super) fn frozen(case: &Case, looks: &Looks<'_>) -> Vec<Finding> {
    let wanted = |hold: &Hold<'_>| matches!(hold.cause, hang::Cause::Frozen(_));
    each(case, looks, Confidence::Proven, wanted, |_, finding| {
        finding.not(
            OTHER_WAIT,
            "the v1 freezer shows what it holds as state D, wherever that was",
        )
    })
}

pub(super) fn exit_stop(case: &Case, looks: &Looks<'_>) -> Vec<Finding> {
    let wanted = |hold: &Hold<'_>| {
        matches!(hold.cause, hang::Cause::ExitStop(_))
            || matches!(hold.cause, hang::Cause::NotReaped(owner)
                if owner.pid == hold.thread.tracer_pid)
    };
    each(case, looks, Confidence::Proven, wanted, |group, finding| {
        let known = group.hold().is_some_and(|hold| hold.thread.tracer_pid != 0);
        let finding = not_frozen(finding).not(
            "a debugger's breakpoint",
            "SIGKILL ends any other stop of a traced process",
        );
        match known {
            true => finding.not(
                UNKNOWN_TRACER,
                "whatever it does, it is the tracer that has to let it go",
            ),
            false => finding,
        }
    })
}

/// What is left has the output open, so who reads it waits too.
pub(super) fn output_held(case: &Case, looks: &Looks<'_>) -> Vec<Finding> {
    let Some((event, snapshot, _)) = looks.0.last() else {
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
        "{} is left and still has the jail's output open: a reader of that pipe gets no end of file until it ends.",
        name(case, thread)
    ))
    .proven()
    .shown_by(event, "the pipe of procjail's standard output or error is among its descriptors")
    .not("a pipe of its own", "it is the one that procjail was given as its output")
    .remedy("Free the process. Redirect the output of programs that are left in the background.");
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
        text::plural(others.len() as u64, "thread", "threads"),
        match other.task.comm.as_str() == thread.task.comm {
            true => format!("thread {}", other.task.tid),
            false => format!(
                "thread {} ({})",
                other.task.tid,
                text::escape(&other.task.comm)
            ),
        },
        text::escape(&other.state),
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

/// Waits for an answer that came in the end, seen while the jail ran.
pub(super) fn waits(case: &Case) -> Vec<(&'static str, Finding)> {
    let Some((event, check)) = case.leak_check() else {
        return Vec::new();
    };
    let (fuse, servers): (Vec<&KernelWait>, Vec<&KernelWait>) = check
        .waited
        .iter()
        .partition(|wait| hang::is_fuse_wait(&wait.place));
    let mut found = Vec::new();
    found.extend(waited(case, event, &fuse, "a FUSE daemon").map(|one| ("hang-d-state-fuse", one)));
    found.extend(
        waited(case, event, &servers, "a file server").map(|one| ("hang-d-state-nfs", one)),
    );
    found
}

fn waited(case: &Case, event: &Event, waits: &[&KernelWait], whose: &str) -> Option<Finding> {
    let longest = waits.iter().max_by_key(|wait| wait.waited_ns)?;
    let more = match waits.len() as u64 - 1 {
        0 => String::new(),
        more => format!(
            " So did {} for a shorter time.",
            text::plural(more, "other process", "other processes")
        ),
    };
    Some(
        Finding::new(format!(
            "{} waited at least {} in {}, which is where a process waits for {whose}.{more}",
            case.task_name(&longest.process),
            text::duration(longest.waited_ns),
            text::escape(&longest.place),
        ))
        .proven()
        .shown_by(
            event,
            "seen waiting there, look after look, while the jail ran",
        )
        .remedy(format!(
            "Find out why {whose} took so long to answer: stopped, frozen, busy, or waiting itself."
        ))
        .fact_alone()
        .note(),
    )
}
