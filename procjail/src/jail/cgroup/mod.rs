//! The cgroups of a jail: one directory of the unified hierarchy for membership, kill and the end
//! (`populated`), on every host; and a directory in each hierarchy whose controllers set a limit.
//!
//! | host | membership, kill, freeze | limits |
//! |---|---|---|
//! | v2 | `/sys/fs/cgroup/procjail/NAME` | the same directory |
//! | hybrid | `/sys/fs/cgroup/unified/procjail/NAME` | `/sys/fs/cgroup/CONTROLLER/procjail/NAME` |
//! | v1 | `procjail/NAME` on a private cgroup2 mount | `/sys/fs/cgroup/CONTROLLER/procjail/NAME` |
//!
//! With `--cgroup-parent` all that lies below that cgroup of the user's instead of below the root.

mod claim;
mod join;
mod leftovers;
mod limits;
mod view;

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;

pub use crate::cgroup::PARENT;
use crate::cgroup::{Dir, Error, tree};
use crate::event::Leftover;
use crate::procfs;
use claim::Claim;
pub use join::Joining;
pub use leftovers::{Found, State, find, members, remove_empty_parents, remove_stale};
use limits::Place;
pub use limits::{LimitPlan, Limits, MIN_MEMORY_BYTES};

/// How long [`Cgroups`] takes to remove itself when it is dropped.
const DROP_TIME: Duration = Duration::from_secs(2);

/// One jail's directories. Dropping kills what is inside and removes them, within two seconds.
#[derive(Debug)]
pub struct Cgroups {
    root: Dir,
    claim: Claim,
    id: u64,
    level: u32,
    path: PathBuf,
    v1: Vec<V1>,
    leftovers: Vec<Leftover>,
    removed: bool,
}

/// A directory in a v1 hierarchy, and the way to it.
#[derive(Debug)]
struct V1 {
    root: Dir,
    parent: Dir,
    dir: Dir,
}

/// What a jail has used, as far as the kernel tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Peak memory, bytes: `memory.peak` (v2, Linux 5.19) or `memory.max_usage_in_bytes`.
    pub peak_memory_bytes: Option<u64>,
    /// CPU time, nanoseconds: `cpu.stat`.
    pub cpu_ns: Option<u64>,
    /// Processes that the OOM killer killed for a limit of the jail.
    pub oom_kills: Option<u64>,
}

impl Cgroups {
    /// Makes and locks the directories, and writes the limits. Leftovers of dead launchers are removed
    /// first.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyRunning`] if a living launcher has a jail of this name; whatever the kernel
    /// refuses. Nothing is left behind then.
    pub fn create(name: &str, plan: &LimitPlan) -> Result<Cgroups, Error> {
        let name = OsStr::new(name);
        let root = plan.host.open_v2()?;
        let mut leftovers = Vec::new();
        let claim = leftovers::claim_name(&root, &plan.host, name, &mut leftovers)?;
        let io = |operation: &str, dir: &Dir, errno| Error::io(operation, dir.path(), errno);
        let id = claim
            .dir
            .id()
            .map_err(|errno| io("look at cgroup", &claim.dir, errno))?;
        let mut cgroups = Cgroups {
            id,
            level: plan.host.v2_depth + 2,
            path: claim.dir.path().to_owned(),
            root,
            claim,
            v1: Vec::new(),
            leftovers,
            removed: false,
        };
        // From here on dropping `cgroups` undoes what was done.
        for mount in plan.v1_mounts() {
            cgroups.v1.push(V1::create(&mount, name)?);
        }
        cgroups.enable(plan)?;
        cgroups.limit(plan)?;
        Ok(cgroups)
    }

