//! What the jail had, as far as it was looked at while it lived.

use std::collections::{BTreeMap, BTreeSet};

use super::cgroups::Dying;
use super::host::{self, KINDS, Namespace};
use super::mountinfo::{Mount, Table};
use crate::clock;
use crate::event::{ImplicitUnmounts, MountEntry};

/// Mount namespaces of one jail that are looked at.
const MOUNT_NAMESPACES: usize = 16;

/// Processes of the jail that are looked at each time.
const PROCESSES: usize = 64;

/// Mounts in one event.
const MOUNTS: usize = 256;

/// The host before the jail, and what the jail had that the host hadn't.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The launcher's own mounts before the jail.
    pub before: Table,
    /// The launcher's own namespaces.
    pub launchers: BTreeMap<&'static str, u64>,
    /// Removed cgroups that the kernel kept before the jail.
    pub dying: Dying,
    /// Namespaces of the jail that the launcher isn't in.
    pub namespaces: BTreeSet<Namespace>,
    /// Mounts of the jail that the launcher did not have, by namespace, as last seen.
    mounts: BTreeMap<u64, Last>,
    /// The same, of all times.
    pub ever: Vec<MountEntry>,
}

#[derive(Clone, Debug, Default)]
struct Last {
    seen_ns: u64,
    mounts: Vec<MountEntry>,
}

impl Seen {
    /// Looks at the host. To be called before the jail is made.
    pub fn before() -> Seen {
        let own = std::process::id();
        Seen {
            before: Table::of(own).unwrap_or_default(),
            launchers: host::namespaces(own),
            dying: Dying::now(),
            ..Seen::default()
        }
    }

    /// Looks at processes of the jail.
    pub fn look(&mut self, pids: &[u32]) {
        let keys = self.before.keys();
        let mut looked = BTreeSet::new();
        for &pid in pids.iter().take(PROCESSES) {
            for kind in KINDS {
                if let Some(inode) = host::namespace(pid, kind)
                    && self.launchers.get(kind) != Some(&inode)
                {
                    self.namespaces.insert((kind, inode));
                    if kind == "mnt"
                        && (self.mounts.contains_key(&inode)
                            || self.mounts.len() < MOUNT_NAMESPACES)
                        && looked.insert(inode)
                        && let Some(table) = Table::of(pid)
                    {
                        self.take(inode, table, &keys);
                    }
                }
            }
        }
    }

    fn take(&mut self, namespace: u64, table: Table, before: &BTreeSet<super::mountinfo::Key>) {
        let new = |mount: &Mount| !before.contains(&super::mountinfo::key(&mount.entry));
        let mounts: Vec<MountEntry> = table
            .0
            .into_iter()
            .filter(new)
            .map(|mount| mount.entry)
            .collect();
        for entry in &mounts {
            if self.ever.len() < MOUNTS * MOUNT_NAMESPACES && !self.ever.contains(entry) {
                self.ever.push(entry.clone());
            }
        }
        self.mounts.insert(
            namespace,
            Last {
                seen_ns: clock::boot_ns(),
                mounts,
            },
        );
    }

    /// The mount was seen inside the jail: the same part of the same file system, under the same name.
    /// A jail with a root of its own sees it elsewhere.
    pub fn had(&self, entry: &MountEntry) -> bool {
        self.ever.iter().any(|seen| {
            seen.device == entry.device
                && seen.root == entry.root
                && seen.fs_type == entry.fs_type
                && seen.source == entry.source
                && entry.target.ends_with(&seen.target)
        })
    }

    /// What vanished with those of the jail's mount namespaces that are not among `left`.
    pub fn unmounted(&self, left: &BTreeSet<Namespace>) -> Vec<ImplicitUnmounts> {
        self.mounts
            .iter()
            .filter(|(namespace, last)| {
                !left.contains(&("mnt", **namespace)) && !last.mounts.is_empty()
            })
            .map(|(namespace, last)| ImplicitUnmounts {
                namespace: *namespace,
                seen_ns: last.seen_ns,
                mounts: last.mounts.iter().take(MOUNTS).cloned().collect(),
                truncated: last.mounts.len() > MOUNTS,
                ..ImplicitUnmounts::default()
            })
            .collect()
    }
}
