//! What memory was made of, and who had it, at an OOM kill or when it was fullest.

use super::Page;
use super::numbers::ROWS;
use super::text::{Table, code, prose};
use crate::event::*;
use crate::text::{bytes, count};

impl Page<'_> {
    /// The OOM kill that the verdicts go by, else the first.
    pub(super) fn oom(&self) -> Option<String> {
        let case = &self.subject.case;
        let cited = self.subject.explanation.cited();
        let (event, kill) = case
            .oom_kills()
            .find(|(event, _)| cited.contains(&event.seq))
            .or_else(|| case.oom_kills().next())?;
        let mut text = format!(
            "**OOM kill of {}** (event {}, {} UTC), memory of the victim:\n\n{}",
            prose(&case.task_name(&kill.victim)),
            event.seq,
            self.time(event.time_ns),
            process_memory(&kill.memory)
        );
        let mut chain = Table::new(&[
            "cgroup, from the victim's up",
            "-in use",
            "-limit",
            "was hit",
        ]);
        for level in &kill.chain {
            chain.row([
                code(&level.name),
                bytes(level.usage_bytes),
                level.limit_bytes.map_or_else(|| "none".to_owned(), bytes),
                (if level.at_limit { "**yes**" } else { "" }).to_owned(),
            ]);
        }
        if let Some(chain) = chain.finish() {
            text += &format!("\n{chain}");
        }
        let report = case
            .each(|what| match what {
                What::KernelOom(report) => Some(report),
                _ => None,
            })
            .find(|(_, report)| report.victim_pid == kill.victim.pid);
        if let Some((report_event, report)) = report {
            if let Some(kinds) = &report.kinds {
                text += &format!(
                    "\nThe cgroup at its limit, by kind (kernel log, event {}):\n\n{}",
                    report_event.seq,
                    memory_kinds(kinds)
                );
            }
            if let Some(processes) = self.processes(&report.processes, Some(kill.victim.pid)) {
                text += &format!("\nWho could have been chosen:\n\n{processes}");
            }
        }
        Some(text)
    }

    /// The fullest sample: of the whole run, or before the OOM kill.
    pub(super) fn memory(&self) -> Option<String> {
        let case = &self.subject.case;
        let about_memory = self.diagnoses().iter().any(|one| {
            ["oom-", "mem-", "enomem", "fork-"]
                .iter()
                .any(|family| one.id.starts_with(family))
        });
        if !about_memory {
            return None;
        }
        let (event, sample) = case
            .memory_samples()
            .filter(|(_, sample)| sample.usage_bytes > 0)
            .max_by_key(|(event, sample)| (sample.usage_bytes, std::cmp::Reverse(event.seq)))?;
        let of = sample
            .limit_bytes
            .map_or_else(String::new, |limit| format!(" of {}", bytes(limit)));
        let mut text = format!(
            "**Memory at its fullest sample**: {}{of} (event {}, {} UTC)\n\n{}",
            bytes(sample.usage_bytes),
            event.seq,
            self.time(event.time_ns),
            memory_kinds(&sample.kinds)
        );
        if let Some(processes) = self.processes(&sample.processes, None) {
            text += &format!("\nBy process:\n\n{processes}");
        }
        Some(text)
    }

    fn processes(&self, processes: &[ProcessSample], victim: Option<u32>) -> Option<String> {
        let mut table = Table::new(&[
            "process",
            "-anonymous",
            "-mapped files",
            "-shared",
            "-page tables",
            "-oom_score_adj",
            "",
        ]);
        let chosen = |sample: &&ProcessSample| victim == Some(sample.process.pid);
        let mut shown: Vec<&ProcessSample> = processes.iter().take(ROWS).collect();
        // The one that was chosen need not be among the largest.
        shown.extend(processes.iter().skip(ROWS).find(chosen));
        let rest = processes.len() - shown.len();
        for sample in shown {
            let memory = &sample.memory;
            table.row([
                prose(&self.subject.case.task_name(&sample.process)),
                bytes(memory.anon_bytes),
                bytes(memory.file_bytes),
                bytes(memory.shmem_bytes),
                bytes(memory.page_table_bytes),
                sample.oom_score_adj.to_string(),
                (if chosen(&sample) { "**chosen**" } else { "" }).to_owned(),
            ]);
        }
        if rest > 0 {
            table.row([format!("and {} more", count(rest as u64))]);
        }
        table.finish()
    }
}

/// Kinds of memory of a process, the largest first.
fn process_memory(memory: &ProcessMemory) -> String {
    parts(&mut [
        ("anonymous", memory.anon_bytes),
        ("mapped files", memory.file_bytes),
        ("shared memory", memory.shmem_bytes),
        ("swapped out", memory.swap_bytes),
        ("page tables", memory.page_table_bytes),
    ])
}

/// Kinds of memory of a cgroup, the largest first.
fn memory_kinds(kinds: &MemoryKinds) -> String {
    parts(&mut [
        ("anonymous", kinds.anon),
        ("page cache", kinds.file.saturating_sub(kinds.shmem)),
        ("tmpfs and shared memory", kinds.shmem),
        ("the kernel's own", kinds.kernel),
        ("socket buffers", kinds.sock),
    ])
}

fn parts(parts: &mut [(&str, u64)]) -> String {
    parts.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    let total = parts
        .iter()
        .fold(0u64, |total, (_, size)| total.saturating_add(*size))
        .max(1);
    let mut table = Table::new(&["kind", "-size", "-share"]);
    for (kind, size) in parts.iter().filter(|(_, size)| *size > 0) {
        let share = u128::from(*size) * 100 / u128::from(total);
        table.row([(*kind).to_owned(), bytes(*size), format!("{share}%")]);
    }
    table
        .finish()
        .unwrap_or_else(|| "Nothing was told of it.\n".to_owned())
}
