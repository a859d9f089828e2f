//! Whether a task or a cgroup belongs to the jail: by ancestry on the default hierarchy.
//!
//! Compared by ID, which the kernel gives only once; an address would be another cgroup's some time
//! after the jail is gone.

use aya_ebpf::helpers::generated::{bpf_get_current_ancestor_cgroup_id, bpf_get_current_task};
use procjail_common::scope_flags;

use crate::{
    config::{flag, global, offset, present},
    emit::Skip,
    read,
};

/// The running task's address.
#[inline(always)]
pub fn current() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_get_current_task() }
}

/// The task's cgroup on the default hierarchy.
#[inline(always)]
pub fn cgroup_of(task: u64) -> u64 {
    let css_set: u64 = read::kernel(task, offset!(task_cgroups));
    read::kernel(css_set, offset!(css_set_dfl_cgrp))
}

/// The ID of a cgroup: the inode number of its directory.
#[inline(always)]
pub fn cgroup_id(cgroup: u64) -> u64 {
    let node: u64 = read::kernel(cgroup, offset!(cgroup_kn));
    read::kernel(node, offset!(kernfs_node_id))
}

/// Whether a cgroup of the default hierarchy is the jail's or below it.
#[inline(always)]
pub fn is_jails(cgroup: u64) -> bool {
    let level: u32 = read::kernel(cgroup, offset!(cgroup_level));
    let jail_level = global!(SCOPE.cgroup_level);
    // Most cgroups of a host are not this deep.
    if level < jail_level {
        return false;
    }
    // Each cgroup lists those above it, and itself last.
    let id = if present(offset!(cgroup_ancestors)) {
        cgroup_id(read::kernel(
            cgroup,
            offset!(cgroup_ancestors) + 8 * jail_level,
        ))
    } else {
        read::kernel(cgroup, offset!(cgroup_ancestor_ids) + 8 * jail_level)
    };
    id == global!(SCOPE.cgroup_id)
}

/// Ends the program unless the task is in the jail.
#[inline(always)]
pub fn require(task: u64) -> Result<(), Skip> {
    if is_jails(cgroup_of(task)) {
        Ok(())
    } else {
        Err(Skip)
    }
}

/// Ends the program unless the running task is in the jail; returns its address.
#[inline(always)]
pub fn require_current() -> Result<u64, Skip> {
    if !flag(scope_flags::ANCESTOR_HELPER) {
        let task = current();
        require(task)?;
        return Ok(task);
    }
    // Quicker than to read all that.
    // SAFETY: the helper has no preconditions.
    let id = unsafe { bpf_get_current_ancestor_cgroup_id(global!(SCOPE.cgroup_level) as i32) };
    if id == global!(SCOPE.cgroup_id) {
        Ok(current())
    } else {
        Err(Skip)
    }
}

/// The process ID that a `struct pid` of depth `level` has in the jail's PID namespace; 0 for none.
#[inline(always)]
pub fn jail_pid(pid: u64, level: u32) -> u32 {
    let jail_level = global!(SCOPE.pid_ns_level);
    if level < jail_level {
        return 0;
    }
    let numbers = offset!(pid_numbers) + jail_level * offset!(upid_size);
    let namespace: u64 = read::kernel(pid, numbers + offset!(upid_ns));
    let inode: u32 = read::kernel(namespace, offset!(pid_namespace_inum));
    if inode != global!(SCOPE.pid_ns) {
        return 0;
    }
    read::kernel(pid, numbers + offset!(upid_nr))
}
