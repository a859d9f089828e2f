//! The mounts of a jail: what the child does to make them, and what the launcher looks up before.
//!
//! Everything goes through descriptors (the mount API of Linux 5.2): a path is resolved once, inside
//! the jail's root and never through a magic link, so that a symbolic link, whenever it is put there,
//! can't lead a mount out of the jail. The mounts are private (or slaves) while this runs: none of
//! them is ever seen by the host.

use std::ffi::{CStr, CString};
use std::fmt::Write;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::child::{Fault, Part, PartOf};
use super::error::Error;
use super::plan::c_path;
use super::sys::{self, flags};
use crate::procfs::mountinfo::unescape;

/// What `/dev` has in a jail with a root of its own: name, major and minor number (`devices.txt` of
/// the kernel's documentation).
const DEVICES: [(&CStr, u32, u32); 6] = [
    (c"null", 1, 3),
    (c"zero", 1, 5),
    (c"full", 1, 7),
    (c"random", 1, 8),
    (c"urandom", 1, 9),
    (c"tty", 5, 0),
];

/// Its symbolic links: name and target.
const DEVICE_LINKS: [(&CStr, &CStr); 5] = [
    (c"fd", c"/proc/self/fd"),
    (c"stdin", c"/proc/self/fd/0"),
    (c"stdout", c"/proc/self/fd/1"),
    (c"stderr", c"/proc/self/fd/2"),
    (c"ptmx", c"pts/ptmx"),
];

const NO_PROGRAMS: u64 =
    flags::MOUNT_ATTR_NOSUID | flags::MOUNT_ATTR_NODEV | flags::MOUNT_ATTR_NOEXEC;
const NO_DEVICES: u64 = flags::MOUNT_ATTR_NOSUID | flags::MOUNT_ATTR_NODEV;

/// Cuts the mounts loose.
pub fn set_propagation(slave: bool) -> Result<(), Fault> {
    let kind = if slave {
        libc::MS_SLAVE
    } else {
        libc::MS_PRIVATE
    };
    sys::remount(c"/", libc::MS_REC | kind).part(Part::Whole)
}

/// A detached copy of the mounts at a path of the host.
pub fn clone_tree(source: &CStr, read_only: bool) -> Result<OwnedFd, Fault> {
    let tree = sys::open_tree(
        libc::AT_FDCWD,
        source,
        flags::OPEN_TREE_CLONE | flags::AT_RECURSIVE,
    )
    .part(Part::Source)?;
    if read_only {
        sys::mount_setattr(tree.as_raw_fd(), flags::MOUNT_ATTR_RDONLY).part(Part::ReadOnly)?;
    }
    Ok(tree)
}

/// Clones the new root and mounts the clone over the directory itself: pivot_root(2) wants a mount.
pub fn new_root(dir: &CStr) -> Result<OwnedFd, Fault> {
    let tree = clone_tree(dir, false)?;
    let place = sys::openat2(libc::AT_FDCWD, dir, flags::O_PATH | libc::O_DIRECTORY, 0)
        .part(Part::MountPoint)?;
    sys::move_mount(tree.as_raw_fd(), place.as_raw_fd(), 0).part(Part::Attach)?;
    Ok(tree)
}

/// Makes the tree of mounts at a descriptor read-only.
pub fn make_read_only(root: RawFd, remounts: &[Remount]) -> Result<(), Fault> {
    if remounts.is_empty() {
        return sys::mount_setattr(root, flags::MOUNT_ATTR_RDONLY).part(Part::ReadOnly);
    }
    remount_all(root, remounts)
}

/// Puts a mount in its place inside the root.
pub fn attach(root: RawFd, target: &CStr, mount: &OwnedFd, resolve: u64) -> Result<(), Fault> {
    let place = sys::openat2(root, target, flags::O_PATH, resolve).part(Part::MountPoint)?;
    sys::move_mount(mount.as_raw_fd(), place.as_raw_fd(), 0).part(Part::Attach)
}

