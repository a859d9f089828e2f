//! The jail's memory at one moment: its cgroup's by kind, and the processes that have most.
//!
//! Looking at the usage alone is one read of an open file; the whole sample is a few more, and some for
//! each process.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, BorrowedFd};

use super::counters::{self, V1_NO_LIMIT};
use super::environment::runtime_settings;
use super::reread::Reread;
use crate::cgroup::{Hierarchy, View};
use crate::event::{MemoryKinds, MemorySample, Moment, ProcessMemory, ProcessSample, Task};
use crate::procfs::{self, Status};

/// Processes in a sample.
const TOP: usize = 8;

/// Processes that are looked at to find those, at most.
const LOOKED_AT: usize = 256;

/// Most processes whose environment is remembered.
const REMEMBERED: usize = 1024;

/// What the jail's memory is read from.
#[derive(Debug)]
pub struct Memory {
    /// None if the jail has no memory cgroup of its own.
    files: Option<Files>,
    /// Total time stalled; of the unified hierarchy, whatever has the controller.
    pressure: Option<Reread>,
    /// Limits, its own and those above.
    limits: Vec<Reread>,
    environments: HashMap<(u32, u64, String), BTreeMap<String, String>>,
}

#[derive(Debug)]
struct Files {
    v1: bool,
    usage: Reread,
    stat: Option<Reread>,
    /// v2: `memory.events`. v1: `memory.oom_control`.
    events: Option<Reread>,
    /// v1 only.
    failcnt: Option<Reread>,
    /// v2: `memory.swap.current`.
    swap: Option<Reread>,
    /// v1: `memory.kmem.usage_in_bytes`.
    kmem: Option<Reread>,
    /// v1: `memory.kmem.tcp.usage_in_bytes`.
    tcp: Option<Reread>,
}

fn open(hierarchy: &Hierarchy, level: usize, name: &str) -> Option<Reread> {
    hierarchy
        .levels
        .get(level)?
        .open(name)
        .ok()
        .map(Reread::new)
}

impl Memory {
    /// Opens the files.
    pub fn open(view: &View) -> Memory {
        let hierarchy = view.with("memory", "memory.current");
        let v1 = hierarchy.is_some_and(|hierarchy| !hierarchy.controllers.is_empty());
        let own_hierarchy = hierarchy.filter(|hierarchy| hierarchy.own);
        let own = |name| own_hierarchy.and_then(|hierarchy| open(hierarchy, 0, name));
        let (usage, events, limit) = match v1 {
            true => (
                "memory.usage_in_bytes",
                "memory.oom_control",
                "memory.limit_in_bytes",
            ),
            false => ("memory.current", "memory.events", "memory.max"),
        };
        let only_v1 = |name| if v1 { own(name) } else { None };
        let files = own(usage).map(|usage| Files {
            v1,
            usage,
            stat: own("memory.stat"),
            events: own(events),
            failcnt: only_v1("memory.failcnt"),
            swap: if v1 { None } else { own("memory.swap.current") },
            kmem: only_v1("memory.kmem.usage_in_bytes"),
            tcp: only_v1("memory.kmem.tcp.usage_in_bytes"),
        });
        let limits = hierarchy.map_or_else(Vec::new, |hierarchy| {
            // The root has none.
            (0..hierarchy.levels.len().saturating_sub(1))
                .filter_map(|level| open(hierarchy, level, limit))
                .collect()
        });
        Memory {
            files,
            pressure: view
                .unified()
                .and_then(|unified| open(unified, 0, "memory.pressure")),
            limits,
            environments: HashMap::new(),
        }
    }

    /// In use now, bytes; none without a memory cgroup of its own.
    pub fn usage(&self) -> Option<u64> {
        self.files.as_ref()?.usage.number()
    }

    /// The nearest limit now, bytes.
    pub fn limit(&self) -> Option<u64> {
        let limits = self.limits.iter().filter_map(Reread::number);
        limits.filter(|&limit| limit < V1_NO_LIMIT).min()
    }

