//! Who signals the jail from outside.

use crate::Header;

/// Names of a [`Sender`]'s program and the directories above it; a mount point takes two.
pub const SENDER_EXE_NAMES: usize = 16;

/// Names of its cgroups.
pub const SENDER_CGROUP_NAMES: usize = 10;

/// Longest file name, in bytes with the final NUL; longer ones are cut there.
pub const SENDER_NAME_LEN: usize = 128;

/// Most bytes of argument strings that a [`Sender`] carries.
pub const SENDER_ARGV_LEN: usize = 512;

/// Ancestors that a [`Sender`] carries.
pub const SENDER_PARENTS: usize = 8;

/// Bits of [`Sender::flags`].
pub mod sender_flags {
    /// The names in `exe` lead to the root: there are no more above.
    pub const EXE_WHOLE: u32 = 1;
    /// The same for `cgroup`.
    pub const CGROUP_WHOLE: u32 = 2;
}

/// The task of the header, outside the jail, has just signalled one inside for the first time.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Common part; the task is the sender.
    pub header: Header,
    /// Effective user ID in the initial user namespace.
    pub uid: u32,
    /// [`sender_flags`].
    pub flags: u32,
    /// Bytes of `argv` in use.
    pub argv_len: u32,
    /// Length of all its argument strings, or [`u32::MAX`] if that is less; more than `argv_len` when
    /// they were cut.
    pub argv_total_len: u32,
    /// Process IDs of its ancestors, its parent first; 0 where there is none.
    pub parent_pids: [u32; SENDER_PARENTS],
    /// Their names, NUL-padded.
    pub parent_comms: [[u8; 16]; SENDER_PARENTS],
    /// Name of its terminal, NUL-padded; empty for none.
    pub tty: [u8; 32],
    /// File names from its program's upwards, each ended by a NUL; empty ones don't count.
    pub exe: [[u8; SENDER_NAME_LEN]; SENDER_EXE_NAMES],
    /// Names of its cgroups on the default hierarchy from its own upwards, likewise.
    pub cgroup: [[u8; SENDER_NAME_LEN]; SENDER_CGROUP_NAMES],
    /// Argument strings, each ended by a NUL.
    pub argv: [u8; SENDER_ARGV_LEN],
}
