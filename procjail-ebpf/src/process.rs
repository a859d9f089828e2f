//! Fork, exit, wait and release.

use aya_ebpf::{
    EbpfContext as _,
    macros::{map, raw_tracepoint},
    maps::LruHashMap,
    programs::RawTracePointContext,
};
use procjail_common::{Exit, Fork, Free, Task, Wait, kind, scope_flags, syscall_class};

use crate::{
    config::{flag, offset, present},
    disposition,
    emit::{self, Skip},
    failure, read, scope, stderr, syscall, task,
};

/// `SIGNAL_GROUP_EXIT` of include/linux/sched/signal.h.
const SIGNAL_GROUP_EXIT: u32 = 0x4;

/// Thread groups whose end was told, where the kernel doesn't say which thread was the last.
#[map]
static ENDED: LruHashMap<u64, u32> = LruHashMap::with_max_entries(1024, 0);

/// What exit_group(2) was called with, by address of the `signal_struct`: a process's last thread need
/// not be the one that called it.
#[map]
static ARGUMENTS: LruHashMap<u64, u32> = LruHashMap::with_max_entries(1024, 0);

/// Whether `task` is a thread that is not the leader of its group.
#[inline(always)]
fn is_thread(task: u64) -> bool {
    let (tid, pid) = task::ids(task);
    tid != pid
}

#[raw_tracepoint]
pub fn sched_process_fork(ctx: RawTracePointContext) -> i32 {
    let _ = try_fork(&ctx);
    0
}

fn try_fork(ctx: &RawTracePointContext) -> Result<(), Skip> {
    // include/trace/events/sched.h, 5.10 to 7.2:
    // TP_PROTO(struct task_struct *parent, struct task_struct *child)
    let parent: u64 = ctx.arg(0);
    let child: u64 = ctx.arg(1);
    // The child may be in the jail while its parent is not: CLONE_INTO_CGROUP.
    scope::require(child)?;
    if !flag(scope_flags::THREADS) && is_thread(child) {
        return Err(Skip);
    }
    emit::record(kind::FORK, parent, |to: *mut Fork| {
        // SAFETY: `to` is the reserved record.
        unsafe {
            task::fill(&raw mut (*to).child, child);
            disposition::fill(&raw mut (*to).signals, child);
        }
    })
}

#[raw_tracepoint]
pub fn sched_process_exit(ctx: RawTracePointContext) -> i32 {
    let _ = try_exit(&ctx);
    0
}

fn try_exit(ctx: &RawTracePointContext) -> Result<(), Skip> {
    // include/trace/events/sched.h
    // 5.10 to 6.15: TP_PROTO(struct task_struct *p)
    // from 6.16:    TP_PROTO(struct task_struct *p, bool group_dead)
    let thread: u64 = ctx.arg(0);
    scope::require(thread)?;
    let tid: u32 = read::kernel(thread, offset!(task_pid));
    syscall::unfinished(thread, tid);

    let leader: u64 = read::kernel(thread, offset!(task_group_leader));
    let signal: u64 = read::kernel(thread, offset!(task_signal));
    let group_dead = if flag(scope_flags::EXIT_GROUP_DEAD) {
        // Read by hand: an argument that older kernels don't have must not stand in the program.
        // SAFETY: the context holds as many words as the prototype has arguments, and user space
        // sets the flag only where there are two.
        let arg = unsafe { core::ptr::read_volatile(ctx.as_ptr().cast::<u64>().add(1)) };
        arg as u8 != 0
    } else {
        is_last(thread, signal)
    };
    if !group_dead {
        if syscall::class(task::syscall(thread) as u64) == syscall_class::EXIT_GROUP {
            let argument = task::register(thread, offset!(regs_arg0)) as u32;
            let _ = ARGUMENTS.insert(signal, argument, 0);
        }
        if !flag(scope_flags::THREADS) && !leaves_the_rest(thread, signal) {
            return Err(Skip);
        }
    }
    // A process is known by its leader, whichever thread was the last.
    let subject = if group_dead { leader } else { thread };
    let told = emit::record(kind::EXIT, subject, |to: *mut Exit| {
        let parent: u64 = read::kernel(leader, offset!(task_real_parent));
        // SAFETY: `to` is the reserved record; every field is written.
        unsafe {
            task::fill(&raw mut (*to).parent, parent);
            tracer(&raw mut (*to).tracer, subject);
            (*to).exit_code = read::kernel(thread, offset!(task_exit_code));
            (*to).group_exit_code = read::kernel(signal, offset!(signal_group_exit_code));
            (*to).leader_exit_code = read::kernel(leader, offset!(task_exit_code));
            (*to).signal_flags = read::kernel(signal, offset!(signal_flags));
            (*to).group_dead = u32::from(group_dead);
            (*to).process_group = number(signal, offset!(signal_process_group));
            (*to).session = number(signal, offset!(signal_session));
            (*to).reserved = 0;
            (*to).max_rss_bytes = task::pages(optional(signal, offset!(signal_maxrss)));
            (*to).utime_ns = optional(thread, offset!(task_utime));
            (*to).stime_ns = optional(thread, offset!(task_stime));
            argument(to, thread, signal);
        }
    });
    if group_dead {
        // Its address may be another process's soon.
        let _ = ARGUMENTS.remove(signal);
        let badly = status(signal, leader) != 0;
        if flag(scope_flags::STDERR_TAIL) {
            stderr::tell(leader, badly);
        }
        failure::tell(leader, badly);
    }
    told
}

