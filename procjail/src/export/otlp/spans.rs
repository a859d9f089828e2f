//! The jail, the parts of its life and its processes as spans.
//!
//! A span is sent when it is over, so only what lives is held: a process from its fork to its release.

use std::collections::{HashMap, VecDeque};

use opentelemetry_proto::tonic::trace::v1::{Span, Status, span, status};
use opentelemetry_semantic_conventions::attribute as semantic;

use super::attributes::{Attributes, cut};
use super::ids::{Ids, SpanId};
use super::record::{exit_status, usage};
use crate::event::{Event, Exit, ExitStatus, Task, What};
use crate::export::moment::Clock;
use crate::render;
use crate::text;
use crate::trace::{Footer, Header};
use crate::words;

/// Most processes that are followed at a time. Those beyond have log records, and no span.
const PROCESSES: usize = 1 << 16;

/// Most events of a span; what more there are is counted.
const EVENTS: usize = 32;

/// Columns of what a span's event says.
const WIDTH: usize = 160;

/// A process, by host PID and start.
type Key = (u32, u64);

/// The spans of a trace, as they come to be.
pub(super) struct Spans {
    ids: Ids,
    header: Header,
    launcher_pid: u32,
    processes: HashMap<Key, Process>,
    by_pid: HashMap<u32, u64>,
    /// Processes that have ended, oldest first: what goes if there are too many.
    ended: VecDeque<Key>,
    stop_ns: Option<u64>,
    stops: u64,
    set_up: bool,
    teardown: Option<Teardown>,
    pid1_ended: Option<ExitStatus>,
    root_events: Events,
    /// When the first of it happened: the header is made when the launcher has been at work for a while.
    start_ns: u64,
    last_ns: u64,
    over: Vec<Span>,
}

struct Process {
    id: SpanId,
    parent: SpanId,
    parent_pid: u32,
    task: Task,
    start_ns: u64,
    filename: String,
    argv: Vec<String>,
    events: Events,
    sent: bool,
}

#[derive(Default)]
struct Events {
    first: Vec<span::Event>,
    dropped: u32,
}

struct Teardown {
    start_ns: u64,
    end_ns: u64,
    steps: u64,
    failed: bool,
}

impl Spans {
    /// Those of the trace with that header.
    pub fn new(header: &Header) -> Self {
        Self {
            ids: Ids::of(header),
            launcher_pid: header.launcher_pid(),
            header: header.clone(),
            processes: HashMap::new(),
            by_pid: HashMap::new(),
            ended: VecDeque::new(),
            stop_ns: None,
            stops: 0,
            set_up: false,
            teardown: None,
            pid1_ended: None,
            root_events: Events::default(),
            start_ns: header.start_boot_ns,
            last_ns: header.start_boot_ns,
            over: Vec::new(),
        }
    }

    /// The spans that have ended since this was asked last.
    pub fn take(&mut self) -> Vec<Span> {
        std::mem::take(&mut self.over)
    }

