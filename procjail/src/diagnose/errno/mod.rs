//! What a failed system call says: how much it weighs, what refused it, and what to do about it.
//!
//! An error number alone says little: ENOSPC is a full file system for write(2), and a limit of the kernel for
//! inotify_add_watch(2). One table goes by call and error; numbers are from the ERRORS sections of the calls'
//! manual pages.

mod capability;
mod object;
mod table;
mod weight;

pub use capability::capability;
pub use weight::{Weight, weight};

use crate::event::FailedCall;
use object::special;
use table::MEANINGS;

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

/// What the call's error means; `None` where the number says it all.
pub fn meaning(call: &FailedCall) -> Option<&'static Meaning> {
    if let Some(row) = special(call) {
        return Some(row);
    }
    let name = call.syscall.name.as_str();
    let of_path = |error| matches!(error, libc::EACCES | libc::ENOENT | libc::ENOTDIR);
    MEANINGS.iter().find(|row| {
        let any = row.calls.is_empty() && (call.path.is_some() || !of_path(row.error));
        row.error == call.error.number && (any || row.calls.contains(&name))
    })
}

/// What an error means that a message speaks of, where it is the same for all calls that programs have trouble with.
pub fn of_message(error: i32) -> Option<&'static Meaning> {
    let plain = |row: &&Meaning| {
        row.error == error && row.refusal == Refusal::Other && !row.means.is_empty()
    };
    let same = matches!(
        error,
        libc::EADDRINUSE
            | libc::ECONNREFUSED
            | libc::ENETUNREACH
            | libc::EHOSTUNREACH
            | libc::ETIMEDOUT
            | libc::ECONNRESET
            | libc::EROFS
            | libc::ESTALE
            | libc::EIO
    );
    MEANINGS.iter().filter(|_| same).find(plain)
}

/// What kind of thing refused the call.
pub fn refusal(call: &FailedCall) -> Refusal {
    meaning(call).map_or(Refusal::Other, |meaning| meaning.refusal)
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
    fn what_a_call_was_about_decides_as_well() {
        let about = |name, error, path: &str| {
            let call = failed_call(name, error, Some(path), &[]);
            meaning(&call).map_or("", |row| row.means)
        };
        let full = libc::ENOSPC;
        assert!(about("write", full, "/sys/fs/cgroup/a/cgroup.procs").contains("cpuset"));
        assert!(about("write", full, "/dev/full").contains("device"));
        assert!(about("mkdir", full, "/tmp/a").contains("no inode"));
        let open = |flags: i32| {
            let call = failed_call("openat", full, Some("/tmp/a"), &[0, 0, flags as u64]);
            meaning(&call).map_or("", |row| row.means)
        };
        assert!(open(libc::O_CREAT | libc::O_WRONLY).contains("no inode"));
        assert_eq!((open(libc::O_WRONLY), open(libc::O_DIRECTORY)), ("", ""));
        assert!(about("write", full, "/tmp/tasks").contains("file system was full"));
        let mut bind = of("bind", libc::EADDRINUSE);
        bind.address = Some("unix:/run/a.sock".into());
        assert!(meaning(&bind).is_some_and(|row| row.means.contains("that name exists")));
        bind.address = Some("unix:@a".into());
        assert!(meaning(&bind).is_some_and(|row| row.means.contains("another socket")));
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
        let mut bind = of("bind", libc::EACCES);
        bind.address = Some("0.0.0.0:80".into());
        assert_eq!(capability(&bind), Some("CAP_NET_BIND_SERVICE"));
        bind.address = Some("unix:/run/x.sock".into());
        assert_eq!(capability(&bind), None);
        assert_eq!(capability(&of("openat", libc::EACCES)), None);
        assert_eq!(capability(&of("chroot", libc::ENOENT)), None);
    }

    #[test]
    fn huge_pages_are_optional_and_no_limit_of_memory() {
        let of = |flags: i32| failed_call("mmap", libc::ENOMEM, None, &[0, 4096, 3, flags as u64]);
        let huge = of(libc::MAP_ANONYMOUS | libc::MAP_HUGETLB);
        assert_eq!(
            (refusal(&huge), weight(&huge)),
            (Refusal::Kernel, Weight::Light)
        );
        let plain = of(libc::MAP_ANONYMOUS);
        assert_eq!(
            (refusal(&plain), weight(&plain)),
            (Refusal::Memory, Weight::Heavy)
        );
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
