//! What each system call is to the programs, by its number on this architecture.

use procjail_common::{SyscallTable, call_failure, syscall_class};
use syscalls::Sysno;

/// Calls with a path, and which argument it is. Architectures have not all of them.
const PATHS: &[(u8, &[&str])] = &[
    (
        0,
        &[
            "open",
            "creat",
            "stat",
            "lstat",
            "access",
            "chdir",
            "mkdir",
            "rmdir",
            "unlink",
            "readlink",
            "chmod",
            "chown",
            "lchown",
            "truncate",
            "statfs",
            "mknod",
            "chroot",
            "rename",
            "link",
            "utime",
            "utimes",
            "setxattr",
            "lsetxattr",
            "getxattr",
            "lgetxattr",
            "listxattr",
            "llistxattr",
            "removexattr",
            "lremovexattr",
            "swapon",
            "swapoff",
            "umount2",
            "pivot_root",
        ],
    ),
    (
        1,
        &[
            "openat",
            "openat2",
            "newfstatat",
            "fstatat",
            "statx",
            "faccessat",
            "faccessat2",
            "mkdirat",
            "unlinkat",
            "readlinkat",
            "fchmodat",
            "fchmodat2",
            "fchownat",
            "mknodat",
            "renameat",
            "renameat2",
            "linkat",
            "utimensat",
            "futimesat",
            "symlink",
            "name_to_handle_at",
            "inotify_add_watch",
            "open_tree",
            "mount_setattr",
            "fspick",
            "mount",
        ],
    ),
    (2, &["symlinkat"]),
];

/// Calls that EAGAIN of means a limit: most of them make a process.
const LIMITED: &[&str] = &[
    "clone",
    "clone3",
    "fork",
    "vfork",
    "setuid",
    "setreuid",
    "setresuid",
    "mlock",
    "mlock2",
    "mlockall",
];

/// Calls on a descriptor whose file says what a weighty error is about: a full or broken file system, or one
/// of the kernel's own files, which answer EBUSY.
const FILES: &[&str] = &[
    "write",
    "pwrite64",
    "writev",
    "pwritev",
    "pwritev2",
    "read",
    "pread64",
    "readv",
    "preadv",
    "preadv2",
    "fallocate",
    "ftruncate",
    "fsync",
    "fdatasync",
    "sync_file_range",
    "syncfs",
    "close",
    "sendfile",
    "fchmod",
    "fchown",
    "fchdir",
    "fstat",
    "fstatfs",
    "fsetxattr",
    "getdents64",
    "flock",
    "ioctl",
    "lseek",
];

/// Calls with a socket address.
const ADDRESSES: &[(&str, u8)] = &[
    ("connect", call_failure::ADDRESS),
    ("bind", call_failure::ADDRESS),
    ("sendto", call_failure::SEND_TO),
    ("sendmsg", call_failure::MESSAGE),
];

/// Calls that write to a descriptor, by what follows it.
const WRITES: &[(&str, u8)] = &[
    ("write", syscall_class::WRITE),
    ("pwrite64", syscall_class::WRITE),
    ("sendto", syscall_class::WRITE),
    ("writev", syscall_class::WRITEV),
    ("pwritev", syscall_class::WRITEV),
    ("pwritev2", syscall_class::WRITEV),
];

/// Calls whose errors say nothing: a wait that timed out, and what the kernel returns to restore the
/// registers.
const IGNORED: &[&str] = &[
    "futex",
    "futex_wait",
    "futex_waitv",
    "rt_sigreturn",
    "restart_syscall",
];