    /// The directory in the unified hierarchy, for CLONE_INTO_CGROUP (clone(2)).
    pub fn dir_fd(&self) -> BorrowedFd<'_> {
        self.claim.dir.as_fd()
    }

    /// ID of that cgroup, as `bpf_get_current_cgroup_id` tells it.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// How deep it lies below the root of the unified hierarchy (0), as
    /// `bpf_get_current_ancestor_cgroup_id` counts. Behind a cgroup namespace of procjail's own
    /// surroundings the kernel hides how deep that one is.
    pub fn level(&self) -> u32 {
        self.level
    }

    /// What was found of dead launchers: of a jail of this name in any case, of others where something
    /// lived in it. Told once.
    pub fn take_leftovers(&mut self) -> Vec<Leftover> {
        std::mem::take(&mut self.leftovers)
    }

    /// Its path on the host.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves a process into the v1 hierarchies that have limits, in the background. Nothing to do on a
    /// host or for a jail without them.
    ///
    /// # Errors
    ///
    /// What the kernel refuses.
    pub fn join_v1(&self, pid: u32) -> Result<Joining, Error> {
        let dirs = self.v1.iter().map(|v1| {
            let copy = v1.dir.try_clone();
            copy.map_err(|errno| Error::io("open cgroup", v1.dir.path(), errno))
        });
        Joining::start(dirs.collect::<Result<_, _>>()?, pid)
    }

    /// Sends SIGKILL to everything in the jail's cgroup and those below it; tells how.
    ///
    /// # Errors
    ///
    /// What the kernel refuses.
    pub fn kill(&self) -> Result<&'static str, Error> {
        tree::kill(&self.claim.dir).map_err(|errno| Error::io("kill cgroup", &self.path, errno))
    }

    /// A living process is in the jail's cgroup or below.
    ///
    /// # Errors
    ///
    /// `cgroup.events` can't be read.
    pub fn populated(&self) -> io::Result<bool> {
        Ok(tree::populated(&self.claim.dir)?)
    }

    /// Processes in the jail's cgroup and below, host PIDs, as far as they can be seen from here.
    pub fn pids(&self) -> Vec<u32> {
        tree::pids(&self.claim.dir)
    }

    /// Whether this kernel has a file for cgroups that are not the root, such as `cgroup.kill`.
    pub fn has_file(&self, name: &str) -> bool {
        self.claim.dir.has(name)
    }

    /// What the jail has used so far. Read it before [`Cgroups::remove`].
    pub fn usage(&self) -> Usage {
        let number = |dir: &Dir, file: &str| dir.read(file).ok()?.trim().parse().ok();
        let mut usage = Usage {
            peak_memory_bytes: number(&self.claim.dir, "memory.peak"),
            cpu_ns: read_field(&self.claim.dir, "cpu.stat", "usage_usec")
                .and_then(|us| us.checked_mul(1000)),
            oom_kills: read_field(&self.claim.dir, "memory.events", "oom_kill"),
        };
        for v1 in &self.v1 {
            usage.peak_memory_bytes = usage
                .peak_memory_bytes
                .or_else(|| number(&v1.dir, "memory.max_usage_in_bytes"));
            usage.oom_kills = usage
                .oom_kills
                .or_else(|| read_field(&v1.dir, "memory.oom_control", "oom_kill"));
        }
        usage
    }

    /// Removes the directories, with those that the jail made below them; v1 first, so that a v1
    /// directory always has its locked v2 one. Kills what joined in the meantime. May be called again.
    ///
    /// # Errors
    ///
    /// Something was still busy at `deadline`.
    pub fn remove(&mut self, deadline: Instant) -> Result<(), Error> {
        if self.removed {
            return Ok(());
        }
        for v1 in &self.v1 {
            tree::remove(&v1.parent, &self.claim.name, deadline).map_err(busy)?;
            // Not empty while other jails run.
            let _ = v1.root.rmdir(OsStr::new(PARENT));
        }
        tree::remove(&self.claim.parent, &self.claim.name, deadline).map_err(busy)?;
        let _ = self.root.rmdir(OsStr::new(PARENT));
        self.removed = true;
        Ok(())
    }

    /// Makes the needed v2 controllers, and memory for its peak, available to the jail's directory.
    fn enable(&self, plan: &LimitPlan) -> Result<(), Error> {
        let needed = plan.v2_controllers();
        let offered = &plan.host.v2_controllers;
        let extra = offered.contains("memory").then_some("memory");
        for parent in [&self.root, &self.claim.parent] {
            let enabled = parent.read("cgroup.subtree_control").unwrap_or_default();
            for controller in needed.iter().copied().chain(extra) {
                if enabled.split_whitespace().any(|name| name == controller) {
                    continue;
                }
                match parent.write("cgroup.subtree_control", &format!("+{controller}")) {
                    Err(Errno::EBUSY) if needed.contains(controller) => {
                        return Err(Error::InternalProcesses {
                            controller: controller.to_owned(),
                            path: parent.path().to_owned(),
                            who: occupants(parent),
                        });
                    }
                    Err(errno) if needed.contains(controller) => {
                        let file = parent.path().join("cgroup.subtree_control");
                        let operation = format!("enable controller {controller} in");
                        return Err(Error::io(operation, file, errno));
                    }
                    // The peak is only nice to have.
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn limit(&self, plan: &LimitPlan) -> Result<(), Error> {
        for setting in &plan.settings {
            let dir = match &setting.place {
                Place::V2 => Some(&self.claim.dir),
                Place::V1(mount) => {
                    let v1 = self.v1.iter().find(|v1| v1.root.path() == mount);
                    v1.map(|v1| &v1.dir)
                }
            };
            let Some(dir) = dir else { continue };
            dir.write(setting.file, &setting.value).map_err(|errno| {
                Error::io(
                    format!("set {} (write {} to)", setting.option, setting.value),
                    dir.path().join(setting.file),
                    errno,
                )
            })?;
        }
        Ok(())
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        if !self.removed {
            let _ = self.kill();
            let _ = self.remove(Instant::now() + DROP_TIME);
        }
    }
}

impl V1 {
    fn create(mount: &Path, name: &OsStr) -> Result<V1, Error> {
        let path = mount.join(PARENT).join(name);
        let fail = |operation: &'static str| {
            let path = path.clone();
            move |errno| Error::io(operation, path, errno)
        };
        let root = Dir::open(mount).map_err(|errno| Error::io("open", mount, errno))?;
        let mut refused = Errno::ENODEV;
        // The parent vanishes when another jail removes it as empty: again.
        for _ in 0..100 {
            root.mkdir(OsStr::new(PARENT))
                .map_err(fail("create cgroup"))?;
            let made = root.open_made(OsStr::new(PARENT)).and_then(|parent| {
                parent.mkdir(name)?;
                let dir = parent.open_made(name)?;
                Ok((parent, dir))
            });
            match made {
                Ok((parent, dir)) => {
                    // Up to 5.10 a limit counts what is below only if this says so.
                    let _ = dir.write("memory.use_hierarchy", "1");
                    return Ok(V1 { root, parent, dir });
                }
                Err(Errno::ENOENT | Errno::ENODEV) => {}
                Err(errno) => {
                    refused = errno;
                    break;
                }
            }
        }
        // Not empty while other jails run.
        let _ = root.rmdir(OsStr::new(PARENT));
        Err(fail("create cgroup")(refused))
    }
}

/// The processes in a cgroup itself, in words: `bash 4121, sleep 4122 and 3 more`.
fn occupants(dir: &Dir) -> String {
    const NAMED: usize = 3;
    let list = dir.read("cgroup.procs").unwrap_or_default();
    let pids: Vec<u32> = list.lines().filter_map(|pid| pid.parse().ok()).collect();
    let named = pids
        .iter()
        .take(NAMED)
        .map(|&pid| format!("{} {pid}", procfs::host::task(pid).comm.escape_debug()));
    let mut words = named.collect::<Vec<_>>().join(", ");
    if pids.len() > NAMED {
        words += &format!(" and {} more", pids.len() - NAMED);
    }
    words
}

fn read_field(dir: &Dir, file: &str, key: &str) -> Option<u64> {
    tree::field(&dir.read(file).ok()?, key)
}

fn busy((path, errno): (PathBuf, Errno)) -> Error {
    match errno {
        Errno::EBUSY | Errno::ENOTEMPTY => Error::Busy { path, errno },
        errno => Error::io("remove cgroup", path, errno),
    }
}
