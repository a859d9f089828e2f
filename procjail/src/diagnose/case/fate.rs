//! What became of processes: who collected whom, and what was passed on.

use std::collections::HashSet;

use super::{Case, ProcessId};
use crate::event::{Event, ExitStatus, FailedCalls, StderrTail, What};

/// A process that returns soon after it collected a child is taken to return because of it, nanoseconds.
const AT_ONCE_NS: u64 = 100_000_000;
/// The same for one that returns exactly the child's code.
const SOON_NS: u64 = 1_000_000_000;

/// How a child's status shows in the exit code of the process that collected it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passing {
    /// It is the child's exit code.
    Code,
    /// It is 128 and the number of the signal that killed the child, as shells do it.
    Signal,
    /// It is another one.
    Changed,
}

/// A child's bad end that shows in the exit code of the process that collected it.
#[derive(Clone, Copy, Debug)]
pub struct PassedOn<'a> {
    /// The child.
    pub child: ProcessId,
    /// How it shows.
    pub how: Passing,
    /// When it was collected.
    pub reap: &'a Event,
    /// When the process that collected it ended.
    pub exit: &'a Event,
}

impl PassedOn<'_> {
    /// From the one to the other, nanoseconds.
    pub fn after_ns(&self) -> u64 {
        self.exit.time_ns.saturating_sub(self.reap.time_ns)
    }
}

/// The status is not that of a success.
pub fn is_bad(status: &ExitStatus) -> bool {
    status.signal.is_some() || status.code.is_some_and(|code| code != 0)
}

impl Case {
    /// The children that a process collected, in order, each with its reaping.
    pub fn collected_by(
        &self,
        id: ProcessId,
    ) -> impl DoubleEndedIterator<Item = (ProcessId, &Event)> {
        self.process(id)
            .collected
            .iter()
            .filter_map(|child| Some((*child, self.reap(*child)?.0)))
    }

    /// The child whose bad end a process's exit code stems from.
    ///
    /// A match of the numbers goes first, then the last child that was collected.
    pub fn passed_on(&self, id: ProcessId) -> Option<PassedOn<'_>> {
        let (exit, ended) = self.exit(id)?;
        let code = ended.status.code.filter(|code| *code != 0)?;
        let before = || {
            self.collected_by(id)
                .rev()
                .filter(|(_, reap)| reap.seq < exit.seq)
        };
        let passed = |child, how, reap| PassedOn {
            child,
            how,
            reap,
            exit,
        };
        let bad = || {
            before()
                .filter_map(|(child, reap)| Some((child, reap, self.status(child)?)))
                .filter(|(_, _, status)| is_bad(status))
        };
        let killed = bad().find(|(_, _, status)| {
            status
                .signal
                .as_ref()
                .is_some_and(|signal| code == 128 + signal.number)
        });
        if let Some((child, reap, _)) = killed {
            return Some(passed(child, Passing::Signal, reap));
        }
        let age = |reap: &Event| exit.time_ns.saturating_sub(reap.time_ns);
        let same =
            bad().find(|(_, reap, status)| status.code == Some(code) && age(reap) <= SOON_NS);
        if let Some((child, reap, _)) = same {
            return Some(passed(child, Passing::Code, reap));
        }
        let (child, reap) = before().next()?;
        let changed = self.status(child).is_some_and(is_bad) && age(reap) <= AT_ONCE_NS;
        changed.then(|| passed(child, Passing::Changed, reap))
    }

    /// A process and those from which it has its exit code, unchanged: the last one is where it came
    /// from.
    pub fn code_from(&self, id: ProcessId) -> Vec<ProcessId> {
        let mut chain = vec![id];
        let mut last = id;
        while let Some(passed) = self
            .passed_on(last)
            .filter(|passed| passed.how == Passing::Code && !chain.contains(&passed.child))
        {
            last = passed.child;
            chain.push(last);
        }
        chain
    }

    /// The processes that returned the exit code of one of these as their own, up to PID 1.
    pub fn code_to(&self, ids: &[ProcessId]) -> Vec<ProcessId> {
        let mut below: HashSet<ProcessId> = ids.iter().copied().collect();
        let mut above = Vec::new();
        let mut asked = HashSet::new();
        let mut next: Vec<ProcessId> = ids.to_vec();
        while let Some(id) = next.pop() {
            let Some(reaper) = self
                .reap(id)
                .and_then(|(event, _)| self.process_of(&event.task))
                .filter(|reaper| asked.insert(*reaper))
            else {
                continue;
            };
            let passes = self
                .passed_on(reaper)
                .is_some_and(|passed| passed.how == Passing::Code && below.contains(&passed.child));
            if passes && below.insert(reaper) {
                above.push(reaper);
                next.push(reaper);
            }
        }
        above
    }

    /// The last system calls that failed in a process.
    pub fn failed_calls(&self, id: ProcessId) -> Option<(&Event, &FailedCalls)> {
        self.those(self.process(id).failed_calls.as_slice(), failed)
            .next()
    }

    /// What a process that ended badly wrote to its standard error last.
    pub fn stderr(&self, id: ProcessId) -> Option<(&Event, &StderrTail)> {
        self.those(self.process(id).stderr.as_slice(), |what| match what {
            What::StderrTail(tail) => Some(tail),
            _ => None,
        })
        .next()
    }

    /// The failed calls of all processes, in order.
    pub fn all_failed_calls(&self) -> impl Iterator<Item = (ProcessId, &Event, &FailedCalls)> {
        self.each(failed)
            .filter_map(|(event, failed)| Some((self.process_of(&event.task)?, event, failed)))
    }

    /// When a process ended, CLOCK_BOOTTIME nanoseconds; the trace's end if it didn't.
    pub fn ended_ns(&self, id: ProcessId) -> u64 {
        self.exit(id)
            .map_or(self.end_ns(), |(event, _)| event.time_ns)
    }

    /// Whose child a process was when it ended.
    pub fn last_parent(&self, id: ProcessId) -> Option<ProcessId> {
        self.process_of(&self.exit(id)?.1.parent)
    }
}

fn failed(what: &What) -> Option<&FailedCalls> {
    match what {
        What::FailedCalls(failed) => Some(failed),
        _ => None,
    }
}
