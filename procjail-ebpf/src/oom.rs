//! The OOM killer: who dies, by whose limit, and what the memory was made of.

use aya_ebpf::{
    EbpfContext as _,
    helpers::generated::bpf_get_stack,
    macros::{map, raw_tracepoint},
    maps::LruHashMap,
    programs::RawTracePointContext,
};
use procjail_common::{
    KERNEL_FRAMES, MEMCG_LEVELS, MEMCG_NAME_LEN, MemcgLevel, OomKill, OomReap, USER_FRAMES,
    UserFrame, kind, oom_reap_stage, scope_flags,
};

use crate::{
    config::{flag, offset, present},
    emit::{self, Skip},
    read, scope, signal, task,
};

/// Thread IDs of the jail's victims: the reaper's tracepoints tell no more than that.
#[map]
static VICTIMS: LruHashMap<u32, u32> = LruHashMap::with_max_entries(256, 0);

/// The kernel's signal to a victim comes microseconds before the victim is told.
const KILL_WINDOW_NS: u64 = 1_000_000_000;

/// `MM_FILEPAGES` and its followers of include/linux/mm_types_task.h.
const MM_FILEPAGES: u32 = 0;
const MM_ANONPAGES: u32 = 1;
const MM_SWAPENTS: u32 = 2;
const MM_SHMEMPAGES: u32 = 3;

#[raw_tracepoint]
pub fn mark_victim(ctx: RawTracePointContext) -> i32 {
    let _ = try_mark_victim(&ctx);
    0
}

fn try_mark_victim(ctx: &RawTracePointContext) -> Result<(), Skip> {
    // include/trace/events/oom.h
    // 5.10:                               TP_PROTO(int pid)
    // from 6.8, and stable ones backport: TP_PROTO(struct task_struct *task, uid_t uid)
    let arg: u64 = ctx.arg(0);
    let kill = signal::last_kill();
    let by_pid = flag(scope_flags::MARK_VICTIM_PID);
    let (victim, killed_by_kernel) = match kill {
        Some(kill)
            if (if by_pid { kill.tid } else { kill.task }) == arg
                && emit::now().wrapping_sub(kill.time_ns) < KILL_WINDOW_NS =>
        {
            (kill.task, true)
        }
        // A number alone does not lead to the task.
        _ if by_pid => return Err(Skip),
        _ => (arg, false),
    };
    scope::require(victim)?;
    let tid: u32 = read::kernel(victim, offset!(task_pid));
    let _ = VICTIMS.insert(tid, 0, 0);

    let trigger = scope::current();
    emit::record(kind::OOM_KILL, trigger, |to: *mut OomKill| {
        // SAFETY: `to` is the reserved record; every field is written.
        unsafe {
            task::fill(&raw mut (*to).victim, victim);
            memory(to, victim);
            let signal_struct: u64 = read::kernel(victim, offset!(task_signal));
            let adj: i32 = read::kernel(signal_struct, offset!(signal_oom_score_adj));
            // `short` in the kernel.
            (*to).oom_score_adj = i32::from(adj as i16);
            (*to).killed_by_kernel = u32::from(killed_by_kernel);
            (*to).syscall = task::syscall(trigger);
            stack(to, ctx);
            chain(to, victim);
        }
    })
}

/// What the trigger was doing.
///
/// # Safety
///
/// `to` is valid for writing.
#[inline(always)]
unsafe fn stack(to: *mut OomKill, ctx: &RawTracePointContext) {
    /// Flags of bpf_get_stack(), include/uapi/linux/bpf.h.
    const BPF_F_USER_STACK: u64 = 1 << 8;
    const BPF_F_USER_BUILD_ID: u64 = 1 << 11;
    // Bytes, or a negative error number, which becomes none.
    let used = |length: i64| (length & !(length >> 63)) as u32;
    // SAFETY: the caller vouches for `to`; the helper writes at most as much as it is told.
    unsafe {
        (*to).kernel_stack_len = used(bpf_get_stack(
            ctx.as_ptr(),
            (&raw mut (*to).kernel_stack).cast(),
            size_of::<[u64; KERNEL_FRAMES]>() as u32,
            0,
        ));
        (*to).user_stack_len = used(bpf_get_stack(
            ctx.as_ptr(),
            (&raw mut (*to).user_stack).cast(),
            size_of::<[UserFrame; USER_FRAMES]>() as u32,
            BPF_F_USER_STACK | BPF_F_USER_BUILD_ID,
        ));
    }
}

/// What the victim's memory is made of.
///
/// # Safety
///
/// `to` is valid for writing.
#[inline(always)]
unsafe fn memory(to: *mut OomKill, victim: u64) {
    let mm: u64 = read::kernel(victim, offset!(task_mm));
    // SAFETY: the caller vouches for `to`.
    unsafe {
        (*to).anon_bytes = rss(mm, MM_ANONPAGES);
        (*to).file_bytes = rss(mm, MM_FILEPAGES);
        (*to).shmem_bytes = rss(mm, MM_SHMEMPAGES);
        (*to).swap_bytes = rss(mm, MM_SWAPENTS);
        (*to).page_table_bytes = if present(offset!(mm_pgtables_bytes)) {
            read::kernel(mm, offset!(mm_pgtables_bytes))
        } else {
            0
        };
        (*to).total_vm_bytes = if present(offset!(mm_total_vm)) {
            task::pages(read::kernel(mm, offset!(mm_total_vm)))
        } else {
            0
        };
    }
}

