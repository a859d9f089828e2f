//! Orphans: processes that outlive who made them.

use super::zombie::enter;
use crate::lab::{Failure, Scenario, Stage};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "orphan-outlives-parent",
        about: "a process makes another one and ends; PID 1 inherits and collects it",
        takes_ms: 1_500,
        app: &["orphan"],
        never: &[
            "orphan-exec-session",
            "zombie-pid1-not-reaping",
            "exit-daemonized",
        ],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "orphan-exec-session",
        about: "a command is run in the jail from outside, leaves something in the background and ends",
        takes_ms: 1_700,
        app: &["idle", "1400"],
        outside: session,
        never: &[
            "orphan-outlives-parent",
            "zombie-outside-parent",
            "exit-daemonized",
        ],
        ..Scenario::PLAIN
    },
];

fn session(stage: &mut Stage) -> Result<(), Failure> {
    stage.start()?;
    stage.wait_for_line("ready")?;
    enter(stage, true, 50)?;
    stage.wait().map(drop)
}
