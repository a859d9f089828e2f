//! How the memory came to be so much: in a leap, or steadily.

use super::kill::{Kill, jail_level, limited, own, percent};
use crate::diagnose::{Case, Confidence, Finding};
use crate::event::{Event, MemorySample};
use crate::render;

/// A leap is a growth of this part of the limit, percent, within [`LEAP_NS`].
const LEAP: u64 = 30;
const LEAP_NS: u64 = 1_000_000_000;
/// Below this any program fills the limit at once, bytes.
const SMALL_BYTES: u64 = 16 << 20;

/// What a sample counts as the program's: cache is dropped when memory is needed.
fn grown(sample: &MemorySample) -> u64 {
    sample
        .kinds
        .anon
        .saturating_add(sample.kinds.shmem)
        .saturating_add(sample.kinds.kernel)
}

/// The jail's memory by the samples up to a kill, and at the kill itself.
fn course<'a>(case: &'a Case, kill: &Kill<'a>) -> Vec<(&'a Event, u64)> {
    let mut course: Vec<(&Event, u64)> = case
        .memory_samples()
        .filter(|(event, _)| event.time_ns <= kill.event.time_ns)
        .map(|(event, sample)| (event, grown(sample)))
        .collect();
    // At the kill only what is in use in all is known: the cache of the last sample is taken off.
    let jail = jail_level(case, &kill.oom.chain).and_then(|own| kill.oom.chain.get(own));
    let cache = case
        .memory_samples()
        .filter(|(event, _)| event.time_ns <= kill.event.time_ns)
        .last()
        .map(|(_, sample)| sample.usage_bytes.saturating_sub(grown(sample)));
    if let (Some(jail), Some(cache)) = (jail, cache) {
        course.push((kill.event, jail.usage_bytes.saturating_sub(cache)));
    }
    course
}

/// The steepest growth within a second: from, to, how much.
fn leap<'a>(course: &[(&'a Event, u64)]) -> Option<(&'a Event, &'a Event, u64)> {
    let mut from = 0;
    let mut best: Option<(&Event, &Event, u64)> = None;
    for (to, (event, bytes)) in course.iter().enumerate() {
        while from < to
            && course
                .get(from)
                .is_some_and(|(early, _)| early.time_ns + LEAP_NS < event.time_ns)
        {
            from += 1;
        }
        let Some((early, before)) = course.get(from) else {
            continue;
        };
        let by = bytes.saturating_sub(*before);
        if best.is_none_or(|(_, _, most)| by > most) {
            best = Some((early, event, by));
        }
    }
    best
}

pub(super) fn spike(case: &Case) -> Vec<Finding> {
    let Some((kill, _)) = limited(case) else {
        return Vec::new();
    };
    let Some(limit) = kill.limit_bytes() else {
        return Vec::new();
    };
    let leapt = |by: u64| percent(by, limit) >= LEAP;
    // A third of next to nothing is no leap.
    if limit < SMALL_BYTES {
        return Vec::new();
    }
    let finding = match leap(&course(case, &kill)) {
        Some((from, to, by)) if leapt(by) => {
            // Before the program there was nothing that could leap.
            let since = from.time_ns.max(case.gate_ns());
            let took = to.time_ns.saturating_sub(since);
            let verdict = spiked(by, took, limit);
            Finding::new(verdict)
                .shown_by(from, "the jail's memory before the leap")
                .shown_by(to, format!("{} more", render::bytes(by)))
        }
        // Without samples: a victim that had not lived for a second had nothing before.
        _ => {
            let Some(victim) = kill.victim else {
                return Vec::new();
            };
            let since = case
                .execs(victim)
                .next_back()
                .map(|(event, _)| event.time_ns)
                .unwrap_or_else(|| case.born_ns(victim));
            let lived = kill.event.time_ns.saturating_sub(since);
            let had = own(&kill.oom.memory);
            if lived > LEAP_NS || !leapt(had) || since == 0 {
                return Vec::new();
            }
            Finding::new(spiked(had, lived, limit)).shown_by(
                kill.event,
                format!(
                    "{} had taken {} in the {} that it lived",
                    kill.name(case),
                    render::bytes(had),
                    render::duration(lived)
                ),
            )
        }
    };
    vec![kill.qualify(finding.proven().remedy(
        "Bound the request or the allocation that does it; a monitor that samples every 15 s cannot see it.",
    ))]
}

