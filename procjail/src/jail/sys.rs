//! The system calls of the jail that the standard library doesn't have, each wrapped once.
//!
//! Everything here may run between clone and exec: nothing allocates, nothing locks, and an error is
//! the kernel's error number alone. Whoever calls adds the words.

use std::ffi::{CStr, c_char, c_int, c_long, c_uint, c_void};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

/// What the kernel said.
pub type Result<T> = std::result::Result<T, Errno>;

fn check(returned: c_long) -> Result<c_long> {
    Errno::result(returned)
}

fn descriptor(returned: c_long) -> Result<OwnedFd> {
    let fd = check(returned)?;
    // SAFETY: the call succeeded, so this is a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Flags of open_tree(2), move_mount(2) and relatives; `include/uapi/linux/mount.h`.
pub mod flags {
    use super::{c_int, c_uint};

    /// Clone the mount instead of opening it.
    pub const OPEN_TREE_CLONE: c_uint = 1;
    /// The whole tree of mounts.
    pub const AT_RECURSIVE: c_uint = 0x8000;
    /// Both ends are given by descriptors.
    pub const MOVE_MOUNT_BY_FD: c_uint = 0x04 | 0x40;
    /// Join the peer group of the source instead of moving it (5.15).
    pub const MOVE_MOUNT_SET_GROUP: c_uint = 0x100;
    /// Read-only.
    pub const MOUNT_ATTR_RDONLY: u64 = 1;
    /// No set-user-ID programs.
    pub const MOUNT_ATTR_NOSUID: u64 = 2;
    /// No device files.
    pub const MOUNT_ATTR_NODEV: u64 = 4;
    /// No programs.
    pub const MOUNT_ATTR_NOEXEC: u64 = 8;
    /// clone3(2): start in the cgroup that is given by a descriptor (5.7).
    pub const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    /// Resolve a path inside a root, whatever symbolic links it meets, and never through
    /// `/proc/PID/fd` and the like.
    pub const RESOLVE_INSIDE: u64 = 0x10 | 0x02;
    /// The same, and refuse any symbolic link.
    pub const RESOLVE_STRICT: u64 = RESOLVE_INSIDE | 0x04;
    /// O_PATH, with close-on-exec.
    pub const O_PATH: c_int = libc::O_PATH | libc::O_CLOEXEC;
}

/// Arguments of clone3(2), `struct clone_args` of `include/uapi/linux/sched.h`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct CloneArgs {
    /// CLONE_*.
    pub flags: u64,
    /// Where the pidfd is stored.
    pub pidfd: u64,
    /// Unused here.
    pub child_tid: u64,
    /// Unused here.
    pub parent_tid: u64,
    /// Sent to the parent at the end.
    pub exit_signal: u64,
    /// Unused here: the child goes on with a copy of the caller's stack.
    pub stack: u64,
    /// Unused here.
    pub stack_size: u64,
    /// Unused here.
    pub tls: u64,
    /// Unused here.
    pub set_tid: u64,
    /// Unused here.
    pub set_tid_size: u64,
    /// Descriptor of the cgroup for CLONE_INTO_CGROUP.
    pub cgroup: u64,
}

/// clone3(2) with a copy of the caller's memory, like fork(2): returns 0 in the child.
///
/// # Safety
///
/// The caller has one thread, `args` asks neither for shared memory nor for another stack, and
/// `args.pidfd` is 0 or points to a writable `RawFd`.
pub unsafe fn clone3(args: &CloneArgs) -> Result<libc::pid_t> {
    // SAFETY: `args` is a valid structure of the given size; the rest is the caller's promise.
    let returned = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            std::ptr::from_ref(args),
            size_of::<CloneArgs>(),
        )
    };
    check(returned).map(|pid| pid as libc::pid_t)
}

/// open_tree(2).
pub fn open_tree(dir: RawFd, path: &CStr, flags: c_uint) -> Result<OwnedFd> {
    // SAFETY: the path is a valid C string.
    descriptor(unsafe {
        libc::syscall(
            libc::SYS_open_tree,
            dir,
            path.as_ptr(),
            flags | libc::O_CLOEXEC as c_uint,
        )
    })
}

