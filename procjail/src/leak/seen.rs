//! What the jail had, as far as it was looked at while it lived.

use std::collections::{BTreeMap, BTreeSet};

use std::os::unix::fs::MetadataExt;

use super::cgroups::{Dying, Tmpfs};
use super::identity::{self, Mark};
use crate::clock;
use crate::event::{ImplicitUnmounts, MountEntry};
use crate::procfs::host::{self, KINDS, Namespace};
use crate::procfs::mountinfo::{Key, Mount, Table, key};

/// Mount namespaces of one jail that are looked at.
const MOUNT_NAMESPACES: usize = 16;

/// Processes of the jail that are looked at each time.
const PROCESSES: usize = 64;

/// Mounts in one event.
const MOUNTS: usize = 256;

/// Processes and mounts of others that are remembered, where the kernel has no IDs for them.
const OTHERS: usize = 4096;

/// The host before the jail, and what the jail had that the host hadn't.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The launcher's own mounts before the jail.
    pub before: Table,
    /// The launcher's own namespaces.
    pub launchers: BTreeMap<&'static str, u64>,
    /// Removed cgroups that the kernel kept before the jail.
    pub dying: Dying,
    /// What the host's tmpfs held before the jail.
    pub tmpfs: Tmpfs,
    /// Namespaces of the jail that the launcher isn't in.
    namespaces: BTreeMap<Namespace, Life>,
    /// Mounts of the jail that the launcher did not have, by namespace, as last seen.
    mounts: BTreeMap<u64, Last>,
    /// The same, of all times.
    ever: Vec<Had>,
    /// Where each mount of the jail was last, by ID, those included that the host has too.
    places: BTreeMap<u64, String>,
    /// Who else had them at the same time.
    others: Others,
}

/// What is known of one of the jail's namespaces.
#[derive(Clone, Debug, Default)]
struct Life {
    /// Its ID; several if the jail used the number again.
    ids: BTreeSet<u64>,
    /// A moment at which a process of the jail was still to be seen in it, CLOCK_REALTIME nanoseconds.
    alive_ns: u64,
    /// The same among the IDs of mounts.
    mark: Option<u64>,
}

/// A mount of the jail.
#[derive(Clone, Debug)]
struct Had {
    entry: MountEntry,
    /// Its unique ID.
    id: Option<u64>,
    /// A moment after which it was still there.
    mark: Option<u64>,
}

impl Had {
    /// The other one is a mount of the same file system: both were there at the same time, so the device's
    /// number is that of one file system. It is the younger one, so not what this one was made of.
    fn lived_with(&self, younger: u64) -> bool {
        self.id.is_some_and(|id| id < younger) && self.mark.is_some_and(|mark| younger < mark)
    }
}

/// What others had while the jail had it too: all that can be told where the kernel has no IDs.
#[derive(Clone, Debug, Default)]
struct Others {
    /// Processes in a namespace of the jail, with their start times.
    processes: BTreeSet<(Namespace, u32, u64)>,
    /// Mounts, by namespace and ID.
    mounts: BTreeSet<(u64, u64)>,
}

#[derive(Clone, Debug, Default)]
struct Last {
    seen_ns: u64,
    mounts: Vec<MountEntry>,
}

/// One process, looked at.
struct Look {
    pid: u32,
    namespaces: Vec<(Namespace, Option<u64>)>,
    mounts: Option<Mounts>,
}

/// The mounts of a namespace, those without an ID too.
struct Mounts {
    namespace: u64,
    seen_ns: u64,
    of: Vec<(MountEntry, Option<u64>)>,
    /// Where all of them are, those included that the host has too.
    places: BTreeMap<u64, String>,
}

impl Seen {
    /// Looks at the host. To be called before the jail is made.
    pub fn before() -> Seen {
        let own = std::process::id();
        let before = Table::of(own).unwrap_or_default();
        Seen {
            tmpfs: Tmpfs::of(&before),
            before,
            launchers: host::namespaces(own),
            dying: Dying::now(),
            ..Seen::default()
        }
    }

    /// Looks at processes of the jail. `still` are its processes after the look: who is none of them any more
    /// may have been another one of the same PID.
    pub fn look(&mut self, pids: &[u32], still: impl FnOnce() -> Vec<u32>) {
        let mark = Mark::now();
        let now_ns = clock::unix_ns();
        let keys = self.before.keys();
        let mut looked = BTreeSet::new();
        let looks: Vec<Look> = pids
            .iter()
            .take(PROCESSES)
            .map(|pid| self.look_at(*pid, &keys, &mut looked))
            .collect();
        let still = still();
        let mark_id = mark.as_ref().map(|mark| mark.id);
        for look in looks.into_iter().filter(|look| still.contains(&look.pid)) {
            for (namespace, id) in look.namespaces {
                let life = self.namespaces.entry(namespace).or_default();
                life.ids.extend(id);
                life.alive_ns = now_ns;
                life.mark = mark_id;
            }
            if let Some(mounts) = look.mounts {
                self.take(mounts, mark_id);
            }
        }
        if mark.is_none()
            || identity::open("/proc/self/ns/net")
                .and_then(|net| identity::namespace(&net))
                .is_none()
        {
            self.look_at_others(&still);
        }
    }

