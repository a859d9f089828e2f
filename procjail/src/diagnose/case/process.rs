//! The processes of a trace, and how they are related.

use super::{Case, Index};
use crate::event::{
    Disposition, Event, Exec, ExecFailed, Exit, ExitStatus, Reap, SignalResult, Task, What,
};

/// A process of a [`Case`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessId(pub(super) usize);

/// The SIGCHLD with which a dead process announced itself.
#[derive(Clone, Debug)]
pub struct Notice {
    /// Its event.
    pub seq: u64,
    /// When, CLOCK_BOOTTIME nanoseconds.
    pub time_ns: u64,
    /// Host PID of the parent that got it.
    pub parent_pid: u32,
    /// What became of it.
    pub result: SignalResult,
    /// What the parent does with SIGCHLD.
    pub disposition: Disposition,
}

/// A process: all that the trace tells of it, by position of the events.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// Who it is. The name is the last one seen.
    pub task: Task,
    /// The process that made it.
    pub creator: Option<ProcessId>,
    /// Host thread ID that made it; 0 if unknown.
    pub creator_tid: u32,
    /// Its fork.
    pub forked: Option<Index>,
    /// The processes that it made.
    pub children: Vec<ProcessId>,
    /// Programs that it executed.
    pub execs: Vec<Index>,
    /// Programs that it couldn't.
    pub failed_execs: Vec<Index>,
    /// Its end.
    pub exit: Option<Index>,
    /// Ends of threads before that, as far as they are recorded.
    pub thread_exits: Vec<Index>,
    /// The SIGCHLD for its end.
    pub notice: Option<Notice>,
    /// How it was reaped.
    pub reap: Option<Index>,
    /// The children that it reaped, in order.
    pub collected: Vec<ProcessId>,
    /// When the kernel released it, CLOCK_BOOTTIME nanoseconds.
    pub freed_ns: Option<u64>,
    /// Signals that it was sent (kept ones).
    pub received: Vec<Index>,
    /// Signals that it sent (kept ones).
    pub sent: Vec<Index>,
    /// Signals that it took (kept ones).
    pub delivered: Vec<Index>,
    /// The OOM kill whose victim it was.
    pub oom_kill: Option<Index>,
    /// Its last failed calls.
    pub failed_calls: Option<Index>,
    /// Calls that change mounts and namespaces, which have events of their own, and failed.
    pub failed_mounts: Vec<Index>,
    /// What it wrote to its standard error last.
    pub stderr: Option<Index>,
    /// It was dead, and not collected, when procjail attached.
    pub found_dead: Option<Index>,
}

impl Process {
    /// It is PID 1 of the jail.
    pub fn is_pid1(&self) -> bool {
        self.task.jail_pid == Some(1)
    }

    /// It belongs to the jail.
    pub fn in_jail(&self) -> bool {
        self.task.in_jail || self.task.jail_pid.is_some()
    }
}

impl Case {
    /// The end of a process.
    pub fn exit(&self, id: ProcessId) -> Option<(&Event, &Exit)> {
        self.those(self.process(id).exit.as_slice(), ended).next()
    }

    /// How a process ended.
    pub fn status(&self, id: ProcessId) -> Option<&ExitStatus> {
        self.exit(id).map(|(_, exit)| &exit.status)
    }

    /// Ends of single threads of a process.
    pub fn thread_exits(&self, id: ProcessId) -> impl Iterator<Item = (&Event, &Exit)> {
        self.those(&self.process(id).thread_exits, ended)
    }

    /// The programs that a process executed, in order.
    pub fn execs(&self, id: ProcessId) -> impl DoubleEndedIterator<Item = (&Event, &Exec)> {
        self.those(&self.process(id).execs, |what| match what {
            What::Exec(exec) => Some(exec),
            What::Found(found) => Some(&found.program),
            _ => None,
        })
    }

    /// The program that a process runs last: its own, or that of the nearest ancestor that executed one
    /// before it was made.
    pub fn program(&self, id: ProcessId) -> Option<(&Event, &Exec)> {
        let mut id = id;
        // Bounded: a chain of creators can't be longer than there are processes.
        for _ in 0..=self.processes.len() {
            if let Some(exec) = self.execs(id).next_back() {
                return Some(exec);
            }
            id = self.process(id).creator?;
        }
        None
    }

    /// The execs of a process that failed.
    pub fn failed_execs(&self, id: ProcessId) -> impl Iterator<Item = (&Event, &ExecFailed)> {
        self.those(&self.process(id).failed_execs, |what| match what {
            What::ExecFailed(failed) => Some(failed),
            _ => None,
        })
    }

    /// How a process was reaped: the event's task is who did it.
    pub fn reap(&self, id: ProcessId) -> Option<(&Event, &Reap)> {
        let event = self.event(self.process(id).reap?);
        match &event.what {
            What::Reap(reap) => Some((event, reap)),
            _ => None,
        }
    }

    /// When a process was made, CLOCK_BOOTTIME nanoseconds; its first sign if that isn't known.
    pub fn born_ns(&self, id: ProcessId) -> u64 {
        let process = self.process(id);
        process
            .forked
            .map_or(process.task.start_ns, |index| self.event(index).time_ns)
    }

    /// The process existed and had not ended at that time.
    pub fn alive_at(&self, id: ProcessId, time_ns: u64) -> bool {
        self.born_ns(id) <= time_ns
            && self.process(id).found_dead.is_none()
            && self
                .exit(id)
                .is_none_or(|(event, _)| event.time_ns > time_ns)
    }

    /// When a process began to run a program, at the latest, CLOCK_BOOTTIME nanoseconds: `event` is one of
    /// [`Case::execs`]. What ran when procjail attached counts from the process's own start.
    pub fn began_ns(&self, event: &Event) -> u64 {
        match &event.what {
            What::Found(_) => event.task.start_ns.min(event.time_ns),
            _ => event.time_ns,
        }
    }

    /// The age of a process at that time, nanoseconds; of the main process of a jail since it was let go.
    pub fn age_ns(&self, id: ProcessId, time_ns: u64) -> u64 {
        let since = match self.process(id).task.start_ns {
            start_ns if start_ns != 0 && !self.is_launched() => start_ns,
            _ => self.gate_ns(),
        };
        time_ns.saturating_sub(since)
    }

    /// The processes below one, in the order in which they were made.
    pub fn descendants(&self, id: ProcessId) -> Vec<ProcessId> {
        let mut found = vec![];
        let mut next = 0;
        found.extend(&self.process(id).children);
        while let Some(id) = found.get(next).copied() {
            next += 1;
            found.extend(&self.process(id).children);
        }
        found.sort();
        found.dedup();
        found
    }

    /// Whether `above` made `id`, or made its maker, and so on.
    pub fn is_below(&self, id: ProcessId, above: ProcessId) -> bool {
        let mut id = id;
        for _ in 0..=self.processes.len() {
            match self.process(id).creator {
                Some(creator) if creator == above => return true,
                Some(creator) => id = creator,
                None => return false,
            }
        }
        false
    }

    /// Processes of the jail that ended, in the order of their ends.
    pub fn deaths(&self) -> Vec<ProcessId> {
        let mut dead: Vec<(Index, ProcessId)> = self
            .processes()
            .filter(|(_, process)| process.in_jail())
            .filter_map(|(id, process)| Some((process.exit?, id)))
            .collect();
        dead.sort();
        dead.into_iter().map(|(_, id)| id).collect()
    }
}

fn ended(what: &What) -> Option<&Exit> {
    match what {
        What::Exit(exit) => Some(exit),
        _ => None,
    }
}
