//! Names of what the kernel numbers: signals, errors, system calls, flags.
//!
//! Every function is total: a number without a name gets one that contains the number, so that a
//! trace never hides what it could not name.

mod errno;
mod flags;
mod limit;
mod si_code;
mod signal;

pub use errno::{errno, errno_meaning, io_error};
pub use flags::{mount_call, mount_flags};
pub use limit::{RESOURCE_LIMITS, resource_limit};
pub use si_code::si_code;
pub use signal::{signal, signal_number};

/// Name of a system call on this machine's architecture, such as `kill`; `syscall_N` if unknown.
pub fn syscall(number: i64) -> String {
    usize::try_from(number)
        .ok()
        .and_then(syscalls::Sysno::new)
        .map_or_else(
            || format!("syscall_{number}"),
            |call| call.name().to_owned(),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_calls_are_those_of_this_machine() {
        assert_eq!(syscall(libc::SYS_kill), "kill");
        assert_eq!(syscall(libc::SYS_pidfd_send_signal), "pidfd_send_signal");
        assert_eq!(syscall(-1), "syscall_-1");
        assert_eq!(syscall(99_999), "syscall_99999");
    }
}
