//! Unmounts that fail, or that don't end the mount.

use std::collections::BTreeSet;

use crate::diagnose::{Case, Family, Finding, Rank, Rule, Tagged};
use crate::event::{Event, Mount, MountUse, MountUser};
use crate::render;

pub(super) const FAMILY: Family = Family {
    rules: &[
        Rule {
            id: "mount-held-by-own-helper",
            about: "who tries to unmount is the only one that uses the mount",
            alternatives: &[],
        },
        Rule {
            id: "umount-busy",
            about: "a mount can't be unmounted because it is in use",
            alternatives: &[],
        },
        Rule {
            id: "mount-lazy-alive",
            about: "a mount was unmounted lazily and is still in use, seen by nobody",
            alternatives: &[],
        },
        Rule {
            id: "umount-locked",
            about: "a mount inherited from a more privileged user namespace can't be unmounted",
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
        own_helper(case)
            .into_iter()
            .map(|one| ("mount-held-by-own-helper", one)),
    );
    found.extend(busy(case).into_iter().map(|one| ("umount-busy", one)));
    found.extend(lazy(case).into_iter().map(|one| ("mount-lazy-alive", one)));
    found.extend(locked(case).into_iter().map(|one| ("umount-locked", one)));
    found
}

/// Users that a sentence names.
const NAMED: usize = 3;

/// Failed unmounts of one target with one error, and what was found to use it.
struct Failed<'a> {
    target: &'a str,
    calls: Vec<(&'a Event, &'a Mount)>,
    uses: Vec<(&'a Event, &'a MountUse)>,
}

/// The unmounts that failed with an error, by caller's process and target.
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
            .entry((event.task.pid, event.task.start_ns, target))
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

    fn times(&self) -> String {
        match self.calls.len() as u64 {
            1 => String::new(),
            count => format!(", {} times", render::count(count)),
        }
    }
}

fn way(how: &str) -> String {
    match how {
        "cwd" => "its working directory is there".to_owned(),
        "root" => "its root directory is there".to_owned(),
        "exe" => "it runs a program from there".to_owned(),
        "map" => "it has a file of it mapped".to_owned(),
        other => format!("it has a file of it open ({})", render::escape(other)),
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

fn own_helper(case: &Case) -> Vec<Finding> {
    failed(case, libc::EBUSY)
        .iter()
        .filter(|failed| failed.only_its_own())
        .filter_map(|failed| {
            let (first, _) = failed.calls.first()?;
            let (seen, used) = failed.users()?;
            let name = case.task_name(&first.task);
            Some(
                Finding::new(format!(
                    "{name} tries to unmount {}{}, and is the only one that keeps it busy ({}): as long as \
                     it tries, it can't succeed.",
                    render::escape(failed.target),
                    failed.times(),
                    used.users.first().map_or_else(String::new, |user| way(&user.how)),
                ))
                .proven()
                .shown_by(first, "umount2 failed: EBUSY")
                .shown_by(seen, format!("its uses, in mount namespace {}", used.namespace))
                .not("another user of the mount", "all processes of the jail were looked at")
                .not("a mount below it", "there is none")
                .remedy(
                    "Have the helper leave first: chdir(\"/\"), close its files, and run it from another \
                     file system and mount namespace (nsenter) than the one it empties.",
                ),
            )
        })
        .collect()
}

fn busy(case: &Case) -> Vec<Finding> {
    failed(case, libc::EBUSY)
        .iter()
        .filter(|failed| !failed.only_its_own())
        .filter_map(|failed| {
            let (first, _) = failed.calls.first()?;
            let name = case.task_name(&first.task);
            let target = render::escape(failed.target);
            let Some((seen, used)) = failed.users() else {
                return Some(
                    Finding::new(format!(
                        "{name} could not unmount {target}{}: it was in use (EBUSY).",
                        failed.times()
                    ))
                    .consistent()
                    .shown_by(first, "umount2 failed: EBUSY")
                    .remedy(
                        "Find who uses it with fuser -vm or lsof, and look for mounts below it and for \
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
                    used.nested.iter().take(NAMED).map(|path| render::escape(path)).collect();
                reasons.push(format!("mounted below it: {}", nested.join(", ")));
            }
            Some(
                Finding::new(format!(
                    "{name} could not unmount {target}{}: it is in use (EBUSY). {}.",
                    failed.times(),
                    reasons.join("; ")
                ))
                .proven()
                .shown_by(first, "umount2 failed: EBUSY")
                .shown_by(seen, "who used it right then")
                .not("who unmounts itself", "another process or mount uses it too")
                .remedy(
                    "End those processes or have them leave, unmount what is below, then unmount again; \
                     a lazy unmount only hides it.",
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
                    "{} unmounted {} lazily (MNT_DETACH), but it lives on: {}. No table of mounts shows it, \
                     and its device stays busy.",
                    case.task_name(&call.task),
                    render::escape(&used.target),
                    user_words(case, &used.users)
                ))
                .proven()
                .shown_by(call, "umount2 with MNT_DETACH succeeded")
                .shown_by(event, "still used, on a mount that no table has")
                .not("a use of what was mounted below it", "that mount is in the table")
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
                "{} could not unmount {}{} (EINVAL): the mount came from a mount namespace of a more \
                 privileged user namespace and is locked to the others that came with it.",
                case.task_name(&first.task),
                render::escape(failed.target),
                failed.times()
            ))
            .proven()
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
