//! The timeline as a picture, for paper and for readers without a script.

use std::collections::{HashMap, HashSet};

use super::events::{Events, Mark, Row};
use super::lanes::{Lane, Lanes, Role};
use super::scale;
use crate::diagnose::Case;
use crate::event::What;
use crate::export::moment::Clock;
use crate::text::{count, duration, escape};
use crate::words::{Tone, status, tone_of};

/// Most lines of the picture.
const LINES: usize = 36;
/// Most marks of the picture.
const MARKS: usize = 2_000;
/// Width, and where the plot begins and ends, in units of the picture.
const WIDTH: f64 = 1200.0;
pub(super) const LEFT: f64 = 220.0;
pub(super) const RIGHT: f64 = 1190.0;
const LINE_HEIGHT: f64 = 22.0;
const LABEL_HEIGHT: f64 = 15.0;
/// About how wide a letter of a label is.
const LETTER: f64 = 6.4;

/// An instant of the whole jail.
#[derive(Debug)]
pub(super) struct Moment {
    /// Relative to the gate.
    pub(super) at_ns: i64,
    pub(super) class: &'static str,
    pub(super) text: String,
}

/// A stretch of time in the launcher's lane.
#[derive(Debug)]
pub(super) struct Span {
    /// Relative to the gate.
    pub(super) from_ns: i64,
    pub(super) to_ns: i64,
    pub(super) class: &'static str,
    pub(super) text: String,
}

/// From the first event to the end, relative to the gate.
pub(super) fn range(case: &Case, clock: Clock) -> (i64, i64) {
    let first = case
        .events()
        .first()
        .map_or(case.gate_ns(), |one| one.time_ns);
    let from = clock.since_gate(first.min(case.gate_ns()));
    let last = case
        .events()
        .last()
        .map_or(case.end_ns(), |one| one.time_ns);
    let to = clock.since_gate(last.max(case.gate_ns()));
    // Room on both sides, so that nothing lies on the edge.
    let room = (to.saturating_sub(from) / 50).max(1_000);
    (from.saturating_sub(room), to.saturating_add(room))
}

/// What happened to the jail as a whole.
pub(super) fn moments(case: &Case, clock: Clock) -> Vec<Moment> {
    let mut moments: Vec<Moment> = Vec::new();
    let mut oom_kills = 0;
    for event in case.events() {
        let (class, text) = match &event.what {
            What::GateOpened(_) => ("gate", "APP starts".to_owned()),
            What::StopRequested(stop) => (
                "stop",
                format!("stop asked for: {}", escape(&stop.stop_signal.name)),
            ),
            What::Kill(kill) => ("kill", format!("all killed: {}", escape(&kill.reason))),
            What::OomKill(_) if oom_kills < 3 => {
                oom_kills += 1;
                ("kill", "OOM kill".to_owned())
            }
            What::JailExited(exited) => {
                let well = tone_of(&exited.status) == Tone::Plain;
                let class = if well { "gate" } else { "end" };
                (class, format!("PID 1 {}", status(&exited.status)))
            }
            _ => continue,
        };
        moments.push(Moment {
            at_ns: clock.since_gate(event.time_ns),
            class,
            text,
        });
    }
    moments
}

/// What the launcher did that took time.
pub(super) fn spans(case: &Case, clock: Clock) -> Vec<Span> {
    let mut spans = Vec::new();
    if let Some((event, stop)) = case.stop_request() {
        let over = event.time_ns.saturating_add(stop.timeout_ns);
        let ended = case.pid1().and_then(|id| case.exit(id));
        let over = ended.map_or(over, |(exit, _)| over.min(exit.time_ns.max(event.time_ns)));
        spans.push(Span {
            from_ns: clock.since_gate(event.time_ns),
            to_ns: clock.since_gate(over.min(case.end_ns())),
            class: "stop",
            text: format!("grace period of {}", duration(stop.timeout_ns)),
        });
    }
    let steps = case.each(|what| match what {
        What::Teardown(step) => Some(step),
        _ => None,
    });
    for (event, step) in steps {
        let begun = event.time_ns.saturating_sub(step.duration_ns);
        spans.push(Span {
            from_ns: clock.since_gate(begun),
            to_ns: clock.since_gate(event.time_ns),
            class: if step.error.is_some() { "bad" } else { "step" },
            text: format!("{}: {}", escape(&step.step), duration(step.duration_ns)),
        });
    }
    spans
}

