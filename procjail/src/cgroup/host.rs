//! Which cgroup hierarchies this host has, and where.
//!
//! See cgroups(7): a host has the unified hierarchy (v2), the older one hierarchy for each
//! controller (v1), or both (hybrid: controllers on v1, an empty v2 tree beside them).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;

use super::dir::Dir;
use super::error::Error;
use crate::procfs::mountinfo::unescape;

/// How a host arranges its cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Only the unified hierarchy.
    V2,
    /// The unified hierarchy, with controllers on v1 hierarchies.
    Hybrid,
    /// Only v1 hierarchies are mounted.
    V1,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::V2 => "v2",
            Mode::Hybrid => "hybrid",
            Mode::V1 => "v1",
        })
    }
}

/// A mounted v1 controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct V1Mount {
    /// Where.
    pub path: PathBuf,
    /// `memory` only: it accounts swap (`memory.memsw.*` exist).
    pub memsw: bool,
}

/// The cgroup hierarchies of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostCgroups {
    /// How they are arranged.
    pub mode: Mode,
    /// Where the unified hierarchy is mounted; none on a pure v1 host.
    pub v2: Option<PathBuf>,
    /// How many levels the mounted directory lies below the root of the unified hierarchy.
    pub v2_depth: u32,
    /// Controllers that the unified hierarchy offers.
    pub v2_controllers: BTreeSet<String>,
    /// Controllers that have a v1 hierarchy.
    pub v1: BTreeMap<String, V1Mount>,
    /// The cgroup that jails are put below, a path below the root of each hierarchy; `None` for the
    /// root. Every path above has it in already.
    pub parent: Option<PathBuf>,
}

impl HostCgroups {
    /// Looks at `/proc/self/mountinfo` and the mounted hierarchies.
    ///
    /// # Errors
    ///
    /// mountinfo can't be read.
    pub fn detect() -> Result<HostCgroups, Error> {
        let mountinfo = Path::new("/proc/self/mountinfo");
        let text = std::fs::read(mountinfo)
            .map_err(|error| Error::io("read", mountinfo, super::dir::errno_of(error)))?;
        let mut host = HostCgroups::parse(&String::from_utf8_lossy(&text));
        // Which controllers are left for v2 is known by the tree alone; on a pure v1 host it is asked
        // when the private mount is made.
        if let Some(path) = &host.v2 {
            host.v2_controllers = controllers(
                &Dir::open(path)
                    .map_err(|errno| Error::io("open the cgroup2 mount", path, errno))?,
            );
        } else if let Ok(dir) = detached_cgroup2() {
            host.v2_controllers = controllers(&dir);
        }
        if let Some(memory) = host.v1.get_mut("memory") {
            memory.memsw = memory.path.join("memory.memsw.limit_in_bytes").exists();
        }
        Ok(host)
    }

    /// What a mountinfo (proc_pid_mountinfo(5)) tells; the rest is left empty.
    pub(crate) fn parse(mountinfo: &str) -> HostCgroups {
        let mut v2: Option<(PathBuf, PathBuf)> = None;
        let mut v1 = BTreeMap::new();
        for mount in mountinfo.lines().filter_map(Mount::parse) {
            match mount.fs_type {
                // The mount of the whole tree wins over one of a part of it.
                "cgroup2" => {
                    let whole = mount.root == Path::new("/");
                    if v2.is_none()
                        || (whole && v2.as_ref().is_some_and(|(root, _)| root != Path::new("/")))
                    {
                        v2 = Some((mount.root, mount.point));
                    }
                }
                "cgroup" => {
                    for option in mount.super_options.split(',') {
                        if CONTROLLERS.contains(&option) {
                            v1.entry(option.to_owned()).or_insert(V1Mount {
                                path: mount.point.clone(),
                                memsw: false,
                            });
                        }
                    }
                }
                _ => {}
            }
        }
        HostCgroups {
            mode: match (&v2, v1.is_empty()) {
                (Some(_), true) => Mode::V2,
                (Some(_), false) => Mode::Hybrid,
                (None, _) => Mode::V1,
            },
            v2_depth: v2.as_ref().map_or(0, |(root, _)| depth(root)),
            v2: v2.map(|(_, point)| point),
            v2_controllers: BTreeSet::new(),
            v1,
            parent: None,
        }
    }

