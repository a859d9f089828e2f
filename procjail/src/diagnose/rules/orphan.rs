//! Orphans: processes that outlive who made them.

use std::collections::{BTreeMap, HashSet};

use super::crash::names;
use crate::diagnose::{Case, Family, Finding, ProcessId, Rank, Rule, Tagged};
use crate::render;

pub(super) const FAMILY: Family = Family {
    rules: &[
        Rule {
            id: "orphan-outlives-parent",
            about: "a process outlived the one that made it",
            alternatives: &[],
        },
        Rule {
            id: "orphan-exec-session",
            about: "something is left of a command that was run in the jail from outside",
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
        outlives(case)
            .into_iter()
            .map(|one| ("orphan-outlives-parent", one)),
    );
    found.extend(
        session(case)
            .into_iter()
            .map(|one| ("orphan-exec-session", one)),
    );
    found
}

/// Who lives on for less is only about to end, nanoseconds.
const LASTING_NS: u64 = 1_000_000_000;

/// A process, the one that it outlived, and by how much, nanoseconds.
type Outliver = (ProcessId, ProcessId, u64);

/// Processes that were started in the jail from outside, each with all below it.
fn entered(case: &Case) -> Vec<(ProcessId, Vec<ProcessId>)> {
    case.processes()
        .filter(|(_, process)| {
            process.in_jail()
                && process.creator.is_some_and(|creator| {
                    let creator = case.process(creator);
                    !creator.in_jail() && !case.is_launcher(&creator.task)
                })
        })
        .map(|(id, _)| (id, case.descendants(id)))
        .collect()
}

/// How long a process lived on after another one's end, if it was long.
fn outlived(case: &Case, id: ProcessId, other: ProcessId) -> Option<u64> {
    let (end, _) = case.exit(other)?;
    let pid1_end = case.pid1().map_or(u64::MAX, |pid1| case.ended_ns(pid1));
    let until = case.ended_ns(id).min(pid1_end);
    let ns = until.saturating_sub(end.time_ns);
    (case.born_ns(id) <= end.time_ns && ns >= LASTING_NS).then_some(ns)
}

fn outlives(case: &Case) -> Vec<Finding> {
    // By the names of both: a script that does it a thousand times is one verdict.
    let mut alike: BTreeMap<(&str, &str), Vec<Outliver>> = BTreeMap::new();
    let sessions: HashSet<ProcessId> = entered(case)
        .into_iter()
        .flat_map(|(_, below)| below)
        .collect();
    for (id, process) in case.processes().filter(|(_, process)| process.in_jail()) {
        let Some(creator) = process.creator.filter(|creator| {
            let creator = case.process(*creator);
            creator.in_jail() && !creator.is_pid1()
        }) else {
            continue;
        };
        // What came from outside has a verdict of its own.
        if let Some(ns) = outlived(case, id, creator).filter(|_| !sessions.contains(&id)) {
            let names = (
                case.process(creator).task.comm.as_str(),
                process.task.comm.as_str(),
            );
            alike.entry(names).or_default().push((id, creator, ns));
        }
    }
    alike
        .into_values()
        .filter_map(|orphans| {
            let (first, creator, lived_ns) = *orphans.first()?;
            let ids: Vec<ProcessId> = orphans.iter().map(|(id, ..)| *id).collect();
            let (end, ended) = case.exit(creator)?;
            let exit = case.exit(first);
            let parent = exit.map(|(_, exit)| &exit.parent).filter(|parent| {
                parent.pid != case.process(creator).task.pid && parent.pid != 0
            });
            let new_parent = parent.map_or_else(|| case.pid1_name(), |task| case.task_name(task));
            let session = |id: ProcessId| case.exit(id).map_or(0, |(_, exit)| exit.session);
            let detached = session(first) != 0
                && session(creator) != 0
                && session(first) == case.process(first).task.pid;
            let meant = match detached {
                true => ", in a session of its own: it was meant to stay, as a daemon is",
                false => "",
            };
            let mut finding = Finding::new(format!(
                "{} outlived {}, which made it, by {} and now belongs to {new_parent}{meant}.",
                names(case, &ids),
                case.name(creator),
                render::duration(lived_ns),
            ))
            .about(ids.clone())
            .shown_by(end, format!("{} {}", case.name(creator), case.did_end(&ended.status)))
            .relies_on_all(&["exit", "fork"])
            .remedy(match detached {
                true => "If it is not meant to stay: have the one that starts it stop it, or end it with the jail.",
                false => {
                    "Have its maker end it (kill the process group, PR_SET_PDEATHSIG) or wait for it, or make \
                     the maker a subreaper (PR_SET_CHILD_SUBREAPER) that collects such children."
                }
            });
            if let Some((event, _)) = exit {
                finding = finding.shown_by(
                    event,
                    format!("{} ended as a child of {new_parent}", case.name(first)),
                );
            }
            if parent.is_some() {
                finding = finding
                    .not("a child that ends with its parent", "the kernel gave it another parent")
                    .proven();
            }
            Some(finding)
        })
        .collect()
}

fn session(case: &Case) -> Vec<Finding> {
    let mut alike: BTreeMap<&str, Vec<Outliver>> = BTreeMap::new();
    for (entry, below) in entered(case) {
        let name = case.process(entry).task.comm.as_str();
        for id in below {
            if let Some(ns) = outlived(case, id, entry) {
                alike.entry(name).or_default().push((id, entry, ns));
            }
        }
    }
    alike
        .into_values()
        .filter_map(|left| {
            let ids: Vec<ProcessId> = left.iter().map(|(id, ..)| *id).collect();
            let (_, entry, _) = *left.first()?;
            let longest = left.iter().map(|(_, _, ns)| *ns).max()?;
            let (end, ended) = case.exit(entry)?;
            let forked = case.event(case.process(entry).forked?);
            let who = case.who(&forked.task);
            Some(
                Finding::new(format!(
                    "{} is left of a command that {who} ran in the jail from outside: its first process {} \
                     ended, and the rest lived on for {}.",
                    names(case, &ids),
                    case.name(entry),
                    render::duration(longest),
                ))
                .proven()
                .about(ids.clone())
                .shown_by(forked, format!("{who}, which is not of the jail, started {}", case.name(entry)))
                .shown_by(end, format!("{} {}", case.name(entry), case.did_end(&ended.status)))
                .not("a child of PID 1's", "none of the processes that made it is PID 1")
                .relies_on_all(&["exit", "fork"])
                .remedy(
                    "Have the command wait for what it starts or end it (exec sessions and probes get no SIGHUP \
                     when their client goes), or run each in a cgroup of its own that can be killed.",
                ),
            )
        })
        .collect()
}
