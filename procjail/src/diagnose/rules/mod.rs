//! The rules, one file or folder for each family. To add one: an entry in its family's `rules` with the list of
//! alternatives, what finds it in the family's analyser, and a scenario in [`crate::lab`].

#[cfg(test)]
mod attached_tests;
mod cgroup;
mod crash;
mod evidence;
mod exec;
mod exit;
mod fork;
#[cfg(test)]
mod fork_tests;
mod fuse;
mod hang;
mod kill;
mod known;
mod leak;
#[cfg(test)]
mod leak_tests;
mod limit;
mod memory;
#[cfg(test)]
mod memory_tests;
mod oom;
mod orphan;
mod refused;
mod reported;
mod setup;
mod signal;
mod stop;
mod story;
mod umount;
mod zombie;

pub(super) use known::Known;

use super::{Family, Rule};

/// All families, in the order in which their findings come where nothing else decides.
pub fn families() -> impl Iterator<Item = &'static Family> {
    FAMILIES.iter()
}

/// All rules, by family.
pub fn all() -> impl Iterator<Item = &'static Rule> {
    families().flat_map(|family| family.rules.iter())
}

/// The rule of that id.
pub fn find(id: &str) -> Option<&'static Rule> {
    all().find(|rule| rule.id == id)
}

/// Whether the lab has a scenario of the rule's name, which makes it happen.
pub fn is_played(id: &str) -> bool {
    !UNPLAYED.contains(&id)
}

/// The rules that no scenario proves: what they find needs hardware, a machine in trouble, or a trace that is cut.
const UNPLAYED: [&str; 17] = [
    "exec-damaged",
    "term-lost-before-exec",
    "term-held-by-tracer",
    "oom-global",
    "oom-cpuset-mempolicy",
    "fork-eagain-system",
    "fork-enomem",
    "kill-kernel-other",
    "timeout-expired",
    "segv-vsyscall",
    "sigbus-hwpoison",
    "hang-d-state-nfs",
    "hang-d-state-block",
    "hang-d-state-driver",
    "evidence-lost",
    "trace-cut-off",
    "attached-late",
];

const FAMILIES: &[Family] = &[
    setup::FAMILY,
    stop::FAMILY,
    oom::FAMILY,
    memory::FAMILY,
    fork::FAMILY,
    kill::FAMILY,
    signal::FAMILY,
    crash::FAMILY,
    limit::FAMILY,
    exec::FAMILY,
    exit::FAMILY,
    zombie::FAMILY,
    orphan::FAMILY,
    hang::FAMILY,
    cgroup::FAMILY,
    leak::FAMILY,
    umount::FAMILY,
    fuse::FAMILY,
    reported::FAMILY,
    story::FAMILY,
    evidence::FAMILY,
];