    /// The same host as jails see it that are put below the cgroup `parent`, which must exist in the
    /// unified hierarchy. Of the v1 hierarchies those count that have it: its limits apply there.
    ///
    /// # Errors
    ///
    /// It doesn't exist, or can't be opened.
    pub fn below(mut self, parent: &Path) -> Result<HostCgroups, Error> {
        let inside: PathBuf = parent
            .components()
            .filter(|part| matches!(part, Component::Normal(_)))
            .collect();
        if inside.as_os_str().is_empty() {
            return Ok(self);
        }
        self.v2 = self.v2.map(|path| path.join(&inside));
        self.v2_depth += depth(&inside);
        self.v1.retain(|_, mount| {
            mount.path = mount.path.join(&inside);
            mount.path.is_dir()
        });
        self.parent = Some(inside);
        let dir = self.open_v2()?;
        self.v2_controllers = controllers(&dir);
        Ok(self)
    }

    /// The root of the unified hierarchy: the mounted one, or a private mount that no path leads to.
    pub(crate) fn open_v2(&self) -> Result<Dir, Error> {
        let missing = |path: &Path, errno| match (&self.parent, errno) {
            (Some(_), Errno::ENOENT | Errno::ENOTDIR) => Error::NoParent {
                path: path.to_owned(),
                errno,
            },
            _ => Error::io("open the cgroup2 mount", path, errno),
        };
        match &self.v2 {
            Some(path) => Dir::open(path).map_err(|errno| missing(path, errno)),
            None => {
                let root = detached_cgroup2().map_err(|errno| Error::NoCgroup2 { errno })?;
                match &self.parent {
                    Some(parent) => root
                        .open_dir(parent.as_os_str())
                        .map_err(|errno| missing(&root.path().join(parent), errno)),
                    None => Ok(root),
                }
            }
        }
    }

    /// Path of the directory below which all jails are, for people.
    pub fn v2_parent(&self) -> PathBuf {
        match (&self.v2, &self.parent) {
            (Some(path), _) => path.join(super::PARENT),
            (None, Some(parent)) => Path::new(DETACHED).join(parent).join(super::PARENT),
            (None, None) => Path::new(DETACHED).join(super::PARENT),
        }
    }
}

/// Stands for the mount point of a mount that has none.
const DETACHED: &str = "/(cgroup2)";

/// v1 controllers that a jail may use. Other options of a v1 mount are not controllers.
const CONTROLLERS: [&str; 5] = ["memory", "pids", "cpu", "cpuacct", "freezer"];

/// Controllers offered by the root of a v2 tree.
fn controllers(dir: &Dir) -> BTreeSet<String> {
    dir.read("cgroup.controllers")
        .unwrap_or_default()
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}

fn depth(root: &Path) -> u32 {
    let normal = root
        .components()
        .filter(|c| matches!(c, Component::Normal(_)));
    normal.count() as u32
}

/// Makes a cgroup2 mount that is attached to no directory and goes away with its descriptor
/// (fsopen(2), Linux 5.2). All mounts of cgroup2 show the one unified hierarchy.
fn detached_cgroup2() -> Result<Dir, Errno> {
    // SAFETY: the file system's name is a NUL-terminated string; the result is checked.
    let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, c"cgroup2".as_ptr(), 1u32) })?;
    const FSCONFIG_CMD_CREATE: u32 = 6;
    // SAFETY: FSCONFIG_CMD_CREATE takes neither key nor value.
    Errno::result(unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            FSCONFIG_CMD_CREATE,
            std::ptr::null::<libc::c_char>(),
            std::ptr::null::<libc::c_void>(),
            0,
        )
    })?;
    // SAFETY: plain integers; 1 is FSMOUNT_CLOEXEC.
    let mount =
        owned(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), 1u32, 0u32) })?;
    // fsmount gives an O_PATH descriptor; reading the directory and flock need a real one.
    let fd = nix::fcntl::openat(
        &mount,
        ".",
        nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_DIRECTORY | nix::fcntl::OFlag::O_CLOEXEC,
        nix::sys::stat::Mode::empty(),
    )?;
    // The mount is dissolved when its own descriptor is closed, but lives on, detached, while files
    // on it are open: the directory's descriptor keeps it.
    Ok(Dir::new(fd, PathBuf::from(DETACHED)))
}

fn owned(result: libc::c_long) -> Result<OwnedFd, Errno> {
    let fd = Errno::result(result)?;
    // SAFETY: the kernel just made this descriptor for us, nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// A line of mountinfo.
struct Mount<'a> {
    root: PathBuf,
    point: PathBuf,
    fs_type: &'a str,
    super_options: &'a str,
}

impl Mount<'_> {
    fn parse(line: &str) -> Option<Mount<'_>> {
        let (mount, fs) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let mut fs = fs.split(' ');
        Some(Mount {
            root: path(mount.next()?),
            point: path(mount.next()?),
            fs_type: fs.next()?,
            super_options: fs.nth(1)?,
        })
    }
}

