//! What a teardown waits for: the threads of a stall's snapshot, each with what holds it.
//!
//! The launcher's live line, the timeline and the diagnoses all go by this, so that they agree.

mod words;

use crate::event::{FileSystem, Frozen, Other, Snapshot, StallState, ThreadState};

pub use words::{line, reason, remedy, report, standing};

/// What holds a thread back from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause<'a> {
    /// Its cgroup is frozen, and the freezer is one that holds even SIGKILL (v1).
    Frozen(&'a Frozen),
    /// Its tracer is told of its end and doesn't let it go on (`PTRACE_EVENT_EXIT` of ptrace(2)).
    ExitStop(Option<&'a Other>),
    /// It writes a core dump; the file system that takes it, if that is what it waits for.
    CoreDump(Option<&'a FileSystem>),
    /// A FUSE daemon doesn't answer.
    Fuse(Option<&'a FileSystem>),
    /// A file server doesn't answer.
    Server(Option<&'a FileSystem>),
    /// A disk or what lies below it doesn't answer.
    Block,
    /// A driver doesn't come to an end: the kernel module.
    Driver(&'a str),
    /// It waits for the other threads of its process, so that execve(2) can go on.
    ExecDethread,
    /// It is PID 1 of a PID namespace, and waits for all others of it to be gone.
    PidNamespace,
    /// It is dead, and whoever must reap it is outside of the jail and doesn't.
    NotReaped(&'a Other),
    /// It gives its memory back.
    ExitMmap,
    /// It was put into the jail's cgroup from outside, so PID 1's end is not its own.
    Straggler,
    /// It waits uninterruptibly for something else.
    Uninterruptible,
    /// Nothing is known to hold it.
    Unknown,
}

impl Cause<'_> {
    /// How much it explains: the least is what everything waits for.
    fn rank(&self) -> u8 {
        match self {
            Self::Frozen(_) => 0,
            Self::ExitStop(_) => 1,
            Self::CoreDump(_) => 2,
            Self::Fuse(_) | Self::Server(_) | Self::Block => 3,
            Self::Driver(_) => 4,
            Self::NotReaped(_) => 5,
            Self::ExitMmap => 6,
            Self::ExecDethread => 7,
            Self::Uninterruptible => 8,
            Self::Straggler => 9,
            Self::Unknown => 10,
            Self::PidNamespace => 11,
        }
    }
}

/// A thread that is still there, and why.
#[derive(Clone, Copy, Debug)]
pub struct Hold<'a> {
    /// The thread.
    pub thread: &'a ThreadState,
    /// What holds it.
    pub cause: Cause<'a>,
}

/// The threads that the teardown waits for, those that explain it best first.
pub fn holds(snapshot: &Snapshot) -> Vec<Hold<'_>> {
    let mut found: Vec<Hold<'_>> = snapshot
        .threads
        .iter()
        .filter_map(|thread| {
            let cause = cause(thread)?;
            Some(Hold { thread, cause })
        })
        .collect();
    found.sort_by_key(|hold| hold.cause.rank());
    found
}

/// What holds a thread; none for one that is gone but for its name.
pub fn cause(thread: &ThreadState) -> Option<Cause<'_>> {
    static NOTHING: StallState = StallState {
        in_cgroup: false,
        in_pid_namespace: false,
        namespace_pids: Vec::new(),
        exiting: false,
        parent: None,
        tracer: None,
        rss_bytes: 0,
        frozen: None,
        file_system: None,
        modules: Vec::new(),
        holds_output: false,
    };
    let stall = thread.stall.as_ref().unwrap_or(&NOTHING);
    if matches!(thread.state.as_str(), "Z" | "X") {
        return dead(thread, stall);
    }
    if has(thread, &["zap_pid_ns_processes"]) {
        return Some(Cause::PidNamespace);
    }
    if let Some(frozen) = held_by_freezer(thread, stall) {
        return Some(Cause::Frozen(frozen));
    }
    if thread.tracer_pid != 0
        && has(thread, &["ptrace_stop"])
        && (stall.exiting || has(thread, &["do_exit", "ptrace_event"]))
    {
        return Some(Cause::ExitStop(stall.tracer.as_ref()));
    }
    if has(thread, &["coredump_task_exit"]) {
        // It waits for the thread that dumps.
        return None;
    }
    let file_system = stall.file_system.as_ref();
    if has(thread, &["do_coredump", "vfs_coredump"]) {
        return Some(Cause::CoreDump(file_system));
    }
    if has(thread, FUSE) {
        return Some(Cause::Fuse(file_system));
    }
    if has_prefix(thread, SERVERS) {
        return Some(Cause::Server(file_system));
    }
    if has(thread, &["exit_mmap", "unmap_vmas", "free_pgtables"]) {
        return Some(Cause::ExitMmap);
    }
    // Mostly a part of its only caller.
    let innermost = thread.stack.first().map(String::as_str);
    if has(thread, &["de_thread"]) || innermost == Some("begin_new_exec") {
        return Some(Cause::ExecDethread);
    }
    if thread.state == "D" {
        return Some(
            match stall.modules.iter().find(|module| is_driver(module)) {
                _ if has_prefix(thread, BLOCK) => Cause::Block,
                Some(module) => Cause::Driver(module),
                None => Cause::Uninterruptible,
            },
        );
    }
    if is_straggler(stall) {
        return Some(Cause::Straggler);
    }
    Some(Cause::Unknown)
}

/// A zombie is in the way only if nobody in the jail can reap it.
fn dead<'a>(thread: &'a ThreadState, stall: &'a StallState) -> Option<Cause<'a>> {
    let outside = |other: &&Other| !other.in_pid_namespace;
    // Threads go by themselves, but for those whose tracer must hear of it.
    if thread.task.tid != thread.task.pid {
        return stall.tracer.as_ref().filter(outside).map(Cause::NotReaped);
    }
    // A main thread that left others behind.
    if thread.threads > 1 {
        return None;
    }
    // The tracer reaps before the parent can.
    let owner = stall.tracer.as_ref().or(stall.parent.as_ref());
    let is_pid_1 = stall.namespace_pids.get(JAIL_LEVEL) == Some(&1)
        && stall.namespace_pids.len() == JAIL_LEVEL + 1;
    // Of PID 1 the launcher is the parent.
    if is_pid_1 && stall.tracer.is_none() {
        return None;
    }
    owner.filter(outside).map(Cause::NotReaped)
}

/// The host's namespace, the guard's, the jail's.
const JAIL_LEVEL: usize = 2;

/// The v1 freezer holds whatever the task was doing; that of v2 lets SIGKILL pass.
fn held_by_freezer<'a>(thread: &ThreadState, stall: &'a StallState) -> Option<&'a Frozen> {
    let frozen = stall.frozen.as_ref()?;
    let v1 = frozen.value == "THAWED";
    let waits = thread.state == "D" || has(thread, &["__refrigerator"]);
    ((v1 && waits) || has(thread, &["do_freezer_trap"])).then_some(frozen)
}