    /// Follows an event, and tells the span that it belongs to: that of its process; if that isn't the
    /// jail's, that of the process it concerns; else the jail's.
    pub fn event(&mut self, event: &Event, clock: &Clock) -> SpanId {
        self.start_ns = self.start_ns.min(event.time_ns);
        self.last_ns = self.last_ns.max(event.time_ns);
        self.see(&event.task, event.time_ns);
        if let What::Fork(fork) = &event.what
            && !fork.thread
        {
            self.forked(&event.task, &fork.child, event.time_ns);
        }
        let target = event.what.target();
        let key = self
            .key(&event.task)
            .or_else(|| target.and_then(|target| self.key(target)));
        let id = key
            .and_then(|key| self.processes.get(&key))
            .map_or_else(|| self.ids.jail(), |process| process.id);
        match &event.what {
            What::Exec(exec) => {
                if let Some(process) = self.known(&event.task) {
                    process.task.comm.clone_from(&event.task.comm);
                    process.filename = cut(&exec.filename);
                    process.argv = exec.argv.iter().take(128).map(|one| cut(one)).collect();
                    process.events.add(event, clock);
                }
            }
            What::ExecFailed(_) | What::FailedCalls(_) | What::StderrTail(_)
                if !render::is_minor(event) =>
            {
                if let Some(process) = self.known(&event.task) {
                    process.events.add(event, clock);
                }
            }
            What::SignalGenerated(_) | What::OomKill(_) if !render::is_minor(event) => {
                match target.and_then(|target| self.known(target)) {
                    Some(process) => process.events.add(event, clock),
                    None => self.root_events.add(event, clock),
                }
            }
            What::Exit(exit) if exit.process => self.exited(event, exit, clock),
            What::Free(free) => self.forget(&free.process),
            What::GateOpened(gate) if !self.set_up => {
                self.set_up = true;
                let start_ns = event.time_ns.saturating_sub(gate.setup_ns);
                self.start_ns = self.start_ns.min(start_ns);
                self.part("set-up", 0, (start_ns, event.time_ns), clock);
            }
            What::StopRequested(_) => {
                self.stop_ns.get_or_insert(event.time_ns);
                self.root_events.add(event, clock);
            }
            What::Kill(_) => self.root_events.add(event, clock),
            What::JailExited(exited) => {
                self.pid1_ended = Some(exited.status.clone());
                self.stopped(event.time_ns, clock);
            }
            What::Teardown(step) => {
                let start_ns = event.time_ns.saturating_sub(step.duration_ns);
                let start_ns = start_ns.max(self.start_ns);
                let all = self.teardown.get_or_insert(Teardown {
                    start_ns,
                    end_ns: event.time_ns,
                    steps: 0,
                    failed: false,
                });
                all.start_ns = all.start_ns.min(start_ns);
                all.end_ns = event.time_ns;
                all.steps += 1;
                all.failed |= step.error.is_some();
                let number = all.steps;
                let parent = self.ids.part("teardown", 0);
                let mut span = self.span(
                    self.ids.part("teardown", number),
                    parent,
                    &text::escape(&step.step),
                    (start_ns, event.time_ns),
                    clock,
                );
                if let Some(error) = &step.error {
                    span.status = failed(&text::escape(error));
                }
                self.over.push(span);
            }
            _ => {}
        }
        id
    }

    /// Ends what hasn't ended: the trace is over.
    pub fn finish(&mut self, footer: Option<&Footer>, unsent: u64, clock: &Clock) {
        let end_ns = footer.map_or(self.last_ns, |footer| footer.end_boot_ns.max(self.last_ns));
        self.stopped(end_ns, clock);
        let mut alive: Vec<Key> = self
            .processes
            .iter()
            .filter(|(_, process)| !process.sent)
            .map(|(key, _)| *key)
            .collect();
        alive.sort_unstable();
        for key in alive {
            self.end_process(key, end_ns, None, clock);
        }
        if let Some(all) = self.teardown.take() {
            let id = self.ids.part("teardown", 0);
            let times = (all.start_ns, all.end_ns);
            let mut span = self.span(id, self.ids.jail(), "teardown", times, clock);
            if all.failed {
                span.status = failed("a step failed");
            }
            self.over.push(span);
        }
        let root = self.root(footer, end_ns, unsent, clock);
        self.over.push(root);
    }

    fn root(&mut self, footer: Option<&Footer>, end_ns: u64, unsent: u64, clock: &Clock) -> Span {
        let jail = &self.header.jail;
        let mut attributes = Attributes::default();
        attributes.text("procjail.jail.name", &jail.name);
        attributes.text(semantic::PROCESS_LINUX_CGROUP, &jail.cgroup);
        let command = jail.command.iter().map(String::as_str);
        attributes.texts(semantic::PROCESS_COMMAND_ARGS, command);
        for (file, value) in &jail.limits {
            attributes.text(&format!("procjail.limit.{}", cut(file)), value);
        }
        let status = footer.and_then(|footer| footer.status.clone());
        let status = status.or_else(|| self.pid1_ended.clone());
        if let Some(status) = &status {
            exit_status(status, &mut attributes);
        }
        attributes.flag("procjail.trace.ended", footer.is_some());
        if let Some(footer) = footer {
            let lost = footer
                .lost
                .iter()
                .fold(0u64, |sum, lost| sum.saturating_add(lost.count));
            attributes.number("procjail.events", footer.events);
            attributes.number("procjail.events_lost", lost);
            attributes.number("procjail.processes", footer.processes);
            attributes.number("procjail.zombies", footer.zombies);
            if let Some(peak_bytes) = footer.peak_memory_bytes {
                attributes.number("procjail.memory.peak_bytes", peak_bytes);
            }
            if let Some(cpu_ns) = footer.cpu_ns {
                attributes.number("procjail.cpu_ns", cpu_ns);
            }
        }
        if unsent > 0 {
            attributes.number("procjail.records_unsent", unsent);
        }
        let times = (self.start_ns, end_ns);
        let mut root = self.span(self.ids.jail(), SpanId::default(), "jail", times, clock);
        root.parent_span_id.clear();
        root.status = status.as_ref().and_then(bad);
        root.attributes = attributes.finish();
        std::mem::take(&mut self.root_events).move_to(&mut root);
        root
    }

