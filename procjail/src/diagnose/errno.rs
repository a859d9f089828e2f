//! What a failed system call says: how much it weighs, what refused it, and what to do about it.
//!
//! An error number alone says little: ENOSPC is a full file system for write(2), and a limit of the kernel for
//! inotify_add_watch(2). One table goes by call and error; numbers are from the ERRORS sections of the calls'
//! manual pages.

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

/// What kind of thing refused a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A full file system, or a quota on one.
    Space,
    /// A limit of open files.
    Files,
    /// A limit of the kernel on one kind of its objects.
    Kernel,
    /// A limit on memory.
    Memory,
    /// A limit on processes.
    Processes,
    /// Anything else: an address, a permission, a file.
    Other,
}

/// What an error of a call means.
#[derive(Debug)]
pub struct Meaning {
    calls: &'static [&'static str],
    error: i32,
    /// What kind of thing refused it.
    pub refusal: Refusal,
    /// The error in this place, as a clause.
    pub means: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

/// The family of calls that make a process.
pub const FORKS: &[&str] = &["clone", "clone3", "fork", "vfork"];

/// Calls that lock memory.
pub const LOCKS: &[&str] = &["mlock", "mlock2", "mlockall"];

/// Calls on files, for which ENOTCONN means a dead FUSE daemon.
const FILES: &[&str] = &[
    "open",
    "openat",
    "openat2",
    "creat",
    "stat",
    "lstat",
    "newfstatat",
    "statx",
    "statfs",
    "access",
    "faccessat",
    "faccessat2",
    "read",
    "pread64",
    "write",
    "pwrite64",
    "getdents64",
    "chdir",
    "mkdir",
    "mkdirat",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "fsync",
    "fdatasync",
];

/// Calls whose refusal is for want of a capability, with its name.
const CAPABILITIES: &[(&[&str], &str)] = &[
    (
        &[
            "mount",
            "umount2",
            "pivot_root",
            "sethostname",
            "setdomainname",
            "setns",
            "unshare",
            "clone",
            "clone3",
            "swapon",
            "swapoff",
            "quotactl",
            "fsopen",
            "fsmount",
            "move_mount",
            "open_tree",
            "mount_setattr",
            "fanotify_init",
        ],
        "CAP_SYS_ADMIN",
    ),
    (&["chroot"], "CAP_SYS_CHROOT"),
    (
        &["setuid", "setreuid", "setresuid", "setfsuid"],
        "CAP_SETUID",
    ),
    (
        &["setgid", "setregid", "setresgid", "setgroups"],
        "CAP_SETGID",
    ),
    (&["chown", "fchown", "lchown", "fchownat"], "CAP_CHOWN"),
    (
        &["chmod", "fchmod", "fchmodat", "fchmodat2", "utimensat"],
        "CAP_FOWNER",
    ),
    (&["mknod", "mknodat"], "CAP_MKNOD"),
    (
        &["kill", "tkill", "tgkill", "pidfd_send_signal"],
        "CAP_KILL",
    ),
    (
        &["ptrace", "process_vm_readv", "process_vm_writev"],
        "CAP_SYS_PTRACE",
    ),
    (&["setrlimit", "prlimit64"], "CAP_SYS_RESOURCE"),
    (
        &[
            "setpriority",
            "sched_setscheduler",
            "sched_setattr",
            "sched_setparam",
            "sched_setaffinity",
        ],
        "CAP_SYS_NICE",
    ),
    (
        &["settimeofday", "clock_settime", "adjtimex", "clock_adjtime"],
        "CAP_SYS_TIME",
    ),
    (&["mlock", "mlock2", "mlockall"], "CAP_IPC_LOCK"),
    (
        &["init_module", "finit_module", "delete_module"],
        "CAP_SYS_MODULE",
    ),
    (&["bpf"], "CAP_BPF"),
    (&["perf_event_open"], "CAP_PERFMON"),
    (&["socket"], "CAP_NET_RAW"),
    (&["bind"], "CAP_NET_BIND_SERVICE"),
    (&["reboot"], "CAP_SYS_BOOT"),
    (&["iopl", "ioperm"], "CAP_SYS_RAWIO"),
];