/// move_mount(2) from one descriptor to another.
pub fn move_mount(from: RawFd, to: RawFd, flags: c_uint) -> Result<()> {
    // SAFETY: both paths are valid, empty C strings.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            from,
            c"".as_ptr(),
            to,
            c"".as_ptr(),
            flags | flags::MOVE_MOUNT_BY_FD,
        )
    })
    .map(drop)
}

/// mount_setattr(2) on the tree of mounts at a descriptor: sets attributes (5.12).
pub fn mount_setattr(fd: RawFd, set: u64) -> Result<()> {
    let attributes: [u64; 4] = [set, 0, 0, 0];
    // SAFETY: `attributes` is a `struct mount_attr` (attr_set, attr_clr, propagation, userns_fd).
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd,
            c"".as_ptr(),
            libc::AT_EMPTY_PATH as c_uint | flags::AT_RECURSIVE,
            attributes.as_ptr(),
            size_of_val(&attributes),
        )
    })
    .map(drop)
}

/// Whether the kernel has mount_setattr(2).
pub fn has_mount_setattr() -> bool {
    mount_setattr(-1, 0) != Err(Errno::ENOSYS)
}

/// Whether the kernel has MOVE_MOUNT_SET_GROUP: flags are looked at before descriptors.
pub fn has_mount_groups() -> bool {
    move_mount(-1, -1, flags::MOVE_MOUNT_SET_GROUP) == Err(Errno::EBADF)
}

/// fsopen(2), fsconfig(2) and fsmount(2): a new file system, mounted nowhere yet.
pub fn new_mount(fs_type: &CStr, options: &[(&CStr, &CStr)], attributes: u64) -> Result<OwnedFd> {
    const FSCONFIG_SET_STRING: c_uint = 1;
    const FSCONFIG_CMD_CREATE: c_uint = 6;
    let config = |fs: &OwnedFd, command: c_uint, key: *const c_char, value: *const c_char| {
        // SAFETY: key and value are null or valid C strings, as the command demands.
        check(unsafe { libc::syscall(libc::SYS_fsconfig, fs.as_raw_fd(), command, key, value, 0) })
    };
    // SAFETY: the type is a valid C string; 1 is FSOPEN_CLOEXEC.
    let fs = descriptor(unsafe { libc::syscall(libc::SYS_fsopen, fs_type.as_ptr(), 1) })?;
    // Or the table of mounts would say "none".
    for (key, value) in [(c"source", fs_type)].iter().chain(options) {
        config(&fs, FSCONFIG_SET_STRING, key.as_ptr(), value.as_ptr())?;
    }
    config(&fs, FSCONFIG_CMD_CREATE, std::ptr::null(), std::ptr::null())?;
    // SAFETY: no pointer is passed; 1 is FSMOUNT_CLOEXEC.
    descriptor(unsafe { libc::syscall(libc::SYS_fsmount, fs.as_raw_fd(), 1, attributes as c_uint) })
}

/// openat2(2) with `RESOLVE_*`.
pub fn openat2(dir: RawFd, path: &CStr, open_flags: c_int, resolve: u64) -> Result<OwnedFd> {
    let how: [u64; 3] = [open_flags as u64, 0, resolve];
    // SAFETY: `how` is a `struct open_how` (flags, mode, resolve); the path is a valid C string.
    descriptor(unsafe {
        libc::syscall(
            libc::SYS_openat2,
            dir,
            path.as_ptr(),
            how.as_ptr(),
            size_of_val(&how),
        )
    })
}

/// mount(2) that changes flags or propagation of a mount that exists.
pub fn remount(path: &CStr, flags: libc::c_ulong) -> Result<()> {
    // SAFETY: the path is a valid C string; the others may be null.
    check(c_long::from(unsafe {
        libc::mount(
            std::ptr::null(),
            path.as_ptr(),
            std::ptr::null(),
            flags,
            std::ptr::null(),
        )
    }))
    .map(drop)
}

