//! What the memory at a limit was: by kind, by process, and what the kernel was allocating when it found no room.

use std::cmp::Reverse;

use super::kill::{Kill, held, percent};
use crate::diagnose::{Case, Finding};
use crate::event::{Event, MemoryKinds, MemorySample, Moment, OomKill, ProcessSample};
use crate::text;
use crate::words;

/// How long before a kill a sample still tells of it, nanoseconds.
const SAMPLE_WINDOW_NS: u64 = 5_000_000_000;
/// How soon after a kill a sample still tells of it, nanoseconds.
const AFTERMATH_NS: u64 = 200_000_000;
/// A process with this part of what was in use is a large one, percent.
const LARGE: u64 = 10;
/// Most processes that a sentence names.
const NAMED: usize = 4;

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
    // knows nothing of a spike.
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

/// A kind of memory as sentences call it. What anonymous memory is used for the kernel doesn't know: a heap, a
/// stack, a runtime's buffers outside its heap.
pub const ANON: &str = "anonymous memory";
pub const FILE: &str = "page cache";
pub const SHMEM: &str = "tmpfs files and shared memory";
pub const KERNEL: &str = "the kernel's own memory";
pub const SOCK: &str = "socket buffers";

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

    /// Shared memory that some process had mapped, bytes: the most that one had.
    pub fn mapped_shmem(&self) -> u64 {
        let mapped = self.processes.iter().map(|one| one.memory.shmem_bytes);
        mapped.max().unwrap_or(0)
    }

    /// Page tables of the processes that are known, bytes.
    pub fn page_tables(&self) -> u64 {
        let known = self
            .processes
            .iter()
            .map(|one| one.memory.page_table_bytes)
            .fold(0, u64::saturating_add);
        known.max(self.kinds.page_tables)
    }

    /// The processes that held a large part of what was in use, largest first.
    pub fn holders(&self) -> Vec<&ProcessSample> {
        let mut holders: Vec<&ProcessSample> = self
            .processes
            .iter()
            .filter(|one| self.percent(held(&one.memory)) >= LARGE)
            .collect();
        holders.sort_by_key(|one| Reverse(held(&one.memory)));
        holders
    }

    /// Anonymous memory that is counted in more than one process, bytes, at least: what they have together
    /// beyond what was charged. Processes share such pages from a fork until one of them writes.
    pub fn shared_anon(&self) -> u64 {
        let together = self
            .processes
            .iter()
            .map(|one| one.memory.anon_bytes)
            .fold(0, u64::saturating_add);
        together.saturating_sub(self.kinds.anon)
    }

    /// The large holders for a sentence, where there is more to say than what the victim had.
    pub fn who_had_it(&self, case: &Case, kill: &Kill<'_>) -> Option<String> {
        let holders = self.holders();
        if let [only] = holders.as_slice()
            && only.process.pid == kill.oom.victim.pid
        {
            return None;
        }
        let mut named: Vec<String> = holders
            .iter()
            .take(NAMED)
            .map(|one| {
                format!(
                    "{} {}",
                    case.task_name(&one.process),
                    text::bytes(held(&one.memory))
                )
            })
            .collect();
        if holders.len() > NAMED {
            named.push(format!("{} more", holders.len() - NAMED));
        }
        let last = named.pop()?;
        let all = match named.is_empty() {
            true => last,
            false => format!("{} and {last}", named.join(", ")),
        };
        let shared = self.shared_anon();
        let shared = match holders.len() > 1 && self.percent(shared) >= LARGE {
            true => format!(", of which they share at least {}", text::bytes(shared)),
            false => String::new(),
        };
        Some(format!("The largest processes: {all}{shared}."))
    }

    /// Names it as evidence.
    pub fn show(&self, finding: Finding) -> Finding {
        finding.shown_by(
            self.event,
            format!(
                "what the {} in use were made of: {}",
                text::bytes(self.usage_bytes),
                words::memory_kinds(self.kinds)
            ),
        )
    }
}

