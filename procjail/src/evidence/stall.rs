//! What may keep a thread from going away: read when the teardown stalls.

use std::fs;
use std::path::{Path, PathBuf};

use super::file_systems::Servers;
use super::members::Namespace;
use crate::cgroup::{Hierarchy, View};
use crate::event::{Frozen, Other, StallState};
use crate::procfs::{self, Status};

/// PF_EXITING in the flags of proc_pid_stat(5) (include/linux/sched.h).
const PF_EXITING: u64 = 0x4;

/// Descriptors of a process that are looked at for the jail's output.
const DESCRIPTORS: usize = 1024;

/// What the states of one snapshot have in common.
pub struct Inquiry<'a> {
    view: &'a View,
    in_cgroup: Vec<u32>,
    namespace: Option<Namespace>,
    servers: Servers,
    /// The launcher's standard output and error, which the jail has too.
    outputs: Vec<PathBuf>,
}

impl<'a> Inquiry<'a> {
    /// Begins one: `pid_1` must not have been reaped for the PID namespace to be known.
    pub fn new(view: &'a View, pid_1: u32) -> Inquiry<'a> {
        let outputs = [1, 2]
            .into_iter()
            .filter_map(|fd| fs::read_link(format!("/proc/self/fd/{fd}")).ok())
            .filter(|link| {
                let name = link.to_string_lossy();
                name.starts_with("pipe:") || name.starts_with("socket:")
            });
        Inquiry {
            view,
            in_cgroup: view.pids(),
            namespace: Namespace::of(pid_1),
            servers: Servers::default(),
            outputs: outputs.collect(),
        }
    }

    /// Every process that is in the way, PID 1 included.
    pub fn pids(&mut self) -> Vec<u32> {
        let members = self.namespace.as_mut().map(Namespace::members);
        let mut pids = members.unwrap_or_default();
        pids.extend(&self.in_cgroup);
        pids
    }

    /// The state of a thread. `directory` is its own in /proc, `call` and `stack` what was read there.
    pub fn state(
        &mut self,
        directory: &str,
        status: &Status<'_>,
        call: &str,
        stack: &str,
        frames: &[String],
    ) -> StallState {
        let pid = status.number("Tgid");
        let stat = procfs::read(&format!("{directory}/stat")).unwrap_or_default();
        let numbers = |key: &str| {
            let numbers = status.text(key).split_whitespace();
            numbers.filter_map(|number| number.parse().ok()).collect()
        };
        StallState {
            in_cgroup: self.in_cgroup.contains(&pid),
            in_pid_namespace: self.has(pid),
            namespace_pids: numbers("NStgid"),
            exiting: flags(&stat) & PF_EXITING != 0,
            parent: other(status.number("PPid"), &mut self.namespace),
            tracer: other(status.number("TracerPid"), &mut self.namespace),
            rss_bytes: status.bytes("VmRSS"),
            frozen: self.frozen(directory),
            file_system: self
                .servers
                .blocking(directory, call, frames, &mut self.namespace),
            modules: modules(stack),
            holds_output: self.holds_output(directory),
        }
    }

    fn has(&mut self, pid: u32) -> bool {
        self.namespace
            .as_mut()
            .is_some_and(|namespace| namespace.has(pid))
    }

    /// The freezer that holds a task: in v1 it may be in another cgroup than the jail's.
    fn frozen(&self, directory: &str) -> Option<Frozen> {
        let memberships = procfs::read(&format!("{directory}/cgroup"))?;
        memberships.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            let hierarchy = self
                .view
                .hierarchies
                .iter()
                .find(|hierarchy| match controllers {
                    "" => hierarchy.controllers.is_empty(),
                    _ => {
                        controllers.split(',').any(|name| name == "freezer")
                            && hierarchy.controllers.iter().any(|name| name == "freezer")
                    }
                })?;
            frozen_above(hierarchy, path)
        })
    }

    fn holds_output(&self, directory: &str) -> bool {
        if self.outputs.is_empty() {
            return false;
        }
        let Ok(entries) = fs::read_dir(Path::new(directory).join("fd")) else {
            return false;
        };
        entries
            .flatten()
            .take(DESCRIPTORS)
            .filter_map(|entry| fs::read_link(entry.path()).ok())
            .any(|link| self.outputs.contains(&link))
    }
}

/// The outermost cgroup on the way up that was frozen itself.
fn frozen_above(hierarchy: &Hierarchy, path: &str) -> Option<Frozen> {
    let root = hierarchy.levels.last()?.directory();
    let v1 = !hierarchy.controllers.is_empty();
    let (asked, file, value) = match v1 {
        true => ("freezer.self_freezing", "freezer.state", "THAWED"),
        false => ("cgroup.freeze", "cgroup.freeze", "0"),
    };
    Path::new(path)
        .ancestors()
        .filter_map(|cgroup| {
            let directory = root.join(cgroup.strip_prefix("/").ok()?);
            let asked = fs::read_to_string(directory.join(asked)).ok()?;
            (asked.trim() == "1").then(|| Frozen {
                cgroup: cgroup.to_string_lossy().into_owned(),
                file: directory.join(file).to_string_lossy().into_owned(),
                value: value.to_owned(),
            })
        })
        .last()
}

/// A process beside the thread that is asked about; none for PID 0, or one that is gone.
pub fn other(pid: u32, namespace: &mut Option<Namespace>) -> Option<Other> {
    let text = procfs::read(&format!("/proc/{pid}/status")).filter(|_| pid != 0)?;
    let status = Status::parse(&text);
    let in_pid_namespace = namespace
        .as_mut()
        .is_some_and(|namespace| namespace.has(pid));
    Some(Other {
        pid,
        jail_pid: status.task(0).jail_pid.filter(|_| in_pid_namespace),
        comm: status.text("Name").to_owned(),
        state: status.text("State").chars().take(1).collect(),
        in_pid_namespace,
    })
}

/// The modules of a stack file: `[<0>] request_wait_answer+0x1/0x2 [fuse]`.
fn modules(stack: &str) -> Vec<String> {
    let module = |line: &str| {
        let last = line.split_whitespace().nth(2)?;
        let name = last.strip_prefix('[')?.strip_suffix(']')?;
        Some(name.to_owned())
    };
    stack.lines().filter_map(module).take(32).collect()
}

fn flags(stat: &str) -> u64 {
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    fields
        .split_whitespace()
        .nth(6)
        .and_then(|flags| flags.parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_follow_the_function() {
        let text = "[<0>] a+0x1/0x2 [nvidia]\n[<0>] b+0x1/0x2\n[<0>] c+0x1/0x2 [fuse]\n";
        assert_eq!(modules(text), ["nvidia", "fuse"]);
    }

    #[test]
    fn the_flags_are_found_behind_an_odd_name() {
        assert_eq!(flags("12 (a) b) S 1 2 3 4 5 4194308 7 8"), 4_194_308);
        assert_eq!(flags(""), 0);
    }

    #[test]
    fn nobody_is_no_process() {
        assert_eq!(other(0, &mut None), None);
        let own = other(std::process::id(), &mut None).expect("this process");
        assert!(!own.in_pid_namespace && !own.comm.is_empty());
    }
}
