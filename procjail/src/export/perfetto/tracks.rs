//! A track for each process and thread: its life, its programs, and its time as a zombie.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};

use super::mark::{Mark, harmless};
use super::proto::{CounterDescriptor, ProcessDescriptor, ThreadDescriptor, TrackDescriptor, Unit};
use super::sink::Sink;
use crate::diagnose::{Case, ProcessId, program_of};
use crate::event::{Event, Exec, Exit, Fork, Task};
use crate::text::command_line;
use crate::words;

/// Category of all that belongs to processes.
const CATEGORY: &str = "process";
/// Longest command line in a slice's name, columns.
const NAME_WIDTH: usize = 120;

/// A process: its PID on the host and its start.
type Key = (u32, u64);

/// How far a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Not in the jail: what it does is shown, its life isn't known.
    Outside,
    /// A slice for its life is open, and one for its program if it executed one.
    Alive { program: bool },
    /// A slice for that is open.
    Zombie,
    /// No slice is open.
    Gone,
}

struct Process {
    track: u64,
    phase: Phase,
    in_pid_namespace: bool,
    /// Tracks of its threads that live, by thread ID.
    threads: BTreeMap<u32, u64>,
    /// Its counter of memory.
    memory: Option<u64>,
    /// OOM kills whose victim it is, and fatal signals that it took: what its end follows from.
    doom: Vec<u64>,
}

/// The processes of a trace that were met so far.
pub(super) struct Tracks<'a> {
    case: &'a Case,
    /// Nothing is drawn before.
    first_ns: u64,
    processes: HashMap<Key, Process>,
    /// When the process that had a PID last was started.
    latest: HashMap<u32, u64>,
}

impl<'a> Tracks<'a> {
    /// For a trace whose times begin at `first_ns`.
    pub fn new(case: &'a Case, first_ns: u64) -> Self {
        Self {
            case,
            first_ns,
            processes: HashMap::new(),
            latest: HashMap::new(),
        }
    }

    /// The track of what a task does: its thread's, if it has one, or its process's.
    pub fn of<W: Write>(
        &mut self,
        sink: &mut Sink<W>,
        now_ns: u64,
        task: &Task,
    ) -> io::Result<u64> {
        let process = self.process(sink, now_ns, task)?;
        Ok(*process.threads.get(&task.tid).unwrap_or(&process.track))
    }

    /// A process or thread was made by the event's task.
    pub fn forked<W: Write>(
        &mut self,
        sink: &mut Sink<W>,
        now_ns: u64,
        event: &Event,
        fork: &Fork,
    ) -> io::Result<()> {
        let track = self.of(sink, now_ns, &event.task)?;
        let name = if fork.thread { "clone" } else { "fork" };
        let mark = Mark::new(CATEGORY, name)
            .arg("seq", event.seq)
            .arg("child", fork.child.tid)
            .arg(
                "child in jail",
                fork.child.jail_pid.filter(|_| !fork.thread),
            )
            .starts(event.seq);
        sink.instant(now_ns, track, mark)?;
        if !fork.thread {
            let key = self.key(&fork.child);
            if !self.processes.contains_key(&key) {
                self.appear(sink, key, now_ns, &fork.child, Some(event.seq))?;
            }
            return Ok(());
        }
        let thread = &fork.child;
        let process = self.process(sink, now_ns, thread)?;
        if process.threads.contains_key(&thread.tid)
            || !matches!(process.phase, Phase::Alive { .. })
        {
            return Ok(());
        }
        let track = sink.track(
            now_ns,
            TrackDescriptor {
                thread: Some(ThreadDescriptor {
                    pid: Some(id(thread.pid)),
                    tid: Some(id(thread.tid)),
                    thread_name: Some(harmless(&thread.comm)),
                }),
                ..TrackDescriptor::default()
            },
        )?;
        process.threads.insert(thread.tid, track);
        let mark = Mark::of(CATEGORY, &thread.comm)
            .arg("tid", thread.tid)
            .ends([event.seq]);
        sink.begin(now_ns, track, mark)
    }

    /// The event's task replaced its program.
    pub fn executed<W: Write>(
        &mut self,
        sink: &mut Sink<W>,
        now_ns: u64,
        event: &Event,
        exec: &Exec,
    ) -> io::Result<()> {
        let process = self.process(sink, now_ns, &event.task)?;
        let Phase::Alive { program } = process.phase else {
            let mark = Mark::of(CATEGORY, &format!("exec {}", exec.filename)).arg("seq", event.seq);
            return sink.instant(now_ns, process.track, mark);
        };
        if program {
            sink.end(now_ns, process.track)?;
        }
        process.phase = Phase::Alive { program: true };
        let mark = Mark::of(CATEGORY, &command_line(&exec.argv, NAME_WIDTH))
            .arg("seq", event.seq)
            .arg("file", &exec.filename)
            .arg("argv", exec.argv.as_slice())
            .arg("argv is cut", exec.argv_truncated.then_some(true));
        sink.begin(now_ns, process.track, mark)
    }

