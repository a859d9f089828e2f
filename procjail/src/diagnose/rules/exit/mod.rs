//! Exit codes: who they come from, and what became of them on the way.

mod chain;
mod children;
mod code;
#[cfg(test)]
mod decided_tests;
mod documented;
#[cfg(test)]
mod giving_up_tests;
#[cfg(test)]
mod last_act_tests;
mod line;
mod message;
mod own;
mod passed;
mod peer;
pub(super) mod reason;
#[cfg(test)]
mod tests;

use crate::diagnose::{Case, Family, ProcessId, Rank, Rule, Tagged};
use chain::Chain;
pub(super) use chain::{failed_otherwise, main, started};
pub(super) use children::{asked_ns, left};
pub(super) use code::said_not_found;
pub(super) use peer::lost_victim;

pub(super) const FAMILY: Family = Family {
    rules: &[
        Rule {
            id: "exit-own-code",
            about: "the program itself returned its exit code, and there is evidence of the reason",
            alternatives: &[own::HANDLED, passed::OWN],
        },
        Rule {
            id: "exit-128n-by-program",
            about: "an exit code above 128 that looks like a signal",
            alternatives: &[passed::OWN],
        },
        Rule {
            id: "exit-status-laundered",
            about: "a wrapper turned a child's status into another one",
            alternatives: &[passed::OWN],
        },
        Rule {
            id: "exit-zero-but-worker-died",
            about: "PID 1 returned 0 although a worker had died",
            alternatives: &["a status that PID 1 never got"],
        },
        Rule {
            id: "exit-wrapped",
            about: "an exit code was cut to eight bits",
            alternatives: &["a code that the runtime made up"],
        },
        Rule {
            id: "exit-127-loader",
            about: "a shared library is missing",
            alternatives: &["a command that was not found", code::OF_ITS_OWN],
        },
        Rule {
            id: "exit-daemonized",
            about: "the main command went to the background and returned",
            alternatives: &["a crash", "a stop"],
        },
        Rule {
            id: "status-stolen",
            about: "another wait of the same process collected the child",
            alternatives: &["a child that the kernel discarded"],
        },
        Rule {
            id: "sigchld-ignored-autoreap",
            about: "SIGCHLD is ignored, so children's statuses are discarded",
            alternatives: &["a zombie", "a wait elsewhere in the process"],
        },
    ],
    rank: Rank::Problem,
    analyse,
};

/// The processes whose ends led to PID 1's exit code, as far as can be told; none if it is 0 or there is none.
pub(super) fn led_to_end(case: &Case) -> Vec<ProcessId> {
    let Some(main) = main(case) else {
        return Vec::new();
    };
    let chain = Chain::below(case, main);
    let killed = chain.killed.map(|passed| passed.child);
    chain.wrappers.into_iter().chain(killed).collect()
}

/// What there is of this family in a case.
fn analyse(case: &Case) -> Vec<Tagged> {
    let mut found = Vec::new();
    let mut add = |id, findings: Vec<_>| found.extend(findings.into_iter().map(|one| (id, one)));
    if let Some(main) = main(case).filter(|main| started(case, *main)) {
        let chain = Chain::below(case, main);
        add(
            "exit-own-code",
            own::code(case, &chain).into_iter().collect(),
        );
        add(
            "exit-128n-by-program",
            passed::by_program(case, &chain).into_iter().collect(),
        );
        add(
            "exit-status-laundered",
            passed::laundered(case, &chain).into_iter().collect(),
        );
        add("exit-zero-but-worker-died", passed::zero(case, main));
        add(
            "exit-daemonized",
            children::daemonized(case, main).into_iter().collect(),
        );
    }
    add("exit-wrapped", code::wrapped(case));
    add("exit-127-loader", code::loader(case));
    add("status-stolen", children::stolen(case));
    add("sigchld-ignored-autoreap", children::discarded(case));
    found
}
