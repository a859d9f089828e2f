//! What kind of program a process runs, by its name: some are known for what they do with signals.

use crate::diagnose::{Case, ProcessId, program_of};

/// Command interpreters.
const SHELLS: &[&str] = &[
    "sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "fish", "busybox",
];
/// Programs that run another one below them, and are known to keep signals to themselves or to leave
/// too early.
const WRAPPERS: &[&str] = &[
    "npm",
    "npx",
    "pnpm",
    "yarn",
    "yarnpkg",
    "supervisord",
    "supervisor",
    "foreman",
    "honcho",
    "nodemon",
    "forever",
    "concurrently",
    "dotenv",
    "sudo",
    "su",
    "time",
];
/// Programs whose first argument is the program.
const INTERPRETERS: &[&str] = &["node", "nodejs", "bun", "python", "python3", "ruby", "perl"];

/// What kind of program a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Shell,
    Wrapper,
    Other,
}

/// By the name of what a process executed last.
pub(super) fn kind(case: &Case, process: ProcessId) -> Kind {
    let Some((_, exec)) = case.program(process) else {
        return Kind::Other;
    };
    let named = |index: usize| {
        exec.argv
            .get(index)
            .map(|argument| program_of(argument).trim_start_matches('-'))
    };
    let name = named(0).unwrap_or(program_of(&exec.filename));
    let script = named(1).filter(|_| INTERPRETERS.contains(&name));
    let is = |list: &[&str]| {
        list.contains(&name)
            || list.contains(&program_of(&exec.filename))
            || script.is_some_and(|script| list.contains(&script.trim_end_matches(".js")))
    };
    match () {
        () if is(WRAPPERS) => Kind::Wrapper,
        () if is(SHELLS) => Kind::Shell,
        () => Kind::Other,
    }
}
