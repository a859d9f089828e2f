//! Processes are killed, each by somebody else.

use std::fs;

use super::stop::stop;
use crate::lab::{Failure, Need, Scenario, Stage};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "kill-after-grace",
        about: "asked to stop, passed on to one process but not to the other, and killed at the end",
        takes_ms: 700,
        options: &["--stop-timeout", "400ms"],
        app: &["forward-to-one"],
        program: "manager",
        outside: stop,
        also: &["term-wrong-target", "exit-137-not-oom"],
        never: &["kill-external", "kill-cgroup-kill", "kill-pidns-teardown"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "kill-external",
        about: "a process outside the jail sends SIGKILL",
        takes_ms: 300,
        app: &["sleep"],
        program: "app",
        outside: kill,
        also: &["exit-137-not-oom", "term-not-sent"],
        never: &["kill-after-grace", "kill-internal", "kill-cgroup-kill"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "kill-internal",
        about: "a manager kills its worker, which does not answer",
        takes_ms: 400,
        app: &["kill-worker"],
        program: "manager",
        never: &["kill-external", "kill-broadcast", "exit-137-not-oom"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "kill-cgroup-kill",
        about: "somebody writes to the cgroup's cgroup.kill",
        takes_ms: 300,
        needs: &[Need::Linux(5, 14)],
        app: &["idle-workers", "3"],
        program: "manager",
        outside: cgroup_kill,
        also: &["exit-137-not-oom"],
        never: &["kill-after-grace", "kill-external", "kill-broadcast"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "kill-broadcast",
        about: "a process calls kill(-1, SIGKILL)",
        takes_ms: 300,
        app: &["kill-all"],
        program: "manager",
        never: &["kill-internal", "kill-cgroup-kill", "kill-pidns-teardown"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "kill-pidns-teardown",
        about: "PID 1 ends while its workers run; the kernel kills them",
        takes_ms: 300,
        app: &["leave-workers", "3"],
        program: "manager",
        never: &["kill-internal", "kill-kernel-other", "kill-ptrace-exitkill"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "kill-pdeathsig",
        about: "the thread that made a process ends, and takes it along; the parent process lives on",
        takes_ms: 400,
        app: &["parent-death"],
        program: "manager",
        never: &["kill-internal", "kill-pidns-teardown"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "kill-ptrace-exitkill",
        about: "a debugger ends, and what it traced ends with it",
        takes_ms: 300,
        app: &["tracer"],
        program: "manager",
        never: &["kill-kernel-other", "kill-pidns-teardown", "kill-pdeathsig"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "exit-137-not-oom",
        about: "exit code 137 under a memory limit, from somebody's SIGKILL",
        takes_ms: 300,
        options: &["--memory", "64M"],
        app: &["sleep"],
        program: "app",
        outside: kill,
        also: &["kill-external"],
        ..Scenario::PLAIN
    },
];

/// SIGKILL for PID 1, from outside.
fn kill(stage: &mut Stage) -> Result<(), Failure> {
    stage.start()?;
    stage.wait_for_line("ready")?;
    stage.signal(stage.pid1()?, libc::SIGKILL)?;
    stage.wait().map(drop)
}

fn cgroup_kill(stage: &mut Stage) -> Result<(), Failure> {
    stage.start()?;
    stage.wait_for_line("ready")?;
    let file = format!("{}/cgroup.kill", stage.header()?.jail.cgroup);
    fs::write(&file, "1").map_err(Failure::of(format!("write {file}")))?;
    stage.wait().map(drop)
}
