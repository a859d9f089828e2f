//! Unmounts that fail, or that don't end the mount.

use std::collections::BTreeSet;

use crate::diagnose::{Case, Confidence, Family, Finding, ProcessId, Rank, Rule, Tagged};
use crate::event::{Event, Mount, MountUse, MountUser};
use crate::text;

/// What else keeps a mount busy, unseen by a look at the jail's processes.
const OUTSIDE: &str = "a process outside the jail that uses it";
const BELOW: &str = "a mount below it";
const IN_KERNEL: &str = "a loop device, a swap file or an export (NFS) on it";

pub(super) const FAMILY: Family = Family {
    rules: &[
        Rule {
            id: "mount-held-by-own-helper",
            about: "who tries to unmount is the only one that uses the mount",
            alternatives: &[BELOW, OUTSIDE, IN_KERNEL],
        },
        Rule {
            id: "umount-busy",
            about: "a mount can't be unmounted because it is in use",
            alternatives: &[BELOW, OUTSIDE, IN_KERNEL],
        },
        Rule {
            id: "mount-lazy-alive",
            about: "a mount was unmounted lazily and is still in use, seen by nobody",
            alternatives: &["a mount that a mount table still has"],
        },
        Rule {
            id: "umount-locked",
            about: "a mount inherited from a more privileged user namespace can't be unmounted",
            alternatives: &["no mount at that path", "wrong flags"],
        },
    ],
    rank: Rank::Problem,
    analyse,
};

/// What there is of this family in a case.
fn analyse(case: &Case) -> Vec<Tagged> {
    let busy = failed(case, libc::EBUSY);
    let (own, others): (Vec<&Failed<'_>>, Vec<&Failed<'_>>) =
        busy.iter().partition(|failed| failed.only_its_own());
    let tag = |id: &'static str, found: Vec<Finding>| found.into_iter().map(move |one| (id, one));
    tag("mount-held-by-own-helper", own_helper(case, &own))
        .chain(tag("umount-busy", in_use(case, &others)))
        .chain(tag("mount-lazy-alive", lazy(case)))
        .chain(tag("umount-locked", locked(case)))
        .collect()
}

/// Users that a sentence names.
const NAMED: usize = 3;

/// Who ends so soon after a failed unmount, with a code other than 0, gave up for that, nanoseconds.
const GAVE_UP_NS: u64 = 500_000_000;

/// Failed unmounts of one target with one error, and what was found to use it.
struct Failed<'a> {
    target: &'a str,
    calls: Vec<(&'a Event, &'a Mount)>,
    uses: Vec<(&'a Event, &'a MountUse)>,
}

/// The unmounts that failed with an error, by the caller's program and target.
fn failed<'a>(case: &'a Case, error: i32) -> Vec<Failed<'a>> {
    let mut found: Vec<Failed<'a>> = Vec::new();
    let mut known = std::collections::HashMap::new();
    for (event, mount) in case.mounts() {
        let matches = mount.call == "umount2"
            && mount
                .error
                .as_ref()
                .is_some_and(|errno| errno.number == error);
        if !matches {
            continue;
        }
        let target = mount.target.trim_end_matches('/');
        let at = *known
            .entry((event.task.comm.as_str(), target))
            .or_insert_with(|| {
                found.push(Failed {
                    target,
                    calls: Vec::new(),
                    uses: Vec::new(),
                });
                found.len() - 1
            });
        if let Some(entry) = found.get_mut(at) {
            entry.calls.push((event, mount));
        }
    }
    for (event, found_use) in case.mount_uses() {
        let caller = &found_use.caller;
        let wanted = found_use
            .error
            .as_ref()
            .is_some_and(|errno| errno.number == error);
        // The caller may have named it by a relative path.
        let entry = found.iter_mut().find(|entry| {
            wanted
                && (entry.target == found_use.target
                    || found_use.target.ends_with(&format!("/{}", entry.target)))
                && entry
                    .calls
                    .iter()
                    .any(|(call, _)| call.task.pid == caller.pid)
        });
        if let Some(entry) = entry {
            entry.uses.push((event, found_use));
        }
    }
    found
}

impl<'a> Failed<'a> {
    /// The last look at who uses it that found anybody.
    fn users(&self) -> Option<(&'a Event, &'a MountUse)> {
        let found =
            |(_, used): &&(&Event, &MountUse)| !used.users.is_empty() || !used.nested.is_empty();
        self.uses.iter().rev().find(found).copied()
    }

