//! How the memory came to be so much: the last phase before the kill, a spike or a steady growth.

use super::Look;
use super::kill::{Kill, held, jail_level, own, percent};
use crate::diagnose::{Case, Confidence, Finding, Tagged};
use crate::event::{Event, MemorySample, ProcessMemory};
use crate::text;

/// A spike is a growth by this part of the limit, percent, within [`SPIKE_NS`] before the kill.
const SPIKE: u64 = 30;
const SPIKE_NS: u64 = 1_000_000_000;
/// Below this any program fills the limit at once, bytes.
const SMALL_BYTES: u64 = 16 << 20;
/// A steady growth adds at least this part of the limit, percent, in at least this time.
const STEADY: u64 = 10;
const STEADY_NS: u64 = 2_000_000_000;
/// From here on a steady growth hardly is a start that takes long, nanoseconds.
const LONG_NS: u64 = 60_000_000_000;
/// Fewest samples that make a line, and how well a line must fit them.
const POINTS: usize = 5;
const STRAIGHT: f64 = 0.95;
/// A step this many times as steep as what follows it is another phase.
const STEEPER: f64 = 5.0;

/// A look at the jail's memory.
#[derive(Clone, Copy)]
struct Point<'a> {
    event: &'a Event,
    /// What counts as the program's, bytes: page cache is dropped when memory is needed.
    bytes: u64,
}

fn grown(sample: &MemorySample) -> u64 {
    sample
        .kinds
        .anon
        .saturating_add(sample.kinds.shmem)
        .saturating_add(sample.kinds.kernel)
        .saturating_add(sample.kinds.sock)
}

/// The jail's memory by the samples up to a kill, and at the kill itself.
fn course<'a>(case: &'a Case, kill: &Kill<'a>) -> Vec<Point<'a>> {
    let mut course: Vec<Point<'_>> = Vec::new();
    let mut cache = None;
    for (event, sample) in case.memory_samples() {
        if event.time_ns > kill.event.time_ns {
            break;
        }
        let bytes = grown(sample);
        cache = Some(sample.usage_bytes.saturating_sub(bytes));
        course.push(Point { event, bytes });
    }
    // At the kill only what is in use in all is known: the cache of the last sample is taken off.
    let jail = jail_level(case, &kill.oom.chain).and_then(|own| kill.oom.chain.get(own));
    if let (Some(jail), Some(cache)) = (jail, cache) {
        course.push(Point {
            event: kill.event,
            bytes: jail.usage_bytes.saturating_sub(cache),
        });
    }
    course
}

/// The growth of the last second, from where it began: what was there at the start of that second may have been
/// there long before.
fn last_second<'a>(course: &[Point<'a>]) -> Option<(Point<'a>, Point<'a>)> {
    let end = *course.last()?;
    let since = end.event.time_ns.saturating_sub(SPIKE_NS);
    let at = course
        .iter()
        .rposition(|point| point.event.time_ns <= since)
        .unwrap_or(0);
    let window = course.get(at..)?;
    let before = window.first()?.bytes;
    let little = before.saturating_add(end.bytes.saturating_sub(before) / 10);
    let start = window.iter().rev().find(|point| point.bytes <= little)?;
    Some((*start, end))
}

/// Where the straight line that ends at the kill begins.
fn line<'a>(course: &[Point<'a>]) -> Option<(usize, Point<'a>, Point<'a>)> {
    let end = *course.last()?;
    let mut sums = Sums::default();
    let mut found = None;
    let mut next: Option<&Point<'_>> = None;
    for (at, point) in course.iter().enumerate().rev() {
        let x = end.event.time_ns.saturating_sub(point.event.time_ns) as f64 / 1e9;
        if let Some(next) = next {
            let seconds = next.event.time_ns.saturating_sub(point.event.time_ns) as f64 / 1e9;
            let step = next.bytes as f64 - point.bytes as f64;
            let mean = (end.bytes as f64 - next.bytes as f64)
                / (end.event.time_ns.saturating_sub(next.event.time_ns) as f64 / 1e9).max(1e-9);
            if sums.count >= POINTS as f64 && step > STEEPER * mean.max(0.0) * seconds {
                break;
            }
        }
        sums.add(x, point.bytes as f64);
        next = Some(point);
        let long = x * 1e9 >= STEADY_NS as f64;
        if course.len() - at >= POINTS && long && sums.straightness() >= STRAIGHT {
            found = Some((at, *point, end));
        }
    }
    found
}

