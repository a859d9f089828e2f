//! The look at the host after the jail's removal.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::Passing;
use super::identity;
use super::seen::{Copy, Seen};
use crate::event::{LeakCheck, LeakedMount, OutputHolder, Pin, PinKind, PinnedNamespace};
use crate::procfs;
use crate::procfs::host::{self, Namespace};
use crate::procfs::mountinfo::{Mount, Table, key};

/// Longest time for all of it; what was not looked at then is told.
pub const TIME: Duration = Duration::from_millis(100);

/// Processes that are named for one leak.
const NAMED: usize = 4;

/// Mounts and namespaces in one event.
const LEAKS: usize = 64;

/// What was left of mounts and namespaces, and who holds the jail's output.
pub fn check(seen: &Seen, passing: Passing, outputs: &[String], jail_start_ns: u64) -> LeakCheck {
    let start = Instant::now();
    let mut look = Look {
        seen,
        passing,
        outputs,
        jail_start_ns,
        deadline: start + TIME,
        found: LeakCheck::default(),
        tables: BTreeMap::new(),
        pins: BTreeMap::new(),
    };
    look.all();
    let mut found = look.found;
    found.namespaces = look
        .pins
        .into_iter()
        .take(LEAKS)
        .map(|((kind, inode), (pins, pin_count))| PinnedNamespace {
            kind: kind.to_owned(),
            inode,
            pins,
            pin_count,
        })
        .collect();
    found.duration_ns = start.elapsed().as_nanos() as u64;
    found
}

struct Look<'a> {
    seen: &'a Seen,
    passing: Passing,
    outputs: &'a [String],
    jail_start_ns: u64,
    deadline: Instant,
    found: LeakCheck,
    /// Mount namespaces of the host, each with processes in it.
    tables: BTreeMap<u64, Vec<u32>>,
    pins: BTreeMap<Namespace, (Vec<Pin>, u64)>,
}

