//! The scenarios, one file for each family of rules.

mod hang;
mod stop;

use super::Scenario;

pub(super) const FAMILIES: &[&[Scenario]] = &[stop::SCENARIOS, hang::SCENARIOS];
