//! The kernel's own notices of mounts that come and go in a mount namespace: fanotify(7), from Linux 6.15 on.
//! They are there at once, also for what no system call does: the unmounts at the namespace's end.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Reports carry the ID of a mount (include/uapi/linux/fanotify.h, as the following).
const FAN_REPORT_MNT: libc::c_uint = 0x4000;
/// The mark is on a mount namespace.
const FAN_MARK_MNTNS: libc::c_uint = 0x110;
/// A mount was attached.
const FAN_MNT_ATTACH: u64 = 0x0100_0000;
/// A mount was detached.
const FAN_MNT_DETACH: u64 = 0x0200_0000;
/// Notices were lost.
const FAN_Q_OVERFLOW: u64 = 0x4000;

/// Size of `struct fanotify_event_metadata`.
const METADATA: usize = 24;

/// The notices of one namespace.
#[derive(Debug)]
pub struct Notices(File);

/// What one reading of them gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Mounts attached.
    pub attached: u64,
    /// Mounts detached.
    pub detached: u64,
    /// There were more than the kernel kept.
    pub lost: bool,
}

impl Notices {
    /// Those of the mount namespace of a process, which this does not keep alive. None where the kernel
    /// doesn't have them.
    pub fn of(pid: u32) -> Option<Notices> {
        let flags = libc::FAN_CLASS_NOTIF | libc::FAN_NONBLOCK | libc::FAN_CLOEXEC | FAN_REPORT_MNT;
        // SAFETY: no pointers.
        let fd = unsafe { libc::fanotify_init(flags, 0) };
        if fd < 0 {
            return None;
        }
        // SAFETY: the kernel just made it for us.
        let group = unsafe { OwnedFd::from_raw_fd(fd) };
        let namespace = File::open(format!("/proc/{pid}/ns/mnt")).ok()?;
        // SAFETY: no path is given, as the descriptor says it all.
        let marked = unsafe {
            libc::fanotify_mark(
                group.as_raw_fd(),
                libc::FAN_MARK_ADD | FAN_MARK_MNTNS,
                FAN_MNT_ATTACH | FAN_MNT_DETACH,
                namespace.as_raw_fd(),
                std::ptr::null(),
            )
        };
        (marked == 0).then(|| Notices(group.into()))
    }

    /// What came since the last reading.
    pub fn read(&mut self) -> Told {
        let mut told = Told::default();
        let mut bytes = [0; 8192];
        while let Ok(length @ 1..) = self.0.read(&mut bytes) {
            told.add(bytes.get(..length).unwrap_or_default());
        }
        told
    }
}

impl AsFd for Notices {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Told {
    fn add(&mut self, mut bytes: &[u8]) {
        // event_len, vers, reserved, metadata_len, mask, fd, pid
        while let Some(metadata) = bytes.get(..METADATA) {
            let length = metadata
                .first_chunk()
                .map_or(0, |len| u32::from_ne_bytes(*len));
            let mask = metadata.get(8..).and_then(<[u8]>::first_chunk);
            let mask = mask.map_or(0, |mask| u64::from_ne_bytes(*mask));
            self.attached += u64::from(mask & FAN_MNT_ATTACH != 0);
            self.detached += u64::from(mask & FAN_MNT_DETACH != 0);
            self.lost |= mask & FAN_Q_OVERFLOW != 0;
            bytes = bytes
                .get((length as usize).max(METADATA)..)
                .unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_are_counted_and_damage_is_no_reason_to_panic() {
        let mut event = [0_u8; 40];
        event[..4].copy_from_slice(&40_u32.to_ne_bytes());
        event[8..16].copy_from_slice(&FAN_MNT_DETACH.to_ne_bytes());
        let mut bytes = event.repeat(3);
        event[8..16].copy_from_slice(&FAN_MNT_ATTACH.to_ne_bytes());
        bytes.extend(event);
        bytes.extend([0; 30]);
        let mut told = Told::default();
        told.add(&bytes);
        assert_eq!((told.attached, told.detached, told.lost), (1, 3, false));
    }
}
