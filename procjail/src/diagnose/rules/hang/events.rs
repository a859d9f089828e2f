//! What the events alone tell: the clocks between a fatal signal, the end, and its notice.

use std::collections::BTreeMap;

use crate::diagnose::{Case, Confidence, Finding, Follows, ProcessId};
use crate::event::{CgroupChange, Event, Signal, What};
use crate::hang;
use crate::text;

/// What else may take a dump long, and an end.
pub(super) const SLOW_READER: &str = "a slow program in core_pattern";
pub(super) const SLOW_STORE: &str = "a slow disk or file server";
pub(super) const NO_PROCESSOR: &str = "too little processor time";
pub(super) const OTHER_HOLD: &str = "a file that was slow to close";

/// A dump that takes less is not worth a word.
const DUMP_NS: u64 = 200_000_000;

/// The same for memory that is given back.
const MMAP_NS: u64 = 100_000_000;
/// What takes longer with less memory takes it for something else.
const MMAP_BYTES: u64 = 256 << 20;

/// From a fatal signal that dumps core to the end lies the writing of the core.
pub(super) fn core_dump(case: &Case) -> Vec<Finding> {
    let mut by_program: BTreeMap<&str, Vec<ProcessId>> = BTreeMap::new();
    for id in case.deaths() {
        if dump_began(case, id).is_some() {
            let comm = case.process(id).task.comm.as_str();
            by_program.entry(comm).or_default().push(id);
        }
    }
    let mut findings: Vec<Finding> = by_program
        .into_values()
        .filter_map(|alike| dumped(case, &alike))
        .collect();
    if findings.is_empty() {
        findings.extend(dumping(case));
    }
    findings
}

/// The signal for which a process wrote a core dump for long.
fn dump_began(case: &Case, id: ProcessId) -> Option<(&Event, &Signal)> {
    let (end, exit) = case.exit(id)?;
    let signal = exit
        .status
        .signal
        .as_ref()
        .filter(|_| exit.status.core_dumped)?;
    let (taken, _) = case.delivered(id).rfind(|(event, taken)| {
        taken.signal.number == signal.number && event.time_ns <= end.time_ns
    })?;
    (end.time_ns.saturating_sub(taken.time_ns) >= DUMP_NS).then_some((taken, signal))
}

fn dumped(case: &Case, alike: &[ProcessId]) -> Option<Finding> {
    let id = *alike.first()?;
    let (end, exit) = case.exit(id)?;
    let (taken, signal) = dump_began(case, id)?;
    let size = match exit.max_rss_bytes {
        0 => String::new(),
        bytes => format!(" (it had up to {} resident)", text::bytes(bytes)),
    };
    let more = match alike.len() as u64 - 1 {
        0 => String::new(),
        more => format!(
            " So did {}.",
            text::plural(more, "more process", "more processes")
        ),
    };
    Some(
        Finding::new(format!(
            "{} dumped core after {}; its end came {} after the signal{size}.{more}",
            case.name(id),
            text::escape(&signal.name),
            case.between(taken, end),
        ))
        .proven()
        .cause("The kernel wrote the core dump in that time.", Confidence::Likely)
        .or(SLOW_READER)
        .or(SLOW_STORE)
        .shown_by(taken, format!("{} is taken", text::escape(&signal.name)))
        .shown_by(end, "the process ends, with its core dumped")
        .not("a slow exit", "the end itself comes only after the dump")
        .follows(Follows::Process(id))
        .remedy(
            "Limit or switch off core dumps (--rlimit core=0), dump less (/proc/PID/coredump_filter), or have \
             them taken faster (/proc/sys/kernel/core_pattern).",
        ),
    )
}

/// One that is still being written when the teardown looks.
fn dumping(case: &Case) -> Option<Finding> {
    let (event, snapshot) = case
        .snapshots()
        .filter(|(_, snapshot)| snapshot.threads.iter().any(|thread| thread.core_dumping))
        .last()?;
    let hold = hang::holds(snapshot)
        .into_iter()
        .find(|hold| matches!(hold.cause, hang::Cause::CoreDump(_)))?;
    let name = case.task_name(&hold.thread.task);
    let finding = Finding::new(format!(
        "{name} was still writing its core dump at the last look."
    ))
    .proven()
    .shown_by(
        event,
        format!("CoreDumping is set, {}", hang::standing(&hold)),
    )
    .fact_alone()
    .remedy(format!("To free it: {}.", hang::remedy(&hold)));
    Some(match case.process_of(&hold.thread.task) {
        Some(process) => finding.follows(Follows::Process(process)),
        None => finding,
    })
}