/// The picture, ready to be drawn.
#[derive(Debug)]
pub(super) struct Picture {
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) top: f64,
    pub(super) bottom: f64,
    pub(super) ticks: Vec<Tick>,
    pub(super) moments: Vec<Flag>,
    pub(super) lines: Vec<Line>,
    /// Processes that are not in it.
    pub(super) left_out: u64,
}

/// A mark of an axis.
#[derive(Debug)]
pub(super) struct Tick {
    pub(super) at: f64,
    pub(super) text: String,
}

/// A moment, with its label where no other is.
#[derive(Debug)]
pub(super) struct Flag {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) text_x: f64,
    pub(super) anchor: &'static str,
    pub(super) class: &'static str,
    pub(super) text: String,
}

/// A process, or a group of them.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) y: f64,
    pub(super) text_x: f64,
    pub(super) text: String,
    pub(super) title: String,
    pub(super) bars: Vec<Bar>,
    pub(super) marks: Vec<Shape>,
}

/// A stretch of a line.
#[derive(Debug)]
pub(super) struct Bar {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) class: &'static str,
}

/// A mark on a line.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) path: String,
    pub(super) class: &'static str,
    pub(super) title: String,
}

/// Which lanes a line of the picture has.
struct Members {
    first: usize,
    count: usize,
}

impl Picture {
    pub(super) fn of(case: &Case, clock: Clock, lanes: &Lanes, events: &Events) -> Self {
        let (from, to) = range(case, clock);
        let scale = (RIGHT - LEFT) / (i128::from(to) - i128::from(from)).max(1) as f64;
        let x = |ns: i64| {
            let offset = (i128::from(ns) - i128::from(from)) as f64 * scale;
            (LEFT + offset).clamp(LEFT, RIGHT)
        };
        let (moments, rows) = flags(moments(case, clock), &x);
        let top = 8.0 + LABEL_HEIGHT * f64::from(rows);
        let (members, shown) = members(lanes);
        let mut line_of: HashMap<u32, usize> = HashMap::new();
        let mut lines: Vec<Line> = Vec::new();
        for one in &members {
            let y = top + LINE_HEIGHT * lines.len() as f64;
            for lane in one.first..one.first + one.count {
                line_of.insert(u32::try_from(lane).unwrap_or(u32::MAX), lines.len());
            }
            let some = lanes.lanes.get(one.first..one.first + one.count);
            lines.push(line(some.unwrap_or_default(), y, clock, case, &x));
        }
        let mut taken = HashSet::new();
        for row in events.chosen.held() {
            let Some(line) = row.at.and_then(|lane| line_of.get(&lane)) else {
                continue;
            };
            let Some(line) = lines.get_mut(*line).filter(|_| taken.len() < MARKS) else {
                continue;
            };
            let at = x(clock.since_gate(row.time_ns));
            // One of those that would lie on each other.
            if taken.insert(((line.y * 10.0) as i64, (at / 3.0) as i64, row.mark as u8)) {
                line.marks
                    .extend(shape(row, at, line.y + LINE_HEIGHT / 2.0));
            }
        }
        let bottom = top + LINE_HEIGHT * lines.len() as f64;
        Self {
            width: WIDTH,
            height: bottom + 24.0,
            top,
            bottom,
            ticks: scale::times(from, to, 9)
                .into_iter()
                .map(|(ns, text)| Tick { at: x(ns), text })
                .collect(),
            moments,
            lines,
            left_out: lanes.total.saturating_sub(shown),
        }
    }
}