    /// A process or one of its threads ended.
    pub fn exited<W: Write>(
        &mut self,
        sink: &mut Sink<W>,
        now_ns: u64,
        event: &Event,
        exit: &Exit,
    ) -> io::Result<()> {
        let case = self.case;
        let killer = case
            .process_of(&event.task)
            .filter(|_| exit.process && exit.status.signal.is_some())
            .and_then(|id| case.killing_signal(id))
            .map(|(signal, _)| signal.seq);
        let process = self.process(sink, now_ns, &event.task)?;
        let mark = Mark::of(CATEGORY, &words::status(&exit.status))
            .arg("seq", event.seq)
            .arg("what", super::sentence(event))
            .arg("parent", exit.parent.pid)
            .arg("peak RSS bytes", exit.max_rss_bytes)
            .arg("user ns", exit.user_ns)
            .arg("system ns", exit.system_ns)
            .arg("lifetime ns", exit.lifetime_ns);
        if !exit.process {
            // The main thread, which may end first, is the process's track.
            let thread = process.threads.remove(&event.task.tid);
            sink.instant(now_ns, thread.unwrap_or(process.track), mark)?;
            return match thread {
                Some(track) => sink.end(now_ns, track),
                None => Ok(()),
            };
        }
        for track in std::mem::take(&mut process.threads).into_values() {
            sink.end(now_ns, track)?;
        }
        let doom = std::mem::take(&mut process.doom);
        let mut ends: Vec<u64> = killer.into_iter().chain(doom).collect();
        ends.sort_unstable();
        ends.dedup();
        sink.instant(now_ns, process.track, mark.ends(ends))?;
        if let Some(memory) = process.memory {
            sink.count(now_ns, memory, 0)?;
        }
        let Phase::Alive { program } = process.phase else {
            return Ok(());
        };
        if program {
            sink.end(now_ns, process.track)?;
        }
        sink.end_with(now_ns, process.track, "ended", words::status(&exit.status))?;
        process.phase = Phase::Zombie;
        let mark = Mark::new(CATEGORY, "zombie").arg("to be reaped by", exit.parent.pid);
        sink.begin(now_ns, process.track, mark)
    }

    /// A dead process is gone for good.
    pub fn gone<W: Write>(
        &mut self,
        sink: &mut Sink<W>,
        now_ns: u64,
        task: &Task,
        how: &str,
    ) -> io::Result<()> {
        let key = self.key(task);
        let Some(process) = self.processes.get_mut(&key) else {
            return Ok(());
        };
        if process.phase == Phase::Zombie {
            process.phase = Phase::Gone;
            sink.end_with(now_ns, process.track, "ended", how)?;
        }
        Ok(())
    }

    /// What the end of a process will follow from: the event of that position.
    pub fn doomed<W: Write>(
        &mut self,
        sink: &mut Sink<W>,
        now_ns: u64,
        task: &Task,
        seq: u64,
    ) -> io::Result<()> {
        let process = self.process(sink, now_ns, task)?;
        process.doom.push(seq);
        Ok(())
    }

    /// A process has so much memory.
    pub fn memory<W: Write>(
        &mut self,
        sink: &mut Sink<W>,
        now_ns: u64,
        task: &Task,
        bytes: u64,
    ) -> io::Result<()> {
        let process = self.process(sink, now_ns, task)?;
        if matches!(process.phase, Phase::Zombie | Phase::Gone) {
            return Ok(());
        }
        let track = match process.memory {
            Some(track) => track,
            None => *process.memory.insert(sink.track(
                now_ns,
                TrackDescriptor {
                    name: Some("resident memory".to_owned()),
                    parent_uuid: Some(process.track),
                    counter: Some(CounterDescriptor {
                        unit: Some(Unit::SizeBytes.into()),
                        ..CounterDescriptor::default()
                    }),
                    ..TrackDescriptor::default()
                },
            )?),
        };
        sink.count(now_ns, track, bytes)
    }

    /// PID 1 is gone, and with it every process of its PID namespace.
    pub fn namespace_ended<W: Write>(&mut self, sink: &mut Sink<W>, now_ns: u64) -> io::Result<()> {
        self.close(sink, now_ns, "with the PID namespace", |process| {
            process.in_pid_namespace
        })
    }

    /// The trace is over.
    pub fn finish<W: Write>(&mut self, sink: &mut Sink<W>, now_ns: u64) -> io::Result<()> {
        self.close(sink, now_ns, "not in the trace", |_| true)
    }

