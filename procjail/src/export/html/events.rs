//! The events that the file has, as it tells them.

use std::collections::{HashMap, HashSet};

use super::choose::{Chosen, Rank, Ranked};
use super::lanes::Lanes;
use crate::diagnose::{Case, Explanation};
use crate::event::{Event, Lost, SignalResult, Task, What};
use crate::render::{Totals, is_minor};
use crate::text::escape;
use crate::words::{Tone, words};

/// Columns that a sentence may have: a command line is cut there.
const WIDTH: usize = 400;

/// How an event looks in the timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Mark {
    None,
    /// A program was executed.
    Exec,
    /// A signal arrives.
    Signal,
    /// A signal comes to nothing.
    Ignored,
    /// An OOM kill.
    OomKill,
    /// The launcher acts.
    Launcher,
    /// The launcher kills everything.
    Kill,
    /// The end of a process is drawn with its life.
    Exit,
    /// Something went wrong, or should be looked at.
    Warning,
    /// Anything else.
    Other,
}

/// An event.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) seq: u64,
    pub(super) time_ns: u64,
    pub(super) rank: Rank,
    ordinal: u64,
    pub(super) kind: &'static str,
    pub(super) tone: Tone,
    pub(super) mark: Mark,
    pub(super) pid: u32,
    pub(super) jail_pid: Option<u32>,
    /// Position of the task's name in [`Events::names`].
    pub(super) name: u32,
    /// The lane of its task.
    pub(super) lane: Option<u32>,
    /// The lane in which its mark is: that of a signal's target, of a victim.
    pub(super) at: Option<u32>,
    pub(super) text: Box<str>,
    pub(super) detail: Box<str>,
}

impl Ranked for Row {
    fn rank(&self) -> Rank {
        self.rank
    }

    fn ordinal(&self) -> u64 {
        self.ordinal
    }
}

/// The events that were chosen, and what there was in all.
#[derive(Debug)]
pub(super) struct Events {
    pub(super) chosen: Chosen<Row>,
    cited: HashSet<u64>,
    pub(super) names: Vec<String>,
    by_name: HashMap<String, u32>,
    /// Of each kind, how many there are in the trace.
    pub(super) kinds: HashMap<&'static str, u64>,
    pub(super) lost: Vec<Lost>,
    pub(super) total: u64,
    pub(super) last_ns: u64,
}

impl Events {
    pub(super) fn new(explanation: &Explanation, most: usize) -> Self {
        Self {
            chosen: Chosen::new(most),
            cited: explanation.cited(),
            names: Vec::new(),
            by_name: HashMap::new(),
            kinds: HashMap::new(),
            lost: Vec::new(),
            total: 0,
            last_ns: 0,
        }
    }

    pub(super) fn take(&mut self, event: &Event, case: &Case, lanes: &Lanes) {
        self.total += 1;
        self.last_ns = self.last_ns.max(event.time_ns);
        *self.kinds.entry(event.what.kind()).or_default() += 1;
        if let What::Lost(lost) = &event.what {
            self.lost.push(lost.clone());
        }
        let rank = self.rank(event);
        let Self {
            chosen,
            names,
            by_name,
            ..
        } = self;
        chosen.offer(rank, |ordinal| {
            let lane_of = |task: &Task| case.process_of(task).and_then(|id| lanes.lane_of(id));
            let lane = lane_of(&event.task);
            let said = words(event, WIDTH);
            Row {
                seq: event.seq,
                time_ns: event.time_ns,
                rank,
                ordinal,
                kind: event.what.kind(),
                tone: said.tone,
                mark: mark(event, said.tone),
                pid: event.task.pid,
                jail_pid: event.task.jail_pid,
                name: intern(&event.task.comm, names, by_name),
                lane,
                at: target(event).map_or(lane, lane_of),
                text: said.text.into(),
                detail: said.detail.into(),
            }
        });
    }

    /// What the lines about the run ask for.
    pub(super) fn totals(&self) -> Totals {
        Totals {
            events: self.total,
            hidden: 0,
            last_ns: self.last_ns,
            lost: self.lost.clone(),
        }
    }

    pub(super) fn name(&self, row: &Row) -> &str {
        self.names.get(row.name as usize).map_or("", String::as_str)
    }

    pub(super) fn is_cited(&self, seq: u64) -> bool {
        self.cited.contains(&seq)
    }

    fn rank(&self, event: &Event) -> Rank {
        let launchers = matches!(
            event.what,
            What::JailCreated(_)
                | What::GateOpened(_)
                | What::StopRequested(_)
                | What::Kill(_)
                | What::JailExited(_)
                | What::Teardown(_)
                | What::LeakCheck(_)
                | What::OomKill(_)
        );
        if launchers || self.cited.contains(&event.seq) {
            Rank::Cited
        } else if is_minor(event) {
            Rank::Minor
        } else {
            Rank::Plain
        }
    }
}

fn intern(comm: &str, names: &mut Vec<String>, by_name: &mut HashMap<String, u32>) -> u32 {
    if let Some(index) = by_name.get(comm) {
        return *index;
    }
    let index = u32::try_from(names.len()).unwrap_or(u32::MAX);
    names.push(escape(comm));
    by_name.insert(comm.to_owned(), index);
    index
}

/// Whom an event happened to, if that is another task than its own.
fn target(event: &Event) -> Option<&Task> {
    match &event.what {
        What::SignalGenerated(signal) => Some(&signal.target),
        What::OomKill(kill) => Some(&kill.victim),
        What::OomReap(reap) => Some(&reap.victim),
        What::Reap(reap) => Some(&reap.child),
        What::Fork(fork) => Some(&fork.child),
        _ => None,
    }
}

fn mark(event: &Event, tone: Tone) -> Mark {
    match &event.what {
        What::Exec(_) => Mark::Exec,
        What::OomKill(_) => Mark::OomKill,
        What::Kill(_) => Mark::Kill,
        What::Exit(exit) if exit.process => Mark::Exit,
        _ if is_minor(event) => Mark::None,
        What::SignalGenerated(signal) => match signal.result {
            SignalResult::Delivered | SignalResult::LoseInfo => Mark::Signal,
            _ => Mark::Ignored,
        },
        What::JailCreated(_)
        | What::GateOpened(_)
        | What::SignalForwarded(_)
        | What::StopRequested(_)
        | What::JailExited(_)
        | What::Teardown(_) => Mark::Launcher,
        What::Fork(_) | What::SignalDelivered(_) | What::Reap(_) => Mark::None,
        _ if matches!(tone, Tone::Bad | Tone::Warning) => Mark::Warning,
        _ => Mark::Other,
    }
}
