//! The rules, one file for each family. To add one: a function and an entry in its file's `RULES`, and
//! a scenario in [`crate::lab`].

mod cgroup;
mod crash;
mod evidence;
mod exec;
mod exit;
mod fork;
#[cfg(test)]
mod fork_tests;
mod hang;
mod kill;
mod leak;
#[cfg(test)]
mod leak_tests;
mod limit;
mod memory;
#[cfg(test)]
mod memory_tests;
mod oom;
mod orphan;
mod reported;
mod signal;
mod stop;
mod umount;
mod zombie;

use super::Rule;

/// All rules, by family.
pub fn all() -> impl Iterator<Item = &'static Rule> {
    FAMILIES.iter().flat_map(|family| family.iter())
}

/// The rule of that id.
pub fn find(id: &str) -> Option<&'static Rule> {
    all().find(|rule| rule.id == id)
}

/// Whether a rule is about the evidence, not about the run.
pub fn is_about_evidence(id: &str) -> bool {
    evidence::RULES.iter().any(|rule| rule.id == id)
}

const FAMILIES: &[&[Rule]] = &[
    stop::RULES,
    oom::RULES,
    memory::RULES,
    fork::RULES,
    kill::RULES,
    signal::RULES,
    crash::RULES,
    limit::RULES,
    exec::RULES,
    exit::RULES,
    zombie::RULES,
    orphan::RULES,
    hang::RULES,
    cgroup::RULES,
    leak::RULES,
    umount::RULES,
    reported::RULES,
    evidence::RULES,
];