/// What the kernel was allocating when it found no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Anonymous,
    CopyOnWrite,
    TmpfsWrite,
    SharedMemory,
    File,
    PageTable,
    Pipe,
    UnixSocket,
    Tcp,
    Task,
    Object,
    Unknown,
}

/// Kernel functions that tell it, wherever they are on the stack. The more general ones come later.
const CALLS: &[(Purpose, &[&str])] = &[
    (
        Purpose::PageTable,
        &["__pte_alloc", "pte_alloc_one", "__pmd_alloc", "__pud_alloc"],
    ),
    (
        Purpose::TmpfsWrite,
        &[
            "shmem_write_begin",
            "shmem_file_write_iter",
            "shmem_fallocate",
        ],
    ),
    (Purpose::SharedMemory, &["shmem_fault"]),
    (Purpose::CopyOnWrite, &["do_wp_page", "wp_page_copy"]),
    (
        Purpose::Anonymous,
        &[
            "do_anonymous_page",
            "do_huge_pmd_anonymous_page",
            "do_cow_fault",
            "do_swap_page",
        ],
    ),
    (
        Purpose::Pipe,
        &["anon_pipe_write", "pipe_write", "alloc_pipe_info"],
    ),
    (
        Purpose::UnixSocket,
        &["unix_stream_sendmsg", "unix_dgram_sendmsg"],
    ),
    (Purpose::Tcp, &["tcp_sendmsg_locked", "tcp_sendmsg"]),
    (Purpose::Task, &["copy_process", "dup_task_struct"]),
    (
        Purpose::File,
        &[
            "filemap_fault",
            "filemap_add_folio",
            "__filemap_get_folio",
            "page_cache_ra_unbounded",
            "page_cache_ra_order",
            "generic_perform_write",
        ],
    ),
    (
        Purpose::Object,
        &[
            "__memcg_slab_post_alloc_hook",
            "kmem_cache_alloc",
            "kmem_cache_alloc_noprof",
            "kmem_cache_alloc_lru_noprof",
            "__kmalloc_noprof",
        ],
    ),
];

impl Purpose {
    /// Of the allocation that triggered a kill.
    pub fn of(oom: &OomKill) -> Self {
        let names = || {
            oom.stack
                .kernel
                .iter()
                .filter_map(|frame| frame.symbol.as_deref())
        };
        CALLS
            .iter()
            .find(|(_, calls)| names().any(|name| calls.contains(&name)))
            .map_or(Self::Unknown, |(purpose, _)| *purpose)
    }

    /// It is one for memory of that kind.
    pub fn is_of(self, kind: &str) -> bool {
        match self {
            Self::CopyOnWrite => kind == ANON,
            Self::TmpfsWrite | Self::SharedMemory => kind == SHMEM,
            Self::File => kind == FILE,
            Self::PageTable | Self::Pipe | Self::UnixSocket | Self::Task | Self::Object => {
                kind == KERNEL
            }
            Self::Tcp => kind == SOCK,
            // Says no more than the kind.
            Self::Anonymous | Self::Unknown => false,
        }
    }

    /// What the trigger was doing, for a sentence after its name.
    pub fn doing(self) -> Option<&'static str> {
        Some(match self {
            Self::Anonymous => "was touching anonymous memory for the first time",
            Self::CopyOnWrite => {
                "was writing to anonymous memory that it shared with another process since a fork, and had to \
                 be given a copy of its own"
            }
            Self::TmpfsWrite => "was writing to a file in tmpfs",
            Self::SharedMemory => "was touching shared memory or a mapped file in tmpfs",
            Self::File => "needed a page for a file",
            Self::PageTable => "needed a page table",
            Self::Pipe => "was writing to a pipe",
            Self::UnixSocket => "was sending to a Unix socket",
            Self::Tcp => "was sending over TCP",
            Self::Task => "was making a process or a thread",
            Self::Object => "needed an object in the kernel (slab)",
            Self::Unknown => return None,
        })
    }
}
