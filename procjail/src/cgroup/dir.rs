//! A cgroup directory, used through its descriptor.
//!
//! A descriptor rather than a path: it works on a mount that is attached nowhere (pure v1 hosts), it
//! can't be swapped for another directory, and it carries the lock that tells who owns the jail.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::dir::Type;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::Mode;
use nix::unistd::UnlinkatFlags;

const OPEN: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// An open cgroup directory and the path that people know it by.
#[derive(Debug)]
pub(crate) struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

impl Dir {
    /// A descriptor got elsewhere; `path` is for messages only.
    pub fn new(fd: OwnedFd, path: PathBuf) -> Dir {
        Dir { fd, path }
    }

    /// Opens a directory by its path.
    pub fn open(path: &Path) -> Result<Dir, Errno> {
        let fd = nix::fcntl::open(path, OPEN, Mode::empty())?;
        Ok(Dir::new(fd, path.to_owned()))
    }

    /// The same directory once more.
    pub fn try_clone(&self) -> Result<Dir, Errno> {
        let fd = self.fd.try_clone();
        let fd = fd.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
        Ok(Dir::new(fd, self.path.clone()))
    }

    /// Opens a directory in this one.
    pub fn open_dir(&self, name: &OsStr) -> Result<Dir, Errno> {
        let fd = nix::fcntl::openat(&self.fd, name, OPEN, Mode::empty())?;
        Ok(Dir::new(fd, self.path.join(name)))
    }

    /// Opens a directory that was just made in this one; if there is no descriptor for it, it is removed
    /// again, as nobody would know of it.
    pub fn open_made(&self, name: &OsStr) -> Result<Dir, Errno> {
        self.open_dir(name).inspect_err(|errno| {
            if matches!(errno, Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM) {
                let _ = self.rmdir(name);
            }
        })
    }

    /// Makes a directory in this one; false if it was there.
    pub fn mkdir(&self, name: &OsStr) -> Result<bool, Errno> {
        match nix::sys::stat::mkdirat(&self.fd, name, Mode::from_bits_truncate(0o755)) {
            Ok(()) => Ok(true),
            Err(Errno::EEXIST) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Removes a directory in this one; one that is gone is fine.
    pub fn rmdir(&self, name: &OsStr) -> Result<(), Errno> {
        match nix::unistd::unlinkat(&self.fd, name, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT | Errno::ENODEV) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Whether a file is in this directory.
    pub fn has(&self, file: &str) -> bool {
        nix::unistd::faccessat(
            &self.fd,
            file,
            nix::unistd::AccessFlags::F_OK,
            AtFlags::empty(),
        )
        .is_ok()
    }

    /// Content of a file in this directory.
    pub fn read(&self, file: &str) -> Result<String, Errno> {
        let fd = nix::fcntl::openat(
            &self.fd,
            file,
            OFlag::O_RDONLY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )?;
        let mut bytes = Vec::new();
        File::from(fd).read_to_end(&mut bytes).map_err(errno_of)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Writes a value to a file in this directory, in one write(2) as cgroupfs wants it.
    pub fn write(&self, file: &str, value: &str) -> Result<(), Errno> {
        let fd = nix::fcntl::openat(
            &self.fd,
            file,
            OFlag::O_WRONLY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )?;
        File::from(fd).write(value.as_bytes()).map_err(errno_of)?;
        Ok(())
    }

    /// Names of the directories in this one.
    pub fn subdirs(&self) -> Result<Vec<OsString>, Errno> {
        let mut listing = nix::dir::Dir::openat(&self.fd, ".", OPEN, Mode::empty())?;
        let mut names = Vec::new();
        for entry in listing.iter() {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if entry.file_type() == Some(Type::Directory) && name != "." && name != ".." {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Inode number: on cgroup2 the ID of the cgroup, unique while the machine is up.
    pub fn id(&self) -> Result<u64, Errno> {
        Ok(nix::sys::stat::fstat(&self.fd)?.st_ino)
    }

    /// Inode number of an entry of this directory.
    pub fn id_of(&self, name: &OsStr) -> Result<u64, Errno> {
        Ok(nix::sys::stat::fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW)?.st_ino)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The errno in an error of std, all of which come from system calls here.
pub(crate) fn errno_of(error: std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
