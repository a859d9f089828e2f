//! The jail's cgroups as a reader of their files sees them: its own directories and those above, in
//! every hierarchy that has something to tell.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::dir::Dir;
use super::host::HostCgroups;
use super::{Cgroups, PARENT, tree};

/// What can be read about a jail's cgroups. It may be used until long after the jail is removed: there
/// is nothing to be read then.
#[derive(Debug)]
pub struct View {
    /// Hierarchies; the unified one first.
    pub hierarchies: Vec<Hierarchy>,
}

/// One hierarchy that the jail is in.
#[derive(Debug)]
pub struct Hierarchy {
    /// Its v1 controllers; empty for the unified hierarchy.
    pub controllers: Vec<String>,
    /// The first level is the jail's own. Else it is the launcher's, which the jail shares.
    pub own: bool,
    /// The jail's directory first, the root last.
    pub levels: Vec<LevelDir>,
}

/// A cgroup's directory.
#[derive(Debug)]
pub struct LevelDir {
    /// Its path below the hierarchy's root.
    pub path: String,
    dir: Dir,
}

impl LevelDir {
    /// Content of one of its files.
    ///
    /// # Errors
    ///
    /// ENOENT where the kernel doesn't have it, ENODEV once the cgroup is removed.
    pub fn read(&self, file: &str) -> Result<String, Errno> {
        self.dir.read(file)
    }

    /// Its path on the host.
    pub fn directory(&self) -> &Path {
        self.dir.path()
    }

    /// Opens one of its files for reading, to be read again and again from its beginning.
    ///
    /// # Errors
    ///
    /// As [`LevelDir::read`].
    pub fn open(&self, file: &str) -> Result<OwnedFd, Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        nix::fcntl::openat(&self.dir, file, flags, Mode::empty())
    }
}

impl LevelDir {
    /// The cgroup was not removed.
    pub fn exists(&self) -> bool {
        // Those of a removed one answer ENODEV.
        self.dir.read("cgroup.procs").is_ok()
    }

    /// Processes in it and below, host PIDs.
    pub fn pids(&self) -> Vec<u32> {
        tree::pids(&self.dir)
    }

    fn try_clone(&self) -> Result<LevelDir, Errno> {
        Ok(LevelDir {
            path: self.path.clone(),
            dir: self.dir.try_clone()?,
        })
    }
}

impl View {
    /// The same once more, for another thread.
    ///
    /// # Errors
    ///
    /// Out of descriptors.
    pub fn try_clone(&self) -> Result<View, Errno> {
        let copy = |hierarchy: &Hierarchy| {
            let levels = hierarchy.levels.iter().map(LevelDir::try_clone);
            Ok(Hierarchy {
                controllers: hierarchy.controllers.clone(),
                own: hierarchy.own,
                levels: levels.collect::<Result<_, _>>()?,
            })
        };
        let hierarchies = self.hierarchies.iter().map(copy);
        Ok(View {
            hierarchies: hierarchies.collect::<Result<_, Errno>>()?,
        })
    }

    /// The unified hierarchy, whose cgroup says who is in the jail.
    pub fn unified(&self) -> Option<&Hierarchy> {
        self.hierarchies
            .iter()
            .find(|hierarchy| hierarchy.controllers.is_empty())
    }

    /// The hierarchy that has a controller: a v1 one, or the unified one if its own directory has
    /// `file`.
    pub fn with(&self, controller: &str, file: &str) -> Option<&Hierarchy> {
        let v1 = self.hierarchies.iter().find(|hierarchy| {
            hierarchy
                .controllers
                .iter()
                .any(|found| found == controller)
        });
        v1.or_else(|| {
            self.unified().filter(|unified| {
                unified
                    .levels
                    .first()
                    .is_some_and(|level| level.dir.has(file))
            })
        })
    }

    /// Processes in the jail's cgroup and below, host PIDs.
    pub fn pids(&self) -> Vec<u32> {
        self.unified()
            .and_then(|unified| unified.levels.first())
            .map_or_else(Vec::new, |level| tree::pids(&level.dir))
    }
}

