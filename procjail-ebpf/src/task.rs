//! Filling in who a task is, and what it is doing.

use procjail_common::{Task, task_flags};

use crate::{
    config::{global, offset, present},
    read, scope,
};

/// `PF_EXITING` of include/linux/sched.h.
const PF_EXITING: u32 = 0x4;
/// `PF_KTHREAD` of include/linux/sched.h.
const PF_KTHREAD: u32 = 0x20_0000;

/// The thread's and the process's ID of a task, in the initial PID namespace.
#[inline(always)]
pub fn ids(task: u64) -> (u32, u32) {
    if offset!(task_tgid) == offset!(task_pid) + 4 {
        // Side by side on every kernel so far: one read instead of two.
        let both: u64 = read::kernel(task, offset!(task_pid));
        (both as u32, (both >> 32) as u32)
    } else {
        (
            read::kernel(task, offset!(task_pid)),
            read::kernel(task, offset!(task_tgid)),
        )
    }
}

/// Writes all fields of `to` for the task at address `task`.
///
/// Straight on, without a look at what was read: a null pointer reads as zeros from there on, and
/// every branch here costs the verifier twice the time, once for each use in each program. For a task
/// that was reaped the numbers in namespaces are zero: it has no `struct pid` any more.
///
/// # Safety
///
/// `to` is valid for writing.
// The name as the compiler makes it would differ with the folder that it is built in.
#[unsafe(export_name = "fill_task")]
#[inline(never)]
pub unsafe fn fill(to: *mut Task, task: u64) {
    let cgroup = scope::cgroup_of(task);
    let cgroup_id = scope::cgroup_id(cgroup);
    // Most of the jail's tasks are in its own cgroup, not in one below.
    let in_jail = cgroup_id == global!(SCOPE.cgroup_id) || scope::is_jails(cgroup);
    // SAFETY: the caller vouches for `to`; every field is written.
    unsafe {
        (*to).cgroup_id = cgroup_id;
        let flags: u32 = read::kernel(task, offset!(task_flags));
        (*to).flags = u32::from(in_jail) * task_flags::IN_JAIL
            | (flags & PF_EXITING) / PF_EXITING * task_flags::EXITING
            | (flags & PF_KTHREAD) / PF_KTHREAD * task_flags::KTHREAD;
        ((*to).tid, (*to).pid) = ids(task);
        let leader: u64 = read::kernel(task, offset!(task_group_leader));
        (*to).start_ns = read::kernel(leader, offset!(task_start_boottime));
        let pid: u64 = read::kernel(leader, offset!(task_thread_pid));
        let level: u32 = read::kernel(pid, offset!(pid_level));
        (*to).ns_level = level;
        (*to).ns_pid = ns_pid(pid, level);
        (*to).jail_pid = scope::jail_pid(pid, level);
        read::comm(&raw mut (*to).comm, task);
    }
}

/// The number of a `struct pid` in the namespace of that depth.
#[inline(always)]
pub fn ns_pid(pid: u64, level: u32) -> u32 {
    read::kernel(
        pid,
        offset!(pid_numbers) + level * offset!(upid_size) + offset!(upid_nr),
    )
}

/// Whether the running task is in a system call of a 32-bit program, which numbers them otherwise.
///
/// Known on x86-64 alone: `TS_COMPAT` of arch/x86/include/asm/thread_info.h.
#[inline(always)]
pub fn is_compat(task: u64) -> bool {
    const TS_COMPAT: u32 = 2;
    if !present(offset!(task_status)) {
        return false;
    }
    let status: u32 = read::kernel(task, offset!(task_status));
    status & TS_COMPAT != 0
}

/// The number of the system call that the running task is in; -1 for none.
///
/// It lies in the registers that were saved when user mode was left, on the task's kernel stack.
#[inline(always)]
pub fn syscall(task: u64) -> i64 {
    if !present(offset!(stack_regs)) {
        return -1;
    }
    let flags: u32 = read::kernel(task, offset!(task_flags));
    if flags & PF_KTHREAD != 0 {
        return -1;
    }
    // The low half: arm64's number is an `int`, x86-64's never needs more.
    i64::from(register(task, offset!(regs_syscall)) as i32)
}

/// A register of a task's user mode, as it was saved; `offset` is one of `regs_`.
///
/// Only where the kernel has `stack_regs`, and of a task that is no kernel thread.
#[inline(always)]
pub fn register(task: u64, offset: u32) -> u64 {
    let stack: u64 = read::kernel(task, offset!(task_stack));
    read::kernel(stack, offset!(stack_regs) + offset)
}

/// Pages as bytes.
#[inline(always)]
pub fn pages(count: u64) -> u64 {
    count.wrapping_mul(u64::from(global!(SCOPE.page_size)))
}
