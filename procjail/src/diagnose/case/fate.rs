//! What became of processes: who collected whom, and what was passed on.

use std::collections::HashSet;

use super::{Case, ProcessId};
use crate::event::{Event, ExitStatus, FailedCalls, Mount, StderrTail, What};

/// A process that returns soon after it collected a child is taken to return because of it, nanoseconds.
const AT_ONCE_NS: u64 = 100_000_000;
/// The same for one that returns exactly the child's code, or cleans up before.
const SOON_NS: u64 = 1_000_000_000;
/// The same for one that returns a child's uncommon code, which it must have kept meanwhile, nanoseconds.
const KEPT_NS: u64 = 10_000_000_000;

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

/// A child's bad end that may show in the exit code of the process that collected it.
#[derive(Clone, Copy, Debug)]
pub struct PassedOn<'a> {
    /// The child.
    pub child: ProcessId,
    /// How it shows.
    pub how: Passing,
    /// When it was collected; when it ended, if it never was.
    pub reap: &'a Event,
    /// It was collected.
    pub collected: bool,
    /// When the process that collected it ended.
    pub exit: &'a Event,
    /// Other children, collected together with it, whose ends would show in the same way.
    pub others: usize,
    /// Children that were collected after it, all of which had succeeded.
    pub between: usize,
}

impl PassedOn<'_> {
    /// From the one to the other, nanoseconds.
    pub fn after_ns(&self) -> u64 {
        self.exit.time_ns.saturating_sub(self.reap.time_ns)
    }
}

