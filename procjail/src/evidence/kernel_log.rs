//! What the lines of the kernel log say about a jail: reports of OOM kills (mm/oom_kill.c,
//! mm/memcontrol.c), and whatever names its cgroup or one of its processes.
//!
//! Everything here is total: the log has lines of other machines' worth of drivers, and any program
//! with the right may write to it.

use std::collections::HashMap;

use super::{counters, memory};
use crate::event::{
    KernelMessage, KernelOom, MemoryKinds, ProcessMemory, ProcessSample, Task, What,
};

/// Most tasks of a report that are kept.
const TASKS: usize = 64;

/// Longer lines are cut off.
const LINE_BYTES: usize = 1024;

/// Something that may concern the jail.
#[derive(Debug, PartialEq)]
pub struct Finding {
    /// What the log says.
    pub what: What,
    /// It names the jail's cgroup. Else it concerns the jail only if one of `pids` does.
    pub certain: bool,
    /// Host PIDs that it names.
    pub pids: Vec<u32>,
}

/// Reads the log, record by record.
#[derive(Debug)]
pub struct KernelLog {
    /// Path of the jail's cgroup.
    cgroup: String,
    page_bytes: u64,
    report: Option<Report>,
    /// Victim of the last report: the line that tells of its kill says nothing new.
    reported: Option<u32>,
}

/// A report of an OOM kill, as far as it was read.
#[derive(Debug, Default)]
struct Report {
    part: Part,
    stat: HashMap<String, u64>,
    columns: Vec<String>,
    tasks: Vec<ProcessSample>,
}

/// Which part of a report a line belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Head,
    Stat,
    Tasks,
}

impl KernelLog {
    /// For a jail with this cgroup.
    pub fn new(cgroup: &str, page_bytes: u64) -> KernelLog {
        KernelLog {
            cgroup: cgroup.to_owned(),
            page_bytes,
            report: None,
            reported: None,
        }
    }

    /// Takes a record of `/dev/kmsg`: `priority,number,time,flags;text`, and lines with more.
    pub fn take(&mut self, record: &[u8]) -> Vec<Finding> {
        let record = String::from_utf8_lossy(record);
        let Some((head, rest)) = record.split_once(';') else {
            return Vec::new();
        };
        let priority: u32 = head
            .split(',')
            .next()
            .and_then(|number| number.parse().ok())
            .unwrap_or_default();
        let text = unescape(rest.lines().next().unwrap_or_default());
        // Older kernels log all of a cgroup's statistics as one record.
        text.lines()
            .filter_map(|line| self.line((priority & 7) as u8, line))
            .collect()
    }

    fn line(&mut self, level: u8, line: &str) -> Option<Finding> {
        if line.contains(" invoked oom-killer: ") {
            self.report = Some(Report::default());
            return None;
        }
        if let Some(end) = line.strip_prefix("oom-kill:constraint=") {
            let report = self.report.take().unwrap_or_default();
            return self.finish(report, end);
        }
        let page_bytes = self.page_bytes;
        if let Some(report) = &mut self.report
            && report.take(line, page_bytes)
        {
            return None;
        }
        self.message(level, line)
    }

    fn finish(&mut self, report: Report, end: &str) -> Option<Finding> {
        let oom = summary(end, report)?;
        self.reported = Some(oom.victim_pid);
        let limited = oom.limit_cgroup.as_ref();
        Some(Finding {
            certain: self.is_named_in(&oom.victim_cgroup)
                || limited.is_some_and(|cgroup| self.is_named_in(cgroup)),
            pids: vec![oom.victim_pid],
            what: What::KernelOom(oom),
        })
    }

    fn message(&mut self, level: u8, line: &str) -> Option<Finding> {
        let pids = pids(line);
        let certain = self.is_named_in(line);
        if !certain && pids.is_empty() {
            return None;
        }
        if line.contains("Killed process ") && pids.first().copied() == self.reported {
            self.reported = None;
            return None;
        }
        let mut text = line.to_owned();
        let mut length = text.len().min(LINE_BYTES);
        while !text.is_char_boundary(length) {
            length -= 1;
        }
        text.truncate(length);
        Some(Finding {
            what: What::KernelMessage(KernelMessage { level, text }),
            certain,
            pids,
        })
    }

    /// Whether the jail's cgroup, or one below it, is named in the text.
    fn is_named_in(&self, text: &str) -> bool {
        text.match_indices(&self.cgroup).any(|(at, found)| {
            let after = text.get(at + found.len()..).unwrap_or_default();
            // Not `/procjail/web-2` for `/procjail/web`.
            after
                .chars()
                .next()
                .is_none_or(|next| matches!(next, '/' | ' ' | ':' | ',' | '\n'))
        })
    }
}

impl Report {
    /// Takes a line if it belongs to the report.
    fn take(&mut self, line: &str, page_bytes: u64) -> bool {
        if line.starts_with("Memory cgroup stats for ") {
            self.part = Part::Stat;
            // Before 5.3 all of it is in this line: `…: cache:0KB rss:32640KB`.
            let old = line.split_whitespace().filter_map(|word| {
                let (key, value) = word.split_once(':')?;
                let kilobytes = counters::parse(value.strip_suffix("KB")?)?;
                Some((key.to_owned(), kilobytes.saturating_mul(1024)))
            });
            self.stat.extend(old);
            return true;
        }
        if line.starts_with("Tasks state ") {
            return true;
        }
        if let Some(usage) = line.strip_prefix("kmem: usage ") {
            // v1 alone; v2 has it among the statistics.
            let kilobytes = usage.split("kB").next().and_then(counters::parse);
            if let Some(kilobytes) = kilobytes {
                let bytes = kilobytes.saturating_mul(1024);
                self.stat.insert("kernel".into(), bytes);
            }
            return true;
        }
        if let Some(columns) = line.strip_prefix("[  pid  ]") {
            self.part = Part::Tasks;
            self.columns = columns.split_whitespace().map(str::to_owned).collect();
            return true;
        }
        match self.part {
            Part::Stat => match counters::lines(line).next() {
                Some((key, value)) if !key.is_empty() => {
                    self.stat.insert(key.to_owned(), value);
                    true
                }
                _ => false,
            },
            Part::Tasks => match task(line, &self.columns, page_bytes) {
                Some(task) => {
                    self.tasks.push(task);
                    true
                }
                None => false,
            },
            Part::Head => false,
        }
    }
}

