//! What the script reads: columns, so that a hundred thousand events are few megabytes.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::{Serialize, Serializer};
use serde_json::ser::{CompactFormatter, Formatter};

use super::events::{Events, Row};
use super::lanes::{Lane, Lanes};
use super::memory::{Memory, Series};
use super::page::tone;
use super::picture::{moments, range, spans};
use crate::event::KINDS;
use crate::export::Subject;
use crate::export::moment::Clock;
use crate::render::label;

/// All of it.
#[derive(Serialize)]
pub(super) struct Data<'a> {
    /// Wall-clock time of the gate: seconds, and the nanoseconds that are more.
    gate_unix: (u64, u64),
    range: (i64, i64),
    total: u64,
    kinds: Vec<Kind>,
    tones: Vec<&'static str>,
    names: &'a [String],
    events: Columns<'a>,
    lanes: LaneColumns<'a>,
    /// First lane and number of lanes.
    groups: Vec<(u32, u32)>,
    moments: Vec<Instant>,
    spans: Vec<Stretch>,
    memory: Curves<'a>,
}

#[derive(Serialize)]
struct Kind {
    name: &'static str,
    label: &'static str,
    total: u64,
}

/// An event's columns.
#[derive(Serialize)]
struct Columns<'a> {
    seq: Column<'a, Row>,
    t: Column<'a, Row>,
    rank: Column<'a, Row>,
    kind: Column<'a, Row>,
    tone: Column<'a, Row>,
    mark: Column<'a, Row>,
    pid: Column<'a, Row>,
    /// 0 for none.
    jail_pid: Column<'a, Row>,
    name: Column<'a, Row>,
    /// -1 for none.
    lane: Column<'a, Row>,
    at: Column<'a, Row>,
    text: Texts<'a, Row>,
    detail: Texts<'a, Row>,
    /// Numbers of those that verdicts cite.
    cited: Vec<u64>,
}

#[derive(Serialize)]
struct LaneColumns<'a> {
    name: Texts<'a, Lane>,
    pid: Column<'a, Lane>,
    jail_pid: Column<'a, Lane>,
    role: Column<'a, Lane>,
    depth: Column<'a, Lane>,
    parent: Column<'a, Lane>,
    group: Column<'a, Lane>,
    born: Times<'a>,
    exit: Times<'a>,
    gone: Times<'a>,
    /// Position in `endings`.
    ending: Vec<usize>,
    endings: Vec<(String, &'static str)>,
    command: Texts<'a, Lane>,
    cited: Column<'a, Lane>,
    hidden: Column<'a, Lane>,
}

#[derive(Serialize)]
struct Instant {
    t: i64,
    class: &'static str,
    text: String,
}

#[derive(Serialize)]
struct Stretch {
    from: i64,
    to: i64,
    class: &'static str,
    text: String,
}

#[derive(Serialize)]
struct Curves<'a> {
    t: &'a [i64],
    usage: &'a [u64],
    limit: &'a [u64],
    kinds: Vec<(&'a str, &'a [u64])>,
    processes: Vec<(&'a str, &'a [u64])>,
    kills: Vec<(u64, i64, &'a str)>,
    most: u64,
}

/// A number of each, written one after the other without a copy.
struct Column<'a, T>(&'a [T], Box<dyn Fn(&T) -> i64 + 'a>);

impl<T> Serialize for Column<'_, T> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_seq(self.0.iter().map(|one| (self.1)(one)))
    }
}

/// A time of each, null for none.
struct Times<'a>(&'a [Lane], Clock, fn(&Lane) -> Option<u64>);

impl Serialize for Times<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let times = self.0.iter().map(|one| (self.2)(one));
        out.collect_seq(times.map(|time_ns| time_ns.map(|time_ns| self.1.since_gate(time_ns))))
    }
}

/// A text of each.
struct Texts<'a, T>(&'a [T], fn(&T) -> &str);

impl<T> Serialize for Texts<'_, T> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_seq(self.0.iter().map(self.1))
    }
}

impl<'a> Data<'a> {
    pub(super) fn of(
        subject: &'a Subject,
        clock: Clock,
        lanes: &'a Lanes,
        events: &'a Events,
        memory: &'a Memory,
    ) -> Self {
        let case = &subject.case;
        const SECOND: u64 = 1_000_000_000;
        let gate_unix_ns = clock.unix_ns(case.gate_ns());
        Self {
            gate_unix: (gate_unix_ns / SECOND, gate_unix_ns % SECOND),
            range: range(case, clock),
            total: events.total,
            kinds: KINDS
                .iter()
                .map(|name| Kind {
                    name,
                    label: label(name),
                    total: events.kinds.get(name).copied().unwrap_or(0),
                })
                .collect(),
            tones: TONES.map(tone).into(),
            names: &events.names,
            events: columns(events, clock),
            lanes: lane_columns(lanes, clock),
            groups: lanes
                .groups
                .iter()
                .map(|group| (group.first, group.count))
                .collect(),
            moments: moments(case, clock)
                .into_iter()
                .map(|one| Instant {
                    t: one.at_ns,
                    class: one.class,
                    text: one.text,
                })
                .collect(),
            spans: spans(case, clock)
                .into_iter()
                .map(|one| Stretch {
                    from: one.from_ns,
                    to: one.to_ns,
                    class: one.class,
                    text: one.text,
                })
                .collect(),
            memory: curves(memory),
        }
    }

