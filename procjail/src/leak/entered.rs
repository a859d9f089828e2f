//! Processes in the jail's PID namespace that are not in its cgroup: they entered it from outside, as nsenter does,
//! and the probes, which go by the cgroup, see nothing of them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::host;
use crate::clock;
use crate::event::Task;
use crate::evidence::procfs;

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
    /// Looks through all processes of the host. `cgroup` is the path of the jail's on the default hierarchy.
    pub fn look(&mut self, pid_1: u32, cgroup: &str) {
        let start = Instant::now();
        if self.rested.is_some_and(|rested| start < rested) {
            return;
        }
        let used_ns = clock::thread_ns();
        if let Some(namespace) = host::namespace(pid_1, "pid") {
            let there = host::pids()
                .into_iter()
                .filter(|pid| host::namespace(*pid, "pid") == Some(namespace));
            let outside: Vec<u32> = there.filter(|pid| is_outside(*pid, cgroup)).collect();
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

/// It runs a program, and is neither in the cgroup nor in one below.
fn is_outside(pid: u32, cgroup: &str) -> bool {
    // One that has ended is in no cgroup.
    let alive = || host::link(&format!("/proc/{pid}/exe")).is_some();
    let table = procfs::read(&format!("/proc/{pid}/cgroup")).unwrap_or_default();
    alive() && own_path(&table).is_some_and(|own| !is_below(own, cgroup)) && alive()
}

/// The path on the default hierarchy in `/proc/PID/cgroup`.
fn own_path(table: &str) -> Option<&str> {
    table.lines().find_map(|line| line.strip_prefix("0::"))
}

fn is_below(path: &str, cgroup: &str) -> bool {
    path.strip_prefix(cgroup)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroups_below_the_jails_are_the_jails() {
        let table = "2:cpu:/\n0::/procjail/web/init\n";
        let own = own_path(table).expect("a path");
        assert!(is_below(own, "/procjail/web"));
        assert!(is_below("/procjail/web", "/procjail/web"));
        assert!(!is_below("/procjail/web2", "/procjail/web"));
        assert!(!is_below("/", "/procjail/web"));
        assert_eq!(own_path("2:cpu:/\n"), None);
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
