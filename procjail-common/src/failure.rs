//! The last system calls that failed in a process.

use crate::Header;

/// Calls that a [`FailedCalls`] record carries. The C library looks for some ten files (translations)
/// between the one that matters and the message about it.
pub const FAILED_CALLS: usize = 16;

/// Longest path, in bytes with the final NUL, that a [`FailedCall`] carries. Longer ones are cut there.
pub const FAILED_PATH_LEN: usize = 192;

/// Longest name, in bytes with the final NUL, of the directory of such a file.
pub const FAILED_DIRECTORY_LEN: usize = 128;

/// [`FailedCall::path_len`] of a call that has no path.
pub const NO_PATH: u32 = u32::MAX;

/// A system call that returned an error.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailedCall {
    /// When it returned: CLOCK_BOOTTIME, nanoseconds.
    pub time_ns: u64,
    /// Number of the call on its architecture.
    pub number: u32,
    /// Positive error number.
    pub errno: i32,
    /// Thread ID in the initial PID namespace.
    pub tid: u32,
    /// Bytes of `path` in use; [`NO_PATH`] if the call has none.
    pub path_len: u32,
    /// Its first arguments.
    pub args: [u64; 4],
    /// The path it was given; of a write that failed with EBUSY the file's directory and name.
    pub path: [u8; FAILED_PATH_LEN],
    /// `time_ns` once more. Where it is another, two threads wrote at the same time.
    pub time_again_ns: u64,
}

/// The process of the header ended with a status other than 0; these calls failed before.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailedCalls {
    /// Common part.
    pub header: Header,
    /// Process ID in the initial PID namespace.
    pub pid: u32,
    /// How many calls failed in all. The last is at this number less one, modulo [`FAILED_CALLS`].
    pub count: u32,
    /// The calls.
    pub calls: [FailedCall; FAILED_CALLS],
}
