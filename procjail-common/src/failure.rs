//! The last system calls that failed in a process.

use crate::Header;

/// Calls that are kept of each process, of weighty errors and of others. The C library looks for some ten
/// files (translations) between the one that matters and the message about it.
pub const FAILED_CALLS: usize = 16;

/// Longest path, in bytes with the final NUL, that a [`FailedCall`] carries. Longer ones are cut there.
pub const FAILED_PATH_LEN: usize = 192;

/// Longest name, in bytes with the final NUL, of the directory of such a file.
pub const FAILED_DIRECTORY_LEN: usize = 128;

/// Most bytes of a socket address: `sizeof(struct sockaddr_storage)`.
pub const ADDRESS_LEN: usize = 128;

/// [`FailedCall::number`] of a call by a 32-bit program, which numbers calls otherwise.
pub const UNKNOWN_CALL: u32 = u32::MAX;

/// [`FailedCall::resource`] of a call that no resource limit was read for.
pub const NO_RESOURCE: u32 = u32::MAX;

/// Values of [`FailedCall::text_kind`].
pub mod failed_text {
    /// There is none.
    pub const NONE: u32 = 0;
    /// The path that the call was given.
    pub const PATH: u32 = 1;
    /// The directory's and the file's name of the descriptor that the call was given.
    pub const FILE: u32 = 2;
    /// A `struct sockaddr`.
    pub const ADDRESS: u32 = 3;
}

/// Error numbers that are seldom ordinary answers: something is full, forbidden, broken or not there that
/// a program counts on. They are kept apart, so that lookups in vain don't push them out.
const WEIGHTY: &[u32] = &[
    1,   // EPERM
    5,   // EIO
    11,  // EAGAIN, which is kept of few calls only
    12,  // ENOMEM
    13,  // EACCES
    16,  // EBUSY
    23,  // ENFILE
    24,  // EMFILE
    26,  // ETXTBSY
    27,  // EFBIG
    28,  // ENOSPC
    30,  // EROFS
    32,  // EPIPE
    37,  // ENOLCK
    87,  // EUSERS
    98,  // EADDRINUSE
    99,  // EADDRNOTAVAIL
    100, // ENETDOWN
    101, // ENETUNREACH
    104, // ECONNRESET
    105, // ENOBUFS
    110, // ETIMEDOUT
    111, // ECONNREFUSED
    113, // EHOSTUNREACH
    116, // ESTALE
    122, // EDQUOT
];

/// The bits of [`WEIGHTY`] from `first` on.
const fn mask(first: u32) -> u64 {
    let mut mask = 0;
    let mut index = 0;
    while index < WEIGHTY.len() {
        if WEIGHTY[index] >= first && WEIGHTY[index] < first + 64 {
            mask |= 1 << (WEIGHTY[index] - first);
        }
        index += 1;
    }
    mask
}

/// Whether an error number is one of those that are kept apart, and told whatever became of the process.
#[inline(always)]
pub const fn is_weighty(errno: u32) -> bool {
    let mask = if errno < 64 {
        const { mask(0) }
    } else {
        const { mask(64) }
    };
    errno < 128 && mask >> (errno & 63) & 1 != 0
}

/// A system call that returned an error.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailedCall {
    /// When it returned: CLOCK_BOOTTIME, nanoseconds.
    pub time_ns: u64,
    /// Number of the call on its architecture, or [`UNKNOWN_CALL`].
    pub number: u32,
    /// Positive error number.
    pub errno: i32,
    /// Thread ID in the initial PID namespace.
    pub tid: u32,
    /// What `text` is: one of [`failed_text`].
    pub text_kind: u32,
    /// Bytes of `text` in use.
    pub text_len: u32,
    /// The resource limit (`RLIMIT_*`) that `used` and `limit` are about, or [`NO_RESOURCE`].
    pub resource: u32,
    /// How often it had failed in the same way just before.
    pub repeats: u32,
    /// Zero.
    pub reserved: u32,
    /// How much of the resource the process used, or [`u64::MAX`] if that isn't known.
    pub used: u64,
    /// The process's soft limit; [`u64::MAX`] for none.
    pub limit: u64,
    /// Its first arguments.
    pub args: [u64; 4],
    /// Type of the file system of a descriptor's file, NUL-padded.
    pub fs_type: [u8; 16],
    /// What the error was about.
    pub text: [u8; FAILED_PATH_LEN],
    /// `time_ns` once more. Where it is another, two threads wrote at the same time.
    pub time_again_ns: u64,
}

/// The process of the header ended, and these calls had failed before.
///
/// Followed in the record by [`FAILED_CALLS`] calls if one of the numbers is not 0, and as many again if both
/// are not: the rings of ordinary and of weighty errors. The call that failed last in a ring is at the number
/// less one, modulo [`FAILED_CALLS`]; those from the number on are none.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailedCalls {
    /// Common part.
    pub header: Header,
    /// How many calls failed with an ordinary error.
    pub ordinary: u32,
    /// How many failed with a weighty one.
    pub weighty: u32,
}