/// A new proc at `/proc`. A symbolic link there is refused: it could lead to a directory that APP may
/// write to, and what is written to /proc would land in files.
pub fn mount_proc(root: RawFd) -> Result<(), Fault> {
    let proc = sys::new_mount(c"proc", &[], NO_PROGRAMS).part(Part::Create)?;
    attach(root, c"/proc", &proc, flags::RESOLVE_STRICT)?;
    // What is at /proc now must be a proc, whatever was mounted there meanwhile.
    let there = sys::openat2(root, c"/proc", flags::O_PATH, flags::RESOLVE_STRICT)
        .part(Part::MountPoint)?;
    match sys::fs_type(there.as_raw_fd()).part(Part::Attach)? {
        // PROC_SUPER_MAGIC, whose type depends on the C library.
        0x9fa0 => Ok(()),
        _ => Err(Fault::new(Part::Attach, Errno::ENOTSUP)),
    }
}

/// A minimal `/dev`, made before it is attached: nothing is ever created in a directory of the root.
pub fn mount_dev(root: RawFd) -> Result<(), Fault> {
    let options: [(&CStr, &CStr); 2] = [(c"mode", c"755"), (c"size", c"64k")];
    let dev = sys::new_mount(
        c"tmpfs",
        &options,
        flags::MOUNT_ATTR_NOSUID | flags::MOUNT_ATTR_NOEXEC,
    )
    .part(Part::Create)?;
    let fd = dev.as_raw_fd();
    let mask = sys::umask(0);
    let filled = fill_dev(fd);
    sys::umask(mask);
    filled?;
    attach(root, c"/dev", &dev, flags::RESOLVE_STRICT)?;
    // tty group and mode as udev and other runtimes set them.
    let options: [(&CStr, &CStr); 3] = [(c"gid", c"5"), (c"mode", c"620"), (c"ptmxmode", c"666")];
    let pts = sys::new_mount(
        c"devpts",
        &options,
        flags::MOUNT_ATTR_NOSUID | flags::MOUNT_ATTR_NOEXEC,
    )
    .part(Part::Create)?;
    attach(fd, c"pts", &pts, flags::RESOLVE_STRICT)?;
    let shm = sys::new_mount(c"tmpfs", &[(c"mode", c"1777")], NO_DEVICES).part(Part::Create)?;
    attach(fd, c"shm", &shm, flags::RESOLVE_STRICT)
}

fn fill_dev(fd: RawFd) -> Result<(), Fault> {
    for (name, major, minor) in DEVICES {
        sys::make_device(fd, name, major, minor).part(Part::Device)?;
    }
    for (name, target) in DEVICE_LINKS {
        sys::make_symlink(target, fd, name).part(Part::Device)?;
    }
    for name in [c"pts", c"shm"] {
        sys::make_directory(fd, name).part(Part::Device)?;
    }
    Ok(())
}

/// A new tmpfs that everybody may write to.
pub fn mount_tmpfs(root: RawFd, target: &CStr, size_bytes: Option<&CStr>) -> Result<(), Fault> {
    let mode: (&CStr, &CStr) = (c"mode", c"1777");
    let tmpfs = match size_bytes {
        Some(size) => sys::new_mount(c"tmpfs", &[mode, (c"size", size)], NO_DEVICES),
        None => sys::new_mount(c"tmpfs", &[mode], NO_DEVICES),
    }
    .part(Part::Create)?;
    attach(root, target, &tmpfs, flags::RESOLVE_INSIDE)
}

/// Makes mounts read-only one by one, for kernels before 5.12.
pub fn remount_all(tree: RawFd, remounts: &[Remount]) -> Result<(), Fault> {
    for remount in remounts {
        let mut path = Buffer::default();
        write!(path, "/proc/self/fd/{tree}").map_err(|_| too_long())?;
        path.push(remount.below.to_bytes()).ok_or_else(too_long)?;
        sys::remount(path.as_c_str(), remount.flags).part(Part::ReadOnly)?;
    }
    Ok(())
}

