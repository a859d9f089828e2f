//! Which file system a blocked thread waits for.
//!
//! Only text of /proc is read, and links in it: to touch the file system itself, even by stat(2), would
//! be to wait for it as well. The memory of a process is not read either, for paths that it passed.

use std::fs::{self, File};
use std::os::fd::AsRawFd;

use super::members::{Namespace, processes};
use super::stall::other;
use crate::event::{FileSystem, Other};
use crate::hang;
use crate::jail::sys;
use crate::procfs;
use crate::procfs::mountinfo::unescape_text;

/// Descriptors looked at for those who serve a FUSE file system.
const DESCRIPTORS: usize = 200_000;

/// A line of proc_pid_mountinfo(5).
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    id: u32,
    minor: u32,
    point: String,
    fs_type: String,
    source: String,
}

/// What is known about file systems that others answer for.
#[derive(Default)]
pub struct Servers {
    /// Who has `/dev/fuse` open, with the number of the connection where the kernel tells.
    daemons: Option<Vec<(Other, Option<u32>)>>,
    control: Option<Option<File>>,
}

impl Servers {
    /// The file system that a thread waits for, going by its stack and its call; `directory` is the
    /// thread's in /proc, `call` what its `syscall` has.
    pub fn blocking(
        &mut self,
        directory: &str,
        call: &str,
        stack: &[String],
        namespace: &mut Option<Namespace>,
    ) -> Option<FileSystem> {
        let is_fuse = stack
            .iter()
            .any(|frame| hang::FUSE.contains(&frame.as_str()));
        let is_server = stack
            .iter()
            .any(|frame| hang::SERVERS.iter().any(|start| frame.starts_with(start)));
        let fits: fn(&Mount) -> bool = match (is_fuse, is_server) {
            (true, _) => |mount| mount.fs_type.starts_with("fuse"),
            (false, true) => |mount| {
                ["nfs", "cifs", "smb", "ceph", "9p"]
                    .iter()
                    .any(|start| mount.fs_type.starts_with(start))
            },
            (false, false) => return None,
        };
        let mut candidates: Vec<Mount> = mounts(directory).into_iter().filter(fits).collect();
        if let Some(by_descriptor) = descriptor(call)
            .and_then(|fd| mount_of(directory, fd))
            .and_then(|id| candidates.iter().position(|mount| mount.id == id))
        {
            let mount = candidates.swap_remove(by_descriptor);
            return Some(self.describe(mount, is_fuse, true, namespace));
        }
        // One file system may be mounted at several places.
        candidates.dedup_by_key(|mount| mount.minor);
        if is_fuse && candidates.len() > 1 {
            let waiting = |mount: &Mount| self.waiting(mount.minor).is_none_or(|count| count > 0);
            let (with, _): (Vec<Mount>, Vec<Mount>) = candidates.into_iter().partition(waiting);
            candidates = with;
        }
        let certain = candidates.len() == 1;
        let mount = candidates.into_iter().next()?;
        Some(self.describe(mount, is_fuse, certain, namespace))
    }

    fn describe(
        &mut self,
        mount: Mount,
        is_fuse: bool,
        certain: bool,
        namespace: &mut Option<Namespace>,
    ) -> FileSystem {
        FileSystem {
            connection: is_fuse.then_some(mount.minor),
            waiting: is_fuse.then(|| self.waiting(mount.minor)).flatten(),
            daemons: match is_fuse {
                true => self.daemons(mount.minor, namespace),
                false => Vec::new(),
            },
            mount_point: mount.point,
            fs_type: mount.fs_type,
            source: mount.source,
            certain,
        }
    }

    /// Requests on a FUSE connection that have no answer yet, from a fusectl of our own: often none is
    /// mounted.
    fn waiting(&mut self, connection: u32) -> Option<u64> {
        let control = self.control.get_or_insert_with(|| {
            let mount = sys::new_mount(c"fusectl", &[], 0).ok()?;
            Some(File::from(mount))
        });
        let root = format!("/proc/self/fd/{}", control.as_ref()?.as_raw_fd());
        procfs::read(&format!("{root}/{connection}/waiting"))?
            .trim()
            .parse()
            .ok()
    }

    fn daemons(&mut self, connection: u32, namespace: &mut Option<Namespace>) -> Vec<Other> {
        let all = self.daemons.get_or_insert_with(|| fuse_daemons(namespace));
        let told = all.iter().any(|(_, of)| of.is_some());
        let serves = |of: &Option<u32>| match told {
            true => *of == Some(connection),
            // Without that, only the single one is certain.
            false => all.len() == 1,
        };
        all.iter()
            .filter(|(_, of)| serves(of))
            .map(|(daemon, _)| daemon.clone())
            .take(4)
            .collect()
    }
}

