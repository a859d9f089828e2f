//! Processes in the jail's PID namespace that are not in its cgroup: they entered it from outside, as nsenter does,
//! and the probes, which go by the cgroup, see nothing of them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::clock;
use crate::event::Task;
use crate::procfs::host;

/// Those of one jail that are told.
const TOLD: usize = 16;

/// Looks take a fiftieth of a processor at most.
const REST: u64 = 50;

/// A runtime puts what it starts in the jail into its cgroup a moment later.
const SETTLED: Duration = Duration::from_millis(200);

/// What was found so far.
#[derive(Debug, Default)]
pub struct Entered {
    found: BTreeMap<(u32, u64), (Task, Instant)>,
    settled: Vec<Task>,
    rested: Option<Instant>,
}

impl Entered {
    /// Looks through all processes of the host. `members` lists those in the jail's cgroup and below.
    pub fn look(&mut self, pid_1: u32, members: impl Fn() -> Vec<u32>) {
        let start = Instant::now();
        if self.rested.is_some_and(|rested| start < rested) {
            return;
        }
        let used_ns = clock::thread_ns();
        if let Some(namespace) = host::namespace(pid_1, "pid") {
            let there = host::pids()
                .into_iter()
                .filter(|pid| host::namespace(*pid, "pid") == Some(namespace));
            let outside = outside(&there.collect::<Vec<u32>>(), pid_1, &members());
            for pid in &outside {
                self.add(host::task(*pid), start);
            }
            // Who ended or joined meanwhile is not looked for any more.
            let settled = &self.settled;
            self.found
                .retain(|(pid, _), (task, _)| outside.contains(pid) || settled.contains(task));
        }
        let used_ns = clock::thread_ns().saturating_sub(used_ns);
        // Who was found is looked at again soon.
        let rest = match self.found.len() > self.settled.len() {
            true => SETTLED,
            false => Duration::from_nanos(used_ns.saturating_mul(REST)),
        };
        self.rested = Some(start + rest);
    }

    fn add(&mut self, task: Task, now: Instant) {
        let key = (task.pid, task.start_ns);
        let known = self.found.len() < TOLD || self.found.contains_key(&key);
        if task.start_ns == 0 || !known {
            return;
        }
        let (task, since) = self.found.entry(key).or_insert((task, now));
        if now.duration_since(*since) >= SETTLED && !self.settled.contains(task) {
            self.settled.push(task.clone());
        }
    }

    /// Those that stayed outside the cgroup.
    pub fn told(&self) -> Vec<Task> {
        self.settled.clone()
    }
}

/// Those that run a program and are neither in the cgroup nor in one below. What is a member is asked of the
/// cgroup itself: a path depends on who reads it, and from which cgroup namespace.
fn outside(there: &[u32], pid_1: u32, members: &[u32]) -> Vec<u32> {
    // Without PID 1 the list is not the jail's, or it could not be read.
    if !members.contains(&pid_1) {
        return Vec::new();
    }
    let strangers = there.iter().copied().filter(|pid| !members.contains(pid));
    // One that has ended is in no cgroup.
    strangers
        .filter(|pid| host::link(&format!("/proc/{pid}/exe")).is_some())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_a_member_of_the_cgroup_is_never_outside() {
        let own = std::process::id();
        assert_eq!(outside(&[own], 7, &[7]), [own]);
        assert_eq!(outside(&[own], own, &[own]), [0; 0]);
        // The list could not be read.
        assert_eq!(outside(&[own], 7, &[]), [0; 0]);
        // It has ended.
        assert_eq!(outside(&[u32::MAX], 7, &[7]), [0; 0]);
    }

    #[test]
    fn who_is_about_to_be_moved_into_the_cgroup_is_not_told() {
        let task = Task {
            pid: 7,
            start_ns: 9,
            ..Task::default()
        };
        let mut entered = Entered::default();
        let now = Instant::now();
        entered.add(task.clone(), now);
        entered.add(task.clone(), now + SETTLED / 2);
        assert_eq!(entered.told(), []);
        entered.add(task.clone(), now + SETTLED);
        entered.add(task.clone(), now + SETTLED * 2);
        assert_eq!(entered.told(), [task]);
    }
}