/// pivot_root(2) on the working directory, which becomes the root; the old root is detached.
pub fn pivot_root_here() -> Result<()> {
    // SAFETY: both paths are valid C strings. See pivot_root(2), "pivot_root(".", ".")".
    check(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) })?;
    // SAFETY: the path is a valid C string.
    check(c_long::from(unsafe {
        libc::umount2(c".".as_ptr(), libc::MNT_DETACH)
    }))?;
    chdir(c"/")
}

/// chdir(2).
pub fn chdir(path: &CStr) -> Result<()> {
    // SAFETY: the path is a valid C string.
    check(c_long::from(unsafe { libc::chdir(path.as_ptr()) })).map(drop)
}

/// fchdir(2).
pub fn fchdir(fd: RawFd) -> Result<()> {
    // SAFETY: no pointer is passed.
    check(c_long::from(unsafe { libc::fchdir(fd) })).map(drop)
}

/// mknod(2) of a character device that everybody may use.
pub fn make_device(dir: RawFd, name: &CStr, major: u32, minor: u32) -> Result<()> {
    // SAFETY: the name is a valid C string.
    check(c_long::from(unsafe {
        libc::mknodat(
            dir,
            name.as_ptr(),
            libc::S_IFCHR | 0o666,
            libc::makedev(major, minor),
        )
    }))
    .map(drop)
}

/// mkdirat(2).
pub fn make_directory(dir: RawFd, name: &CStr) -> Result<()> {
    // SAFETY: the name is a valid C string.
    check(c_long::from(unsafe {
        libc::mkdirat(dir, name.as_ptr(), 0o755)
    }))
    .map(drop)
}

/// symlinkat(2).
pub fn make_symlink(target: &CStr, dir: RawFd, name: &CStr) -> Result<()> {
    // SAFETY: both are valid C strings.
    check(c_long::from(unsafe {
        libc::symlinkat(target.as_ptr(), dir, name.as_ptr())
    }))
    .map(drop)
}

/// umask(2); returns the old one.
pub fn umask(mask: libc::mode_t) -> libc::mode_t {
    // SAFETY: always succeeds.
    unsafe { libc::umask(mask) }
}

/// Type of the file system that a descriptor is on (statfs(2)).
pub fn fs_type(fd: RawFd) -> Result<i64> {
    // SAFETY: all zeros is a valid statfs, and the call fills it.
    let mut statfs: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: `statfs` is valid for writing.
    check(c_long::from(unsafe { libc::fstatfs(fd, &mut statfs) }))?;
    Ok(statfs.f_type as i64)
}

/// sethostname(2).
pub fn set_hostname(name: &CStr) -> Result<()> {
    // SAFETY: pointer and length belong together.
    check(c_long::from(unsafe {
        libc::sethostname(name.as_ptr(), name.count_bytes())
    }))
    .map(drop)
}

/// unshare(2).
pub fn unshare(namespaces: c_int) -> Result<()> {
    // SAFETY: no pointer is passed, and no memory is shared with another task.
    check(c_long::from(unsafe { libc::unshare(namespaces) })).map(drop)
}

/// Sets the flag "up" of the interface `lo`; see netdevice(7).
pub fn loopback_up() -> Result<()> {
    // SAFETY: no pointer is passed.
    let socket = descriptor(c_long::from(unsafe {
        libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0)
    }))?;
    // SAFETY: all zeros is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as c_char;
    request.ifr_name[1] = b'o' as c_char;
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: `request` is a valid ifreq with a name and flags.
    check(c_long::from(unsafe {
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request)
    }))
    .map(drop)
}

/// setrlimit(2).
pub fn set_rlimit(resource: c_int, soft: u64, hard: u64) -> Result<()> {
    let limits: [u64; 2] = [soft, hard];
    // SAFETY: `limits` is a `struct rlimit64`; no old value is asked for.
    check(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            resource,
            limits.as_ptr(),
            std::ptr::null::<c_void>(),
        )
    })
    .map(drop)
}

/// Becomes a user with one group and no other. The system calls themselves: the C library's
/// functions would first talk to threads that don't exist.
pub fn set_user(uid: u32, gid: u32) -> Result<()> {
    // SAFETY: an empty list needs no pointer.
    check(unsafe { libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<c_void>()) })?;
    // SAFETY: no pointer is passed.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: no pointer is passed.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// `_LINUX_CAPABILITY_VERSION_3`.
