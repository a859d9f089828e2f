//! The process table: what is known of the jail's processes between their events.
//!
//! Keyed by host PID and start time, as PIDs are reused. Its size is bounded: an entry goes when the
//! kernel frees the process, and beyond [`CAPACITY`] no more processes are followed, which costs
//! those their latencies and zombie times and nothing else.

use std::collections::HashMap;

use procjail_common::{self as common, task_flags};

use super::decode::text;
use super::model::Task;

/// Most processes that are followed at a time.
const CAPACITY: usize = 1 << 16;

/// Most undelivered signals that are remembered of one process. Standard signals coalesce and need
/// no more; it bounds the real-time ones, which queue.
const PENDING: usize = 128;

/// A process of the jail.
#[derive(Debug)]
pub(super) struct Process {
    task: Task,
    ns_pid: u32,
    ns_level: u32,
    parent_pid: u32,
    state: State,
    /// Its parent was sent SIGCHLD for its end: it is a zombie that somebody must reap.
    notified: bool,
    pending: Vec<Pending>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Dead { at_ns: u64 },
    Reaped,
}

/// A signal on its way.
#[derive(Clone, Copy, Debug)]
struct Pending {
    signal: i32,
    /// Thread that it was sent to; `None` for the whole process.
    tid: Option<u32>,
    sent: Sent,
}

/// When a signal was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) time_ns: u64,
    pub(super) seq: u64,
}

/// What a wait that returned a child turned out to be.
#[derive(Debug, PartialEq)]
pub(super) enum Reaped {
    /// The child was dead, for so long if its end was seen.
    Child(Task, Option<u64>),
    /// The child lives: the wait told of a stop, or left the zombie in place.
    Alive,
    /// A child that was never seen.
    Unknown,
}

#[derive(Debug, Default)]
pub(super) struct Processes {
    by_pid: HashMap<u32, Process>,
    by_jail_pid: HashMap<u32, u32>,
    refused: u64,
    sigchld_seen: bool,
}

impl Processes {
    /// Takes note of a task that a record names, if it is one of the jail's.
    pub(super) fn see(&mut self, task: &common::Task) -> Option<&mut Process> {
        let known = self
            .by_pid
            .get(&task.pid)
            .is_some_and(|process| process.task.start_ns == task.start_ns);
        if !known {
            if task.flags & task_flags::IN_JAIL == 0 || task.pid == 0 {
                return None;
            }
            self.insert(task)?;
        }
        let process = self.by_pid.get_mut(&task.pid)?;
        if task.jail_pid != 0 && process.task.jail_pid.is_none() {
            process.task.jail_pid = Some(task.jail_pid);
            self.by_jail_pid.insert(task.jail_pid, task.pid);
        }
        Some(process)
    }

    fn insert(&mut self, task: &common::Task) -> Option<()> {
        self.remove(task.pid);
        if self.by_pid.len() >= CAPACITY {
            // Looking for what can go takes as long as the table is large, so not each time.
            if self.refused.is_multiple_of(CAPACITY as u64 / 16) {
                self.by_pid
                    .retain(|_, process| process.state != State::Reaped);
                let by_pid = &self.by_pid;
                self.by_jail_pid.retain(|_, pid| by_pid.contains_key(pid));
            }
            self.refused += 1;
            if self.by_pid.len() >= CAPACITY {
                return None;
            }
        }
        if task.jail_pid != 0 {
            self.by_jail_pid.insert(task.jail_pid, task.pid);
        }
        let process = Process {
            task: Task {
                tid: task.pid,
                ..model_task(task)
            },
            ns_pid: task.ns_pid,
            ns_level: task.ns_level,
            parent_pid: 0,
            state: State::Running,
            notified: false,
            pending: Vec::new(),
        };
        self.by_pid.insert(task.pid, process);
        Some(())
    }

    fn remove(&mut self, pid: u32) {
        if let Some(process) = self.by_pid.remove(&pid)
            && let Some(jail_pid) = process.task.jail_pid
            && self.by_jail_pid.get(&jail_pid) == Some(&pid)
        {
            self.by_jail_pid.remove(&jail_pid);
        }
    }

    /// The task as the trace tells it. What the kernel has taken off a dying task already is filled
    /// in from before.
    pub(super) fn describe(&self, task: &common::Task) -> Task {
        let mut described = model_task(task);
        if described.jail_pid.is_none()
            && let Some(known) = self.by_pid.get(&task.pid)
            && known.task.start_ns == task.start_ns
        {
            described.jail_pid = known.task.jail_pid;
        }
        described
    }

    pub(super) fn fork(&mut self, parent: &common::Task, child: &common::Task) {
        if let Some(process) = self.see(child) {
            process.parent_pid = parent.pid;
        }
    }

    /// The process's program was replaced, and its name.
    pub(super) fn exec(&mut self, task: &common::Task) {
        if let Some(process) = self.see(task) {
            process.task.comm = text(&task.comm);
        }
    }

    pub(super) fn exit(&mut self, task: &common::Task, parent: &common::Task, at_ns: u64) {
        if let Some(process) = self.see(task) {
            process.state = State::Dead { at_ns };
            if task.tid == task.pid {
                // It may have given itself another one since.
                process.task.comm = text(&task.comm);
            }
            process.parent_pid = parent.pid;
            process.pending = Vec::new();
        }
    }

