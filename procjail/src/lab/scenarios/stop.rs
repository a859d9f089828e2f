//! A stop is requested, and the program does not stop.

use std::fs;

use crate::lab::{Failure, Scenario, Stage};

/// A grace period that is long enough to look twice into, and no longer.
const WINDOW: &[&str] = &["--stop-timeout", "600ms"];

/// The verdicts on a stop exclude each other; the kill at its end follows from each.
const STOP: Scenario = Scenario {
    takes_ms: 900,
    options: WINDOW,
    program: "app",
    outside: stop,
    also: &["kill-after-grace"],
    never: &["kill-external", "kill-internal"],
    ..Scenario::PLAIN
};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "term-ignored-pid1-default",
        about: "PID 1 has no handler for SIGTERM; it is killed when the grace period expires",
        app: &["sleep"],
        never: &[
            "term-ignored-by-choice",
            "term-blocked",
            "term-stuck-in-shell",
            "stop-signal-mismatch",
            "kill-external",
        ],
        ..STOP
    },
    Scenario {
        id: "term-stuck-in-shell",
        about: "PID 1 is a shell without a trap; the program below it never sees SIGTERM",
        app: &["shell"],
        program: "sh",
        never: &[
            "term-ignored-pid1-default",
            "term-shell-trap-deferred",
            "term-wrapper-not-forwarding",
        ],
        ..STOP
    },
    Scenario {
        id: "term-shell-trap-deferred",
        about: "a shell's trap waits until the command in the foreground has ended",
        options: &["--stop-timeout", "5s"],
        app: &["shell-trap", "800"],
        program: "bash",
        also: &[],
        never: &[
            "kill-after-grace",
            "term-stuck-in-shell",
            "term-handler-no-exit",
            "term-shell-wait-interrupted",
        ],
        ..STOP
    },
    Scenario {
        id: "term-shell-wait-interrupted",
        about: "a trap passes SIGTERM on and ends the shell's wait, and so the program with it",
        takes_ms: 400,
        options: &["--stop-timeout", "5s"],
        app: &["shell-wait"],
        program: "bash",
        also: &["kill-pidns-teardown"],
        never: &[
            "kill-after-grace",
            "term-wrapper-exits-first",
            "term-stuck-in-shell",
        ],
        ..STOP
    },
    Scenario {
        id: "term-blocked",
        about: "SIGTERM is blocked, and nobody waits for it",
        app: &["block"],
        never: &[
            "term-ignored-pid1-default",
            "term-ignored-by-choice",
            "term-pending-stopped",
        ],
        ..STOP
    },
    Scenario {
        id: "term-ignored-inherited",
        about: "a script ignores SIGTERM and executes the program, which goes on ignoring it",
        options: &["--stop-timeout", "600ms"],
        app: &["ignore-exec", "{dir}/app"],
        program: "sh",
        outside: ignore_and_exec,
        never: &[
            "term-ignored-by-choice",
            "term-ignored-pid1-default",
            "term-stuck-in-shell",
        ],
        ..STOP
    },
    Scenario {
        id: "term-ignored-by-choice",
        about: "the program itself ignores SIGTERM",
        app: &["ignore"],
        never: &["term-ignored-inherited", "term-ignored-pid1-default"],
        ..STOP
    },
    Scenario {
        id: "term-handler-no-exit",
        about: "the handler for SIGTERM sets a flag that nobody looks at",
        app: &["handle-only"],
        never: &[
            "term-slow-shutdown",
            "term-blocked",
            "term-shutdown-cpu-throttled",
        ],
        ..STOP
    },
    Scenario {
        id: "term-reraised-pid1",
        about: "the handler sends SIGTERM again with the default action, which the kernel drops for PID 1",
        app: &["reraise"],
        never: &[
            "term-handler-no-exit",
            "term-ignored-pid1-default",
            "term-shutdown-unfinished",
        ],
        ..STOP
    },
    Scenario {
        id: "term-shutdown-unfinished",
        about: "the handler for SIGTERM takes longer than the grace period",
        app: &["stop-late"],
        never: &[
            "term-handler-no-exit",
            "term-deadlock",
            "term-slow-shutdown",
        ],
        ..STOP
    },
    Scenario {
        id: "term-deadlock",
        about: "the handler for SIGTERM waits for a lock that the interrupted code holds",
        app: &["deadlock"],
        never: &["term-handler-no-exit", "term-shutdown-unfinished"],
        ..STOP
    },
    Scenario {
        id: "term-reload",
        about: "the program executes itself anew at SIGTERM, as for a reload",
        app: &["reload"],
        never: &[
            "term-handler-no-exit",
            "term-deadlock",
            "term-lost-before-exec",
        ],
        ..STOP
    },
    Scenario {
        id: "ended-on-request",
        about: "the program takes SIGTERM and ends",
        takes_ms: 300,
        app: &["obey"],
        also: &[],
        never: &["kill-after-grace", "term-handler-no-exit"],
        ..STOP
    },
    Scenario {
        id: "term-slow-shutdown",
        about: "workers are ended one after the other, which takes longer than the grace period",
        app: &["stop-slowly", "12", "100"],
        never: &["term-handler-no-exit", "term-wrong-target"],
        ..STOP
    },
    Scenario {
        id: "term-shutdown-cpu-throttled",
        about: "the shutdown needs CPU time that the CPU limit doesn't give it",
        takes_ms: 4_000,
        options: &["--cpus", "0.02", "--stop-timeout", "2s"],
        app: &["stop-busily", "1000"],
        never: &["term-handler-no-exit", "term-slow-shutdown"],
        ..STOP
    },
    Scenario {
        id: "term-wrapper-not-forwarding",
        about: "a wrapper takes SIGTERM and keeps it from the program below it",
        app: &["wrapper-deaf"],
        program: "npm",
        never: &["term-handler-no-exit", "term-stuck-in-shell"],
        ..STOP
    },
    Scenario {
        id: "term-wrapper-exits-first",
        about: "a wrapper passes SIGTERM on and ends before the program below it",
        takes_ms: 400,
        options: &["--stop-timeout", "5s"],
        app: &["wrapper-hasty"],
        program: "yarn",
        also: &["kill-pidns-teardown"],
        never: &["kill-after-grace", "term-shell-wait-interrupted"],
        ..STOP
    },
    Scenario {
        id: "stop-signal-mismatch",
        about: "the program stops at SIGQUIT, and is sent SIGTERM",
        app: &["handle-quit"],
        never: &["term-ignored-pid1-default"],
        ..STOP
    },
    Scenario {
        id: "term-pending-stopped",
        about: "the program is stopped by SIGSTOP, so its handler for SIGTERM can't run",
        app: &["stopped-child"],
        never: &[
            "term-blocked",
            "term-handler-no-exit",
            "term-pending-uninterruptible",
        ],
        ..STOP
    },
    Scenario {
        id: "term-pending-frozen",
        about: "the cgroup is frozen, so nothing in it can react",
        app: &["obey"],
        outside: freeze,
        never: &[
            "term-pending-uninterruptible",
            "term-blocked",
            "term-handler-no-exit",
        ],
        ..STOP
    },
    Scenario {
        id: "term-pending-uninterruptible",
        about: "the program waits uninterruptibly for its child by vfork",
        app: &["vfork"],
        never: &[
            "term-pending-frozen",
            "term-blocked",
            "term-pending-stopped",
        ],
        ..STOP
    },
    Scenario {
        id: "term-wrong-target",
        about: "SIGTERM goes to a helper, and the main process is killed without ever having got it",
        takes_ms: 500,
        options: &[],
        app: &["two"],
        outside: signal_the_helper,
        also: &["kill-external"],
        never: &["kill-after-grace", "term-not-sent"],
        ..STOP
    },
    Scenario {
        id: "term-not-sent",
        about: "the stop signal is SIGKILL: the program is never asked",
        takes_ms: 300,
        options: &["--stop-signal", "KILL"],
        app: &["obey"],
        also: &[],
        never: &["kill-after-grace", "kill-external"],
        ..STOP
    },
];