/// One counter of `mm->rss_stat` in bytes.
///
/// An array of counters that lags behind by what each processor has not added yet, some tens of pages.
#[inline(always)]
fn rss(mm: u64, counter: u32) -> u64 {
    if !present(offset!(mm_rss_stat)) {
        return 0;
    }
    let pages: i64 = read::kernel(
        mm,
        offset!(mm_rss_stat) + counter * offset!(rss_stat_stride) + offset!(rss_stat_count),
    );
    // Lagging counters may be below zero; without a branch, as the verifier follows both.
    task::pages((pages & !(pages >> 63)) as u64)
}

/// The victim's memory cgroup and those above it, in whichever hierarchy has the controller.
///
/// # Safety
///
/// `to` is valid for writing.
#[inline(always)]
unsafe fn chain(to: *mut OomKill, victim: u64) {
    let mut css: u64 = 0;
    if present(offset!(mem_cgroup_memory)) {
        let css_set: u64 = read::kernel(victim, offset!(task_cgroups));
        css = read::kernel(
            css_set,
            offset!(css_set_subsys) + 8 * offset!(memory_cgrp_id),
        );
    }
    let mut levels = 0;
    for index in 0..MEMCG_LEVELS {
        // SAFETY: `index` is below the array's length; the caller vouches for `to`.
        unsafe { (*to).chain[index].cgroup_id = 0 };
    }
    for index in 0..MEMCG_LEVELS {
        if css == 0 {
            break;
        }
        // SAFETY: as above.
        unsafe { level(&raw mut (*to).chain[index], css) };
        levels += 1;
        css = read::kernel(css, offset!(css_parent));
    }
    // SAFETY: the caller vouches for `to`.
    unsafe {
        (*to).levels = levels;
        (*to).more_levels = u32::from(css != 0);
    }
}

/// One memory cgroup.
///
/// # Safety
///
/// `to` is valid for writing.
// The name as the compiler makes it would differ with the folder that it is built in.
#[unsafe(export_name = "fill_memcg_level")]
#[inline(never)]
unsafe fn level(to: *mut MemcgLevel, css: u64) {
    // `struct mem_cgroup` begins with its `css`; user space made sure of it.
    // SAFETY: the caller vouches for `to`; every field is written.
    unsafe {
        let name = (&raw mut (*to).name).cast::<u8>();
        read::zero::<{ MEMCG_NAME_LEN / 8 }>(name.cast());
        let cgroup: u64 = read::kernel(css, offset!(css_cgroup));
        let node: u64 = read::kernel(cgroup, offset!(cgroup_kn));
        (*to).cgroup_id = read::kernel(node, offset!(kernfs_node_id));
        let memory = css + u64::from(offset!(mem_cgroup_memory));
        (*to).usage_bytes = task::pages(read::kernel(memory, offset!(page_counter_usage)));
        (*to).limit_bytes = limit(read::kernel(memory, offset!(page_counter_max)));
        if present(offset!(mem_cgroup_swap)) {
            let swap = css + u64::from(offset!(mem_cgroup_swap));
            (*to).swap_usage_bytes = task::pages(read::kernel(swap, offset!(page_counter_usage)));
            (*to).swap_limit_bytes = limit(read::kernel(swap, offset!(page_counter_max)));
        } else {
            (*to).swap_usage_bytes = 0;
            (*to).swap_limit_bytes = u64::MAX;
        }
        let from: u64 = read::kernel(node, offset!(kernfs_node_name));
        read::kernel_str(name, MEMCG_NAME_LEN as u32, from);
    }
}

/// A limit in bytes. None is `PAGE_COUNTER_MAX`, `LONG_MAX` bytes in whole pages, which even with
/// pages of 64 KiB is this much; no machine has as many.
#[inline(always)]
fn limit(pages: u64) -> u64 {
    const NONE: u64 = (1 << 47) - 1;
    // All ones if `pages >= NONE`: the difference is then not negative. Without a branch.
    let none = !((pages.wrapping_sub(NONE) as i64) >> 63) as u64;
    task::pages(pages) | none
}

macro_rules! reaper {
    ($($name:ident = $stage:expr),+ $(,)?) => {
        $(
            #[raw_tracepoint]
            pub fn $name(ctx: RawTracePointContext) -> i32 {
                // include/trace/events/oom.h, 5.10 to 7.2: TP_PROTO(int pid)
                let _ = try_reap(ctx.arg(0), $stage);
                0
            }
        )+
    };
}

fn try_reap(tid: u32, stage: u32) -> Result<(), Skip> {
    VICTIMS.get_ptr(tid).ok_or(Skip)?;
    emit::record(kind::OOM_REAP, scope::current(), |to: *mut OomReap| {
        // SAFETY: `to` is the reserved record; every field is written.
        unsafe {
            (*to).stage = stage;
            (*to).tid = tid;
        }
    })
}

reaper! {
    wake_reaper = oom_reap_stage::WAKE,
    start_task_reaping = oom_reap_stage::START,
    finish_task_reaping = oom_reap_stage::FINISH,
    skip_task_reaping = oom_reap_stage::SKIP,
}
