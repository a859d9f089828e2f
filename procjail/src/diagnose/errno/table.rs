//! What an error of a call means, and what to do about it.

use super::{FORKS, LOCKS, Meaning, Refusal};
use crate::event::FailedCall;

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

/// No calls stand for all; the first row that fits counts.
pub(super) static MEANINGS: &[Meaning] = &[
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
        "another socket has that address",
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
        "",
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
