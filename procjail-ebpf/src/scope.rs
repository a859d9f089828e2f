//! Whether a task or a cgroup belongs to the jail: by ancestry on the default hierarchy.

use aya_ebpf::helpers::generated::bpf_get_current_task;

use crate::{
    config::{global, offset, present},
    emit::Skip,
    read,
};

/// What the first events taught about the jail. Written with the same values whoever comes first.
#[repr(C)]
pub struct Learnt {
    /// Address of the jail's cgroup; comparing it replaces reading its ID.
    cgroup: u64,
    /// Address of the jail's PID namespace.
    pid_ns: u64,
    /// Depth of that namespace; 0 until it is known.
    pid_level: u64,
}

static mut LEARNT: Learnt = Learnt {
    cgroup: 0,
    pid_ns: 0,
    pid_level: 0,
};

macro_rules! learnt {
    ($field:ident) => {
        // SAFETY: a machine word of a live static; races only repeat work.
        unsafe { core::ptr::read_volatile(&raw const LEARNT.$field) }
    };
    ($field:ident = $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: as above.
        unsafe { core::ptr::write_volatile(&raw mut LEARNT.$field, value) }
    }};
}

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
    let jail = learnt!(cgroup);
    if cgroup == 0 {
        return false;
    }
    if cgroup == jail {
        return true;
    }
    let level: u32 = read::kernel(cgroup, offset!(cgroup_level));
    let jail_level = global!(SCOPE.cgroup_level);
    if level < jail_level || (jail != 0 && level == jail_level) {
        return false;
    }
    if present(offset!(cgroup_ancestors)) {
        let ancestor: u64 = read::kernel(cgroup, offset!(cgroup_ancestors) + 8 * jail_level);
        if jail != 0 {
            return ancestor == jail;
        }
        if cgroup_id(ancestor) != global!(SCOPE.cgroup_id) {
            return false;
        }
        learnt!(cgroup = ancestor);
        return true;
    }
    let ancestor: u64 = read::kernel(cgroup, offset!(cgroup_ancestor_ids) + 8 * jail_level);
    if ancestor != global!(SCOPE.cgroup_id) {
        return false;
    }
    if level == jail_level {
        learnt!(cgroup = cgroup);
    }
    true
}

/// Forgets the cgroup's address, which another may get once it is removed.
#[inline(always)]
pub fn forget(cgroup: u64) {
    if cgroup == learnt!(cgroup) {
        learnt!(cgroup = 0);
    }
}

/// Whether the task is in the jail.
#[inline(always)]
pub fn has(task: u64) -> bool {
    is_jails(cgroup_of(task))
}

/// Ends the program unless the task is in the jail.
#[inline(always)]
pub fn require(task: u64) -> Result<(), Skip> {
    if has(task) { Ok(()) } else { Err(Skip) }
}

/// Ends the program unless the running task is in the jail; returns its address.
#[inline(always)]
pub fn require_current() -> Result<u64, Skip> {
    let task = current();
    require(task)?;
    Ok(task)
}

/// The process ID in the jail's PID namespace of a `struct pid` of depth `level` and innermost number
/// `nr`; 0 if it has none.
///
/// The jail's namespace is the one whose PID 1 is the first task of the jail that is seen: PID 1 makes
/// the first event, as it executes the app before anything else can run there.
#[inline(always)]
pub fn jail_pid(in_jail: bool, pid: u64, level: u32, nr: u32) -> u32 {
    let mut jail_level = learnt!(pid_level) as u32;
    if jail_level == 0 {
        if !in_jail || nr != 1 || level == 0 {
            return 0;
        }
        let numbers = offset!(pid_numbers) + level * offset!(upid_size);
        learnt!(pid_ns = read::kernel(pid, numbers + offset!(upid_ns)));
        learnt!(pid_level = u64::from(level));
        jail_level = level;
    }
    if level < jail_level {
        return 0;
    }
    let numbers = offset!(pid_numbers) + jail_level * offset!(upid_size);
    let namespace: u64 = read::kernel(pid, numbers + offset!(upid_ns));
    if namespace != learnt!(pid_ns) {
        return 0;
    }
    read::kernel(pid, numbers + offset!(upid_nr))
}
