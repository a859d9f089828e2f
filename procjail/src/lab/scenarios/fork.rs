//! No more processes.

use super::memory::play;
use crate::lab::Scenario;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "fork-eagain-pids-max",
        about: "the program makes processes until the jail's limit refuses another",
        options: &["--pids", "8"],
        app: &["fork-until-refused", "30"],
        outside: play,
        never: &[
            "fork-eagain-nproc",
            "fork-eagain-system",
            "fork-enomem",
            "fork-bomb",
        ],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "fork-eagain-nproc",
        about: "the program's user may have no more processes, counted over the whole machine",
        options: &["--user", "54321", "--rlimit", "nproc=8"],
        app: &["fork-until-refused", "30"],
        outside: play,
        never: &[
            "fork-eagain-pids-max",
            "fork-eagain-system",
            "fork-enomem",
            "fork-bomb",
        ],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "fork-bomb",
        about: "each process makes two, until the jail's limit ends it",
        takes_ms: 800,
        options: &["--pids", "60"],
        app: &["fork-bomb", "8"],
        outside: play,
        never: &["fork-eagain-nproc", "oom-fork-bomb"],
        ..Scenario::PLAIN
    },
];
