//! What a rule hands in: a diagnosis in the making.

use super::case::ProcessId;
use super::model::{Confidence, Evidence, RuledOut};
use crate::event::Event;

/// What a finding follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Whatever explains this process.
    Process(ProcessId),
    /// What the rule of that id found, if it found anything.
    Rule(&'static str),
}

/// A diagnosis as its rule sees it. The engine weakens it where evidence was lost, and puts it under
/// its cause.
#[derive(Clone, Debug)]
pub struct Finding {
    pub(super) verdict: String,
    pub(super) confidence: Confidence,
    pub(super) time_ns: u64,
    pub(super) subjects: Vec<ProcessId>,
    pub(super) causes: Vec<Cause>,
    pub(super) evidence: Vec<Evidence>,
    pub(super) ruled_out: Vec<RuledOut>,
    pub(super) absent: Vec<&'static str>,
    pub(super) fix: String,
}

impl Finding {
    /// A verdict: what an engineer would say, with names and numbers. Likely until [`Self::proven`].
    pub fn new(verdict: impl Into<String>) -> Self {
        Self {
            verdict: verdict.into(),
            confidence: Confidence::Likely,
            time_ns: 0,
            subjects: Vec::new(),
            causes: Vec::new(),
            evidence: Vec::new(),
            ruled_out: Vec::new(),
            absent: Vec::new(),
            fix: String::new(),
        }
    }

    /// All evidence is there and everything else is excluded.
    pub fn proven(self) -> Self {
        self.confidence(Confidence::Proven)
    }

    /// It would fit something else as well.
    pub fn consistent(self) -> Self {
        self.confidence(Confidence::ConsistentWith)
    }

    /// How sure it is.
    pub fn confidence(mut self, confidence: Confidence) -> Self {
        self.confidence = confidence;
        self
    }

    /// Processes whose end or behaviour it explains. What follows from them is shown under it.
    pub fn about(mut self, processes: impl IntoIterator<Item = ProcessId>) -> Self {
        self.subjects.extend(processes);
        self
    }

    /// It follows from what explains that process, or from another rule's finding. May be given more
    /// than once: the first that exists counts.
    pub fn because_of(mut self, cause: Cause) -> Self {
        self.causes.push(cause);
        self
    }

    /// An event that shows it. The first one given is when it happened.
    pub fn shown_by(mut self, event: &Event, shows: impl Into<String>) -> Self {
        if self.time_ns == 0 {
            self.time_ns = event.time_ns;
        }
        self.evidence.push(Evidence {
            seq: Some(event.seq),
            time_ns: Some(event.time_ns),
            shows: shows.into(),
        });
        self
    }

    /// A fact that is no event: a limit, a count, an absence.
    pub fn fact(mut self, shows: impl Into<String>) -> Self {
        self.evidence.push(Evidence {
            seq: None,
            time_ns: None,
            shows: shows.into(),
        });
        self
    }

    /// Puts the events in order of time, and the other facts after them.
    pub fn in_order(mut self) -> Self {
        self.evidence
            .sort_by_key(|one| one.seq.map_or(u64::MAX, |seq| seq));
        self
    }

    /// When it happened, where that is not the first event's time.
    pub fn at(mut self, time_ns: u64) -> Self {
        self.time_ns = time_ns;
        self
    }

    /// Something else that it could have been, and what excludes it.
    pub fn not(mut self, what: impl Into<String>, because: impl Into<String>) -> Self {
        self.ruled_out.push(RuledOut {
            what: what.into(),
            because: because.into(),
        });
        self
    }

    /// The verdict relies on there being no (further) event of these kinds, as named in
    /// [`KINDS`](crate::event::KINDS): where some were lost, it is no longer proven.
    pub fn relies_on_all(mut self, kinds: &[&'static str]) -> Self {
        self.absent.extend(kinds);
        self
    }

    /// What to do about it.
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = fix.into();
        self
    }
}
