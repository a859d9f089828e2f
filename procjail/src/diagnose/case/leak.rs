//! What the jail left, and the mounts that were in use.

use super::Case;
use crate::event::{Event, LeakCheck, Mount, MountUse, What};

impl Case {
    /// The file of a memory cgroup that counts OOM kills, on this host.
    pub fn oom_kill_file(&self) -> &'static str {
        match self.header.host.cgroup_mode.as_str() {
            "v2" => "memory.events",
            _ => "memory.oom_control",
        }
    }

    /// The look at the host after the jail's removal.
    pub fn leak_check(&self) -> Option<(&Event, &LeakCheck)> {
        self.each(|what| match what {
            What::LeakCheck(check) => Some(check),
            _ => None,
        })
        .last()
    }

    /// The calls that change mounts or namespaces, in order.
    pub fn mounts(&self) -> impl Iterator<Item = (&Event, &Mount)> {
        self.each(|what| match what {
            What::Mount(mount) => Some(mount),
            _ => None,
        })
    }

    /// Who used a mount when its unmount failed or was lazy, in order.
    pub fn mount_uses(&self) -> impl Iterator<Item = (&Event, &MountUse)> {
        self.each(|what| match what {
            What::MountUse(found) => Some(found),
            _ => None,
        })
    }

    /// The call that made a mount, by its target: the last one that succeeded.
    pub fn mounted_at(&self, target: &str) -> Option<(&Event, &Mount)> {
        self.mounts()
            .filter(|(_, mount)| {
                matches!(mount.call.as_str(), "mount" | "move_mount")
                    && mount.result.is_some_and(|result| result >= 0)
                    && mount.target.trim_end_matches('/') == target
            })
            .last()
    }
}