/// What a straight line through points is judged by.
#[derive(Default)]
struct Sums {
    count: f64,
    x: f64,
    y: f64,
    xx: f64,
    yy: f64,
    xy: f64,
}

impl Sums {
    fn add(&mut self, x: f64, y: f64) {
        // Mebibytes: bytes squared would cost precision.
        let y = y / f64::from(1 << 20);
        self.count += 1.0;
        self.x += x;
        self.y += y;
        self.xx += x * x;
        self.yy += y * y;
        self.xy += x * y;
    }

    /// How well a straight line fits (the coefficient of determination), 0 to 1.
    fn straightness(&self) -> f64 {
        let xy = self.count * self.xy - self.x * self.y;
        let xx = self.count * self.xx - self.x * self.x;
        let yy = self.count * self.yy - self.y * self.y;
        match xx > 0.0 && yy > 0.0 {
            true => (xy * xy) / (xx * yy),
            false => 0.0,
        }
    }
}

/// The last phase before the first kill by a limit.
pub(super) fn analyse(look: &Look<'_>) -> Vec<Tagged> {
    let Some((kill, _)) = &look.first else {
        return Vec::new();
    };
    let Some(limit) = kill.limit_bytes() else {
        return Vec::new();
    };
    let course = course(look.case, kill);
    let spike = spike(look.case, kill, &course, limit);
    let finding = match spike {
        Some(finding) => Some(("mem-growth-spike", finding)),
        None => steady(look.case, kill, &course, limit).map(|finding| ("mem-growth-leak", finding)),
    };
    finding
        .map(|(id, finding)| (id, kill.qualify(finding)))
        .into_iter()
        .collect()
}

fn spike(case: &Case, kill: &Kill<'_>, course: &[Point<'_>], limit: u64) -> Option<Finding> {
    // A third of next to nothing is no spike.
    if limit < SMALL_BYTES {
        return None;
    }
    if let Some((from, to)) = last_second(course) {
        let by = to.bytes.saturating_sub(from.bytes);
        if percent(by, limit) >= SPIKE {
            // Before the program there was nothing that could grow.
            let since = from.event.time_ns.max(case.gate_ns());
            let took = to.event.time_ns.saturating_sub(since);
            let finding = spiked(by, took, limit, who_grew(case, kill, from.event, by))
                .shown_by(
                    from.event,
                    format!("{} in use by the program", text::bytes(from.bytes)),
                )
                .shown_by(to.event, format!("{} more", text::bytes(by)));
            return Some(finding);
        }
        if course.len() > 2 {
            return None;
        }
    }
    // Without samples: a victim that had not lived for a second had nothing before.
    let victim = kill.victim?;
    let since = case
        .execs(victim)
        .next_back()
        .map_or_else(|| case.born_ns(victim), |(event, _)| case.began_ns(event));
    let lived = kill.event.time_ns.saturating_sub(since);
    let had = own(&kill.oom.memory);
    if lived > SPIKE_NS || percent(had, limit) < SPIKE || since == 0 {
        return None;
    }
    Some(spiked(had, lived, limit, None).shown_by(
        kill.event,
        format!(
            "{} had taken {} since its start {} before",
            kill.name(case),
            text::bytes(had),
            text::duration(lived)
        ),
    ))
}

