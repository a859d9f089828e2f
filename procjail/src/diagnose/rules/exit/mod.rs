//! Exit codes: who they come from, and what became of them on the way.

mod children;
mod code;
mod passed;
#[cfg(test)]
mod tests;

use crate::diagnose::{Case, Family, Rank, Rule, Tagged};

pub(super) const FAMILY: Family = Family {
    rules: &[
        Rule {
            id: "exit-own-code",
            about: "the program itself returned its exit code",
            alternatives: &[],
        },
        Rule {
            id: "exit-128n-by-program",
            about: "an exit code above 128 that looks like a signal",
            alternatives: &[],
        },
        Rule {
            id: "exit-status-laundered",
            about: "a wrapper turned a child's status into another one",
            alternatives: &[],
        },
        Rule {
            id: "exit-zero-but-worker-died",
            about: "PID 1 returned 0 although a worker had died",
            alternatives: &[],
        },
        Rule {
            id: "exit-wrapped",
            about: "an exit code was cut to eight bits",
            alternatives: &[],
        },
        Rule {
            id: "exit-127-loader",
            about: "a shared library is missing",
            alternatives: &[],
        },
        Rule {
            id: "exit-daemonized",
            about: "the main command went to the background and returned",
            alternatives: &[],
        },
        Rule {
            id: "status-stolen",
            about: "another wait of the same process collected the child",
            alternatives: &[],
        },
        Rule {
            id: "sigchld-ignored-autoreap",
            about: "SIGCHLD is ignored, so children's statuses are discarded",
            alternatives: &[],
        },
    ],
    rank: Rank::Problem,
    analyse,
};

/// What there is of this family in a case.
fn analyse(case: &Case) -> Vec<Tagged> {
    let mut found = Vec::new();
    found.extend(
        code::own(case)
            .into_iter()
            .map(|one| ("exit-own-code", one)),
    );
    found.extend(
        passed::by_program(case)
            .into_iter()
            .map(|one| ("exit-128n-by-program", one)),
    );
    found.extend(
        passed::laundered(case)
            .into_iter()
            .map(|one| ("exit-status-laundered", one)),
    );
    found.extend(
        passed::zero(case)
            .into_iter()
            .map(|one| ("exit-zero-but-worker-died", one)),
    );
    found.extend(
        code::wrapped(case)
            .into_iter()
            .map(|one| ("exit-wrapped", one)),
    );
    found.extend(
        code::loader(case)
            .into_iter()
            .map(|one| ("exit-127-loader", one)),
    );
    found.extend(
        children::daemonized(case)
            .into_iter()
            .map(|one| ("exit-daemonized", one)),
    );
    found.extend(
        children::stolen(case)
            .into_iter()
            .map(|one| ("status-stolen", one)),
    );
    found.extend(
        children::discarded(case)
            .into_iter()
            .map(|one| ("sigchld-ignored-autoreap", one)),
    );
    found
}