/// Everybody who has `/dev/fuse` open.
fn fuse_daemons(namespace: &mut Option<Namespace>) -> Vec<(Other, Option<u32>)> {
    let mut found = Vec::new();
    let mut left = DESCRIPTORS;
    for pid in processes() {
        let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            continue;
        };
        for entry in entries.flatten() {
            if left == 0 {
                return found;
            }
            left -= 1;
            if fs::read_link(entry.path()).is_ok_and(|link| link.as_os_str() == "/dev/fuse") {
                let number = entry.file_name();
                let info = format!("/proc/{pid}/fdinfo/{}", number.to_string_lossy());
                let info = procfs::read(&info).unwrap_or_default();
                let connection = info
                    .lines()
                    .find_map(|line| line.strip_prefix("fuse_connection:"))
                    .and_then(|number| number.trim().parse().ok());
                found.extend(other(pid, namespace).map(|daemon| (daemon, connection)));
            }
        }
    }
    found
}

/// The descriptor that the call is about; none for one that takes a path.
fn descriptor(call: &str) -> Option<u32> {
    const CALLS: &[libc::c_long] = &[
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_pread64,
        libc::SYS_pwrite64,
        libc::SYS_readv,
        libc::SYS_writev,
        libc::SYS_fstat,
        libc::SYS_fsync,
        libc::SYS_fdatasync,
        libc::SYS_ftruncate,
        libc::SYS_getdents64,
        libc::SYS_lseek,
        libc::SYS_ioctl,
        libc::SYS_fallocate,
        libc::SYS_fchmod,
        libc::SYS_fchown,
        libc::SYS_fchdir,
        libc::SYS_flock,
    ];
    let mut fields = call.split_whitespace();
    let number: libc::c_long = fields.next()?.parse().ok()?;
    let first = fields.next()?.strip_prefix("0x")?;
    CALLS
        .contains(&number)
        .then(|| u32::from_str_radix(first, 16).ok())
        .flatten()
}

/// ID of the mount that a descriptor is on.
fn mount_of(directory: &str, fd: u32) -> Option<u32> {
    let info = procfs::read(&format!("{directory}/fdinfo/{fd}"))?;
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?;
    id.trim().parse().ok()
}

/// The mounts that a thread sees; those of this process if it has given its namespace back.
fn mounts(directory: &str) -> Vec<Mount> {
    let text = procfs::read(&format!("{directory}/mountinfo"))
        .filter(|text| !text.is_empty())
        .or_else(|| procfs::read("/proc/self/mountinfo"))
        .unwrap_or_default();
    text.lines().filter_map(mount).collect()
}

fn mount(line: &str) -> Option<Mount> {
    let (front, back) = line.split_once(" - ")?;
    let mut front = front.split(' ');
    let id = front.next()?.parse().ok()?;
    let (_, minor) = front.nth(1)?.split_once(':')?;
    let point = unescape_text(front.nth(1)?);
    let mut back = back.split(' ');
    Some(Mount {
        id,
        minor: minor.parse().ok()?,
        point,
        fs_type: back.next()?.to_owned(),
        source: unescape_text(back.next()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_read_with_its_odd_name() {
        let line =
            "36 35 0:52 /sub /mnt/a\\040b rw,noatime master:1 - fuse.sshfs host:/x\\134y rw,fd=3";
        let expected = Mount {
            id: 36,
            minor: 52,
            point: "/mnt/a b".into(),
            fs_type: "fuse.sshfs".into(),
            source: "host:/x\\y".into(),
        };
        assert_eq!(mount(line), Some(expected));
        assert_eq!(mount("36 35 0:52 /"), None);
        assert_eq!(unescape_text("a\\04"), "a\\04");
    }

    #[test]
    fn only_calls_on_descriptors_have_one() {
        let read = format!("{} 0x7 0x0", libc::SYS_read);
        assert_eq!(descriptor(&read), Some(7));
        let open = format!("{} 0xffffff9c 0x0", libc::SYS_openat);
        assert_eq!(descriptor(&open), None);
        assert_eq!(descriptor("running"), None);
        assert_eq!(descriptor(""), None);
    }

    #[test]
    fn a_thread_that_waits_for_no_file_system_has_none() {
        let stack = ["do_wait".to_owned()];
        let found = Servers::default().blocking("/proc/self", "", &stack, &mut None);
        assert_eq!(found, None);
        assert!(!mounts("/proc/self").is_empty());
    }
}
