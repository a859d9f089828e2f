//! The jail's cgroups as a reader of their files sees them.

use std::ffi::OsStr;
use std::path::Path;

use nix::errno::Errno;

use super::{Cgroups, PARENT};
use crate::cgroup::{Dir, Hierarchy, HostCgroups, LevelDir, View, levels, membership};

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
                let is_root = |level: &LevelDir| level.directory() == mount.path;
                !hierarchy.controllers.is_empty() && hierarchy.levels.iter().any(is_root)
            };
            if let Some(known) = hierarchies.iter_mut().find(same) {
                known.controllers.push(controller.clone());
                continue;
            }
            let own = self.v1.iter().find(|v1| v1.root.path() == mount.path);
            let levels = match own {
                Some(v1) => own_levels(&name, &v1.dir, &v1.parent, &v1.root, above)?,
                None => levels(&mount.path, membership(&memberships, controller))?,
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
    let parent_path = whole.join(PARENT);
    let mut levels = vec![
        LevelDir::new(&parent_path.join(name), dir.try_clone()?),
        LevelDir::new(&parent_path, parent.try_clone()?),
        LevelDir::new(&whole, root.try_clone()?),
    ];
    // Limits further up hold for the jail as well.
    let mut below = root.try_clone()?;
    for path in whole.ancestors().skip(1) {
        below = below.open_dir(OsStr::new(".."))?;
        levels.push(LevelDir::new(path, below.try_clone()?));
    }
    Ok(levels)
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
            levels
                .last()
                .and_then(|level| open(level.directory()).id().ok()),
            open(&root).id().ok()
        );
        let _ = std::fs::remove_dir_all(&root);
    }
}
