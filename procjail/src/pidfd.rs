//! Signals by pidfd: a number can't come to mean another process between looking and sending.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

/// Opens a pidfd (pidfd_open(2)).
pub(crate) fn open(pid: u32) -> Result<OwnedFd, Errno> {
    // SAFETY: plain integers; the result is checked.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) })?;
    // SAFETY: the kernel just made this descriptor for us, nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Sends a signal as kill(2) would (pidfd_send_signal(2)).
pub(crate) fn send(pidfd: impl AsFd, signal: i32) -> Result<(), Errno> {
    send_info(pidfd, signal, std::ptr::null())
}

/// Sends a signal with a value, as sigqueue(3) would.
pub(crate) fn send_value(pidfd: impl AsFd, signal: i32, value: u64) -> Result<(), Errno> {
    /// The part of siginfo_t that SI_QUEUE uses, padded to its size (see `union __sifields`).
    #[repr(C)]
    struct QueueInfo {
        signo: i32,
        errno: i32,
        code: i32,
        #[cfg(target_pointer_width = "64")]
        align: i32,
        pid: i32,
        uid: u32,
        value: u64,
        rest: [u64; 12],
    }
    const {
        assert!(size_of::<QueueInfo>() == size_of::<libc::siginfo_t>());
    }
    let info = QueueInfo {
        signo: signal,
        errno: 0,
        code: libc::SI_QUEUE,
        #[cfg(target_pointer_width = "64")]
        align: 0,
        pid: std::process::id() as i32,
        uid: nix::unistd::getuid().as_raw(),
        value,
        rest: [0; 12],
    };
    send_info(pidfd, signal, (&raw const info).cast())
}

fn send_info(pidfd: impl AsFd, signal: i32, info: *const libc::siginfo_t) -> Result<(), Errno> {
    let fd = pidfd.as_fd().as_raw_fd();
    // SAFETY: `info` is null or points to a whole siginfo_t that outlives the call.
    Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, info, 0) })?;
    Ok(())
}

/// Sends a signal to a process known by its number.
pub(crate) fn kill(pid: u32, signal: i32) -> Result<(), Errno> {
    send(open(pid)?, signal)
}
