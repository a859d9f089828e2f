//! Building a [`Case`] from a trace, event by event.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Case, Notice, Process, ProcessId};
use crate::diagnose::rules::Known;
use crate::event::{
    Disposition, Event, SignalCode, SignalDelivered, SignalGenerated, SignalResult, Task, What,
    is_cut_start,
};
use crate::trace::Output;
use crate::trace::{Footer, Header, ReadError, Reader};

/// Of signals that are alike, so many are kept from the first on, and the last.
const ALIKE: u64 = 8;
/// Most events that are kept. A trace that has more makes its verdicts less sure.
const KEPT: usize = 600_000;

/// What makes two signals alike.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Class {
    delivered: bool,
    from: u32,
    to: u32,
    signal: i32,
    code: i32,
    result: SignalResult,
    disposition: Disposition,
    blocked: bool,
    exiting: bool,
}

/// Signals that are alike.
struct Mass {
    seen: u64,
    /// The first one's number.
    first_seq: u64,
    /// The last one that was not kept.
    last: Option<Event>,
}

/// Takes a trace as an output does, and makes a [`Case`] of it.
pub struct Builder {
    case: Option<Case>,
    masses: HashMap<Class, Mass>,
}

impl Builder {
    /// Nothing so far.
    pub fn new() -> Self {
        Self {
            case: None,
            masses: HashMap::new(),
        }
    }

    /// Takes an event, and note of so many before it that were like it and are left out.
    fn event_of_many(&mut self, event: &Event, omitted: u64) -> io::Result<()> {
        if let Some(case) = &mut self.case {
            case.total += omitted;
        }
        if let Some(mass) = Self::class(event).and_then(|class| self.masses.get_mut(&class)) {
            mass.seen += omitted;
        }
        self.event(event)
    }

    /// The case; `None` if there was not even a header.
    pub fn finish(mut self) -> Option<Case> {
        let mut case = self.case.take()?;
        let mut last = Vec::new();
        for mass in self.masses.into_values() {
            let Some(event) = mass.last else { continue };
            // It is kept after all, so one less is only counted.
            case.repeats
                .insert(mass.first_seq, mass.seen.saturating_sub(ALIKE + 1));
            last.push(event);
        }
        case.append(last);
        case.index();
        Some(case)
    }

    fn class(event: &Event) -> Option<Class> {
        match &event.what {
            What::SignalGenerated(SignalGenerated {
                signal,
                code: SignalCode { number: code, .. },
                target,
                result,
                disposition,
                blocked,
                exiting,
                ..
            }) => Some(Class {
                delivered: false,
                from: event.task.pid,
                to: target.pid,
                signal: signal.number,
                code: *code,
                result: *result,
                disposition: *disposition,
                blocked: *blocked,
                exiting: *exiting,
            }),
            What::SignalDelivered(SignalDelivered {
                signal,
                code,
                disposition,
                ..
            }) => Some(Class {
                delivered: true,
                from: 0,
                to: event.task.pid,
                signal: signal.number,
                code: code.number,
                result: SignalResult::Delivered,
                disposition: *disposition,
                blocked: false,
                exiting: false,
            }),
            _ => None,
        }
    }

    /// Whether the event is kept, or only counted.
    fn keeps(&mut self, event: &Event) -> bool {
        let Some(class) = Self::class(event) else {
            return true;
        };
        let mass = self.masses.entry(class).or_insert(Mass {
            seen: 0,
            first_seq: event.seq,
            last: None,
        });
        mass.seen += 1;
        if mass.seen <= ALIKE {
            return true;
        }
        match &mut mass.last {
            Some(last) if event.is_like(last) => last.renew(event),
            last => *last = Some(event.clone()),
        }
        false
    }
}

/// A builder that several hold: the writer of a live trace fills it, whoever explains takes it.
#[derive(Clone, Default)]
pub struct SharedBuilder(Arc<Mutex<Builder>>);

impl SharedBuilder {
    /// The case of what came so far; `None` if there was not even a header.
    pub fn finish(&self) -> Option<Case> {
        std::mem::take(&mut *self.lock()).finish()
    }

    fn lock(&self) -> MutexGuard<'_, Builder> {
        // A panic while it was held leaves at worst an event out.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Output for SharedBuilder {
    fn header(&mut self, header: &Header) -> io::Result<()> {
        self.lock().header(header)
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        self.lock().event(event)
    }