/// The capability whose absence the call's EPERM (of bind(2) and socket(2) EACCES too) is mostly due to.
pub fn capability(call: &FailedCall) -> Option<&'static str> {
    let name = call.syscall.name.as_str();
    let denied = match call.error.number {
        libc::EPERM => name != "bind",
        libc::EACCES => matches!(name, "bind" | "perf_event_open"),
        _ => false,
    };
    let of = |(calls, _): &&(&[&str], &str)| calls.contains(&name);
    CAPABILITIES
        .iter()
        .find(of)
        .filter(|_| denied)
        .map(|(_, capability)| *capability)
}

/// A row of the table.
const fn row(
    calls: &'static [&'static str],
    error: i32,
    refusal: Refusal,
    means: &'static str,
    remedy: &'static str,
) -> Meaning {
    Meaning {
        calls,
        error,
        refusal,
        means,
        remedy,
    }
}

/// No calls stand for all; the first row that fits counts.
static MEANINGS: &[Meaning] = &[
    row(
        &["inotify_add_watch"],
        libc::ENOSPC,
        Refusal::Kernel,
        "its user may have no more inotify watches (fs.inotify.max_user_watches); no file system is full",
        "Raise fs.inotify.max_user_watches on the host (sysctl), or watch fewer files.",
    ),
    row(
        &["inotify_init", "inotify_init1"],
        libc::EMFILE,
        Refusal::Kernel,
        "its user may have no more inotify instances (fs.inotify.max_user_instances)",
        "Raise fs.inotify.max_user_instances on the host (sysctl), or end other programs of this user that watch \
         files.",
    ),
    row(
        &["fanotify_init"],
        libc::EMFILE,
        Refusal::Kernel,
        "its user may have no more fanotify groups (fs.fanotify.max_user_groups)",
        "Raise fs.fanotify.max_user_groups on the host (sysctl).",
    ),
    row(
        &["fanotify_mark"],
        libc::ENOSPC,
        Refusal::Kernel,
        "its user may have no more fanotify marks (fs.fanotify.max_user_marks)",
        "Raise fs.fanotify.max_user_marks on the host (sysctl).",
    ),
    row(
        &["clone", "clone3", "unshare"],
        libc::ENOSPC,
        Refusal::Kernel,
        "its user may have no more namespaces of that kind (user.max_*_namespaces), or they are nested too deeply",
        "Raise the limit below /proc/sys/user of this user namespace and of those above it, or end what holds \
         namespaces.",
    ),
    row(
        &["clone", "clone3", "unshare"],
        libc::EUSERS,
        Refusal::Kernel,
        "user namespaces are nested too deeply, or its user may have no more of them (user.max_user_namespaces)",
        "Raise user.max_user_namespaces, or nest fewer of them.",
    ),
    row(
        &["semget"],
        libc::ENOSPC,
        Refusal::Kernel,
        "the IPC namespace has as many System V semaphores as kernel.sem allows (sets, or all of them)",
        "Remove sets that nobody uses (ipcs -s, ipcrm), or raise kernel.sem.",
    ),
    row(
        &["shmget"],
        libc::ENOSPC,
        Refusal::Kernel,
        "the IPC namespace has as much System V shared memory as it may have (kernel.shmmni segments, or \
         kernel.shmall pages)",
        "Remove segments that nobody uses (ipcs -m, ipcrm), or raise kernel.shmmni or kernel.shmall.",
    ),
    row(
        &["shmget"],
        libc::EINVAL,
        Refusal::Kernel,
        "the segment is larger than kernel.shmmax allows, or larger than the one that exists",
        "Raise kernel.shmmax, or ask for a smaller segment.",
    ),
    row(
        &["msgget"],
        libc::ENOSPC,
        Refusal::Kernel,
        "the IPC namespace has as many System V message queues as it may have (kernel.msgmni)",
        "Remove queues that nobody uses (ipcs -q, ipcrm), or raise kernel.msgmni.",
    ),
    row(
        &["mq_open"],
        libc::ENOSPC,
        Refusal::Kernel,
        "there may be no more POSIX message queues (fs.mqueue.queues_max)",
        "Remove queues that nobody uses (/dev/mqueue), or raise fs.mqueue.queues_max.",
    ),
    row(
        &["mq_open"],
        libc::EMFILE,
        Refusal::Kernel,
        "its user may have no more memory in POSIX message queues (RLIMIT_MSGQUEUE)",
        "Raise the limit (--rlimit msgqueue=), or make smaller queues.",
    ),
    row(
        &[
            "mount",
            "fsmount",
            "move_mount",
            "open_tree",
            "unshare",
            "clone",
            "clone3",
        ],
        libc::ENOSPC,
        Refusal::Kernel,
        "the mount namespace has as many mounts as it may have (fs.mount-max); no file system is full",
        "Find what mounts without end (/proc/self/mountinfo), or raise fs.mount-max.",
    ),
    row(
        &["epoll_ctl"],
        libc::ENOSPC,
        Refusal::Kernel,
        "its user may have no more epoll watches (fs.epoll.max_user_watches)",
        "Raise fs.epoll.max_user_watches, or watch fewer descriptors.",
    ),
    row(
        &["add_key", "request_key", "keyctl"],
        libc::EDQUOT,
        Refusal::Kernel,
        "its user may have no more keys (kernel.keys.maxkeys, kernel.keys.maxbytes)",
        "Raise kernel.keys.maxkeys and kernel.keys.maxbytes, or give each jail a user ID of its own.",
    ),
    row(
        &["io_setup"],
        libc::EAGAIN,
        Refusal::Kernel,
        "the machine has as many asynchronous I/O contexts as it may have (fs.aio-max-nr)",
        "Raise fs.aio-max-nr.",
    ),
    row(
        &["timer_create", "rt_sigqueueinfo", "rt_tgsigqueueinfo"],
        libc::EAGAIN,
        Refusal::Kernel,
        "its user may have no more queued signals and timers (RLIMIT_SIGPENDING)",
        "Raise the limit (--rlimit sigpending=), or delete timers that nobody uses.",
    ),
    row(
        &[],
        libc::ENOSPC,
        Refusal::Space,
        "the file system was full",
        "Free space there, or give it more (df -h and df -i: blocks or inodes may be what is missing).",
    ),
    row(
        &[],
        libc::EDQUOT,
        Refusal::Space,
        "the quota of its user was used up",
        "Free space, or raise the quota (quota, repquota).",
    ),
    row(
        &[],
        libc::EMFILE,
        Refusal::Files,
        "the process had reached its limit of open files (RLIMIT_NOFILE)",
        "Look at /proc/PID/fd for what it keeps open: if that grows without end, no limit is high enough. \
         Otherwise raise it (--rlimit nofile=, ulimit -n, LimitNOFILE=).",
    ),
    row(
        &[],
        libc::ENFILE,
        Refusal::Files,
        "the machine had run out of open files (fs.file-max)",
        "Raise fs.file-max, and find who holds so many (lsof).",
    ),
    row(
        FORKS,
        libc::EAGAIN,
        Refusal::Processes,
        "a limit of processes was reached",
        "Find out which limit refused the fork: pids.max of a cgroup, RLIMIT_NPROC of the user, kernel.threads-max.",
    ),
    row(
        FORKS,
        libc::ENOMEM,
        Refusal::Processes,
        "there was no memory for a process, or PID 1 of the PID namespace had ended",
        "Give the jail more memory; make sure that the PID namespace's first process stays.",
    ),
    row(
        LOCKS,
        libc::ENOMEM,
        Refusal::Memory,
        "more memory was to be locked than the limit allows (RLIMIT_MEMLOCK)",
        "Raise the limit (--rlimit memlock=, ulimit -l, LimitMEMLOCK=).",
    ),
    row(
        LOCKS,
        libc::EPERM,
        Refusal::Memory,
        "its limit of locked memory is 0 (RLIMIT_MEMLOCK) and it lacks CAP_IPC_LOCK",
        "Raise the limit (--rlimit memlock=, ulimit -l, LimitMEMLOCK=).",
    ),
    row(
        &["io_uring_setup", "io_uring_register", "bpf"],
        libc::ENOMEM,
        Refusal::Memory,
        "no memory was granted; such rings and maps may count against RLIMIT_MEMLOCK",
        "Raise the limit (--rlimit memlock=, ulimit -l), or give the jail more memory.",
    ),
    row(
        &["mmap", "mremap", "brk", "mprotect", "munmap", "shmat"],
        libc::ENOMEM,
        Refusal::Memory,
        "memory was refused",
        "Raise the limit that refused it (--rlimit as=, data=; vm.overcommit_memory, vm.max_map_count).",
    ),
    row(
        &["bind", "listen"],
        libc::EADDRINUSE,
        Refusal::Other,
        "the address is in use",
        "Find who holds it (ss -ltnp; for a path, a socket file of an earlier run is enough), and end that or use \
         another address.",
    ),
    row(
        &["bind"],
        libc::EADDRNOTAVAIL,
        Refusal::Other,
        "no interface of its network namespace has that address",
        "Use an address that the jail has (ip addr), or 0.0.0.0 and ::.",
    ),
    row(
        &["connect"],
        libc::EADDRNOTAVAIL,
        Refusal::Other,
        "no local address or port was left for it",
        "Look for connections in TIME_WAIT (ss -s), and reuse connections; see net.ipv4.ip_local_port_range.",
    ),
    row(
        &["bind"],
        libc::EACCES,
        Refusal::Other,
        "a port below net.ipv4.ip_unprivileged_port_start needs CAP_NET_BIND_SERVICE, and a path needs a directory \
         that may be written to",
        "Use a port from 1024 on, lower net.ipv4.ip_unprivileged_port_start, or give the program that capability.",
    ),
    row(
        &[
            "connect", "recvfrom", "recvmsg", "sendto", "sendmsg", "sendmmsg", "read",
        ],
        libc::ECONNREFUSED,
        Refusal::Other,
        "nothing accepts connections there",
        "Start what should listen there first, or correct the address; in a jail with a network of its own, \
         127.0.0.1 is the jail itself.",
    ),
    row(
        &["connect"],
        libc::ENOENT,
        Refusal::Other,
        "the socket's file does not exist: its server does not run, or has another path",
        "Start the server first, or make its socket visible in the jail (--bind).",
    ),
    row(
        &["connect", "sendto", "sendmsg", "sendmmsg"],
        libc::ENETUNREACH,
        Refusal::Other,
        "there is no route to that network",
        "Look at the jail's interfaces and routes (ip route); --net none has nothing but its own loopback.",
    ),
    row(
        &["connect", "sendto", "sendmsg", "sendmmsg"],
        libc::EHOSTUNREACH,
        Refusal::Other,
        "that host can't be reached",
        "Look at the route to it and at firewalls in between.",
    ),
    row(
        &["connect", "read", "recvfrom", "recvmsg"],
        libc::ETIMEDOUT,
        Refusal::Other,
        "the other side did not answer",
        "Look at the route to it and at firewalls in between.",
    ),
    row(
        &[
            "connect", "read", "recvfrom", "recvmsg", "write", "sendto", "sendmsg",
        ],
        libc::ECONNRESET,
        Refusal::Other,
        "the other side reset the connection",
        "Look at what the other side logged at that time.",
    ),
    row(
        &["mount", "fsopen"],
        libc::ENODEV,
        Refusal::Other,
        "the kernel does not have that type of file system",
        "Load the module on the host, or use another type of file system.",
    ),
    row(
        &["mount", "umount", "umount2"],
        libc::EBUSY,
        Refusal::Other,
        "it is in use, or mounted already",
        "Find out who uses it (findmnt, fuser -m).",
    ),
    row(
        FILES,
        libc::ENOTCONN,
        Refusal::Other,
        "it is on a FUSE mount whose daemon is gone",
        "Unmount it (fusermount -u, umount -l) and start its daemon again.",
    ),
    row(
        &[],
        libc::ESTALE,
        Refusal::Other,
        "the file is gone on its NFS server",
        "Mount it again.",
    ),
    row(
        &[],
        libc::EROFS,
        Refusal::Other,
        "the file system is read-only",
        "Give the program a place to write to (--tmpfs, --bind), or mount it read-write.",
    ),
    row(
        &[],
        libc::ETXTBSY,
        Refusal::Other,
        "the file is being executed, or is open for writing elsewhere",
        "Replace the program by a new file (write beside it and rename) instead of writing into it.",
    ),
    row(
        &[],
        libc::ELOOP,
        Refusal::Other,
        "its path leads through too many symbolic links, or a link was not to be followed",
        "Look at the links of the path (namei -l).",
    ),
    row(
        &[],
        libc::ENAMETOOLONG,
        Refusal::Other,
        "the name is too long (255 bytes for each part, 4,096 for the path, 107 for a socket)",
        "Use a shorter path.",
    ),
    row(
        &[],
        libc::EFBIG,
        Refusal::Other,
        "the file would be larger than its limit (RLIMIT_FSIZE) or its file system allows",
        "Raise the limit (--rlimit fsize=, ulimit -f), or rotate the file that grows.",
    ),
    row(
        &["execve", "execveat"],
        libc::E2BIG,
        Refusal::Other,
        "its arguments and environment are larger than a quarter of the stack limit, or one is larger than 128 KiB",
        "Pass fewer arguments (xargs, a file of arguments), or raise the stack limit.",
    ),
    row(
        &[],
        libc::EIO,
        Refusal::Other,
        "the device or the file's server reported an error",
        "Look at the kernel log for the device, and at the daemon of a FUSE mount.",
    ),
    row(
        &[],
        libc::EACCES,
        Refusal::Other,
        "its user may not do that by the permissions of the file or of a directory above it",
        "Look at the permissions along the path (namei -l) and at the user it runs as (--user).",
    ),
    row(
        &[],
        libc::ENOENT,
        Refusal::Other,
        "it does not exist",
        "Check the path as the jail sees it (--root, --bind, --workdir), or create it.",
    ),
    row(
        &[],
        libc::ENOTDIR,
        Refusal::Other,
        "a part of its path is no directory",
        "Check the path as the jail sees it (namei -l).",
    ),
];