/// From the end to its notice the memory is given back.
pub(super) fn exit_mmap(case: &Case) -> Vec<Finding> {
    let pid1 = case.pid1();
    let slow: Vec<(ProcessId, u64, u64)> = case
        .deaths()
        .into_iter()
        // PID 1 waits for all others in that time.
        .filter(|id| Some(*id) != pid1)
        .filter_map(|id| {
            let (end, exit) = case.exit(id)?;
            let notice = case.process(id).notice.as_ref()?;
            let took = notice.time_ns.checked_sub(end.time_ns)?;
            // Few take long: the samples, of which there may be many, are looked through for these alone.
            if took < MMAP_NS {
                return None;
            }
            let size = exit.max_rss_bytes.max(sampled(case, id));
            (size >= MMAP_BYTES && !held_otherwise(case, id)).then_some((id, took, size))
        })
        .collect();
    let Some((id, took, size)) = slow.iter().max_by_key(|(_, took, _)| *took).copied() else {
        return Vec::new();
    };
    let more = match slow.len() {
        1 => String::new(),
        count => format!(" ({} more took long too)", text::count(count as u64 - 1)),
    };
    let Some((end, _)) = case.exit(id) else {
        return Vec::new();
    };
    let seen = case.snapshots().find(|(_, snapshot)| {
        hang::holds(snapshot).iter().any(|hold| {
            hold.cause == hang::Cause::ExitMmap && case.process_of(&hold.thread.task) == Some(id)
        })
    });
    let mut finding = Finding::new(format!(
        "{} took {} from its exit until its parent was told; it had up to {} of memory{more}.",
        case.name(id),
        text::duration(took),
        text::bytes(size)
    ))
    .proven()
    .cause(
        "The kernel freed its memory in that time.",
        Confidence::Proven,
    )
    .shown_by(end, "it exits; its memory is freed after this")
    .fact(format!(
        "its parent was told {} later",
        text::duration(took)
    ))
    .not(
        "a parent that reaps late",
        "the time lies before the parent was told",
    )
    .follows(Follows::Process(id))
    .note()
    .remedy("Nothing is wrong: give the teardown this time, or use less memory or larger pages.");
    if let Some((event, _)) = seen {
        finding = finding
            .shown_by(event, "it is in exit_mmap")
            .not(
                OTHER_HOLD,
                "it was seen in exit_mmap, which comes before files are closed",
            )
            .not(NO_PROCESSOR, "it was seen at work in the kernel");
    }
    vec![finding]
}

/// The most that a sample of memory has for it.
fn sampled(case: &Case, id: ProcessId) -> u64 {
    case.memory_samples()
        .flat_map(|(_, sample)| &sample.processes)
        .filter(|sample| case.process_of(&sample.process) == Some(id))
        .map(|sample| {
            sample.memory.anon_bytes + sample.memory.shmem_bytes + sample.memory.file_bytes
        })
        .max()
        .unwrap_or(0)
}

/// A look found it held by something else than its memory.
fn held_otherwise(case: &Case, id: ProcessId) -> bool {
    case.snapshots()
        .filter(|(_, snapshot)| snapshot.waited_ns.is_some())
        .flat_map(|(_, snapshot)| hang::holds(snapshot))
        .any(|hold| {
            case.process_of(&hold.thread.task) == Some(id)
                && !matches!(hold.cause, hang::Cause::ExitMmap | hang::Cause::Unknown)
        })
}

/// The teardown killed it: it had not ended before, and nobody else sent it SIGKILL.
fn killed_there(case: &Case, id: ProcessId, began_ns: u64) -> bool {
    let Some((end, exit)) = case.exit(id) else {
        return true;
    };
    let kill = |signal: &Signal| signal.number == libc::SIGKILL;
    let others = case.received(id).any(|(event, sent)| {
        kill(&sent.signal) && !case.is_launcher(&event.task) && event.time_ns <= end.time_ns
    });
    end.time_ns >= began_ns && exit.status.signal.as_ref().is_some_and(kill) && !others
}