impl Look<'_> {
    fn all(&mut self) {
        let own = std::process::id();
        // Kernel threads have no program, and hold nothing.
        let pids: Vec<u32> = host::pids()
            .into_iter()
            .filter(|pid| *pid != own && host::link(&format!("/proc/{pid}/exe")).is_some())
            .collect();
        self.tables.entry(self.launchers()).or_default().push(own);
        for &pid in &pids {
            if self.late("processes in its namespaces") {
                return;
            }
            self.namespaces_of(pid);
        }
        let tables = std::mem::take(&mut self.tables);
        for (namespace, holders) in &tables {
            if self.late("mounts of other namespaces") {
                return;
            }
            self.mounts_of(*namespace, holders);
        }
        for &pid in &pids {
            if self.late("descriptors of its namespaces and its output") {
                return;
            }
            self.descriptors_of(pid);
        }
    }

    fn launchers(&self) -> u64 {
        self.seen.launchers.get("mnt").copied().unwrap_or(0)
    }

    /// The time is over: says what is left out.
    fn late(&mut self, what: &str) -> bool {
        let late = Instant::now() >= self.deadline;
        if late {
            self.found
                .incomplete
                .push(format!("{what}: it took more than {} ms", TIME.as_millis()));
        }
        late
    }

    fn namespaces_of(&mut self, pid: u32) {
        for kind in host::KINDS {
            // Where the jail shares all of a kind with the launcher, nothing can be left.
            if kind != "mnt" && !self.seen.had_kind(kind) {
                continue;
            }
            let Some(inode) = host::namespace(pid, kind) else {
                continue;
            };
            if kind == "mnt" {
                self.tables.entry(inode).or_default().push(pid);
            }
            if self.seen.is_in((kind, inode), pid) {
                self.pin((kind, inode), PinKind::Process, pid, String::new());
            }
        }
    }

    fn pin(&mut self, namespace: Namespace, by: PinKind, pid: u32, place: String) {
        let (pins, count) = self.pins.entry(namespace).or_default();
        *count += 1;
        if pins.len() < NAMED {
            let process = host::task(pid);
            pins.push(Pin { by, process, place });
        }
    }

    fn mounts_of(&mut self, namespace: u64, holders: &[u32]) {
        // The first one may just have ended.
        let Some((pid, table)) = holders
            .iter()
            .find_map(|pid| Some((*pid, Table::of(*pid).filter(|table| !table.0.is_empty())?)))
        else {
            return;
        };
        let own = std::process::id();
        let launchers = namespace == self.launchers();
        let jails = holders
            .iter()
            .any(|pid| self.seen.is_in(("mnt", namespace), *pid));
        let before = self.seen.before.keys();
        let devices = self.seen.before.devices();
        // Asked for when something looks like the jail's.
        let mut ids = None;
        let mut id_of = |mount: &Mount| {
            let ids = ids.get_or_insert_with(|| {
                let file = identity::open(format!("/proc/{pid}/ns/mnt"));
                let id = file.as_ref().and_then(identity::namespace);
                id.map(identity::mounts).unwrap_or_default()
            });
            ids.get(&mount.id).copied()
        };
        for mount in &table.0 {
            let entry = &mount.entry;
            if entry.fs_type == "nsfs"
                && let Some(bound) =
                    host::named(&entry.root).filter(|bound| self.seen.knows(*bound))
            {
                let copy = Copy {
                    namespace,
                    mount,
                    id: id_of(mount),
                };
                let target = || format!("/proc/{pid}/root{}", entry.target);
                if self.seen.is_mount_of(bound, &copy)
                    || (table.is_local(&entry.target) && self.seen.is_file_of(bound, &target()))
                {
                    self.pin(bound, PinKind::BindMount, pid, entry.target.clone());
                }
                continue;
            }
            // The jail's own namespace, if it still exists, is told as such.
            if jails || before.contains(&key(entry)) || self.found.mounts.len() == LEAKS {
                continue;
            }
            // What the host has too, others may have from there.
            let own_device = launchers || !devices.contains(entry.device.as_str());
            let seen_in_jail = own_device
                && self.seen.had_alike(entry)
                && self.seen.had(&Copy {
                    namespace,
                    mount,
                    id: id_of(mount),
                });
            if seen_in_jail || (launchers && self.passing == Passing::ToHost) {
                self.found.mounts.push(LeakedMount {
                    mount: entry.clone(),
                    namespace,
                    launchers,
                    holders: holders
                        .iter()
                        .filter(|pid| **pid != own)
                        .take(NAMED)
                        .map(|pid| host::task(*pid))
                        .collect(),
                    holder_count: holders.len() as u64,
                    seen_in_jail,
                });
            }
        }
    }

    fn descriptors_of(&mut self, pid: u32) {
        for (number, link) in host::descriptors(pid) {
            if let Some(namespace) = host::named(&link)
                && self.seen.knows(namespace)
                && self
                    .seen
                    .is_file_of(namespace, &format!("/proc/{pid}/fd/{number}"))
            {
                self.pin(
                    namespace,
                    PinKind::Descriptor,
                    pid,
                    format!("descriptor {number}"),
                );
            }
            if self.outputs.contains(&link) && self.writes(pid, number) {
                let process = host::task(pid);
                // Who had it before, or got it where the launcher got it, is no survivor: a shell, a
                // service manager, another job of the same build.
                let own = host::session(std::process::id());
                if process.start_ns > self.jail_start_ns
                    && host::session(pid) != own
                    && self.found.output.len() < LEAKS
                {
                    self.found.output.push(OutputHolder {
                        process,
                        descriptor: number,
                        file: link,
                    });
                }
            }
        }
    }

    /// The process can write to the descriptor.
    fn writes(&self, pid: u32, number: u32) -> bool {
        let text = procfs::read(&format!("/proc/{pid}/fdinfo/{number}")).unwrap_or_default();
        let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|text| i32::from_str_radix(text.trim(), 8).ok());
        flags.is_some_and(|flags| flags & libc::O_ACCMODE != libc::O_RDONLY)
    }
}

/// Mounts that the launcher's namespace has and had not before: for a jail that may pass mounts to the
/// host. One look at one table.
pub fn new_mounts_here(seen: &Seen) -> Vec<LeakedMount> {
    let before = seen.before.keys();
    let table = Table::of(std::process::id()).unwrap_or_default();
    let namespace = seen.launchers.get("mnt").copied().unwrap_or(0);
    let new: BTreeSet<_> = table.keys().difference(&before).cloned().collect();
    table
        .0
        .into_iter()
        .filter(|mount| new.contains(&key(&mount.entry)))
        .map(|mount| LeakedMount {
            seen_in_jail: false,
            mount: mount.entry,
            namespace,
            launchers: true,
            holders: Vec::new(),
            holder_count: 0,
        })
        .collect()
}
