//! What of the kernel's events others wait for, seen before it is decoded.

use procjail_common::{Mount, kind, mount_call, mount_stage, read_record};

use crate::leak::Unmount;

/// Something that is to be looked at soon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// The OOM killer killed.
    OomKill,
    /// Mounts or namespaces of the jail changed.
    Mounts,
    /// An unmount failed because of a use or a lock, or was lazy.
    Unmount(Box<Unmount>),
}

/// Adds what a record is worth, once for many of the same.
pub fn note(alarms: &mut Vec<Alarm>, record_kind: u32, record: &[u8]) {
    let alarm = match record_kind {
        kind::OOM_KILL => Alarm::OomKill,
        kind::MOUNT => match read_record::<Mount>(record).and_then(|mount| worth(&mount)) {
            Some(alarm) => alarm,
            None => return,
        },
        _ => return,
    };
    if !alarms.contains(&alarm) {
        alarms.push(alarm);
    }
}

fn worth(mount: &Mount) -> Option<Alarm> {
    if mount.stage != mount_stage::DONE {
        return None;
    }
    let errno = mount.result.checked_neg().filter(|errno| *errno > 0);
    let lazy = mount.flags & libc::MNT_DETACH as u64 != 0;
    let errno = match (mount.call, errno) {
        (mount_call::UMOUNT, Some(errno)) => [libc::EBUSY, libc::EINVAL]
            .into_iter()
            .find(|known| i64::from(*known) == errno)?,
        (mount_call::UMOUNT, None) if lazy => 0,
        (_, None) => return Some(Alarm::Mounts),
        (_, Some(_)) => return None,
    };
    let task = &mount.header.task;
    let target = mount.target.get(..usize::from(mount.target_len))?;
    Some(Alarm::Unmount(Box::new(Unmount {
        pid: task.pid,
        tid: task.tid,
        jail_pid: task.jail_pid,
        start_ns: task.start_ns,
        target: String::from_utf8_lossy(target)
            .trim_end_matches('\0')
            .to_owned(),
        errno,
    })))
}
