//! How much a failed call says about an end.

use super::object::{is_huge, open_flags};
use super::{FORKS, meaning};
use crate::event::FailedCall;

/// How much a failed call says about an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Programs live with it: probes at start-up, searches, things that are optional.
    Routine,
    /// Something was not there or not allowed. Often optional.
    Light,
    /// Seldom survived.
    Heavy,
}

/// Errors with which calls answer a question, or ask to be called again.
const ANSWERS: &[i32] = &[
    libc::EINTR,
    libc::EINPROGRESS,
    libc::EALREADY,
    libc::EISCONN,
    libc::ENOTTY,
    libc::ECHILD,
    libc::ESRCH,
    libc::ESPIPE,
    libc::EINVAL,
    libc::EBADF,
    libc::ENOSYS,
    libc::EOPNOTSUPP,
    libc::ENOPROTOOPT,
    libc::ENODATA,
    libc::ENXIO,
    libc::ERANGE,
    libc::EFAULT,
    libc::EEXIST,
];

/// Calls whose errors programs shrug off, whatever they are.
const PROBES: &[&str] = &[
    "access",
    "faccessat",
    "faccessat2",
    "readlink",
    "readlinkat",
    "prctl",
    "arch_prctl",
    "rseq",
    "getxattr",
    "lgetxattr",
    "fgetxattr",
    "listxattr",
    "llistxattr",
    "flistxattr",
    "setxattr",
    "lsetxattr",
    "fsetxattr",
    "ioctl",
    "fcntl",
    "sched_setaffinity",
    "sched_getaffinity",
    "sched_setscheduler",
    "sched_setattr",
    "sched_setparam",
    "setpriority",
    "ioprio_set",
    "perf_event_open",
    "set_mempolicy",
    "get_mempolicy",
    "mbind",
    "move_pages",
    "membarrier",
    "madvise",
    "fadvise64",
    "syslog",
    "getpeername",
    "getsockname",
    "getsockopt",
    "setsockopt",
    "shutdown",
    "uselib",
    "keyctl",
    "userfaultfd",
    "io_uring_setup",
    "statfs",
    "fstatfs",
    "lseek",
    "pkey_alloc",
    "close",
    "close_range",
    "capget",
    "landlock_create_ruleset",
    "rt_sigaction",
    "sigaltstack",
    "wait4",
    "waitid",
    "pidfd_open",
    "utimensat",
];

/// Calls that only look.
const LOOKS: &[&str] = &[
    "stat",
    "lstat",
    "newfstatat",
    "statx",
    "unlink",
    "unlinkat",
    "rmdir",
];

/// How much the failed call says about an end that came soon after it.
pub fn weight(call: &FailedCall) -> Weight {
    let name = call.syscall.name.as_str();
    let error = call.error.number;
    let made_process = FORKS.contains(&name);
    if error == libc::EAGAIN && !made_process && meaning(call).is_none() {
        return Weight::Routine;
    }
    let absent = matches!(
        error,
        libc::ENOENT | libc::ENOTDIR | libc::EACCES | libc::EPERM | libc::ENXIO
    );
    if PROBES.contains(&name) || absent && call.path.as_deref().is_some_and(is_looked_for) {
        return Weight::Routine;
    }
    match error {
        libc::ENOMEM if is_huge(call) => Weight::Light,
        libc::EINVAL if matches!(name, "mount" | "bind" | "setns" | "unshare" | "shmget") => {
            Weight::Heavy
        }
        libc::ENOTCONN | libc::ETIMEDOUT | libc::ECONNREFUSED if meaning(call).is_none() => {
            Weight::Routine
        }
        error if ANSWERS.contains(&error) => Weight::Routine,
        libc::ENOENT | libc::ENOTDIR if LOOKS.contains(&name) => Weight::Routine,
        libc::ENOENT
        | libc::ENOTDIR
        | libc::EISDIR
        | libc::ENOTEMPTY
        | libc::EXDEV
        | libc::EPIPE => Weight::Light,
        // What a program may read or own is often optional, and some calls for rights are probes.
        libc::EACCES | libc::EPERM if LOOKS.contains(&name) => Weight::Routine,
        libc::EACCES | libc::EPERM if is_read(call) || is_attribute(name) => Weight::Light,
        // The C library asks for a route to each address of a name, of IPv6 too (RFC 6724).
        libc::ENETUNREACH | libc::EADDRNOTAVAIL if name == "connect" && is_ipv6(call) => {
            Weight::Routine
        }
        libc::EAFNOSUPPORT => Weight::Light,
        _ => Weight::Heavy,
    }
}

/// It opens a file for reading alone.
fn is_read(call: &FailedCall) -> bool {
    open_flags(call)
        .is_some_and(|flags| flags & (libc::O_ACCMODE | libc::O_CREAT) == libc::O_RDONLY)
        || call.syscall.name == "openat2"
}

/// It changes what a file is said to be, as tar(1) and cp(1) try.
fn is_attribute(name: &str) -> bool {
    matches!(
        name,
        "chown"
            | "fchown"
            | "lchown"
            | "fchownat"
            | "chmod"
            | "fchmod"
            | "fchmodat"
            | "fchmodat2"
            | "kill"
    ) || matches!(
        name,
        "setrlimit"
            | "prlimit64"
            | "setgroups"
            | "setuid"
            | "setgid"
            | "setreuid"
            | "setregid"
            | "setresuid"
            | "setresgid"
    )
}

fn is_ipv6(call: &FailedCall) -> bool {
    call.address
        .as_deref()
        .is_none_or(|address| address.starts_with('['))
}

/// What the C library, its loader and runtimes look for in every program, and mostly don't find.
fn is_looked_for(path: &str) -> bool {
    const STARTS: &[&str] = &[
        "/etc/ld.so.",
        "/usr/lib/locale/",
        "/usr/share/locale/",
        "/run/nscd/",
        "/var/run/nscd/",
        "/dev/tty",
    ];
    const PARTS: &[&str] = &["/glibc-hwcaps/", "/.java_pid", "/hsperfdata_", "/.hotspot"];
    STARTS.iter().any(|start| path.starts_with(start))
        || PARTS.iter().any(|part| path.contains(part))
}