    /// All uses are the caller's own.
    fn only_its_own(&self) -> bool {
        self.users().is_some_and(|(_, used)| {
            used.nested.is_empty()
                && !used.users.is_empty()
                && used
                    .users
                    .iter()
                    .all(|user| user.process.pid == used.caller.pid)
        })
    }

    /// The callers that gave up right after their last attempt, and who returned their codes.
    fn gave_up(&self, case: &Case) -> Vec<ProcessId> {
        let mut ids: Vec<ProcessId> = self
            .calls
            .iter()
            .filter_map(|(call, _)| {
                let id = case.process_of(&call.task)?;
                let (end, ended) = case.exit(id)?;
                let after_ns = end.time_ns.checked_sub(call.time_ns)?;
                let failed = ended.status.code.is_some_and(|code| code != 0);
                (failed && after_ns < GAVE_UP_NS).then_some(id)
            })
            .collect();
        ids.extend(case.code_to(&ids));
        ids
    }

    fn times(&self) -> String {
        match self.calls.len() as u64 {
            1 => String::new(),
            count => format!(", {} times", text::count(count)),
        }
    }
}

fn way(how: &str) -> String {
    match how {
        "cwd" => "its working directory is there".to_owned(),
        "root" => "its root directory is there".to_owned(),
        "exe" => "it runs a program from there".to_owned(),
        "map" => "it has a file of it mapped".to_owned(),
        other => format!("it has a file of it open ({})", text::escape(other)),
    }
}

fn user_words(case: &Case, users: &[MountUser]) -> String {
    let mut seen = BTreeSet::new();
    let mut parts: Vec<String> = users
        .iter()
        .filter(|user| seen.insert(user.process.pid))
        .map(|user| format!("{}: {}", case.task_name(&user.process), way(&user.how)))
        .collect();
    let more = parts.len().saturating_sub(NAMED);
    parts.truncate(NAMED);
    if more > 0 {
        parts.push(format!("{more} more"));
    }
    parts.join("; ")
}

