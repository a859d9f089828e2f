//! The wall clock against the one that a trace goes by.

use crate::diagnose::{Case, Finding};
use crate::text;

/// Less is what it takes to read two clocks on a busy machine, nanoseconds.
const NOISE_NS: u64 = 100_000_000;
/// adjtimex(2) slews by 500 millionths at most: twice that is a step.
const SLEW: u64 = 1_000;

pub(super) fn skew(case: &Case) -> Vec<Finding> {
    let header = &case.header;
    let Some(footer) = &case.footer else {
        return Vec::new();
    };
    let Some(end_unix_ns) = footer.end_unix_ns else {
        return Vec::new();
    };
    let boot = footer.end_boot_ns.saturating_sub(header.start_boot_ns);
    let wall = i128::from(end_unix_ns) - i128::from(header.start_unix_ns);
    let ahead = wall - i128::from(boot);
    let by = u64::try_from(ahead.unsigned_abs()).unwrap_or(u64::MAX);
    if by < NOISE_NS.saturating_add(boot / SLEW) {
        return Vec::new();
    }
    let way = match ahead > 0 {
        true => "forward",
        false => "back",
    };
    vec![
        Finding::new(format!(
            "The machine's wall clock was set {way} by {} during the run: times of day in logs from before and after it \
             can't be compared. The times in this trace can: they are of another clock.",
            text::duration(by)
        ))
        .proven()
        .at(case.end_ns())
        .fact(format!(
            "CLOCK_BOOTTIME, which nobody can set, went on by {} from the trace's first line to its last",
            text::duration(boot)
        ))
        .fact(match u64::try_from(wall) {
            Ok(wall) => format!("CLOCK_REALTIME went on by {}", text::duration(wall)),
            Err(_) => "CLOCK_REALTIME was earlier at the end than at the start".to_owned(),
        })
        .not(
            "a clock that is being slewed",
            "that changes it by half a thousandth at most",
        )
        .remedy(
            "Find out which program set the time (a time service at its first answer, a hypervisor after a pause, an \
             operator). Programs should measure durations with CLOCK_MONOTONIC.",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Scene, inside};
    use crate::diagnose::Confidence;

    /// A run of 100 seconds during which the wall clock went on by so many nanoseconds.
    fn scene(wall_ns: Option<i64>) -> Scene {
        let mut scene = Scene::new(&["app"]);
        scene.exit(99_000, inside(1, "app"), 0, 0);
        let start = (scene.header.start_boot_ns, scene.header.start_unix_ns);
        let footer = scene.footer.as_mut().expect("a footer");
        footer.end_boot_ns = start.0 + 100_000_000_000;
        footer.end_unix_ns = wall_ns.map(|ns| start.1.saturating_add_signed(ns));
        scene
    }

    #[test]
    fn a_clock_that_was_set_is_told() {
        let (confidence, verdict) = scene(Some(3_700_000_000_000)).expect("clock-skew");
        assert_eq!(confidence, Confidence::Proven);
        assert!(verdict.contains("set forward by 1 h 0 min"), "{verdict}");
        let (_, verdict) = scene(Some(-20_000_000_000)).expect("clock-skew");
        assert!(verdict.contains("set back by 2 min 0 s"), "{verdict}");
    }

    #[test]
    fn a_clock_that_is_slewed_or_unknown_is_none_of_our_business() {
        scene(Some(100_050_000_000)).expect_no("clock-skew");
        scene(Some(99_950_000_000)).expect_no("clock-skew");
        scene(None).expect_no("clock-skew");
    }
}
