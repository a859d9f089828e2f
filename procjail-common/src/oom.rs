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

/// Calls in the kernel that an [`OomKill`] carries.
pub const KERNEL_FRAMES: usize = 24;

/// Calls in the program that an [`OomKill`] carries.
pub const USER_FRAMES: usize = 16;

/// [`UserFrame::status`] when the file's build ID is known (`BPF_STACK_BUILD_ID_VALID` of
/// include/uapi/linux/bpf.h).
pub const BUILD_ID_VALID: u32 = 1;

/// A call in the program: `struct bpf_stack_build_id`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserFrame {
    /// [`BUILD_ID_VALID`], or else only an address is known.
    pub status: u32,
    /// Build ID of the file that is mapped there.
    pub build_id: [u8; 20],
    /// Offset in that file, or the address.
    pub place: u64,
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
    /// Bytes of `kernel_stack` in use.
    pub kernel_stack_len: u32,
    /// Bytes of `user_stack` in use.
    pub user_stack_len: u32,
    /// Addresses in the kernel that the trigger was called from, innermost first.
    pub kernel_stack: [u64; KERNEL_FRAMES],
    /// Where the trigger was in its program, innermost first, as far as frame pointers lead.
    pub user_stack: [UserFrame; USER_FRAMES],
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
