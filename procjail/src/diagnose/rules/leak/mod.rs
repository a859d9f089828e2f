//! What a jail leaves behind: mounts, namespaces, cgroups.

mod cgroups;

use std::collections::{BTreeMap, BTreeSet};

use super::fuse;
use crate::diagnose::{Case, Confidence, Family, Finding, Rank, Rule, Tagged};
use crate::event::{Event, LeakCheck, LeakedMount, Pin, PinKind, Task};
use crate::text;

/// Who else may have made what the jail seems to have left.
const MOUNTED_BY_OTHERS: &str = "a program of the host mounted it there while the jail ran";
const OWN_MOUNT: &str = "a process there mounted the same file system itself";
/// What else may be charged when nobody is left.
const WRITTEN_BY_OTHERS: &str = "what grew there was written by others";
const GOES_BY_ITSELF: &str =
    "shared memory of the jail's own IPC namespace, which the kernel frees a moment later";

pub(super) const FAMILY: Family = Family {
    rules: &[
        Rule {
            id: "mount-propagated-to-host",
            about: "a mount made in the jail was passed on to the host and outlived the jail",
            alternatives: &[MOUNTED_BY_OTHERS],
        },
        Rule {
            id: "mount-held-by-other-ns",
            about: "a mount of the jail lives on in another mount namespace",
            alternatives: &[OWN_MOUNT],
        },
        Rule {
            id: "ns-pinned",
            about: "a namespace of the jail survives it",
            alternatives: &["a namespace that is just going"],
        },
        Rule {
            id: "cgroup-dying-pinned",
            about: "the kernel keeps the removed memory cgroup for memory still charged to it",
            alternatives: &[WRITTEN_BY_OTHERS, GOES_BY_ITSELF],
        },
        Rule {
            id: "leftover-from-previous-run",
            about: "processes of an earlier jail whose launcher had died were still there at the start",
            alternatives: &["a jail that is running"],
        },
    ],
    rank: Rank::Problem,
    analyse,
};

/// What there is of this family in a case.
fn analyse(case: &Case) -> Vec<Tagged> {
    let tag = |id: &'static str, found: Vec<Finding>| found.into_iter().map(move |one| (id, one));
    let mut found: Vec<Tagged> =
        tag("leftover-from-previous-run", cgroups::leftover(case)).collect();
    if let Some((event, check)) = case.leak_check() {
        let (on_host, elsewhere): (Vec<_>, Vec<_>) =
            check.mounts.iter().partition(|leak| leak.launchers);
        found.extend(tag(
            "mount-held-by-other-ns",
            held(case, event, &on_host, elsewhere),
        ));
        found.extend(tag(
            "mount-propagated-to-host",
            propagated(case, event, check, on_host),
        ));
        found.extend(tag("ns-pinned", pinned(event, check)));
        found.extend(cgroups::dying(case, event, check).map(|one| ("cgroup-dying-pinned", one)));
    }
    found
}

/// Processes for a sentence, by name and host PID.
fn who(tasks: &[Task], count: u64) -> String {
    let names: Vec<String> = tasks
        .iter()
        .map(|task| format!("{} (host PID {})", text::escape(&task.comm), task.pid))
        .collect();
    let more = count.saturating_sub(names.len() as u64);
    match (names.is_empty(), more) {
        (true, _) => "an unknown process".to_owned(),
        (false, 0) => names.join(", "),
        (false, more) => format!("{} and {} more", names.join(", "), text::count(more)),
    }
}

fn what(leak: &LeakedMount) -> String {
    format!(
        "{} ({} on device {})",
        text::escape(&leak.mount.target),
        text::escape(&leak.mount.fs_type),
        text::escape(&leak.mount.device)
    )
}

/// How a mount came to the host, as far as it is known.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Origin {
    /// The jail had the same file system there at the same time.
    Same,
    /// The jail mounted something there.
    SamePlace,
    /// It came up while the jail ran.
    Meanwhile,
}