    /// As JSON that can't end the script element it is in.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        harmless(self, out)
    }
}

/// A value as JSON without a character that means something to HTML.
pub(super) fn harmless(value: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    let mut serializer = serde_json::Serializer::with_formatter(out, Harmless);
    value.serialize(&mut serializer).map_err(io::Error::from)
}

const TONES: [crate::words::Tone; 5] = {
    use crate::words::Tone::*;
    [Bad, Warning, Plain, Launcher, Dim]
};

fn optional(number: Option<u32>) -> i64 {
    number.map_or(-1, i64::from)
}

fn columns(events: &Events, clock: Clock) -> Columns<'_> {
    let rows = events.chosen.held();
    let kinds: BTreeMap<&str, i64> = KINDS.iter().copied().zip(0..).collect();
    let column = |value: fn(&Row) -> i64| Column(rows, Box::new(value));
    Columns {
        seq: column(|row| i64::try_from(row.seq).unwrap_or(i64::MAX)),
        t: Column(rows, Box::new(move |row| clock.since_gate(row.time_ns))),
        rank: column(|row| row.rank as i64),
        kind: Column(
            rows,
            Box::new(move |row| kinds.get(row.kind).copied().unwrap_or(0)),
        ),
        tone: column(|row| {
            let place = TONES.iter().zip(0..).find(|(tone, _)| **tone == row.tone);
            place.map_or(0, |(_, place)| place)
        }),
        mark: column(|row| row.mark as i64),
        pid: column(|row| row.pid.into()),
        jail_pid: column(|row| row.jail_pid.unwrap_or(0).into()),
        name: column(|row| row.name.into()),
        lane: column(|row| optional(row.lane)),
        at: column(|row| optional(row.at)),
        text: Texts(rows, |row| &row.text),
        detail: Texts(rows, |row| &row.detail),
        cited: rows
            .iter()
            .map(|row| row.seq)
            .filter(|seq| events.is_cited(*seq))
            .collect(),
    }
}

fn lane_columns(lanes: &Lanes, clock: Clock) -> LaneColumns<'_> {
    let mut endings = BTreeMap::new();
    let ending = lanes.lanes.iter().map(|lane| {
        let (text, how) = lane.ended();
        let next = endings.len();
        *endings.entry((text, tone(how))).or_insert(next)
    });
    let ending: Vec<usize> = ending.collect();
    let mut endings: Vec<((String, &'static str), usize)> = endings.into_iter().collect();
    endings.sort_by_key(|(_, place)| *place);
    let lanes = lanes.lanes.as_slice();
    let column = |value: fn(&Lane) -> i64| Column(lanes, Box::new(value));
    LaneColumns {
        name: Texts(lanes, |lane| &lane.name),
        pid: column(|lane| lane.pid.into()),
        jail_pid: column(|lane| lane.jail_pid.unwrap_or(0).into()),
        role: column(|lane| lane.role as i64),
        depth: column(|lane| lane.depth.into()),
        parent: column(|lane| optional(lane.parent)),
        group: column(|lane| optional(lane.group)),
        born: Times(lanes, clock, |lane| lane.born_ns),
        exit: Times(lanes, clock, |lane| lane.exit_ns),
        gone: Times(lanes, clock, |lane| lane.gone_ns),
        ending,
        endings: endings.into_iter().map(|(ending, _)| ending).collect(),
        command: Texts(lanes, |lane| &lane.command),
        cited: column(|lane| lane.cited.into()),
        hidden: column(|lane| i64::try_from(lane.hidden).unwrap_or(i64::MAX)),
    }
}

fn curves(memory: &Memory) -> Curves<'_> {
    fn named(series: &[Series]) -> Vec<(&str, &[u64])> {
        let pairs = series.iter();
        pairs.map(|one| (&*one.name, &*one.values)).collect()
    }
    Curves {
        t: &memory.at_ns,
        usage: &memory.usage,
        limit: &memory.limit,
        kinds: named(&memory.kinds),
        processes: named(&memory.processes),
        kills: memory
            .kills
            .iter()
            .map(|kill| (kill.seq, kill.at_ns, kill.text.as_str()))
            .collect(),
        most: memory.most(),
    }
}

/// JSON without a character that means something to HTML: no text in it can end the script element, or
/// begin a comment there.
struct Harmless;

impl Formatter for Harmless {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        let special = ['<', '>', '&', '\u{2028}', '\u{2029}'];
        while let Some(at) = rest.find(special) {
            let (plain, from) = rest.split_at(at);
            CompactFormatter.write_string_fragment(out, plain)?;
            let mut chars = from.chars();
            if let Some(char) = chars.next() {
                write!(out, "\\u{:04x}", u32::from(char))?;
            }
            rest = chars.as_str();
        }
        CompactFormatter.write_string_fragment(out, rest)
    }
}