fn spiked(by: u64, took_ns: u64, limit: u64) -> String {
    format!(
        "Memory leapt by {} ({}% of the limit) in {}: no slow leak, and too fast for dashboards to show.",
        render::bytes(by),
        percent(by, limit),
        render::duration(took_ns)
    )
}

/// Less than this long is no trend, nanoseconds.
const TREND_NS: u64 = 2_000_000_000;
/// From here on a trend is likely one, and from there it is one, nanoseconds.
const LIKELY_NS: u64 = 60_000_000_000;
const CERTAIN_NS: u64 = 600_000_000_000;
/// Fewest samples that make a line.
const POINTS: usize = 5;

pub(super) fn leak(case: &Case) -> Vec<Finding> {
    let Some((kill, _)) = limited(case) else {
        return Vec::new();
    };
    let Some(limit) = kill.limit_bytes() else {
        return Vec::new();
    };
    let course = course(case, &kill);
    let (Some((first, from)), Some((last, to))) = (course.first(), course.last()) else {
        return Vec::new();
    };
    let took = last.time_ns.saturating_sub(first.time_ns);
    let by = to.saturating_sub(*from);
    let leapt = leap(&course).is_some_and(|(_, _, by)| percent(by, limit) >= LEAP);
    if took < TREND_NS || course.len() < POINTS || leapt || percent(by, limit) < LEAP {
        return Vec::new();
    }
    let points: Vec<(f64, f64)> = course
        .iter()
        .map(|(event, bytes)| {
            (
                event.time_ns.saturating_sub(first.time_ns) as f64 / 1e9,
                *bytes as f64,
            )
        })
        .collect();
    if straightness(&points) < 0.9 {
        return Vec::new();
    }
    let per_minute = (by as f64 / (took as f64 / 60e9)) as u64;
    let confidence = match took {
        CERTAIN_NS.. => Confidence::Proven,
        LIKELY_NS.. => Confidence::Likely,
        _ => Confidence::ConsistentWith,
    };
    vec![
        kill.qualify(
            Finding::new(format!(
                "Memory grew steadily by {} a minute for {}, up to the limit: a leak, or work that piles up.",
                render::bytes(per_minute),
                render::duration(took)
            ))
            .shown_by(first, format!("{} at first", render::bytes(*from)))
            .shown_by(last, format!("{} in the end", render::bytes(*to)))
            .not("cache of files", "it is left out of these numbers")
            .not("a leap", "no second added a third of the limit")
            .confidence(confidence)
            .remedy("Find what grows with a heap profiler; a higher limit only buys time."),
        ),
    ]
}

/// How well a straight line fits (the coefficient of determination), 0 to 1.
fn straightness(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    if count < 2.0 {
        return 0.0;
    }
    let mean = |pick: fn(&(f64, f64)) -> f64| points.iter().map(pick).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(|point| point.0), mean(|point| point.1));
    let sum = |of: &dyn Fn(f64, f64) -> f64| -> f64 {
        points
            .iter()
            .map(|(x, y)| of(x - mean_x, y - mean_y))
            .sum::<f64>()
    };
    let (xy, xx, yy) = (sum(&|x, y| x * y), sum(&|x, _| x * x), sum(&|_, y| y * y));
    match xx > 0.0 && yy > 0.0 {
        true => (xy * xy) / (xx * yy),
        false => 0.0,
    }
}
