//! Signals of pipes, terminals and timers end a process.

use crate::lab::Scenario;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "sigpipe-death",
        about: "`yes | head`: the reader is gone, the writer goes on",
        app: &["pipe"],
        program: "sh",
        never: &["kill-internal", "kill-external"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "sighup-tty-close",
        about: "a terminal is closed while a program runs in it",
        takes_ms: 400,
        app: &["hang-up"],
        program: "terminal",
        never: &["sighup-orphaned-pgrp", "kill-internal"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "sighup-orphaned-pgrp",
        about: "a shell ends while one of its jobs is stopped",
        app: &["orphan-group"],
        program: "init",
        never: &["sighup-tty-close", "kill-internal", "kill-pidns-teardown"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "sigint-foreground",
        about: "Ctrl-C at a terminal with two processes in the foreground",
        takes_ms: 400,
        app: &["ctrl-c"],
        program: "terminal",
        never: &["kill-internal", "kill-external", "sighup-tty-close"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "sigalrm-unhandled",
        about: "a timer expires in a program that has no handler for SIGALRM",
        takes_ms: 300,
        app: &["timer"],
        program: "manager",
        never: &["kill-internal", "kill-external"],
        ..Scenario::PLAIN
    },
];
