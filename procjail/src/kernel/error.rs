//! What can go wrong between the object and the kernel, with what the user can do.

use std::io;

use crate::names;

/// The probes cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// bpf(2) was refused altogether.
    #[error("cannot use BPF: {call}: {}; {remedy}", names::io_error(error))]
    Refused {
        /// The command of bpf(2).
        call: &'static str,
        /// What the kernel said.
        error: io::Error,
        /// What the user can do.
        remedy: &'static str,
    },
    /// The kernel's type information is missing or unreadable.
    #[error(
        "cannot read the kernel's type information {path}: {reason}; a kernel built with \
         CONFIG_DEBUG_INFO_BTF is needed (those of the large distributions are)"
    )]
    NoBtf {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A probe that no trace makes sense without.
    #[error("cannot attach the probe {name}: {reason}; Linux 5.10 or newer is needed")]
    Essential {
        /// Name of the tracepoint.
        name: &'static str,
        /// What the kernel said.
        reason: String,
    },
    /// A map could not be made.
    #[error("cannot make the BPF map {name}: {reason}")]
    Map {
        /// Name of the map.
        name: String,
        /// What the kernel said.
        reason: String,
    },
    /// The object in the program is not sound.
    #[error(
        "the BPF object in this program is broken: {0}; build it again with `cargo xtask ebpf`"
    )]
    Object(String),
}

/// What helps when the kernel refuses bpf(2) itself.
pub fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "run as root, or with CAP_BPF, CAP_PERFMON and CAP_SYS_RESOURCE; in a container allow \
             the bpf system call in its seccomp profile; a kernel in lockdown mode \
             \"confidentiality\" never allows it; see procjail check"
        }
        Some(libc::ENOSYS) => "the kernel is built without CONFIG_BPF_SYSCALL; use another",
        Some(libc::ENOMEM) => "free memory or ask for a smaller ring buffer",
        Some(libc::EINVAL) => "Linux 5.10 or newer is needed; see procjail check",
        _ => "see procjail check",
    }
}