    /// The file whose changes the kernel tells by POLLPRI: `memory.events`, on v2 alone.
    pub fn notifier(&self) -> Option<BorrowedFd<'_>> {
        let files = self.files.as_ref().filter(|files| !files.v1)?;
        Some(files.events.as_ref()?.as_fd())
    }

    /// The cgroup's count of OOM kills; none if it has none. Read it after the notifier's notice, or
    /// there is no other.
    pub fn oom_kills(&self) -> Option<u64> {
        let text = self.files.as_ref()?.events.as_ref()?.text()?;
        let mut lines = counters::lines(&text);
        lines
            .find(|(key, _)| *key == "oom_kill")
            .map(|(_, value)| value)
    }

    /// The whole sample; `pids` are the jail's processes.
    pub fn sample(&mut self, moment: Moment, pids: &[u32]) -> MemorySample {
        let mut sample = MemorySample {
            moment,
            usage_bytes: 0,
            limit_bytes: self.limit(),
            kinds: MemoryKinds::default(),
            swap_bytes: 0,
            events: BTreeMap::new(),
            stalled_us: self
                .pressure
                .as_ref()
                .and_then(|file| stalled_us(&file.text()?)),
            processes: self.top(pids),
        };
        match &self.files {
            Some(files) => files.fill(&mut sample),
            None => {
                for process in &sample.processes {
                    sample.kinds.anon += process.memory.anon_bytes;
                    sample.kinds.shmem += process.memory.shmem_bytes;
                    sample.kinds.file += process.memory.file_bytes + process.memory.shmem_bytes;
                    sample.swap_bytes += process.memory.swap_bytes;
                }
            }
        }
        sample
    }

    /// The processes with most memory, largest first.
    fn top(&mut self, pids: &[u32]) -> Vec<ProcessSample> {
        let resident = |&pid: &u32| Some((procfs::resident_bytes(pid)?, pid));
        let mut sizes: Vec<(u64, u32)> = pids
            .iter()
            .take(LOOKED_AT)
            .filter_map(resident)
            .filter(|(bytes, _)| *bytes > 0)
            .collect();
        sizes.sort_unstable_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        let top = sizes.into_iter().take(TOP);
        top.filter_map(|(_, pid)| self.process(pid)).collect()
    }

    fn process(&mut self, pid: u32) -> Option<ProcessSample> {
        let text = procfs::read(&format!("/proc/{pid}/status"))?;
        let status = Status::parse(&text);
        let stat = procfs::read(&format!("/proc/{pid}/stat"))?;
        let process = status.task(procfs::start_ns(&stat));
        let adj = procfs::read(&format!("/proc/{pid}/oom_score_adj"));
        Some(ProcessSample {
            memory: ProcessMemory {
                anon_bytes: status.bytes("RssAnon"),
                file_bytes: status.bytes("RssFile"),
                shmem_bytes: status.bytes("RssShmem"),
                swap_bytes: status.bytes("VmSwap"),
                page_table_bytes: status.bytes("VmPTE"),
                total_vm_bytes: status.bytes("VmSize"),
            },
            threads: status.number("Threads"),
            oom_score_adj: adj
                .and_then(|adj| adj.trim().parse().ok())
                .unwrap_or_default(),
            environment: self.environment(&process),
            process,
        })
    }

    /// The environment's known settings, read once for each program that a process executes.
    fn environment(&mut self, process: &Task) -> BTreeMap<String, String> {
        if self.environments.len() >= REMEMBERED {
            self.environments.clear();
        }
        let key = (process.pid, process.start_ns, process.comm.clone());
        let environment = self.environments.entry(key).or_insert_with(|| {
            let path = format!("/proc/{}/environ", process.pid);
            let bytes = std::fs::read(path).unwrap_or_default();
            runtime_settings(bytes.split(|&byte| byte == 0))
        });
        environment.clone()
    }
}

impl Files {
    fn fill(&self, sample: &mut MemorySample) {
        let number = |file: &Option<Reread>| file.as_ref().and_then(Reread::number);
        let text = |file: &Option<Reread>| file.as_ref().and_then(Reread::text).unwrap_or_default();
        sample.usage_bytes = self.usage.number().unwrap_or_default();
        let stat = text(&self.stat);
        let stat: HashMap<&str, u64> = counters::lines(&stat).collect();
        sample.kinds = kinds(&stat);
        sample.swap_bytes = number(&self.swap)
            .or_else(|| stat.get("total_swap").copied())
            .unwrap_or_default();
        if self.v1 {
            let kinds = &mut sample.kinds;
            let rest = sample.usage_bytes.saturating_sub(kinds.anon + kinds.file);
            kinds.kernel = number(&self.kmem)
                .filter(|&bytes| bytes > 0)
                .unwrap_or(rest);
            kinds.sock = number(&self.tcp).unwrap_or_default();
        }
        let events = text(&self.events);
        sample.events = counters::lines(&events)
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        if let Some(failcnt) = number(&self.failcnt) {
            sample.events.insert("failcnt".into(), failcnt);
        }
    }
}

