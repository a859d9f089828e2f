//! What the kernel log leaves out of itself.

use std::collections::HashSet;

use crate::diagnose::{Case, Confidence, Finding};
use crate::event::{Event, What};
use crate::text;

/// `DEFAULT_RATELIMIT_BURST` and `DEFAULT_RATELIMIT_INTERVAL` (include/linux/ratelimit_types.h), by which
/// oom_kill_process() in mm/oom_kill.c limits its reports.
const BURST: u64 = 10;
const INTERVAL_NS: u64 = 5_000_000_000;
/// What else may have kept a report out of the log, or out of the trace.
pub(super) const OTHER_LIMIT: &str = "lines of the log that were overwritten before they were read";
/// How far the line of the log may lie from the kill's own event, nanoseconds.
const LINE_WINDOW_NS: u64 = 2_000_000_000;

/// Of every OOM kill the kernel log has one line, of the first ones a report as well.
pub(super) fn suppressed(case: &Case) -> Vec<Finding> {
    let reports: Vec<(&Event, u32)> = case
        .each(|what| match what {
            What::KernelOom(oom) => Some(oom.victim_pid),
            _ => None,
        })
        .collect();
    let lines: Vec<(&Event, &str)> = case
        .each(|what| match what {
            What::KernelMessage(message) => Some(message.text.as_str()),
            _ => None,
        })
        .collect();
    // Then there are lines without a report of their own for all but one.
    let as_a_group = lines
        .iter()
        .any(|(_, text)| text.contains("due to memory.oom.group set"));
    if as_a_group || case.counter_growth(0, "memory.events:oom_group_kill") > Some(0) {
        return Vec::new();
    }
    let reported: HashSet<u32> = reports.iter().map(|(_, pid)| *pid).collect();
    let told: Vec<(u32, &Event)> = lines
        .iter()
        .filter_map(|(event, text)| Some((victim_in(text)?, *event)))
        .collect();
    let mut without = Vec::new();
    for (kill, oom) in case.oom_kills() {
        let pid = oom.victim.pid;
        if reported.contains(&pid) {
            continue;
        }
        let from = told.partition_point(|(_, event)| {
            event.time_ns.saturating_add(LINE_WINDOW_NS) < kill.time_ns
        });
        let line = told
            .iter()
            .skip(from)
            .take_while(|(_, event)| event.time_ns <= kill.time_ns.saturating_add(LINE_WINDOW_NS))
            .find(|(victim, _)| *victim == pid);
        if let Some((_, line)) = line {
            without.push((kill, *line));
        }
    }
    let Some((first, line)) = without.first() else {
        return Vec::new();
    };
    let before = reports
        .iter()
        .filter(|(event, _)| {
            event.time_ns <= first.time_ns.saturating_add(LINE_WINDOW_NS)
                && event.time_ns.saturating_add(INTERVAL_NS) >= first.time_ns
        })
        .count() as u64;
    let kills = case.oom_kills().count() as u64;
    let finding = Finding::new(format!(
        "Of {} OOM kills, the kernel log has {} in one line only, without memory statistics and task table.",
        text::count(kills),
        text::count(without.len() as u64),
    ))
    .proven()
    .shown_by(first, "the first OOM kill without a full report, recorded by a probe")
    .shown_by(line, "all that the kernel log has of it")
    .at(first.time_ns)
    .fact(format!(
        "{} in the {} before",
        text::plural(before, "full report", "full reports"),
        text::duration(INTERVAL_NS)
    ))
    .not(
        "victims of a group kill, which have one report together",
        "memory.oom.group was not at work",
    )
    .cause(
        format!(
            "The kernel writes at most {BURST} full reports in {} on the whole machine.",
            text::duration(INTERVAL_NS)
        ),
        Confidence::Proven,
    )
    .remedy(format!(
        "Count OOM kills by oom_kill in {}, not by reports in the log. The first ones have full reports.",
        case.oom_kill_file()
    ));
    // Fewer: other jails' kills may have used the rest up, which are not in this trace.
    vec![match before >= BURST {
        true => finding.not(OTHER_LIMIT, "there were that many right before"),
        false => finding,
    }]
}

/// The victim that a line names: `Memory cgroup out of memory: Killed process 4242 (app) total-vm:…`.
fn victim_in(text: &str) -> Option<u32> {
    let (before, rest) = text.split_once("Killed process ")?;
    if !before.to_ascii_lowercase().contains("out of memory") {
        return None;
    }
    rest.split(|char: char| !char.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Scene, inside, outside};
    use crate::diagnose::Confidence;
    use crate::event::{KernelMessage, KernelOom, What};

    /// So many OOM kills, the first of them with a report.
    fn scene(kills: u32, reports: u32) -> Scene {
        let mut scene = Scene::new(&["app"]);
        for nth in 0..kills {
            let ms = 100 + u64::from(nth) * 50;
            let victim = inside(10 + nth, "worker");
            scene.oom_kill(ms, victim.clone());
            let what = match nth < reports {
                true => What::KernelOom(KernelOom {
                    constraint: "memcg".into(),
                    limit_cgroup: Some("/procjail/web".into()),
                    victim_cgroup: "/procjail/web".into(),
                    victim_pid: victim.pid,
                    kinds: None,
                    processes: Vec::new(),
                    mems_allowed: String::new(),
                }),
                false => line(format!(
                    "Memory cgroup out of memory: Killed process {} (worker) total-vm:100kB",
                    victim.pid
                )),
            };
            scene.at(ms + 1, outside(4100, "procjail"), what);
        }
        scene.exit(60_000, inside(1, "app"), 0, 0);
        scene
    }

    fn line(text: String) -> What {
        What::KernelMessage(KernelMessage { level: 3, text })
    }

    #[test]
    fn kills_beyond_what_the_log_reports_are_told() {
        let (confidence, verdict) = scene(13, 10).expect("kmsg-ratelimited");
        assert_eq!(confidence, Confidence::Proven);
        assert!(
            verdict.starts_with("Of 13 OOM kills, the kernel log has 3 in one line only"),
            "{verdict}"
        );
        // Somebody else's kills were reported, or lines are gone: the fact stays.
        let found = scene(5, 2).verdict("kmsg-ratelimited");
        assert_eq!(found.confidence, Confidence::Proven);
        assert_eq!(found.sure(), Confidence::Likely);
        assert_eq!(
            found.cause.expect("a cause").alternatives,
            [super::OTHER_LIMIT]
        );
    }

    #[test]
    fn a_group_kill_and_reported_kills_are_not() {
        scene(10, 10).expect_no("kmsg-ratelimited");
        let mut group = scene(13, 1);
        let text = "Tasks in /procjail/web are going to be killed due to memory.oom.group set";
        group.at(100, outside(4100, "procjail"), line(text.to_owned()));
        group.expect_no("kmsg-ratelimited");
    }
}