/// mount_namespaces(7): a mount below a shared one appears in all namespaces of the peer group, and
/// stays there when the one that it was made in ends.
fn propagated(
    case: &Case,
    event: &Event,
    check: &LeakCheck,
    on_host: Vec<&LeakedMount>,
) -> Vec<Finding> {
    let mut groups: BTreeMap<Origin, Vec<&LeakedMount>> = BTreeMap::new();
    for leak in on_host {
        let origin = match (leak.seen_in_jail, case.mounted_at(&leak.mount.target)) {
            (true, _) => Origin::Same,
            (false, Some(_)) => Origin::SamePlace,
            (false, None) => Origin::Meanwhile,
        };
        groups.entry(origin).or_default().push(leak);
    }
    groups
        .into_iter()
        .filter_map(|(origin, leaks)| passed_on(case, event, check, origin, &leaks))
        .collect()
}

fn passed_on(
    case: &Case,
    event: &Event,
    check: &LeakCheck,
    origin: Origin,
    leaks: &[&LeakedMount],
) -> Option<Finding> {
    let first = leaks
        .iter()
        .find(|leak| case.mounted_at(&leak.mount.target).is_some())
        .or(leaks.first())?;
    let entry = &first.mount;
    let made = case.mounted_at(&entry.target);
    let more = match leaks.len() as u64 - 1 {
        0 => String::new(),
        more => format!(" (and {})", text::plural(more, "more mount", "more mounts")),
    };
    let copies = check
        .mounts
        .iter()
        .filter(|other| !other.launchers && other.mount.device == entry.device)
        .count() as u64;
    let further = match copies {
        0 => String::new(),
        count => format!(
            " So have {}.",
            text::plural(count, "further mount namespace", "further mount namespaces")
        ),
    };
    let group = entry
        .shared
        .map_or_else(String::new, |group| format!(" (peer group {group})"));
    let fact = match origin {
        Origin::Same => format!(
            "The host still has the jail's mount {}{more} after the jail's end.{further}",
            what(first)
        ),
        Origin::SamePlace | Origin::Meanwhile => format!(
            "The host has the mount {}{more}, which it did not have before the jail.{further}",
            what(first)
        ),
    };
    let cause = format!(
        "It lies below a mount that the jail shares with the host{group}: what is mounted on one side is passed \
         on to the other, and stays there."
    );
    let mut finding = Finding::new(fact).proven().remedy(format!(
        "Unmount it: umount {}. Start the jail with --propagation private or slave, or make the mount above it \
         private in the jail first (mount --make-rprivate). In Kubernetes, use HostToContainer instead of \
         Bidirectional.",
        text::escape(&entry.target)
    ));
    if let Some((made, mount)) = made {
        let by = case.who(&made.task);
        finding = finding.shown_by(
            made,
            format!("{by} mounted {}", text::escape(&mount.target)),
        );
    }
    finding = unserved(case, &entry.target, finding)
        .shown_by(event, "the host has it after the jail's removal")
        .not(
            "a mount that was there before",
            "the host did not have it before the jail",
        );
    Some(match origin {
        Origin::Same => finding.cause(cause, Confidence::Proven).not(
            MOUNTED_BY_OTHERS,
            "the jail had the same file system mounted at the same time",
        ),
        Origin::SamePlace => finding
            .cause(cause, Confidence::Likely)
            .or(MOUNTED_BY_OTHERS),
        Origin::Meanwhile => finding
            .cause(cause, Confidence::ConsistentWith)
            .or(MOUNTED_BY_OTHERS)
            .note(),
    })
}

/// Each mount of such a type is a file system of its own; of others, two mounts of one source are one.
fn is_own_instance(fs_type: &str) -> bool {
    matches!(
        fs_type,
        "tmpfs" | "ramfs" | "overlay" | "devpts" | "hugetlbfs" | "proc"
    ) || fs_type == "fuse"
        || fs_type.starts_with("fuse.")
}

/// Of a FUSE mount whose daemon was the jail's: nobody answers any more.
fn unserved(case: &Case, target: &str, finding: Finding) -> Finding {
    let daemon = case
        .mounted_at(target)
        .filter(|(_, mount)| fuse::is_fuse(&mount.fs_type))
        .and_then(|(event, _)| fuse::daemon(case, event));
    match daemon.and_then(|(daemon, _)| Some((daemon, case.exit(daemon)?))) {
        Some((daemon, (end, ended))) => finding.shown_by(
            end,
            format!(
                "its FUSE daemon, {}, {}: every access to the mount fails with ENOTCONN",
                case.name(daemon),
                case.did_end(&ended.status)
            ),
        ),
        None => finding,
    }
}

