//! What the machine tells about itself in /proc and /sys, as far as the probes care.

use std::fs;

/// The build ID of the running kernel as hexadecimal digits; `None` where it has none.
///
/// From the ELF notes that the kernel shows in `/sys/kernel/notes`: see elf(5).
pub fn build_id() -> Option<String> {
    parse_build_id(&fs::read("/sys/kernel/notes").ok()?)
}

/// Whether the running kernel is of that version or newer.
pub fn is_at_least(major: u32, minor: u32) -> bool {
    nix::sys::utsname::uname().is_ok_and(|names| {
        version(&names.release().to_string_lossy()).is_some_and(|found| found >= (major, minor))
    })
}

/// The first two numbers of a release such as `6.1.0-50-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Finds the GNU build ID among ELF notes.
pub(super) fn parse_build_id(mut notes: &[u8]) -> Option<String> {
    const NT_GNU_BUILD_ID: u32 = 3;
    loop {
        let word = |at: usize| {
            let bytes = notes.get(at..at + 4)?;
            Some(u32::from_ne_bytes(bytes.try_into().ok()?))
        };
        let (name_len, len, kind) = (word(0)? as usize, word(4)? as usize, word(8)?);
        let name_end = 12usize.checked_add(name_len)?;
        let start = name_end.checked_next_multiple_of(4)?;
        let end = start.checked_add(len)?;
        if kind == NT_GNU_BUILD_ID && notes.get(12..name_end)? == b"GNU\0" {
            let id = notes.get(start..end)?;
            return Some(id.iter().map(|byte| format!("{byte:02x}")).collect());
        }
        notes = notes.get(end.checked_next_multiple_of(4)?..)?;
    }
}

/// The PID namespace that a process lives in: its inode number, and its depth below the initial one.
pub fn pid_namespace(pid: u32) -> Option<(u32, u32)> {
    if pid == 0 {
        return None;
    }
    let link = fs::read_link(format!("/proc/{pid}/ns/pid")).ok()?;
    let inode = link.to_str()?.strip_prefix("pid:[")?.strip_suffix(']')?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    // One number for each namespace from the one of this /proc inwards.
    let numbers = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))?;
    let level = numbers.split_whitespace().count().checked_sub(1)?;
    Some((inode.parse().ok()?, u32::try_from(level).ok()?))
}

/// Size of a page, bytes.
pub fn page_size() -> u32 {
    // SAFETY: the call has no preconditions.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u32::try_from(size).unwrap_or(4096)
}

/// The active mode of kernel lockdown, such as `none`; `None` where the kernel has none.
pub fn lockdown() -> Option<String> {
    let modes = fs::read_to_string("/sys/kernel/security/lockdown").ok()?;
    let (_, rest) = modes.split_once('[')?;
    Some(rest.split_once(']')?.0.to_owned())
}

/// Effective capabilities of this process, as a bit mask.
pub fn capabilities() -> u64 {
    fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("CapEff:"))?;
            u64::from_str_radix(line.trim(), 16).ok()
        })
        .unwrap_or(0)
}

/// A mounted file system: where, its type, and its own options.
pub struct MountPoint {
    /// Where.
    pub path: String,
    /// Type, such as `cgroup2`.
    pub fs_type: String,
    /// Options of the file system itself, such as the controllers of a cgroup v1 hierarchy.
    pub options: String,
}

/// All mounts of this process's namespace. See proc_pid_mountinfo(5).
pub fn mounts() -> Vec<MountPoint> {
    let Ok(text) = fs::read_to_string("/proc/self/mountinfo") else {
        return Vec::new();
    };
    text.lines()
        .filter_map(|line| {
            let (place, file_system) = line.split_once(" - ")?;
            let mut file_system = file_system.split(' ');
            Some(MountPoint {
                path: place.split(' ').nth(4)?.to_owned(),
                fs_type: file_system.next()?.to_owned(),
                options: file_system.nth(1)?.to_owned(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_release_begins_with_its_version() {
        assert_eq!(version("6.1.0-50-amd64"), Some((6, 1)));
        assert_eq!(version("7.2-rc1"), Some((7, 2)));
        assert_eq!(version("linux"), None);
    }

    #[test]
    fn the_build_id_is_found_behind_another_note() {
        let mut notes = Vec::new();
        for (name, kind, id) in [
            (b"Xen\0", 3u32, &[1u8, 2][..]),
            (b"GNU\0", 3, &[0xab, 0xcd, 1]),
        ] {
            for word in [4, id.len() as u32, kind] {
                notes.extend(word.to_ne_bytes());
            }
            notes.extend(name);
            notes.extend(id);
            notes.resize(notes.len().next_multiple_of(4), 0);
        }
        assert_eq!(parse_build_id(&notes).as_deref(), Some("abcd01"));
        assert_eq!(parse_build_id(&notes[..20]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_as_notes_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = parse_build_id(&bytes);
        }
    }
}
