//! Counters and limits of the jail's cgroup and of those above it, under the names of cgroup v2.
//!
//! Files: Documentation/admin-guide/cgroup-v2.rst, and cgroup-v1/{memory,pids,freezer-subsystem}.rst.

use std::collections::BTreeMap;

use super::reread::Reread;
use crate::cgroup::{Hierarchy, LevelDir, View};
use crate::event::{Counters, CpuThrottling, Level, Moment};

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

/// The files of all levels, kept open: the end of the jail waits for them to be read.
#[derive(Debug)]
pub struct Files {
    /// The jail's own level first, the root last.
    levels: Vec<(String, Vec<File>)>,
}

/// An open file and what it holds.
#[derive(Debug)]
struct File {
    holds: Holds,
    file: Reread,
}

#[derive(Clone, Copy, Debug)]
enum Holds {
    /// A number of this name.
    Number(&'static str),
    /// Nanoseconds, told in microseconds.
    Nanoseconds(&'static str),
    /// Lines of a key and a number, below this name.
    Table(&'static str),
    /// v1's `memory.oom_control`.
    OomControl,
    /// v1's `cpu.stat`.
    CpuStat,
    /// v2's `cpu.max`.
    CpuMax,
    /// v1's `freezer.state`.
    FreezerState,
}

/// The files to look for in a directory of a hierarchy; `None` is the unified one.
fn files_of(controller: Option<&str>, is_root: bool) -> Vec<(&'static str, Holds)> {
    match controller {
        None => {
            let numbers = NUMBERS.iter().map(|file| (*file, Holds::Number(file)));
            let tables = TABLES.iter().map(|file| (*file, Holds::Table(file)));
            let cpu = ("cpu.max", Holds::CpuMax);
            numbers.chain(tables).chain([cpu]).collect()
        }
        Some("memory") => {
            // The root's are sums over the whole machine, which take their time.
            let numbers = V1_MEMORY.iter().filter(|_| !is_root);
            let numbers = numbers.map(|(file, name)| (*file, Holds::Number(name)));
            let oom_control = ("memory.oom_control", Holds::OomControl);
            numbers.chain([oom_control]).collect()
        }
        Some("pids") => vec![
            ("pids.current", Holds::Number("pids.current")),
            ("pids.max", Holds::Number("pids.max")),
            ("pids.events", Holds::Table("pids.events")),
        ],
        Some("cpu") => vec![
            ("cpu.stat", Holds::CpuStat),
            ("cpu.cfs_quota_us", Holds::Number("cpu.max:quota_usec")),
            ("cpu.cfs_period_us", Holds::Number("cpu.max:period_usec")),
        ],
        Some("cpuacct") => vec![("cpuacct.usage", Holds::Nanoseconds("cpu.stat:usage_usec"))],
        Some("freezer") => vec![
            ("freezer.self_freezing", Holds::Number("cgroup.freeze")),
            ("freezer.state", Holds::FreezerState),
        ],
        Some(_) => Vec::new(),
    }
}

impl Files {
    /// Opens what there is.
    pub fn open(view: &View) -> Files {
        let mut levels: Vec<(String, Vec<File>)> = Vec::new();
        for hierarchy in &view.hierarchies {
            let mut controllers: Vec<Option<&str>> = hierarchy
                .controllers
                .iter()
                .map(|name| Some(name.as_str()))
                .collect();
            if controllers.is_empty() {
                controllers.push(None);
            }
            for dir in &hierarchy.levels {
                let wanted = controllers
                    .iter()
                    .flat_map(|controller| files_of(*controller, dir.path == "/"));
                let found = wanted.filter_map(|(name, holds)| {
                    let file = Reread::new(dir.open(name).ok()?);
                    Some(File { holds, file })
                });
                // What a controller says comes last, as it counts more than what the unified
                // hierarchy knows without it.
                match levels.iter_mut().find(|(path, _)| *path == dir.path) {
                    Some((_, files)) => files.extend(found),
                    None => levels.push((dir.path.clone(), found.collect())),
                }
            }
        }
        // The jail's own is the first that was seen.
        if let Some(above) = levels.get_mut(1..) {
            above.sort_by_key(|(path, _)| std::cmp::Reverse(depth(path)));
        }
        Files { levels }
    }

    /// Reads all of them.
    pub fn read(&self, moment: Moment) -> Counters {
        let level = |(path, files): &(String, Vec<File>)| {
            let mut values = Values::new();
            for File { holds, file } in files {
                if let Some(text) = file.text() {
                    holds.read(&text, &mut values);
                }
            }
            if !values.contains_key("cpu.max:quota_usec") {
                values.remove("cpu.max:period_usec");
            }
            Level {
                path: path.clone(),
                values,
            }
        };
        let mut levels: Vec<Level> = self.levels.iter().map(level).collect();
        levels.retain(|level| !level.values.is_empty());
        Counters { moment, levels }
    }
}

fn depth(path: &str) -> usize {
    path.split('/').filter(|name| !name.is_empty()).count()
}

impl Holds {
    fn read(self, text: &str, values: &mut Values) {
        let mut put = |name: &str, value: Option<u64>| {
            if let Some(value) = value.filter(|&value| value < V1_NO_LIMIT) {
                values.insert(name.to_owned(), value);
            }
        };
        match self {
            Holds::Number(name) => put(name, parse(text)),
            Holds::Nanoseconds(name) => put(name, parse(text).map(|ns| ns / 1000)),
            Holds::Table(name) => {
                for (key, value) in lines(text) {
                    put(&format!("{name}:{key}"), Some(value));
                }
            }
            Holds::OomControl => {
                for (key, value) in lines(text) {
                    match key {
                        "oom_kill" => put("memory.events:oom_kill", Some(value)),
                        _ => put(&format!("memory.oom_control:{key}"), Some(value)),
                    }
                }
            }
            Holds::CpuStat => {
                for (key, value) in lines(text) {
                    match key {
                        // Nanoseconds, where v2 has microseconds.
                        "throttled_time" => put("cpu.stat:throttled_usec", Some(value / 1000)),
                        "burst_time" => put("cpu.stat:burst_usec", Some(value / 1000)),
                        _ => put(&format!("cpu.stat:{key}"), Some(value)),
                    }
                }
            }
            Holds::CpuMax => {
                let (quota, period) = cpu_max(text).unzip();
                put("cpu.max:quota_usec", quota);
                put("cpu.max:period_usec", period);
            }
            Holds::FreezerState => {
                let frozen = u64::from(text.trim() == "FROZEN");
                put("cgroup.events:frozen", Some(frozen));
            }
        }
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
    fn v1_has_the_names_of_v2() {
        let read = |holds: Holds, text| {
            let mut values = Values::new();
            holds.read(text, &mut values);
            values.into_iter().collect::<Vec<_>>()
        };
        let one = |name: &str, value| vec![(name.to_owned(), value)];
        let limit = Holds::Number("memory.max");
        assert_eq!(read(limit, "4096\n"), one("memory.max", 4096));
        assert_eq!(read(limit, "9223372036854771712\n"), vec![]);
        let throttled = read(Holds::CpuStat, "throttled_time 5000\n");
        assert_eq!(throttled, one("cpu.stat:throttled_usec", 5));
        let kills = read(Holds::OomControl, "oom_kill_disable 0\noom_kill 3\n");
        assert_eq!(kills[0], ("memory.events:oom_kill".into(), 3));
        assert_eq!(kills[1], ("memory.oom_control:oom_kill_disable".into(), 0));
        let state = |text| read(Holds::FreezerState, text);
        assert_eq!(state("FROZEN\n"), one("cgroup.events:frozen", 1));
        assert_eq!(state("FREEZING\n"), one("cgroup.events:frozen", 0));
    }

    #[test]
    fn depth_counts_names() {
        assert_eq!(depth("/"), 0);
        assert_eq!(depth("/procjail/x"), 2);
    }
}