fn own_helper(case: &Case, failed: &[&Failed<'_>]) -> Vec<Finding> {
    failed
        .iter()
        .filter_map(|failed| {
            let (first, _) = failed.calls.first()?;
            let (seen, used) = failed.users()?;
            let name = case.task_name(&first.task);
            let way = used.users.first().map(|user| way(&user.how)).unwrap_or_default();
            Some(
                Finding::new(format!(
                    "{name} could not unmount {}{}: EBUSY. Of the jail's processes only {name} itself used it: {way}.",
                    text::escape(failed.target),
                    failed.times(),
                ))
                .proven()
                .cause(
                    "It keeps the mount busy itself: as long as it does, no attempt succeeds.",
                    Confidence::Likely,
                )
                .or(OUTSIDE)
                .or(IN_KERNEL)
                .about(failed.gave_up(case))
                .shown_by(first, "umount2 failed: EBUSY")
                .shown_by(
                    seen,
                    format!("its uses, in mount namespace {}", used.namespace),
                )
                .not(
                    "another process of the jail that uses it",
                    "all processes of the jail were looked at",
                )
                .not(BELOW, "there is none")
                .remedy(
                    "Have the helper leave first: chdir(\"/\"), close its files, and run it from another \
                     file system and mount namespace (nsenter) than the one it unmounts.",
                ),
            )
        })
        .collect()
}

fn in_use(case: &Case, failed: &[&Failed<'_>]) -> Vec<Finding> {
    failed
        .iter()
        .filter_map(|failed| {
            let (first, _) = failed.calls.first()?;
            let finding = Finding::new(format!(
                "{} could not unmount {}{}: EBUSY.",
                case.task_name(&first.task),
                text::escape(failed.target),
                failed.times()
            ))
            .proven()
            .about(failed.gave_up(case))
            .shown_by(first, "umount2 failed: EBUSY");
            let Some((seen, used)) = failed.users() else {
                return Some(
                    finding
                        .cause("Something used it.", Confidence::ConsistentWith)
                        .or(BELOW)
                        .or(OUTSIDE)
                        .or(IN_KERNEL)
                        .remedy(
                            "Find out what uses it with fuser -vm or lsof, and look for mounts below it and for \
                             loop devices and swap files on it.",
                        ),
                );
            };
            let mut reasons = Vec::new();
            if !used.users.is_empty() {
                reasons.push(user_words(case, &used.users));
            }
            if !used.nested.is_empty() {
                let nested: Vec<String> =
                    used.nested.iter().take(NAMED).map(|path| text::escape(path)).collect();
                reasons.push(format!("mounted below it: {}", nested.join(", ")));
            }
            // Any use of the same mount is enough for EBUSY, whatever else there is.
            Some(
                finding
                    .cause(
                        format!("It was in use right then: {}.", reasons.join("; ")),
                        Confidence::Proven,
                    )
                    .shown_by(seen, "what used it right after the call")
                    .not("the caller itself alone", "another process or mount uses it too")
                    .not(BELOW, "what was found is enough for EBUSY")
                    .not(OUTSIDE, "what was found is enough for EBUSY")
                    .not(IN_KERNEL, "what was found is enough for EBUSY")
                    .remedy(
                        "End those processes or have them leave, unmount what is below, then unmount again. \
                         A lazy unmount only hides it.",
                    ),
            )
        })
        .collect()
}

fn lazy(case: &Case) -> Vec<Finding> {
    case.mount_uses()
        .filter(|(_, used)| used.error.is_none() && !used.users.is_empty())
        .filter_map(|(event, used)| {
            let call = case.mounts().find(|(call, mount)| {
                mount.call == "umount2"
                    && mount.result == Some(0)
                    && mount.flags & libc::MNT_DETACH as u64 != 0
                    && call.task.pid == used.caller.pid
                    && call.time_ns <= event.time_ns
                    && used.target.ends_with(mount.target.trim_end_matches('/'))
            })?;
            let (call, _) = call;
            Some(
                Finding::new(format!(
                    "{} unmounted {} lazily (MNT_DETACH), but it is still in use: {}. No mount table shows it, and its \
                     device stays busy.",
                    case.task_name(&call.task),
                    text::escape(&used.target),
                    user_words(case, &used.users)
                ))
                .proven()
                .shown_by(call, "umount2 with MNT_DETACH succeeded")
                .shown_by(event, "still used after that")
                    .not("a mount that a mount table still has", "it is used on a mount that no table has any more")
                .remedy("End those processes or have them leave; don't use a lazy unmount to get rid of EBUSY."),
            )
        })
        .collect()
}

/// mount_namespaces(7), "Restrictions on mount namespaces": mounts that came as one unit from a more
/// privileged namespace can't be separated; umount2(2) says EINVAL.
fn locked(case: &Case) -> Vec<Finding> {
    failed(case, libc::EINVAL)
        .iter()
        .filter_map(|failed| {
            let (first, mount) = failed.calls.first()?;
            // MNT_EXPIRE with MNT_FORCE or MNT_DETACH is EINVAL as well.
            let plain = mount.flags & libc::MNT_EXPIRE as u64 == 0;
            let seen = failed.uses.iter().find(|(_, used)| used.is_mount);
            let unshared = case.mounts().find(|(call, unshare)| {
                unshare.call == "unshare"
                    && unshare.result == Some(0)
                    && unshare.flags & libc::CLONE_NEWUSER as u64 != 0
                    && call.task.pid == first.task.pid
                    && call.time_ns < first.time_ns
            });
            let (seen, used) = seen.filter(|_| plain)?;
            if !used.other_user_namespace {
                return None;
            }
            let mut finding = Finding::new(format!(
                "{} could not unmount {}{}: EINVAL, though its namespace has a mount there.",
                case.task_name(&first.task),
                text::escape(failed.target),
                failed.times()
            ))
            .proven()
            .cause(
                "The mount was inherited from a more privileged user namespace, which locks it to the others that \
                 came with it.",
                Confidence::Proven,
            )
            .about(failed.gave_up(case))
            .shown_by(first, "umount2 failed: EINVAL")
            .shown_by(seen, "it is a mount of the caller's namespace, and the caller's user namespace is not the host's")
            .not("no mount at that path", "its namespace has a mount there")
            .not("wrong flags", "MNT_EXPIRE was not asked for")
            .remedy(
                "Unmount it in the namespace that made it, or before the user namespace is made; or mount \
                 something over it.",
            );
            if let Some((unshare, _)) = unshared {
                finding = finding.shown_by(unshare, "it made a user namespace of its own");
            }
            Some(finding)
        })
        .collect()
}
