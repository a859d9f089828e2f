//! Short of memory without an OOM kill.

use std::process::{Command, Stdio};

use crate::cgroup::HostCgroups;
use crate::lab::{Failure, Need, Scenario, Stage};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "mem-high-throttle",
        about: "above memory.high the program is slowed down until it hardly moves, and never killed",
        takes_ms: 3000,
        needs: &[Need::MemoryV2],
        options: &["--memory-high", "32M", "--stop-timeout", "500ms"],
        app: &["alloc-when-told", "80000000"],
        outside: stopped_after_two_seconds,
        never: &["oom-own-limit", "mem-thrash-no-kill", "mem-high-then-kill"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "mem-high-then-kill",
        about: "the program is slowed down at memory.high, and killed at memory.max",
        takes_ms: 3000,
        needs: &[Need::MemoryV2],
        options: &["--memory-high", "40M", "--memory", "48M"],
        app: &["alloc", "100000000"],
        outside: play,
        also: &["oom-own-limit"],
        never: &["mem-high-throttle"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "mem-thrash-no-kill",
        about: "the program reads a file larger than its limit over and over",
        takes_ms: 4000,
        needs: &[Need::Disk],
        options: &["--memory", "48M"],
        app: &["reread", "{dir}/file", "67108864", "2500"],
        outside: play,
        never: &["oom-own-limit", "mem-high-throttle", "oom-disabled-v1-hang"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "enomem-not-oom",
        about: "the limit of address space refuses what the program asks for; it aborts",
        options: &["--rlimit", "as=512M"],
        app: &["ask", "1073741824"],
        outside: play,
        never: &["oom-own-limit", "oom-inside-runtime", "oom-global"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "kill-userspace-oomd",
        about: "a program named earlyoom kills PID 1; the kernel does not",
        options: &["--memory", "64M"],
        app: &["sleep"],
        outside: killed_by_earlyoom,
        never: &["oom-own-limit", "oom-global", "oom-earlier-not-cause"],
        ..Scenario::PLAIN
    },
];

/// Runs the jail to its end, without swap.
pub(super) fn play(stage: &mut Stage) -> Result<(), Failure> {
    without_swap(stage);
    stage.start()?;
    stage.wait().map(drop)
}

/// Where the machine has swap, a jail with a memory limit may not use it: it would only be slow.
pub(super) fn without_swap(stage: &mut Stage) {
    let has_limit = stage.scenario().options.contains(&"--memory");
    let counts_swap = HostCgroups::detect().is_ok_and(|host| {
        host.v1
            .get("memory")
            .map_or(host.v2_controllers.contains("memory"), |mount| mount.memsw)
    });
    if Need::Swap.check().is_ok() && has_limit && counts_swap {
        stage.option("--swap");
        stage.option("0");
    }
}

fn stopped_after_two_seconds(stage: &mut Stage) -> Result<(), Failure> {
    stage.start()?;
    stage.wait_for_line("ready")?;
    stage.sleep_ms(2000);
    stage.stop()?;
    stage.wait().map(drop)
}

fn killed_by_earlyoom(stage: &mut Stage) -> Result<(), Failure> {
    stage.start()?;
    stage.wait_for_line("ready")?;
    let status = Command::new(stage.program_as("earlyoom")?)
        .args(["misbehave", "kill", "9"])
        .arg(stage.pid1()?.to_string())
        .stdin(Stdio::null())
        .status()
        .map_err(Failure::of("start the killer"))?;
    if !status.success() {
        return Err(Failure::Launcher(format!("the killer failed: {status}")));
    }
    stage.wait().map(drop)
}
