//! Orphans: processes that outlive who made them.

use std::collections::{BTreeMap, HashSet};

use crate::diagnose::{Case, Family, Finding, ProcessId, Rank, Rule, Tagged};
use crate::event::{Event, Task};
use crate::text;

const OWN: &str = "a process that the jail's PID 1 started";

pub(super) const FAMILY: Family = Family {
    rules: &[
        Rule {
            id: "orphan-outlives-parent",
            about: "a process outlived the one that made it",
            alternatives: &["a child that ends with its parent"],
        },
        Rule {
            id: "orphan-exec-session",
            about: "something is left of a command that was run in the jail from outside, or was not watched",
            alternatives: &[OWN],
        },
    ],
    rank: Rank::Problem,
    analyse,
};

/// What there is of this family in a case.
fn analyse(case: &Case) -> Vec<Tagged> {
    let entered = entered(case);
    let tag = |id: &'static str, found: Vec<Finding>| found.into_iter().map(move |one| (id, one));
    tag("orphan-outlives-parent", outlives(case, &entered))
        .chain(tag("orphan-exec-session", session(case, &entered)))
        .chain(unwatched(case).map(|one| ("orphan-exec-session", one)))
        .collect()
}

/// Who lives on for less is only about to end, nanoseconds.
const LASTING_NS: u64 = 1_000_000_000;

/// A process, the one that it outlived, and by how much, nanoseconds.
type Outliver = (ProcessId, ProcessId, u64);

/// A process that was started in the jail from outside, and all below it.
type Entry = (ProcessId, Vec<ProcessId>);

/// Who made them is in no PID namespace of the jail, whatever its cgroup: runtimes and nsenter join that first.
fn entered(case: &Case) -> Vec<Entry> {
    case.processes()
        .filter(|(_, process)| {
            process.task.jail_pid.is_some()
                && !process.is_pid1()
                && process.creator.is_some_and(|creator| {
                    let creator = &case.process(creator).task;
                    creator.jail_pid.is_none() && !case.is_launcher(creator)
                })
        })
        .map(|(id, _)| (id, case.descendants(id)))
        .collect()
}

/// It was killed as PID 1 had ended.
fn killed_at_the_end(case: &Case, id: ProcessId) -> bool {
    let pid1_end = case.pid1().map_or(u64::MAX, |pid1| case.ended_ns(pid1));
    case.exit(id).is_some_and(|(event, exit)| {
        let signal = exit.status.signal.as_ref();
        event.time_ns >= pid1_end && signal.is_some_and(|signal| signal.number == libc::SIGKILL)
    })
}

/// How long a process lived on after another one's end, if it was long.
fn outlived(case: &Case, id: ProcessId, other: ProcessId) -> Option<u64> {
    let (end, _) = case.exit(other)?;
    let pid1_end = case.pid1().map_or(u64::MAX, |pid1| case.ended_ns(pid1));
    let until = case.ended_ns(id).min(pid1_end);
    let ns = until.saturating_sub(end.time_ns);
    (case.born_ns(id) <= end.time_ns && ns >= LASTING_NS).then_some(ns)
}

fn outlives(case: &Case, entered: &[Entry]) -> Vec<Finding> {
    // By the names of both: a script that does it a thousand times is one verdict.
    let mut alike: BTreeMap<(&str, &str), Vec<Outliver>> = BTreeMap::new();
    let sessions: HashSet<ProcessId> = entered
        .iter()
        .flat_map(|(_, below)| below.iter().copied())
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
                true => ", in a session of its own, as daemons do",
                false => "",
            };
            let mut finding = Finding::new(format!(
                "{} outlived {}, which started it, by {}{meant}; its parent became {new_parent}.",
                case.names(&ids),
                case.name(creator),
                text::duration(lived_ns),
            ))
            .about(ids.clone())
            .shown_by(end, format!("{} {}", case.name(creator), case.did_end(&ended.status)))
            .relies_on_all(&["exit", "fork"])
            .remedy(match detached {
                true => "If it should not stay: have the process that starts it stop it, or end it with the jail.",
                false => {
                    "Have the process that starts it end it (kill the process group, PR_SET_PDEATHSIG) or wait for it, \
                     or make that one a subreaper (PR_SET_CHILD_SUBREAPER) that collects such children."
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
            // Where none of them was cut short, all were meant to go with the jail, or its program was done and
            // says so, nothing went wrong.
            let done = case
                .pid1()
                .and_then(|pid1| case.status(pid1)?.code)
                .is_some_and(|code| code == 0);
            if detached || done || !ids.iter().any(|id| killed_at_the_end(case, *id)) {
                finding = finding.note();
            }
            Some(finding)
        })
        .collect()
}

