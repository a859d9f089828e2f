//! What can go wrong with cgroups, in words that name path, errno and remedy.

use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::Mode;

/// A cgroup could not be made, limited, entered or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused an operation on a file or directory.
    #[error("cannot {operation} {}: {errno:?} ({}){}", path.display(), errno.desc(), remedy(*errno))]
    Io {
        /// What was tried, such as `create cgroup`.
        operation: String,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        errno: Errno,
    },
    /// The host's cgroup mode has no such limit.
    #[error("{option} is not possible on this host: {reason}")]
    Unsupported {
        /// The option as the user knows it.
        option: &'static str,
        /// Why, and what can be done.
        reason: String,
    },
    /// A limit's value makes no sense.
    #[error("{option} {value}: {reason}")]
    Value {
        /// The option as the user knows it.
        option: &'static str,
        /// The value.
        value: String,
        /// Why, and what can be done.
        reason: String,
    },
    /// A controller that a limit needs can't be used.
    #[error(
        "{option} needs the {controller} controller, which {}: {}",
        match parent {
            Some(parent) => format!("/{} (--cgroup-parent) does not have", parent.display()),
            None => format!("cgroup {mode} of this host does not offer"),
        },
        match parent {
            Some(_) => "make that cgroup in the controller's hierarchy (v1), or enable the controller in \
                        cgroup.subtree_control of the one above it (v2)",
            None => "mount it, or don't disable it on the kernel's command line (cgroup_disable, \
                     cgroup_no_v1)",
        }
    )]
    NoController {
        /// The option as the user knows it.
        option: &'static str,
        /// Name of the controller.
        controller: &'static str,
        /// The host's mode.
        mode: Mode,
        /// What the jail is put below; `None` for the root.
        parent: Option<PathBuf>,
    },
    /// A cgroup that has processes can't pass controllers on: cgroup-v2.rst, "No Internal Process
    /// Constraint".
    #[error(
        "cannot enable controller {controller} for the cgroups below {}: EBUSY (Device or resource busy), as \
         cgroup v2 passes controllers on from cgroups without processes only, and it has some ({who}); move \
         them into a cgroup below it, or name another one (--cgroup-parent)",
        path.display()
    )]
    InternalProcesses {
        /// Name of the controller.
        controller: String,
        /// The cgroup with processes.
        path: PathBuf,
        /// Some of them.
        who: String,
    },
    /// A living launcher owns a jail of this name.
    #[error("a jail named {name} is running{}; choose another --name", owner.map(|pid| format!(" (launcher {pid})")).unwrap_or_default())]
    AlreadyRunning {
        /// Name of the jail.
        name: String,
        /// Its launcher, if it could be found out.
        owner: Option<u32>,
    },
    /// The kernel has no cgroup2 file system.
    #[error("cannot mount a private cgroup2 file system: {errno:?} ({}); this host has none mounted, and procjail needs one for membership", errno.desc())]
    NoCgroup2 {
        /// What the kernel said.
        errno: Errno,
    },
    /// The cgroup that the jail shall be put below doesn't exist.
    #[error(
        "cannot put the jail below {} (--cgroup-parent): {errno:?} ({}); make it first, procjail neither \
         makes nor removes it",
        path.display(), errno.desc()
    )]
    NoParent {
        /// The directory that is missing.
        path: PathBuf,
        /// What the kernel said.
        errno: Errno,
    },
    /// Something is still in the cgroup, or in one below it.
    #[error("cannot remove cgroup {}: {errno:?} ({}) within the time allowed", path.display(), errno.desc())]
    Busy {
        /// The directory that stayed.
        path: PathBuf,
        /// What the kernel said last.
        errno: Errno,
    },
}

impl Error {
    /// An operation on a path that the kernel refused.
    pub(crate) fn io(operation: impl Into<String>, path: impl AsRef<Path>, errno: Errno) -> Error {
        Error::Io {
            operation: operation.into(),
            path: path.as_ref().to_owned(),
            errno,
        }
    }
}

/// What the user can do about an errno of cgroupfs.
fn remedy(errno: Errno) -> &'static str {
    match errno {
        Errno::EACCES | Errno::EPERM => "; run as root or delegate the subtree, see procjail check",
        Errno::EROFS => "; cgroupfs is mounted read-only, remount it read-write",
        Errno::ENOSPC | Errno::EAGAIN => {
            "; the host's limit on cgroups is reached (cgroup.max.descendants)"
        }
        _ => "",
    }
}
