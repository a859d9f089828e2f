//! Exit codes: who they come from, and what became of them on the way.

mod children;
mod code;
mod passed;
#[cfg(test)]
mod tests;

use crate::diagnose::Rule;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "exit-own-code",
        about: "the program itself returned its exit code",
        find: code::own,
    },
    Rule {
        id: "exit-128n-by-program",
        about: "an exit code above 128 that looks like a signal",
        find: passed::by_program,
    },
    Rule {
        id: "exit-status-laundered",
        about: "a wrapper turned a child's status into another one",
        find: passed::laundered,
    },
    Rule {
        id: "exit-zero-but-worker-died",
        about: "PID 1 returned 0 although a worker had died",
        find: passed::zero,
    },
    Rule {
        id: "exit-wrapped",
        about: "an exit code was cut to eight bits",
        find: code::wrapped,
    },
    Rule {
        id: "exit-127-loader",
        about: "a shared library is missing",
        find: code::loader,
    },
    Rule {
        id: "exit-daemonized",
        about: "the main command went to the background and returned",
        find: children::daemonized,
    },
    Rule {
        id: "status-stolen",
        about: "another wait of the same process collected the child",
        find: children::stolen,
    },
    Rule {
        id: "sigchld-ignored-autoreap",
        about: "SIGCHLD is ignored, so children's statuses are discarded",
        find: children::discarded,
    },
];
