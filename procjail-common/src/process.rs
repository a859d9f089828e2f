//! Fork, exec, exit, wait and release of processes.

use crate::{Header, PATH_LEN, Task};

/// Most bytes of argument strings that an [`Exec`] record carries.
pub const ARGV_LEN: usize = 4096;

/// What a task does with signals 1 to 31: bit 0 stands for signal 1.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignalSets {
    /// Signals that it blocks.
    pub blocked: u32,
    /// Signals that its process ignores: SIG_IGN.
    pub ignored: u32,
    /// Signals that its process has handlers for.
    pub caught: u32,
    /// 1 if the sets are known.
    pub known: u32,
}

/// `sched_process_fork`: `header.task` made `child`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fork {
    /// Common part; the task is the parent.
    pub header: Header,
    /// The new task. A thread when `pid` differs from `tid`.
    pub child: Task,
    /// What it begins with.
    pub signals: SignalSets,
}

/// `sched_process_exec`: the program of `header.task` was replaced.
///
/// Followed in the record by `filename_len` bytes of the file's name and then `argv_len` bytes of
/// argument strings, each ended by a NUL.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exec {
    /// Common part; `comm` is the new one.
    pub header: Header,
    /// Thread ID of the thread that called execve; it takes over the leader's.
    pub old_tid: u32,
    /// Length of the file's name that follows, without a NUL.
    pub filename_len: u32,
    /// Length of the argument strings that follow.
    pub argv_len: u32,
    /// Zero.
    pub reserved: u32,
    /// Length of all argument strings of the process; more than `argv_len` when they were cut.
    pub argv_total_len: u64,
    /// What the new program begins with.
    pub signals: SignalSets,
}

/// A failed `execve` or `execveat`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecFailed {
    /// Common part.
    pub header: Header,
    /// Positive error number.
    pub errno: i32,
    /// Non-zero for `execveat`.
    pub at: u32,
    /// Bytes of `filename` in use.
    pub filename_len: u32,
    /// Zero.
    pub reserved: u32,
    /// The path that was asked for.
    pub filename: [u8; PATH_LEN],
}

/// `sched_process_exit`: a thread of `header.task` ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Common part.
    pub header: Header,
    /// The process that will be told (`real_parent`), at that instant.
    pub parent: Task,
    /// Who traces it (ptrace(2)) at that instant; zeros for nobody.
    pub tracer: Task,
    /// `task_struct.exit_code` of this thread: `code << 8`, or the signal, with 0x80 for a core dump.
    pub exit_code: i32,
    /// `signal_struct.group_exit_code`.
    pub group_exit_code: i32,
    /// `task_struct.exit_code` of the thread group leader.
    pub leader_exit_code: i32,
    /// `signal_struct.flags`.
    pub signal_flags: u32,
    /// 1 when this was the last thread of the process.
    pub group_dead: u32,
    /// The system call that this thread was in, as numbered on its architecture; [`u32::MAX`] if that
    /// can't be told.
    pub syscall: u32,
    /// That call's first argument.
    pub argument: i32,
    /// What another thread of the process called exit_group(2) with.
    pub group_argument: i32,
    /// Non-zero if one did.
    pub has_group_argument: u32,
    /// The process group, by the initial PID namespace; 0 where the kernel's field isn't known.
    pub process_group: u32,
    /// The session, likewise.
    pub session: u32,
    /// Zero.
    pub reserved: u32,
    /// `signal_struct.maxrss` in bytes, or 0 where the kernel has not summed it up yet.
    pub max_rss_bytes: u64,
    /// CPU time of this thread in user mode, nanoseconds.
    pub utime_ns: u64,
    /// CPU time of this thread in the kernel, nanoseconds.
    pub stime_ns: u64,
}

/// A `wait4` or `waitid` that returned a child.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reap {
    /// Common part; the task is the reaper.
    pub header: Header,
    /// The child, as numbered in the reaper's own PID namespace.
    pub ns_pid: u32,
    /// Non-zero for `waitid`.
    pub waitid: u32,
    /// The call's `options`.
    pub options: u32,
    /// Zero.
    pub reserved: u32,
}

/// `sched_process_wait`: `header.task` started to wait for a child.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Common part; the task is the waiter.
    pub header: Header,
    /// The child waited for in the waiter's namespace, or 0 for any.
    pub ns_pid: u32,
    /// Zero.
    pub reserved: u32,
}

/// `sched_process_free`: the last reference to a process is gone, so it was reaped before.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Free {
    /// Common part; the task is whoever happened to run, unrelated.
    pub header: Header,
    /// The process that is gone.
    pub process: Task,
}