impl Cgroups {
    /// Opens the directories for reading.
    ///
    /// # Errors
    ///
    /// Out of descriptors, mostly.
    pub fn view(&self, host: &HostCgroups) -> Result<View, Errno> {
        let name = self.claim.name.to_string_lossy();
        let above = host.parent.as_deref().unwrap_or(Path::new(""));
        let mut hierarchies = vec![Hierarchy {
            controllers: Vec::new(),
            own: true,
            levels: own_levels(
                &name,
                &self.claim.dir,
                &self.claim.parent,
                &self.root,
                above,
            )?,
        }];
        let memberships = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        for (controller, mount) in &host.v1 {
            let same = |hierarchy: &&mut Hierarchy| {
                let is_root = |level: &LevelDir| level.dir.path() == mount.path;
                !hierarchy.controllers.is_empty() && hierarchy.levels.iter().any(is_root)
            };
            if let Some(known) = hierarchies.iter_mut().find(same) {
                known.controllers.push(controller.clone());
                continue;
            }
            let own = self.v1.iter().find(|v1| v1.root.path() == mount.path);
            let levels = match own {
                Some(v1) => own_levels(&name, &v1.dir, &v1.parent, &v1.root, above)?,
                None => shared_levels(&mount.path, membership(&memberships, controller))?,
            };
            hierarchies.push(Hierarchy {
                controllers: vec![controller.clone()],
                own: own.is_some(),
                levels,
            });
        }
        Ok(View { hierarchies })
    }
}

/// `root` is the cgroup `above` of the hierarchy, below which the jail is put (`--cgroup-parent`).
fn own_levels(
    name: &str,
    dir: &Dir,
    parent: &Dir,
    root: &Dir,
    above: &Path,
) -> Result<Vec<LevelDir>, Errno> {
    let whole = Path::new("/").join(above);
    let level = |path: &Path, dir: Dir| LevelDir {
        path: path.to_string_lossy().into_owned(),
        dir,
    };
    let parent_path = whole.join(PARENT);
    let mut levels = vec![
        level(&parent_path.join(name), dir.try_clone()?),
        level(&parent_path, parent.try_clone()?),
        level(&whole, root.try_clone()?),
    ];
    // Limits further up hold for the jail as well.
    let mut below = root.try_clone()?;
    for path in whole.ancestors().skip(1) {
        below = below.open_dir(OsStr::new(".."))?;
        levels.push(level(path, below.try_clone()?));
    }
    Ok(levels)
}

/// The launcher's cgroup in a hierarchy, and those above it.
fn shared_levels(mount: &Path, path: &str) -> Result<Vec<LevelDir>, Errno> {
    let mut path = Path::new(path);
    let mut levels = Vec::new();
    while let (Some(parent), Ok(below)) = (path.parent(), path.strip_prefix("/")) {
        // Not there if only a part of the hierarchy is mounted.
        if let Ok(dir) = Dir::open(&mount.join(below)) {
            levels.push(LevelDir {
                path: path.to_string_lossy().into_owned(),
                dir,
            });
        }
        path = parent;
    }
    levels.push(LevelDir {
        path: OsStr::new("/").to_string_lossy().into_owned(),
        dir: Dir::open(mount)?,
    });
    Ok(levels)
}

/// The path of a v1 hierarchy in a proc_pid_cgroup(5) file; `/` if it isn't there.
fn membership<'a>(text: &'a str, controller: &str) -> &'a str {
    text.lines()
        .find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let controllers = fields.next()?;
            let path = fields.next()?;
            controllers
                .split(',')
                .any(|found| found == controller)
                .then_some(path)
        })
        .unwrap_or("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_named_from_the_root_of_the_hierarchy() {
        let root = std::env::temp_dir().join(format!("procjail-view-{}", std::process::id()));
        let jail = root.join("pod/a/procjail/web");
        std::fs::create_dir_all(&jail).expect("directories");
        let open = |path: &Path| Dir::open(path).expect("a directory");
        let (parent, above) = (root.join("pod/a/procjail"), root.join("pod/a"));
        let levels = own_levels(
            "web",
            &open(&jail),
            &open(&parent),
            &open(&above),
            Path::new("pod/a"),
        );
        let levels = levels.expect("levels");
        let paths: Vec<&str> = levels.iter().map(|level| level.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "/pod/a/procjail/web",
                "/pod/a/procjail",
                "/pod/a",
                "/pod",
                "/"
            ]
        );
        assert_eq!(
            levels.last().and_then(|level| level.dir.id().ok()),
            open(&root).id().ok()
        );
        let _ = std::fs::remove_dir_all(&root);
    }

    #[test]
    fn a_membership_is_found_by_any_of_its_controllers() {
        let text = "4:cpu,cpuacct:/a:b\n3:memory:/m\n0::/u\n";
        assert_eq!(membership(text, "cpuacct"), "/a:b");
        assert_eq!(membership(text, "memory"), "/m");
        assert_eq!(membership(text, "pids"), "/");
        assert_eq!(membership("", "pids"), "/");
    }
}
