//! The jail's cgroups as a reader of their files sees them: its own directories and those above, in
//! every hierarchy that has something to tell.

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::{Dir, tree};

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
    /// A directory that is known below its hierarchy's root by that path.
    pub(crate) fn new(path: &Path, dir: Dir) -> LevelDir {
        LevelDir {
            path: path.to_string_lossy().into_owned(),
            dir,
        }
    }

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

    /// ID of the cgroup of its own that memory is charged to; none if it has none with the memory controller.
    pub fn memory_cgroup_id(&self) -> Option<u64> {
        let hierarchy = self.with("memory", "memory.current")?;
        let own = hierarchy.levels.first().filter(|_| hierarchy.own)?;
        own.dir.id().ok()
    }

    /// Whether a process is in the jail's cgroup or below; a zombie is nobody, nor is anyone in one that was removed.
    pub fn is_populated(&self) -> bool {
        let own = self.unified().and_then(|unified| unified.levels.first());
        own.and_then(|level| level.read("cgroup.events").ok())
            .is_some_and(|events| events.lines().all(|line| line != "populated 0"))
    }

    /// Processes in the jail's cgroup and below, host PIDs.
    pub fn pids(&self) -> Vec<u32> {
        self.unified()
            .and_then(|unified| unified.levels.first())
            .map_or_else(Vec::new, |level| tree::pids(&level.dir))
    }
}

/// The cgroup at a path of a hierarchy, and those above it.
///
/// # Errors
///
/// The mount point can't be opened.
pub(crate) fn levels(mount: &Path, path: &str) -> Result<Vec<LevelDir>, Errno> {
    let mut path = Path::new(path);
    let mut levels = Vec::new();
    while let (Some(parent), Ok(below)) = (path.parent(), path.strip_prefix("/")) {
        // Not there if only a part of the hierarchy is mounted.
        if let Ok(dir) = Dir::open(&mount.join(below)) {
            levels.push(LevelDir::new(path, dir));
        }
        path = parent;
    }
    levels.push(LevelDir::new(Path::new("/"), Dir::open(mount)?));
    Ok(levels)
}

/// The path of a v1 hierarchy in a proc_pid_cgroup(5) file; `/` if it isn't there.
pub(crate) fn membership<'a>(text: &'a str, controller: &str) -> &'a str {
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
    fn a_membership_is_found_by_any_of_its_controllers() {
        let text = "4:cpu,cpuacct:/a:b\n3:memory:/m\n0::/u\n";
        assert_eq!(membership(text, "cpuacct"), "/a:b");
        assert_eq!(membership(text, "memory"), "/m");
        assert_eq!(membership(text, "pids"), "/");
        assert_eq!(membership("", "pids"), "/");
    }
}
