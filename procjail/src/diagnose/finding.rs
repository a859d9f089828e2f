//! What a family of rules hands in: a diagnosis in the making.

use super::case::ProcessId;
use super::model::{CauseClaim, Confidence, Evidence, RuledOut};
use crate::event::Event;

/// A finding and the id of the rule that it belongs to.
pub type Tagged = (&'static str, Finding);

/// What a finding follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follows {
    /// Whatever explains this process.
    Process(ProcessId),
    /// What the rule of that id found, if it found anything.
    Rule(&'static str),
}

/// A diagnosis as its rule sees it: a fact, its cause, and the remedy. The engine weakens it where evidence was
/// lost or an alternative was not excluded, and puts it under what it follows from.
#[derive(Clone, Debug)]
pub struct Finding {
    pub(super) fact: String,
    pub(super) confidence: Confidence,
    pub(super) cause: Option<CauseClaim>,
    pub(super) time_ns: u64,
    pub(super) subjects: Vec<ProcessId>,
    pub(super) follows: Vec<Follows>,
    pub(super) evidence: Vec<Evidence>,
    pub(super) ruled_out: Vec<RuledOut>,
    pub(super) absent: Vec<&'static str>,
    pub(super) is_whole: bool,
    pub(super) remedy: String,
    pub(super) minor: bool,
    pub(super) tells_the_run: bool,
    pub(super) fact_alone: bool,
}

impl Finding {
    /// A fact: what the events say, true in every clause. Names have PIDs and numbers have units. Likely until
    /// [`Self::proven`].
    pub fn new(fact: impl Into<String>) -> Self {
        Self {
            fact: fact.into(),
            confidence: Confidence::Likely,
            cause: None,
            time_ns: 0,
            subjects: Vec::new(),
            follows: Vec::new(),
            evidence: Vec::new(),
            ruled_out: Vec::new(),
            absent: Vec::new(),
            is_whole: false,
            remedy: String::new(),
            minor: false,
            tells_the_run: false,
            fact_alone: false,
        }
    }

    /// All of the fact is in the trace.
    pub fn proven(self) -> Self {
        self.confidence(Confidence::Proven)
    }

    /// The fact would look the same if it were another one.
    pub fn consistent(self) -> Self {
        self.confidence(Confidence::ConsistentWith)
    }

    /// How sure the fact is.
    pub fn confidence(mut self, confidence: Confidence) -> Self {
        self.confidence = confidence;
        self
    }

    /// Why it happened, and how sure that is. Left out where the fact says all. The engine takes it for proven
    /// only if each of the rule's alternatives is ruled out by [`Self::not`].
    pub fn cause(mut self, text: impl Into<String>, confidence: Confidence) -> Self {
        self.cause = Some(CauseClaim {
            text: text.into(),
            confidence,
            alternatives: Vec::new(),
        });
        self
    }

    /// What else the cause could be, the most likely first. Does nothing for a finding without a cause.
    pub fn or(mut self, alternative: impl Into<String>) -> Self {
        if let Some(cause) = &mut self.cause {
            cause.alternatives.push(alternative.into());
        }
        self
    }

    /// Processes whose end or behaviour it explains. What follows from them is shown under it.
    pub fn about(mut self, processes: impl IntoIterator<Item = ProcessId>) -> Self {
        self.subjects.extend(processes);
        self
    }

    /// It follows from what explains that process, or from another rule's finding. May be given more
    /// than once: the first that exists counts.
    pub fn follows(mut self, from: Follows) -> Self {
        self.follows.push(from);
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

    /// Something else that it could have been, as the rule's list names it, and what in this trace excludes it.
    pub fn not(mut self, what: impl Into<String>, because: impl Into<String>) -> Self {
        self.ruled_out.push(RuledOut {
            what: what.into(),
            because: because.into(),
        });
        self
    }

    /// The finding relies on there being no (further) event of these kinds, as named in
    /// [`KINDS`](crate::event::KINDS): where some were lost, it is no longer proven.
    pub fn relies_on_all(mut self, kinds: &[&'static str]) -> Self {
        self.absent.extend(kinds);
        self
    }

    /// What it relies on begins with an event of the trace: events before that, which a late trace lacks, would change
    /// nothing.
    pub fn begins_in_trace(mut self) -> Self {
        self.is_whole = true;
        self
    }

    /// What to do about the cause.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    /// It tells how the run ended, although its family is about the evidence.
    pub fn tells_the_run(mut self) -> Self {
        self.tells_the_run = true;
        self
    }

    /// Where it gives no cause, the rule's alternatives do not apply: they are those of a cause.
    pub fn fact_alone(mut self) -> Self {
        self.fact_alone = true;
        self
    }

    /// It is worth a line, and never the story of the run.
    pub fn note(mut self) -> Self {
        self.minor = true;
        self
    }
}