/// Labels of moments, each in the first row where it has room, and how many rows there are.
fn flags(moments: Vec<Moment>, x: &impl Fn(i64) -> f64) -> (Vec<Flag>, u32) {
    let mut ends: Vec<Vec<(f64, f64)>> = Vec::new();
    let mut flags = Vec::new();
    for moment in moments.into_iter().take(12) {
        let at = x(moment.at_ns);
        let width = moment.text.chars().count() as f64 * LETTER;
        let (anchor, text_x, span) = if at + width + 8.0 > RIGHT {
            ("end", at - 4.0, (at - width - 8.0, at))
        } else {
            ("start", at + 4.0, (at, at + width + 8.0))
        };
        let free =
            |row: &Vec<(f64, f64)>| row.iter().all(|(from, to)| span.1 < *from || span.0 > *to);
        let row = ends.iter().position(free).unwrap_or(ends.len());
        if row == ends.len() {
            ends.push(Vec::new());
        }
        if let Some(row) = ends.get_mut(row) {
            row.push(span);
        }
        flags.push(Flag {
            x: at,
            y: 12.0 + LABEL_HEIGHT * row as f64,
            text_x,
            anchor,
            class: moment.class,
            text: moment.text,
        });
    }
    (flags, u32::try_from(ends.len()).unwrap_or(0))
}

/// The lines: groups as one, and if there are too many, those that matter most. With the number of processes
/// of the jail in them.
fn members(lanes: &Lanes) -> (Vec<Members>, u64) {
    let mut all: Vec<Members> = Vec::new();
    let mut index = 0;
    while let Some(lane) = lanes.lanes.get(index) {
        let group = lane.group.and_then(|at| lanes.groups.get(at as usize));
        let count = group.map_or(1, |group| group.count as usize).max(1);
        all.push(Members {
            first: index,
            count,
        });
        index += count;
    }
    if all.len() > LINES {
        let weight = |one: &Members| {
            let Some(lane) = lanes.lanes.get(one.first) else {
                return 0;
            };
            match lane.ended().1 {
                _ if lane.cited || lane.role == Role::Launcher || lane.parent.is_none() => 4,
                Tone::Bad => 3,
                _ if one.count > 1 => 2,
                _ => u32::from(lane.depth < 2),
            }
        };
        let mut order: Vec<usize> = (0..all.len()).collect();
        order.sort_by_key(|at| (std::cmp::Reverse(all.get(*at).map(weight)), *at));
        let kept: HashSet<usize> = order.into_iter().take(LINES).collect();
        let mut at = 0;
        all.retain(|_| {
            at += 1;
            kept.contains(&(at - 1))
        });
    }
    let shown = all
        .iter()
        .flat_map(|one| lanes.lanes.iter().skip(one.first).take(one.count))
        .filter(|lane| lane.role == Role::Jail)
        .count() as u64;
    (all, shown)
}

