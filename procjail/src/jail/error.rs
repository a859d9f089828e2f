//! Why a jail can't be: one sentence with what was tried, on what, what the kernel said and what helps.

use std::ffi::OsStr;
use std::io;

use nix::errno::Errno;

use crate::{event, exit};

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
        /// What the kernel said; none if it wasn't asked.
        errno: Option<Errno>,
        /// What is wrong and what helps.
        reason: String,
    },
    /// A step of the set-up failed in the child.
    #[error("cannot {step}: {what}{}{remedy}", if remedy.is_empty() { "" } else { "; " })]
    Step {
        /// The step, as in the plan.
        step: String,
        /// What it is about, if that is a path.
        path: Option<String>,
        /// What the kernel said.
        errno: Errno,
        /// The same in words, and of which part.
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
    Cgroup(#[from] crate::cgroup::Error),
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

    /// The same as an event of a trace.
    pub fn setup_failed(&self) -> event::SetupFailed {
        const GENERAL: &str =
            "See what procjail check says of this host, and procjail run --plan for the steps.";
        let (step, path, errno, remedy) = match self {
            Error::NotFound { app, path } => (
                match path {
                    Some(path) => format!("find {app} in the jail's PATH ({path})"),
                    None => format!("find {app} in the jail"),
                },
                Some(app.clone()),
                Some(Errno::ENOENT),
                "Name a program that exists inside the jail: see --root, --bind, --workdir and PATH.".into(),
            ),
            Error::NotExecutable { file, errno, reason } => (
                format!("execute {file}"),
                Some(file.clone()),
                *errno,
                match reason.split_once("; ") {
                    Some((_, remedy)) => sentence(remedy),
                    None => format!("Name a program that can be executed: {reason}."),
                },
            ),
            Error::Step { step, path, errno, remedy, .. } => {
                (step.clone(), path.clone(), Some(*errno), sentence(remedy))
            }
            Error::Launcher { what, errno, remedy } => (
                (*what).to_owned(),
                None,
                Some(*errno),
                sentence(remedy.trim_start_matches("; ")),
            ),
            Error::Died { hint, .. } => (
                "set up PID 1".into(),
                None,
                None,
                sentence(hint.trim_start_matches("; ")),
            ),
            Error::Interrupted => (
                "set up the jail before it was asked to stop".into(),
                None,
                None,
                "Ask later, or allow more time with --stop-timeout.".into(),
            ),
            _ => ("set up the jail".to_owned(), None, None, String::new()),
        };
        event::SetupFailed {
            step,
            path,
            error: errno.map(|errno| event::Errno::new(errno as i32)),
            message: self.to_string(),
            remedy: if remedy.is_empty() {
                GENERAL.to_owned()
            } else {
                remedy
            },
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

/// A part of a message as a sentence of its own; nothing stays nothing, and a name stays as it is.
fn sentence(part: &str) -> String {
    let mut letters = part.chars();
    match letters.next() {
        Some(_) if part.starts_with("procjail") || part.starts_with('/') => format!("{part}."),
        Some(first) => format!("{}{}.", first.to_uppercase(), letters.as_str()),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_the_step_the_path_the_error_and_the_remedy() {
        let failed = Error::Step {
            step: "change the working directory to /nodir".into(),
            path: Some("/nodir".into()),
            errno: Errno::ENOENT,
            what: Error::errno_words(Errno::ENOENT),
            remedy: "choose a directory that exists in the jail with --workdir".into(),
        }
        .setup_failed();
        assert_eq!(failed.step, "change the working directory to /nodir");
        assert_eq!(failed.path.as_deref(), Some("/nodir"));
        assert_eq!(
            failed.error.map(|error| error.name).as_deref(),
            Some("ENOENT")
        );
        assert!(
            failed.message.starts_with("cannot change"),
            "{}",
            failed.message
        );
        assert!(
            failed.remedy.starts_with("Choose a directory"),
            "{}",
            failed.remedy
        );
    }

    #[test]
    fn no_failure_is_without_a_remedy() {
        let step = |remedy: &str| Error::Step {
            step: "x".into(),
            path: None,
            errno: Errno::EIO,
            what: String::new(),
            remedy: remedy.into(),
        };
        let not_found = Error::NotFound {
            app: "x".into(),
            path: None,
        };
        let denied = Error::NotExecutable {
            file: "/x".into(),
            errno: Some(Errno::EACCES),
            reason: "EACCES (Permission denied); it needs chmod +x".into(),
        };
        assert_eq!(denied.setup_failed().remedy, "It needs chmod +x.");
        for error in [
            step(""),
            step("do"),
            not_found,
            denied,
            Error::Timeout { seconds: 1 },
            Error::Interrupted,
        ] {
            assert!(error.setup_failed().remedy.ends_with('.'), "{error}");
        }
    }
}
