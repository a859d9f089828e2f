//! The scenarios, one file for each family of rules.

mod crash;
mod evidence;
mod exec;
mod exit;
mod fork;
mod hang;
mod kill;
mod leak;
mod limit;
mod memory;
mod oom;
mod orphan;
mod setup;
mod signal;
mod stop;
mod zombie;

use super::Scenario;

pub(super) const FAMILIES: &[&[Scenario]] = &[
    stop::SCENARIOS,
    oom::SCENARIOS,
    memory::SCENARIOS,
    fork::SCENARIOS,
    kill::SCENARIOS,
    signal::SCENARIOS,
    crash::SCENARIOS,
    limit::SCENARIOS,
    setup::SCENARIOS,
    exec::SCENARIOS,
    exit::SCENARIOS,
    zombie::SCENARIOS,
    orphan::SCENARIOS,
    hang::SCENARIOS,
    leak::SCENARIOS,
    evidence::SCENARIOS,
];