/// Those that came into the cgroup from outside the PID namespace, and outlived PID 1.
pub(super) fn straggler(case: &Case) -> Vec<Finding> {
    let killed = case
        .each(|what| match what {
            What::Teardown(step) if step.step == "kill what is left" => Some(step),
            _ => None,
        })
        .next();
    let Some((step, killing)) = killed else {
        return Vec::new();
    };
    let joined: Vec<(&Event, ProcessId)> = case
        .each(|what| match what {
            What::Cgroup(cgroup) if cgroup.change == CgroupChange::Attach => cgroup.member.as_ref(),
            _ => None,
        })
        .filter(|(_, member)| member.jail_pid.is_none())
        .filter_map(|(event, member)| Some((event, case.process_of(member)?)))
        .filter(|(_, id)| {
            let began_ns = step.time_ns.saturating_sub(killing.duration_ns);
            killed_there(case, *id, began_ns)
        })
        .collect();
    let Some((event, id)) = joined.first().copied() else {
        return Vec::new();
    };
    let more = match joined.len() {
        1 => String::new(),
        count => format!(" and {} more", text::count(count as u64 - 1)),
    };
    let name = case.name(id);
    let mover = match event.task.pid == case.process(id).task.pid {
        true => "itself".to_owned(),
        false => case.who(&event.task),
    };
    vec![
        Finding::new(format!(
            "{name}{more} was in the jail's cgroup but not in its PID namespace, moved there by {mover}. PID 1's end \
             did not end it; procjail killed it."
        ))
        .proven()
        .about(joined.iter().map(|(_, id)| *id))
        .shown_by(event, "it came into the jail's cgroup from outside")
        .shown_by(step, "PID 1 was gone, but the cgroup was not empty")
        .not("a process of the jail", "it has no PID in the jail's PID namespace")
        .remedy(
            "Find out what moves processes into the jail's cgroup. What has to enter the jail should enter its PID \
             namespace as well (nsenter --pid), so that it ends with it.",
        ),
    ]
}

/// The cgroup stayed.
pub(super) fn rmdir_busy(case: &Case) -> Vec<Finding> {
    let failed = case
        .each(|what| match what {
            What::Teardown(step) if step.step == "remove the cgroups" => step.error.as_ref(),
            _ => None,
        })
        .last();
    let Some((event, error)) = failed else {
        return Vec::new();
    };
    let busy = error.contains("EBUSY") || error.contains("ENOTEMPTY");
    if !busy {
        return Vec::new();
    }
    let held: Vec<String> = case
        .snapshots()
        .filter(|(_, snapshot)| snapshot.waited_ns.is_some())
        .last()
        .map(|(_, snapshot)| {
            snapshot
                .threads
                .iter()
                .filter(|thread| thread.task.tid == thread.task.pid)
                .filter(|thread| thread.stall.as_ref().is_some_and(|stall| stall.in_cgroup))
                .take(3)
                .map(|thread| case.task_name(&thread.task))
                .collect()
        })
        .unwrap_or_default();
    let by = match held.is_empty() {
        true => "something is still in it, or in a cgroup below".to_owned(),
        false => format!("still in it: {}", held.join(", ")),
    };
    let mut finding = Finding::new(format!(
        "The jail's cgroup {} could not be removed: {by}.",
        text::escape(&case.header.jail.cgroup)
    ))
    .shown_by(event, text::escape(error))
    .not(
        "the moment between the last exit and the empty cgroup",
        "procjail kept trying until the time was over",
    )
    .remedy("Free what is in it, then: procjail clean.");
    if !held.is_empty() {
        finding = finding.proven();
    }
    for rule in [
        "hang-d-state-fuse",
        "hang-d-state-nfs",
        "hang-frozen",
        "hang-ptrace-exit-stop",
        "hang-d-state-driver",
        "hang-d-state-block",
        "hang-cgroup-straggler",
    ] {
        finding = finding.follows(Follows::Rule(rule));
    }
    vec![finding]
}
