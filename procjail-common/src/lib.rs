//! The records that cross from procjail's BPF programs to user space, and nothing else.
//!
//! Every type here is `repr(C)`, made of integers and byte arrays only, and has no padding: its size
//! is asserted at compile time, so that both sides of the boundary agree on every byte whatever
//! compiler built them. A record starts with a [`Header`], whose `kind` says which type follows.
#![no_std]

mod cgroup;
mod config;
mod failure;
mod limit;
mod mount;
mod oom;
mod process;
mod sender;
mod signal;
mod stderr;
mod task;

pub use cgroup::*;
pub use config::*;
pub use failure::*;
pub use limit::*;
pub use mount::*;
pub use oom::*;
pub use process::*;
pub use sender::*;
pub use signal::*;
pub use stderr::*;
pub use task::*;

/// Kinds of record, the values of [`Header::kind`]. Loss is counted per kind.
pub mod kind {
    /// [`Fork`](crate::Fork).
    pub const FORK: u32 = 0;
    /// [`Exec`](crate::Exec).
    pub const EXEC: u32 = 1;
    /// [`ExecFailed`](crate::ExecFailed).
    pub const EXEC_FAILED: u32 = 2;
    /// [`Exit`](crate::Exit).
    pub const EXIT: u32 = 3;
    /// [`Reap`](crate::Reap).
    pub const REAP: u32 = 4;
    /// [`Free`](crate::Free).
    pub const FREE: u32 = 5;
    /// [`SignalGenerated`](crate::SignalGenerated).
    pub const SIGNAL_GENERATED: u32 = 6;
    /// [`SignalDelivered`](crate::SignalDelivered).
    pub const SIGNAL_DELIVERED: u32 = 7;
    /// [`OomKill`](crate::OomKill).
    pub const OOM_KILL: u32 = 8;
    /// [`OomReap`](crate::OomReap).
    pub const OOM_REAP: u32 = 9;
    /// [`Mount`](crate::Mount).
    pub const MOUNT: u32 = 10;
    /// [`Cgroup`](crate::Cgroup).
    pub const CGROUP: u32 = 11;
    /// [`Wait`](crate::Wait).
    pub const WAIT: u32 = 12;
    /// [`Sender`](crate::Sender).
    pub const SENDER: u32 = 13;
    /// [`FailedCalls`](crate::FailedCalls).
    pub const FAILED_CALLS: u32 = 14;
    /// [`StderrTail`](crate::StderrTail).
    pub const STDERR_TAIL: u32 = 15;
    /// [`LimitChanged`](crate::LimitChanged).
    pub const LIMIT_CHANGED: u32 = 16;
    /// How many kinds there are.
    pub const COUNT: u32 = 17;
}

/// What every record begins with.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// One of [`kind`].
    pub kind: u32,
    /// The processor that the record was made on.
    pub cpu: u32,
    /// CLOCK_BOOTTIME in nanoseconds.
    pub time_ns: u64,
    /// The task that was running (`current`), in whose context the hook fired.
    pub task: Task,
}

/// Size of what every record begins with.
const HEADER: usize = 16 + TASK;

/// Size of a [`Task`].
const TASK: usize = 56;

const _: () = assert!(size_of::<Header>() == HEADER);

/// Copies a record out of `bytes`, which need not be aligned.
///
/// Returns `None` when `bytes` is shorter than the record.
pub fn read_record<T: Record>(bytes: &[u8]) -> Option<T> {
    if bytes.len() < size_of::<T>() {
        return None;
    }
    // SAFETY: the length was checked, the copy does not need alignment, and every bit pattern is a
    // valid `T` because `Record` is only implemented for padding-free structs of integers.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// A type that may be copied from the bytes of the ring buffer.
///
/// # Safety
///
/// The type is `repr(C)`, has no padding, and any bit pattern is a valid value of it.
pub unsafe trait Record: Copy {}

macro_rules! records {
    ($($name:ident = $size:expr),+ $(,)?) => {
        $(
            const _: () = assert!(size_of::<$name>() == $size);
            // SAFETY: `repr(C)`, integers only, and the size equals the sum of the fields' sizes.
            unsafe impl Record for $name {}
        )+
    };
}

records! {
    Header = HEADER,
    SignalSets = 16,
    Fork = HEADER + TASK + 16,
    Exec = HEADER + 40,
    ExecFailed = HEADER + 16 + PATH_LEN,
    Exit = HEADER + 2 * TASK + 72,
    Reap = HEADER + 16,
    Wait = HEADER + 8,
    Free = HEADER + TASK,
    SignalGenerated = HEADER + TASK + 96,
    SignalDelivered = HEADER + 32,
    Sender = HEADER + 16 + 20 * SENDER_PARENTS + 32
        + SENDER_NAME_LEN * (SENDER_EXE_NAMES + SENDER_CGROUP_NAMES) + SENDER_ARGV_LEN,
    UserFrame = 32,
    OomKill = HEADER + TASK + 80 + 8 * KERNEL_FRAMES + USER_FRAMES * size_of::<UserFrame>()
        + MEMCG_LEVELS * size_of::<MemcgLevel>(),
    FailedCall = 112 + FAILED_PATH_LEN,
    FailedCalls = HEADER + 8,
    StderrTail = HEADER + 24 + STDERR_HEAD_LEN + STDERR_TAIL_LEN,
    LimitChanged = HEADER + 24,
    OomReap = HEADER + 8,
    Mount = HEADER + 72 + 3 * PATH_LEN,
    Cgroup = HEADER + TASK + 16 + PATH_LEN,
}
