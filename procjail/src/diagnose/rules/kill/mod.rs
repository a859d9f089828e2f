//! Killed: by whom.
//!
//! The number of the signal comes from the exit status, its sender from the signal that was sent, and
//! what is behind it from what the sender was doing: see [`Origin`]. Victims of one cause are told of
//! together.

mod broadcast;
mod kernel;
mod label;
mod stopped;
#[cfg(test)]
mod tests;
mod who;

use crate::diagnose::{Case, Family, Finding, Origin, ProcessId, Rank, Rule, Tagged};
use crate::event::{Event, SignalGenerated};

/// What is asked first of every SIGKILL.
const OOM_KILL: &str = "an OOM kill";

pub(super) const FAMILY: Family = Family {
    rules: &[
        Rule {
            id: "kill-after-grace",
            about: "stopped: a stop signal, then SIGKILL when the grace period expired",
            alternatives: &[OOM_KILL, stopped::ANOTHER],
        },
        Rule {
            id: "kill-external",
            about: "killed by a process outside the jail, without a stop signal before",
            alternatives: &[OOM_KILL, "the end of a grace period"],
        },
        Rule {
            id: "kill-internal",
            about: "killed by another process of the jail: a parent, a supervisor, a sibling, itself",
            alternatives: &[OOM_KILL, "a kill from outside"],
        },
        Rule {
            id: "kill-cgroup-kill",
            about: "all processes of a cgroup were killed by a write to its cgroup.kill",
            alternatives: &["a kill(2) of each", OOM_KILL, "procjail itself"],
        },
        Rule {
            id: "kill-broadcast",
            about: "one process killed many in one go, as kill(-1) and kill(-group) do",
            alternatives: &["one kill(2) for each of them"],
        },
        Rule {
            id: "kill-pidns-teardown",
            about: "PID 1 ended, and the kernel killed all that were left in its PID namespace",
            alternatives: &[OOM_KILL, "a kill by a process"],
        },
        Rule {
            id: "kill-pdeathsig",
            about: "the thread that had made the process ended, and with it went the process (PR_SET_PDEATHSIG)",
            alternatives: &["a kill by the parent", OOM_KILL],
        },
        Rule {
            id: "kill-ptrace-exitkill",
            about: "the tracer of the process ended, and with it went the process (PTRACE_O_EXITKILL)",
            alternatives: &[OOM_KILL, "the end of the PID namespace"],
        },
        Rule {
            id: "kill-kernel-other",
            about: "killed by the kernel, for none of the known reasons",
            alternatives: &[OOM_KILL, "the sysrq key", "a bad page of memory"],
        },
        Rule {
            id: "exit-137-not-oom",
            about: "137 stands for SIGKILL; the OOM killer did not send it",
            alternatives: &[OOM_KILL],
        },
    ],
    rank: Rank::Problem,
    analyse,
};

/// What there is of this family in a case.
fn analyse(case: &Case) -> Vec<Tagged> {
    let mut found = Vec::new();
    found.extend(
        stopped::after_grace(case)
            .into_iter()
            .map(|one| ("kill-after-grace", one)),
    );
    found.extend(
        who::external(case)
            .into_iter()
            .map(|one| ("kill-external", one)),
    );
    found.extend(
        who::internal(case)
            .into_iter()
            .chain(who::aborted(case))
            .map(|one| ("kill-internal", one)),
    );
    found.extend(
        who::cgroup_kill(case)
            .into_iter()
            .map(|one| ("kill-cgroup-kill", one)),
    );
    found.extend(
        broadcast::broadcast(case)
            .into_iter()
            .map(|one| ("kill-broadcast", one)),
    );
    found.extend(
        kernel::namespace_end(case)
            .into_iter()
            .map(|one| ("kill-pidns-teardown", one)),
    );
    found.extend(
        kernel::parent_death(case)
            .into_iter()
            .map(|one| ("kill-pdeathsig", one)),
    );
    found.extend(
        kernel::tracer_end(case)
            .into_iter()
            .map(|one| ("kill-ptrace-exitkill", one)),
    );
    found.extend(
        kernel::other(case)
            .into_iter()
            .map(|one| ("kill-kernel-other", one)),
    );
    found.extend(
        label::not_oom(case)
            .into_iter()
            .map(|one| ("exit-137-not-oom", one)),
    );
    found
}

/// The OOM killers of user space: another rule tells of their kills.
const OOM_DAEMONS: &[&str] = &["systemd-oomd", "earlyoom", "nohang", "kubelet", "oomd"];

/// A process of the jail that a signal ended.
pub(super) struct Death<'a> {
    pub process: ProcessId,
    /// The signal that did it.
    pub event: &'a Event,
    pub signal: &'a SignalGenerated,
    /// Who or what is behind it.
    pub origin: Origin,
}

/// The processes of the jail that were ended by a signal whose sending was seen, in the order of the
/// signals.
pub(super) fn deaths(case: &Case) -> Vec<Death<'_>> {
    let mut deaths: Vec<Death<'_>> = case
        .deaths()
        .into_iter()
        .filter_map(|process| {
            let (event, signal) = case.killing_signal(process)?;
            Some(Death {
                process,
                event,
                signal,
                origin: case.origin(event, signal),
            })
        })
        .collect();
    deaths.sort_by_key(|death| death.event.seq);
    deaths
}

/// The victims of some deaths.
fn victims(deaths: &[&Death<'_>]) -> Vec<ProcessId> {
    deaths.iter().map(|death| death.process).collect()
}

/// The signals of some deaths as evidence: the first few one by one.
fn shown(case: &Case, finding: Finding, deaths: &[&Death<'_>], how: &str) -> Finding {
    const SHOWN: usize = 5;
    let mut finding = finding;
    for death in deaths.iter().take(SHOWN) {
        finding = finding.shown_by(
            death.event,
            format!(
                "{} to {}{how}",
                crate::text::escape(&death.signal.signal.name),
                case.name(death.process)
            ),
        );
    }
    finding = finding.in_order();
    match deaths.len().saturating_sub(SHOWN) {
        0 => finding,
        rest => finding.fact(format!("and {rest} more in the same way")),
    }
}

/// Groups of deaths with the same key, in order of the first of each.
fn grouped<'d, 'a, K: PartialEq + std::hash::Hash + Eq>(
    deaths: impl Iterator<Item = &'d Death<'a>>,
    key: impl Fn(&Death<'a>) -> K,
) -> Vec<Vec<&'d Death<'a>>> {
    let mut groups: Vec<Vec<&Death<'a>>> = Vec::new();
    let mut known: std::collections::HashMap<K, usize> = std::collections::HashMap::new();
    for death in deaths {
        let at = *known.entry(key(death)).or_insert(groups.len());
        match groups.get_mut(at) {
            Some(group) => group.push(death),
            None => groups.push(vec![death]),
        }
    }
    groups
}

/// A word for one or many.
fn was(count: usize) -> &'static str {
    if count == 1 { "was" } else { "were" }
}
