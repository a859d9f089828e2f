//! From a [`Spec`] to the steps that build the jail.
//!
//! Everything is decided here, before anything is created: every string that the child needs is in
//! its final form, so that the child only walks a list. Each step's `Display` is its line of `--plan`.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::cgroup::{HostCgroups, LimitPlan, Mode};
use super::error::Error;
use super::mounts::{MountInfo, Peer, Remount};
use super::program::Program;
use super::spec::{Net, Propagation, Rlimit, Spec, User};
use super::{StopOptions, sys};

/// What is done to build a jail, in order.
#[derive(Debug)]
pub struct Plan {
    pub(super) name: String,
    pub(super) limits: LimitPlan,
    pub(super) stop: StopOptions,
    pub(super) net: Net,
    pub(super) steps: Vec<Step>,
    pub(super) program: Program,
    /// Shared mounts of the host that the jail joins again (`--propagation shared`).
    pub(super) peers: Vec<Peer>,
    /// Number of clones of mounts that wait for their place: slots in [`super::child`].
    pub(super) slots: usize,
    cgroup_mode: Mode,
    command: Vec<String>,
}

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
            Step::Init => write!(f, "become procjail-init, go on in its child"),
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

/// What the plan depends on and the command line doesn't tell.
#[derive(Debug)]
pub struct Facts {
    /// Cgroups of the host.
    pub cgroups: HostCgroups,
    /// The kernel has mount_setattr(2) (5.12).
    pub mount_setattr: bool,
    /// The kernel has MOVE_MOUNT_SET_GROUP (5.15).
    pub mount_groups: bool,
    /// The launcher's working directory; `None` if it was removed.
    pub cwd: Option<PathBuf>,
}

impl Facts {
    /// Asks the host.
    ///
    /// # Errors
    ///
    /// The host's cgroups can't be made out.
    pub fn detect() -> Result<Facts, Error> {
        Self::detect_below(None)
    }

    /// Asks the host, for a jail that is put below a cgroup of the user's.
    ///
    /// # Errors
    ///
    /// As [`Facts::detect`]; that cgroup doesn't exist.
    pub fn detect_below(parent: Option<&Path>) -> Result<Facts, Error> {
        let host = HostCgroups::detect()?;
        Ok(Facts {
            cgroups: match parent {
                Some(parent) => host.below(parent)?,
                None => host,
            },
            mount_setattr: sys::has_mount_setattr(),
            mount_groups: sys::has_mount_groups(),
            cwd: std::env::current_dir().ok(),
        })
    }
}

