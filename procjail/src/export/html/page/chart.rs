//! Curves of memory as a picture, for paper and for readers without a script.

use super::super::memory::{Memory, Series};
use super::super::picture::{LEFT, RIGHT, Tick, range};
use super::super::scale;
use crate::diagnose::Case;
use crate::export::moment::Clock;
use crate::text::bytes;

/// Where the plot begins and ends, in units of the picture.
const TOP: f64 = 14.0;
const BOTTOM: f64 = 234.0;

/// A chart.
pub(in crate::export::html) struct Chart {
    pub(super) title: &'static str,
    pub(super) class: &'static str,
    pub(super) top: f64,
    pub(super) bottom: f64,
    pub(super) left: f64,
    pub(super) right: f64,
    pub(super) times: Vec<Tick>,
    pub(super) sizes: Vec<Tick>,
    pub(super) curves: Vec<Curve>,
    pub(super) usage: Option<String>,
    pub(super) limit: Option<Limit>,
    pub(super) kills: Vec<f64>,
}

/// A line or an area.
pub(super) struct Curve {
    pub(super) name: String,
    /// Its colour: position in the palette.
    pub(super) colour: usize,
    pub(super) path: String,
    pub(super) most: String,
}

pub(super) struct Limit {
    pub(super) path: String,
    pub(super) y: f64,
    pub(super) text: String,
}

impl Chart {
    /// By kind, stacked; and by process.
    pub(super) fn both(memory: &Memory, case: &Case, clock: Clock) -> Vec<Self> {
        let mut charts = vec![Self::new("by kind", "kinds", memory, case, clock)];
        if !memory.processes.is_empty() {
            charts.push(Self::new("by process", "processes", memory, case, clock));
        }
        charts
    }

    fn new(
        title: &'static str,
        class: &'static str,
        memory: &Memory,
        case: &Case,
        clock: Clock,
    ) -> Self {
        let (from, to) = range(case, clock);
        let most = memory.most().max(1);
        let across = (RIGHT - LEFT) / (i128::from(to) - i128::from(from)).max(1) as f64;
        let x = |ns: i64| LEFT + (i128::from(ns) - i128::from(from)) as f64 * across;
        // A little room above the highest.
        let y = |size: u64| BOTTOM - (BOTTOM - TOP) * (size as f64 / (most as f64 * 1.05)).min(1.0);
        let line = |values: &[u64]| {
            let points = memory.at_ns.iter().zip(values);
            path(steps(points.map(|(at, size)| (x(*at), y(*size)))))
        };
        let curves = if class == "kinds" {
            stacked(memory, &x, &y)
        } else {
            let each = memory.processes.iter().enumerate();
            each.map(|(colour, series)| curve(series, colour, line(&series.values)))
                .collect()
        };
        let limit = memory
            .limit
            .last()
            .copied()
            .filter(|limit| *limit > 0 && *limit <= most);
        Self {
            title,
            class,
            top: TOP,
            bottom: BOTTOM,
            left: LEFT,
            right: RIGHT,
            times: scale::times(from, to, 9)
                .into_iter()
                .map(|(ns, text)| Tick { at: x(ns), text })
                .collect(),
            sizes: scale::sizes(most)
                .into_iter()
                .map(|(size, text)| Tick { at: y(size), text })
                .collect(),
            curves,
            usage: memory
                .usage
                .iter()
                .any(|size| *size > 0)
                .then(|| line(&memory.usage)),
            limit: limit.map(|limit| Limit {
                path: format!("M{LEFT:.1} {:.1}H{RIGHT:.1}", y(limit)),
                y: y(limit),
                text: format!("limit {}", bytes(limit)),
            }),
            kills: memory.kills.iter().map(|kill| x(kill.at_ns)).collect(),
        }
    }
}

/// Areas on each other, the lowest first.
fn stacked(memory: &Memory, x: &impl Fn(i64) -> f64, y: &impl Fn(u64) -> f64) -> Vec<Curve> {
    let mut below = vec![0u64; memory.at_ns.len()];
    let mut curves = Vec::new();
    for (colour, series) in memory.kinds.iter().enumerate() {
        let above: Vec<u64> = below
            .iter()
            .zip(&series.values)
            .map(|(below, size)| below.saturating_add(*size))
            .collect();
        let edge = |sizes: &[u64]| -> Vec<(f64, f64)> {
            let points = memory.at_ns.iter().zip(sizes);
            steps(points.map(|(at, size)| (x(*at), y(*size)))).collect()
        };
        let back = edge(&below).into_iter().rev();
        let around = path(edge(&above).into_iter().chain(back));
        curves.push(curve(series, colour, format!("{around}Z")));
        below = above;
    }
    curves
}

fn curve(series: &Series, colour: usize, path: String) -> Curve {
    Curve {
        name: series.name.clone(),
        colour,
        path,
        most: bytes(series.values.iter().copied().max().unwrap_or(0)),
    }
}

/// What was measured holds until it is measured again: a sample is taken when memory has changed.
fn steps(points: impl Iterator<Item = (f64, f64)>) -> impl Iterator<Item = (f64, f64)> {
    let mut before = None;
    points.flat_map(move |(x, y)| {
        let corner = before.replace(y).map(|before| (x, before));
        corner.into_iter().chain([(x, y)])
    })
}

fn path(points: impl Iterator<Item = (f64, f64)>) -> String {
    let mut path = String::new();
    for (index, (x, y)) in points.enumerate() {
        let letter = if index == 0 { 'M' } else { 'L' };
        path += &format!("{letter}{x:.1} {y:.1}");
    }
    path
}
