//! An OOM kill with all that the trace tells of it: whose limit, and what the memory was made of.

use std::cmp::Reverse;

use crate::diagnose::{Case, Finding, Follows, ProcessId};
use crate::event::{
    Event, ExitStatus, KernelOom, MemoryCgroup, MemoryKinds, MemorySample, Moment, OomKill,
    ProcessMemory, ProcessSample, What,
};
use crate::jail::cgroup::PARENT;
use crate::render;

/// How far the kernel log's report may lie from the kill's own event, nanoseconds: it is read by a
/// process, but stamped by the kernel.
const LOG_WINDOW_NS: u64 = 2_000_000_000;
/// How long before a kill a sample still tells of it, nanoseconds.
const SAMPLE_WINDOW_NS: u64 = 5_000_000_000;
/// How soon after a kill a sample still tells of it, nanoseconds.
const AFTERMATH_NS: u64 = 200_000_000;

/// Whose limit was hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The jail's own, or that of a group in it: level of the chain.
    Own(usize),
    /// That of a group above the jail: level of the chain.
    Above(usize),
    /// None: the machine had no more.
    Machine,
    /// None: the nodes that were allowed had no more.
    Nodes,
    /// The trace doesn't tell.
    Unknown,
}

/// An OOM kill.
#[derive(Clone, Copy, Debug)]
pub struct Kill<'a> {
    pub event: &'a Event,
    pub oom: &'a OomKill,
    pub victim: Option<ProcessId>,
    /// What the kernel log has about it.
    pub log: Option<(&'a Event, &'a KernelOom)>,
    pub limit: Limit,
    /// Nothing else could have been hit.
    pub certain: bool,
}

/// What the memory at the limit was made of.
#[derive(Clone, Copy, Debug)]
pub struct Makeup<'a> {
    pub event: &'a Event,
    pub kinds: &'a MemoryKinds,
    /// In use in all, bytes.
    pub usage_bytes: u64,
    /// The processes that had most, largest first.
    pub processes: &'a [ProcessSample],
}

/// All OOM kills, in order.
pub fn kills(case: &Case) -> Vec<Kill<'_>> {
    let logs: Vec<(&Event, &KernelOom)> = case
        .each(|what| match what {
            What::KernelOom(oom) => Some(oom),
            _ => None,
        })
        .collect();
    case.oom_kills()
        .map(|(event, oom)| {
            // The log may come late, and the same PID hardly dies twice in two seconds.
            let log = logs.iter().copied().find(|(log, told)| {
                told.victim_pid == oom.victim.pid
                    && log.time_ns.abs_diff(event.time_ns) <= LOG_WINDOW_NS
            });
            let (limit, certain) = limit(case, oom, log.map(|(_, told)| told));
            Kill {
                event,
                oom,
                victim: case.process_of(&oom.victim),
                log,
                limit,
                certain,
            }
        })
        .collect()
}

/// The first kill by a memory limit, which is what the memory's make-up is told of, and all such kills.
pub fn limited(case: &Case) -> Option<(Kill<'_>, Vec<Kill<'_>>)> {
    let all: Vec<Kill<'_>> = kills(case)
        .into_iter()
        .filter(|kill| matches!(kill.limit, Limit::Own(_) | Limit::Above(_)))
        .collect();
    Some((*all.first()?, all))
}

/// Level of the chain that is the jail's own cgroup; `None` if it has none with the memory controller.
pub fn jail_level(case: &Case, chain: &[MemoryCgroup]) -> Option<usize> {
    chain
        .windows(2)
        .position(|pair| matches!(pair, [own, above] if own.name == case.header.jail.name && above.name == PARENT))
}

fn limit(case: &Case, oom: &OomKill, log: Option<&KernelOom>) -> (Limit, bool) {
    let own = jail_level(case, &oom.chain);
    let whose = |level: usize| match own {
        Some(own) if level <= own => Limit::Own(level),
        _ => Limit::Above(level),
    };
    match log.map(|log| (log.constraint.as_str(), log)) {
        Some(("none", _)) => return (Limit::Machine, true),
        Some(("cpuset" | "memory-policy", _)) => return (Limit::Nodes, true),
        Some(("memcg", log)) => {
            let level = log
                .limit_cgroup
                .as_deref()
                .and_then(|path| level_of(oom, path));
            if let Some(level) = level {
                return (whose(level), true);
            }
        }
        _ => {}
    }
    let at_limit = oom.chain.iter().position(|level| level.at_limit);
    if let Some(level) = at_limit {
        // A level above that is as full may be the one that was hit.
        let full = |level: &MemoryCgroup| is_full(level, case.header.host.page_bytes);
        let mut from_there = oom.chain.iter().skip(level);
        let certain =
            oom.killed_by_kernel && from_there.next().is_some_and(full) && !from_there.any(full);
        return (whose(level), certain);
    }
    // Which group counted it, where the victim's end had made room by the time of its event.
    let counted = (0..oom.chain.len().saturating_sub(own.unwrap_or(0)))
        .find(|level| case.counter_growth(*level, "memory.events.local:oom") > Some(0));
    if let (Some(own), Some(level)) = (own, counted) {
        return (whose(own + level), false);
    }
    match oom.chain.is_empty() || oom.chain_truncated {
        true => (Limit::Unknown, false),
        false => (Limit::Machine, false),
    }
}

