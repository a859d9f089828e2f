//! The directories that scenarios are played in, and their removal when the lab that made them was killed.
//!
//! As with cgroups there is no state file that could outlive its owner: a lab holds flock(2) on each of its
//! directories, and one without a lock is a leftover.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, umount2};

use super::Failure;
use crate::procfs::mountinfo;

/// What their names begin with.
const PREFIX: &str = "procjail-lab.";

/// A directory of this process's own, removed with this value.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
    /// The lock.
    _directory: File,
}

impl Scratch {
    /// Makes one for a scenario below the directory for temporary files.
    pub fn make(id: &str) -> Result<Self, Failure> {
        let name = format!("{PREFIX}{}.{id}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let failed = |error| Failure::of(format!("create {}", path.display()))(error);
        // Whoever clears leftovers may take it in the instant before it is locked.
        for _ in 0..100 {
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(failed(error));
                }
                // One of an earlier process with this number, which is dead.
                Err(_) => match lock(&path) {
                    Ok(_locked) => clear(&path).map_err(failed)?,
                    Err(error) => return Err(failed(error)),
                },
                Ok(()) => {
                    if let Ok(directory) = lock(&path) {
                        // Scenarios run as other users too, whatever the umask.
                        let mode = fs::Permissions::from_mode(0o755);
                        directory.set_permissions(mode).map_err(failed)?;
                        return Ok(Self {
                            path,
                            _directory: directory,
                        });
                    }
                }
            }
        }
        Err(failed(io::ErrorKind::AlreadyExists.into()))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A directory of a lab that was found, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// Its path.
    pub path: PathBuf,
    /// Mounts in it, the innermost first.
    pub mounts: Vec<PathBuf>,
    /// What became of it.
    pub fate: Fate,
}

/// What became of a lab's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its lab runs: not touched.
    InUse,
    /// A leftover; nothing was done because nothing was to be done.
    Found,
    /// Removed, after what was mounted in it.
    Removed,
    /// Not removed, or not all of it; why.
    Failed(String),
}

/// Finds the directories of labs below the directory for temporary files, and removes those whose lab is dead;
/// with `dry_run` only finds them. Those of other users are theirs to remove.
pub fn clean(dry_run: bool) -> Vec<Leftover> {
    let own = nix::unistd::geteuid().as_raw();
    // As the table of mounts has it.
    let place = std::env::temp_dir().canonicalize();
    let entries = place.and_then(fs::read_dir).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_name().as_bytes().starts_with(PREFIX.as_bytes()))
        .map(|entry| entry.path())
        .filter(|path| {
            // Of the entry itself, not of what a link leads to.
            fs::symlink_metadata(path).is_ok_and(|found| found.is_dir() && found.uid() == own)
        })
        .collect();
    paths.sort();
    paths
        .into_iter()
        .filter_map(|path| {
            let mounts = mountinfo::mounts_below(&path);
            let fate = match lock(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Fate::InUse,
                Err(error) => Fate::Failed(crate::names::io_error(&error)),
                Ok(_locked) if dry_run => Fate::Found,
                Ok(_locked) => match clear(&path) {
                    Ok(()) => Fate::Removed,
                    Err(error) => Fate::Failed(crate::names::io_error(&error)),
                },
            };
            Some(Leftover { path, mounts, fate })
        })
        .collect()
}

/// Locks a directory, without waiting. By then the path may stand for another one, which is `NotFound`.
fn lock(path: &Path) -> io::Result<File> {
    let directory = File::options()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path)?;
    // SAFETY: flock takes an open descriptor and flags; the lock lasts as long as the descriptor.
    if unsafe { libc::flock(directory.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let (held, found) = (directory.metadata()?, fs::symlink_metadata(path)?);
    match (held.dev(), held.ino()) == (found.dev(), found.ino()) {
        true => Ok(directory),
        false => Err(io::ErrorKind::NotFound.into()),
    }
}

/// Removes a directory whose lock is held, after what is mounted in it: lazily, since a file system of a dead
/// FUSE daemon answers nothing.
fn clear(path: &Path) -> io::Result<()> {
    for mount in mountinfo::mounts_below(path) {
        umount2(&mount, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?;
    }
    fs::remove_dir_all(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_owner() {
        let scratch = Scratch::make("test-owner").expect("a directory");
        let path = scratch.path().to_owned();
        let again = lock(&path).expect_err("it is locked");
        assert_eq!(again.kind(), io::ErrorKind::WouldBlock);
        fs::write(path.join("file"), "x").expect("room");
        drop(scratch);
        assert!(!path.exists());
    }

    #[test]
    fn what_an_earlier_process_of_this_number_left_makes_way() {
        let path = std::env::temp_dir().join(format!("{PREFIX}{}.test-stale", std::process::id()));
        fs::create_dir_all(path.join("below")).expect("a directory");
        let scratch = Scratch::make("test-stale").expect("a directory");
        assert_eq!(scratch.path(), path);
        assert!(!path.join("below").exists());
    }
}
