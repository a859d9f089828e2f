//! What dead launchers left on the host, and its removal.
//!
//! A launcher that is killed takes its processes and mounts with it; only empty cgroup directories
//! need a living process to remove them. `procjail clean` does, as does the start of any jail.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::cgroup::{self, State};
use crate::cgroup::{Error, HostCgroups};
use crate::procfs::state as proc;

/// How long the rest of one jail may take: what still lives there is killed first.
const TIME: Duration = Duration::from_secs(5);

/// A jail that was found, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its name.
    pub name: String,
    /// Its cgroup directories, those below it included.
    pub paths: Vec<PathBuf>,
    /// What became of it.
    pub fate: Fate,
}

/// What became of a jail that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its launcher lives (the PID, if it could be found out): not touched.
    Running(Option<u32>),
    /// A leftover; nothing was done because nothing was to be done.
    Found,
    /// Removed.
    Removed,
    /// Not removed, or not all of it.
    Failed {
        /// What is still there.
        left: Vec<PathBuf>,
        /// Why.
        why: String,
    },
}

/// Finds all jails below the cgroup `parent` (`None` for the root), or the one of this name, and removes
/// those whose launcher is dead; with `dry_run` only finds them.
///
/// # Errors
///
/// The host's cgroups can't be made out; that cgroup doesn't exist.
pub fn clean(dry_run: bool, name: Option<&str>, parent: Option<&Path>) -> Result<Vec<Item>, Error> {
    let mut host = HostCgroups::detect()?;
    if let Some(parent) = parent {
        host = host.below(parent)?;
    }
    let found = cgroup::find(&host)?;
    let wanted = found
        .into_iter()
        .filter(|found| name.is_none_or(|name| name == found.name));
    let items = wanted
        .map(|found| Item {
            fate: match found.state {
                State::Running(owner) => Fate::Running(owner),
                State::Stale if dry_run => Fate::Found,
                State::Stale => remove(&host, &found.name),
            },
            name: found.name,
            paths: found.paths,
        })
        .collect();
    if !dry_run {
        // A launcher that was killed before it had made its jail's directory.
        cgroup::remove_empty_parents(&host);
    }
    Ok(items)
}

fn remove(host: &HostCgroups, name: &str) -> Fate {
    match cgroup::remove_stale(host, name, Instant::now() + TIME) {
        Ok(()) => Fate::Removed,
        // Someone started a jail of that name meanwhile.
        Err(Error::AlreadyRunning { owner, .. }) => Fate::Running(owner),
        Err(error) => {
            let mut why = error.to_string();
            for pid in cgroup::members(host, name) {
                why.push_str("; ");
                why.push_str(&proc::describe(pid));
            }
            let found = cgroup::find(host).unwrap_or_default();
            let left = found.into_iter().find(|found| found.name == name);
            Fate::Failed {
                left: left.map_or_else(Vec::new, |found| found.paths),
                why,
            }
        }
    }
}