impl Plan {
    /// Compiles the steps.
    ///
    /// # Errors
    ///
    /// Whatever can be known now to fail later: a limit that the host can't set, a path that doesn't
    /// exist, a program that can't be executed.
    pub fn compile(spec: &Spec, facts: &Facts) -> Result<Plan, Error> {
        let limits = spec.limits.plan(&facts.cgroups)?;
        check_paths(spec)?;
        if spec.propagation == Propagation::Shared && !facts.mount_groups {
            let reason = "this kernel can't join mounts to their peers again, which takes Linux 5.15; use private or slave";
            return Err(Error::option(
                "--propagation",
                OsStr::new("shared"),
                reason.into(),
            ));
        }
        let program = Program::new(&spec.command, &spec.env)?;
        let own_view = spec.root.is_none() && spec.binds.is_empty() && spec.tmpfs.is_empty();
        if own_view && spec.workdir.is_none() {
            program.check(spec.user.is_some())?;
        }
        // Only these look at the table of mounts, which is long on some hosts.
        let mounts = if spec.propagation == Propagation::Shared
            || (!facts.mount_setattr && (spec.read_only || spec.binds.iter().any(|b| b.read_only)))
        {
            MountInfo::read()?
        } else {
            Vec::new()
        };
        let peers = match spec.propagation {
            Propagation::Shared => Peer::find(&mounts, spec.root.as_deref())?,
            _ => Vec::new(),
        };
        let mut steps = vec![Step::Arm];
        steps.push(Step::Propagation {
            slave: spec.propagation == Propagation::Slave,
        });
        if !peers.is_empty() && spec.root.is_none() {
            steps.push(Step::OpenPeers);
        }
        // Sources first: they are the host's paths, as they are before anything is mounted over them.
        let mut slots = 0;
        for bind in &spec.binds {
            steps.push(Step::Clone {
                slot: slots,
                source: c_path(&bind.source)?,
                read_only: bind.read_only && facts.mount_setattr,
            });
            slots += 1;
        }
        let keep_dev = spec.read_only && spec.root.is_none();
        if keep_dev {
            steps.push(Step::Clone {
                slot: slots,
                source: c"/dev".into(),
                read_only: false,
            });
            slots += 1;
        }
        if let Some(root) = &spec.root {
            steps.push(Step::Root { dir: c_path(root)? });
            if !peers.is_empty() {
                steps.push(Step::OpenPeers);
            }
        }
        if spec.read_only {
            let root = spec.root.as_deref().unwrap_or(Path::new("/"));
            steps.push(Step::ReadOnly {
                remounts: Remount::list(&mounts, root, !facts.mount_setattr)?,
            });
        }
        steps.push(Step::Proc);
        if spec.root.is_some() {
            steps.push(Step::Dev);
        } else if keep_dev {
            steps.push(Step::Attach {
                slot: slots - 1,
                target: c"/dev".into(),
                remounts: Vec::new(),
            });
        }
        for tmpfs in &spec.tmpfs {
            steps.push(Step::Tmpfs {
                target: c_path(&tmpfs.target)?,
                size_bytes: tmpfs
                    .size_bytes
                    .map(|size| c_string(size.to_string()))
                    .transpose()?,
            });
        }
        for (slot, bind) in spec.binds.iter().enumerate() {
            let by_hand = bind.read_only && !facts.mount_setattr;
            steps.push(Step::Attach {
                slot,
                target: c_path(&bind.target)?,
                remounts: Remount::list(&mounts, &bind.source, by_hand)?,
            });
        }
        if spec.root.is_some() {
            steps.push(Step::Pivot);
        }
        if !peers.is_empty() {
            steps.push(Step::JoinPeers);
        }
        if let Some(hostname) = &spec.hostname {
            steps.push(Step::Hostname(c_string(hostname.as_str())?));
        }
        if spec.net == Net::None {
            steps.push(Step::Loopback);
        }
        steps.extend(spec.rlimits.iter().cloned().map(Step::Rlimit));
        steps.extend([Step::Capabilities, Step::Gate, Step::CgroupNamespace]);
        if spec.init {
            steps.push(Step::Init);
        }
        steps.extend(spec.user.map(Step::User));
        let workdir = match (&spec.workdir, &spec.root) {
            (Some(dir), _) => Some(dir.as_path()),
            (None, Some(_)) => Some(Path::new("/")),
            // The launcher's directory may lie under one of the new mounts.
            (None, None) if !own_view => facts.cwd.as_deref(),
            (None, None) => None,
        };
        if let Some(dir) = workdir {
            steps.push(Step::Workdir(c_path(dir)?));
        }
        steps.push(Step::Execute(program.app()));
        Ok(Plan {
            name: spec.name.as_str().to_owned(),
            limits,
            stop: spec.stop,
            net: spec.net,
            steps,
            program,
            peers,
            slots,
            cgroup_mode: facts.cgroups.mode,
            command: spec
                .command
                .iter()
                .map(|arg| arg.to_string_lossy().into_owned())
                .collect(),
        })
    }

    /// The plan in words, one line for each step, as `--plan` prints it.
    pub fn steps(&self) -> Vec<String> {
        let net = if self.net == Net::None { ", net" } else { "" };
        let mut lines = vec![
            "start the guard: PID 1 of an outer pid namespace, killed when the launcher dies"
                .to_owned(),
        ];
        lines.extend(self.limits.steps(&self.name));
        lines.push(format!(
            "clone PID 1 into the cgroup, with new namespaces: pid, mnt, uts, ipc{net}"
        ));
        for step in &self.steps {
            if matches!(step, Step::Gate) && self.limits.needs_v1() {
                lines.push("move PID 1 into the v1 cgroups".to_owned());
            }
            lines.push(step.to_string());
        }
        lines
    }

    /// The limits as they will be written: file to value.
    pub fn limits(&self) -> BTreeMap<String, String> {
        self.limits.settings()
    }

    /// Name of the jail.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How the host has mounted its cgroups.
    pub fn cgroup_mode(&self) -> Mode {
        self.cgroup_mode
    }

    /// APP and its arguments.
    pub fn command(&self) -> &[String] {
        &self.command
    }

    /// APP's environment, `NAME=VALUE` each.
    pub fn environment(&self) -> impl Iterator<Item = &[u8]> {
        self.program.environment()
    }

    /// Soft resource limits of APP, none for no limit: the launcher's own, which a process inherits,
    /// and those asked for.
    pub fn rlimits(&self) -> BTreeMap<String, Option<u64>> {
        let mut limits = Rlimit::inherited();
        for step in &self.steps {
            if let Step::Rlimit(limit) = step {
                let soft = (limit.soft != u64::MAX).then_some(limit.soft);
                limits.insert(limit.name.to_owned(), soft);
            }
        }
        limits
    }

    /// Mounts that APP makes are passed to the host (`--propagation shared`).
    pub fn passes_mounts(&self) -> bool {
        !self.peers.is_empty()
    }

    /// How the jail is stopped.
    pub fn stop(&self) -> &StopOptions {
        &self.stop
    }
}

/// Asks the host for the paths that the options name.
fn check_paths(spec: &Spec) -> Result<(), Error> {
    if let Some(root) = &spec.root {
        let refuse = |reason: String| Error::option("--root", root.as_os_str(), reason);
        match std::fs::metadata(root) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(refuse("it is not a directory".into())),
            Err(error) => return Err(refuse(Error::io_words(&error))),
        }
    }
    for bind in &spec.binds {
        if let Err(error) = std::fs::metadata(&bind.source) {
            let reason = format!("the source: {}", Error::io_words(&error));
            return Err(Error::option("--bind", bind.source.as_os_str(), reason));
        }
    }
    Ok(())
}

