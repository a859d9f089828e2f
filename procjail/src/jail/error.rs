//! Why a jail can't be: one sentence with what was tried, on what, what the kernel said and what helps.

use std::ffi::OsStr;
use std::io;

use nix::errno::Errno;

use super::cgroup;
use crate::exit;

/// Why a jail can't be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The launcher lacks privileges.
    #[error(
        "run and trace need root (CAP_SYS_ADMIN) to make namespaces and cgroups: run with sudo"
    )]
    NotRoot,
    /// An option's value doesn't fit the host.
    #[error("{option} {value}: {reason}")]
    Option {
        /// The option.
        option: &'static str,
        /// Its value.
        value: String,
        /// What is wrong and what helps.
        reason: String,
    },
    /// APP doesn't exist.
    #[error("{app:?} was not found{}", match path {
        Some(path) => format!(" in the jail's PATH ({path})"),
        None => " in the jail".to_owned(),
    })]
    NotFound {
        /// As the user named it.
        app: String,
        /// What was searched; `None` if APP is a path.
        path: Option<String>,
    },
    /// APP exists but can't be executed.
    #[error("cannot execute {file}: {reason}")]
    NotExecutable {
        /// The file.
        file: String,
        /// What is wrong and what helps.
        reason: String,
    },
    /// A step of the set-up failed in the child.
    #[error("cannot {step}: {what}{}{remedy}", if remedy.is_empty() { "" } else { "; " })]
    Step {
        /// The step, as in the plan.
        step: String,
        /// What the kernel said.
        what: String,
        /// What helps; may be empty.
        remedy: String,
    },
    /// A step of the launcher failed.
    #[error("cannot {what}: {}{remedy}", Error::errno_words(*errno))]
    Launcher {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        errno: Errno,
        /// What helps, after a semicolon; may be empty.
        remedy: &'static str,
    },
    /// PID 1 died before APP executed.
    #[error("PID 1 died of {signal} before it executed APP{hint}")]
    Died {
        /// Name of the signal, or its exit code in words.
        signal: String,
        /// A likely reason; may be empty.
        hint: &'static str,
    },
    /// The set-up didn't end in time.
    #[error(
        "the jail was not set up within {seconds} s; a path of --root, --bind or --workdir may be on a file system that doesn't answer"
    )]
    Timeout {
        /// The bound.
        seconds: u64,
    },
    /// The user asked to stop before APP executed, and twice or the set-up took too long after that.
    #[error("stopped before APP executed")]
    Interrupted,
    /// The launcher's signals can't be opened.
    #[error("cannot receive signals: {0}; see ulimit -n")]
    Signals(io::Error),
    /// Cgroups.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
}

impl Error {
    /// The exit code that procjail ends with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::NotFound { .. } => exit::NOT_FOUND,
            Error::NotExecutable { .. } => exit::NOT_EXECUTABLE,
            _ => exit::FAILED,
        }
    }

    pub(super) fn option(option: &'static str, value: &OsStr, reason: String) -> Error {
        Error::Option {
            option,
            value: value.to_string_lossy().into_owned(),
            reason,
        }
    }

    pub(super) fn launcher(what: &'static str) -> impl Fn(Errno) -> Error {
        move |errno| Error::Launcher {
            what,
            errno,
            remedy: match errno {
                Errno::EPERM => "; run as root, outside of containers that forbid it",
                Errno::EAGAIN => {
                    "; too many processes: see ulimit -u and the pids limit of this cgroup"
                }
                Errno::EMFILE | Errno::ENFILE => "; too many open files: see ulimit -n",
                Errno::ENOSPC => {
                    "; too many nested namespaces: see /proc/sys/user/max_*_namespaces"
                }
                Errno::ENOSYS => "; procjail needs Linux 5.10 or newer",
                _ => "",
            },
        }
    }

    /// `ENOENT (No such file or directory)`.
    pub(super) fn errno_words(errno: Errno) -> String {
        format!("{errno:?} ({})", errno.desc())
    }

    /// The same for an error of the standard library.
    pub(super) fn io_words(error: &io::Error) -> String {
        crate::names::io_error(error)
    }
}
