//! Counters and limits of the jail's cgroup and of those above it, under the names of cgroup v2.
//!
//! Files: Documentation/admin-guide/cgroup-v2.rst, and cgroup-v1/{memory,pids,freezer-subsystem}.rst.

use std::collections::BTreeMap;

use crate::event::{Counters, CpuThrottling, Level, Moment};
use crate::jail::cgroup::{Hierarchy, LevelDir, View};

/// v1 says "no limit" with the largest number of pages, in bytes.
pub const V1_NO_LIMIT: u64 = 1 << 62;

/// Files of cgroup v2, and of v1's pids controller, with one number, or `max`.
const NUMBERS: [&str; 10] = [
    "memory.current",
    "memory.peak",
    "memory.max",
    "memory.high",
    "memory.oom.group",
    "memory.swap.current",
    "memory.swap.max",
    "pids.current",
    "pids.max",
    "cgroup.freeze",
];

/// Files of cgroup v2 with lines of a name and a number.
const TABLES: [&str; 7] = [
    "memory.events",
    "memory.events.local",
    "memory.swap.events",
    "pids.events",
    "pids.events.local",
    "cpu.stat",
    "cgroup.events",
];

/// Files of v1's memory controller, and the names of what they hold.
const V1_MEMORY: [(&str, &str); 8] = [
    ("memory.usage_in_bytes", "memory.current"),
    ("memory.max_usage_in_bytes", "memory.peak"),
    ("memory.limit_in_bytes", "memory.max"),
    ("memory.failcnt", "memory.failcnt"),
    ("memory.memsw.usage_in_bytes", "memory.memsw.current"),
    ("memory.memsw.limit_in_bytes", "memory.memsw.max"),
    ("memory.memsw.failcnt", "memory.memsw.failcnt"),
    ("memory.kmem.usage_in_bytes", "memory.kmem.current"),
];

type Values = BTreeMap<String, u64>;

/// Reads all counters.
pub fn read(view: &View, moment: Moment) -> Counters {
    let mut levels: Vec<Level> = Vec::new();
    for hierarchy in &view.hierarchies {
        for dir in &hierarchy.levels {
            let mut values = Values::new();
            if hierarchy.controllers.is_empty() {
                unified(dir, &mut values);
            }
            for controller in &hierarchy.controllers {
                v1(controller, dir, &mut values);
            }
            match levels.iter_mut().find(|level| level.path == dir.path) {
                // What a controller says counts more than what the unified hierarchy knows without it.
                Some(level) => level.values.extend(values),
                None => levels.push(Level {
                    path: dir.path.clone(),
                    values,
                }),
            }
        }
    }
    // The jail's own is the first that was seen.
    if let Some(above) = levels.get_mut(1..) {
        above.sort_by_key(|level| std::cmp::Reverse(depth(&level.path)));
    }
    levels.retain(|level| !level.values.is_empty());
    Counters { moment, levels }
}

fn depth(path: &str) -> usize {
    path.split('/').filter(|name| !name.is_empty()).count()
}

fn unified(dir: &LevelDir, values: &mut Values) {
    for file in NUMBERS {
        number(dir, file, file, values);
    }
    for file in TABLES {
        table(dir, file, values);
    }
    if let Some((quota, period)) = dir.read("cpu.max").ok().as_deref().and_then(cpu_max) {
        values.insert("cpu.max:quota_usec".into(), quota);
        values.insert("cpu.max:period_usec".into(), period);
    }
}

fn v1(controller: &str, dir: &LevelDir, values: &mut Values) {
    match controller {
        "memory" => {
            for (file, name) in V1_MEMORY {
                number(dir, file, name, values);
            }
            for (key, value) in lines(&dir.read("memory.oom_control").unwrap_or_default()) {
                let name = match key {
                    "oom_kill" => "memory.events:oom_kill".to_owned(),
                    _ => format!("memory.oom_control:{key}"),
                };
                values.insert(name, value);
            }
        }
        "pids" => {
            number(dir, "pids.current", "pids.current", values);
            number(dir, "pids.max", "pids.max", values);
            table(dir, "pids.events", values);
        }
        "cpu" => {
            for (key, value) in lines(&dir.read("cpu.stat").unwrap_or_default()) {
                // Nanoseconds, where v2 has microseconds.
                let (key, value) = match key {
                    "throttled_time" => ("throttled_usec", value / 1000),
                    "burst_time" => ("burst_usec", value / 1000),
                    _ => (key, value),
                };
                values.insert(format!("cpu.stat:{key}"), value);
            }
            number(dir, "cpu.cfs_quota_us", "cpu.max:quota_usec", values);
            if values.contains_key("cpu.max:quota_usec") {
                number(dir, "cpu.cfs_period_us", "cpu.max:period_usec", values);
            }
        }
        "cpuacct" => {
            if let Some(ns) = parse(&dir.read("cpuacct.usage").unwrap_or_default()) {
                values.insert("cpu.stat:usage_usec".into(), ns / 1000);
            }
        }
        "freezer" => {
            number(dir, "freezer.self_freezing", "cgroup.freeze", values);
            if let Ok(state) = dir.read("freezer.state") {
                let frozen = u64::from(state.trim() == "FROZEN");
                values.insert("cgroup.events:frozen".into(), frozen);
            }
        }
        _ => {}
    }
}

