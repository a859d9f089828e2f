//! Why an unmount failed, or what keeps a mount that was unmounted lazily: read right after the call,
//! while those who use it still do.

use std::collections::BTreeSet;

use crate::event::{Errno, MountUse, MountUser, Task};
use crate::procfs::host;
use crate::procfs::mountinfo::Table;

/// Users of one mount that are named.
const USERS: usize = 32;

/// Mounts below it that are named.
const NESTED: usize = 16;

/// An unmount that did not do what was wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmount {
    /// Who called, host PID.
    pub pid: u32,
    /// Thread, host.
    pub tid: u32,
    /// PID in the jail; 0 for none.
    pub jail_pid: u32,
    /// When it started, CLOCK_BOOTTIME nanoseconds.
    pub start_ns: u64,
    /// What was to be unmounted, as the caller named it.
    pub target: String,
    /// Error number; 0 for a lazy unmount that worked.
    pub errno: i32,
}

/// Looks who uses the mount, among these processes. `known` tells where a mount was, by its ID, if it was seen
/// before: the rest is younger than the last look.
pub fn look(
    unmount: &Unmount,
    pids: &[u32],
    own_user_namespace: Option<u64>,
    known: &dyn Fn(u64) -> Option<String>,
) -> MountUse {
    let table = Table::of(unmount.pid).unwrap_or_default();
    let target = absolute(unmount);
    let mount = table.at(&target);
    let lazy = unmount.errno == 0;
    let user = host::namespace(unmount.pid, "user");
    let mut found = MountUse {
        caller: Task {
            pid: unmount.pid,
            tid: unmount.tid,
            jail_pid: Some(unmount.jail_pid).filter(|pid| *pid != 0),
            start_ns: unmount.start_ns,
            ..host::task(unmount.pid)
        },
        target: target.clone(),
        error: (!lazy).then(|| Errno::new(unmount.errno)),
        is_mount: mount.is_some(),
        namespace: host::namespace(unmount.pid, "mnt").unwrap_or(0),
        other_user_namespace: user.is_some() && user != own_user_namespace,
        ..MountUse::default()
    };
    let mut looked = BTreeSet::from([found.namespace]);
    // A descriptor may come from outside: standard input is on a mount of the launcher's namespace.
    let mut attached = Table::of(std::process::id()).unwrap_or_default().ids();
    if lazy {
        // A descriptor may also be of another mount namespace of the jail, where its mount is in the table.
        let tables = pids.iter().filter_map(|pid| Table::of(*pid));
        attached.extend(tables.flat_map(|table| table.ids()));
    }
    let detached = |id: u64| {
        let there = known(id);
        !attached.contains(&id) && there.is_none_or(|there| there == target)
    };
    for &pid in pids {
        if found.users.len() >= USERS {
            break;
        }
        let Some(namespace) = host::namespace(pid, "mnt") else {
            continue;
        };
        let other = namespace != found.namespace;
        let own_table = if other { Table::of(pid) } else { None };
        let its = own_table.as_ref().unwrap_or(&table);
        if lazy {
            uses(pid, &detached, None, &mut found.users);
            continue;
        }
        // With propagation, a copy in another namespace that is in use keeps this one too.
        let Some(there) = mount.and_then(|mount| match other {
            false => Some(mount),
            true => its.0.iter().find(|copy| {
                copy.entry.device == mount.entry.device && copy.entry.root == mount.entry.root
            }),
        }) else {
            continue;
        };
        if other && looked.insert(namespace) {
            found.copies.push(namespace);
        }
        let same_device = its
            .0
            .iter()
            .filter(|mount| mount.entry.device == there.entry.device);
        // A mapping tells its device only, which may be mounted elsewhere as well.
        let device = (same_device.count() == 1).then_some(there.entry.device.as_str());
        uses(pid, &|id| id == there.id, device, &mut found.users);
    }
    if let Some(mount) = mount {
        let below = |candidate: &&crate::procfs::mountinfo::Mount| candidate.parent == mount.id;
        let nested = table.0.iter().filter(below).take(NESTED);
        found.nested = nested.map(|mount| mount.entry.target.clone()).collect();
    }
    found
}

/// Adds the uses that one process makes of a mount.
fn uses(pid: u32, is_it: &dyn Fn(u64) -> bool, device: Option<&str>, found: &mut Vec<MountUser>) {
    let mut ways: Vec<(String, String)> = Vec::new();
    for how in ["cwd", "root", "exe"] {
        let path = format!("/proc/{pid}/{how}");
        if host::mount_id(&path).is_some_and(is_it) {
            ways.push((how.to_owned(), host::link(&path).unwrap_or_default()));
        }
    }
    for (number, link) in host::descriptors(pid) {
        // Pipes, sockets and the like are on mounts of the kernel's own, in no table.
        let file = link.starts_with('/') && !link.starts_with("/memfd:") && !link.starts_with("/[");
        if file && host::mount_id_in(&format!("/proc/{pid}/fdinfo/{number}")).is_some_and(is_it) {
            ways.push((format!("fd {number}"), link));
        }
    }
    if let Some(device) = device {
        let maps = host::mapped_files(pid);
        let exe = host::link(&format!("/proc/{pid}/exe"));
        ways.extend(
            maps.into_iter()
                .filter(|(mapped, path)| mapped == device && exe.as_ref() != Some(path))
                .map(|(_, path)| ("map".to_owned(), path)),
        );
    }
    if ways.is_empty() {
        return;
    }
    let process = host::task(pid);
    found.extend(ways.into_iter().map(|(how, path)| MountUser {
        process: process.clone(),
        how,
        path,
    }));
    found.truncate(USERS);
}

/// The target as the table has it, as far as that can be told.
fn absolute(unmount: &Unmount) -> String {
    let mut target = unmount.target.clone();
    if !target.starts_with('/') {
        let cwd = host::link(&format!("/proc/{}/cwd", unmount.pid)).unwrap_or_default();
        target = format!("{}/{target}", cwd.trim_end_matches('/'));
    }
    while target.len() > 1 && target.ends_with('/') {
        target.pop();
    }
    target
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_of_this_process_is_in_use() {
        let own = std::process::id();
        let unmount = Unmount {
            pid: own,
            tid: own,
            jail_pid: 0,
            start_ns: 0,
            target: "/proc//".to_owned(),
            errno: libc::EBUSY,
        };
        let found = look(
            &Unmount {
                target: "/".to_owned(),
                ..unmount.clone()
            },
            &[own],
            host::namespace(own, "user"),
            &|_| None,
        );
        assert!(found.is_mount && !found.other_user_namespace);
        assert!(found.users.iter().any(|user| user.how == "root"));
        assert!(found.nested.iter().any(|nested| nested == "/proc"));
        assert_eq!(
            found.error.map(|error| error.name).as_deref(),
            Some("EBUSY")
        );
        assert_eq!(absolute(&unmount), "/proc");
    }
}
