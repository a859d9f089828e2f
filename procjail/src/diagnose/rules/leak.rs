//! What a jail leaves behind: mounts, namespaces, cgroups.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnose::{Case, Family, Finding, Rank, Rule, Tagged};
use crate::event::{LeakedMount, Moment, Pin, PinKind, Task, What};
use crate::render;

pub(super) const FAMILY: Family = Family {
    rules: &[
        Rule {
            id: "mount-propagated-to-host",
            about: "a mount made in the jail was passed on to the host and outlived the jail",
            alternatives: &[],
        },
        Rule {
            id: "mount-held-by-other-ns",
            about: "a mount of the jail lives on in another mount namespace",
            alternatives: &[],
        },
        Rule {
            id: "ns-pinned",
            about: "a namespace of the jail survives it",
            alternatives: &[],
        },
        Rule {
            id: "cgroup-dying-pinned",
            about: "the kernel keeps the removed memory cgroup for memory still charged to it",
            alternatives: &[],
        },
        Rule {
            id: "leftover-from-previous-run",
            about: "processes of an earlier jail whose launcher had died were still there at the start",
            alternatives: &[],
        },
    ],
    rank: Rank::Problem,
    analyse,
};

/// What there is of this family in a case.
fn analyse(case: &Case) -> Vec<Tagged> {
    let mut found = Vec::new();
    found.extend(
        propagated(case)
            .into_iter()
            .map(|one| ("mount-propagated-to-host", one)),
    );
    found.extend(
        held(case)
            .into_iter()
            .map(|one| ("mount-held-by-other-ns", one)),
    );
    found.extend(pinned(case).into_iter().map(|one| ("ns-pinned", one)));
    found.extend(
        dying(case)
            .into_iter()
            .map(|one| ("cgroup-dying-pinned", one)),
    );
    found.extend(
        leftover(case)
            .into_iter()
            .map(|one| ("leftover-from-previous-run", one)),
    );
    found
}

/// Less is noise: single pages come and go.
const CHARGED_BYTES: u64 = 64 << 10;

/// Processes for a sentence, by name and host PID.
fn who(tasks: &[Task], count: u64) -> String {
    let names: Vec<String> = tasks
        .iter()
        .map(|task| format!("{} (host PID {})", render::escape(&task.comm), task.pid))
        .collect();
    let more = count.saturating_sub(names.len() as u64);
    match (names.is_empty(), more) {
        (true, _) => "an unknown process".to_owned(),
        (false, 0) => names.join(", "),
        (false, more) => format!("{} and {} more", names.join(", "), render::count(more)),
    }
}

fn what(leak: &LeakedMount) -> String {
    format!(
        "{} ({} on device {})",
        render::escape(&leak.mount.target),
        render::escape(&leak.mount.fs_type),
        render::escape(&leak.mount.device)
    )
}

/// mount_namespaces(7): a mount below a shared one appears in all namespaces of the peer group, and
/// stays there when the one that it was made in ends.
fn propagated(case: &Case) -> Vec<Finding> {
    let Some((event, check)) = case.leak_check() else {
        return Vec::new();
    };
    let on_host: Vec<&LeakedMount> = check.mounts.iter().filter(|leak| leak.launchers).collect();
    on_host
        .iter()
        .map(|leak| {
            let entry = &leak.mount;
            let made = case.mounted_at(&entry.target);
            let group = entry.shared.map_or_else(String::new, |group| {
                format!(" (it is in peer group {group} itself)")
            });
            let copies = check
                .mounts
                .iter()
                .filter(|other| !other.launchers && other.mount.device == entry.device)
                .count() as u64;
            let further = match copies {
                0 => String::new(),
                count => format!(" and in {}", render::plural(count, "further mount namespace", "further mount namespaces")),
            };
            let mut finding = Finding::new(format!(
                "The mount {}, made inside the jail, was passed on to the host, as it lies below a shared \
                 mount{group}; it outlived the jail there{further}.",
                what(leak)
            ))
            .remedy(format!(
                "Unmount it: umount {}. Start the jail with --propagation private or slave, or make the \
                 mount above it private in there first (mount --make-rprivate); in Kubernetes, use \
                 HostToContainer instead of Bidirectional.",
                render::escape(&entry.target)
            ));
            if let Some((made, mount)) = made {
                let by = case.who(&made.task);
                finding = finding
                    .shown_by(made, format!("{by} mounted {}", render::escape(&mount.target)));
            }
            finding = finding
                .shown_by(event, "the host has it after the jail's removal")
                .not("a mount of the host's own", "the host did not have it before the jail");
            match (made.is_some(), leak.seen_in_jail) {
                (true, _) | (_, true) => finding.proven(),
                (false, false) => finding.consistent(),
            }
        })
        .collect()
}

