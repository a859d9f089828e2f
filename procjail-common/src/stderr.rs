//! What a process wrote last to its standard error.

use crate::Header;

/// Most bytes that are kept of a process; a power of two.
pub const STDERR_TAIL_LEN: usize = 1024;

/// Most bytes that are kept of the beginning of what it wrote without a pause; a power of two.
pub const STDERR_HEAD_LEN: usize = 512;

/// The process of the header ended with a status other than 0, and this is what it wrote to descriptor 2,
/// or to 1 while that was the same open file.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StderrTail {
    /// Common part.
    pub header: Header,
    /// How many bytes it wrote in all. The next one would go to this number modulo [`STDERR_TAIL_LEN`].
    pub written: u64,
    /// When it wrote last: CLOCK_BOOTTIME, nanoseconds.
    pub last_ns: u64,
    /// How many it had written when it began to write without a pause.
    pub begun: u64,
    /// The first that it wrote from there on.
    pub head: [u8; STDERR_HEAD_LEN],
    /// The last of all, in a ring.
    pub bytes: [u8; STDERR_TAIL_LEN],
}
