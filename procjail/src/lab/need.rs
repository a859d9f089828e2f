//! What the machine has.

use std::fs;
use std::path::Path;

use super::{Failure, Need};
use crate::kernel;

/// `CAP_SYS_RESOURCE` of capabilities(7).
const CAP_SYS_RESOURCE: u32 = 24;

impl Need {
    /// Whether this machine has it.
    ///
    /// # Errors
    ///
    /// [`Failure::Needs`], with what is missing.
    pub fn check(self) -> Result<(), Failure> {
        let has = match self {
            Self::MemoryV2 => memory_controller() == Some(2),
            Self::MemoryV1 => memory_controller() == Some(1),
            Self::Memory => memory_controller().is_some(),
            Self::Linux(major, minor) => linux_version() >= (major, minor),
            Self::SysResource => kernel::capabilities() >> CAP_SYS_RESOURCE & 1 == 1,
            Self::Swap => has_swap(),
            Self::Disk => has_disk(),
            Self::Fuse => Path::new("/dev/fuse").exists(),
            // Not there in the root of the hierarchy.
            Self::FreezerV1 => Path::new(super::FREEZER_V1)
                .join("cgroup.clone_children")
                .exists(),
            Self::Disposable => {
                std::env::var_os("PROCJAIL_LAB_DISPOSABLE").is_some_and(|value| value == "1")
            }
        };
        match has {
            true => Ok(()),
            false => Err(Failure::Needs(self.to_string())),
        }
    }
}

impl std::fmt::Display for Need {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::MemoryV2 => f.write_str("the memory controller of cgroup v2"),
            Self::MemoryV1 => f.write_str("the memory controller of cgroup v1"),
            Self::Memory => f.write_str("the memory controller"),
            Self::Linux(major, minor) => write!(f, "Linux {major}.{minor}"),
            Self::SysResource => f.write_str("CAP_SYS_RESOURCE"),
            Self::Swap => f.write_str("a swap area"),
            Self::Disk => f.write_str("a directory for temporary files that is on a disk"),
            Self::Fuse => f.write_str("/dev/fuse"),
            Self::FreezerV1 => f.write_str("the freezer of cgroup v1"),
            Self::Disposable => {
                f.write_str("a machine to be thrown away (PROCJAIL_LAB_DISPOSABLE=1)")
            }
        }
    }
}

/// The version of cgroups that the memory controller is on.
fn memory_controller() -> Option<u32> {
    // proc_cgroups: name, hierarchy (0 is the unified one), number of cgroups, enabled.
    let text = fs::read_to_string("/proc/cgroups").unwrap_or_default();
    let listed = text.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        (fields.next()? == "memory").then_some(())?;
        let hierarchy = fields.next()?;
        (fields.nth(1)? == "1").then(|| hierarchy.to_owned())
    });
    match listed.as_deref() {
        Some("0") => Some(2),
        Some(_) => Some(1),
        // Newer kernels list the controllers of v1 only.
        None => fs::read_to_string("/sys/fs/cgroup/cgroup.controllers")
            .is_ok_and(|text| text.split_whitespace().any(|name| name == "memory"))
            .then_some(2),
    }
}

fn linux_version() -> (u32, u32) {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = text
        .split(|char: char| !char.is_ascii_digit())
        .map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn has_disk() -> bool {
    use nix::sys::statfs::{FsType, TMPFS_MAGIC, statfs};
    /// `RAMFS_MAGIC` of include/uapi/linux/magic.h.
    const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);
    statfs(&std::env::temp_dir()).is_ok_and(|found| {
        let kind = found.filesystem_type();
        kind != TMPFS_MAGIC && kind != RAMFS_MAGIC
    })
}

fn has_swap() -> bool {
    fs::read_to_string("/proc/swaps").is_ok_and(|text| text.lines().count() > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_version() {
        assert!(linux_version() > (4, 0));
    }
}