/// A row of the table of tasks: `[    805]     0   805     8620     8357   102400        0             0 name`.
fn task(line: &str, columns: &[String], page_bytes: u64) -> Option<ProcessSample> {
    let (pid, rest) = line.strip_prefix('[')?.split_once(']')?;
    let tid = pid.trim().parse().ok()?;
    // The name, which may have spaces, is the last column.
    let mut rest = rest;
    let mut values = HashMap::new();
    for column in columns.iter().filter(|column| *column != "name") {
        rest = rest.trim_start();
        let (value, after) = rest.split_once(' ')?;
        values.insert(column.as_str(), value.parse::<i64>().ok()?);
        rest = after;
    }
    let number = |column: &str| {
        let value = values.get(column).copied().unwrap_or_default();
        u64::try_from(value).unwrap_or_default()
    };
    let pages = |column: &str| number(column).saturating_mul(page_bytes);
    let anon = match values.contains_key("rss_anon") {
        true => "rss_anon",
        // Before 6.8 there is only the sum.
        false => "rss",
    };
    Some(ProcessSample {
        process: Task {
            pid: u32::try_from(number("tgid")).ok()?,
            tid,
            comm: rest.trim().to_owned(),
            ..Task::default()
        },
        memory: ProcessMemory {
            anon_bytes: pages(anon),
            file_bytes: pages("rss_file"),
            shmem_bytes: pages("rss_shmem"),
            swap_bytes: pages("swapents"),
            page_table_bytes: number("pgtables_bytes"),
            total_vm_bytes: pages("total_vm"),
        },
        threads: 0,
        oom_score_adj: i32::try_from(*values.get("oom_score_adj")?).ok()?,
        environment: Default::default(),
    })
}

/// The line that sums a report up:
/// `CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/a,task_memcg=/a/b,task=x,pid=7,uid=0`.
/// Names may have commas, so the fields are looked for by what comes before them.
fn summary(end: &str, report: Report) -> Option<KernelOom> {
    let constraint = match end.split_once(',')?.0 {
        "CONSTRAINT_NONE" => "none",
        "CONSTRAINT_CPUSET" => "cpuset",
        "CONSTRAINT_MEMORY_POLICY" => "memory-policy",
        "CONSTRAINT_MEMCG" => "memcg",
        other => other,
    };
    let (rest, pid) = end.rsplit_once(",pid=")?;
    let victim_pid = pid.split(',').next()?.parse().ok()?;
    let (rest, _) = rest.rsplit_once(",task=")?;
    let (rest, victim_cgroup) = rest.rsplit_once(",task_memcg=")?;
    let (rest, limit_cgroup) = match rest.rsplit_once(",oom_memcg=") {
        Some((rest, cgroup)) => (rest, Some(cgroup.to_owned())),
        None => (rest.strip_suffix(",global_oom").unwrap_or(rest), None),
    };
    let mems_allowed = rest
        .rsplit_once(",mems_allowed=")
        .map_or("", |(_, nodes)| nodes);
    let stat: HashMap<&str, u64> = report
        .stat
        .iter()
        .map(|(key, value)| (key.as_str(), *value))
        .collect();
    let kinds: Option<MemoryKinds> = (!stat.is_empty()).then(|| memory::kinds(&stat));
    let mut processes = report.tasks;
    processes.sort_by_key(|task| std::cmp::Reverse(task.memory.resident_bytes()));
    processes.truncate(TASKS);
    Some(KernelOom {
        constraint: constraint.to_owned(),
        limit_cgroup,
        victim_cgroup: victim_cgroup.to_owned(),
        victim_pid,
        kinds,
        processes,
        mems_allowed: mems_allowed.to_owned(),
    })
}

/// PIDs in the forms in which the kernel names processes: `name[7]: segfault`, `Killed process 7`,
/// `task name:7 blocked`, `pid=7`.
fn pids(line: &str) -> Vec<u32> {
    let mut found = Vec::new();
    let mut after = |mark: &str, ends: &[char]| {
        for (at, _) in line.match_indices(mark) {
            let rest = line.get(at + mark.len()..).unwrap_or_default();
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let end = rest.get(digits..).and_then(|rest| rest.chars().next());
            if end.is_none_or(|end| ends.contains(&end))
                && let Some(pid) = rest.get(..digits).and_then(|pid| pid.parse().ok())
            {
                found.push(pid);
            }
        }
    };
    after("[", &[']']);
    after("process ", &[' ', ',']);
    after(" pid=", &[' ', ',']);
    if line.contains(" blocked for more than ") {
        after(":", &[' ']);
    }
    found
}

/// Undoes the log's `\x0a` for bytes that are not printable.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = (first == b'\\')
            .then(|| tail.strip_prefix(b"x")?.get(..2))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
#[path = "kernel_log_tests.rs"]
mod tests;
