//! Flags of the system calls that change mounts and namespaces.

use procjail_common::mount_call as call;

/// Name of a mount or namespace call (a value of [`procjail_common::mount_call`]).
pub fn mount_call(number: u32) -> String {
    let name = match number {
        call::MOUNT => "mount",
        call::UMOUNT => "umount2",
        call::MOVE_MOUNT => "move_mount",
        call::OPEN_TREE => "open_tree",
        call::FSMOUNT => "fsmount",
        call::MOUNT_SETATTR => "mount_setattr",
        call::PIVOT_ROOT => "pivot_root",
        call::SETNS => "setns",
        call::UNSHARE => "unshare",
        unknown => return format!("mount_call_{unknown}"),
    };
    name.to_owned()
}

/// Names of the flags given to such a call. Bits without a name come last, as one hexadecimal number.
pub fn mount_flags(number: u32, flags: u64) -> Vec<String> {
    let table: &[(u64, &str)] = match number {
        call::MOUNT => MOUNT,
        call::UMOUNT => UMOUNT,
        call::MOVE_MOUNT => MOVE_MOUNT,
        call::OPEN_TREE => OPEN_TREE,
        call::FSMOUNT => FSMOUNT,
        call::MOUNT_SETATTR => AT,
        call::SETNS | call::UNSHARE => NAMESPACES,
        _ => &[],
    };
    // Since Linux 2.4 the upper half may hold a magic number from older times; see mount(2).
    let magic = number == call::MOUNT && flags & 0xffff_0000 == 0xc0ed_0000;
    let mut rest = if magic { flags & !0xffff_0000 } else { flags };
    let mut names = Vec::new();
    for (bit, name) in table {
        if rest & bit == *bit {
            names.push((*name).to_owned());
            rest &= !bit;
        }
    }
    if rest != 0 {
        names.push(format!("{rest:#x}"));
    }
    names
}

/// `MS_*` of mount(2).
const MOUNT: &[(u64, &str)] = &[
    (1, "MS_RDONLY"),
    (1 << 1, "MS_NOSUID"),
    (1 << 2, "MS_NODEV"),
    (1 << 3, "MS_NOEXEC"),
    (1 << 4, "MS_SYNCHRONOUS"),
    (1 << 5, "MS_REMOUNT"),
    (1 << 6, "MS_MANDLOCK"),
    (1 << 7, "MS_DIRSYNC"),
    (1 << 8, "MS_NOSYMFOLLOW"),
    (1 << 10, "MS_NOATIME"),
    (1 << 11, "MS_NODIRATIME"),
    (1 << 12, "MS_BIND"),
    (1 << 13, "MS_MOVE"),
    (1 << 14, "MS_REC"),
    (1 << 15, "MS_SILENT"),
    (1 << 16, "MS_POSIXACL"),
    (1 << 17, "MS_UNBINDABLE"),
    (1 << 18, "MS_PRIVATE"),
    (1 << 19, "MS_SLAVE"),
    (1 << 20, "MS_SHARED"),
    (1 << 21, "MS_RELATIME"),
    (1 << 23, "MS_I_VERSION"),
    (1 << 24, "MS_STRICTATIME"),
    (1 << 25, "MS_LAZYTIME"),
];

/// `MNT_*` of umount2(2).
const UMOUNT: &[(u64, &str)] = &[
    (1, "MNT_FORCE"),
    (2, "MNT_DETACH"),
    (4, "MNT_EXPIRE"),
    (8, "UMOUNT_NOFOLLOW"),
];

/// `MOVE_MOUNT_*` of move_mount(2).
const MOVE_MOUNT: &[(u64, &str)] = &[
    (0x001, "MOVE_MOUNT_F_SYMLINKS"),
    (0x002, "MOVE_MOUNT_F_AUTOMOUNTS"),
    (0x004, "MOVE_MOUNT_F_EMPTY_PATH"),
    (0x010, "MOVE_MOUNT_T_SYMLINKS"),
    (0x020, "MOVE_MOUNT_T_AUTOMOUNTS"),
    (0x040, "MOVE_MOUNT_T_EMPTY_PATH"),
    (0x100, "MOVE_MOUNT_SET_GROUP"),
    (0x200, "MOVE_MOUNT_BENEATH"),
];

/// Flags of open_tree(2).
const OPEN_TREE: &[(u64, &str)] = &[
    (1, "OPEN_TREE_CLONE"),
    (0x100, "AT_SYMLINK_NOFOLLOW"),
    (0x800, "AT_NO_AUTOMOUNT"),
    (0x1000, "AT_EMPTY_PATH"),
    (0x8000, "AT_RECURSIVE"),
    (libc::O_CLOEXEC as u64, "OPEN_TREE_CLOEXEC"),
];

/// Flags of fsmount(2).
const FSMOUNT: &[(u64, &str)] = &[(1, "FSMOUNT_CLOEXEC")];

/// `AT_*`, of mount_setattr(2).
const AT: &[(u64, &str)] = &[
    (0x100, "AT_SYMLINK_NOFOLLOW"),
    (0x800, "AT_NO_AUTOMOUNT"),
    (0x1000, "AT_EMPTY_PATH"),
    (0x8000, "AT_RECURSIVE"),
];

/// `CLONE_*` of setns(2) and unshare(2).
const NAMESPACES: &[(u64, &str)] = &[
    (0x0000_0080, "CLONE_NEWTIME"),
    (0x0000_0100, "CLONE_VM"),
    (0x0000_0200, "CLONE_FS"),
    (0x0000_0400, "CLONE_FILES"),
    (0x0000_0800, "CLONE_SIGHAND"),
    (0x0001_0000, "CLONE_THREAD"),
    (0x0002_0000, "CLONE_NEWNS"),
    (0x0004_0000, "CLONE_SYSVSEM"),
    (0x0200_0000, "CLONE_NEWCGROUP"),
    (0x0400_0000, "CLONE_NEWUTS"),
    (0x0800_0000, "CLONE_NEWIPC"),
    (0x1000_0000, "CLONE_NEWUSER"),
    (0x2000_0000, "CLONE_NEWPID"),
    (0x4000_0000, "CLONE_NEWNET"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_named_by_their_call() {
        assert_eq!(
            mount_flags(call::MOUNT, 0x1000 | 0x4000),
            ["MS_BIND", "MS_REC"]
        );
        assert_eq!(mount_flags(call::MOUNT, 0xc0ed_0001), ["MS_RDONLY"]);
        assert_eq!(mount_flags(call::UMOUNT, 2), ["MNT_DETACH"]);
        assert_eq!(mount_flags(call::UNSHARE, 0x0002_0000), ["CLONE_NEWNS"]);
        assert_eq!(mount_flags(call::UMOUNT, 0x102), ["MNT_DETACH", "0x100"]);
        assert!(mount_flags(call::PIVOT_ROOT, 0).is_empty());
        assert_eq!(mount_flags(u32::MAX, u64::MAX), ["0xffffffffffffffff"]);
        assert_eq!(mount_call(call::UMOUNT), "umount2");
        assert_eq!(mount_call(77), "mount_call_77");
    }
}
