//! Why it happened: verdicts with their evidence, from a trace.
//!
//! ```text
//! trace -> Builder -> Case -> families of rules (pure functions) -> Finding -> engine -> Explanation
//! ```
//!
//! A rule looks at a [`Case`] and hands in [`Finding`]s; it lies in [`rules`], in the file of its
//! family, and is proven by the scenario of the same name in [`crate::lab`]. The [engine](explain) does
//! what is common to all: it weakens verdicts whose evidence may have been lost, puts consequences
//! under their causes, and says what could not be told. The catalogue is `docs/diagnoses.md`.

mod case;
mod engine;
mod errno;
mod finding;
#[cfg(test)]
pub(crate) mod fixture;
mod model;
pub mod rules;
#[cfg(test)]
mod tests;

pub use case::{
    Builder, Case, Index, Limit, Notice, Origin, PassedOn, Passing, Process, ProcessId, Reported,
    SharedBuilder, is_bad, program_of,
};
pub use engine::explain;
pub use finding::{Finding, Follows, Tagged};
pub use model::{
    CauseClaim, Confidence, Diagnosis, EXPLANATION_VERSION, Evidence, Explanation, Rank, RuledOut,
    Unavailable, schema,
};

/// A rule: what it finds, and what else that could be.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Identifier of its diagnoses, such as `oom-own-limit`. The lab's scenario has the same, where
    /// there is one.
    pub id: &'static str,
    /// What it finds, in a few words, for the catalogue.
    pub about: &'static str,
    /// What else could look the same. A cause, or a fact that stands without one, is proven only if the finding
    /// excludes each of them by name ([`Finding::not`]). Never empty.
    pub alternatives: &'static [&'static str],
}

/// Rules that look at the same things.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// The rules.
    pub rules: &'static [Rule],
    /// Where its findings come.
    pub rank: Rank,
    /// Looks at a case once, for all of the rules. Pure: the same case gives the same findings.
    pub analyse: fn(&Case) -> Vec<Tagged>,
}

#[cfg(test)]
impl Family {
    /// What the rule of that id finds.
    pub(crate) fn find(&self, id: &str, case: &Case) -> Vec<Finding> {
        assert!(
            self.rules.iter().any(|rule| rule.id == id),
            "there is no rule {id}"
        );
        let found = (self.analyse)(case).into_iter();
        found
            .filter(|(of, _)| *of == id)
            .map(|(_, one)| one)
            .collect()
    }

    /// The ids of all that is found.
    pub(crate) fn ids(&self, case: &Case) -> Vec<&'static str> {
        (self.analyse)(case).into_iter().map(|(id, _)| id).collect()
    }
}
