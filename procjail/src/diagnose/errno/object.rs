//! What an error means where the object of the call decides, or its flags do.

use super::table::row;
use super::{Meaning, Refusal};
use crate::event::FailedCall;

/// Calls that make a file, which takes an inode.
const MAKE: &[&str] = &[
    "creat",
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "symlink",
    "symlinkat",
];

/// Calls that make a file if their flags say so.
const OPEN: &[&str] = &["open", "openat", "openat2"];

/// Flags of open(2) with which it may make a file.
const MAKING: i32 = libc::O_CREAT | (libc::O_TMPFILE & !libc::O_DIRECTORY);

/// The flags of an open; those of openat2(2) lie in memory and are not kept.
pub(super) fn open_flags(call: &FailedCall) -> Option<i32> {
    let at = match call.syscall.name.as_str() {
        "open" => 1,
        "openat" => 2,
        _ => return None,
    };
    call.args.get(at).map(|flags| *flags as i32)
}

/// It asked for huge pages, which programs try first and do without.
pub(super) fn is_huge(call: &FailedCall) -> bool {
    let (at, flag) = match call.syscall.name.as_str() {
        "mmap" => (3, libc::MAP_HUGETLB),
        "shmget" => (2, libc::SHM_HUGETLB),
        _ => return false,
    };
    call.args
        .get(at)
        .is_some_and(|flags| *flags as i32 & flag != 0)
}

static HUGE_PAGES: Meaning = row(
    &[],
    libc::ENOMEM,
    Refusal::Kernel,
    "too few huge pages were free (vm.nr_hugepages); ordinary memory has nothing to do with it",
    "Reserve huge pages (vm.nr_hugepages), or have the program do without them.",
);

static OPENED: Meaning = row(
    &[],
    libc::ENOSPC,
    Refusal::Other,
    "",
    "Look at df -h and df -i for that path; of a device, ENOSPC is the driver's own word.",
);

static CPUSET: Meaning = row(
    &[],
    libc::ENOSPC,
    Refusal::Other,
    "the cgroup takes no processes: its cpuset has no CPUs or no memory nodes; no file system is full",
    "Write cpuset.cpus and cpuset.mems of that cgroup first.",
);

static DEV_FULL: Meaning = row(
    &[],
    libc::ENOSPC,
    Refusal::Other,
    "/dev/full is a device that refuses every write so; no file system is full",
    "Write to another file.",
);

static INODES: Meaning = row(
    &[],
    libc::ENOSPC,
    Refusal::Space,
    "the file system had no inode or no block left for a new file",
    "Look at df -i first, then at df -h, and remove files or give it more.",
);

static SOCKET_FILE: Meaning = row(
    &[],
    libc::EADDRINUSE,
    Refusal::Other,
    "a file of that name exists, possibly of a socket that nobody uses any more",
    "Remove the file if no process listens there (ss -lxp), or use another path.",
);

/// What an error means where the object of the call decides.
pub(super) fn special(call: &FailedCall) -> Option<&'static Meaning> {
    let path = call.path.as_deref().unwrap_or_default();
    let name = path.rsplit('/').next().unwrap_or(path);
    let joins = name == "cgroup.procs"
        || name == "cgroup.threads"
        || (name == "tasks" && path.contains("/cgroup"));
    let file = |address: &str| address.starts_with("unix:/");
    let called = call.syscall.name.as_str();
    match call.error.number {
        libc::ENOMEM if is_huge(call) => Some(&HUGE_PAGES),
        libc::ENOSPC if joins => Some(&CPUSET),
        libc::ENOSPC if path == "/dev/full" => Some(&DEV_FULL),
        libc::ENOSPC if MAKE.contains(&called) => Some(&INODES),
        libc::ENOSPC if OPEN.contains(&called) => Some(match open_flags(call) {
            Some(flags) if flags & MAKING != 0 => &INODES,
            _ => &OPENED,
        }),
        libc::EADDRINUSE if call.address.as_deref().is_some_and(file) => Some(&SOCKET_FILE),
        _ => None,
    }
}
