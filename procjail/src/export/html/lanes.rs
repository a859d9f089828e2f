//! The processes: which of them have a lane, in what order, and which are told together.
//!
//! A storm may have made a hundred thousand. Those that matter have lanes, with the processes above them;
//! siblings that came and went alike are one group.

use std::collections::{HashMap, HashSet};

use crate::diagnose::{Case, Explanation, Process, ProcessId};
use crate::event::{ExitStatus, What};
use crate::text::{command as command_line_of, escape};
use crate::words::{Tone, status, tone_of};

/// Most lanes.
const LANES: usize = 20_000;
/// So many lanes are read one by one.
const FEW: usize = 40;
/// Fewest siblings that are told together, where there are more lanes than that.
const ALIKE: usize = 8;
/// Columns that a command line may have.
const WIDTH: usize = 400;

/// What is known of a process.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) name: String,
    pub(super) pid: u32,
    pub(super) jail_pid: Option<u32>,
    pub(super) role: Role,
    pub(super) depth: u32,
    pub(super) parent: Option<u32>,
    /// Position in [`Lanes::groups`].
    pub(super) group: Option<u32>,
    /// When it was made; `None` for one that isn't the jail's.
    pub(super) born_ns: Option<u64>,
    pub(super) exit_ns: Option<u64>,
    /// When it was reaped, or known to be.
    pub(super) gone_ns: Option<u64>,
    pub(super) status: Option<ExitStatus>,
    pub(super) max_rss_bytes: u64,
    pub(super) command: String,
    /// A verdict is about it.
    pub(super) cited: bool,
    /// Processes below it that have no lane.
    pub(super) hidden: u64,
}

/// Where a process belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Role {
    Jail,
    Launcher,
    Outside,
}

impl Lane {
    /// How it ended, in words, and how bad that is.
    pub(super) fn ended(&self) -> (String, Tone) {
        match &self.status {
            Some(ended) => (status(ended), tone_of(ended)),
            None if self.role == Role::Jail => ("end not seen".to_owned(), Tone::Dim),
            None => (String::new(), Tone::Dim),
        }
    }
}

/// Siblings without children that ended alike. They lie next to each other.
#[derive(Debug)]
pub(super) struct Group {
    /// Its first lane.
    pub(super) first: u32,
    pub(super) count: u32,
}

/// The processes, each parent before its children.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    pub(super) lanes: Vec<Lane>,
    pub(super) groups: Vec<Group>,
    by_id: HashMap<ProcessId, u32>,
    /// Processes of the jail in the trace.
    pub(super) total: u64,
    /// Those of the jail that have no lane.
    pub(super) left_out: u64,
}

impl Lanes {
    pub(super) fn of(case: &Case, explanation: &Explanation) -> Self {
        let mut cited = HashSet::new();
        for diagnosis in &explanation.diagnoses {
            cited.extend(&diagnosis.pids);
        }
        let chosen = chosen(case, &cited);
        let mut lanes = Self {
            total: case.processes().filter(|(_, one)| one.in_jail()).count() as u64,
            ..Self::default()
        };
        lanes.lay_out(case, &chosen, &cited);
        lanes.count_hidden(case);
        lanes.group();
        lanes
    }

    pub(super) fn lane_of(&self, id: ProcessId) -> Option<u32> {
        self.by_id.get(&id).copied()
    }

    /// Outsiders first, then each process of the jail before its children, by the time they were made.
    fn lay_out(&mut self, case: &Case, chosen: &HashSet<ProcessId>, cited: &HashSet<u32>) {
        let mut roots = Vec::new();
        let mut children: HashMap<ProcessId, Vec<ProcessId>> = HashMap::new();
        for (id, process) in case.processes().filter(|(id, _)| chosen.contains(id)) {
            match chosen_ancestor(case, id, chosen).filter(|_| role(case, process) == Role::Jail) {
                Some(parent) => children.entry(parent).or_default().push(id),
                None => roots.push(id),
            }
        }
        // Reversed, since the last of a stack is taken first.
        let order = |id: &ProcessId| {
            let process = case.process(*id);
            let place = match role(case, process) {
                Role::Launcher => 0,
                Role::Outside => 1,
                Role::Jail => 2,
            };
            std::cmp::Reverse((place, case.born_ns(*id), *id))
        };
        roots.sort_by_key(order);
        let mut stack: Vec<(ProcessId, Option<u32>, u32)> =
            roots.into_iter().map(|id| (id, None, 0)).collect();
        while let Some((id, parent, depth)) = stack.pop() {
            let index = u32::try_from(self.lanes.len()).unwrap_or(u32::MAX);
            let launchers = role(case, case.process(id)) == Role::Launcher;
            if launchers && index > 0 {
                // Its own events don't tell when it started, the kernel's do.
                self.by_id.insert(id, 0);
                continue;
            }
            self.by_id.insert(id, index);
            self.lanes.push(lane(case, id, parent, depth, cited));
            let Some(mut below) = children.remove(&id) else {
                continue;
            };
            below.sort_by_key(order);
            // Of the jail alone: the launcher's lane is no lid for all others.
            let depth = depth + u32::from(role(case, case.process(id)) == Role::Jail);
            stack.extend(below.into_iter().map(|id| (id, Some(index), depth)));
        }
    }

