//! The processes that run already, as events.

use std::collections::HashSet;

use crate::cgroup::View;
use crate::event::{Exec, Found, SignalSets, Task};
use crate::procfs::{self, Status, host};

/// Most processes that are told one by one.
const MOST: usize = 4096;

/// Most bytes of a command line that are kept.
const ARGV_BYTES: usize = 4096;

/// What runs in a target.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The processes, each parent before its children, as far as they were told.
    pub found: Vec<(Task, Found)>,
    /// All of them.
    pub count: u64,
}

/// Looks at the processes in a cgroup and below; those that end meanwhile are left out. `pid_1` is the host PID of the
/// PID 1 of its namespace, 0 if it has none of its own.
pub fn snapshot(view: &View, pid_1: u32) -> Snapshot {
    let mut pids = view.pids();
    // The cgroup's list leaves out the dead that nobody collected.
    pids.extend(zombies(&pids));
    let count = pids.len() as u64;
    // Numbers grow with age but where they wrapped around; the order is put right below.
    pids.sort_unstable();
    let namespace = host::namespace(pid_1, "pid");
    let mut found: Vec<(Task, Found)> = pids
        .iter()
        .take(MOST)
        .filter_map(|pid| look(*pid, pid_1, namespace))
        .collect();
    found.sort_by_key(|(task, _)| (task.start_ns, task.pid));
    Snapshot {
        found: parents_first(found),
        count,
    }
}

/// The dead children of these processes, as far as they died in the cgroup of their parent.
fn zombies(parents: &[u32]) -> Vec<u32> {
    let threads = parents.iter().take(MOST).flat_map(|pid| {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
        threads.into_iter().flatten().flatten()
    });
    let children = threads.filter_map(|thread| {
        let thread = thread.path().join("children");
        procfs::read(thread.to_str()?)
    });
    let children: Vec<u32> = children
        .flat_map(|list| {
            let numbers = list.split_ascii_whitespace();
            numbers
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<u32>>()
        })
        .collect();
    let known: HashSet<u32> = parents.iter().copied().collect();
    let is_dead = |pid: &u32| {
        let stat = procfs::read(&format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.chars().next());
        state == Some('Z')
    };
    // Some controllers of v1 let go of who ends.
    let cgroup = |pid: u32| {
        let all = procfs::read(&format!("/proc/{pid}/cgroup"))?;
        let own = all.lines().find(|line| line.starts_with("0::"));
        own.map(str::to_owned)
    };
    let is_own = |pid: &u32| {
        let stat = procfs::read(&format!("/proc/{pid}/status")).unwrap_or_default();
        cgroup(*pid).is_some_and(|own| Some(own) == cgroup(Status::parse(&stat).number("PPid")))
    };
    children
        .into_iter()
        .filter(|pid| !known.contains(pid) && is_dead(pid) && is_own(pid))
        .collect()
}

/// A stable order in which each parent comes before its children, whatever the start times say.
fn parents_first(found: Vec<(Task, Found)>) -> Vec<(Task, Found)> {
    let mut waiting = found;
    let mut told: HashSet<u32> = HashSet::new();
    let mut ordered = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let here: HashSet<u32> = waiting.iter().map(|(task, _)| task.pid).collect();
        let ready = |(_, one): &(Task, Found)| {
            told.contains(&one.parent.pid) || !here.contains(&one.parent.pid)
        };
        let (next, later): (Vec<_>, Vec<_>) = waiting.into_iter().partition(ready);
        if next.is_empty() {
            // Parents in a ring, which only a torn look at /proc can show.
            ordered.extend(later);
            break;
        }
        told.extend(next.iter().map(|(task, _)| task.pid));
        ordered.extend(next);
        waiting = later;
    }
    ordered
}

fn look(pid: u32, pid_1: u32, namespace: Option<u64>) -> Option<(Task, Found)> {
    let read = |name: &str| procfs::read(&format!("/proc/{pid}/{name}"));
    let (status, stat) = (read("status")?, read("stat")?);
    let status = Status::parse(&status);
    let inner = |status: &Status<'_>| -> Option<u32> {
        status
            .text("NSpid")
            .split_whitespace()
            .next_back()?
            .parse()
            .ok()
    };
    let is_inside = namespace.is_some() && host::namespace(pid, "pid") == namespace;
    let task = Task {
        jail_pid: inner(&status).filter(|_| is_inside),
        ..status.task(procfs::start_ns(&stat))
    };
    let parent_pid = status.number("PPid");
    let parent = host::task(parent_pid);
    let is_parent_inside = namespace.is_some() && host::namespace(parent_pid, "pid") == namespace;
    let argv = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let kept = argv.get(..ARGV_BYTES).unwrap_or(&argv);
    let words = kept
        .strip_suffix(b"\0")
        .unwrap_or(kept)
        .split(|byte| *byte == 0);
    let found = Found {
        entered: is_inside && pid != pid_1 && !is_parent_inside,
        parent: Task {
            jail_pid: None,
            ..parent
        },
        program: Exec {
            filename: host::link(&format!("/proc/{pid}/exe")).unwrap_or_default(),
            argv: match argv.is_empty() {
                true => Vec::new(),
                false => words
                    .map(|word| String::from_utf8_lossy(word).into_owned())
                    .collect(),
            },
            argv_truncated: argv.len() > ARGV_BYTES,
            argv_bytes: argv.len() as u64,
            signals: None,
        },
        signals: SignalSets {
            ignored: procfs::signals(status.signals("SigIgn")),
            caught: procfs::signals(status.signals("SigCgt")),
            blocked: procfs::signals(status.signals("SigBlk")),
        },
        state: status.text("State").chars().take(1).collect(),
    };
    Some((task, found))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(pid: u32, parent: u32) -> (Task, Found) {
        let task = |pid| Task {
            pid,
            tid: pid,
            ..Task::default()
        };
        let (task, found) = (task(pid), look(std::process::id(), 0, None));
        let (_, found) = found.expect("this process");
        let parent = Task {
            pid: parent,
            ..task.clone()
        };
        (task, Found { parent, ..found })
    }

    #[test]
    fn parents_come_before_their_children() {
        let order = |pairs: &[(u32, u32)]| -> Vec<u32> {
            let found = pairs.iter().map(|(pid, parent)| one(*pid, *parent));
            let ordered = parents_first(found.collect());
            ordered.into_iter().map(|(task, _)| task.pid).collect()
        };
        assert_eq!(order(&[(3, 9), (5, 3), (9, 1)]), [9, 3, 5]);
        // A ring loses nobody and ends.
        assert_eq!(order(&[(3, 5), (5, 3), (7, 1)]), [7, 3, 5]);
    }

    #[test]
    fn this_process_is_looked_at() {
        let pid = std::process::id();
        let (task, found) = look(pid, 0, None).expect("this process");
        assert_eq!((task.pid, task.jail_pid), (pid, None));
        assert!(found.program.filename.starts_with('/'));
        assert!(!found.program.argv.is_empty() && !found.entered);
        assert_eq!(found.parent.pid, std::os::unix::process::parent_id());
        assert!(look(u32::MAX, 0, None).is_none());
    }
}
