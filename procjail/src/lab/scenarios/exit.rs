//! Exit codes that say something else than what happened.

use crate::lab::Scenario;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "exit-own-code",
        about: "the program finds its port taken, and returns 1",
        app: &["used-port"],
        never: &[
            "exit-status-laundered",
            "exit-128n-by-program",
            "exit-wrapped",
            "seccomp-errno",
        ],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "exit-128n-by-program",
        about: "a shell's child is killed by SIGKILL, and the shell returns 137",
        app: &["like-shell", "9"],
        program: "sh",
        never: &[
            "exit-own-code",
            "exit-status-laundered",
            "exit-zero-but-worker-died",
        ],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "exit-status-laundered",
        about: "a wrapper's child is killed by SIGKILL, and the wrapper returns 1",
        app: &["launder", "9", "1"],
        program: "wrapper",
        never: &[
            "exit-own-code",
            "exit-128n-by-program",
            "exit-zero-but-worker-died",
        ],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "exit-zero-but-worker-died",
        about: "a worker is killed by SIGTERM, and PID 1 returns 0",
        app: &["launder", "15", "0"],
        never: &["exit-status-laundered", "exit-daemonized", "exit-own-code"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "exit-daemonized",
        about: "the main command goes to the background and returns",
        app: &["daemonize"],
        never: &[
            "exit-zero-but-worker-died",
            "orphan-outlives-parent",
            "exit-own-code",
        ],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "exit-wrapped",
        about: "the program returns 256, which is told as 0",
        app: &["wrap"],
        never: &["exit-own-code", "exit-zero-but-worker-died"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "exit-code-synthetic",
        about: "the program returns 3, of which a container runtime makes 137",
        app: &["exit", "3"],
        reported: "137",
        never: &["oom-missed-by-runtime", "exit-137-not-oom"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "conflict",
        about: "the program returns 1, which is reported as an OOM kill",
        app: &["exit", "1"],
        reported: "OOMKilled",
        never: &["oom-missed-by-runtime", "exit-code-synthetic"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "runtime-state-stale",
        about: "the program has ended and all is removed, and a container runtime still has it running",
        app: &["exit", "3"],
        reported: "running",
        never: &[
            "exit-code-synthetic",
            "oom-missed-by-runtime",
            "zombie-jail-init-unreaped",
            "hang-pidns-zap",
        ],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "status-stolen",
        about: "a thread that collects any child takes the one that another thread waits for",
        takes_ms: 300,
        app: &["steal"],
        never: &[
            "sigchld-ignored-autoreap",
            "zombie-pid1-not-reaping",
            "exit-own-code",
        ],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "sigchld-ignored-autoreap",
        about: "the program ignores SIGCHLD, and wants its child's status all the same",
        takes_ms: 400,
        app: &["ignore-children"],
        never: &[
            "status-stolen",
            "zombie-pid1-not-reaping",
            "exit-status-laundered",
        ],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "exited-by-itself",
        about: "the program returns 3, and says nothing of why",
        app: &["exit", "3"],
        never: &["exit-own-code", "ended-on-request", "exit-status-laundered"],
        ..Scenario::PLAIN
    },
];
