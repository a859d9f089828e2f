//! The scenarios, one file for each family of rules.

mod kill;
mod signal;
mod stop;

use super::Scenario;

pub(super) const FAMILIES: &[&[Scenario]] = &[stop::SCENARIOS, kill::SCENARIOS, signal::SCENARIOS];