/// Writes who traces a task; zeros for nobody.
///
/// # Safety
///
/// `to` is valid for writing.
#[inline(always)]
unsafe fn tracer(to: *mut Task, task: u64) {
    let mut traced = 0u32;
    if present(offset!(task_ptrace)) && present(offset!(task_parent)) {
        traced = read::kernel(task, offset!(task_ptrace));
    }
    // SAFETY: the caller vouches for `to`.
    unsafe {
        if traced == 0 {
            read::zero::<{ size_of::<Task>() / 8 }>(to.cast());
        } else {
            // `real_parent` remains who made it.
            task::fill(to, read::kernel(task, offset!(task_parent)));
        }
    }
}

/// Whether a thread that ends leaves a process behind that is not what it was: its leader is gone, which
/// stays as a zombie, or a signal ended the thread alone (a seccomp filter does that).
#[inline(always)]
fn leaves_the_rest(thread: u64, signal: u64) -> bool {
    let flags: u32 = read::kernel(signal, offset!(signal_flags));
    let code: i32 = read::kernel(thread, offset!(task_exit_code));
    flags & SIGNAL_GROUP_EXIT == 0 && (code & 0x7f != 0 || !is_thread(thread))
}

/// What wait(2) will tell of a process, as in wait_task_zombie().
#[inline(always)]
fn status(signal: u64, leader: u64) -> i32 {
    let flags: u32 = read::kernel(signal, offset!(signal_flags));
    if flags & SIGNAL_GROUP_EXIT != 0 {
        read::kernel(signal, offset!(signal_group_exit_code))
    } else {
        read::kernel(leader, offset!(task_exit_code))
    }
}

/// What exit_group(2), or exit(2) of the last thread, was called with.
///
/// Whoever called exit_group(2) need not be the last one to end.
///
/// # Safety
///
/// `to` is valid for writing.
#[inline(always)]
unsafe fn argument(to: *mut Exit, thread: u64, signal: u64) {
    // SAFETY: the caller vouches for `to`; a found value is copied, and whoever wrote it has ended.
    unsafe {
        (*to).syscall = u32::MAX;
        (*to).argument = 0;
        if present(offset!(stack_regs)) {
            (*to).syscall = task::register(thread, offset!(regs_syscall)) as u32;
            (*to).argument = task::register(thread, offset!(regs_arg0)) as i32;
        }
        (*to).group_argument = 0;
        (*to).has_group_argument = 0;
        if let Some(&argument) = ARGUMENTS.get(signal) {
            (*to).group_argument = argument as i32;
            (*to).has_group_argument = 1;
        }
    }
}

/// The number, in the initial PID namespace, of a `struct pid` that a field points to; 0 if there is
/// no such field.
#[inline(always)]
fn number(signal: u64, field: u32) -> u32 {
    if !present(field) {
        return 0;
    }
    task::ns_pid(read::kernel(signal, field), 0)
}

/// Whether a thread that ends is the last of its group, where the tracepoint doesn't tell.
///
/// do_exit() counts `signal->live` down before the tracepoint. Two threads that end at once may both
/// find it zero; only the first one counts.
#[inline(always)]
fn is_last(thread: u64, signal: u64) -> bool {
    let live: i32 = read::kernel(signal, offset!(signal_live));
    if live != 0 {
        return false;
    }
    if !is_thread(thread) {
        let threads: i32 = read::kernel(signal, offset!(signal_nr_threads));
        if threads == 1 {
            return true;
        }
    }
    const EEXIST: i32 = 17;
    // If there was no room, an end told twice is better than none.
    ENDED.insert(signal, 0, read::BPF_NOEXIST) != Err(-EEXIST)
}

/// A word that this kernel may not have.
#[inline(always)]
fn optional(base: u64, offset: u32) -> u64 {
    if present(offset) {
        read::kernel(base, offset)
    } else {
        0
    }
}

#[raw_tracepoint]
pub fn sched_process_wait(ctx: RawTracePointContext) -> i32 {
    let _ = try_wait(&ctx);
    0
}

fn try_wait(ctx: &RawTracePointContext) -> Result<(), Skip> {
    // include/trace/events/sched.h, 5.10 to 7.2: TP_PROTO(struct pid *pid)
    let pid: u64 = ctx.arg(0);
    let waiter = scope::require_current()?;
    emit::record(kind::WAIT, waiter, |to: *mut Wait| {
        // SAFETY: `to` is the reserved record; the header is filled in already.
        unsafe {
            // A null pointer stands for any child, and reads as zero.
            (*to).ns_pid = task::ns_pid(pid, (*to).header.task.ns_level);
            (*to).reserved = 0;
        }
    })
}

#[raw_tracepoint]
pub fn sched_process_free(ctx: RawTracePointContext) -> i32 {
    let _ = try_free(&ctx);
    0
}

fn try_free(ctx: &RawTracePointContext) -> Result<(), Skip> {
    // include/trace/events/sched.h, 5.10 to 7.2: TP_PROTO(struct task_struct *p)
    // Fires from an RCU callback, milliseconds after the reap; `current` is unrelated and not told.
    let task: u64 = ctx.arg(0);
    scope::require(task)?;
    if is_thread(task) {
        return Err(Skip);
    }
    emit::record(kind::FREE, task, |to: *mut Free| {
        // SAFETY: `to` is the reserved record; its header is filled in already.
        unsafe { (*to).process = (*to).header.task };
    })
}
