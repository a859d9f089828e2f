//! Zombies: processes that ended and that nobody collects.

use crate::lab::{Failure, Scenario, Stage};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "zombie-pid1-not-reaping",
        about: "PID 1 inherits orphans and never collects them",
        takes_ms: 1_500,
        app: &["neglect-orphans"],
        never: &[
            "zombie-parent-not-reaping",
            "zombie-traced",
            "orphan-outlives-parent",
            "sigchld-ignored-autoreap",
        ],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "zombie-parent-not-reaping",
        about: "a process below PID 1 does not collect its children",
        takes_ms: 1_500,
        app: &["neglect-children"],
        never: &[
            "zombie-pid1-not-reaping",
            "zombie-traced",
            "sigchld-ignored-autoreap",
        ],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "zombie-leader-live-threads",
        about: "the main thread ends, and another one goes on",
        takes_ms: 1_500,
        options: &["--threads"],
        app: &["leave-main-thread"],
        never: &[
            "zombie-pid1-not-reaping",
            "zombie-parent-not-reaping",
            "seccomp-thread-killed",
        ],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "zombie-traced",
        about: "a process traces another one, which ends, and does not wait for it",
        takes_ms: 1_600,
        app: &["trace-and-forget"],
        never: &["zombie-pid1-not-reaping", "zombie-parent-not-reaping"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "zombie-outside-parent",
        about: "a process enters from outside and ends; its parent outside does not collect it, and PID 1 waits",
        takes_ms: 2_500,
        app: &["idle", "600"],
        outside: entered,
        never: &[
            "zombie-pid1-not-reaping",
            "zombie-jail-init-unreaped",
            "orphan-exec-session",
        ],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "zombie-jail-init-unreaped",
        about: "PID 1 ends while its parent is stopped",
        takes_ms: 2_000,
        app: &["idle", "100"],
        outside: stopped_launcher,
        never: &["zombie-outside-parent", "zombie-pid1-not-reaping"],
        ..Scenario::PLAIN
    },
];

/// Somebody enters the jail, and has more to do before it collects what it started there.
fn entered(stage: &mut Stage) -> Result<(), Failure> {
    stage.start()?;
    stage.wait_for_line("ready")?;
    enter(stage, false, 2_000)?;
    stage.wait().map(drop)
}

/// Runs a process in the jail from outside, which ends at once.
pub(super) fn enter(stage: &mut Stage, leaves: bool, ms: u64) -> Result<(), Failure> {
    let jail = stage.header()?.jail;
    let leaves = u8::from(leaves).to_string();
    stage.run_outside(&[
        "enter",
        &jail.pid.to_string(),
        &jail.cgroup,
        &leaves,
        &ms.to_string(),
    ])
}

/// The launcher is stopped for longer than PID 1 lives.
fn stopped_launcher(stage: &mut Stage) -> Result<(), Failure> {
    stage.start()?;
    stage.wait_for_line("ready")?;
    stage.signal(stage.launcher_pid(), libc::SIGSTOP)?;
    stage.sleep_ms(1_500);
    stage.signal(stage.launcher_pid(), libc::SIGCONT)?;
    stage.wait().map(drop)
}
