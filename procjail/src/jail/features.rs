//! What a jail uses of the kernel that not every kernel has, and what is done without it.

use super::cgroup::{Cgroups, Limits};
use super::error::Error;
use super::sys;
use crate::cgroup::HostCgroups;

/// Something of the kernel that a jail uses where it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// The file, system call or flag.
    pub name: &'static str,
    /// The first version of Linux that has it.
    pub since: &'static str,
    /// What is lost or done in its stead.
    pub lost: &'static str,
    /// This kernel has it.
    pub present: bool,
}

/// Looks at the kernel, and at a cgroup of the unified hierarchy that is not its root.
pub(super) fn features(cgroups: &Cgroups, host: &HostCgroups) -> Vec<Feature> {
    let mut features = vec![
        Feature {
            name: "cgroup.kill",
            since: "5.14",
            lost: "the jail is frozen, killed one by one and thawed",
            present: cgroups.has_file("cgroup.kill"),
        },
        Feature {
            name: "mount_setattr",
            since: "5.12",
            lost: "mounts are made read-only one by one",
            present: sys::has_mount_setattr(),
        },
        Feature {
            name: "MOVE_MOUNT_SET_GROUP",
            since: "5.15",
            lost: "--propagation shared",
            present: sys::has_mount_groups(),
        },
    ];
    // With the controller on v1 the peak is in a file that every kernel has.
    if host.v2_controllers.contains("memory") {
        features.push(Feature {
            name: "memory.peak",
            since: "5.19",
            lost: "the jail's peak memory",
            present: cgroups.has_file("memory.peak"),
        });
    }
    features
}

/// As for a jail, by a cgroup that is made for the purpose and removed again.
///
/// # Errors
///
/// No cgroup can be made.
pub fn check() -> Result<Vec<Feature>, Error> {
    let host = HostCgroups::detect()?;
    let plan = Limits::default().plan(&host)?;
    let cgroups = Cgroups::create(&format!("check-{}", std::process::id()), &plan)?;
    Ok(features(&cgroups, &host))
}
