//! From a container's records to the cgroup that tells its tasks from the rest of the host.

use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;

use crate::cgroup::{self, Hierarchy, HostCgroups, View, levels};
use crate::procfs::host;
use crate::runtime::Container;
use crate::target::Target;

/// Why something can't be attached to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host's hierarchies can't be read.
    #[error(transparent)]
    Host(#[from] cgroup::Error),
    /// Nothing runs in it.
    #[error("nothing runs in {0} any more")]
    Ended(String),
    /// No cgroup tells it from the rest of the host.
    #[error(
        "{0} is in the root cgroup of the default hierarchy, where nothing tells its processes from the rest of the \
         host; start it with a cgroup of its own (systemd-run --scope, or a runtime that joins cgroup2)"
    )]
    NoCgroup(String),
    /// procjail is in a cgroup namespace from which it can't be reached.
    #[error(
        "{0} is outside of procjail's own cgroup namespace; start procjail in the host's (docker run --cgroupns host, \
         nsenter --cgroup --target 1)"
    )]
    Namespace(String),
    /// It is what procjail itself runs in.
    #[error("{0} is procjail's own cgroup: attach from a shell outside of it")]
    Own(String),
    /// The directory can't be opened.
    #[error("cannot open cgroup {}: {errno:?} ({}); it may have ended this moment", path.display(), errno.desc())]
    Open {
        /// Its path.
        path: PathBuf,
        /// What the kernel said.
        errno: Errno,
    },
}

/// The target of a trace of that container.
///
/// # Errors
///
/// It has ended, or no cgroup of the default hierarchy is its own.
pub fn target(container: &Container) -> Result<Target, Error> {
    let name = container.target();
    let hierarchies = HostCgroups::detect()?;
    let path = match container.cgroup.unified.as_deref() {
        None | Some("/") => return Err(Error::NoCgroup(name)),
        Some(path) => Path::new(path),
    };
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(Error::Namespace(name));
    }
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("0::"));
    if own.is_some_and(|own| Path::new(own).starts_with(path)) {
        return Err(Error::Own(name));
    }
    let root = hierarchies.open_v2()?;
    let inside = path.strip_prefix("/").unwrap_or(path);
    let whole = root.path().join(inside);
    let failed = |errno| match errno {
        Errno::ENOENT | Errno::ENODEV => Error::Ended(name.clone()),
        errno => Error::Open {
            path: whole.clone(),
            errno,
        },
    };
    let dir = root.open_dir(inside.as_os_str()).map_err(failed)?;
    let view = view(container, &hierarchies, root.path()).map_err(failed)?;
    if !view.is_populated() {
        return Err(Error::Ended(name));
    }
    Ok(Target {
        pid: pid_1(container).unwrap_or(0),
        cgroup: whole.clone(),
        cgroup_id: dir.id().map_err(failed)?,
        cgroup_level: hierarchies.v2_depth + depth(path),
        view,
    })
}

fn depth(path: &Path) -> u32 {
    u32::try_from(path.components().count().saturating_sub(1)).unwrap_or(u32::MAX)
}

/// Its init, if that is the PID 1 of a PID namespace: the app of a pod that shares the sandbox's is none, nor is the
/// first process of a unit.
fn pid_1(container: &Container) -> Option<u32> {
    let pid = container.pid?;
    let status = crate::procfs::read(&format!("/proc/{pid}/status"))?;
    let status = crate::procfs::Status::parse(&status);
    let inner = status.text("NSpid").split_whitespace().next_back()?;
    let is_first = inner == "1" && host::namespace(pid, "pid") != host::namespace(1, "pid");
    is_first.then_some(pid)
}

/// Its directories in all hierarchies, and those above it.
fn view(container: &Container, host: &HostCgroups, root: &Path) -> Result<View, Errno> {
    let unified = container.cgroup.unified.as_deref().unwrap_or("/");
    let mut hierarchies = vec![Hierarchy {
        controllers: Vec::new(),
        own: true,
        levels: levels(root, unified)?,
    }];
    let memberships = container
        .pid
        .and_then(|pid| crate::procfs::read(&format!("/proc/{pid}/cgroup")))
        .unwrap_or_default();
    for (controller, mount) in &host.v1 {
        let mounted = |hierarchy: &&mut Hierarchy| {
            let is_root = |level: &cgroup::LevelDir| level.directory() == mount.path;
            !hierarchy.controllers.is_empty() && hierarchy.levels.iter().any(is_root)
        };
        if let Some(known) = hierarchies.iter_mut().find(mounted) {
            known.controllers.push(controller.clone());
            continue;
        }
        let path = cgroup::membership(&memberships, controller);
        let levels = levels(&mount.path, path)?;
        hierarchies.push(Hierarchy {
            controllers: vec![controller.clone()],
            own: is_own(path, unified, &levels),
            levels,
        });
    }
    Ok(View { hierarchies })
}

/// A cgroup of v1 is the target's own if nobody else is in it: a shell's child is in that of its session, say, whose
/// memory and limits are not the child's.
fn is_own(path: &str, unified: &str, levels: &[cgroup::LevelDir]) -> bool {
    let is_inside = |pid: u32| {
        let memberships = crate::procfs::read(&format!("/proc/{pid}/cgroup"));
        // Who ended meanwhile is no stranger.
        memberships.is_none_or(|all| {
            let own = all.lines().find_map(|line| line.strip_prefix("0::"));
            own.is_some_and(|own| Path::new(own).starts_with(unified))
        })
    };
    let alone = || {
        levels
            .first()
            .is_some_and(|level| level.pids().into_iter().all(is_inside))
    };
    path != "/" && (path == unified || alone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{Cgroup, Kind};

    fn container(unified: Option<&str>) -> Container {
        Container {
            cgroup: Cgroup {
                unified: unified.map(str::to_owned),
                ..Cgroup::default()
            },
            ..Container::plain(Kind::Docker, "web".to_owned())
        }
    }

    #[test]
    fn what_no_cgroup_tells_apart_is_refused() {
        for unified in [None, Some("/")] {
            let refused = target(&container(unified)).expect_err("refused");
            assert!(matches!(refused, Error::NoCgroup(_)), "{refused}");
        }
        let hidden = target(&container(Some("/../web"))).expect_err("refused");
        assert!(matches!(hidden, Error::Namespace(_)), "{hidden}");
        let gone = target(&container(Some("/no/such/cgroup"))).expect_err("refused");
        assert!(matches!(gone, Error::Ended(_)), "{gone}");
    }

    #[test]
    fn levels_are_counted_from_the_root() {
        assert_eq!(depth(Path::new("/docker/1")), 2);
        assert_eq!(depth(Path::new("/")), 0);
    }
}