/// What the call's error means; `None` where the number says it all.
pub fn meaning(call: &FailedCall) -> Option<&'static Meaning> {
    let name = call.syscall.name.as_str();
    let of_path = |error| matches!(error, libc::EACCES | libc::ENOENT | libc::ENOTDIR);
    MEANINGS.iter().find(|row| {
        let any = row.calls.is_empty() && (call.path.is_some() || !of_path(row.error));
        row.error == call.error.number && (any || row.calls.contains(&name))
    })
}

/// What kind of thing refused the call.
pub fn refusal(call: &FailedCall) -> Refusal {
    meaning(call).map_or(Refusal::Other, |meaning| meaning.refusal)
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
    let flags = match call.syscall.name.as_str() {
        "open" => call.args.get(1),
        "openat" => call.args.get(2),
        _ => None,
    };
    flags.is_some_and(|flags| *flags as i32 & (libc::O_ACCMODE | libc::O_CREAT) == libc::O_RDONLY)
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
    ) || matches!(name, "setrlimit" | "prlimit64" | "setgroups")
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::fixture::failed_call;

    fn of(name: &str, error: i32) -> FailedCall {
        failed_call(name, error, None, &[3])
    }

    #[test]
    fn an_error_is_not_a_resource() {
        let kinds = [
            (
                "inotify_add_watch",
                libc::ENOSPC,
                Refusal::Kernel,
                "max_user_watches",
            ),
            (
                "inotify_init1",
                libc::EMFILE,
                Refusal::Kernel,
                "max_user_instances",
            ),
            ("unshare", libc::ENOSPC, Refusal::Kernel, "user.max_"),
            ("semget", libc::ENOSPC, Refusal::Kernel, "kernel.sem"),
            ("shmget", libc::ENOSPC, Refusal::Kernel, "kernel.shmmni"),
            ("mount", libc::ENOSPC, Refusal::Kernel, "fs.mount-max"),
            ("add_key", libc::EDQUOT, Refusal::Kernel, "kernel.keys"),
            ("write", libc::ENOSPC, Refusal::Space, "full"),
            ("fallocate", libc::EDQUOT, Refusal::Space, "quota"),
            ("openat", libc::EMFILE, Refusal::Files, "RLIMIT_NOFILE"),
            ("openat", libc::ENFILE, Refusal::Files, "fs.file-max"),
            ("clone", libc::EAGAIN, Refusal::Processes, "processes"),
            ("mlock", libc::ENOMEM, Refusal::Memory, "RLIMIT_MEMLOCK"),
            ("mmap", libc::ENOMEM, Refusal::Memory, "refused"),
            (
                "connect",
                libc::ECONNREFUSED,
                Refusal::Other,
                "nothing accepts",
            ),
        ];
        for (name, error, refusal, word) in kinds {
            let call = of(name, error);
            assert_eq!(super::refusal(&call), refusal, "{name}");
            assert_eq!(weight(&call), Weight::Heavy, "{name}");
            assert!(
                meaning(&call).is_some_and(|row| row.means.contains(word)),
                "{name}"
            );
        }
    }

    #[test]
    fn what_programs_live_with_weighs_nothing() {
        let routine = [
            ("fcntl", libc::EBADF),
            ("ioctl", libc::ENOTTY),
            ("rt_sigaction", libc::EINVAL),
            ("pkey_alloc", libc::EINVAL),
            ("newfstatat", libc::ENOENT),
            ("readlink", libc::EINVAL),
            ("lseek", libc::ESPIPE),
            ("wait4", libc::ECHILD),
            ("recvfrom", libc::EAGAIN),
            ("getpeername", libc::ENOTCONN),
            ("mkdir", libc::EEXIST),
        ];
        for (name, error) in routine {
            assert_eq!(weight(&of(name, error)), Weight::Routine, "{name}");
        }
        let preload = failed_call("openat", libc::ENOENT, Some("/etc/ld.so.cache"), &[]);
        assert_eq!(weight(&preload), Weight::Routine);
        assert_eq!(weight(&of("openat", libc::ENOENT)), Weight::Light);
    }

    #[test]
    fn a_capability_is_named_where_it_is_what_is_missing() {
        assert_eq!(
            capability(&of("chroot", libc::EPERM)),
            Some("CAP_SYS_CHROOT")
        );
        assert_eq!(
            capability(&of("bind", libc::EACCES)),
            Some("CAP_NET_BIND_SERVICE")
        );
        assert_eq!(capability(&of("openat", libc::EACCES)), None);
        assert_eq!(capability(&of("chroot", libc::ENOENT)), None);
    }

    #[test]
    fn a_route_that_only_the_c_library_asked_for_weighs_nothing() {
        let mut call = of("connect", libc::ENETUNREACH);
        call.address = Some("[2606:2800::1]:443".into());
        assert_eq!(weight(&call), Weight::Routine);
        call.address = Some("10.1.2.3:443".into());
        assert_eq!(weight(&call), Weight::Heavy);
    }
}