/// Whether a level has no room for what the kernel charges at a time, or next to none.
fn is_full(level: &MemoryCgroup, page_bytes: u64) -> bool {
    let batch_bytes = page_bytes.saturating_mul(MemoryCgroup::CHARGE_BATCH_PAGES);
    let full =
        |(room_bytes, limit_bytes): (u64, u64)| room_bytes <= (limit_bytes / 64).max(batch_bytes);
    level.room_bytes().zip(level.limit_bytes).is_some_and(full)
        || level
            .swap_room_bytes()
            .zip(level.swap_limit_bytes)
            .is_some_and(full)
}

/// The level of a cgroup's path, as the kernel log has it.
fn level_of(oom: &OomKill, path: &str) -> Option<usize> {
    let mut names = path.split('/').filter(|name| !name.is_empty());
    let depth = names.clone().count();
    let level = match oom.chain_truncated {
        false => oom.chain.len().checked_sub(1 + depth)?,
        true => oom
            .chain
            .iter()
            .position(|level| Some(level.name.as_str()) == names.clone().next_back())?,
    };
    let known = &oom.chain.get(level)?.name;
    match names.next_back() {
        Some(name) => (known == name).then_some(level),
        None => Some(level),
    }
}

impl<'a> Kill<'a> {
    /// The group whose limit was hit.
    pub fn level(&self) -> Option<&'a MemoryCgroup> {
        match self.limit {
            Limit::Own(level) | Limit::Above(level) => self.oom.chain.get(level),
            _ => None,
        }
    }

    /// What the limit is: of memory, or of memory and swap together (v1). Bytes.
    pub fn limit_bytes(&self) -> Option<u64> {
        let level = self.level()?;
        level.limit_bytes.or(level.swap_limit_bytes)
    }

    /// How full the group at its limit was; the victim's own group if there is no such. Bytes.
    pub fn usage_bytes(&self) -> u64 {
        self.level()
            .or(self.oom.chain.first())
            .map_or(0, |level| level.usage_bytes)
    }

    /// What the victim had, bytes: what the OOM killer goes by (`oom_badness()` in mm/oom_kill.c), with
    /// the mapped files.
    pub fn victim_bytes(&self) -> u64 {
        held(&self.oom.memory)
    }

    /// The victim's name.
    pub fn name(&self, case: &Case) -> String {
        match self.victim {
            Some(victim) => case.name(victim),
            None => case.task_name(&self.oom.victim),
        }
    }

    /// The group at its limit, for a sentence.
    pub fn group(&self, case: &Case) -> String {
        match self.limit {
            Limit::Own(level) if jail_level(case, &self.oom.chain) == Some(level) => {
                format!("the jail {}", render::escape(&case.header.jail.name))
            }
            Limit::Own(level) => format!("the cgroup {} in the jail", path(&self.oom.chain, level)),
            Limit::Above(level) => format!("the cgroup {}", path(&self.oom.chain, level)),
            Limit::Machine => "the machine".to_owned(),
            Limit::Nodes => "the NUMA nodes it may use".to_owned(),
            Limit::Unknown => "a memory limit".to_owned(),
        }
    }

    /// A finding about this kill that says more than whose limit it was: under that one.
    pub fn qualify(&self, finding: Finding) -> Finding {
        let finding = match self.victim {
            Some(victim) => finding.follows(Follows::Process(victim)),
            None => finding,
        };
        finding
            .follows(Follows::Rule("oom-own-limit"))
            .follows(Follows::Rule("oom-ancestor-limit"))
            .follows(Follows::Rule("oom-global"))
            .follows(Follows::Rule("oom-cpuset-mempolicy"))
    }
}

/// Path of a level below the hierarchy's root.
pub fn path(chain: &[MemoryCgroup], level: usize) -> String {
    let names: Vec<String> = chain
        .get(level..)
        .unwrap_or_default()
        .iter()
        .rev()
        .filter(|level| level.name != "/")
        .map(|level| render::escape(&level.name))
        .collect();
    format!("/{}", names.join("/"))
}

