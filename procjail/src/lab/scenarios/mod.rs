//! The scenarios, one file for each family of rules.

mod fork;
mod kill;
mod memory;
mod oom;
mod signal;
mod stop;

use super::Scenario;

pub(super) const FAMILIES: &[&[Scenario]] = &[
    stop::SCENARIOS,
    oom::SCENARIOS,
    memory::SCENARIOS,
    fork::SCENARIOS,
    kill::SCENARIOS,
    signal::SCENARIOS,
];