/// What is left of a session, by the name of its first process.
#[derive(Default)]
struct Left {
    /// Those that outlived it.
    after: Vec<Outliver>,
    /// First processes that ran until PID 1's end.
    running: Vec<ProcessId>,
}

fn session(case: &Case, entered: &[Entry]) -> Vec<Finding> {
    let mut alike: BTreeMap<&str, Left> = BTreeMap::new();
    for (entry, below) in entered {
        let left = alike
            .entry(case.process(*entry).task.comm.as_str())
            .or_default();
        let outlived = |id: &ProcessId| Some((*id, *entry, outlived(case, *id, *entry)?));
        left.after.extend(below.iter().filter_map(outlived));
        left.running
            .extend(killed_at_the_end(case, *entry).then_some(*entry));
    }
    alike
        .values()
        .flat_map(|left| [after(case, &left.after), running(case, &left.running)])
        .flatten()
        .collect()
}

/// How a command came into the jail.
fn started(case: &Case, entry: ProcessId) -> Option<(&Event, String)> {
    let forked = case.event(case.process(entry).forked?);
    Some((forked, case.who(&forked.task)))
}

fn after(case: &Case, left: &[Outliver]) -> Option<Finding> {
    const REMEDY: &str = "Have the command wait for what it starts or end it (exec sessions and probes get no SIGHUP \
                          when their client goes), or run each in a cgroup of its own that can be killed.";
    let ids: Vec<ProcessId> = left.iter().map(|(id, ..)| *id).collect();
    let (_, entry, _) = *left.first()?;
    let longest = left.iter().map(|(_, _, ns)| *ns).max()?;
    let (end, ended) = case.exit(entry)?;
    let (forked, who) = started(case, entry)?;
    let killed = ids.iter().any(|id| killed_at_the_end(case, *id));
    let finding = Finding::new(format!(
        "{} is left of a command that {who} ran in the jail from outside: its first process {} ended, and what it \
         had started lived on for {}.",
        case.names(&ids),
        case.name(entry),
        text::duration(longest),
    ))
    .proven()
    .about(ids)
    .shown_by(
        forked,
        format!("{who}, which is outside the jail's PID namespace, started {}", case.name(entry)),
    )
    .shown_by(end, format!("{} {}", case.name(entry), case.did_end(&ended.status)))
    .not(OWN, "none of the processes that started it is PID 1")
    .relies_on_all(&["exit", "fork"])
    .remedy(REMEDY);
    Some(match killed {
        true => finding,
        false => finding.note(),
    })
}

fn running(case: &Case, entries: &[ProcessId]) -> Option<Finding> {
    let first = *entries.first()?;
    let (end, _) = case.exit(first)?;
    let (forked, who) = started(case, first)?;
    Some(
        Finding::new(format!(
            "{}, which {who} ran in the jail from outside, was still running when PID 1 ended: the kernel killed it \
             with the PID namespace.",
            case.names(entries),
        ))
        .proven()
        .about(entries.iter().copied())
        .shown_by(
            forked,
            format!("{who}, which is outside the jail's PID namespace, started {}", case.name(first)),
        )
        .shown_by(end, format!("{} was killed by SIGKILL", case.name(first)))
        .not(OWN, "who started it is outside the jail")
        .remedy("Expect it: who enters a jail goes with it. End exec sessions before the jail is stopped.")
        .note(),
    )
}

/// Probes go by the cgroup.
fn unwatched(case: &Case) -> Option<Finding> {
    let (event, check) = case.leak_check()?;
    // What the probes saw in the jail was watched, whatever the look at /proc took it for.
    let watched = |task: &Task| {
        let known = case.process_of(task);
        known.is_some_and(|id| case.process(id).in_jail())
    };
    let entered: Vec<&Task> = check.entered.iter().filter(|task| !watched(task)).collect();
    let first = *entered.first()?;
    let more = match entered.len() as u64 - 1 {
        0 => String::new(),
        more => format!(
            " and {}",
            text::plural(more, "other process", "other processes")
        ),
    };
    Some(
        Finding::new(format!(
            "{}{more} ran in the jail's PID namespace but outside its cgroup: procjail did not watch it, \
             and the limits of that cgroup did not apply to it.",
            case.task_name(first)
        ))
        .proven()
        .shown_by(event, "seen in the PID namespace while the jail ran, in another cgroup")
        .not(OWN, "it was in another cgroup than what PID 1 starts")
        .not("a process that was about to join", "it stayed outside for longer than a fifth of a second")
        .remedy(format!(
            "Have what enters the jail join its cgroup first: write its PID to cgroup.procs of {}, or use nsenter \
             --join-cgroup (util-linux 2.40).",
            text::escape(&case.header.jail.cgroup)
        ))
        .note(),
    )
}
