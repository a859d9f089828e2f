//! System calls that change mounts and namespaces.

use crate::{Header, PATH_LEN};

/// Values of [`Mount::call`].
pub mod mount_call {
    /// mount(2).
    pub const MOUNT: u32 = 0;
    /// umount2(2).
    pub const UMOUNT: u32 = 1;
    /// move_mount(2).
    pub const MOVE_MOUNT: u32 = 2;
    /// open_tree(2).
    pub const OPEN_TREE: u32 = 3;
    /// fsmount(2).
    pub const FSMOUNT: u32 = 4;
    /// mount_setattr(2).
    pub const MOUNT_SETATTR: u32 = 5;
    /// pivot_root(2).
    pub const PIVOT_ROOT: u32 = 6;
    /// setns(2).
    pub const SETNS: u32 = 7;
    /// unshare(2).
    pub const UNSHARE: u32 = 8;
}

/// Values of [`Mount::stage`].
pub mod mount_stage {
    /// The call returned; `result` and `duration_ns` are known.
    pub const DONE: u32 = 0;
    /// The call was entered and never returned (its thread ended inside it).
    pub const UNFINISHED: u32 = 1;
}

/// A call that changes mounts or namespaces.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Common part.
    pub header: Header,
    /// [`mount_call`].
    pub call: u32,
    /// [`mount_stage`].
    pub stage: u32,
    /// What the system call returned: 0 or a descriptor, or a negative error number.
    pub result: i64,
    /// Time from entry to return, nanoseconds.
    pub duration_ns: u64,
    /// The call's flags as given.
    pub flags: u64,
    /// Its numeric arguments that are not pointers, in order (descriptors, sizes); else 0.
    pub args: [u64; 4],
    /// Bytes of `source` in use.
    pub source_len: u16,
    /// Bytes of `target` in use.
    pub target_len: u16,
    /// Bytes of `fs_type` in use.
    pub fs_type_len: u16,
    /// Zero.
    pub reserved: u16,
    /// Source, from-path or new root.
    pub source: [u8; PATH_LEN],
    /// Target, to-path or put-old.
    pub target: [u8; PATH_LEN],
    /// Type of file system.
    pub fs_type: [u8; PATH_LEN],
}
