//! Who owns a jail's name.
//!
//! There is no state file that could survive its owner: a launcher holds flock(2) on the jail's
//! directory in the unified hierarchy. A lock that is held means a living launcher; the kernel
//! releases it with the launcher's last descriptor, however it died. A directory whose lock is free is
//! a leftover.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::PARENT;
use crate::cgroup::Dir;
use crate::cgroup::Error;

/// A lock may be held for a moment by someone who only looks whether it is free.
const GLANCE: Duration = Duration::from_millis(100);

/// How long a launcher waits for its turn to make or take directories, and goes on trying to make its own while others
/// remove the one above.
const TURN: Duration = Duration::from_secs(2);

/// One launcher at a time makes a directory and locks it, or looks which are not locked: so nobody takes a directory for a
/// leftover that was made a moment ago. A lock on the root of the hierarchy, held for microseconds; who doesn't get it
/// goes on without, as somebody else may hold it for reasons of his own.
#[derive(Debug)]
struct Turn<'a>(&'a Dir);

impl Turn<'_> {
    fn take(root: &Dir) -> Option<Turn<'_>> {
        let deadline = Instant::now() + TURN;
        while flock(root, libc::LOCK_EX | libc::LOCK_NB).is_err() {
            if Instant::now() >= deadline {
                return None;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Some(Turn(root))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let _ = flock(self.0, libc::LOCK_UN);
    }
}

/// A directory `procjail/NAME` of the unified hierarchy, locked.
#[derive(Debug)]
pub(super) struct Claim {
    pub parent: Dir,
    pub name: OsString,
    pub dir: Dir,
    /// It was there before: a leftover.
    pub stale: bool,
}

/// Makes and locks the directory, or locks the one that a dead launcher left.
///
/// # Errors
///
/// [`Error::AlreadyRunning`] if a living launcher holds the lock; what the kernel refuses.
pub(super) fn acquire(root: &Dir, name: &OsStr) -> Result<Claim, Error> {
    let start = Instant::now();
    let mut made = false;
    loop {
        let turn = Turn::take(root);
        let tried = try_acquire(root, name, &mut made);
        drop(turn);
        match tried {
            Ok(claim) => return Ok(claim),
            // Someone removes the parent, or the directory, that we are about to use.
            Err((_, Errno::ENOENT | Errno::ENODEV)) if start.elapsed() < TURN => {
                std::thread::yield_now();
            }
            // Someone looks at it.
            Err((_, Errno::EWOULDBLOCK)) if start.elapsed() < GLANCE => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err((_, Errno::EWOULDBLOCK)) => {
                let owner = open(root, name).ok().and_then(|(_, dir)| owner(&dir));
                return Err(Error::AlreadyRunning {
                    name: name.to_string_lossy().into_owned(),
                    owner,
                });
            }
            Err((operation, errno)) => {
                // Not empty while other jails run.
                let _ = root.rmdir(OsStr::new(PARENT));
                let path = root.path().join(PARENT).join(name);
                return Err(Error::io(operation, path, errno));
            }
        }
    }
}

/// Locks an existing directory; `None` if it is gone or its owner lives.
pub(super) fn acquire_stale(root: &Dir, name: &OsStr) -> Option<Claim> {
    let turn = Turn::take(root);
    let (parent, dir) = open(root, name).ok()?;
    lock(&parent, &dir, name).ok()?;
    drop(turn);
    Some(Claim {
        parent,
        name: name.to_owned(),
        dir,
        stale: true,
    })
}

/// The living launcher of a jail, as `/proc/locks` tells (proc_locks(5)).
pub(super) fn owner(dir: &Dir) -> Option<u32> {
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    owner_in(&locks, dir.id().ok()?)
}

/// `1: FLOCK  ADVISORY  WRITE 4121 00:26:5678 0 EOF`
fn owner_in(locks: &str, inode: u64) -> Option<u32> {
    let inode = inode.to_string();
    locks.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        if fields.next() != Some("FLOCK") {
            return None;
        }
        let pid = fields.nth(2)?;
        let file = fields.next()?;
        (file.rsplit(':').next() == Some(inode.as_str()))
            .then(|| pid.parse().ok())
            .flatten()
    })
}

fn try_acquire(root: &Dir, name: &OsStr, made: &mut bool) -> Result<Claim, (&'static str, Errno)> {
    const CREATE: &str = "create cgroup";
    const OPEN: &str = "open cgroup";
    let parent_name = OsStr::new(PARENT);
    root.mkdir(parent_name).map_err(|errno| (CREATE, errno))?;
    let parent = root.open_made(parent_name).map_err(|errno| (OPEN, errno))?;
    // Remembered over rounds: a directory that we made is ours even if another one looked at it first.
    *made |= parent.mkdir(name).map_err(|errno| (CREATE, errno))?;
    let opened = match *made {
        true => parent.open_made(name),
        false => parent.open_dir(name),
    };
    let dir = opened.map_err(|errno| (OPEN, errno))?;
    lock(&parent, &dir, name).map_err(|errno| ("lock cgroup", errno))?;
    Ok(Claim {
        parent,
        name: name.to_owned(),
        dir,
        stale: !*made,
    })
}