const CAPABILITY_VERSION: u32 = 0x2008_0522;

/// Capabilities of this process: twice { effective, permitted, inheritable }, 32 of each; capget(2).
fn capabilities() -> Result<[u32; 6]> {
    let header: [u32; 2] = [CAPABILITY_VERSION, 0];
    let mut data = [0u32; 6];
    // SAFETY: header and data have the form of version 3.
    check(unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), data.as_mut_ptr()) })?;
    Ok(data)
}

/// Whether CAP_SYS_ADMIN is in effect.
pub fn has_sys_admin() -> bool {
    const CAP_SYS_ADMIN: u32 = 21;
    capabilities().is_ok_and(|data| data[0] >> CAP_SYS_ADMIN & 1 == 1)
}

/// Empties the inheritable set of capabilities, and with it the ambient set (capabilities(7)).
pub fn clear_inheritable_capabilities() -> Result<()> {
    let header: [u32; 2] = [CAPABILITY_VERSION, 0];
    let mut data = capabilities()?;
    data[2] = 0;
    data[5] = 0;
    // SAFETY: as in `capabilities`.
    check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) }).map(drop)
}

/// PR_SET_PDEATHSIG with SIGKILL.
pub fn die_with_parent() -> Result<()> {
    // SAFETY: no pointer is passed.
    check(c_long::from(unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0)
    }))
    .map(drop)
}

/// PR_SET_NAME.
pub fn set_comm(name: &CStr) {
    // SAFETY: the name is a valid C string; the kernel cuts it after 15 bytes.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
}

/// Waits up to `timeout_ms` (-1: for ever) until a descriptor has something to read or its other end
/// is closed; tells which as poll(2) does, 0 for neither.
pub fn poll(fd: RawFd, timeout_ms: c_int) -> Result<i16> {
    let mut poll = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    loop {
        // SAFETY: one valid pollfd.
        match check(c_long::from(unsafe {
            libc::poll(&mut poll, 1, timeout_ms)
        })) {
            Ok(_) => return Ok(poll.revents),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// read(2), again after an interruption.
pub fn read(fd: RawFd, buffer: &mut [u8]) -> Result<usize> {
    loop {
        // SAFETY: pointer and length belong together.
        match check(unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) } as c_long) {
            Ok(length) => return Ok(length as usize),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// write(2), again after an interruption.
pub fn write(fd: RawFd, bytes: &[u8]) -> Result<usize> {
    loop {
        // SAFETY: pointer and length belong together.
        match check(unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) } as c_long) {
            Ok(length) => return Ok(length as usize),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Closes all descriptors above 2 but one, which must be above 2 (close_range(2), 5.9).
pub fn close_all_but(kept: RawFd) -> Result<()> {
    let kept = kept as c_uint;
    for (first, last) in [(3, kept - 1), (kept + 1, c_uint::MAX)] {
        if first <= last {
            // SAFETY: whoever calls gives up these descriptors: it is about to execute APP, or to
            // do nothing but wait.
            check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
        }
    }
    Ok(())
}

/// Sets every signal to its default action.
///
/// The raw call: the C library refuses its two internal signals, which another program may have set.
pub fn default_signals() {
    // struct kernel_sigaction { handler, flags, restorer, mask }: SIG_DFL and nothing else.
    let action = [0u64; 4];
    for signal in 1..=64 {
        // SAFETY: `action` is at least as long as the kernel's structure. SIGKILL and SIGSTOP are
        // refused, which is as well.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                action.as_ptr(),
                std::ptr::null::<c_void>(),
                8,
            )
        };
    }
}

/// Sets the signal mask to all or none.
pub fn block_all_signals(block: bool) {
    let mask: u64 = if block { u64::MAX } else { 0 };
    // SAFETY: eight bytes are the kernel's size of a signal set.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            std::ptr::from_ref(&mask),
            std::ptr::null::<c_void>(),
            8,
        )
    };
}

/// Ends this process at once, without destructors or exit handlers.
pub fn exit(code: c_int) -> ! {
    // SAFETY: doesn't return.
    unsafe { libc::_exit(code) }
}
