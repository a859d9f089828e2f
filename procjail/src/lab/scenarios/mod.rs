//! The scenarios, one file for each family of rules.

mod leak;
mod stop;

use super::Scenario;

pub(super) const FAMILIES: &[&[Scenario]] = &[stop::SCENARIOS, leak::SCENARIOS];