/// It is in the jail's cgroup without being in its PID namespace.
pub fn is_straggler(stall: &StallState) -> bool {
    stall.in_cgroup && !stall.in_pid_namespace
}

/// It is PID 1 of a namespace nested in the jail's.
pub fn is_nested_init(stall: &StallState) -> bool {
    stall.namespace_pids.len() > JAIL_LEVEL + 1 && stall.namespace_pids.last() == Some(&1)
}

fn has(thread: &ThreadState, functions: &[&str]) -> bool {
    functions.contains(&thread.wait_channel.as_str())
        || thread
            .stack
            .iter()
            .any(|frame| functions.contains(&frame.as_str()))
}

fn has_prefix(thread: &ThreadState, prefixes: &[&str]) -> bool {
    let starts = |frame: &str| prefixes.iter().any(|prefix| frame.starts_with(prefix));
    starts(&thread.wait_channel) || thread.stack.iter().any(|frame| starts(frame))
}

/// Where a request to a FUSE daemon waits (fs/fuse/dev.c).
pub(crate) const FUSE: &[&str] = &[
    "request_wait_answer",
    "__fuse_request_send",
    "__fuse_simple_request",
    "fuse_simple_request",
    "fuse_wait_on_page_writeback",
    "fuse_set_nowrite",
    "fuse_sync_writes",
];

/// Whether a task that waits there waits for the answer of a FUSE daemon or a file server.
pub fn is_wait_for_answer(place: &str) -> bool {
    is_fuse_wait(place) || SERVERS.iter().any(|prefix| place.starts_with(prefix))
}

/// Whether it is a FUSE daemon's.
pub fn is_fuse_wait(place: &str) -> bool {
    FUSE.contains(&place)
}

/// Clients of file servers: NFS and its RPC, SMB, Ceph, 9P.
pub(crate) const SERVERS: &[&str] = &[
    "nfs_",
    "nfs3_",
    "nfs4_",
    "rpc_wait",
    "__rpc_",
    "cifs_",
    "smb2_",
    "ceph_",
    "p9_client",
    "v9fs_",
];

/// The block layer, and what file systems wait for it with.
const BLOCK: &[&str] = &[
    "io_schedule",
    "blk_",
    "submit_bio_wait",
    "bio_wait",
    "jbd2_",
    "xfs_buf_",
    "xlog_",
    "nbd_",
    "folio_wait_",
    "wait_on_page_",
    "__wait_on_buffer",
];

/// A module that drives a device, not a file system or a network protocol.
fn is_driver(module: &str) -> bool {
    !matches!(
        module,
        "fuse"
            | "nfs"
            | "nfsv4"
            | "nfsv3"
            | "sunrpc"
            | "cifs"
            | "overlay"
            | "ext4"
            | "xfs"
            | "btrfs"
    )
}

#[cfg(test)]
pub(crate) mod tests;
