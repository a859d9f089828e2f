//! The OOM killer at work.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Syscall, Task};
use crate::event::Stack;

/// The OOM killer chose a victim; the event's task triggered it by its allocation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OomKill {
    /// Who dies.
    pub victim: Task,
    /// Its memory at that instant.
    pub memory: ProcessMemory,
    /// `oom_score_adj` of the victim.
    pub oom_score_adj: i32,
    /// The kernel's own SIGKILL to the victim was seen: not a false alarm.
    pub killed_by_kernel: bool,
    /// System call in which the trigger allocated; null for a page fault.
    pub syscall: Option<Syscall>,
    /// Memory cgroups from the victim's own up to the root.
    pub chain: Vec<MemoryCgroup>,
    /// There are more levels than were recorded.
    pub chain_truncated: bool,
    /// What the trigger was doing.
    #[serde(default)]
    pub stack: Stack,
}

/// Memory of a process by kind, bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessMemory {
    /// Anonymous.
    pub anon_bytes: u64,
    /// Mapped files.
    pub file_bytes: u64,
    /// Mapped shared memory.
    pub shmem_bytes: u64,
    /// Swapped out.
    pub swap_bytes: u64,
    /// Page tables.
    pub page_table_bytes: u64,
    /// Size of the address space.
    pub total_vm_bytes: u64,
}

impl ProcessMemory {
    /// The resident set, bytes: anonymous, files and shared memory (`VmRSS` of proc_pid_status(5)).
    pub fn resident_bytes(&self) -> u64 {
        self.anon_bytes
            .saturating_add(self.file_bytes)
            .saturating_add(self.shmem_bytes)
    }
}

/// A memory cgroup at the instant of a kill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryCgroup {
    /// ID in the hierarchy that has the memory controller.
    pub id: u64,
    /// Name of its directory; `/` for the root.
    pub name: String,
    /// In use, bytes.
    pub usage_bytes: u64,
    /// Limit, bytes; null for none.
    pub limit_bytes: Option<u64>,
    /// Swap (v2), or memory plus swap (v1), in use, bytes.
    pub swap_usage_bytes: u64,
    /// Limit of it, bytes; null for none.
    pub swap_limit_bytes: Option<u64>,
    /// Its memory limit is the one that was hit: the lowest level with no room left, or next to none.
    pub at_limit: bool,
}

impl MemoryCgroup {
    /// The kernel charges memory in batches of so many pages (`MEMCG_CHARGE_BATCH` in
    /// include/linux/memcontrol.h): a cgroup that has less room is at its limit.
    pub const CHARGE_BATCH_PAGES: u64 = 64;

    /// What is left below its limit of memory, bytes; `None` where there is no such limit.
    pub fn room_bytes(&self) -> Option<u64> {
        Some(self.limit_bytes?.saturating_sub(self.usage_bytes))
    }

    /// What is left below its limit of memory and swap together (v1), bytes. Swap alone (v2), of which there
    /// is less in use than of memory as a rule, is no reason for a kill: `None`.
    pub fn swap_room_bytes(&self) -> Option<u64> {
        let limit_bytes = self.swap_limit_bytes?;
        (self.swap_usage_bytes >= self.usage_bytes)
            .then(|| limit_bytes.saturating_sub(self.swap_usage_bytes))
    }
}

/// The OOM reaper worked on a victim that was slow to die.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OomReap {
    /// How far it is.
    pub stage: OomReapStage,
    /// The victim.
    pub victim: Task,
}

/// Steps of the OOM reaper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OomReapStage {
    /// Asked to help.
    Wake,
    /// Started.
    Start,
    /// Freed its memory.
    Finish,
    /// Could not.
    Skip,
    /// A value that this version doesn't know.
    Unknown,
}
