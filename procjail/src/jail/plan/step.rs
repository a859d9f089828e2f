//! The steps of a plan, and how each reads.

use std::ffi::CString;
use std::fmt;

use super::super::mounts::Remount;
use super::super::spec::{Rlimit, User};

/// One thing that PID 1 does before it executes APP.
#[derive(Debug)]
pub enum Step {
    /// Die with the launcher.
    Arm,
    /// Cut the mounts loose from the host's.
    Propagation {
        /// Still get what the host mounts.
        slave: bool,
    },
    /// Open the copies of the host's shared mounts.
    OpenPeers,
    /// Clone the mount that a bind mount starts from.
    Clone {
        /// Where the clone waits.
        slot: usize,
        /// Path on the host.
        source: CString,
        /// Make it read-only.
        read_only: bool,
    },
    /// Clone the new root and put it in its place.
    Root {
        /// Path on the host.
        dir: CString,
    },
    /// Make the root and all below read-only.
    ReadOnly {
        /// Mount by mount, for a kernel without mount_setattr(2).
        remounts: Vec<Remount>,
    },
    /// Mount a new proc.
    Proc,
    /// Mount a minimal /dev.
    Dev,
    /// Mount a new tmpfs.
    Tmpfs {
        /// Path inside.
        target: CString,
        /// Most that it holds, bytes.
        size_bytes: Option<CString>,
    },
    /// Put a clone in its place.
    Attach {
        /// Where it waits.
        slot: usize,
        /// Path inside.
        target: CString,
        /// To make it read-only on a kernel without mount_setattr(2).
        remounts: Vec<Remount>,
    },
    /// Change the root and detach the old one.
    Pivot,
    /// Join the host's peer groups.
    JoinPeers,
    /// Set the host name.
    Hostname(CString),
    /// Bring up the loopback interface.
    Loopback,
    /// Set a resource limit.
    Rlimit(Rlimit),
    /// Empty the inheritable capabilities.
    Capabilities,
    /// Wait until the launcher is ready.
    Gate,
    /// Make a cgroup namespace, now that this process is in its cgroups.
    CgroupNamespace,
    /// Become the reaper, and go on in a child.
    Init,
    /// Become another user.
    User(User),
    /// Change the working directory.
    Workdir(CString),
    /// Execute APP.
    Execute(String),
}

/// How [`Step::Init`] reads, by which a trace is known to be of a jail with `--init`.
pub const INIT: &str = "become procjail-init, go on in its child";

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |path: &CString| path.to_string_lossy().into_owned();
        match self {
            Step::Arm => write!(f, "die with the launcher (PR_SET_PDEATHSIG SIGKILL)"),
            Step::Propagation { slave: false } => write!(f, "make every mount private"),
            Step::Propagation { slave: true } => {
                write!(f, "make every mount a slave of the host's")
            }
            Step::OpenPeers => write!(f, "remember the mounts that the host shares"),
            Step::Clone {
                source, read_only, ..
            } => {
                let how = if *read_only { ", read-only" } else { "" };
                write!(f, "clone the mounts at {} of the host{how}", text(source))
            }
            Step::Root { dir } => write!(f, "clone the mounts at {}, the new root", text(dir)),
            Step::ReadOnly { .. } => write!(f, "make the root and every mount below read-only"),
            Step::Proc => write!(f, "mount a new proc at /proc"),
            Step::Dev => write!(
                f,
                "mount a minimal /dev: null zero full random urandom tty ptmx, fd stdin stdout stderr, pts shm"
            ),
            Step::Tmpfs { target, size_bytes } => {
                write!(f, "mount a new tmpfs at {}", text(target))?;
                match size_bytes {
                    Some(size) => write!(f, " of {} bytes", text(size)),
                    None => Ok(()),
                }
            }
            Step::Attach { target, .. } => write!(f, "attach the clone at {}", text(target)),
            Step::Pivot => write!(f, "change the root and detach the old one (pivot_root)"),
            Step::JoinPeers => write!(f, "share again with the host what it shares"),
            Step::Hostname(name) => write!(f, "set the host name to {}", text(name)),
            Step::Loopback => write!(f, "bring up the loopback interface"),
            Step::Rlimit(limit) => {
                let number = |value| match value {
                    u64::MAX => "unlimited".to_owned(),
                    _ => format!("{value}"),
                };
                let (soft, hard) = (number(limit.soft), number(limit.hard));
                write!(
                    f,
                    "set resource limit {} to {soft}, at most {hard}",
                    limit.name
                )
            }
            Step::Capabilities => write!(f, "empty the inheritable capabilities"),
            Step::Gate => write!(f, "wait at the gate until the launcher is ready"),
            Step::CgroupNamespace => write!(f, "make a cgroup namespace"),
            Step::Init => f.write_str(INIT),
            Step::User(user) => write!(
                f,
                "become user {} and group {}, without further groups",
                user.uid, user.gid
            ),
            Step::Workdir(dir) => write!(f, "change the working directory to {}", text(dir)),
            Step::Execute(app) => write!(
                f,
                "close all descriptors above 2, reset all signals, execute {app}"
            ),
        }
    }
}
