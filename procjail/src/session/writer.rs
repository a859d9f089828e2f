//! The thread that turns records into events and hands them to the outputs.

use std::{collections::HashSet, io, rc::Rc, time::Duration};

use super::{
    End,
    executed::Files,
    reader::record_time_ns,
    spool::{Item, Spool},
};
use crate::{
    clock,
    event::{Enricher, ExitStatus, Found, Lost, Record, Task, What, decode},
    evidence::Finding,
    symbols::Symbols,
    trace::{BoxedOutput, FLUSH_EVERY, Footer},
};

/// Records of different processors can be a little out of order, and one may still be in the making
/// when the ring is read. An event is let go once the reader has been this far past it.
const SLACK_NS: u64 = 1_000_000;

/// How often the outputs are given a chance while nothing happens.
const IDLE: Duration = Duration::from_millis(500);

/// Most PIDs that are remembered: those of a machine, mostly.
const MEMBERS: usize = 1 << 18;

/// An output and what to call it when it fails.
pub struct Sink {
    /// Name for messages, such as the file's path.
    pub name: String,
    /// Where events go.
    pub output: BoxedOutput,
    /// A broken pipe ends this output silently.
    pub is_terminal_stream: bool,
}

/// How the writing went.
pub struct Report {
    /// The footer as written.
    pub footer: Footer,
    /// Outputs that failed, and why.
    pub failures: Vec<(String, io::Error)>,
}

/// Where a pending event lies.
enum Source {
    Record {
        chunk: Rc<Vec<u8>>,
        start: usize,
        len: usize,
    },
    Launcher(Box<What>),
    KernelLog(Box<Finding>),
    Found(Box<Task>, Box<Found>),
}

struct Writer {
    enricher: Enricher,
    symbols: Symbols,
    sinks: Vec<Sink>,
    failures: Vec<(String, io::Error)>,
    pending: Vec<(u64, Source)>,
    undecodable: u64,
    /// Host PIDs of all that were ever in the jail, for what only knows those.
    members: HashSet<u32>,
    files: Files,
    /// How PID 1 ended, as the kernel told.
    status: Option<ExitStatus>,
}

/// Runs until the end of the spool.
pub fn run(spool: &Spool, sinks: Vec<Sink>) -> Report {
    let mut writer = Writer {
        enricher: Enricher::of_this_process(),
        symbols: Symbols::default(),
        sinks,
        failures: Vec::new(),
        pending: Vec::new(),
        undecodable: 0,
        members: HashSet::new(),
        files: Files::default(),
        status: None,
    };
    let mut patience = IDLE;
    loop {
        let item = spool.take(patience);
        // After the last one, soon enough for what the outputs still hold.
        patience = if item.is_some() { FLUSH_EVERY } else { IDLE };
        match item {
            Some(Item::Records {
                bytes,
                watermark_ns,
            }) => {
                writer.add_records(bytes);
                writer.emit_until(watermark_ns.saturating_sub(SLACK_NS), spool);
                writer.tick();
            }
            Some(Item::View(view)) => writer.files.seen_from(view),
            Some(Item::Launcher { time_ns, what }) => {
                writer.pending.push((time_ns, Source::Launcher(what)));
            }
            Some(Item::Found {
                time_ns,
                task,
                found,
            }) => {
                writer.pending.push((time_ns, Source::Found(task, found)));
            }
            Some(Item::KernelLog { time_ns, finding }) => {
                writer.pending.push((time_ns, Source::KernelLog(finding)));
            }
            Some(Item::End { lost, end }) => {
                writer.emit_until(u64::MAX, spool);
                return writer.finish(lost, *end);
            }
            None => writer.tick(),
        }
    }
}

impl Writer {
    fn add_records(&mut self, bytes: Vec<u8>) {
        let chunk = Rc::new(bytes);
        let mut at = 0;
        while let Some(prefix) = chunk.get(at..at + 4) {
            let mut len = [0; 4];
            len.copy_from_slice(prefix);
            let (start, len) = (at + 4, u32::from_ne_bytes(len) as usize);
            at = start + len;
            let Some(time_ns) = chunk.get(start..at).and_then(record_time_ns) else {
                self.undecodable += 1;
                continue;
            };
            let chunk = Rc::clone(&chunk);
            self.pending
                .push((time_ns, Source::Record { chunk, start, len }));
        }
    }

