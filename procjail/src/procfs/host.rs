//! What /proc tells of all processes of the host. Each look is a few system calls for each process.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use super::{self as procfs, Status};
use crate::event::Task;

/// The kinds of namespace, as `/proc/PID/ns` names them.
pub const KINDS: [&str; 8] = ["mnt", "net", "pid", "ipc", "uts", "cgroup", "user", "time"];

/// A namespace: its kind and its inode number.
pub type Namespace = (&'static str, u64);

/// All processes that can be seen.
pub fn pids() -> Vec<u32> {
    std::fs::read_dir("/proc").map_or_else(
        |_| Vec::new(),
        |entries| {
            entries
                .flatten()
                .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
                .collect()
        },
    )
}

/// The namespaces that a process is in; fewer if it is gone.
pub fn namespaces(pid: u32) -> BTreeMap<&'static str, u64> {
    KINDS
        .iter()
        .filter_map(|kind| Some((*kind, namespace(pid, kind)?)))
        .collect()
}

/// One of them. A kernel thread has those of the host and is no holder of anything.
pub fn namespace(pid: u32, kind: &str) -> Option<u64> {
    inode(&link(&format!("/proc/{pid}/ns/{kind}"))?, kind)
}

/// The inode number in a link such as `mnt:[4026531841]`.
pub fn inode(link: &str, kind: &str) -> Option<u64> {
    link.strip_prefix(kind)?
        .strip_prefix(":[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

/// The namespace that a link or the root of an nsfs mount names.
pub fn named(link: &str) -> Option<Namespace> {
    KINDS
        .iter()
        .find_map(|kind| Some((*kind, inode(link, kind)?)))
}

/// What a symbolic link reads as.
pub fn link(path: &str) -> Option<String> {
    let target = std::fs::read_link(path).ok()?;
    Some(target.to_string_lossy().into_owned())
}

/// The descriptors of a process and what they are.
pub fn descriptors(pid: u32) -> Vec<(u32, String)> {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            let target = std::fs::read_link(entry.path()).ok()?;
            Some((number, target.to_string_lossy().into_owned()))
        })
        .collect()
}

/// A process for an event; by its number alone if it is gone.
pub fn task(pid: u32) -> Task {
    let gone = || Task {
        pid,
        tid: pid,
        ..Task::default()
    };
    let read = |name: &str| procfs::read(&format!("/proc/{pid}/{name}"));
    let (Some(status), Some(stat)) = (read("status"), read("stat")) else {
        return gone();
    };
    let status = Status::parse(&status);
    Task {
        in_jail: false,
        ..status.task(procfs::start_ns(&stat))
    }
}

/// Its session (proc_pid_stat(5)).
pub fn session(pid: u32) -> Option<u32> {
    let stat = procfs::read(&format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(3)?.parse().ok()
}

/// ID of the mount that a link of procfs leads to. The file system itself isn't asked anything.
pub fn mount_id(path: &str) -> Option<u64> {
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_CLOEXEC)
        .open(path)
        .ok()?;
    mount_id_in(&format!("/proc/self/fdinfo/{}", file.as_raw_fd()))
}

/// ID of the mount in a file of `/proc/PID/fdinfo`.
pub fn mount_id_in(fdinfo: &str) -> Option<u64> {
    let text = procfs::read(fdinfo)?;
    text.lines()
        .find_map(|line| line.strip_prefix("mnt_id:"))?
        .trim()
        .parse()
        .ok()
}

/// The device of a mapping's file, in the form of mountinfo, and its path.
pub fn mapped_files(pid: u32) -> Vec<(String, String)> {
    let maps = procfs::read(&format!("/proc/{pid}/maps")).unwrap_or_default();
    let mut found: Vec<(String, String)> = maps
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(3);
            let (major, minor) = fields.next()?.split_once(':')?;
            let hex = |text| u32::from_str_radix(text, 16).ok();
            let device = format!("{}:{}", hex(major)?, hex(minor)?);
            let path = fields.nth(1).filter(|path| path.starts_with('/'))?;
            Some((device, path.to_owned()))
        })
        .collect();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen() {
        let own = std::process::id();
        assert!(pids().contains(&own));
        let namespaces = namespaces(own);
        assert!(namespaces.contains_key("mnt") && namespaces.contains_key("pid"));
        assert_eq!(task(own).pid, own);
        let exe = mount_id("/proc/self/exe").expect("a mount");
        assert!(exe > 0);
        assert!(!mapped_files(own).is_empty());
        assert!(descriptors(own).iter().any(|(number, _)| *number == 0));
    }

    #[test]
    fn names_of_namespaces_are_read() {
        assert_eq!(named("net:[4026531840]"), Some(("net", 4026531840)));
        assert_eq!(named("pid_for_children:[1]"), None);
        assert_eq!(named("pipe:[1]"), None);
        assert_eq!(inode("mnt:[x]", "mnt"), None);
    }
}