/// The kinds in a `memory.stat` of either version, or in the kernel log's copy of one.
pub fn kinds(stat: &HashMap<&str, u64>) -> MemoryKinds {
    let get = |key: &str| stat.get(key).copied().unwrap_or_default();
    // v1 has each value for the cgroup alone and, as a total, with those below it.
    let v1 = |key: &str| {
        stat.get(format!("total_{key}").as_str())
            .or_else(|| stat.get(key))
            .copied()
            .unwrap_or_default()
    };
    if stat.contains_key("rss") {
        return MemoryKinds {
            anon: v1("rss"),
            file: v1("cache"),
            shmem: v1("shmem"),
            // Of the kernel log's report.
            kernel: get("kernel"),
            file_dirty: v1("dirty"),
            file_writeback: v1("writeback"),
            unevictable: v1("unevictable"),
            refaults_file: v1("workingset_refault_file"),
            ..MemoryKinds::default()
        };
    }
    // The sum came with 5.18.
    let parts = ["slab", "kernel_stack", "pagetables", "percpu", "vmalloc"];
    MemoryKinds {
        anon: get("anon"),
        file: get("file"),
        shmem: get("shmem"),
        kernel: stat
            .get("kernel")
            .copied()
            .unwrap_or_else(|| parts.iter().map(|key| get(key)).sum()),
        sock: get("sock"),
        slab_unreclaimable: get("slab_unreclaimable"),
        slab_reclaimable: get("slab_reclaimable"),
        page_tables: get("pagetables"),
        kernel_stack: get("kernel_stack"),
        file_dirty: get("file_dirty"),
        file_writeback: get("file_writeback"),
        unevictable: get("unevictable"),
        refaults_file: get("workingset_refault_file"),
        scanned: get("pgscan"),
    }
}

/// The total of a `memory.pressure` file's line `full`.
fn stalled_us(pressure: &str) -> Option<u64> {
    let line = pressure.lines().find(|line| line.starts_with("full "))?;
    counters::parse(line.rsplit_once("total=")?.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds_of(stat: &str) -> MemoryKinds {
        kinds(&counters::lines(stat).collect())
    }

    #[test]
    fn both_versions_have_the_same_kinds() {
        let v2 = kinds_of("anon 5\nfile 4\nkernel 9\nshmem 1\nsock 2\npagetables 3\npgscan 7\n");
        assert_eq!((v2.anon, v2.file, v2.kernel, v2.shmem), (5, 4, 9, 1));
        assert_eq!((v2.sock, v2.page_tables, v2.scanned), (2, 3, 7));
        let v1 = kinds_of("cache 1\nrss 2\nshmem 0\ntotal_cache 10\ntotal_rss 20\ntotal_shmem 3\n");
        assert_eq!((v1.anon, v1.file, v1.shmem), (20, 10, 3));
    }

    #[test]
    fn the_kernels_share_is_summed_up_where_it_is_not_told() {
        let kinds = kinds_of("anon 5\nslab 10\nkernel_stack 20\npercpu 30\npagetables 1\n");
        assert_eq!(kinds.kernel, 61);
        assert_eq!(kinds_of(""), MemoryKinds::default());
    }

    #[test]
    fn stall_time_is_that_of_all_tasks() {
        let text = "some avg10=0.00 avg60=0.00 avg300=0.00 total=9\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=5\n";
        assert_eq!(stalled_us(text), Some(5));
        assert_eq!(stalled_us("full avg10=1.00\n"), None);
        assert_eq!(stalled_us(""), None);
    }

    #[test]
    fn processes_are_ordered_by_size() {
        let mut memory = Memory {
            files: None,
            pressure: None,
            limits: Vec::new(),
            environments: HashMap::new(),
        };
        let own = std::process::id();
        let sample = memory.sample(Moment::Sample, &[own, u32::MAX]);
        assert_eq!(sample.processes.len(), 1);
        assert_eq!(sample.processes[0].process.pid, own);
        assert!(sample.kinds.anon > 0 && sample.usage_bytes == 0);
    }
}