fn open(root: &Dir, name: &OsStr) -> Result<(Dir, Dir), Errno> {
    let parent = root.open_dir(OsStr::new(PARENT))?;
    let dir = parent.open_dir(name)?;
    Ok((parent, dir))
}

/// Locks without waiting. The name may stand for another directory by the time the lock is ours (the
/// previous owner removed it): that is ENOENT.
fn lock(parent: &Dir, dir: &Dir, name: &OsStr) -> Result<(), Errno> {
    flock(dir, libc::LOCK_EX | libc::LOCK_NB)?;
    if parent.id_of(name)? == dir.id()? {
        Ok(())
    } else {
        Err(Errno::ENOENT)
    }
}

fn flock(dir: &Dir, operation: i32) -> Result<(), Errno> {
    // SAFETY: flock takes an open descriptor and a flag. (nix's Flock owns the file and unlocks on
    // drop; here a lock must last exactly as long as the descriptor, which the jail keeps.)
    Errno::result(unsafe { libc::flock(dir.as_fd().as_raw_fd(), operation) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCKS: &str = "\
1: POSIX  ADVISORY  WRITE 77 00:26:5678 0 EOF
2: FLOCK  ADVISORY  WRITE 4121 00:26:5678 0 EOF
2: -> FLOCK  ADVISORY  WRITE 4122 00:26:99 0 EOF
3: FLOCK  ADVISORY  WRITE 4123 00:26:15678 0 EOF
";

    #[test]
    fn the_owner_is_the_holder_of_the_flock() {
        assert_eq!(owner_in(LOCKS, 5678), Some(4121));
        assert_eq!(owner_in(LOCKS, 15678), Some(4123));
        // One that only waits for it is no owner.
        assert_eq!(owner_in(LOCKS, 99), None);
        assert_eq!(owner_in("", 1), None);
    }

    /// The algorithm needs directories and flock only, so it is tried on an ordinary file system.
    fn root() -> (tempfile::TempDir, Dir) {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        (temp, dir)
    }

    #[test]
    fn a_name_has_one_owner_and_a_leftover_is_told() {
        let (_temp, root) = root();
        let name = OsStr::new("web");
        let claim = acquire(&root, name).unwrap();
        assert!(!claim.stale);
        assert!(acquire_stale(&root, name).is_none());
        match acquire(&root, name) {
            Err(Error::AlreadyRunning { owner, .. }) => {
                assert_eq!(owner, Some(std::process::id()));
            }
            other => panic!("{other:?}"),
        }
        drop(claim);
        assert!(acquire_stale(&root, name).is_some());
        assert!(acquire(&root, name).unwrap().stale);
    }

    #[test]
    fn a_name_that_is_refused_leaves_no_parent() {
        let (temp, root) = root();
        let long = "x".repeat(300);
        let refused = acquire(&root, OsStr::new(&long));
        assert!(matches!(refused, Err(Error::Io { .. })), "{refused:?}");
        assert!(!temp.path().join(PARENT).exists());
        // That of other jails stays.
        let _other = acquire(&root, OsStr::new("web")).unwrap();
        acquire(&root, OsStr::new(&long)).unwrap_err();
        assert!(temp.path().join(PARENT).join("web").exists());
    }

    #[test]
    fn a_directory_that_was_replaced_is_not_locked_by_mistake() {
        let (_temp, root) = root();
        let name = OsStr::new("web");
        let claim = acquire(&root, name).unwrap();
        let (parent, old) = open(&root, name).unwrap();
        drop(claim);
        parent.rmdir(name).unwrap();
        assert_eq!(lock(&parent, &old, name), Err(Errno::ENOENT));
        parent.mkdir(name).unwrap();
        // A new directory: an ordinary file system may reuse the inode number, cgroupfs never does.
        if parent.id_of(name) != old.id() {
            assert_eq!(lock(&parent, &old, name), Err(Errno::ENOENT));
        }
    }

    #[test]
    fn a_removed_parent_is_made_again() {
        let (_temp, root) = root();
        drop(acquire(&root, OsStr::new("a")).unwrap());
        let parent = root.open_dir(OsStr::new(PARENT)).unwrap();
        parent.rmdir(OsStr::new("a")).unwrap();
        root.rmdir(OsStr::new(PARENT)).unwrap();
        assert!(!acquire(&root, OsStr::new("b")).unwrap().stale);
    }
}