    fn close<W: Write>(
        &mut self,
        sink: &mut Sink<W>,
        now_ns: u64,
        how: &str,
        which: impl Fn(&Process) -> bool,
    ) -> io::Result<()> {
        let mut open: Vec<&mut Process> = self
            .processes
            .values_mut()
            .filter(|process| which(process))
            .filter(|process| matches!(process.phase, Phase::Alive { .. } | Phase::Zombie))
            .collect();
        open.sort_unstable_by_key(|process| process.track);
        for process in open {
            for track in std::mem::take(&mut process.threads).into_values() {
                sink.end_with(now_ns, track, "ended", how)?;
            }
            if process.phase == (Phase::Alive { program: true }) {
                sink.end(now_ns, process.track)?;
            }
            sink.end_with(now_ns, process.track, "ended", how)?;
            process.phase = Phase::Gone;
        }
        Ok(())
    }

    fn process<W: Write>(
        &mut self,
        sink: &mut Sink<W>,
        now_ns: u64,
        task: &Task,
    ) -> io::Result<&mut Process> {
        let key = self.key(task);
        if !self.processes.contains_key(&key) {
            self.appear(sink, key, now_ns, task, None)?;
        }
        self.processes
            .get_mut(&key)
            .ok_or_else(|| io::Error::other("a process without a track"))
    }

    /// Events of the launcher itself don't tell its start.
    fn key(&self, task: &Task) -> Key {
        if self.case.is_launcher(task) {
            return (task.pid, 0);
        }
        match task.start_ns {
            0 => (task.pid, self.latest.get(&task.pid).copied().unwrap_or(0)),
            start_ns => (task.pid, start_ns),
        }
    }

    /// A process is met for the first time: made by the event of that position, or there before.
    fn appear<W: Write>(
        &mut self,
        sink: &mut Sink<W>,
        key: Key,
        now_ns: u64,
        task: &Task,
        made_by: Option<u64>,
    ) -> io::Result<()> {
        let known = self.case.process_of(task);
        let name = self.name(known, task);
        let in_jail = task.in_jail || task.jail_pid.is_some();
        let argv = self.argv(known, task);
        let born_ns = match (made_by, task.start_ns) {
            (None, start_ns) if in_jail && start_ns != 0 => {
                start_ns.clamp(self.first_ns.min(now_ns), now_ns)
            }
            _ => now_ns,
        };
        let track = sink.track(
            born_ns,
            TrackDescriptor {
                // The idle task has no PID that a viewer would take for a process's.
                name: (task.pid == 0).then(|| name.clone()),
                process: (task.pid != 0).then(|| ProcessDescriptor {
                    pid: Some(id(task.pid)),
                    cmdline: argv.iter().map(|argument| harmless(argument)).collect(),
                    process_name: Some(match task.jail_pid {
                        Some(pid) => format!("{name} (PID {pid})"),
                        None => name.clone(),
                    }),
                    start_timestamp_ns: i64::try_from(key.1).ok().filter(|start| *start != 0),
                }),
                ..TrackDescriptor::default()
            },
        )?;
        self.latest.insert(key.0, key.1);
        if in_jail {
            let mark = Mark::of(CATEGORY, &name)
                .arg("pid", task.pid)
                .arg("pid in jail", task.jail_pid)
                .arg("start ns", task.start_ns)
                .arg("command", argv)
                .ends(made_by);
            sink.begin(born_ns, track, mark)?;
        }
        let process = Process {
            track,
            phase: if in_jail {
                Phase::Alive { program: false }
            } else {
                Phase::Outside
            },
            in_pid_namespace: task.jail_pid.is_some(),
            threads: BTreeMap::new(),
            memory: None,
            doom: Vec::new(),
        };
        self.processes.insert(key, process);
        Ok(())
    }

    /// What a process is called in the end, since most are made as copies of another.
    fn name(&self, known: Option<ProcessId>, task: &Task) -> String {
        if self.case.is_launcher(task) {
            return "procjail".to_owned();
        }
        if task.pid == 0 {
            return "kernel".to_owned();
        }
        let comm = known.map_or(&task.comm, |id| &self.case.process(id).task.comm);
        let program = || self.argv(known, task).first().map(|path| program_of(path));
        match comm.as_str() {
            "" => harmless(program().unwrap_or("a process")),
            comm => harmless(comm),
        }
    }

    fn argv(&self, known: Option<ProcessId>, task: &Task) -> &'a [String] {
        let case = self.case;
        let own = known.and_then(|id| case.execs(id).next_back());
        match (own, case.sender(task)) {
            (Some((_, exec)), _) => &exec.argv,
            (None, Some((_, sender))) => &sender.argv,
            (None, None) => &[],
        }
    }
}

/// A process ID as the kernel has it.
fn id(pid: u32) -> i32 {
    i32::try_from(pid).unwrap_or(i32::MAX)
}
