//! The tables of the page: processes and events.

use super::super::choose::Rank;
use super::super::events::{Events, Row};
use super::super::lanes::{Lanes, Role};
use super::super::picture::title;
use super::super::{PRINTED, ROWS};
use super::tone;
use crate::export::moment::Clock;
use crate::render::label;
use crate::text::{bytes, count, duration, plural};

/// Most rows of the process table.
const PROCESSES: usize = 1_000;
/// Deepest level that is shown by indentation.
const DEEPEST: u32 = 16;

/// A process, or a group of them.
pub(super) struct Process {
    pub(super) depth: u32,
    pub(super) name: String,
    pub(super) count: Option<String>,
    pub(super) jail_pid: String,
    pub(super) pid: String,
    pub(super) born: String,
    pub(super) lived: String,
    pub(super) ended: String,
    pub(super) tone: &'static str,
    pub(super) memory: String,
    pub(super) command: String,
    pub(super) cited: bool,
    pub(super) lane: u32,
}

/// An event.
pub(super) struct EventRow<'a> {
    pub(super) seq: u64,
    pub(super) when: String,
    pub(super) utc: String,
    pub(super) pid: String,
    pub(super) host_pid: u32,
    pub(super) name: &'a str,
    pub(super) label: &'a str,
    pub(super) tone: &'static str,
    pub(super) text: &'a str,
    pub(super) detail: &'a str,
    pub(super) minor: bool,
    pub(super) cited: bool,
    pub(super) printed: bool,
}

/// Rows of the process table, and what they don't tell.
pub(super) fn processes(
    lanes: &Lanes,
    clock: Clock,
    end_ns: u64,
) -> (Vec<Process>, Option<String>) {
    let mut rows = Vec::new();
    let mut shown = 0u64;
    let mut index = 0usize;
    while let Some(lane) = lanes.lanes.get(index) {
        let group = lane.group.and_then(|at| lanes.groups.get(at as usize));
        let number = group.map_or(1, |group| group.count as usize).max(1);
        let members = lanes.lanes.get(index..index + number).unwrap_or_default();
        if lane.role != Role::Launcher && rows.len() < PROCESSES {
            if lane.role == Role::Jail {
                shown += number as u64;
            }
            let (ended, ended_tone) = lane.ended();
            let lived = |born_ns: u64, exit_ns: Option<u64>| {
                exit_ns.unwrap_or(end_ns).saturating_sub(born_ns)
            };
            let longest = members
                .iter()
                .filter_map(|one| Some(lived(one.born_ns?, one.exit_ns)))
                .max();
            let largest = members.iter().map(|one| one.max_rss_bytes).max();
            let many = number > 1;
            rows.push(Process {
                depth: lane.depth.min(DEEPEST),
                name: if lane.role == Role::Outside {
                    title(lane)
                } else {
                    lane.name.clone()
                },
                count: many.then(|| format!("× {}", count(number as u64))),
                jail_pid: lane
                    .jail_pid
                    .filter(|_| !many)
                    .map_or_else(String::new, |pid| pid.to_string()),
                pid: if many {
                    String::new()
                } else {
                    lane.pid.to_string()
                },
                born: lane
                    .born_ns
                    .map_or_else(String::new, |born_ns| clock.relative(born_ns)),
                lived: longest.map_or_else(String::new, |ns| {
                    let most = if many { "≤ " } else { "" };
                    format!("{most}{}", duration(ns))
                }),
                ended,
                tone: tone(ended_tone),
                memory: largest
                    .filter(|size| *size > 0)
                    .map_or_else(String::new, bytes),
                command: match (lane.command.is_empty(), lane.hidden) {
                    (_, 0) => lane.command.clone(),
                    (empty, hidden) => {
                        let more = plural(hidden, "process", "processes");
                        let gap = if empty { "" } else { " " };
                        format!("{}{gap}(and {more} below it without a line)", lane.command)
                    }
                },
                cited: lane.cited,
                lane: u32::try_from(index).unwrap_or(u32::MAX),
            });
        }
        index += number;
    }
    let left = lanes.total.saturating_sub(shown);
    let note = (left > 0).then(|| {
        format!(
            "{} of {} are not in this table.",
            plural(left, "process", "processes"),
            count(lanes.total)
        )
    });
    (rows, note)
}

/// Rows of the table, how many events have none, and how many are printed and are not.
pub(super) fn rows(events: &Events, clock: Clock) -> (Vec<EventRow<'_>>, u64, (u64, u64)) {
    let held = events.chosen.held();
    let shown = most_important(held, ROWS);
    let printed = most_important(held, PRINTED);
    let mut rows = Vec::new();
    for (row, (shown, printed)) in held.iter().zip(shown.iter().zip(&printed)) {
        if !shown {
            continue;
        }
        rows.push(EventRow {
            seq: row.seq,
            when: clock.relative(row.time_ns),
            utc: clock.utc(row.time_ns),
            pid: row
                .jail_pid
                .map_or_else(|| "–".to_owned(), |pid| pid.to_string()),
            host_pid: row.pid,
            name: events.name(row),
            label: label(row.kind),
            tone: tone(row.tone),
            text: &row.text,
            detail: &row.detail,
            minor: row.rank == Rank::Minor,
            cited: events.is_cited(row.seq),
            printed: *printed && row.rank != Rank::Minor,
        });
    }
    let left_out = (held.len() - rows.len()) as u64;
    let paper = rows.iter().filter(|row| row.printed).count() as u64;
    let rest = held.len() as u64 - paper;
    (rows, left_out, (paper, rest))
}

/// Which are the `most` that matter most: of those that matter as much, the first.
fn most_important(held: &[Row], most: usize) -> Vec<bool> {
    let mut room = most;
    let mut taken = vec![false; held.len()];
    for rank in [Rank::Cited, Rank::Plain, Rank::Minor] {
        for (row, taken) in held.iter().zip(&mut taken) {
            if room > 0 && row.rank == rank {
                *taken = true;
                room -= 1;
            }
        }
    }
    taken
}