/// The table; with or without the calls that change mounts and namespaces.
pub fn table(mounts: bool) -> SyscallTable {
    let mut table = SyscallTable::empty();
    table.failure = [call_failure::KEPT; _];
    for (argument, names) in PATHS {
        for name in *names {
            set(
                &mut table.failure,
                number(name),
                call_failure::PATH + argument,
            );
        }
    }
    for name in LIMITED {
        set(&mut table.failure, number(name), call_failure::KEPT_EAGAIN);
    }
    for name in FILES {
        set(&mut table.failure, number(name), call_failure::KEPT_FILE);
    }
    for (name, how) in ADDRESSES {
        set(&mut table.failure, number(name), *how);
    }
    for (name, class) in WRITES {
        set(&mut table.class, number(name), *class);
    }
    for name in IGNORED {
        set(&mut table.failure, number(name), call_failure::IGNORED);
    }
    let mut class = |number: libc::c_long, class: u8| {
        set(&mut table.class, usize::try_from(number).ok(), class);
    };
    class(libc::SYS_getsockopt, syscall_class::GETSOCKOPT);
    class(libc::SYS_prlimit64, syscall_class::PRLIMIT);
    class(libc::SYS_setrlimit, syscall_class::SETRLIMIT);
    class(libc::SYS_execve, syscall_class::EXECVE);
    class(libc::SYS_execveat, syscall_class::EXECVEAT);
    class(libc::SYS_wait4, syscall_class::WAIT4);
    class(libc::SYS_waitid, syscall_class::WAITID);
    class(libc::SYS_exit, syscall_class::EXIT);
    class(libc::SYS_exit_group, syscall_class::EXIT_GROUP);
    if mounts {
        // In the order of `procjail_common::mount_call`.
        let calls = [
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_move_mount,
            libc::SYS_open_tree,
            libc::SYS_fsmount,
            libc::SYS_mount_setattr,
            libc::SYS_pivot_root,
            libc::SYS_setns,
            libc::SYS_unshare,
        ];
        for (value, number) in (syscall_class::MOUNTS..).zip(calls) {
            class(number, value);
        }
    }
    table
}

fn number(name: &str) -> Option<usize> {
    name.parse::<Sysno>().ok().map(|call| call.id() as usize)
}

fn set(table: &mut [u8], number: Option<usize>, value: u8) {
    if let Some(entry) = number.and_then(|number| table.get_mut(number)) {
        *entry = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_found_by_name_and_number() {
        let with = table(true);
        let failure = |number: libc::c_long| with.failure[number as usize];
        assert_eq!(failure(libc::SYS_openat), call_failure::PATH + 1);
        assert_eq!(failure(libc::SYS_symlinkat), call_failure::PATH + 2);
        assert_eq!(failure(libc::SYS_chdir), call_failure::PATH);
        assert_eq!(failure(libc::SYS_futex), call_failure::IGNORED);
        assert_eq!(failure(libc::SYS_connect), call_failure::ADDRESS);
        assert_eq!(failure(libc::SYS_accept4), call_failure::KEPT);
        assert_eq!(failure(libc::SYS_write), call_failure::KEPT_FILE);
        assert_eq!(failure(libc::SYS_clone3), call_failure::KEPT_EAGAIN);
        let unshare = libc::SYS_unshare as usize;
        assert_eq!(
            u32::from(with.class[unshare] - syscall_class::MOUNTS),
            procjail_common::mount_call::UNSHARE
        );
        assert_eq!(table(false).class[unshare], syscall_class::NONE);
        let writev = with.class[libc::SYS_writev as usize];
        assert_eq!(writev, syscall_class::WRITEV);
    }

    #[test]
    fn every_name_is_a_call_of_some_architecture() {
        // Those of other architectures and of newer kernels; a slip of the pen is none of them.
        let elsewhere = ["fstatat"];
        let names = PATHS.iter().flat_map(|(_, names)| *names);
        let names = names.chain(LIMITED).chain(IGNORED).chain(FILES);
        let names = names.chain(ADDRESSES.iter().chain(WRITES).map(|(name, _)| name));
        for name in names {
            if cfg!(target_arch = "x86_64") && !elsewhere.contains(name) {
                assert!(number(name).is_some(), "{name}");
            }
        }
    }
}