fn spiked(by: u64, took_ns: u64, limit: u64, who: Option<String>) -> Finding {
    Finding::new(format!(
        "Memory usage spiked by {} ({}% of the limit) {}{}.",
        text::bytes(by),
        percent(by, limit),
        // Without a sample in between nothing tells how long it took: it was not there in the last one.
        match took_ns > SPIKE_NS / 2 * 3 {
            true => format!(
                "right before the kill, which nothing showed {} earlier",
                text::duration(took_ns)
            ),
            false => format!("within {} before the kill", text::duration(took_ns)),
        },
        who.map_or_else(String::new, |who| format!("; {who}"))
    ))
    .proven()
    .not("page cache that fills up", "it is left out of these numbers")
    .remedy(
        "Bound the request or the allocation that does it. A monitor that samples every 15 s cannot see it.",
    )
}

fn steady(case: &Case, kill: &Kill<'_>, course: &[Point<'_>], limit: u64) -> Option<Finding> {
    let (at, from, to) = line(course)?;
    let by = to.bytes.saturating_sub(from.bytes);
    if percent(by, limit) < STEADY {
        return None;
    }
    let took = to.event.time_ns.saturating_sub(from.event.time_ns);
    let before = match course.get(..at).and_then(<[_]>::first) {
        Some(first) if from.bytes > first.bytes => format!(
            ", after it had reached {} in the {} before",
            text::bytes(from.bytes),
            text::duration(
                from.event
                    .time_ns
                    .saturating_sub(first.event.time_ns.max(case.gate_ns()))
            )
        ),
        _ => String::new(),
    };
    let who =
        who_grew(case, kill, from.event, by).map_or_else(String::new, |who| format!("; {who}"));
    let finding = Finding::new(format!(
        "Memory usage grew steadily by {} over {} ({}) up to the kill{before}{who}.",
        text::bytes(by),
        text::duration(took),
        rate(by, took)
    ))
    .proven()
    .shown_by(
        from.event,
        format!("{} in use by the program", text::bytes(from.bytes)),
    )
    .shown_by(to.event, format!("{} in the end", text::bytes(to.bytes)))
    .not(
        "page cache that fills up",
        "it is left out of these numbers",
    )
    .cause(
        "A leak.",
        match took {
            LONG_NS.. => Confidence::Likely,
            _ => Confidence::ConsistentWith,
        },
    )
    .or("work that piles up faster than it is done")
    .or("a cache of the program's own that fills up");
    let finding = match took {
        LONG_NS.. => finding,
        _ => finding.or("a start that would have ended at a size above the limit"),
    };
    Some(finding.remedy(
        "Find what grows with a heap profiler: a higher limit only buys time if it grows without end, and is \
         enough if it ends.",
    ))
}

/// By the second for what took less than a minute: more would be extrapolated.
fn rate(by: u64, took_ns: u64) -> String {
    let per = |unit: f64| text::bytes((by as f64 / (took_ns as f64 / unit).max(1e-9)) as u64);
    match took_ns {
        LONG_NS.. => format!("{} a minute", per(60e9)),
        _ => format!("{} a second", per(1e9)),
    }
}

/// The process that grew most from a sample to the kill, if that makes up most of the growth.
fn who_grew(case: &Case, kill: &Kill<'_>, from: &Event, all_bytes: u64) -> Option<String> {
    let (_, sample) = case
        .memory_samples()
        .find(|(event, sample)| event.seq == from.seq && !sample.processes.is_empty())?;
    let before = |pid: u32| {
        sample
            .processes
            .iter()
            .find(|one| one.process.pid == pid)
            // A sample has the largest alone.
            .or(sample.processes.get(7))
            .map_or(0, |one| held(&one.memory))
    };
    let victim = (&kill.oom.victim, &kill.oom.memory);
    let others = kill
        .log
        .into_iter()
        .flat_map(|(_, log)| log.processes.iter().map(|one| (&one.process, &one.memory)));
    let growth = |(task, memory): &(&crate::event::Task, &ProcessMemory)| {
        held(memory).saturating_sub(before(task.pid))
    };
    let most = std::iter::once(victim)
        .chain(others.filter(|(task, _)| task.pid != victim.0.pid))
        .max_by_key(growth)?;
    let by = growth(&most);
    (by > 0 && percent(by, all_bytes) >= 60)
        .then(|| format!("{} grew by {}", case.task_name(most.0), text::bytes(by)))
}
