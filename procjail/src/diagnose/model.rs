//! What an explanation is made of.

use std::collections::HashSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The JSON Schema of an explanation; `docs/explanation.schema.json` in the sources.
pub fn schema() -> String {
    crate::trace::schema_of::<Explanation>()
}

/// Version of the form of an [`Explanation`].
pub const EXPLANATION_VERSION: u32 = 2;

/// All that a trace explains, first causes first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    /// [`EXPLANATION_VERSION`] of the writer.
    pub version: u32,
    /// Version of procjail that explained.
    pub procjail: String,
    /// Name of the jail.
    pub jail: String,
    /// APP and its arguments.
    pub command: Vec<String>,
    /// When APP was let go, CLOCK_BOOTTIME nanoseconds: what times are told relative to.
    pub gate_ns: u64,
    /// How PID 1 ended, in words; null if the trace doesn't tell.
    pub ended: Option<String>,
    /// Nothing is missing from the trace.
    pub complete: bool,
    /// What was found. Never empty: where nothing was found, the one entry is `no-finding`.
    pub diagnoses: Vec<Diagnosis>,
    /// Verdicts that this trace can't give, and why.
    pub unavailable: Vec<Unavailable>,
}

impl Explanation {
    /// All diagnoses, each before what followed from it: the order of reading.
    pub fn all(&self) -> impl Iterator<Item = &Diagnosis> {
        let mut waiting: Vec<&Diagnosis> = self.diagnoses.iter().rev().collect();
        std::iter::from_fn(move || {
            let next = waiting.pop()?;
            waiting.extend(next.consequences.iter().rev());
            Some(next)
        })
    }

    /// Numbers of the events that any verdict goes by.
    pub fn cited(&self) -> HashSet<u64> {
        let evidence = self.all().flat_map(|one| &one.evidence);
        evidence.filter_map(|fact| fact.seq).collect()
    }
}

/// One verdict with its evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Diagnosis {
    /// Identifier, such as `oom-own-limit`; see `docs/diagnoses.md`.
    pub id: String,
    /// Whether something went wrong.
    pub rank: Rank,
    /// What the events say.
    pub fact: String,
    /// How sure the fact is.
    pub confidence: Confidence,
    /// Why it happened; null where the fact says all there is to say.
    pub cause: Option<CauseClaim>,
    /// When it happened, CLOCK_BOOTTIME nanoseconds.
    pub time_ns: u64,
    /// Host PIDs of the processes that it is about.
    pub pids: Vec<u32>,
    /// What shows it.
    pub evidence: Vec<Evidence>,
    /// What else it could have been, and what excludes it.
    pub ruled_out: Vec<RuledOut>,
    /// Why it is less sure than the rule could be; empty if it isn't.
    pub weakened: Vec<String>,
    /// What to do about the cause; empty if there is nothing to do.
    pub remedy: String,
    /// Scenario of `procjail lab` that shows the same; null if there is none.
    pub scenario: Option<String>,
    /// What followed from it.
    pub consequences: Vec<Diagnosis>,
}

/// What a finding is to the run. In this order they come where none follows from another; what led to PID 1's end
/// is before the rest.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Rank {
    /// Something went wrong.
    Problem,
    /// How the run went where nothing did: told unless a problem tells PID 1's end.
    Story,
    /// A minor thing.
    Note,
    /// About the trace, not about the run.
    Evidence,
}

impl Diagnosis {
    /// How sure all of it is: the less sure of fact and cause.
    pub fn sure(&self) -> Confidence {
        self.cause.as_ref().map_or(self.confidence, |cause| {
            cause.confidence.min(self.confidence)
        })
    }

    /// Fact and cause as one text, for those who have room for one.
    pub fn verdict(&self) -> String {
        match &self.cause {
            None => self.fact.clone(),
            Some(cause) => format!("{} {}: {}", self.fact, cause.label(), cause.sentence()),
        }
    }
}

/// Why something happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CauseClaim {
    /// One sentence.
    pub text: String,
    /// How sure it is. Proven only if every alternative that the rule knows of is excluded.
    pub confidence: Confidence,
    /// What else it could be, the most likely first; empty for a proven one.
    pub alternatives: Vec<String>,
}

impl CauseClaim {
    /// The cause with what else it could be.
    pub fn sentence(&self) -> String {
        match self.alternatives.as_slice() {
            [] => self.text.clone(),
            others => format!("{} Could also be: {}.", self.text, others.join("; ")),
        }
    }

    /// What it is called, with how sure it is: `Why (likely)`.
    pub fn label(&self) -> String {
        format!("Why ({})", self.confidence.word())
    }
}

/// How sure a verdict is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// The evidence fits, but would fit something else as well.
    ConsistentWith,
    /// One thing that would exclude it could not be checked.
    Likely,
    /// All evidence is there, everything else is excluded, and nothing was lost.
    Proven,
}

impl Confidence {
    /// The word that people are told.
    pub fn word(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::Likely => "likely",
            Self::ConsistentWith => "consistent with the evidence",
        }
    }
}

/// A fact that supports a verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// The event; null for what the header or the footer tell, or for an event's absence.
    pub seq: Option<u64>,
    /// When it happened, CLOCK_BOOTTIME nanoseconds; null as above.
    pub time_ns: Option<u64>,
    /// What it shows.
    pub shows: String,
}

/// An alternative that is excluded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuledOut {
    /// What it could have been.
    pub what: String,
    /// What excludes it.
    pub because: String,
}

/// A verdict that cannot be given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Unavailable {
    /// What cannot be told.
    pub what: String,
    /// Why.
    pub because: String,
}