    fn look_at(&self, pid: u32, before: &BTreeSet<Key>, looked: &mut BTreeSet<u64>) -> Look {
        let mut look = Look {
            pid,
            namespaces: Vec::new(),
            mounts: None,
        };
        for kind in KINDS {
            let Some(inode) = host::namespace(pid, kind) else {
                continue;
            };
            if self.launchers.get(kind) == Some(&inode) {
                continue;
            }
            let file = identity::open(format!("/proc/{pid}/ns/{kind}"));
            let id = file.as_ref().and_then(identity::namespace);
            look.namespaces.push(((kind, inode), id));
            let room = self.mounts.contains_key(&inode) || self.mounts.len() < MOUNT_NAMESPACES;
            if kind == "mnt" && room && looked.insert(inode) {
                let ids = id.map(identity::mounts).unwrap_or_default();
                let new = |mount: &Mount| !before.contains(&key(&mount.entry));
                look.mounts = Table::of(pid).map(|table| Mounts {
                    places: table
                        .0
                        .iter()
                        .map(|mount| (mount.id, mount.entry.target.clone()))
                        .collect(),
                    namespace: inode,
                    seen_ns: clock::boot_ns(),
                    of: table
                        .0
                        .into_iter()
                        .filter(new)
                        .map(|mount| (mount.entry, ids.get(&mount.id).copied()))
                        .collect(),
                });
            }
        }
        look
    }

    fn take(&mut self, mounts: Mounts, mark: Option<u64>) {
        for (entry, id) in &mounts.of {
            let known = |had: &&mut Had| had.id == *id && had.entry == *entry;
            if let Some(had) = self.ever.iter_mut().find(known) {
                had.mark = mark;
            } else if self.ever.len() < MOUNTS * MOUNT_NAMESPACES {
                self.ever.push(Had {
                    entry: entry.clone(),
                    id: *id,
                    mark,
                });
            }
        }
        if self.places.len() < MOUNTS * MOUNT_NAMESPACES {
            self.places.extend(mounts.places);
        }
        self.mounts.insert(
            mounts.namespace,
            Last {
                seen_ns: mounts.seen_ns,
                mounts: mounts.of.into_iter().map(|(entry, _)| entry).collect(),
            },
        );
    }

    /// Looks who else is in the jail's namespaces and has its mounts.
    fn look_at_others(&mut self, jail: &[u32]) {
        let mut tables = BTreeSet::new();
        for pid in host::pids().into_iter().filter(|pid| !jail.contains(pid)) {
            if self.others.processes.len() + self.others.mounts.len() > OTHERS {
                return;
            }
            for kind in KINDS {
                let Some(inode) = host::namespace(pid, kind) else {
                    continue;
                };
                if self.namespaces.contains_key(&(kind, inode)) {
                    let start_ns = host::task(pid).start_ns;
                    self.others.processes.insert(((kind, inode), pid, start_ns));
                } else if kind == "mnt" && tables.insert(inode) {
                    let table = Table::of(pid).unwrap_or_default();
                    let alike = table.0.iter().filter(|mount| {
                        self.ever
                            .iter()
                            .any(|had| is_copy(&had.entry, &mount.entry))
                            || host::named(&mount.entry.root)
                                .is_some_and(|bound| self.namespaces.contains_key(&bound))
                    });
                    self.others
                        .mounts
                        .extend(alike.map(|mount| (inode, mount.id)));
                }
            }
        }
    }

    /// Where a mount of the jail was when it was last seen.
    pub fn was_at(&self, id: u64) -> Option<String> {
        self.places.get(&id).cloned()
    }

    /// The jail had a namespace of that kind and number.
    pub fn knows(&self, namespace: Namespace) -> bool {
        self.namespaces.contains_key(&namespace)
    }

    /// The jail had a namespace of that kind.
    pub fn had_kind(&self, kind: &str) -> bool {
        self.namespaces.keys().any(|(had, _)| *had == kind)
    }

    /// The process is in the jail's namespace of that number, not in a later one.
    pub fn is_in(&self, namespace: Namespace, pid: u32) -> bool {
        let Some(life) = self.namespaces.get(&namespace) else {
            return false;
        };
        let file = identity::open(format!("/proc/{pid}/ns/{}", namespace.0));
        match file.as_ref().and_then(identity::namespace) {
            Some(id) => life.ids.contains(&id),
            None => {
                let start_ns = host::task(pid).start_ns;
                self.others.processes.contains(&(namespace, pid, start_ns))
            }
        }
    }