/// Memory that a process holds, swap left out, bytes.
pub fn held(memory: &ProcessMemory) -> u64 {
    memory
        .resident_bytes()
        .saturating_add(memory.page_table_bytes)
}

/// Memory that ends with a process, bytes: its own, not that of files.
pub fn own(memory: &ProcessMemory) -> u64 {
    memory
        .anon_bytes
        .saturating_add(memory.page_table_bytes)
        .saturating_add(memory.swap_bytes)
}

/// What the memory was made of at a kill: as the kernel log has it, else as the nearest sample does. A
/// sample is of the jail, so it tells nothing where the limit is above and others use most.
pub fn makeup<'a>(case: &'a Case, kill: &Kill<'a>) -> Option<Makeup<'a>> {
    if let Some((event, log)) = kill.log
        && let Some(kinds) = &log.kinds
    {
        return Some(Makeup {
            event,
            kinds,
            usage_bytes: kill.usage_bytes(),
            processes: &log.processes,
        });
    }
    let at_ns = kill.event.time_ns;
    let near = |event: &Event, sample: &MemorySample| {
        let after = sample.moment == Moment::OomKill && event.time_ns <= at_ns + AFTERMATH_NS;
        event.time_ns + SAMPLE_WINDOW_NS >= at_ns && (event.time_ns <= at_ns || after)
    };
    // The fullest of those near: what is freed is missing from a sample after the kill, and an early one
    // knows nothing of a leap.
    let (event, sample) = case
        .memory_samples()
        .filter(|(event, sample)| near(event, sample))
        .max_by_key(|(event, sample)| (sample.usage_bytes, event.seq))?;
    let enough = sample.usage_bytes >= kill.usage_bytes() / 2;
    enough.then_some(Makeup {
        event,
        kinds: &sample.kinds,
        usage_bytes: sample.usage_bytes,
        processes: &sample.processes,
    })
}

/// A kind of memory as sentences call it.
pub const ANON: &str = "anonymous memory (heaps and stacks)";
pub const FILE: &str = "the cache of files";
pub const SHMEM: &str = "files in tmpfs and shared memory";
pub const KERNEL: &str = "the kernel's own memory (page tables, stacks, slab)";
pub const SOCK: &str = "buffers of sockets";

/// The kinds with what each has, the largest first.
pub fn by_size(kinds: &MemoryKinds) -> Vec<(&'static str, u64)> {
    let mut parts = vec![
        (ANON, kinds.anon),
        (FILE, kinds.file.saturating_sub(kinds.shmem)),
        (SHMEM, kinds.shmem),
        (KERNEL, kinds.kernel),
        (SOCK, kinds.sock),
    ];
    parts.sort_by_key(|(_, bytes)| Reverse(*bytes));
    parts
}

impl Makeup<'_> {
    /// The largest kind.
    pub fn largest(&self) -> (&'static str, u64) {
        by_size(self.kinds).first().copied().unwrap_or((ANON, 0))
    }

    /// A part of all, percent.
    pub fn percent(&self, bytes: u64) -> u64 {
        percent(bytes, self.usage_bytes)
    }

    /// The process that had most.
    pub fn hog(&self) -> Option<&ProcessSample> {
        self.processes
            .iter()
            .max_by_key(|process| held(&process.memory))
    }

    /// Names it as evidence.
    pub fn show(&self, finding: Finding) -> Finding {
        finding.shown_by(
            self.event,
            format!(
                "what {} were made of: {}",
                render::bytes(self.usage_bytes),
                render::memory_kinds(self.kinds)
            ),
        )
    }
}

/// How a process ended, after its name: `exited with 3`, `was killed by SIGABRT`.
pub fn ended(status: &ExitStatus) -> String {
    match status.signal {
        Some(_) => format!("was {}", render::status(status)),
        None => render::status(status),
    }
}

/// A part of a whole, percent; 0 of nothing.
pub fn percent(part: u64, whole: u64) -> u64 {
    match whole {
        0 => 0,
        _ => (u128::from(part) * 100 / u128::from(whole)) as u64,
    }
}

/// What a process that was killed had, for a sentence: `39.5 MiB, most of it anonymous`.
pub fn what_it_held(memory: &ProcessMemory) -> String {
    let parts = [
        ("heap and stack", memory.anon_bytes),
        ("mapped files", memory.file_bytes),
        ("shared memory", memory.shmem_bytes),
        ("page tables", memory.page_table_bytes),
    ];
    let all = held(memory);
    match parts.iter().max_by_key(|(_, bytes)| *bytes) {
        Some((kind, bytes)) if all > 0 && *bytes > 0 => {
            format!("{} ({}% {kind})", render::bytes(all), percent(*bytes, all))
        }
        _ => render::bytes(all),
    }
}