/// A copy of a mount that another namespace made when it was cloned is a mount of its own.
fn held(case: &Case) -> Vec<Finding> {
    let Some((event, check)) = case.leak_check() else {
        return Vec::new();
    };
    let on_host: BTreeSet<&str> = check
        .mounts
        .iter()
        .filter(|leak| leak.launchers)
        .map(|leak| leak.mount.device.as_str())
        .collect();
    let mut by_namespace: BTreeMap<u64, Vec<&LeakedMount>> = BTreeMap::new();
    for leak in &check.mounts {
        if !leak.launchers && !on_host.contains(leak.mount.device.as_str()) {
            by_namespace.entry(leak.namespace).or_default().push(leak);
        }
    }
    by_namespace
        .into_iter()
        .filter_map(|(namespace, leaks)| {
            // What the program mounted, rather than what every jail has.
            let first = leaks
                .iter()
                .find(|leak| case.mounted_at(&leak.mount.target).is_some())
                .or(leaks.first())?;
            let rest = match (leaks.len() as u64).saturating_sub(1) {
                0 => String::new(),
                more => format!(" (and {})", render::plural(more, "more of its mounts", "more of its mounts")),
            };
            let holders = who(&first.holders, first.holder_count);
            let unmounted = case.mounts().find(|(_, mount)| {
                mount.call == "umount2"
                    && mount.result == Some(0)
                    && mount.target.trim_end_matches('/') == first.mount.target
            });
            let gone = match unmounted {
                Some(_) => "was unmounted in the jail",
                None => "is gone with the jail",
            };
            let made = case.mounted_at(&first.mount.target);
            let mut finding = Finding::new(format!(
                "The jail's mount {} {gone}, but mount namespace {namespace}, held by {holders}, still has \
                 its copy{rest}: the file system stays busy and its memory or device in use.",
                what(first)
            ))
            .proven();
            if let Some((made, _)) = made {
                let by = case.who(&made.task);
                finding = finding.shown_by(made, format!("{by} mounted it"));
            }
            if let Some((umount, _)) = unmounted {
                finding = finding.shown_by(umount, "the jail unmounted it");
            }
            Some(
                finding
                    .shown_by(event, format!("namespace {namespace} has it after the jail's removal"))
                    .not("a mount passed on to the host", "the host's mount namespace does not have it")
                    .remedy(format!(
                        "End or restart {holders}. What must not keep such copies should start before, or \
                         with mounts of its own made private and emptied (PrivateMounts of systemd.exec(5), \
                         umount in the new namespace)."
                    )),
            )
        })
        .collect()
}

fn pin_words(pin: &Pin) -> String {
    let process = format!(
        "{} (host PID {})",
        render::escape(&pin.process.comm),
        pin.process.pid
    );
    match pin.by {
        PinKind::Process => format!("{process}, which is in it"),
        PinKind::BindMount => format!("a bind mount at {}", render::escape(&pin.place)),
        PinKind::Descriptor => format!("{} of {process}", render::escape(&pin.place)),
    }
}

/// namespaces(7): a namespace lives as long as a process, a descriptor or a bind mount of it.
fn pinned(case: &Case) -> Vec<Finding> {
    let Some((event, check)) = case.leak_check() else {
        return Vec::new();
    };
    // One who holds all namespaces is one finding.
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for namespace in &check.namespaces {
        let pins: Vec<String> = namespace.pins.iter().map(pin_words).collect();
        let mut by = pins.join("; ");
        let more = namespace.pin_count.saturating_sub(pins.len() as u64);
        if more > 0 {
            by += &format!("; {} more", render::count(more));
        }
        groups.entry(by).or_default().push(format!(
            "{}:[{}]",
            render::escape(&namespace.kind),
            namespace.inode
        ));
    }
    groups
        .into_iter()
        .map(|(by, names)| {
            let (noun, verb) = match names.len() {
                1 => ("namespace", "survives"),
                _ => ("namespaces", "survive"),
            };
            Finding::new(format!(
                "The jail's {noun} {} {verb} it, kept by {by}.",
                names.join(", ")
            ))
            .proven()
            .shown_by(event, "found after the jail's removal")
            .not(
                "a namespace that is just going",
                "something that keeps it was found",
            )
            .remedy(
                "Unmount the bind mount, close the descriptor or end the process that keeps it.",
            )
        })
        .collect()
}