    /// Lets go, in the order of time, of all events up to `limit_ns`.
    fn emit_until(&mut self, limit_ns: u64, spool: &Spool) {
        // Stable, and quick on what is nearly sorted: events of the same instant keep the ring's order.
        self.pending.sort_by_key(|(time_ns, _)| *time_ns);
        let count = self
            .pending
            .partition_point(|(time_ns, _)| *time_ns <= limit_ns);
        let rest = self.pending.split_off(count);
        for (n, (time_ns, source)) in std::mem::replace(&mut self.pending, rest)
            .into_iter()
            .enumerate()
        {
            if n % 4096 == 4095 {
                spool.note_progress();
            }
            match source {
                Source::Launcher(what) => {
                    if let What::JailCreated(jail) = &*what {
                        self.members.insert(jail.pid);
                    }
                    self.emit_launcher(time_ns, *what);
                }
                Source::Found(task, found) => {
                    self.members.insert(task.pid);
                    let event = self.enricher.found(time_ns, *task, *found);
                    self.write(&event);
                }
                Source::KernelLog(finding) => {
                    if finding.certain || finding.pids.iter().any(|pid| self.members.contains(pid))
                    {
                        self.emit_launcher(time_ns, finding.what);
                    }
                }
                Source::Record { chunk, start, len } => {
                    match chunk.get(start..start + len).map(decode) {
                        Some(Ok(record)) => {
                            self.note_member(&record);
                            if let Some(mut event) = self.enricher.record(record) {
                                self.symbols.see(&mut event);
                                if let What::Exit(exit) = &event.what
                                    && exit.process
                                    && event.task.jail_pid == Some(1)
                                {
                                    self.status = Some(exit.status.clone());
                                }
                                self.files.see(&event);
                                if let What::ExecFailed(failed) = &mut event.what {
                                    failed.file = self.files.look(&event.task, failed);
                                }
                                self.write(&event);
                            }
                        }
                        _ => self.undecodable += 1,
                    }
                }
            }
        }
    }

    fn note_member(&mut self, record: &Record) {
        if let Record::Fork(fork) = record
            && self.members.len() < MEMBERS
        {
            self.members.insert(fork.child.pid);
        }
    }

    fn emit_launcher(&mut self, time_ns: u64, what: What) {
        let event = self.enricher.launcher(time_ns, what);
        self.write(&event);
    }

    fn write(&mut self, event: &crate::event::Event) {
        self.each_sink(|output| output.event(event));
    }

    fn tick(&mut self) {
        self.each_sink(|output| output.tick());
    }

    /// Does `action` on each output; one that fails is given up, the others go on.
    fn each_sink(&mut self, mut action: impl FnMut(&mut BoxedOutput) -> io::Result<()>) {
        let failures = &mut self.failures;
        self.sinks
            .retain_mut(|sink| match action(&mut sink.output) {
                Ok(()) => true,
                Err(error) => {
                    if !(sink.is_terminal_stream && error.kind() == io::ErrorKind::BrokenPipe) {
                        failures.push((sink.name.clone(), error));
                    }
                    false
                }
            });
    }

    fn finish(mut self, mut lost: Vec<Lost>, end: End) -> Report {
        if self.undecodable > 0 {
            lost.push(Lost {
                event_kind: "undecodable".into(),
                cpu: None,
                count: self.undecodable,
            });
        }
        let now_ns = clock::boot_ns();
        let end_unix_ns = Some(clock::unix_ns());
        for entry in &lost {
            self.emit_launcher(now_ns, What::Lost(entry.clone()));
        }
        let footer = Footer {
            footer: true,
            end_boot_ns: now_ns,
            end_unix_ns,
            // Where there is a launcher, it knows.
            status: match end.exit_code {
                Some(_) => end.status,
                None => end.status.or(self.status.take()),
            },
            exit_code: end.exit_code.map(i32::from),
            duration_ns: end.duration_ns,
            events: self.enricher.events(),
            lost,
            peak_memory_bytes: end.peak_memory_bytes,
            cpu_ns: end.cpu_ns,
            processes: self.enricher.processes(),
            zombies: self.enricher.zombies(),
            teardown: end.teardown,
        };
        self.each_sink(|output| output.footer(Some(&footer)));
        Report {
            footer,
            failures: self.failures,
        }
    }
}
