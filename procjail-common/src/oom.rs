//! The OOM killer.

use crate::{Header, Task};

/// Levels of memory cgroups that an [`OomKill`] record carries, the victim's own first.
pub const MEMCG_LEVELS: usize = 8;

/// Longest cgroup directory name, in bytes with the final NUL, that a [`MemcgLevel`] carries.
pub const MEMCG_NAME_LEN: usize = 64;

/// One memory cgroup at the instant of the kill.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemcgLevel {
    /// ID of the cgroup in the hierarchy that has the memory controller; 0 where the chain has ended.
    pub cgroup_id: u64,
    /// `memory.usage` in bytes.
    pub usage_bytes: u64,
    /// `memory.max` in bytes; [`u64::MAX`] for none.
    pub limit_bytes: u64,
    /// Swap (v2) or memory plus swap (v1) in use, bytes.
    pub swap_usage_bytes: u64,
    /// Limit of it; [`u64::MAX`] for none.
    pub swap_limit_bytes: u64,
    /// Name of the directory, NUL-padded.
    pub name: [u8; MEMCG_NAME_LEN],
}

/// `mark_victim`: `victim` was chosen; `header.task` is the task whose allocation triggered it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OomKill {
    /// Common part; the task is the trigger.
    pub header: Header,
    /// Who was killed.
    pub victim: Task,
    /// Anonymous memory of the victim, bytes.
    pub anon_bytes: u64,
    /// File-backed memory of the victim, bytes.
    pub file_bytes: u64,
    /// Shared memory (shmem, tmpfs) mapped by the victim, bytes.
    pub shmem_bytes: u64,
    /// Swap used by the victim, bytes.
    pub swap_bytes: u64,
    /// Page tables of the victim, bytes.
    pub page_table_bytes: u64,
    /// Size of its address space, bytes.
    pub total_vm_bytes: u64,
    /// `oom_score_adj` of the victim.
    pub oom_score_adj: i32,
    /// The kernel's SIGKILL to this victim was seen just before, so this is a kernel OOM kill.
    pub killed_by_kernel: u32,
    /// The system call that the trigger is in; -1 for a page fault.
    pub syscall: i64,
    /// Levels of `chain` in use.
    pub levels: u32,
    /// The chain goes on above the levels recorded.
    pub more_levels: u32,
    /// Memory cgroups from the victim's own to the root.
    pub chain: [MemcgLevel; MEMCG_LEVELS],
}

/// Values of [`OomReap::stage`].
pub mod oom_reap_stage {
    /// `wake_reaper`: the victim was still not dead two seconds later.
    pub const WAKE: u32 = 0;
    /// `start_task_reaping`.
    pub const START: u32 = 1;
    /// `finish_task_reaping`: its memory is free.
    pub const FINISH: u32 = 2;
    /// `skip_task_reaping`: its memory could not be freed.
    pub const SKIP: u32 = 3;
}

/// The OOM reaper's work on a victim.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OomReap {
    /// Common part.
    pub header: Header,
    /// [`oom_reap_stage`].
    pub stage: u32,
    /// Thread ID of the victim in the initial PID namespace.
    pub tid: u32,
}
