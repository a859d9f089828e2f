//! A stop is requested, and the program does not stop.

use crate::lab::{Failure, Scenario, Stage};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    id: "term-ignored-pid1-default",
    about: "PID 1 has no handler for SIGTERM; it is killed when the stop window is over",
    takes_ms: 700,
    options: &["--stop-timeout", "500ms"],
    app: &["sleep"],
    outside: stop,
    ..Scenario::PLAIN
}];

/// Waits until the program is ready, asks for a stop as a service manager does, and waits for the end.
pub(super) fn stop(stage: &mut Stage) -> Result<(), Failure> {
    stage.start()?;
    stage.wait_for_line("ready")?;
    stage.stop()?;
    stage.wait().map(drop)
}