    /// How many processes are followed.
    #[cfg(test)]
    pub fn followed(&self) -> usize {
        self.processes.len()
    }

    /// The key of a process that is followed.
    fn key(&self, task: &Task) -> Option<Key> {
        let key = match task.start_ns {
            0 => (task.pid, *self.by_pid.get(&task.pid)?),
            start_ns => (task.pid, start_ns),
        };
        self.processes.contains_key(&key).then_some(key)
    }

    fn known(&mut self, task: &Task) -> Option<&mut Process> {
        let key = self.key(task)?;
        self.processes.get_mut(&key)
    }

    /// Follows a process of the jail from now on, if it isn't followed yet.
    fn see(&mut self, task: &Task, time_ns: u64) {
        let in_jail = task.in_jail || task.jail_pid.is_some();
        if in_jail && task.start_ns != 0 && self.key(task).is_none() {
            // One that joined the jail may be older than it.
            let start_ns = task.start_ns.clamp(self.start_ns.min(time_ns), time_ns);
            self.follow(task, self.ids.jail(), 0, start_ns);
        }
    }

    fn forked(&mut self, parent: &Task, child: &Task, time_ns: u64) {
        if child.start_ns == 0 || self.key(child).is_some() {
            return;
        }
        let above = self
            .known(parent)
            .map(|parent| (parent.id, parent.task.pid));
        let (id, pid) = above.unwrap_or((self.ids.jail(), parent.pid));
        self.follow(child, id, pid, time_ns);
    }

    fn follow(&mut self, task: &Task, parent: SpanId, parent_pid: u32, start_ns: u64) {
        if task.pid == 0 || task.pid == self.launcher_pid {
            return;
        }
        while self.processes.len() >= PROCESSES {
            match self.ended.pop_front() {
                Some(key) => self.remove(key),
                None => return,
            }
        }
        let process = Process {
            id: self.ids.process(task),
            parent,
            parent_pid,
            task: task.clone(),
            start_ns,
            filename: String::new(),
            argv: Vec::new(),
            events: Events::default(),
            sent: false,
        };
        self.by_pid.insert(task.pid, task.start_ns);
        self.processes.insert((task.pid, task.start_ns), process);
    }

    fn forget(&mut self, task: &Task) {
        if let Some(key) = self.key(task)
            && self.processes.get(&key).is_some_and(|process| process.sent)
        {
            self.remove(key);
            // Those that went the usual way need no place in the queue.
            if self.ended.front() == Some(&key) {
                self.ended.pop_front();
            }
            if self.ended.len() > 2 * PROCESSES {
                let processes = &self.processes;
                self.ended.retain(|key| processes.contains_key(key));
            }
        }
    }

    fn remove(&mut self, key: Key) {
        self.processes.remove(&key);
        if self.by_pid.get(&key.0) == Some(&key.1) {
            self.by_pid.remove(&key.0);
        }
    }

    fn exited(&mut self, event: &Event, exit: &Exit, clock: &Clock) {
        if let Some(key) = self.key(&event.task) {
            if let Some(process) = self.processes.get_mut(&key) {
                process.task.comm.clone_from(&event.task.comm);
            }
            self.end_process(key, event.time_ns, Some(exit), clock);
        }
    }

