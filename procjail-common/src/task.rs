//! Who a task is.

/// Longest path, in bytes with the final NUL, that a record carries whole. Longer ones are cut there.
pub const PATH_LEN: usize = 256;

/// Bits of [`Task::flags`].
pub mod task_flags {
    /// The task's cgroup is the jail's or one below it.
    pub const IN_JAIL: u32 = 1;
    /// `PF_EXITING`: the task is inside do_exit().
    pub const EXITING: u32 = 2;
    /// `PF_KTHREAD`: a kernel thread.
    pub const KTHREAD: u32 = 4;
}

/// A task as the kernel knew it when the record was made.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Task {
    /// Process ID (the kernel's `tgid`) in the initial PID namespace.
    pub pid: u32,
    /// Thread ID (the kernel's `pid`) in the initial PID namespace.
    pub tid: u32,
    /// Process ID in the jail's PID namespace; 0 if the task is not in it.
    pub jail_pid: u32,
    /// [`task_flags`].
    pub flags: u32,
    /// `start_boottime` of the thread group leader, CLOCK_BOOTTIME nanoseconds. With `pid` it names a
    /// process for good, as process IDs are reused.
    pub start_ns: u64,
    /// ID of the cgroup on the default (v2) hierarchy: the inode number of its directory.
    pub cgroup_id: u64,
    /// Process ID in the task's own (innermost) PID namespace.
    pub ns_pid: u32,
    /// Depth of the task's own PID namespace; the initial one is 0.
    pub ns_level: u32,
    /// Name of the thread, NUL-padded.
    pub comm: [u8; 16],
}

const _: () = assert!(size_of::<Task>() == 56);
