//! An OOM kill with what the trace tells of it: the victim, the kernel log's report, and whose limit was hit.

use crate::diagnose::{Case, Finding, Follows, ProcessId};
use crate::event::{Event, ExitStatus, KernelOom, MemoryCgroup, OomKill, ProcessMemory, What};
use crate::jail::cgroup::PARENT;
use crate::text;
use crate::words;

/// How far the kernel log's report may lie from the kill's own event, nanoseconds: it is read by a
/// process, but stamped by the kernel.
const LOG_WINDOW_NS: u64 = 2_000_000_000;
/// Kills that follow each other this closely are of one limit, nanoseconds.
const SERIES_NS: u64 = 2_000_000_000;
/// Kills by one task this close together are of one decision (memory.oom.group), nanoseconds.
const AT_ONCE_NS: u64 = 20_000_000;

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

/// All OOM kills, in order.
pub fn kills(case: &Case) -> Vec<Kill<'_>> {
    let logs: Vec<(&Event, &KernelOom)> = case
        .each(|what| match what {
            What::KernelOom(oom) => Some(oom),
            _ => None,
        })
        .collect();
    let mut kills: Vec<Kill<'_>> = case
        .oom_kills()
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
        .collect();
    adopt(&mut kills);
    kills
}

/// Kills one after another: where a victim has just made room, no group is at its limit by the time of the next one's
/// event. The limit is most likely that of the last kill.
fn adopt(kills: &mut [Kill<'_>]) {
    let mut last: Option<Kill<'_>> = None;
    for kill in kills {
        if let Some(last) = last {
            let apart_ns = kill.event.time_ns.saturating_sub(last.event.time_ns);
            let one_decision = last.event.task.tid == kill.event.task.tid && apart_ns <= AT_ONCE_NS;
            if !kill.certain && one_decision {
                (kill.limit, kill.certain) = (last.limit, last.certain);
            } else if !kill.certain && kill.limit == Limit::Machine && apart_ns <= SERIES_NS {
                kill.limit = last.limit;
            }
        }
        if matches!(kill.limit, Limit::Own(_) | Limit::Above(_)) {
            last = Some(*kill);
        }
    }
}

/// Level of the chain that is the jail's own cgroup; `None` if it has none with the memory controller.
pub fn jail_level(case: &Case, chain: &[MemoryCgroup]) -> Option<usize> {
    if let Some(id) = case.header.jail.memory_cgroup_id {
        return chain.iter().position(|level| level.id == id);
    }
    // Traces of before have no ID.
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

    /// What the victim held of what counts against a limit, bytes: without mapped files, whose pages are charged to
    /// whoever read them first. No more than was in use.
    pub fn victim_bytes(&self) -> u64 {
        let held = held(&self.oom.memory);
        match self.level() {
            Some(level) => held.min(level.usage_bytes),
            None => held,
        }
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
                format!("the jail {}", text::escape(&case.header.jail.name))
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
        .map(|level| text::escape(&level.name))
        .collect();
    format!("/{}", names.join("/"))
}

/// Memory that a process holds and that is charged as a rule, bytes: anonymous and shared memory and page tables.
pub fn held(memory: &ProcessMemory) -> u64 {
    memory
        .anon_bytes
        .saturating_add(memory.shmem_bytes)
        .saturating_add(memory.page_table_bytes)
}

/// Memory that ends with a process, bytes: its own, not that of files.
pub fn own(memory: &ProcessMemory) -> u64 {
    memory
        .anon_bytes
        .saturating_add(memory.page_table_bytes)
        .saturating_add(memory.swap_bytes)
}

/// How a process ended, after its name: `exited with 3`, `was killed by SIGABRT`.
pub fn ended(status: &ExitStatus) -> String {
    match status.signal {
        Some(_) => format!("was {}", words::status(status)),
        None => words::status(status),
    }
}

/// A part of a whole, percent; 0 of nothing.
pub fn percent(part: u64, whole: u64) -> u64 {
    match whole {
        0 => 0,
        _ => (u128::from(part.min(whole)) * 100 / u128::from(whole)) as u64,
    }
}