    fn footer(&mut self, footer: Option<&Footer>) -> io::Result<()> {
        self.lock().footer(footer)
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Output for Builder {
    fn header(&mut self, header: &Header) -> io::Result<()> {
        self.case = Some(Case {
            header: header.clone(),
            footer: None,
            reported: None,
            events: Vec::new(),
            processes: Vec::new(),
            by_key: HashMap::new(),
            by_pid: HashMap::new(),
            pid1: None,
            repeats: HashMap::new(),
            oom_kills: Vec::new(),
            limit_changes: Vec::new(),
            senders: HashMap::new(),
            gate_ns: None,
            end_ns: header.start_boot_ns,
            total: 0,
            overflow: 0,
            known: Known::default(),
        });
        Ok(())
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        let keeps = self.keeps(event);
        let Some(case) = &mut self.case else {
            return Ok(());
        };
        case.total += 1;
        case.end_ns = case.end_ns.max(event.time_ns);
        if case.takes_note(event) || !keeps {
            return Ok(());
        }
        // The launcher's own events are few, and tell how the run ended.
        if case.events.len() >= KEPT && !case.is_launcher(&event.task) {
            case.overflow += 1;
            return Ok(());
        }
        let mut event = event.clone();
        if let What::ExecFailed(failed) = &mut event.what {
            // Another one than the process saw, from a trace of when all were looked up in PID 1's root.
            let error = failed.error.number;
            failed.file = failed.file.take().filter(|file| file.may_fail_with(error));
        }
        case.events.push(event);
        Ok(())
    }

    fn footer(&mut self, footer: Option<&Footer>) -> io::Result<()> {
        if let Some(case) = &mut self.case {
            case.footer = footer.cloned();
            if let Some(footer) = footer {
                case.end_ns = case.end_ns.max(footer.end_boot_ns);
            }
        }
        Ok(())
    }
}

impl Case {
    /// The case of a trace, read to its end or to where it is damaged. There the error tells where; what
    /// came before is in the case all the same.
    ///
    /// # Errors
    ///
    /// None: a builder takes everything. The type is that of an [`Output`].
    pub fn read(reader: &mut Reader) -> io::Result<(Self, Option<ReadError>)> {
        let mut builder = Builder::new();
        builder.header(reader.header())?;
        let mut damage = None;
        for event in reader.condensed() {
            match event {
                Ok((event, omitted)) => builder.event_of_many(&event, omitted)?,
                Err(error) => {
                    damage = Some(error);
                    break;
                }
            }
        }
        builder.footer(reader.footer())?;
        let case = builder.finish();
        case.map(|case| (case, damage))
            .ok_or_else(|| io::Error::other("the trace has no header"))
    }

    /// Keeps with the process what needs no event of its own: its release, the SIGCHLD for its end.
    fn takes_note(&mut self, event: &Event) -> bool {
        match &event.what {
            What::Free(free) => {
                let id = self.seen(&free.process);
                self.processes[id.0].freed_ns = Some(event.time_ns);
                true
            }
            What::SignalGenerated(signal)
                if signal.signal.number == libc::SIGCHLD
                    && (libc::CLD_EXITED..=libc::CLD_DUMPED).contains(&signal.code.number)
                    && signal.sender_exiting =>
            {
                let notice = Notice {
                    seq: event.seq,
                    time_ns: event.time_ns,
                    parent_pid: signal.target.pid,
                    result: signal.result,
                    disposition: signal.disposition,
                };
                let id = self.seen(&event.task);
                self.processes[id.0].notice = Some(notice);
                true
            }
            _ => false,
        }
    }

    /// The entry of a task's process, made if there is none.
    fn seen(&mut self, task: &Task) -> ProcessId {
        let known = match task.start_ns {
            0 => self.by_pid.get(&task.pid),
            start_ns => self.by_key.get(&(task.pid, start_ns)),
        };
        let known = known.or_else(|| self.cut(task));
        let id = match known {
            Some(id) => *id,
            None => {
                let id = ProcessId(self.processes.len());
                self.processes.push(Process {
                    task: Task {
                        tid: task.pid,
                        ..task.clone()
                    },
                    ..Process::default()
                });
                self.by_key.insert((task.pid, task.start_ns), id);
                self.by_pid.insert(task.pid, id);
                id
            }
        };
        let process = &mut self.processes[id.0];
        // Of a start that is cut to a tick and the exact one, the exact one counts.
        if task.start_ns > process.task.start_ns {
            process.task.start_ns = task.start_ns;
            self.by_key.insert((task.pid, task.start_ns), id);
        }
        if process.task.jail_pid.is_none() {
            process.task.jail_pid = task.jail_pid;
        }
        process.task.in_jail |= task.in_jail;
        // A thread may have a name of its own.
        if task.tid == task.pid && !task.comm.is_empty() && process.task.comm != task.comm {
            process.task.comm.clone_from(&task.comm);
        }
        id
    }

    /// The entry of the same process whose start a look at procfs has cut to a tick, or that of `task` is.
    pub(super) fn cut(&self, task: &Task) -> Option<&ProcessId> {
        self.by_pid.get(&task.pid).filter(|id| {
            let known = &self.processes[id.0].task;
            is_cut_start(known.start_ns, task.start_ns)
        })
    }

    /// Puts events where their numbers say.
    fn append(&mut self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        self.events.extend(events);
        self.events.sort_by_key(|event| event.seq);
    }

    /// Tells the processes of their events.
    fn index(&mut self) {
        let events = std::mem::take(&mut self.events);
        for (index, event) in events.iter().enumerate() {
            self.index_event(index, event);
        }
        self.events = events;
        self.pid1 = self
            .by_pid
            .get(&self.header.jail.pid)
            .copied()
            .filter(|id| {
                self.processes[id.0]
                    .task
                    .jail_pid
                    .is_none_or(|pid| pid == 1)
            })
            .or_else(|| {
                self.processes
                    .iter()
                    .position(Process::is_pid1)
                    .map(ProcessId)
            });
    }

    fn index_event(&mut self, index: usize, event: &Event) {
        match event.what {
            What::GateOpened(_) => self.gate_ns = Some(event.time_ns),
            What::OomKill(_) => self.oom_kills.push(index),
            What::LimitChanged(_) => self.limit_changes.push(index),
            _ => {}
        }
        if event.task.pid == 0 {
            // The idle task: a timer's signal comes in its name.
            if let What::SignalGenerated(signal) = &event.what {
                let target = self.seen(&signal.target);
                self.processes[target.0].received.push(index);
            }
            return;
        }
        let id = self.seen(&event.task);
        match &event.what {
            What::Fork(fork) if !fork.thread => {
                let child = self.seen(&fork.child);
                let creator_tid = event.task.tid;
                let known = &self.processes[child.0];
                // Made once, and by none that it made itself: whatever a file claims, this is a tree.
                if child != id
                    && known.creator.is_none()
                    && (known.children.is_empty() || !self.is_below(id, child))
                {
                    let process = &mut self.processes[child.0];
                    process.creator = Some(id);
                    process.creator_tid = creator_tid;
                    process.forked = Some(index);
                    self.processes[id.0].children.push(child);
                }
            }
            What::Exec(_) => self.processes[id.0].execs.push(index),
            What::Found(found) => {
                match found.state.as_str() {
                    "Z" | "X" => self.processes[id.0].found_dead = Some(index),
                    _ => self.processes[id.0].execs.push(index),
                }
                let parent = self.by_pid.get(&found.parent.pid).copied();
                let known = parent.filter(|parent| {
                    let (told, known) = (
                        found.parent.start_ns,
                        self.processes[parent.0].task.start_ns,
                    );
                    let same = told == known || is_cut_start(told, known);
                    same && *parent != id && !self.is_below(*parent, id)
                });
                if let Some(parent) = known.filter(|_| self.processes[id.0].creator.is_none()) {
                    self.processes[id.0].creator = Some(parent);
                    self.processes[parent.0].children.push(id);
                }
            }
            What::ExecFailed(_) => self.processes[id.0].failed_execs.push(index),
            What::Exit(exit) if exit.process => self.processes[id.0].exit = Some(index),
            What::Exit(_) => self.processes[id.0].thread_exits.push(index),
            What::Reap(reap) if reap.child.pid != 0 => {
                let child = self.seen(&reap.child);
                self.processes[child.0].reap = Some(index);
                self.processes[id.0].collected.push(child);
            }
            What::SignalGenerated(signal) => {
                self.processes[id.0].sent.push(index);
                let target = self.seen(&signal.target);
                self.processes[target.0].received.push(index);
            }
            What::SignalDelivered(_) => self.processes[id.0].delivered.push(index),
            What::OomKill(kill) => {
                let victim = self.seen(&kill.victim);
                self.processes[victim.0].oom_kill = Some(index);
            }
            What::Sender(_) => {
                let key = (event.task.pid, event.task.start_ns);
                self.senders.entry(key).or_insert(index);
            }
            What::FailedCalls(_) => self.processes[id.0].failed_calls = Some(index),
            What::Mount(call) if call.error.is_some() => {
                self.processes[id.0].failed_mounts.push(index);
            }
            What::StderrTail(_) => self.processes[id.0].stderr = Some(index),
            _ => {}
        }
    }
}