    /// A file, a descriptor's or one that something is bound to, is of the jail's namespace of that number.
    pub fn is_file_of(&self, namespace: Namespace, path: &str) -> bool {
        let (Some(life), Some(file)) = (self.namespaces.get(&namespace), identity::open(path))
        else {
            return false;
        };
        match identity::namespace(&file) {
            Some(id) => life.ids.contains(&id),
            None => {
                file.metadata().is_ok_and(|data| data.ino() == namespace.1)
                    && identity::known_since_ns(&file).is_some_and(|since| since < life.alive_ns)
            }
        }
    }

    /// A mount of a namespace's file is of the jail's namespace of that number: it was there when the jail was
    /// still seen in it, and kept the number since.
    pub fn is_mount_of(&self, namespace: Namespace, mount: &Copy<'_>) -> bool {
        let mark = self.namespaces.get(&namespace).and_then(|life| life.mark);
        match (mount.id, mark) {
            (Some(id), Some(mark)) => id < mark,
            _ => self
                .others
                .mounts
                .contains(&(mount.namespace, mount.mount.id)),
        }
    }

    /// The mount is of a file system that the jail had mounted too: the same part of it, under the same name.
    /// A jail with a root of its own sees it elsewhere.
    pub fn had(&self, copy: &Copy<'_>) -> bool {
        let proven = |had: &Had| match copy.id {
            Some(id) => had.lived_with(id),
            None => self
                .others
                .mounts
                .contains(&(copy.namespace, copy.mount.id)),
        };
        self.ever
            .iter()
            .any(|had| is_copy(&had.entry, &copy.mount.entry) && proven(had))
    }

    /// A file system of the jail looks like this mount, which may be a later one with its number.
    pub fn had_alike(&self, entry: &MountEntry) -> bool {
        self.ever.iter().any(|had| is_copy(&had.entry, entry))
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

/// A mount of another namespace.
pub struct Copy<'a> {
    /// The namespace.
    pub namespace: u64,
    /// The mount.
    pub mount: &'a Mount,
    /// Its unique ID, if the kernel has one.
    pub id: Option<u64>,
}

fn is_copy(had: &MountEntry, entry: &MountEntry) -> bool {
    had.device == entry.device
        && had.root == entry.root
        && had.fs_type == entry.fs_type
        && had.source == entry.source
        && entry.target.ends_with(&had.target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proc(target: &str) -> MountEntry {
        MountEntry {
            device: "0:45".into(),
            root: "/".into(),
            target: target.into(),
            fs_type: "proc".into(),
            source: "proc".into(),
            ..MountEntry::default()
        }
    }

    fn copy(mount: &Mount, id: Option<u64>) -> Copy<'_> {
        Copy {
            namespace: 9,
            mount,
            id,
        }
    }

    /// The jail had its /proc as mount 100, and was last seen with it when mounts had come to 200.
    fn seen(id: Option<u64>) -> Seen {
        Seen {
            ever: vec![Had {
                entry: proc("/proc"),
                id,
                mark: id.map(|_| 200),
            }],
            ..Seen::default()
        }
    }

    #[test]
    fn a_device_number_alone_makes_no_copy() {
        let mount = Mount {
            id: 7,
            parent: 1,
            entry: proc("/proc"),
        };
        let seen = seen(Some(100));
        assert!(seen.had_alike(&mount.entry));
        assert!(seen.had(&copy(&mount, Some(150))));
        assert!(
            !seen.had(&copy(&mount, Some(250))),
            "made after the jail's end"
        );
        assert!(
            !seen.had(&copy(&mount, Some(50))),
            "older than the jail's own"
        );
        assert!(!seen.had(&copy(&mount, None)));
        let other = Mount {
            entry: proc("/other"),
            ..mount.clone()
        };
        assert!(!seen.had(&copy(&other, Some(150))));
    }

    #[test]
    fn without_ids_only_what_was_there_beside_it_is_one() {
        let mount = Mount {
            id: 7,
            parent: 1,
            entry: proc("/proc"),
        };
        let mut seen = seen(None);
        assert!(!seen.had(&copy(&mount, None)));
        seen.others.mounts.insert((9, 7));
        assert!(seen.had(&copy(&mount, None)));
    }

    #[test]
    fn a_namespace_is_known_by_its_id() {
        let own = std::process::id();
        let inode = host::namespace(own, "net").expect("a namespace");
        let file = identity::open("/proc/self/ns/net").expect("a namespace");
        let with = |ids: Option<u64>| {
            let mut seen = Seen::default();
            let life = seen.namespaces.entry(("net", inode)).or_default();
            life.ids.extend(ids);
            seen
        };
        let same = with(identity::namespace(&file));
        let later = with(Some(1 << 60));
        assert!(same.knows(("net", inode)) && later.knows(("net", inode)));
        assert!(!later.is_in(("net", inode), own));
        assert!(!later.is_file_of(("net", inode), "/proc/self/ns/net"));
        if identity::namespace(&file).is_some() {
            assert!(same.is_in(("net", inode), own));
            assert!(same.is_file_of(("net", inode), "/proc/self/ns/net"));
        }
    }
}
