//! The jail's memory over time: by kind, by process, against its limit, with the kills.

use std::collections::HashMap;

use crate::diagnose::Case;
use crate::event::{Event, MemorySample, Task};
use crate::export::moment::Clock;
use crate::text::escape;
use crate::words::words;

/// Most samples that the file has.
const SAMPLES: usize = 2_000;
/// Most processes that have a line of their own.
const PROCESSES: usize = 7;

/// A number of a sample.
type Value = fn(&MemorySample) -> u64;

/// A name and a value for each sample.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) values: Vec<u64>,
}

/// An OOM kill in the curve.
#[derive(Debug)]
pub(super) struct Kill {
    pub(super) seq: u64,
    /// Relative to the gate.
    pub(super) at_ns: i64,
    pub(super) text: String,
}

/// Curves with a common axis of time.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// When each sample was taken, relative to the gate.
    pub(super) at_ns: Vec<i64>,
    pub(super) usage: Vec<u64>,
    /// 0 for none.
    pub(super) limit: Vec<u64>,
    /// Lowest first, as they are stacked.
    pub(super) kinds: Vec<Series>,
    /// The largest first.
    pub(super) processes: Vec<Series>,
    pub(super) kills: Vec<Kill>,
    /// Samples in the trace.
    pub(super) total: usize,
}

impl Memory {
    pub(super) fn of(case: &Case, clock: Clock) -> Self {
        let samples: Vec<(&Event, &MemorySample)> = case.memory_samples().collect();
        let total = samples.len();
        let samples = thinned(samples);
        let each = |value: Value| -> Vec<u64> {
            samples.iter().map(|(_, sample)| value(sample)).collect()
        };
        let kinds: [(&str, Value); 5] = [
            ("anonymous", |sample| sample.kinds.anon),
            ("shmem, tmpfs", |sample| sample.kinds.shmem),
            ("kernel", |sample| sample.kinds.kernel),
            ("socket buffers", |sample| sample.kinds.sock),
            ("file cache", |sample| {
                sample.kinds.file.saturating_sub(sample.kinds.shmem)
            }),
        ];
        let mut kinds: Vec<Series> = kinds
            .into_iter()
            .map(|(name, value)| Series {
                name: name.to_owned(),
                values: each(value),
            })
            .filter(|series| series.values.iter().any(|value| *value > 0))
            .collect();
        let swap = each(|sample| sample.swap_bytes);
        if swap.iter().any(|value| *value > 0) {
            kinds.push(Series {
                name: "swap".to_owned(),
                values: swap,
            });
        }
        let kills = case.oom_kills().map(|(event, _)| Kill {
            seq: event.seq,
            at_ns: clock.since_gate(event.time_ns),
            text: words(event, 0).text,
        });
        Self {
            at_ns: samples
                .iter()
                .map(|(event, _)| clock.since_gate(event.time_ns))
                .collect(),
            usage: each(|sample| sample.usage_bytes),
            limit: each(|sample| sample.limit_bytes.unwrap_or(0)),
            kinds,
            processes: processes(&samples),
            kills: kills.take(SAMPLES).collect(),
            total,
        }
    }

    /// There is a curve: samples at two times at least, and memory in one of them.
    pub(super) fn is_drawn(&self) -> bool {
        self.at_ns.len() > 1 && self.used() > 0
    }

    /// The highest value of the sum or the usage.
    fn used(&self) -> u64 {
        let sums = (0..self.at_ns.len()).map(|at| {
            self.kinds.iter().fold(0u64, |sum, series| {
                sum.saturating_add(series.values.get(at).copied().unwrap_or(0))
            })
        });
        sums.chain(self.usage.iter().copied()).max().unwrap_or(0)
    }

    /// The highest value: of the sum, the usage, or the limit where it is in reach.
    pub(super) fn most(&self) -> u64 {
        let used = self.used();
        let limit = self.limit.iter().copied().max().unwrap_or(0);
        // A limit far above would press the curve flat.
        if limit <= used.saturating_mul(4) {
            used.max(limit)
        } else {
            used
        }
    }
}

/// The highest sample of each stretch, the first and the last.
fn thinned<'a>(samples: Vec<(&'a Event, &'a MemorySample)>) -> Vec<(&'a Event, &'a MemorySample)> {
    if samples.len() <= SAMPLES {
        return samples;
    }
    let stretch = samples.len().div_ceil(SAMPLES - 2);
    let first = samples.first().copied();
    let last = samples.last().copied();
    let highest = samples
        .chunks(stretch)
        .filter_map(|some| some.iter().max_by_key(|(_, sample)| sample.usage_bytes))
        .copied();
    let mut kept: Vec<_> = first.into_iter().chain(highest).chain(last).collect();
    kept.dedup_by_key(|(event, _)| event.seq);
    kept
}

/// The processes that had most at any time.
fn processes(samples: &[(&Event, &MemorySample)]) -> Vec<Series> {
    let key = |task: &Task| (task.pid, task.start_ns);
    let mut most: HashMap<(u32, u64), (u64, &Task)> = HashMap::new();
    for one in samples.iter().flat_map(|(_, sample)| &sample.processes) {
        let entry = most.entry(key(&one.process)).or_insert((0, &one.process));
        *entry = (entry.0.max(one.memory.resident_bytes()), &one.process);
    }
    let mut most: Vec<(u64, &Task)> = most.into_values().collect();
    most.sort_by_key(|(size, task)| (std::cmp::Reverse(*size), task.pid, task.start_ns));
    most.truncate(PROCESSES);
    let mut series: Vec<(Series, (u32, u64))> = most
        .into_iter()
        .filter(|(size, _)| *size > 0)
        .map(|(_, task)| {
            let pid = task.jail_pid.unwrap_or(task.pid);
            let name = format!("{pid} {}", escape(&task.comm));
            let values = vec![0; samples.len()];
            (Series { name, values }, key(task))
        })
        .collect();
    for (at, (_, sample)) in samples.iter().enumerate() {
        for one in &sample.processes {
            let mine = series
                .iter_mut()
                .find(|(_, key_of)| *key_of == key(&one.process));
            if let Some(value) = mine.and_then(|(series, _)| series.values.get_mut(at)) {
                *value = one.memory.resident_bytes();
            }
        }
    }
    series.into_iter().map(|(series, _)| series).collect()
}
