//! Processes that make processes without end.

use std::collections::BTreeMap;

use crate::diagnose::{Case, Finding, ProcessId};
use crate::text;

/// So many processes made within [`BURST_NS`] are a burst.
const BURST: usize = 24;
const BURST_NS: u64 = 1_000_000_000;
/// So many generations, each made by the one before, are no pool of workers.
const GENERATIONS: usize = 4;

/// The busiest second, if it is one of a fork bomb.
pub(super) fn bomb(case: &Case) -> Vec<Finding> {
    let mut births: Vec<(u64, ProcessId)> = case
        .processes()
        .filter(|(_, process)| process.in_jail() && process.forked.is_some())
        .map(|(id, _)| (case.born_ns(id), id))
        .collect();
    births.sort();
    let mut depths: BTreeMap<ProcessId, usize> = BTreeMap::new();
    let mut makers: BTreeMap<ProcessId, usize> = BTreeMap::new();
    for (_, id) in &births {
        let process = case.process(*id);
        // One that executed another program is not the bomb's: a shell that starts commands is none.
        let same = process
            .creator
            .is_some_and(|creator| case.process(creator).task.comm == process.task.comm);
        let depth = process
            .creator
            .filter(|_| same)
            .map_or(0, |creator| depths.get(&creator).copied().unwrap_or(0) + 1);
        depths.insert(*id, depth);
        if let Some(creator) = process.creator.filter(|_| same) {
            *makers.entry(creator).or_default() += 1;
        }
    }
    // The busiest second.
    let mut from = 0;
    let mut burst: Option<(usize, usize)> = None;
    for to in 0..births.len() {
        while births
            .get(from)
            .zip(births.get(to))
            .is_some_and(|((early, _), (late, _))| early + BURST_NS < *late)
        {
            from += 1;
        }
        if burst.is_none_or(|(first, last)| last - first < to - from) {
            burst = Some((from, to));
        }
    }
    let Some(those) = burst.and_then(|(first, last)| births.get(first..=last)) else {
        return Vec::new();
    };
    let deepest = those
        .iter()
        .max_by_key(|(_, id)| depths.get(id).copied().unwrap_or(0));
    let Some((_, deepest)) = deepest else {
        return Vec::new();
    };
    let depth = depths.get(deepest).copied().unwrap_or(0);
    let branching = those
        .iter()
        .filter(|(_, id)| makers.contains_key(id))
        .count();
    // Subshells are many generations too, but each ends before the next begins.
    let until = those.last().map_or(0, |(born, _)| *born);
    let living = those
        .iter()
        .filter(|(_, id)| case.alive_at(*id, until))
        .count();
    if those.len() < BURST
        || depth < GENERATIONS
        || branching < those.len() / 8
        || living < those.len() / 2
    {
        return Vec::new();
    }
    let (Some((start, first)), Some((end, last))) = (those.first(), those.last()) else {
        return Vec::new();
    };
    let took = end.saturating_sub(*start);
    // From one process to all of them, in doublings.
    let doublings = (those.len() as f64).log2().max(1.0);
    let doubled = (took as f64 / doublings) as u64;
    let program = text::escape(&case.process(*deepest).task.comm);
    let mut finding = Finding::new(format!(
        "A fork bomb: {program} made {} processes within {}, over {depth} generations; their number doubled \
         about every {}.",
        those.len(),
        text::duration(took),
        text::duration(doubled)
    ));
    for (id, shows) in [(first, "one of the first"), (last, "the last")] {
        if let Some(forked) = case.process(*id).forked {
            finding = finding.shown_by(case.event(forked), shows);
        }
    }
    vec![
        finding
            .not(
                "a pool of workers",
                format!("{branching} of them made processes in turn"),
            )
            .not(
                "a shell that starts commands",
                format!("{living} of them were alive at the end of it"),
            )
            .proven()
            .remedy(
                "Limit the jail's processes (--pids), and end what makes them without a bound.",
            ),
    ]
}
