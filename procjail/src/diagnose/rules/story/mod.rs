//! How the run went, where nothing went wrong: every explanation begins with a sentence that tells it.

mod itself;
mod requested;

use super::exit;
use super::stop::attempt::asks_to_stop;
use crate::diagnose::{Case, Family, Rank, Rule, Tagged};

pub(super) const FAMILY: Family = Family {
    rules: &[
        Rule {
            id: "ended-on-request",
            about: "PID 1 was asked to stop, and did",
            alternatives: &["a kill at the end of the grace period", requested::ELSE],
        },
        Rule {
            id: "exited-by-itself",
            about: "PID 1 exited, and nobody had asked it to",
            alternatives: &["a signal", "a stop"],
        },
    ],
    rank: Rank::Story,
    analyse,
};

/// The run did what it was to do: its program returned 0, or ended as it was asked to.
pub(super) fn went_well(case: &Case) -> bool {
    let status = exit::main(case).and_then(|main| case.status(main));
    status.is_some_and(|status| match status.code {
        Some(0) => true,
        Some(code) => asks_to_stop(code - 128) && requested::ended(case).is_some(),
        None => requested::ended(case).is_some(),
    })
}

/// What there is of this family in a case.
fn analyse(case: &Case) -> Vec<Tagged> {
    match requested::ended(case) {
        Some(finding) => vec![("ended-on-request", finding)],
        None => itself::exited(case)
            .into_iter()
            .map(|finding| ("exited-by-itself", finding))
            .collect(),
    }
}
