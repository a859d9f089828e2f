//! The table of mounts of a mount namespace: proc_pid_mountinfo(5).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::event::MountEntry;

/// One mount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// Its ID, unique among the mounts that exist.
    pub id: u64,
    /// The ID of the mount that it is on.
    pub parent: u64,
    /// The rest.
    pub entry: MountEntry,
}

/// What makes two entries the same mount, in whatever namespace.
pub type Key = (String, String, String);

/// A table of mounts.
#[derive(Clone, Debug, Default)]
pub struct Table(pub Vec<Mount>);

impl Table {
    /// The table of the namespace that a process is in; none if it is gone. The process's root must be
    /// the namespace's for it to be whole.
    pub fn of(pid: u32) -> Option<Table> {
        let bytes = std::fs::read(format!("/proc/{pid}/mountinfo")).ok()?;
        Some(Table::parse(&String::from_utf8_lossy(&bytes)))
    }

    /// The lines of the file; those of another form are left out.
    pub fn parse(text: &str) -> Table {
        Table(text.lines().filter_map(parse).collect())
    }

    /// Device, root and target of all.
    pub fn keys(&self) -> BTreeSet<Key> {
        self.0.iter().map(|mount| key(&mount.entry)).collect()
    }

    /// The devices of all.
    pub fn devices(&self) -> BTreeSet<&str> {
        self.0
            .iter()
            .map(|mount| mount.entry.device.as_str())
            .collect()
    }

    /// The way to the path leads through no file system that a server or a daemon has to answer for.
    pub fn is_local(&self, path: &str) -> bool {
        const REMOTE: [&str; 14] = [
            "fuse", "nfs", "cifs", "smb", "9p", "ceph", "afs", "autofs", "coda", "lustre", "gpfs",
            "beegfs", "orangefs", "virtiofs",
        ];
        let on_the_way = |mount: &&Mount| Path::new(path).starts_with(&mount.entry.target);
        !self.0.iter().filter(on_the_way).any(|mount| {
            let fs_type = mount.entry.fs_type.as_str();
            REMOTE.iter().any(|remote| fs_type.starts_with(remote))
        })
    }

    /// The IDs of all.
    pub fn ids(&self) -> BTreeSet<u64> {
        self.0.iter().map(|mount| mount.id).collect()
    }

    /// What is mounted at a path: the last one there covers the others.
    pub fn at(&self, target: &str) -> Option<&Mount> {
        self.0
            .iter()
            .rev()
            .find(|mount| mount.entry.target == target)
    }
}

/// Where something is mounted at a path and below it, in this process's namespace; the innermost and last first.
pub fn mounts_below(path: &Path) -> Vec<PathBuf> {
    let table = Table::of(std::process::id()).unwrap_or_default();
    let targets = table
        .0
        .into_iter()
        .map(|mount| PathBuf::from(mount.entry.target));
    let mut found: Vec<PathBuf> = targets.filter(|target| target.starts_with(path)).collect();
    found.reverse();
    found
}

/// Device, root and target.
pub fn key(entry: &MountEntry) -> Key {
    (
        entry.device.clone(),
        entry.root.clone(),
        entry.target.clone(),
    )
}

fn parse(line: &str) -> Option<Mount> {
    let mut fields = line.split(' ');
    let id = fields.next()?.parse().ok()?;
    let parent = fields.next()?.parse().ok()?;
    let device = fields.next()?.to_owned();
    let root = unescape_text(fields.next()?);
    let target = unescape_text(fields.next()?);
    let _options = fields.next()?;
    let (mut shared, mut master) = (None, None);
    for field in fields.by_ref().take_while(|field| *field != "-") {
        if let Some(group) = field.strip_prefix("shared:") {
            shared = group.parse().ok();
        } else if let Some(group) = field.strip_prefix("master:") {
            master = group.parse().ok();
        }
    }
    let fs_type = unescape_text(fields.next()?);
    let source = unescape_text(fields.next().unwrap_or_default());
    let entry = MountEntry {
        device,
        root,
        target,
        fs_type,
        source,
        shared,
        master,
    };
    Some(Mount { id, parent, entry })
}

/// Undoes the octal escapes of blanks, tabs, line breaks and backslashes: `\040`. A stray backslash stays.
pub(crate) fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let code = tail
            .get(..3)
            .filter(|_| first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(byte) => {
                plain.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                plain.push(first);
                rest = tail;
            }
        }
    }
    plain
}

/// The same as text; what is no UTF-8 is replaced.
pub(crate) fn unescape_text(field: &str) -> String {
    String::from_utf8_lossy(&unescape(field.as_bytes())).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_taken_apart() {
        let table = Table::parse(
            "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 shared:7 - ext3 /dev/root rw\n\
             37 36 0:45 / /x rw - tmpfs none rw\nshort\n38 36 0:46 / /x rw - tmpfs top rw\n",
        );
        assert_eq!(table.0.len(), 3);
        let first = &table.0[0];
        assert_eq!((first.id, first.parent), (36, 35));
        assert_eq!(first.entry.target, "/mnt 2");
        assert_eq!((first.entry.shared, first.entry.master), (Some(7), Some(1)));
        assert_eq!(table.at("/x").expect("a mount").entry.source, "top");
        assert_eq!(table.at("/y"), None);
        assert!(table.is_local("/x/y") && table.is_local("/mnt 2/z"));
        let stuck = Table::parse("36 35 0:99 / /x rw - fuse.sshfs host: rw\n");
        assert!(!stuck.is_local("/x/y") && stuck.is_local("/xy"));
        assert_eq!(table.devices(), BTreeSet::from(["98:0", "0:45", "0:46"]));
        assert_eq!(unescape_text("a\\9\\"), "a\\9\\");
    }
}