fn number(dir: &LevelDir, file: &str, name: &str, values: &mut Values) {
    let value = dir.read(file).ok().as_deref().and_then(parse);
    if let Some(value) = value.filter(|&value| value < V1_NO_LIMIT) {
        values.insert(name.to_owned(), value);
    }
}

fn table(dir: &LevelDir, file: &str, values: &mut Values) {
    for (key, value) in lines(&dir.read(file).unwrap_or_default()) {
        values.insert(format!("{file}:{key}"), value);
    }
}

/// A number; none for `max`, or `-1` where v1 says so.
pub fn parse(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The lines of a file that have a name and a number.
pub fn lines(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key, parse(value)?))
    })
}

/// Quota and period of `cpu.max`, microseconds; none without a quota.
fn cpu_max(text: &str) -> Option<(u64, u64)> {
    let (quota, period) = text.trim().split_once(' ')?;
    Some((parse(quota)?, parse(period)?))
}

/// The jail's cgroup, or one above it, that is frozen.
pub fn frozen(view: &View) -> Option<String> {
    let is_frozen = |hierarchy: &Hierarchy, dir: &LevelDir| {
        if hierarchy.controllers.is_empty() {
            let events = dir.read("cgroup.events").unwrap_or_default();
            lines(&events).any(|line| line == ("frozen", 1))
        } else {
            dir.read("freezer.state")
                .is_ok_and(|state| state.trim() == "FROZEN")
        }
    };
    let hierarchies = view.hierarchies.iter().filter(|hierarchy| {
        hierarchy.controllers.is_empty()
            || hierarchy.controllers.iter().any(|name| name == "freezer")
    });
    hierarchies
        .flat_map(|hierarchy| hierarchy.levels.iter().map(move |dir| (hierarchy, dir)))
        // The outermost that says so is the one that was frozen: it shows in all below.
        .rfind(|(hierarchy, dir)| is_frozen(hierarchy, dir))
        .map(|(_, dir)| dir.path.clone())
}

/// How the nearest CPU limit held the jail back; none without one.
pub fn throttling(view: &View) -> Option<CpuThrottling> {
    let hierarchy = view.with("cpu", "cpu.max")?;
    let limited = hierarchy.levels.iter().find(|dir| {
        let quota = |file| dir.read(file).ok();
        quota("cpu.max").as_deref().and_then(cpu_max).is_some()
            || quota("cpu.cfs_quota_us")
                .as_deref()
                .and_then(parse)
                .is_some()
    })?;
    let stat = limited.read("cpu.stat").ok()?;
    let mut throttling = CpuThrottling::default();
    for (key, value) in lines(&stat) {
        match key {
            "nr_periods" => throttling.periods = value,
            "nr_throttled" => throttling.throttled_periods = value,
            "throttled_usec" => throttling.throttled_ns = value.saturating_mul(1000),
            "throttled_time" => throttling.throttled_ns = value,
            _ => {}
        }
    }
    let own = view.unified().and_then(|unified| unified.levels.first());
    let used = own.and_then(|dir| dir.read("cpu.stat").ok());
    throttling.used_ns = lines(&used.unwrap_or_default())
        .find(|(key, _)| *key == "usage_usec")
        .map_or(0, |(_, value)| value.saturating_mul(1000));
    Some(throttling)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limit_is_no_number() {
        assert_eq!(parse("max\n"), None);
        assert_eq!(parse("-1\n"), None);
        assert_eq!(parse("17\n"), Some(17));
        assert_eq!(cpu_max("max 100000\n"), None);
        assert_eq!(cpu_max("50000 100000\n"), Some((50_000, 100_000)));
    }

    #[test]
    fn lines_without_a_number_are_skipped() {
        let found: Vec<_> = lines("oom 3\nmax 12\nbroken\n\nx y\n").collect();
        assert_eq!(found, [("oom", 3), ("max", 12)]);
        // v1's pids.events has a name and a number as well.
        assert_eq!(lines("max 5\n").next(), Some(("max", 5)));
    }

    #[test]
    fn depth_counts_names() {
        assert_eq!(depth("/"), 0);
        assert_eq!(depth("/procjail/x"), 2);
    }
}