/// A path for the kernel.
pub(super) fn c_path(path: &Path) -> Result<CString, Error> {
    c_string(path.as_os_str())
}

/// A string for the kernel.
pub(super) fn c_string(text: impl AsRef<OsStr>) -> Result<CString, Error> {
    let text = text.as_ref();
    CString::new(text.as_bytes())
        .map_err(|_| Error::option("argument", text, "it contains a NUL byte".into()))
}

/// `NAME=VALUE` for the kernel.
pub(super) fn c_variable(name: &OsStr, value: &OsStr) -> Result<CString, Error> {
    let mut text: OsString = name.to_owned();
    text.push("=");
    text.push(value);
    let shown = name.to_owned();
    CString::new(text.into_vec())
        .map_err(|_| Error::option("--env", &shown, "it contains a NUL byte".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jail::cgroup::Limits;
    use crate::jail::spec::{Bind, Name, Tmpfs};

    fn spec(app: &str) -> Spec {
        Spec {
            name: "test".parse::<Name>().unwrap(),
            command: vec![app.into()],
            limits: Limits::default(),
            cgroup_parent: None,
            net: Net::Host,
            root: None,
            read_only: false,
            binds: Vec::new(),
            tmpfs: Vec::new(),
            hostname: None,
            workdir: None,
            env: Vec::new(),
            user: None,
            rlimits: Vec::new(),
            propagation: Propagation::Private,
            init: false,
            stop: StopOptions::default(),
        }
    }

    fn lines(spec: &Spec) -> Vec<String> {
        let facts = Facts {
            cgroups: HostCgroups::detect().unwrap(),
            mount_setattr: true,
            mount_groups: true,
            cwd: Some("/here".into()),
        };
        let plan = Plan::compile(spec, &facts).unwrap();
        plan.steps.iter().map(Step::to_string).collect()
    }

    #[test]
    fn the_plainest_jail_takes_few_steps() {
        assert_eq!(
            lines(&spec("/bin/sh")),
            [
                "die with the launcher (PR_SET_PDEATHSIG SIGKILL)",
                "make every mount private",
                "mount a new proc at /proc",
                "empty the inheritable capabilities",
                "wait at the gate until the launcher is ready",
                "make a cgroup namespace",
                "close all descriptors above 2, reset all signals, execute /bin/sh",
            ]
        );
    }

    #[test]
    fn sources_are_cloned_before_anything_is_mounted_over_them() {
        let all = lines(&Spec {
            read_only: true,
            binds: vec![Bind {
                source: "/etc".into(),
                target: "/tmp/etc".into(),
                read_only: true,
            }],
            tmpfs: vec![Tmpfs {
                target: "/tmp".into(),
                size_bytes: Some(4096),
            }],
            propagation: Propagation::Slave,
            user: Some(User { uid: 1, gid: 2 }),
            ..spec("/bin/sh")
        });
        assert_eq!(
            all[1..],
            [
                "make every mount a slave of the host's",
                "clone the mounts at /etc of the host, read-only",
                "clone the mounts at /dev of the host",
                "make the root and every mount below read-only",
                "mount a new proc at /proc",
                "attach the clone at /dev",
                "mount a new tmpfs at /tmp of 4096 bytes",
                "attach the clone at /tmp/etc",
                "empty the inheritable capabilities",
                "wait at the gate until the launcher is ready",
                "make a cgroup namespace",
                "become user 1 and group 2, without further groups",
                "change the working directory to /here",
                "close all descriptors above 2, reset all signals, execute /bin/sh",
            ]
        );
    }

    #[test]
    fn what_an_old_kernel_cannot_do_is_refused() {
        let facts = Facts {
            cgroups: HostCgroups::detect().unwrap(),
            mount_setattr: false,
            mount_groups: false,
            cwd: None,
        };
        let shared = Spec {
            propagation: Propagation::Shared,
            ..spec("/bin/sh")
        };
        let refusal = Plan::compile(&shared, &facts).unwrap_err().to_string();
        assert!(refusal.contains("Linux 5.15"), "{refusal}");
    }

    #[test]
    fn text_with_a_nul_byte_is_refused() {
        let facts = Facts {
            cgroups: HostCgroups::detect().unwrap(),
            mount_setattr: true,
            mount_groups: true,
            cwd: None,
        };
        let mut bad = spec("/bin/sh");
        bad.command.push(OsString::from_vec(b"a\0b".to_vec()));
        assert!(matches!(
            Plan::compile(&bad, &facts),
            Err(Error::Option { .. })
        ));
        let mut bad = spec("/bin/sh");
        bad.env
            .push(("A".into(), OsString::from_vec(b"a\0b".to_vec())));
        assert!(matches!(
            Plan::compile(&bad, &facts),
            Err(Error::Option { .. })
        ));
    }
}
