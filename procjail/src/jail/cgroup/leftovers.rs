//! What dead launchers left of their jails: found, told, removed.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::claim::{self, Claim};
use super::{PARENT, busy};
use crate::cgroup::Dir;
use crate::cgroup::Error;
use crate::cgroup::HostCgroups;
use crate::cgroup::tree;
use crate::event::Leftover;
use crate::procfs;

/// How long a new jail waits for the rest of a dead one of the same name.
const STALE_TIME: Duration = Duration::from_secs(5);

/// So many processes of a dead launcher's jail are told of.
const LEFT_PROCESSES: usize = 16;

/// A jail's directories as found on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Name of the jail.
    pub name: String,
    /// Its directories, the unified hierarchy's first, with those that it made below them.
    pub paths: Vec<PathBuf>,
    /// Whether its launcher lives.
    pub state: State,
}

/// Whether a jail's launcher lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It does; its PID if it could be found out.
    Running(Option<u32>),
    /// It is dead: the directories are leftovers.
    Stale,
}

/// All jails of this host, living ones and leftovers.
///
/// # Errors
///
/// The unified hierarchy can't be opened.
pub fn find(host: &HostCgroups) -> Result<Vec<Found>, Error> {
    let root = host.open_v2()?;
    let mut names: Vec<OsString> = jails_in(&root);
    let mut v1_roots: Vec<Dir> = Vec::new();
    for mount in host.v1.values() {
        if v1_roots.iter().all(|root| root.path() != mount.path)
            && let Ok(root) = Dir::open(&mount.path)
        {
            names.extend(jails_in(&root));
            v1_roots.push(root);
        }
    }
    names.sort();
    names.dedup();
    let roots = || std::iter::once(&root).chain(&v1_roots);
    let found = names.into_iter().map(|name| {
        let dirs = roots().filter_map(|root| jail_dir(root, &name).ok());
        let paths = dirs.flat_map(|dir| tree::paths(&dir)).collect();
        let state = match jail_dir(&root, &name) {
            // A v1 directory alone: its owner would hold the v2 one.
            Err(_) => State::Stale,
            Ok(dir) => match claim::acquire_stale(&root, &name) {
                Some(_) => State::Stale,
                None => State::Running(claim::owner(&dir)),
            },
        };
        Found {
            paths,
            name: name.to_string_lossy().into_owned(),
            state,
        }
    });
    Ok(found.collect())
}

/// Removes what a dead launcher left of the jail `name`, processes included.
///
/// # Errors
///
/// Its launcher lives after all, or something was still busy at `deadline`.
pub fn remove_stale(host: &HostCgroups, name: &str, deadline: Instant) -> Result<(), Error> {
    let root = host.open_v2()?;
    // Claimed as for a new jail: nobody can start one of this name meanwhile.
    let claim = claim::acquire(&root, OsStr::new(name))?;
    remove_claimed(host, claim, deadline)
}

/// Removes the directory that all jails are in, wherever there is no jail in it.
pub fn remove_empty_parents(host: &HostCgroups) {
    let v1 = host
        .v1
        .values()
        .filter_map(|mount| Dir::open(&mount.path).ok());
    for root in host.open_v2().into_iter().chain(v1) {
        // Not empty while a jail runs; one that is being started makes it again.
        let _ = root.rmdir(OsStr::new(PARENT));
    }
}

/// Processes in any of the jail's directories, as far as they can be seen from here.
pub fn members(host: &HostCgroups, name: &str) -> Vec<u32> {
    let v1 = host
        .v1
        .values()
        .filter_map(|mount| Dir::open(&mount.path).ok());
    let dirs = host.open_v2().into_iter().chain(v1);
    let mut pids: Vec<u32> = dirs
        .filter_map(|root| jail_dir(&root, OsStr::new(name)).ok())
        .flat_map(|dir| tree::pids(&dir))
        .collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// Before a jail is made: tries to remove the other leftovers, without waiting for anything. Tells those in
/// which something lived.
fn sweep(root: &Dir, host: &HostCgroups, except: &OsStr) -> Vec<Leftover> {
    let mut found = Vec::new();
    for name in jails_in(root) {
        if name != except
            && let Some(claim) = claim::acquire_stale(root, &name)
        {
            let mut left = leftover(host, &claim);
            // What still lives there is killed; `procjail clean`, or the next start, finds it dead.
            left.removed = remove_claimed(host, claim, Instant::now()).is_ok();
            if left.process_count > 0 {
                found.push(left);
            }
        }
    }
    found
}

/// Makes way for a new jail: takes its name, after what a dead launcher had left of a jail of that name is removed.
/// What was found, there or elsewhere, is added to `leftovers`.
pub(super) fn claim_name(
    root: &Dir,
    host: &HostCgroups,
    name: &OsStr,
    leftovers: &mut Vec<Leftover>,
) -> Result<Claim, Error> {
    leftovers.extend(sweep(root, host, name));
    let claim = claim::acquire(root, name)?;
    if !claim.stale {
        return Ok(claim);
    }
    let mut left = leftover(host, &claim);
    // Old limits, peaks and counters must not be taken over: a new directory.
    remove_claimed(host, claim, Instant::now() + STALE_TIME)?;
    left.removed = true;
    leftovers.push(left);
    claim::acquire(root, name)
}

/// What is in the directories of a dead launcher's jail.
fn leftover(host: &HostCgroups, claim: &Claim) -> Leftover {
    let name = claim.name.to_string_lossy();
    let pids = members(host, &name);
    Leftover {
        cgroup: claim.dir.path().to_string_lossy().into_owned(),
        processes: pids
            .iter()
            .take(LEFT_PROCESSES)
            .map(|pid| procfs::host::task(*pid))
            .collect(),
        process_count: pids.len() as u64,
        removed: false,
        name: name.into_owned(),
    }
}

fn remove_claimed(host: &HostCgroups, claim: Claim, deadline: Instant) -> Result<(), Error> {
    if tree::populated(&claim.dir).unwrap_or(true) {
        let _ = tree::kill(&claim.dir);
    }
    for mount in host.v1.values() {
        if let Ok(root) = Dir::open(&mount.path)
            && let Ok(parent) = root.open_dir(OsStr::new(PARENT))
        {
            tree::remove(&parent, &claim.name, deadline).map_err(busy)?;
            let _ = root.rmdir(OsStr::new(PARENT));
        }
    }
    tree::remove(&claim.parent, &claim.name, deadline).map_err(busy)?;
    let _ = host.open_v2().map(|root| root.rmdir(OsStr::new(PARENT)));
    Ok(())
}

fn jails_in(root: &Dir) -> Vec<OsString> {
    root.open_dir(OsStr::new(PARENT))
        .and_then(|parent| parent.subdirs())
        .unwrap_or_default()
}

fn jail_dir(root: &Dir, name: &OsStr) -> Result<Dir, Errno> {
    root.open_dir(OsStr::new(PARENT))?.open_dir(name)
}