    fn end_process(&mut self, key: Key, end_ns: u64, exit: Option<&Exit>, clock: &Clock) {
        let Some(process) = self.processes.get_mut(&key).filter(|process| !process.sent) else {
            return;
        };
        process.sent = true;
        self.ended.push_back(key);
        let task = &process.task;
        let mut attributes = Attributes::with_capacity(16);
        attributes.number(semantic::PROCESS_PID, task.pid);
        if let Some(pid) = task.jail_pid {
            attributes.number(semantic::PROCESS_VPID, pid);
        }
        let parent_pid = match (process.parent_pid, exit) {
            (0, Some(exit)) => exit.parent.pid,
            (pid, _) => pid,
        };
        if parent_pid != 0 {
            attributes.number(semantic::PROCESS_PARENT_PID, parent_pid);
        }
        if !process.filename.is_empty() {
            attributes.text(semantic::PROCESS_EXECUTABLE_PATH, &process.filename);
        }
        if let Some(command) = process.argv.first() {
            attributes.text(semantic::PROCESS_COMMAND, command);
            let arguments = process.argv.iter().map(String::as_str);
            attributes.texts(semantic::PROCESS_COMMAND_ARGS, arguments);
        }
        attributes.flag("procjail.process.ended", exit.is_some());
        if let Some(exit) = exit {
            exit_status(&exit.status, &mut attributes);
            usage(exit, &mut attributes);
        }
        let name = match task.comm.as_str() {
            "" => format!("process {}", task.pid),
            comm => text::escape(comm),
        };
        let events = std::mem::take(&mut process.events);
        let (id, parent, start_ns) = (process.id, process.parent, process.start_ns);
        let mut span = self.span(id, parent, &name, (start_ns, end_ns), clock);
        span.attributes = attributes.finish();
        span.status = exit.and_then(|exit| bad(&exit.status));
        events.move_to(&mut span);
        self.over.push(span);
    }

    /// The grace period is over, if it had begun.
    fn stopped(&mut self, end_ns: u64, clock: &Clock) {
        if let Some(start_ns) = self.stop_ns.take() {
            self.part("stop", self.stops, (start_ns, end_ns), clock);
            self.stops += 1;
        }
    }

    /// A part of the jail's life is over.
    fn part(&mut self, name: &str, number: u64, times: (u64, u64), clock: &Clock) {
        let id = self.ids.part(name, number);
        let span = self.span(id, self.ids.jail(), name, times, clock);
        self.over.push(span);
    }

    fn span(
        &self,
        id: SpanId,
        parent: SpanId,
        name: &str,
        (start_ns, end_ns): (u64, u64),
        clock: &Clock,
    ) -> Span {
        Span {
            trace_id: self.ids.trace().to_vec(),
            span_id: id.to_vec(),
            parent_span_id: parent.to_vec(),
            flags: super::SAMPLED,
            name: cut(name),
            kind: span::SpanKind::Internal.into(),
            start_time_unix_nano: clock.unix_ns(start_ns),
            end_time_unix_nano: clock.unix_ns(end_ns.max(start_ns)),
            ..Span::default()
        }
    }
}

impl Events {
    fn add(&mut self, event: &Event, clock: &Clock) {
        if self.first.len() >= EVENTS {
            self.dropped = self.dropped.saturating_add(1);
            return;
        }
        let sentence = words::sentence(event, WIDTH);
        let mut attributes = Attributes::with_capacity(4);
        attributes.number("procjail.seq", event.seq);
        attributes.text("procjail.sentence", &sentence);
        if let What::SignalGenerated(signal) = &event.what {
            attributes.text("procjail.signal.name", &signal.signal.name);
            attributes.text("procjail.signal.result", super::result_name(signal.result));
        }
        self.first.push(span::Event {
            time_unix_nano: clock.unix_ns(event.time_ns),
            name: event.what.event_name().to_owned(),
            attributes: attributes.finish(),
            dropped_attributes_count: 0,
        });
    }

    fn move_to(self, span: &mut Span) {
        span.events = self.first;
        span.dropped_events_count = self.dropped;
    }
}

/// An end that isn't a good one.
fn bad(status: &ExitStatus) -> Option<Status> {
    match status.code {
        Some(0) => None,
        _ => failed(&words::status(status)),
    }
}

fn failed(message: &str) -> Option<Status> {
    Some(Status {
        message: cut(message),
        code: status::StatusCode::Error.into(),
    })
}
