//! The processes of a played case, and what it leaves.

use std::fs;
use std::path::{Path, PathBuf};

use procjail_tests::{cgroup_directories, collect_orphans, descendants};

/// How many PID namespaces below the launcher's the jail is: its guard has one, and the jail has another.
const DEPTH: usize = 2;

/// The host's PID of the jail's PID 1.
pub fn first_of_jail() -> Option<u32> {
    let depth = levels(std::process::id())?.len() + DEPTH;
    descendants().into_iter().find(|&pid| {
        let levels = levels(pid).unwrap_or_default();
        levels.len() == depth && levels.last().is_some_and(|last| last == "1")
    })
}

/// `NSpid` of /proc/PID/status: its PID in each PID namespace, outermost first.
fn levels(pid: u32) -> Option<Vec<String>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))?;
    Some(line.split_whitespace().map(str::to_owned).collect())
}

/// The processes of the jail that have this name.
pub fn named(name: &str) -> Vec<u32> {
    let comm = |pid: u32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let mut pids = descendants();
    pids.retain(|&pid| comm(pid).trim_end() == name && in_jail(pid));
    pids
}

fn in_jail(pid: u32) -> bool {
    let own = levels(std::process::id()).map_or(0, |all| all.len());
    levels(pid).is_some_and(|all| all.len() >= own + DEPTH)
}

/// Sends a signal, if the process is still there.
pub fn signal(pid: u32, number: i32) {
    let Ok(pid) = i32::try_from(pid) else { return };
    // SAFETY: kill has no preconditions; the callers name processes below this one.
    unsafe { libc::kill(pid, number) };
}

/// Removes what a case left: processes below this one, cgroups of its jail, mounts below its directory. Returns
/// what the jail left; what the acts left, such as clients, is theirs.
pub fn clean(jail: &str, directory: &Path) -> Vec<String> {
    let mut left = Vec::new();
    let in_cgroup =
        |path: &PathBuf| fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    let mut cgroups = cgroup_directories();
    cgroups.retain(|path| path.components().any(|part| part.as_os_str() == jail));
    for round in 0..50 {
        let alive: Vec<u32> = descendants()
            .into_iter()
            .filter(|&pid| running(pid))
            .collect();
        let entered = cgroups.iter().flat_map(|path| {
            let pids = in_cgroup(path);
            pids.lines()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<u32>>()
        });
        let entered: Vec<u32> = entered.collect();
        if round == 0 {
            left.extend(entered.iter().map(|pid| format!("process {pid}")));
        }
        let all: Vec<u32> = alive.into_iter().chain(entered).collect();
        all.iter().for_each(|&pid| signal(pid, libc::SIGKILL));
        collect_orphans();
        if all.is_empty() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    // The deepest first.
    for path in cgroups.iter().rev() {
        if fs::remove_dir(path).is_ok() {
            left.push(format!("cgroup {}", path.display()));
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts: Vec<&str> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .collect();
    for mount in mounts
        .iter()
        .rev()
        .filter(|mount| Path::new(mount).starts_with(directory))
    {
        left.push(format!("mount {mount}"));
        let umount = std::process::Command::new("umount")
            .args(["--lazy", mount])
            .status();
        drop(umount);
    }
    left
}

fn running(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.contains("State:") && !status.contains("State:\tZ")
}
