//! Who is in a PID namespace, or in one nested in it. A process leaves its cgroup and its files early in
//! its end, this namespace only when it is reaped.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

/// `NS_GET_PARENT` of ioctl_ns(2).
const NS_GET_PARENT: libc::c_ulong = 0xb702;

/// Nested namespaces that are followed upwards: the kernel allows 32.
const DEPTH: usize = 32;

/// A PID namespace, and what is known of others.
#[derive(Debug)]
pub struct Namespace {
    inode: u64,
    inside: HashMap<u64, bool>,
}

impl Namespace {
    /// That of a process; none if it is gone.
    pub fn of(pid: u32) -> Option<Namespace> {
        Some(Namespace {
            inode: inode(pid)?,
            inside: HashMap::new(),
        })
    }

    /// Whether a process is in it, or in one nested in it; false if that can't be told.
    pub fn has(&mut self, pid: u32) -> bool {
        let Some(found) = inode(pid) else {
            return false;
        };
        if found == self.inode {
            return true;
        }
        let ours = self.inode;
        *self
            .inside
            .entry(found)
            .or_insert_with(|| is_below(pid, ours))
    }

    /// All processes in it and below, by host PID.
    pub fn members(&mut self) -> Vec<u32> {
        processes().filter(|&pid| self.has(pid)).collect()
    }
}

/// Every process that /proc shows.
pub fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The namespace that a process is in, by its number. Zombies have one.
fn inode(pid: u32) -> Option<u64> {
    let link = fs::read_link(format!("/proc/{pid}/ns/pid")).ok()?;
    let number = link.to_str()?.strip_prefix("pid:[")?.strip_suffix(']')?;
    number.parse().ok()
}

/// Whether the namespace of a process lies below another one.
fn is_below(pid: u32, ancestor: u64) -> bool {
    let Ok(file) = File::open(format!("/proc/{pid}/ns/pid")) else {
        return false;
    };
    let mut namespace = file;
    for _ in 0..DEPTH {
        // SAFETY: this request takes no argument.
        let parent = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_PARENT) };
        if parent < 0 {
            return false;
        }
        // SAFETY: the kernel just made this descriptor for us.
        namespace = File::from(unsafe { OwnedFd::from_raw_fd(parent) });
        if namespace
            .metadata()
            .is_ok_and(|metadata| metadata.ino() == ancestor)
        {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_in_its_own_namespace() {
        let own = std::process::id();
        let mut namespace = Namespace::of(own).expect("a namespace");
        assert!(namespace.has(own));
        assert!(namespace.members().contains(&own));
        assert!(!namespace.has(0));
    }

    #[test]
    fn a_process_that_is_gone_has_none() {
        assert!(Namespace::of(0).is_none());
        assert!(!is_below(0, 1));
    }
}