    /// The exiting task sent its parent SIGCHLD.
    pub(super) fn notified(&mut self, task: &common::Task) {
        self.sigchld_seen = true;
        if let Some(process) = self.see(task) {
            process.notified = true;
        }
    }

    /// A wait of `reaper` returned the child that is `ns_pid` in the reaper's PID namespace.
    pub(super) fn reap(&mut self, reaper: &common::Task, ns_pid: u32, at_ns: u64) -> Reaped {
        let Some(pid) = self.host_pid(reaper, ns_pid) else {
            return Reaped::Unknown;
        };
        let Some(child) = self.by_pid.get_mut(&pid) else {
            return Reaped::Unknown;
        };
        let State::Dead { at_ns: died_ns } = child.state else {
            return Reaped::Alive;
        };
        child.state = State::Reaped;
        Reaped::Child(child.task.clone(), Some(at_ns.saturating_sub(died_ns)))
    }

    /// The process that is `ns_pid` in the PID namespace of `caller`, if the trace knows it.
    pub(super) fn named(&self, caller: &common::Task, ns_pid: u32) -> Option<Task> {
        if ns_pid == caller.ns_pid {
            return Some(self.describe(caller));
        }
        self.find(self.host_pid(caller, ns_pid)?)
    }

    /// The host PID of the process that is `ns_pid` in the PID namespace of `reaper`.
    fn host_pid(&self, reaper: &common::Task, ns_pid: u32) -> Option<u32> {
        if reaper.ns_level == 0 {
            return Some(ns_pid);
        }
        if reaper.jail_pid != 0 && reaper.jail_pid == reaper.ns_pid {
            return self.by_jail_pid.get(&ns_pid).copied();
        }
        // A namespace inside the jail's (or one entered from elsewhere): its numbers are known only of
        // the processes whose innermost namespace it is.
        let mut children = self.by_pid.values().filter(|process| {
            matches!(process.state, State::Dead { .. })
                && process.parent_pid == reaper.pid
                && process.ns_level == reaper.ns_level
                && process.ns_pid == ns_pid
        });
        children.next().map(|process| process.task.pid)
    }

    /// The kernel freed the process; it is forgotten.
    pub(super) fn free(&mut self, task: &common::Task) -> Task {
        let known = self
            .by_pid
            .get(&task.pid)
            .filter(|known| known.task.start_ns == task.start_ns);
        let described = match known {
            Some(known) => known.task.clone(),
            None => return model_task(task),
        };
        self.remove(task.pid);
        described
    }

    /// Remembers that a signal is on its way.
    pub(super) fn sent(&mut self, target: &common::Task, group: bool, signal: i32, sent: Sent) {
        let Some(process) = self.see(target) else {
            return;
        };
        let tid = (!group).then_some(target.tid);
        if signal < libc::SIGRTMIN() {
            // The kernel queues one of each: it took an earlier one back, or it went by unseen.
            process
                .pending
                .retain(|pending| (pending.signal, pending.tid) != (signal, tid));
        }
        if process.pending.len() < PENDING {
            process.pending.push(Pending { signal, tid, sent });
        }
    }

    /// The signal arrived: when it was sent. `last` forgets it.
    pub(super) fn delivered(
        &mut self,
        task: &common::Task,
        signal: i32,
        last: bool,
    ) -> Option<Sent> {
        let process = self.see(task)?;
        let pending = &mut process.pending;
        // As the kernel does: the thread's own queue first, then the one that threads share.
        let index = pending
            .iter()
            .position(|pending| pending.signal == signal && pending.tid == Some(task.tid))
            .or_else(|| {
                pending
                    .iter()
                    .position(|pending| pending.signal == signal && pending.tid.is_none())
            })?;
        let sent = pending.get(index)?.sent;
        if last {
            pending.remove(index);
        }
        Some(sent)
    }

    /// The signal that killed a process may have been sent to another of its threads.
    pub(super) fn fatal(&mut self, task: &common::Task, signal: i32) -> Option<Sent> {
        if let Some(sent) = self.delivered(task, signal, false) {
            return Some(sent);
        }
        let process = self.see(task)?;
        let sent = process
            .pending
            .iter()
            .find(|pending| pending.signal == signal)?;
        Some(sent.sent)
    }

    /// The process that a thread ID names, if it is its main thread's.
    pub(super) fn find(&self, tid: u32) -> Option<Task> {
        self.by_pid.get(&tid).map(|process| process.task.clone())
    }

    /// Processes that are dead and that somebody still has to reap.
    ///
    /// Those that the kernel reaps itself, as their parent ignores SIGCHLD, send no signal; where
    /// signals are recorded, that tells them apart from zombies.
    pub(super) fn zombies(&self) -> u64 {
        let zombies = self.by_pid.values().filter(|process| {
            matches!(process.state, State::Dead { .. })
                && process.task.jail_pid.is_some_and(|pid| pid != 1)
                && (process.notified || !self.sigchld_seen)
        });
        zombies.count() as u64
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_pid.len()
    }
}

/// A task as the trace tells it, from its record alone.
fn model_task(task: &common::Task) -> Task {
    Task {
        pid: task.pid,
        tid: task.tid,
        jail_pid: (task.jail_pid != 0).then_some(task.jail_pid),
        comm: text(&task.comm),
        start_ns: task.start_ns,
        in_jail: task.flags & task_flags::IN_JAIL != 0,
        cgroup_id: task.cgroup_id,
    }
}
