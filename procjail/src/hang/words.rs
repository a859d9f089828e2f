//! What a teardown waits for, in words.

use super::{Cause, Hold, holds, is_nested_init};
use crate::event::{FileSystem, Other, Snapshot, ThreadState};
use crate::text::{bytes, duration, escape};

/// What a stalled teardown waits for, in one line: `waiting for 17 (worker), D in request_wait_answer:
/// the FUSE daemon of /data is not answering`.
pub fn line(snapshot: &Snapshot) -> String {
    let found = holds(snapshot);
    let for_long = snapshot
        .waited_ns
        .map_or_else(String::new, |ns| format!(" for {}", duration(ns)));
    let Some(first) = found.first() else {
        return format!("waiting{for_long}: nothing is left but the kernel's own clean-up");
    };
    let alike = blockers(&found);
    let more = match alike {
        0 | 1 => String::new(),
        alike => format!(" (and {} more like it)", alike - 1),
    };
    format!(
        "waiting{for_long} for {}, {}{more}",
        name(first.thread),
        standing(first)
    )
}

/// How many processes are held by the same as the first.
fn blockers(found: &[Hold<'_>]) -> usize {
    let Some(first) = found.first() else { return 0 };
    let mut pids: Vec<u32> = found
        .iter()
        .filter(|hold| hold.cause == first.cause)
        .map(|hold| hold.thread.task.pid)
        .collect();
    pids.sort_unstable();
    pids.dedup();
    pids.len()
}

/// `17 (worker)`, by its PID on the host.
fn name(thread: &ThreadState) -> String {
    format!("{} ({})", thread.task.pid, escape(&thread.task.comm))
}

/// Its state and why: `D in request_wait_answer: the FUSE daemon of /data is not answering`.
pub fn standing(hold: &Hold<'_>) -> String {
    let thread = hold.thread;
    let place = match thread.wait_channel.as_str() {
        "" | "0" => String::new(),
        place => format!(" in {}", escape(place)),
    };
    format!("{}{place}: {}", escape(&thread.state), reason(hold))
}

/// Why it doesn't go away.
pub fn reason(hold: &Hold<'_>) -> String {
    match hold.cause {
        Cause::Frozen(frozen) => format!(
            "the cgroup {} is frozen, and SIGKILL waits for its thaw",
            escape(&frozen.cgroup)
        ),
        Cause::ExitStop(tracer) => format!(
            "killed, but held at its exit by its tracer{}",
            tracer.map_or_else(String::new, |tracer| format!(" {}", other(tracer)))
        ),
        Cause::CoreDump(None) => "it writes a core dump".to_owned(),
        Cause::CoreDump(Some(target)) => {
            format!("it writes a core dump, and {}", unanswered(target))
        }
        Cause::Fuse(Some(target)) | Cause::Server(Some(target)) => unanswered(target),
        Cause::Fuse(None) => "a FUSE daemon is not answering".to_owned(),
        Cause::Server(None) => "a file server is not answering".to_owned(),
        Cause::Block => "a disk, or what is below it, is not answering".to_owned(),
        Cause::Driver(module) => format!("the driver {} does not return", escape(module)),
        Cause::ExecDethread => {
            "its execve waits until the other threads of the process are gone".to_owned()
        }
        Cause::PidNamespace => match hold.thread.stall.as_ref().is_some_and(is_nested_init) {
            true => "PID 1 of a nested PID namespace, which ends after all others in it".to_owned(),
            false => "it ends after all others in its PID namespace".to_owned(),
        },
        Cause::NotReaped(owner) => format!(
            "it is dead, and {} outside the jail does not reap it",
            match hold.thread.tracer_pid == owner.pid {
                true => format!("its tracer {}", other(owner)),
                false => format!("its parent {}", other(owner)),
            }
        ),
        Cause::ExitMmap => match hold.thread.stall.as_ref().map_or(0, |stall| stall.rss_bytes) {
            0 => "it is freeing its memory".to_owned(),
            left => format!("it is freeing its memory, {} to go", bytes(left)),
        },
        Cause::Straggler => {
            "it is in the jail's cgroup but not in its PID namespace, so PID 1's end does not end it"
                .to_owned()
        }
        Cause::Uninterruptible => "not even SIGKILL ends it before that returns".to_owned(),
        Cause::Unknown => "it has not ended yet".to_owned(),
    }
}

fn unanswered(target: &FileSystem) -> String {
    let point = escape(&target.mount_point);
    let probably = if target.certain { "" } else { "probably " };
    if target.fs_type.starts_with("fuse") {
        let daemon = match target.daemons.first() {
            None => String::new(),
            Some(daemon) => format!(", {},", other(daemon)),
        };
        format!("{probably}the FUSE daemon of {point}{daemon} is not answering")
    } else {
        format!(
            "{probably}the server of {point} ({} {}) is not answering",
            escape(&target.fs_type),
            escape(&target.source)
        )
    }
}

fn other(other: &Other) -> String {
    let state = match other.state.as_str() {
        "T" => ", stopped",
        "Z" => ", dead",
        "D" => ", in state D",
        _ => "",
    };
    match other.jail_pid {
        Some(pid) => format!("{} (PID {pid} in the jail{state})", escape(&other.comm)),
        None => format!("{} (host PID {}{state})", escape(&other.comm), other.pid),
    }
}

/// What would free it.
pub fn remedy(hold: &Hold<'_>) -> String {
    match hold.cause {
        Cause::Frozen(frozen) => format!(
            "echo {} > {}, and find out who freezes it: a pause, a checkpoint, a runtime that died between \
             freeze and thaw",
            frozen.value,
            escape(&frozen.file)
        ),
        Cause::ExitStop(tracer) => match tracer {
            Some(tracer) => format!("end its tracer: kill -KILL {}", tracer.pid),
            None => "end its tracer".to_owned(),
        },
        Cause::CoreDump(Some(target)) => free(target),
        Cause::CoreDump(None) => {
            "wait for the dump, or kill what takes it (/proc/sys/kernel/core_pattern); limit dumps with \
             --rlimit core=0"
                .to_owned()
        }
        Cause::Fuse(Some(target)) | Cause::Server(Some(target)) => free(target),
        Cause::Fuse(None) => {
            "abort the connection of the FUSE file system (umount -f, or its abort file in \
             /sys/fs/fuse/connections)"
                .to_owned()
        }
        Cause::Server(None) => "bring the file server back, or umount -f".to_owned(),
        Cause::Block => {
            "look at the disk: the kernel log (dmesg), multipath, the hypervisor; often only a restart of the \
             machine helps"
                .to_owned()
        }
        Cause::Driver(module) => format!(
            "look at the kernel log (dmesg) for {}; often only a reset of the device or a restart of the \
             machine helps",
            escape(module)
        ),
        Cause::ExecDethread => "free the threads that it waits for".to_owned(),
        Cause::PidNamespace => "free the processes that it waits for".to_owned(),
        Cause::NotReaped(owner) => match hold.thread.tracer_pid == owner.pid {
            true => format!("end its tracer: kill -KILL {}", owner.pid),
            false => format!(
                "have {} reap it, or end that: kill -KILL {}",
                other(owner),
                owner.pid
            ),
        },
        Cause::ExitMmap => "wait: a process with much memory takes its time".to_owned(),
        Cause::Straggler => format!(
            "kill -KILL {}, and find out who moves processes into the jail's cgroup",
            hold.thread.task.pid
        ),
        Cause::Uninterruptible => {
            "look at its kernel stack for what it waits for: a disk, a file server, a driver".to_owned()
        }
        Cause::Unknown => "wait".to_owned(),
    }
}

fn free(target: &FileSystem) -> String {
    let point = crate::text::quote(&target.mount_point);
    match target.connection {
        Some(connection) => format!(
            "umount -f {point} from its mount namespace, or echo 1 > /sys/fs/fuse/connections/{connection}/abort \
             (mount -t fusectl none /sys/fs/fuse/connections first if there is none)"
        ),
        None => format!("bring the server of {point} back, or umount -f {point}"),
    }
}

/// What remains when the time is over, with what would free it: a sentence for each cause, at most eight.
pub fn report(snapshot: &Snapshot) -> Vec<String> {
    const SENTENCES: usize = 8;
    let found = holds(snapshot);
    let mut told: Vec<(Hold<'_>, Vec<u32>)> = Vec::new();
    for hold in found {
        let pid = hold.thread.task.pid;
        match told.iter_mut().find(|(first, _)| first.cause == hold.cause) {
            Some((_, pids)) if pids.contains(&pid) => {}
            Some((_, pids)) => pids.push(pid),
            None => told.push((hold, vec![pid])),
        }
    }
    let rest = told.len().saturating_sub(SENTENCES);
    let mut lines: Vec<String> = told
        .iter()
        .take(SENTENCES)
        .map(|(hold, pids)| {
            let more = match pids.len() {
                1 => String::new(),
                count => format!(" (and {} more like it)", count - 1),
            };
            format!(
                "process {}, {}{more}; to free it: {}",
                name(hold.thread),
                standing(hold),
                remedy(hold)
            )
        })
        .collect();
    if rest > 0 {
        lines.push(format!("and {rest} more that are held by something else"));
    }
    lines
}