fn line(some: &[Lane], y: f64, clock: Clock, case: &Case, x: &impl Fn(i64) -> f64) -> Line {
    let mut bars = Vec::new();
    let middle = y + LINE_HEIGHT / 2.0;
    let bar = |from: i64, to: i64, class| {
        let height = if class == "zombie" { 4.0 } else { 10.0 };
        Bar {
            x: x(from),
            y: middle - height / 2.0,
            width: (x(to) - x(from)).max(1.5),
            height,
            class,
        }
    };
    let mut marks = Vec::new();
    for lane in some {
        if let Some(born_ns) = lane.born_ns {
            let end = lane.exit_ns.unwrap_or(case.end_ns());
            bars.push(bar(
                clock.since_gate(born_ns),
                clock.since_gate(end),
                if lane.exit_ns.is_some() {
                    "life"
                } else {
                    "life open"
                },
            ));
        }
        if let (Some(exit_ns), gone_ns) = (lane.exit_ns, lane.gone_ns) {
            let gone_ns = gone_ns.unwrap_or(case.end_ns());
            let (from, to) = (clock.since_gate(exit_ns), clock.since_gate(gone_ns));
            if lane.role == Role::Jail && x(to) - x(from) > 2.0 {
                bars.push(bar(from, to, "zombie"));
            }
            if some.len() == 1 {
                let (text, tone) = lane.ended();
                marks.push(ending(x(clock.since_gate(exit_ns)), middle, tone, &text));
            }
        }
        if lane.role == Role::Launcher {
            for span in spans(case, clock) {
                bars.push(bar(span.from_ns, span.to_ns, span.class));
            }
        }
    }
    // Of thousands of short lives many would lie on each other.
    let mut taken = HashSet::new();
    bars.retain(|bar| taken.insert((bar.x as i64, bar.width as i64, bar.class)));
    let Some(lane) = some.first() else {
        return Line {
            y,
            text_x: 0.0,
            text: String::new(),
            title: String::new(),
            bars,
            marks,
        };
    };
    let indent = 10.0 * f64::from(lane.depth.min(8));
    let text = match some.len() {
        1 => title(lane),
        many => format!("{} × {}", lane.name, count(many as u64)),
    };
    let room = ((LEFT - 16.0 - indent) / LETTER) as usize;
    Line {
        y,
        text_x: 6.0 + indent,
        title: match (some.len(), lane.command.is_empty()) {
            (1, false) => format!("{text}: {}", lane.command),
            (1, true) => text.clone(),
            _ => format!("{text}, {}", lane.ended().0),
        },
        text: cut(&text, room),
        bars,
        marks,
    }
}

/// A process in few words: `1 nginx`.
pub(super) fn title(lane: &Lane) -> String {
    match (lane.jail_pid, lane.role) {
        (Some(pid), _) => format!("{pid} {}", lane.name),
        (None, Role::Launcher) => format!("{} (launcher)", lane.name),
        (None, Role::Outside) => format!("{} {} (outside)", lane.name, lane.pid),
        (None, Role::Jail) => format!("{} {}", lane.name, lane.pid),
    }
}

fn cut(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(room.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// The end of a process: a dot for 0, a square for another code, a cross for a signal.
fn ending(x: f64, y: f64, tone: Tone, text: &str) -> Shape {
    let (class, path) = match tone {
        Tone::Bad => (
            "bad",
            format!("M{:.1} {:.1}l9 9m0 -9l-9 9", x - 4.5, y - 4.5),
        ),
        Tone::Warning => ("warning", format!("M{:.1} {:.1}h7v7h-7z", x - 3.5, y - 3.5)),
        _ => (
            "plain",
            format!("M{:.1} {y:.1}a3 3 0 1 0 6 0a3 3 0 1 0 -6 0", x - 3.0),
        ),
    };
    Shape {
        path,
        class,
        title: text.to_owned(),
    }
}

fn shape(row: &Row, x: f64, y: f64) -> Option<Shape> {
    let (class, path) = match row.mark {
        Mark::None | Mark::Exit | Mark::Other => return None,
        Mark::Exec => ("exec", format!("M{x:.1} {:.1}v12", y - 6.0)),
        // Arrows from above.
        Mark::Signal => ("signal", format!("M{x:.1} {y:.1}l-4 -8h8z")),
        Mark::Ignored => ("ignored", format!("M{x:.1} {y:.1}l-4 -8h8z")),
        Mark::OomKill | Mark::Kill => ("kill", format!("M{x:.1} {:.1}l6 7l-6 7l-6 -7z", y - 7.0)),
        Mark::Launcher => ("launcher", format!("M{x:.1} {:.1}v8", y - 4.0)),
        Mark::Warning => ("attention", format!("M{x:.1} {:.1}l4 7h-8z", y - 3.0)),
    };
    Some(Shape {
        path,
        class,
        title: row.text.to_string(),
    })
}
