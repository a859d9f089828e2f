//! From a [`Spec`] to the steps that build the jail.
//!
//! Everything is decided here, before anything is created: every string that the child needs is in
//! its final form, so that the child only walks a list. Each step's `Display` is its line of `--plan`.

mod step;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

pub use step::{INIT, Step};

use super::cgroup::LimitPlan;
use super::error::Error;
use super::mounts::{MountInfo, Peer, Remount};
use super::program::Program;
use super::spec::{Net, Propagation, Rlimit, Spec};
use super::{StopOptions, sys};
use crate::cgroup::{HostCgroups, Mode};

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