/// A launcher holds a lock on its jail's cgroup, which the kernel drops with it: whoever is in a cgroup
/// without a lock was left behind.
fn leftover(case: &Case) -> Vec<Finding> {
    let found = case.each(|what| match what {
        What::Leftover(left) if left.process_count > 0 => Some(left),
        _ => None,
    });
    found
        .map(|(event, left)| {
            let own = left.name == case.header.jail.name;
            let whose = match own {
                true => "the previous run of this jail".to_owned(),
                false => format!("an earlier run of jail {}", render::escape(&left.name)),
            };
            let oldest = left
                .processes
                .iter()
                .filter(|task| task.start_ns > 0)
                .map(|task| event.time_ns.saturating_sub(task.start_ns))
                .max();
            let age = oldest.map_or_else(String::new, |age| match left.process_count {
                1 => format!(", {} old,", render::duration(age)),
                _ => format!(", up to {} old,", render::duration(age)),
            });
            let (were, them, they) = match left.process_count {
                1 => ("was", "it", "it"),
                _ => ("were", "them", "they"),
            };
            let gone = match left.removed {
                true => format!("procjail killed {them} before it made the jail"),
                false => format!("procjail killed {them}, but had not seen {them} end when it made the jail"),
            };
            let names = who(&left.processes, left.process_count);
            Finding::new(format!(
                "{names}{age} {were} still here from {whose}, whose launcher had died; {gone}."
            ))
            .proven()
            .shown_by(
                event,
                format!(
                    "{} in {}, which no launcher held any more",
                    render::plural(left.process_count, "process", "processes"),
                    render::escape(&left.cgroup)
                ),
            )
            .not(
                "a jail that runs at the same time",
                "its launcher would hold the lock of that cgroup",
            )
            .remedy(format!(
                "{} A jail's own processes die with its launcher; {they} had come into its cgroup from outside (an \
                 exec session, a monitoring agent) and should be ended with the jail. Find out why that launcher \
                 was killed. Other runtimes: kill what is in the cgroup before a start (cgroup.kill, \
                 KillMode=control-group of systemd.kill(5)).",
                match left.removed {
                    true => "This run had it out of the way.",
                    false =>
                        "Look whether it has ended (procjail clean): until then it may hold ports, locks and files \
                         that this run needs.",
                }
            ))
        })
        .collect()
}

/// A removed memory cgroup stays in the kernel as long as a page is charged to it.
fn dying(case: &Case) -> Vec<Finding> {
    let Some((event, check)) = case.leak_check() else {
        return Vec::new();
    };
    let sample = case
        .memory_samples()
        .filter(|(_, sample)| sample.moment == Moment::End)
        .last();
    let Some((sampled, sample)) = sample else {
        return Vec::new();
    };
    // All processes are gone: what is still charged as shared memory are files of a tmpfs, System V
    // segments or memfds that live elsewhere. A left cgroup is another matter.
    let charged = sample.kinds.shmem;
    if charged < CHARGED_BYTES || !check.cgroups.is_empty() || sample.usage_bytes < CHARGED_BYTES {
        return Vec::new();
    }
    let growth: Vec<String> = check
        .dying
        .iter()
        .map(|dying| {
            let whose = match dying.controller.as_str() {
                "" => "removed cgroups that the kernel keeps".to_owned(),
                controller => format!("cgroups of the {} hierarchy", render::escape(controller)),
            };
            format!("{whose}: {} before, {} after", dying.before, dying.after)
        })
        .collect();
    let mut finding = Finding::new(format!(
        "The jail's memory cgroup was removed but stays in the kernel: {} in a tmpfs or shared memory that \
         outlives the jail are charged to it.",
        render::bytes(charged)
    ))
    .shown_by(sampled, "charged when no process was left in it")
    .shown_by(event, "every cgroup directory of the jail is removed")
    .not("page cache", "only shared memory was counted, which reclaim can't drop")
    .remedy(
        "Delete the files (/dev/shm, /tmp and other tmpfs that the jail shares with the host), or give the \
         jail a --tmpfs of its own, which goes with it. Many such cgroups slow the whole host down.",
    );
    for line in &growth {
        finding = finding.fact(line.clone());
    }
    match growth.is_empty() {
        false => vec![finding],
        true => vec![finding.consistent()],
    }
}
