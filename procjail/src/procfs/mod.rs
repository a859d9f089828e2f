//! Reading of /proc: proc_pid_status(5), proc_pid_stat(5). A process that is gone is no error.
//!
//! [`host`] looks at all processes, [`mountinfo`] at mounts, [`state`] at what a process is doing.

pub(crate) mod host;
pub(crate) mod mountinfo;
pub(crate) mod state;

use std::collections::HashMap;

use crate::event::{Signal, Task};

/// Length of a tick of proc_pid_stat(5)'s times: USER_HZ is 100 on every architecture that procjail
/// runs on.
const TICK_NS: u64 = 10_000_000;

/// `NStgid` counts from the PID namespace of the /proc mount: the host's, the guard's, the jail's.
const JAIL_LEVEL: usize = 2;

/// A file of a process, or of one of its threads.
pub fn read(path: &str) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Resident memory of a process (proc_pid_statm(5)).
pub fn resident_bytes(pid: u32) -> Option<u64> {
    let statm = read(&format!("/proc/{pid}/statm"))?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages.saturating_mul(page_bytes()))
}

/// Size of a page, bytes.
pub fn page_bytes() -> u64 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .and_then(|bytes| u64::try_from(bytes).ok())
        .unwrap_or(4096)
}

/// The fields of a status file.
#[derive(Debug)]
pub struct Status<'a>(HashMap<&'a str, &'a str>);

impl<'a> Status<'a> {
    /// Splits the file.
    pub fn parse(text: &'a str) -> Status<'a> {
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        Status(fields.map(|(key, value)| (key, value.trim())).collect())
    }

    /// A field as it is; empty if it isn't there.
    pub fn text(&self, key: &str) -> &'a str {
        self.0.get(key).copied().unwrap_or_default()
    }

    /// A number; 0 if there is none.
    pub fn number(&self, key: &str) -> u32 {
        self.text(key).parse().unwrap_or_default()
    }

    /// A count that may be large; 0 if there is none.
    pub fn count(&self, key: &str) -> u64 {
        self.text(key).parse().unwrap_or_default()
    }

    /// A size, which the file has in kB, in bytes.
    pub fn bytes(&self, key: &str) -> u64 {
        let number = self.text(key).split_whitespace().next();
        let kilobytes: u64 = number
            .and_then(|number| number.parse().ok())
            .unwrap_or_default();
        kilobytes.saturating_mul(1024)
    }

    /// A set of signals, which the file has as a mask.
    pub fn signals(&self, key: &str) -> u64 {
        u64::from_str_radix(self.text(key), 16).unwrap_or_default()
    }

    /// The task that the file is of.
    pub fn task(&self, start_ns: u64) -> Task {
        let levels: Vec<&str> = self.text("NStgid").split_whitespace().collect();
        Task {
            pid: self.number("Tgid"),
            tid: self.number("Pid"),
            jail_pid: levels.get(JAIL_LEVEL).and_then(|pid| pid.parse().ok()),
            comm: self.text("Name").to_owned(),
            start_ns,
            in_jail: true,
            cgroup_id: 0,
        }
    }
}

/// The signals of a mask.
pub fn signals(mask: u64) -> Vec<Signal> {
    (1..=64)
        .filter(|number| mask & (1 << (number - 1)) != 0)
        .map(Signal::new)
        .collect()
}

/// When the process started, CLOCK_BOOTTIME nanoseconds, cut to a tick; 0 if it can't be told.
pub fn start_ns(stat: &str) -> u64 {
    ticks(stat, 19).unwrap_or_default()
}

/// Time on a processor, in user space and in the kernel, nanoseconds, cut to ticks.
pub fn cpu_ns(stat: &str) -> Option<u64> {
    Some(ticks(stat, 11)?.saturating_add(ticks(stat, 12)?))
}

/// A time of proc_pid_stat(5), by its place behind the name, which may hold anything.
fn ticks(stat: &str, place: usize) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: u64 = fields.split_whitespace().nth(place)?.parse().ok()?;
    Some(ticks.saturating_mul(TICK_NS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_read() {
        let text = read("/proc/self/status").expect("a status");
        let status = Status::parse(&text);
        assert_eq!(status.number("Tgid"), std::process::id());
        assert!(status.bytes("VmSize") > 0);
        let start = start_ns(&read("/proc/self/stat").expect("a stat"));
        assert!(start > 0 && start <= crate::clock::boot_ns());
        assert_eq!(status.task(start).start_ns, start);
    }

    #[test]
    fn what_is_not_there_is_nothing() {
        let status = Status::parse("Name:\tx\nTgid:\tabc\nNStgid:\t7\t3\t1\nbroken\n");
        assert_eq!(status.number("Tgid"), 0);
        assert_eq!(status.bytes("VmRSS"), 0);
        assert_eq!(status.task(0).jail_pid, Some(1));
        assert_eq!(start_ns("12 (x) S 1"), 0);
        assert_eq!(cpu_ns("12 (x) S 1"), None);
        let stat = "12 (a) b) S 1 2 3 4 5 6 7 8 9 10 30 12 0 0";
        assert_eq!(cpu_ns(stat), Some(420_000_000));
    }

    #[test]
    fn masks_become_signals() {
        let names: Vec<String> = signals(0x4002).into_iter().map(|s| s.name).collect();
        assert_eq!(names, ["SIGINT", "SIGTERM"]);
        assert_eq!(signals(u64::MAX).len(), 64);
    }
}
