//! The rules, one file for each family. To add one: a function and an entry in its file's `RULES`, and
//! a scenario in [`crate::lab`].

mod evidence;
mod leak;
#[cfg(test)]
mod leak_tests;
mod stop;
mod umount;

use super::Rule;

/// All rules, by family.
pub fn all() -> impl Iterator<Item = &'static Rule> {
    FAMILIES.iter().flat_map(|family| family.iter())
}

/// The rule of that id.
pub fn find(id: &str) -> Option<&'static Rule> {
    all().find(|rule| rule.id == id)
}

const FAMILIES: &[&[Rule]] = &[stop::RULES, leak::RULES, umount::RULES, evidence::RULES];