    fn count_hidden(&mut self, case: &Case) {
        for (id, _) in case.processes().filter(|(_, one)| one.in_jail()) {
            if self.by_id.contains_key(&id) {
                continue;
            }
            self.left_out += 1;
            let parent = case.process(id).creator.and_then(|id| self.lane_of(id));
            if let Some(lane) = parent.and_then(|index| self.lanes.get_mut(index as usize)) {
                lane.hidden += 1;
            }
        }
    }

    /// Puts siblings that are alike next to each other, and notes where.
    fn group(&mut self) {
        if self.lanes.len() <= FEW {
            return;
        }
        let mut has_children = vec![false; self.lanes.len()];
        for lane in &self.lanes {
            if let Some(parent) = lane.parent.and_then(|at| has_children.get_mut(at as usize)) {
                *parent = true;
            }
        }
        // By parent, name and end, in the order of their first.
        let mut alike: HashMap<(Option<u32>, &str, String), Vec<u32>> = HashMap::new();
        for (index, lane) in (0u32..).zip(&self.lanes) {
            let leaf = !has_children.get(index as usize).copied().unwrap_or(true);
            if leaf && !lane.cited && lane.role == Role::Jail && lane.hidden == 0 {
                let key = (lane.parent, lane.name.as_str(), lane.ended().0);
                alike.entry(key).or_default().push(index);
            }
        }
        let mut masses: Vec<Vec<u32>> = alike
            .into_values()
            .filter(|mass| mass.len() >= ALIKE)
            .collect();
        if masses.is_empty() {
            return;
        }
        masses.sort();
        // The place of each lane in the new order: a mass is where its first one is.
        let mut place: Vec<(u32, u32)> = (0u32..)
            .zip(&self.lanes)
            .map(|(index, _)| (index, 0))
            .collect();
        for (number, mass) in (0u32..).zip(&masses) {
            let first = mass.first().copied().unwrap_or(0);
            for (nth, index) in (0u32..).zip(mass) {
                if let Some(place) = place.get_mut(*index as usize) {
                    *place = (first, nth + 1);
                }
                if let Some(lane) = self.lanes.get_mut(*index as usize) {
                    lane.group = Some(number);
                }
            }
        }
        self.reorder(&place);
        self.groups = masses
            .iter()
            .map(|mass| Group {
                first: u32::MAX,
                count: u32::try_from(mass.len()).unwrap_or(u32::MAX),
            })
            .collect();
        for (index, lane) in (0u32..).zip(&self.lanes) {
            if let Some(group) = lane.group.and_then(|at| self.groups.get_mut(at as usize)) {
                group.first = group.first.min(index);
            }
        }
    }

    /// Sorts the lanes by `place`.
    fn reorder(&mut self, place: &[(u32, u32)]) {
        let mut lanes: Vec<((u32, u32), u32, Lane)> = place
            .iter()
            .zip(0u32..)
            .zip(std::mem::take(&mut self.lanes))
            .map(|((place, index), lane)| (*place, index, lane))
            .collect();
        lanes.sort_by_key(|(place, index, _)| (*place, *index));
        let mut moved = vec![0u32; lanes.len()];
        for (new, (_, old, _)) in (0u32..).zip(&lanes) {
            if let Some(place) = moved.get_mut(*old as usize) {
                *place = new;
            }
        }
        let new = |old: u32| moved.get(old as usize).copied().unwrap_or(old);
        self.lanes = lanes.into_iter().map(|(_, _, lane)| lane).collect();
        for lane in &mut self.lanes {
            lane.parent = lane.parent.map(new);
        }
        for index in self.by_id.values_mut() {
            *index = new(*index);
        }
    }
}

fn role(case: &Case, process: &Process) -> Role {
    if case.is_launcher(&process.task) {
        Role::Launcher
    } else if process.in_jail() {
        Role::Jail
    } else {
        Role::Outside
    }
}

