//! Changes of cgroups on the default hierarchy.

use crate::{Header, PATH_LEN, Task};

/// Values of [`Cgroup::change`].
pub mod cgroup_change {
    /// `cgroup_attach_task`: `member` moved into the cgroup.
    pub const ATTACH: u32 = 0;
    /// `cgroup_notify_populated`: `value` tells whether tasks are in it or below.
    pub const POPULATED: u32 = 1;
    /// `cgroup_notify_frozen`: `value` tells whether it is frozen.
    pub const FROZEN: u32 = 2;
    /// `cgroup_mkdir`.
    pub const MKDIR: u32 = 3;
    /// `cgroup_rmdir`.
    pub const RMDIR: u32 = 4;
}

/// A change of the jail's cgroup or one below it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Common part; the task is the one that made the change.
    pub header: Header,
    /// Who moved, for an attach; else zero.
    pub member: Task,
    /// [`cgroup_change`].
    pub change: u32,
    /// New value, for populated and frozen.
    pub value: u32,
    /// Bytes of `path` in use.
    pub path_len: u32,
    /// Zero.
    pub reserved: u32,
    /// Path of the cgroup from the root of its hierarchy.
    pub path: [u8; PATH_LEN],
}
