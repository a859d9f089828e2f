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

/// Writes all fields of `to` for the task at address `task`.
///
/// A function of its own in the object: three records need it twice or more.
///
/// # Safety
///
/// `to` is valid for writing.
#[inline(never)]
pub unsafe fn fill(to: *mut Task, task: u64) {
    let cgroup = scope::cgroup_of(task);
    let in_jail = scope::is_jails(cgroup);
    let leader: u64 = read::kernel(task, offset!(task_group_leader));
    let pid: u64 = read::kernel(leader, offset!(task_thread_pid));
    // A task that was reaped has no `struct pid` any more.
    let (mut level, mut ns_pid, mut jail_pid) = (0, 0, 0);
    if pid != 0 {
        level = read::kernel(pid, offset!(pid_level));
        ns_pid = read::kernel(
            pid,
            offset!(pid_numbers) + level * offset!(upid_size) + offset!(upid_nr),
        );
        jail_pid = scope::jail_pid(in_jail, pid, level, ns_pid);
    }
    let task_flags: u32 = read::kernel(task, offset!(task_flags));
    let mut flags = 0;
    if in_jail {
        flags |= task_flags::IN_JAIL;
    }
    if task_flags & PF_EXITING != 0 {
        flags |= task_flags::EXITING;
    }
    if task_flags & PF_KTHREAD != 0 {
        flags |= task_flags::KTHREAD;
    }
    // SAFETY: the caller vouches for `to`; every field is written.
    unsafe {
        (*to).pid = read::kernel(task, offset!(task_tgid));
        (*to).tid = read::kernel(task, offset!(task_pid));
        (*to).jail_pid = jail_pid;
        (*to).flags = flags;
        (*to).start_ns = read::kernel(leader, offset!(task_start_boottime));
        (*to).cgroup_id = scope::cgroup_id(cgroup);
        (*to).ns_pid = ns_pid;
        (*to).ns_level = level;
        (*to).mnt_ns = mnt_ns(task);
        (*to).reserved = 0;
        (*to).comm = read::kernel(task, offset!(task_comm));
    }
}

/// Inode number of the task's mount namespace.
#[inline(always)]
fn mnt_ns(task: u64) -> u32 {
    if !present(offset!(mnt_namespace_inum)) {
        return 0;
    }
    let nsproxy: u64 = read::kernel(task, offset!(task_nsproxy));
    if nsproxy == 0 {
        return 0;
    }
    let namespace: u64 = read::kernel(nsproxy, offset!(nsproxy_mnt_ns));
    read::kernel(namespace, offset!(mnt_namespace_inum))
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
    let stack: u64 = read::kernel(task, offset!(task_stack));
    // The low half: arm64's number is an `int`, x86-64's never needs more.
    let number: i32 = read::kernel(stack, offset!(stack_regs) + offset!(regs_syscall));
    i64::from(number)
}

/// Pages as bytes.
#[inline(always)]
pub fn pages(count: u64) -> u64 {
    count.wrapping_mul(u64::from(global!(SCOPE.page_size)))
}