/// A path in mountinfo.
fn path(field: &str) -> PathBuf {
    PathBuf::from(OsString::from_vec(unescape(field.as_bytes())))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const V2: &str = "\
25 1 0:22 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
30 25 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate
";
    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    pub fn v2() -> HostCgroups {
        let mut host = HostCgroups::parse(V2);
        host.v2_controllers = ["cpu", "memory", "pids"].map(str::to_owned).into();
        host
    }

    pub fn hybrid() -> HostCgroups {
        let mut host = HostCgroups::parse(HYBRID);
        if let Some(memory) = host.v1.get_mut("memory") {
            memory.memsw = true;
        }
        host
    }

    pub fn v1() -> HostCgroups {
        let without = HYBRID.lines().filter(|line| !line.contains("cgroup2"));
        HostCgroups::parse(&without.map(|line| format!("{line}\n")).collect::<String>())
    }

    #[test]
    fn modes_are_told_apart_by_the_mounts() {
        assert_eq!(v2().mode, Mode::V2);
        assert_eq!(hybrid().mode, Mode::Hybrid);
        assert_eq!(v1().mode, Mode::V1);
    }

    #[test]
    fn named_hierarchies_are_no_controllers() {
        let controllers: Vec<_> = hybrid().v1.into_keys().collect();
        assert_eq!(controllers, ["cpu", "cpuacct", "memory", "pids"]);
        assert!(v2().v1.is_empty());
    }

    #[test]
    fn mounts_are_where_mountinfo_says() {
        assert_eq!(v2().v2_parent(), Path::new("/sys/fs/cgroup/procjail"));
        assert_eq!(
            hybrid().v2_parent(),
            Path::new("/sys/fs/cgroup/unified/procjail")
        );
        assert_eq!(v1().v2, None);
        let both = hybrid().v1;
        assert_eq!(both["cpu"], both["cpuacct"]);
    }

    #[test]
    fn the_whole_tree_wins_and_a_part_counts_its_depth() {
        let part = "1 1 0:26 /docker/x /a\\040b rw - cgroup2 cgroup2 rw\n";
        let host = HostCgroups::parse(part);
        assert_eq!(host.v2.as_deref(), Some(Path::new("/a b")));
        assert_eq!(host.v2_depth, 2);
        let host = HostCgroups::parse(&format!("{part}{V2}"));
        assert_eq!(host.v2.as_deref(), Some(Path::new("/sys/fs/cgroup")));
        assert_eq!(host.v2_depth, 0);
    }

    #[test]
    fn a_parent_is_looked_for_in_each_hierarchy() {
        let temp = tempfile::tempdir().unwrap();
        let path = |inside: &str| temp.path().join(inside);
        for dir in ["unified/a/b", "memory/a/b", "pids"] {
            std::fs::create_dir_all(path(dir)).unwrap();
        }
        std::fs::write(path("unified/a/b/cgroup.controllers"), "cpu io\n").unwrap();
        let mut host = hybrid();
        host.v2 = Some(path("unified"));
        host.v1.retain(|name, _| name == "memory" || name == "pids");
        for (name, mount) in &mut host.v1 {
            mount.path = path(name);
        }
        let below = host.clone().below(Path::new("/a/b")).unwrap();
        assert_eq!(below.v2_depth, 2);
        assert_eq!(below.v2_parent(), path("unified/a/b/procjail"));
        assert_eq!(
            below.v2_controllers,
            ["cpu", "io"].map(str::to_owned).into()
        );
        assert_eq!(below.v1.keys().collect::<Vec<_>>(), ["memory"]);
        assert_eq!(below.v1["memory"].path, path("memory/a/b"));
        let missing = host.clone().below(Path::new("/a/c")).unwrap_err();
        assert!(missing.to_string().contains("--cgroup-parent"), "{missing}");
        assert_eq!(host.clone().below(Path::new("/")).unwrap(), host);
    }

    #[test]
    fn broken_lines_are_skipped() {
        let host =
            HostCgroups::parse("\n1 2\n - \n1 1 0:26 / - cgroup2\nx - cgroup cgroup rw,memory");
        assert_eq!(host.mode, Mode::V1);
        assert!(host.v1.is_empty());
    }

    #[test]
    fn escapes_are_undone_and_stray_backslashes_kept() {
        assert_eq!(path("a\\040b\\134"), Path::new("a b\\"));
        assert_eq!(path("a\\9\\"), Path::new("a\\9\\"));
    }
}