fn too_long() -> Fault {
    Fault::new(Part::ReadOnly, Errno::ENAMETOOLONG)
}

/// A path that is put together without allocating; what follows it is always 0.
struct Buffer {
    bytes: [u8; libc::PATH_MAX as usize],
    length: usize,
}

impl Default for Buffer {
    fn default() -> Buffer {
        Buffer {
            bytes: [0; libc::PATH_MAX as usize],
            length: 0,
        }
    }
}

impl Buffer {
    fn push(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.length + bytes.len();
        // One byte stays free for the end of the string.
        if end >= self.bytes.len() {
            return None;
        }
        self.bytes.get_mut(self.length..end)?.copy_from_slice(bytes);
        self.length = end;
        Some(())
    }

    fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or(c"")
    }
}

impl Write for Buffer {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.push(text.as_bytes()).ok_or(std::fmt::Error)
    }
}

/// A line of `/proc/self/mountinfo`; see proc_pid_mountinfo(5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountInfo {
    /// Where it is mounted.
    pub target: PathBuf,
    /// `MS_*` of its options.
    pub flags: libc::c_ulong,
    /// It is in a peer group.
    pub shared: bool,
}

impl MountInfo {
    /// The mounts of this process.
    ///
    /// # Errors
    ///
    /// The table can't be read.
    pub fn read() -> Result<Vec<MountInfo>, Error> {
        let text = std::fs::read("/proc/self/mountinfo").map_err(|error| Error::Launcher {
            what: "read /proc/self/mountinfo",
            errno: Errno::from_raw(error.raw_os_error().unwrap_or(0)),
            remedy: "; mount proc at /proc",
        })?;
        Ok(text
            .split(|&byte| byte == b'\n')
            .filter_map(MountInfo::parse)
            .collect())
    }

    fn parse(line: &[u8]) -> Option<MountInfo> {
        let mut fields = line.split(|&byte| byte == b' ');
        let target = unescape(fields.nth(4)?);
        let flags = fields
            .next()?
            .split(|&byte| byte == b',')
            .map(|option| match option {
                b"ro" => libc::MS_RDONLY,
                b"nosuid" => libc::MS_NOSUID,
                b"nodev" => libc::MS_NODEV,
                b"noexec" => libc::MS_NOEXEC,
                b"noatime" => libc::MS_NOATIME,
                b"nodiratime" => libc::MS_NODIRATIME,
                b"relatime" => libc::MS_RELATIME,
                _ => 0,
            });
        let flags = flags.fold(0, |all, flag| all | flag);
        let shared = fields
            .take_while(|field| *field != b"-")
            .any(|field| field.starts_with(b"shared:"));
        Some(MountInfo {
            target: PathBuf::from(std::ffi::OsString::from_vec(target)),
            flags,
            shared,
        })
    }
}

/// A mount below a tree that is made read-only by hand.
#[derive(Clone, Debug)]
pub struct Remount {
    /// Path below the tree, with a leading `/`; empty for the tree's own mount.
    below: CString,
    /// `MS_*` for mount(2).
    flags: libc::c_ulong,
}

impl Remount {
    /// The mounts at and below a path of the host; none if that isn't needed.
    ///
    /// # Errors
    ///
    /// The path can't be resolved.
    pub fn list(mounts: &[MountInfo], path: &Path, needed: bool) -> Result<Vec<Remount>, Error> {
        if !needed {
            return Ok(Vec::new());
        }
        let path = canonical(path)?;
        const READ_ONLY: libc::c_ulong = libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY;
        let own = holder(mounts, &path).map_or(0, |mount| mount.flags);
        let mut list = vec![Remount {
            below: CString::default(),
            flags: READ_ONLY | own,
        }];
        for mount in mounts {
            match mount.target.strip_prefix(&path) {
                Ok(below) if mount.target != path => list.push(Remount {
                    below: c_path(&Path::new("/").join(below))?,
                    flags: READ_ONLY | mount.flags,
                }),
                _ => {}
            }
        }
        Ok(list)
    }
}