/// A copy of a mount that another namespace made when it was cloned is a mount of its own.
fn held(
    case: &Case,
    event: &Event,
    on_host: &[&LeakedMount],
    elsewhere: Vec<&LeakedMount>,
) -> Vec<Finding> {
    let on_host: BTreeSet<&str> = on_host
        .iter()
        .map(|leak| leak.mount.device.as_str())
        .collect();
    let mut by_namespace: BTreeMap<u64, Vec<&LeakedMount>> = BTreeMap::new();
    for leak in elsewhere {
        if !on_host.contains(leak.mount.device.as_str()) {
            by_namespace.entry(leak.namespace).or_default().push(leak);
        }
    }
    by_namespace
        .into_iter()
        .filter_map(|(namespace, leaks)| held_by(case, event, namespace, &leaks))
        .collect()
}

fn held_by(case: &Case, event: &Event, namespace: u64, leaks: &[&LeakedMount]) -> Option<Finding> {
    // What the program mounted, rather than what every jail has.
    let first = leaks
        .iter()
        .find(|leak| case.mounted_at(&leak.mount.target).is_some())
        .or(leaks.first())?;
    let rest = match leaks.len() as u64 - 1 {
        0 => String::new(),
        more => format!(
            " and {}",
            text::plural(more, "more of its mounts", "more of its mounts")
        ),
    };
    let holders = who(&first.holders, first.holder_count);
    let unmounted = case.mounts().find(|(_, mount)| {
        mount.call == "umount2"
            && mount.result == Some(0)
            && mount.target.trim_end_matches('/') == first.mount.target
    });
    let gone = match unmounted {
        Some(_) => "The jail unmounted it",
        None => "The jail is gone",
    };
    let mut finding = Finding::new(format!(
        "Mount namespace {namespace}, held by {holders}, has the jail's mount {}{rest}. {gone}, but the file \
         system stays in use.",
        what(first)
    ))
    .proven()
    .cause(
        "The namespace was made as a copy of the jail's, or the mount was passed on to it.",
        Confidence::Proven,
    );
    if let Some((made, _)) = case.mounted_at(&first.mount.target) {
        let by = case.who(&made.task);
        finding = finding.shown_by(made, format!("{by} mounted it"));
    }
    if let Some((umount, _)) = unmounted {
        finding = finding.shown_by(umount, "the jail unmounted it");
    }
    if is_own_instance(&first.mount.fs_type) {
        finding = finding.not(
            OWN_MOUNT,
            format!(
                "each mount of the type {} that is made anew is another file system",
                text::escape(&first.mount.fs_type)
            ),
        );
    }
    Some(
        unserved(case, &first.mount.target, finding)
            .shown_by(
                event,
                format!("namespace {namespace} has it after the jail's removal"),
            )
            .not(
                "a mount passed on to the host",
                "the host's mount namespace does not have it",
            )
            .remedy(format!(
                "End or restart {holders}. What must not keep such copies should start before the jail, or with \
                 private mounts of its own (PrivateMounts of systemd.exec(5), umount in the new namespace)."
            )),
    )
}

fn pin_words(pin: &Pin) -> String {
    let process = format!(
        "{} (host PID {})",
        text::escape(&pin.process.comm),
        pin.process.pid
    );
    match pin.by {
        PinKind::Process => format!("{process}, which is in it"),
        PinKind::BindMount => format!("a bind mount at {}", text::escape(&pin.place)),
        PinKind::Descriptor => format!("{} of {process}", text::escape(&pin.place)),
    }
}

/// namespaces(7): a namespace lives as long as a process, a descriptor or a bind mount of it.
fn pinned(event: &Event, check: &LeakCheck) -> Vec<Finding> {
    // One who holds all namespaces is one finding.
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for namespace in &check.namespaces {
        let pins: Vec<String> = namespace.pins.iter().map(pin_words).collect();
        let mut by = pins.join("; ");
        let more = namespace.pin_count.saturating_sub(pins.len() as u64);
        if more > 0 {
            by += &format!("; {} more", text::count(more));
        }
        groups.entry(by).or_default().push(format!(
            "{}:[{}]",
            text::escape(&namespace.kind),
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
