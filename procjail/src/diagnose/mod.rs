//! Why it happened: verdicts with their evidence, from a trace.
//!
//! ```text
//! trace -> Builder -> Case -> rules (pure functions) -> Finding -> engine -> Explanation
//! ```
//!
//! A rule looks at a [`Case`] and hands in [`Finding`]s; it lies in [`rules`], in the file of its
//! family, and is proven by the scenario of the same name in [`crate::lab`]. The [engine](explain) does
//! what is common to all: it weakens verdicts whose evidence may have been lost, puts consequences
//! under their causes, and says what could not be told. The catalogue is `docs/diagnoses.md`.

mod case;
mod catalogue;
mod engine;
mod finding;
#[cfg(test)]
pub(crate) mod fixture;
mod model;
pub mod rules;
#[cfg(test)]
mod tests;

pub use case::{
    Builder, Case, Index, Notice, Origin, PassedOn, Passing, Process, ProcessId, Reported,
    SharedBuilder, is_bad, program_of,
};
pub use catalogue::{catalogue, schema};
pub use engine::explain;
pub use finding::{Cause, Finding};
pub use model::{
    Confidence, Diagnosis, EXPLANATION_VERSION, Evidence, Explanation, RuledOut, Unavailable,
};

/// A rule: what it finds, and how.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Identifier of its diagnoses, such as `oom-own-limit`. The lab's scenario has the same, where
    /// there is one.
    pub id: &'static str,
    /// What it finds, in a few words, for the catalogue.
    pub about: &'static str,
    /// Looks for it. Pure: the same case gives the same findings.
    pub find: fn(&Case) -> Vec<Finding>,
}
