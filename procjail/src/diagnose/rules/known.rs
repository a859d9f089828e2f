//! What several rules ask of a case, and what takes a while to find: found once.

use std::collections::HashSet;
use std::sync::OnceLock;

use crate::diagnose::{Case, ProcessId, Tagged};

/// Answers that a case keeps. They come of its trace alone, never of what somebody else reported of the run.
#[derive(Clone, Debug, Default)]
pub(in crate::diagnose) struct Known {
    refused: OnceLock<Vec<Tagged>>,
    explained: OnceLock<HashSet<ProcessId>>,
}

/// The findings on refused resources, found by `find` at the first question.
pub(super) fn refused(case: &Case, find: impl FnOnce() -> Vec<Tagged>) -> &[Tagged] {
    case.known.refused.get_or_init(find)
}

/// The processes whose ends others than the rules on exit codes explain, found by `find` at the first question.
pub(super) fn explained(
    case: &Case,
    find: impl FnOnce() -> HashSet<ProcessId>,
) -> &HashSet<ProcessId> {
    case.known.explained.get_or_init(find)
}