/// Waits until the program is ready, asks for a stop as a service manager does, and waits for the end.
pub(super) fn stop(stage: &mut Stage) -> Result<(), Failure> {
    stage.start()?;
    stage.wait_for_line("ready")?;
    // It says so before it goes to sleep.
    stage.sleep_ms(50);
    stage.stop()?;
    stage.wait().map(drop)
}

/// A first SIGTERM shows that the script ignores it, before the program is executed.
fn ignore_and_exec(stage: &mut Stage) -> Result<(), Failure> {
    stage.program_as("app")?;
    stage.start()?;
    stage.wait_for_line("ignoring")?;
    let pid1 = stage.pid1()?;
    stage.signal(pid1, libc::SIGTERM)?;
    stage.signal(pid1, libc::SIGUSR1)?;
    stage.wait_for_line("ready")?;
    stage.stop()?;
    stage.wait().map(drop)
}

fn freeze(stage: &mut Stage) -> Result<(), Failure> {
    stage.start()?;
    stage.wait_for_line("ready")?;
    stage.sleep_ms(50);
    let cgroup = stage.header()?.jail.cgroup;
    let file = format!("{cgroup}/cgroup.freeze");
    fs::write(&file, "1").map_err(Failure::of(format!("write {file}")))?;
    let thaw = file.clone();
    // The jail is gone by then, unless something went wrong.
    stage.undo(move || drop(fs::write(thaw, "0")));
    let events = format!("{cgroup}/cgroup.events");
    stage.poll("the cgroup to freeze", || {
        let text = fs::read_to_string(&events).ok()?;
        text.lines().any(|line| line == "frozen 1").then_some(())
    })?;
    stage.stop()?;
    stage.wait().map(drop)
}

fn signal_the_helper(stage: &mut Stage) -> Result<(), Failure> {
    stage.start()?;
    stage.wait_for_line("ready")?;
    let pid1 = stage.pid1()?;
    let helper = stage.poll("the helper", || {
        let file = format!("/proc/{pid1}/task/{pid1}/children");
        let text = fs::read_to_string(file).ok()?;
        text.split_whitespace().next()?.parse().ok()
    })?;
    stage.signal(helper, libc::SIGTERM)?;
    stage.sleep_ms(200);
    stage.signal(pid1, libc::SIGKILL)?;
    stage.wait().map(drop)
}