/// How a bad status shows in an exit code.
fn passing(status: &ExitStatus, code: i32) -> Passing {
    match (&status.signal, status.code) {
        (Some(signal), _) if code == 128 + signal.number => Passing::Signal,
        (None, Some(same)) if same == code => Passing::Code,
        _ => Passing::Changed,
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

    /// The child whose bad end a process's exit code may stem from: among the last ones that it waited for.
    ///
    /// The last ones are those collected since it made its last child: a shell's last command, all of a pipeline,
    /// the workers of a pool. Where all of these succeeded, it is the last bad one before them: a command that was
    /// cleaned up after. An equal code of any other child means nothing.
    pub fn passed_on(&self, id: ProcessId) -> Option<PassedOn<'_>> {
        let (exit, ended) = self.exit(id)?;
        let code = ended.status.code.filter(|code| *code != 0)?;
        let collected: Vec<(ProcessId, &Event)> = self
            .collected_by(id)
            .filter(|(_, reap)| reap.seq < exit.seq)
            .collect();
        // What it collects once it has begun to end the others is what came of its decision, never the reason.
        let gave_up_ns = self.gave_up_ns(id, exit, &collected);
        let decided = gave_up_ns.and_then(|at_ns| {
            let before = collected.partition_point(|(_, reap)| reap.time_ns <= at_ns);
            self.stems_from(id, (exit, code), collected.get(..before)?, at_ns)
        });
        let bad = |(child, _): &(ProcessId, &Event)| self.status(*child).is_some_and(is_bad);
        decided.or_else(|| match collected.iter().any(bad) {
            true => self.stems_from(id, (exit, code), &collected, exit.time_ns),
            // One whose pipe or socket told enough.
            false => self.uncollected(id, (exit, code)),
        })
    }

    /// The child among those that a process collected up to a time from whose bad end its code stems.
    fn stems_from<'a>(
        &'a self,
        id: ProcessId,
        (exit, code): (&'a Event, i32),
        collected: &[(ProcessId, &'a Event)],
        at_ns: u64,
    ) -> Option<PassedOn<'a>> {
        let bad = |child: ProcessId| self.status(child).filter(|status| is_bad(status));
        let last_made = self.last_made(id, at_ns);
        let first = collected.partition_point(|(_, reap)| reap.time_ns < last_made);
        let last = collected.get(first..)?;
        let passed = |(child, reap): (ProcessId, &'a Event), others, between| PassedOn {
            child,
            how: bad(child).map_or(Passing::Changed, |status| passing(status, code)),
            reap,
            collected: true,
            exit,
            others,
            between,
        };
        let age = |reap: &Event| at_ns.saturating_sub(reap.time_ns);
        for how in [Passing::Signal, Passing::Code] {
            let fits = |(child, reap): &&(ProcessId, &Event)| {
                bad(*child).is_some_and(|status| passing(status, code) == how)
                    && (how == Passing::Signal || age(reap) <= SOON_NS)
            };
            // Of a pipeline the last one's code counts.
            if let Some(chosen) = last
                .iter()
                .filter(fits)
                .max_by_key(|(child, _)| self.born_ns(*child))
            {
                return Some(passed(*chosen, last.iter().filter(fits).count() - 1, 0));
            }
        }
        // Who ends the rest of a pool one by one ends because of the first.
        let soon = last.last().is_some_and(|(_, reap)| age(reap) <= AT_ONCE_NS);
        let mut failed: Vec<&(ProcessId, &Event)> = last
            .iter()
            .filter(|(child, _)| bad(*child).is_some())
            .collect();
        failed.sort_by_cached_key(|(child, _)| (self.ended_by(*child, id), self.ended_ns(*child)));
        if let Some(chosen) = failed.first() {
            return (soon || self.is_grave(chosen.0)).then(|| passed(**chosen, 0, 0));
        }
        let at = collected
            .iter()
            .rposition(|(child, _)| bad(*child).is_some())?;
        let chosen = *collected.get(at)?;
        let kept = code > 1 && bad(chosen.0).and_then(|status| status.code) == Some(code);
        let within_ns = if kept { KEPT_NS } else { SOON_NS };
        let counts =
            !self.ended_by(chosen.0, id) && (age(chosen.1) <= within_ns || self.is_grave(chosen.0));
        counts.then(|| passed(chosen, 0, collected.len() - 1 - at))
    }

    /// The last child of a process that ended badly right before it, and that it did not collect or kill.
    fn uncollected<'a>(
        &'a self,
        id: ProcessId,
        (exit, code): (&'a Event, i32),
    ) -> Option<PassedOn<'a>> {
        let broken_pipe = |status: &ExitStatus| {
            status
                .signal
                .as_ref()
                .is_some_and(|signal| signal.number == libc::SIGPIPE)
        };
        self.process(id)
            .children
            .iter()
            .filter_map(|child| Some((*child, self.exit(*child)?)))
            .filter(|(child, (end, ended))| {
                end.time_ns <= exit.time_ns
                    && exit.time_ns - end.time_ns <= AT_ONCE_NS
                    && is_bad(&ended.status)
                    && !broken_pipe(&ended.status)
                    && self.reap(*child).is_none()
                    && !self.killed_by(*child, id)
            })
            .max_by_key(|(_, (end, _))| end.time_ns)
            .map(|(child, (end, ended))| PassedOn {
                child,
                how: passing(&ended.status, code),
                reap: end,
                collected: false,
                exit,
                others: 0,
                between: 0,
            })
    }

    /// When a process made its last child before that time, CLOCK_BOOTTIME nanoseconds.
    fn last_made(&self, id: ProcessId, before_ns: u64) -> u64 {
        let born = self
            .process(id)
            .children
            .iter()
            .map(|child| self.born_ns(*child));
        born.filter(|born| *born <= before_ns).max().unwrap_or(0)
    }

    /// That process itself sent the signal that ended the child.
    pub fn killed_by(&self, child: ProcessId, by: ProcessId) -> bool {
        self.killing_signal(child)
            .is_some_and(|(event, _)| self.process_of(&event.task) == Some(by))
    }

    /// Such an end is remembered however long ago it was: an OOM kill, or a crash.
    pub fn is_grave(&self, id: ProcessId) -> bool {
        let crash = |signal: i32| {
            matches!(
                signal,
                libc::SIGSEGV
                    | libc::SIGBUS
                    | libc::SIGILL
                    | libc::SIGFPE
                    | libc::SIGABRT
                    | libc::SIGSYS
            )
        };
        self.process(id).oom_kill.is_some()
            || self
                .status(id)
                .and_then(|status| status.signal.as_ref())
                .is_some_and(|signal| crash(signal.number))
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
            let reaped = self.reap(id);
            let Some(reaper) = reaped
                .and_then(|(event, _)| self.process_of(&event.task))
                .or_else(|| self.last_parent(id).filter(|_| reaped.is_none()))
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

    /// The calls of a process that change mounts and namespaces and failed, in order.
    pub fn failed_mounts(&self, id: ProcessId) -> impl Iterator<Item = (&Event, &Mount)> {
        self.those(&self.process(id).failed_mounts, |what| match what {
            What::Mount(mount) => Some(mount),
            _ => None,
        })
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
