//! The limits that others set, and what of the environment sets a runtime's memory.

use std::collections::BTreeMap;

use crate::cgroup::View;
use crate::evidence::runtime_settings;
use crate::procfs;

/// The files of a cgroup that limit it.
const FILES: [&str; 10] = [
    "memory.max",
    "memory.high",
    "memory.swap.max",
    "memory.oom.group",
    "memory.limit_in_bytes",
    "memory.memsw.limit_in_bytes",
    "pids.max",
    "cpu.max",
    "cpu.cfs_quota_us",
    "cpu.cfs_period_us",
];

/// v1's word for no limit: what fits into a long, cut to pages.
const UNLIMITED_BYTES: u64 = 1 << 62;

/// Limits in force in the target's own cgroups: file to value.
pub fn limits(view: &View) -> BTreeMap<String, String> {
    let own = view.hierarchies.iter().filter(|hierarchy| hierarchy.own);
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for level in own.filter_map(|hierarchy| hierarchy.levels.first()) {
        for file in FILES {
            let value = level.read(file).unwrap_or_default().trim().to_owned();
            if is_limit(&value) {
                found.entry(file.to_owned()).or_insert(value);
            }
        }
    }
    // A period alone limits nothing.
    if !found.contains_key("cpu.cfs_quota_us") {
        found.remove("cpu.cfs_period_us");
    }
    found
}

fn is_limit(value: &str) -> bool {
    let number: Option<u64> = value.parse().ok();
    !value.is_empty()
        && !value.starts_with("max")
        && !value.starts_with('-')
        && number.is_none_or(|number| number != 0 && number < UNLIMITED_BYTES)
}

/// Variables of a process that set the memory of a language's runtime.
pub fn environment(pid: u32) -> BTreeMap<String, String> {
    let bytes = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    runtime_settings(bytes.split(|byte| *byte == 0))
}

/// Soft resource limits of a process (proc_pid_limits(5)): name, such as `nofile`, to the limit; null for none.
pub fn rlimits(pid: u32) -> BTreeMap<String, Option<u64>> {
    const NAMES: [(&str, &str); 16] = [
        ("Max cpu time", "cpu"),
        ("Max file size", "fsize"),
        ("Max data size", "data"),
        ("Max stack size", "stack"),
        ("Max core file size", "core"),
        ("Max resident set", "rss"),
        ("Max processes", "nproc"),
        ("Max open files", "nofile"),
        ("Max locked memory", "memlock"),
        ("Max address space", "as"),
        ("Max file locks", "locks"),
        ("Max pending signals", "sigpending"),
        ("Max msgqueue size", "msgqueue"),
        ("Max nice priority", "nice"),
        ("Max realtime priority", "rtprio"),
        ("Max realtime timeout", "rttime"),
    ];
    let text = procfs::read(&format!("/proc/{pid}/limits")).unwrap_or_default();
    let limit = |line: &str| {
        let (label, name) = NAMES.iter().find(|(label, _)| line.starts_with(label))?;
        let soft = line.get(label.len()..)?.split_whitespace().next()?;
        Some(((*name).to_owned(), soft.parse().ok()))
    };
    text.lines().filter_map(limit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_limits_nothing_is_no_limit() {
        for value in ["", "max", "max 100000", "-1", "0", "9223372036854771712"] {
            assert!(!is_limit(value), "{value}");
        }
        for value in ["1", "67108864", "50000 100000"] {
            assert!(is_limit(value), "{value}");
        }
    }

    #[test]
    fn the_limits_of_this_process_are_read() {
        let limits = rlimits(std::process::id());
        assert_eq!(limits.len(), 16);
        assert!(limits.get("nofile").is_some_and(|limit| limit.is_some()));
        assert!(environment(0).is_empty());
    }
}
