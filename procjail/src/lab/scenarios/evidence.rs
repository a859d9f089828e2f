//! What makes the evidence less than it seems.

use super::memory;
use crate::lab::{Failure, Need, Scenario, Stage};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "pid-reused",
        about: "a child gets the number of another one that has ended",
        needs: &[Need::Linux(5, 5)],
        app: &["reuse-pid", "50"],
        never: &["kill-external", "orphan-outlives-parent"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "clock-skew",
        about: "the machine's clock is set forward by an hour while the program runs",
        takes_ms: 300,
        // It is a setting of the whole machine.
        needs: &[Need::Disposable],
        options: &["--stop-timeout", "100ms"],
        app: &["sleep"],
        outside: set_clock,
        never: &["pid-reused"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "kmsg-ratelimited",
        about: "more processes are OOM-killed in five seconds than the kernel log has reports for",
        takes_ms: 8000,
        needs: &[Need::Memory],
        options: &["--memory", "24M"],
        app: &["restart", "16", "40000000"],
        outside: kill_many,
        also: &["oom-own-limit", "oom-repeat-loop"],
        never: &["oom-group-kill", "evidence-lost"],
        ..Scenario::PLAIN
    },
];

fn set_clock(stage: &mut Stage) -> Result<(), Failure> {
    const HOUR_S: i64 = 3600;
    stage.start()?;
    stage.wait_for_line("ready")?;
    shift_clock(HOUR_S).map_err(Failure::of("set the clock"))?;
    stage.undo(|| drop(shift_clock(-HOUR_S)));
    stage.stop()?;
    stage.wait().map(drop)
}

/// Sets the wall clock forward, or back.
fn shift_clock(seconds: i64) -> std::io::Result<()> {
    use nix::sys::time::TimeSpec;
    use nix::time::{ClockId, clock_gettime, clock_settime};
    let now = clock_gettime(ClockId::CLOCK_REALTIME)?;
    let then = TimeSpec::new(now.tv_sec() + seconds, now.tv_nsec());
    Ok(clock_settime(ClockId::CLOCK_REALTIME, then)?)
}

fn kill_many(stage: &mut Stage) -> Result<(), Failure> {
    memory::play(stage)?;
    // Until the kernel log takes reports again, for whoever comes next.
    stage.sleep_ms(5_100);
    Ok(())
}