/// A shared mount of the host, and where the jail has its copy.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Path of its copy, as the host sees it; `None` for the new root itself.
    pub copy: Option<CString>,
    /// Where the host has it.
    pub target: CString,
}

impl Peer {
    /// The host's shared mounts that the jail has a copy of.
    ///
    /// # Errors
    ///
    /// A path can't be resolved.
    pub fn find(mounts: &[MountInfo], root: Option<&Path>) -> Result<Vec<Peer>, Error> {
        let root = root.map(canonical).transpose()?;
        let mut peers = Vec::new();
        if let Some(mount) = root.as_deref().and_then(|root| holder(mounts, root))
            && mount.shared
        {
            peers.push(Peer {
                copy: None,
                target: c_path(&mount.target)?,
            });
        }
        for (index, mount) in mounts.iter().enumerate() {
            let copied = match &root {
                Some(root) => mount.target != *root && mount.target.starts_with(root),
                None => true,
            };
            // One that is covered by a later mount can't be reached by its path.
            let covered = mounts.iter().skip(index + 1).any(|later| {
                mount.target.starts_with(&later.target) && later.target != Path::new("/")
            });
            if mount.shared && copied && !covered {
                let target = c_path(&mount.target)?;
                peers.push(Peer {
                    copy: Some(target.clone()),
                    target,
                });
            }
        }
        Ok(peers)
    }
}

/// The mount that a path is on: the last one of the longest match.
fn holder<'a>(mounts: &'a [MountInfo], path: &Path) -> Option<&'a MountInfo> {
    mounts
        .iter()
        .filter(|mount| path.starts_with(&mount.target))
        .max_by_key(|mount| mount.target.as_os_str().as_bytes().len())
}

fn canonical(path: &Path) -> Result<PathBuf, Error> {
    path.canonicalize()
        .map_err(|error| Error::option("path", path.as_os_str(), Error::io_words(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounts(text: &str) -> Vec<MountInfo> {
        text.lines()
            .filter_map(|line| MountInfo::parse(line.as_bytes()))
            .collect()
    }

    #[test]
    fn a_line_of_mountinfo_is_taken_apart() {
        let found = mounts(
            "36 35 98:0 /mnt1 /mnt\\0402 ro,noatime master:1 shared:7 - ext3 /dev/root rw\nshort line",
        );
        assert_eq!(
            found,
            [MountInfo {
                target: "/mnt 2".into(),
                flags: libc::MS_RDONLY | libc::MS_NOATIME,
                shared: true
            }]
        );
        assert_eq!(unescape(b"a\\0"), b"a\\0");
        assert_eq!(unescape(b"\\134"), b"\\");
    }

    #[test]
    fn only_shared_mounts_that_are_copied_and_visible_have_peers() {
        let table = mounts(
            "1 0 8:1 / / rw shared:1 - ext4 a rw\n\
             2 1 0:5 / /usr rw shared:2 - tmpfs a rw\n\
             3 1 0:6 / /usr/lib rw - tmpfs a rw\n\
             4 1 0:7 / /etc rw shared:3 - tmpfs a rw\n\
             5 4 0:8 / /etc rw shared:4 - tmpfs a rw",
        );
        let host = Peer::find(&table, None).unwrap();
        let targets: Vec<_> = host
            .iter()
            .map(|peer| peer.target.to_str().unwrap())
            .collect();
        assert_eq!(targets, ["/", "/usr", "/etc"]);
        let below = Peer::find(&table, Some(Path::new("/usr"))).unwrap();
        assert_eq!(below.len(), 1);
        assert!(below[0].copy.is_none() && below[0].target.as_c_str() == c"/usr");
    }
}
