//! Jails that can't be set up.

use crate::lab::{Failure, Scenario, Stage};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    id: "setup-failed",
    about: "the program does not exist in the jail",
    // With it the program is looked for inside, and not before anything is made.
    options: &["--workdir", "/"],
    outside: without_program,
    never: &["exit-own-code", "exit-137-not-oom", "exited-by-itself"],
    ..Scenario::PLAIN
}];

fn without_program(stage: &mut Stage) -> Result<(), Failure> {
    stage.start_with(vec!["/nonexistent/program".to_owned()])?;
    stage.wait().map(drop)
}
