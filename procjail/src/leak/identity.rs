//! What tells a namespace or a mount from a later one of the same number.
//!
//! Inode numbers of namespaces, IDs of mounts and device numbers of file systems without a device are the
//! lowest free ones: where jails come and go, a stranger has those of an ended jail a moment later. Never
//! reused are the ID of a namespace (mount namespaces: Linux 6.11; all: 6.18) and the unique ID of a mount
//! (6.8). They grow, so they also say which of two mounts is older.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// ioctl(2) on a file of nsfs: the ID of a namespace, and of a mount namespace (include/uapi/linux/nsfs.h).
const NS_GET_ID: u32 = 0x8008_b70d;
const NS_GET_MNTNS_ID: u32 = 0x8008_b705;

/// The same on all architectures.
const SYS_STATMOUNT: libc::c_long = 457;
const SYS_LISTMOUNT: libc::c_long = 458;

/// listmount(2): all mounts of the namespace (include/uapi/linux/mount.h, as the following).
const LSMT_ROOT: u64 = u64::MAX;
/// statmount(2): the IDs of the mount.
const STATMOUNT_MNT_BASIC: u64 = 2;
/// statx(2): the unique ID of the mount.
const STATX_MNT_ID_UNIQUE: u32 = 0x4000;
/// open_tree(2): a copy of the mount, attached nowhere.
const OPEN_TREE_CLONE: libc::c_uint = 1;

/// Mounts of one namespace that are looked up.
const MOUNTS: usize = 4096;

/// Times of inodes lag behind the clock by a tick, nanoseconds.
const TICK_NS: u64 = 10_000_000;

/// `struct mnt_id_req`.
#[repr(C)]
struct Request {
    size: u32,
    fd: u32,
    mount: u64,
    parameter: u64,
    namespace: u64,
}

impl Request {
    fn new(mount: u64, parameter: u64, namespace: u64) -> Request {
        Request {
            size: size_of::<Request>() as u32,
            fd: 0,
            mount,
            parameter,
            namespace,
        }
    }
}

/// A file of nsfs, opened without waiting for anything that is there instead of it.
pub fn open(path: impl AsRef<Path>) -> Option<File> {
    std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC)
        .open(path)
        .ok()
}

/// The ID of a namespace, which no other one ever has. Nothing where the kernel has none for its kind.
pub fn namespace(file: &File) -> Option<u64> {
    ioctl(file, NS_GET_ID).or_else(|| ioctl(file, NS_GET_MNTNS_ID))
}

fn ioctl(file: &File, request: u32) -> Option<u64> {
    let mut id = 0_u64;
    // SAFETY: both requests write 8 bytes.
    let returned = unsafe { libc::ioctl(file.as_raw_fd(), request as _, &raw mut id) };
    (returned == 0 && id != 0).then_some(id)
}

/// When the kernel made the inode of a namespace, CLOCK_REALTIME nanoseconds: the namespace had its number
/// from then on. A new one is made whenever nobody had it open or bound.
pub fn known_since_ns(file: &File) -> Option<u64> {
    let data = file.metadata().ok()?;
    let seconds = u64::try_from(data.ctime()).ok()?;
    let rest = u64::try_from(data.ctime_nsec()).ok()?;
    Some(seconds.saturating_mul(1_000_000_000) + rest + TICK_NS)
}

/// The unique IDs of the mounts of a mount namespace, by the IDs that its table has.
pub fn mounts(namespace: u64) -> BTreeMap<u64, u64> {
    let mut ids = vec![0_u64; MOUNTS];
    let request = Request::new(LSMT_ROOT, 0, namespace);
    // SAFETY: the request is valid, and `ids` for writing as many as are said.
    let count = unsafe {
        libc::syscall(
            SYS_LISTMOUNT,
            &raw const request,
            ids.as_mut_ptr(),
            MOUNTS,
            0,
        )
    };
    ids.truncate(usize::try_from(count).unwrap_or(0));
    ids.into_iter()
        .filter_map(|id| Some((table_id(id, namespace)?, id)))
        .collect()
}

/// The ID in the table of mounts.
fn table_id(mount: u64, namespace: u64) -> Option<u64> {
    /// `struct statmount` has its strings after this.
    const BYTES: usize = 512;
    /// Where its `mnt_id_old` is.
    const ID: usize = 56;
    let mut answer = [0_u8; BYTES];
    let request = Request::new(mount, STATMOUNT_MNT_BASIC, namespace);
    // SAFETY: the request is valid, and `answer` for writing as much as is said.
    let returned = unsafe {
        libc::syscall(
            SYS_STATMOUNT,
            &raw const request,
            answer.as_mut_ptr(),
            BYTES,
            0,
        )
    };
    let id = answer.get(ID..)?.first_chunk()?;
    (returned == 0).then(|| u64::from(u32::from_ne_bytes(*id)))
}

/// A moment among the unique IDs of mounts: those made before have a smaller one, those made later a larger.
#[derive(Debug)]
pub struct Mark {
    /// The ID.
    pub id: u64,
    /// A mount made for it. Putting it away takes the kernel a moment.
    _mount: OwnedFd,
}

impl Mark {
    /// Now. Nothing where mounts have no such ID.
    pub fn now() -> Option<Mark> {
        // SAFETY: the path is a valid C string.
        let fd = unsafe {
            let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as libc::c_uint;
            libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, c"/".as_ptr(), flags)
        };
        if fd < 0 {
            return None;
        }
        // SAFETY: the kernel just made it for us.
        let mount = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        // `struct statx`: the mask is first, the ID at byte 144.
        let mut answer = [0_u64; 32];
        // SAFETY: the path is a valid C string, and `answer` has the size of the structure.
        let returned = unsafe {
            libc::syscall(
                libc::SYS_statx,
                mount.as_raw_fd(),
                c"".as_ptr(),
                libc::AT_EMPTY_PATH,
                STATX_MNT_ID_UNIQUE,
                answer.as_mut_ptr(),
            )
        };
        let mask = answer[0].to_ne_bytes();
        let mask = u32::from_ne_bytes([mask[0], mask[1], mask[2], mask[3]]);
        (returned == 0 && mask & STATX_MNT_ID_UNIQUE != 0).then_some(Mark {
            id: answer[18],
            _mount: mount,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::mountinfo::Table;

    #[test]
    fn this_namespace_is_itself_and_no_other() {
        let here = open("/proc/self/ns/mnt").expect("a namespace");
        let again = open("/proc/self/ns/mnt").expect("a namespace");
        assert_eq!(namespace(&here), namespace(&again));
        if let (Some(mount), Some(net)) = (
            namespace(&here),
            open("/proc/self/ns/net").and_then(|net| namespace(&net)),
        ) {
            assert_ne!(mount, net);
        }
        assert!(known_since_ns(&here) > Some(0));
        let file = open("/proc/self/status").expect("a file");
        assert_eq!(namespace(&file), None);
    }

    #[test]
    fn every_mount_of_the_table_has_an_id_older_than_a_mark() {
        let here = open("/proc/self/ns/mnt").and_then(|here| namespace(&here));
        let (Some(here), Some(mark)) = (here, Mark::now()) else {
            return;
        };
        let ids = mounts(here);
        let table = Table::of(std::process::id()).expect("a table");
        for mount in &table.0 {
            let id = ids.get(&mount.id).copied().expect("an ID");
            assert!(id < mark.id, "{mount:?}");
        }
        assert!(Mark::now().expect("a mark").id > mark.id);
    }
}