/// Those that have a lane: all, if they are few; else those that matter most and those above them.
fn chosen(case: &Case, cited: &HashSet<u32>) -> HashSet<ProcessId> {
    let mut all: Vec<(u32, u64, ProcessId)> = case
        .processes()
        .filter(|(_, process)| role(case, process) != Role::Outside || !process.sent.is_empty())
        .map(|(id, process)| {
            let lived = case
                .exit(id)
                .map_or(case.end_ns(), |(event, _)| event.time_ns)
                .saturating_sub(case.born_ns(id));
            (weight(case, id, process, cited), lived, id)
        })
        .collect();
    all.sort_by_key(|(weight, lived, id)| (std::cmp::Reverse((*weight, *lived)), *id));
    let mut chosen = HashSet::new();
    for (_, _, id) in all {
        let mut next = Some(id);
        while let Some(id) = next.filter(|id| !chosen.contains(id)) {
            if chosen.len() >= LANES {
                return chosen;
            }
            chosen.insert(id);
            next = case
                .process(id)
                .creator
                .filter(|above| role(case, case.process(*above)) != Role::Outside);
        }
    }
    chosen
}

fn weight(case: &Case, id: ProcessId, process: &Process, cited: &HashSet<u32>) -> u32 {
    let ended_badly = case
        .status(id)
        .is_some_and(|status| tone_of(status) != Tone::Plain);
    match () {
        () if case.is_launcher(&process.task) || case.pid1() == Some(id) => 4,
        () if cited.contains(&process.task.pid) => 3,
        () if process.oom_kill.is_some() => 2,
        () if ended_badly || !process.children.is_empty() => 1,
        () => 0,
    }
}

/// The nearest process above that has a lane.
fn chosen_ancestor(case: &Case, id: ProcessId, chosen: &HashSet<ProcessId>) -> Option<ProcessId> {
    let mut above = case.process(id).creator?;
    // Bounded, should a trace claim a circle.
    for _ in 0..LANES {
        if above == id {
            return None;
        }
        if chosen.contains(&above) && role(case, case.process(above)) == Role::Jail {
            return Some(above);
        }
        above = case.process(above).creator?;
    }
    None
}

fn lane(case: &Case, id: ProcessId, parent: Option<u32>, depth: u32, cited: &HashSet<u32>) -> Lane {
    let process = case.process(id);
    let role = role(case, process);
    let exit = case.exit(id);
    let reaped_ns = case.reap(id).map(|(event, _)| event.time_ns);
    let jailed = role == Role::Jail;
    Lane {
        name: escape(&process.task.comm),
        pid: process.task.pid,
        jail_pid: process.task.jail_pid,
        role,
        depth,
        parent,
        group: None,
        born_ns: jailed.then(|| born_ns(case, id)),
        exit_ns: exit.map(|(event, _)| event.time_ns),
        gone_ns: reaped_ns
            .or(process.freed_ns)
            .or_else(|| {
                (case.pid1() == Some(id))
                    .then(|| collected_ns(case))
                    .flatten()
            })
            .filter(|_| exit.is_some()),
        status: exit.map(|(_, exit)| exit.status.clone()),
        max_rss_bytes: exit.map_or(0, |(_, exit)| exit.max_rss_bytes),
        command: command(case, id, role),
        cited: cited.contains(&process.task.pid),
        hidden: 0,
    }
}

/// When the launcher had collected PID 1.
fn collected_ns(case: &Case) -> Option<u64> {
    let ended = |what: &What| matches!(what, What::JailExited(_));
    let mut last = case.events().iter().rev();
    last.find(|event| ended(&event.what))
        .map(|event| event.time_ns)
}

/// When a process was made; its first sign if not even its start is known.
fn born_ns(case: &Case, id: ProcessId) -> u64 {
    let process = case.process(id);
    match case.born_ns(id) {
        0 => {
            let signs = [&process.execs, &process.received, &process.delivered];
            let first = signs.iter().filter_map(|events| events.first()).min();
            let first = first.copied().or(process.exit);
            first.map_or(case.gate_ns(), |index| case.event(index).time_ns)
        }
        born_ns => born_ns,
    }
}

/// What it runs, as a command line.
fn command(case: &Case, id: ProcessId, role: Role) -> String {
    if role == Role::Jail {
        return case
            .execs(id)
            .next_back()
            .map_or_else(String::new, |(_, exec)| {
                command_line_of(&exec.argv, exec.argv_truncated, WIDTH)
            });
    }
    let sender = case.sender(&case.process(id).task);
    match sender.map(|(event, sender)| (&event.what, sender)) {
        Some((What::Sender(_), sender)) if !sender.argv.is_empty() => {
            command_line_of(&sender.argv, false, WIDTH)
        }
        Some((_, sender)) => escape(&sender.exe),
        None => String::new(),
    }
}
