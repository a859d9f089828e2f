//! The scenarios, one file for each family of rules.

mod crash;
mod exec;
mod exit;
mod limit;
mod orphan;
mod stop;
mod zombie;

use super::Scenario;

pub(super) const FAMILIES: &[&[Scenario]] = &[
    stop::SCENARIOS,
    crash::SCENARIOS,
    limit::SCENARIOS,
    exec::SCENARIOS,
    exit::SCENARIOS,
    zombie::SCENARIOS,
    orphan::SCENARIOS,
];
