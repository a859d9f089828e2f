//! The jail's own tracks: its phases, its teardown, what was found out about it, and its memory.

use std::collections::HashMap;
use std::io::{self, Write};

use super::mark::{Mark, Value};
use super::proto::{CounterDescriptor, EXPLICIT, TrackDescriptor, Unit};
use super::sentence;
use super::sink::Sink;
use crate::diagnose::{Diagnosis, Evidence};
use crate::event::{Counters, CpuThrottling, Event, MemorySample, Snapshot, Teardown, What};
use crate::export::Subject;
use crate::render::label;
use crate::text::{command_line, duration};
use crate::words::status;

const CATEGORY: &str = "jail";
/// Threads of a snapshot that are told of.
const THREADS: usize = 100;

/// Tracks below the jail's, in the order in which they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Lane {
    Verdicts,
    Teardown,
    Losses,
    Cgroups,
    KernelLog,
    Snapshots,
    Leaks,
    Memory,
    Processor,
}

impl Lane {
    fn name(self) -> &'static str {
        match self {
            Self::Verdicts => "verdicts",
            Self::Teardown => "teardown steps",
            Self::Losses => "losses",
            Self::Cgroups => "cgroups",
            Self::KernelLog => "kernel log",
            Self::Snapshots => "snapshots",
            Self::Leaks => "leaks",
            Self::Memory => "memory",
            Self::Processor => "CPU limit",
        }
    }
}

/// The jail's tracks and what is open on them.
pub(super) struct Jail<'a> {
    subject: &'a Subject,
    track: u64,
    lanes: HashMap<Lane, u64>,
    counters: HashMap<&'static str, u64>,
    /// Phases that are open, outermost first.
    open: Vec<Phase>,
    /// Further tracks for steps that began before another ended, with the end of the last on each.
    steps: Vec<(u64, u64)>,
}

/// A part of the jail's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Run,
    StopWindow,
    Teardown,
}

impl<'a> Jail<'a> {
    /// Begins the jail's tracks with what is known from the start.
    pub fn new<W: Write>(
        sink: &mut Sink<W>,
        subject: &'a Subject,
        first_ns: u64,
    ) -> io::Result<Self> {
        let header = &subject.case.header;
        let track = sink.track(
            first_ns,
            TrackDescriptor {
                name: Some(super::mark::harmless(&format!("jail {}", header.jail.name))),
                child_ordering: Some(EXPLICIT),
                sibling_order_rank: Some(-1),
                ..TrackDescriptor::default()
            },
        )?;
        let mut jail = Self {
            subject,
            track,
            lanes: HashMap::new(),
            counters: HashMap::new(),
            open: Vec::new(),
            steps: Vec::new(),
        };
        jail.about(sink, first_ns)?;
        for diagnosis in &subject.explanation.diagnoses {
            jail.verdict(sink, first_ns, diagnosis, None)?;
        }
        Ok(jail)
    }

    /// The trace itself: where it was made, and what it lacks.
    fn about<W: Write>(&mut self, sink: &mut Sink<W>, first_ns: u64) -> io::Result<()> {
        let case = &self.subject.case;
        let header = &case.header;
        let missing = header.probes.iter().filter(|probe| !probe.attached);
        let missing = missing.map(|probe| format!("{}: {}", probe.name, probe.provides));
        let lost = case.losses();
        let lost = lost
            .iter()
            .map(|lost| format!("{} {}", lost.count, lost.event_kind));
        let mark = Mark::new(CATEGORY, "trace")
            .arg("command", header.jail.command.as_slice())
            .arg("host", &header.host.hostname)
            .arg("kernel", &header.host.kernel)
            .arg("architecture", &header.host.architecture)
            .arg("procjail", &header.procjail)
            .arg("limits", &header.jail.limits)
            .arg("plan", header.plan())
            .arg("events", case.total_events())
            .arg("complete", case.complete())
            .arg("cut off", self.subject.missing.as_ref())
            .arg("lost", Value::list(lost))
            .arg("probes not attached", Value::list(missing));
        sink.instant(first_ns, self.track, mark)?;
        if let Some(missing) = &self.subject.missing {
            let mark = Mark::new(CATEGORY, "trace cut off").arg("what", missing);
            let end_ns = case.end_ns().max(first_ns);
            let track = self.lane(sink, first_ns, Lane::Losses)?;
            sink.instant(end_ns, track, mark)?;
        }
        Ok(())
    }

    fn verdict<W: Write>(
        &mut self,
        sink: &mut Sink<W>,
        first_ns: u64,
        diagnosis: &Diagnosis,
        cause: Option<&Diagnosis>,
    ) -> io::Result<()> {
        let gate_ns = self.subject.case.gate_ns();
        let end_ns = self.subject.case.end_ns().max(first_ns);
        let shown = |evidence: &Evidence| {
            let at = evidence.time_ns.map_or_else(String::new, |time_ns| {
                match time_ns.checked_sub(gate_ns) {
                    Some(ns) => format!("+{} ", duration(ns)),
                    None => format!("-{} ", duration(gate_ns.saturating_sub(time_ns))),
                }
            });
            let seq = evidence
                .seq
                .map_or_else(String::new, |seq| format!("#{seq} "));
            format!("{seq}{at}{}", evidence.shows)
        };
        let ruled_out = diagnosis.ruled_out.iter();
        let mark = Mark::of("verdict", &diagnosis.id)
            .arg("verdict", diagnosis.verdict())
            .arg("confidence", diagnosis.sure().word())
            .arg("follows from", cause.map(|cause| &*cause.id))
            .arg("pids", Value::list(diagnosis.pids.iter().copied()))
            .arg(
                "evidence",
                Value::list(diagnosis.evidence.iter().map(shown)),
            )
            .arg(
                "ruled out",
                Value::list(ruled_out.map(|one| format!("{}: {}", one.what, one.because))),
            )
            .arg("less sure", diagnosis.weakened.as_slice())
            .arg("what to do", &diagnosis.remedy);
        let track = self.lane(sink, first_ns, Lane::Verdicts)?;
        // What was not an event's doing has no time.
        let time_ns = match diagnosis.time_ns {
            0 => end_ns,
            time_ns => time_ns.clamp(first_ns, end_ns),
        };
        sink.instant(time_ns, track, mark)?;
        for consequence in &diagnosis.consequences {
            self.verdict(sink, first_ns, consequence, Some(diagnosis))?;
        }
        Ok(())
    }

    /// An event that belongs to no process.
    pub fn note<W: Write>(
        &mut self,
        sink: &mut Sink<W>,
        now_ns: u64,
        lane: Option<Lane>,
        event: &Event,
    ) -> io::Result<()> {
        let track = match lane {
            Some(lane) => self.lane(sink, now_ns, lane)?,
            None => self.track,
        };
        sink.instant(now_ns, track, noted(event))
    }

    /// What the jail's tasks are doing at one moment.
    pub fn snapshot<W: Write>(
        &mut self,
        sink: &mut Sink<W>,
        now_ns: u64,
        event: &Event,
        snapshot: &Snapshot,
    ) -> io::Result<()> {
        if let Some(cpu) = &snapshot.cpu {
            self.throttling(sink, now_ns, cpu)?;
        }
        let threads = snapshot.threads.iter().take(THREADS).map(|thread| {
            let call = thread.syscall.as_ref().map_or("", |call| &*call.name);
            let (task, state) = (&thread.task, &thread.state);
            let at = &thread.wait_channel;
            format!(
                "{} {} {}: {state} {call} {at}",
                task.pid, task.tid, task.comm
            )
        });
        let mark = noted(event).arg("threads", Value::list(threads));
        let track = self.lane(sink, now_ns, Lane::Snapshots)?;
        sink.instant(now_ns, track, mark)
    }

    /// An event of the launcher that begins or ends a phase.
    pub fn phase<W: Write>(
        &mut self,
        sink: &mut Sink<W>,
        now_ns: u64,
        event: &Event,
    ) -> io::Result<()> {
        self.note(sink, now_ns, None, event)?;
        match &event.what {
            What::GateOpened(gate) if self.open.is_empty() => {
                let setup = Mark::new(CATEGORY, "set-up")
                    .arg("seq", event.seq)
                    .arg("steps", self.subject.case.header.plan());
                sink.begin(now_ns.saturating_sub(gate.setup_ns), self.track, setup)?;
                sink.end(now_ns, self.track)?;
                let command = command_line(&self.subject.case.header.jail.command, 120);
                let run = Mark::of(CATEGORY, &format!("run: {command}"));
                self.begin(sink, now_ns, Phase::Run, run)
            }
            What::StopRequested(stop) if self.open == [Phase::Run] => {
                let window = Mark::of(
                    CATEGORY,
                    &format!(
                        "grace period: {} and {}",
                        stop.stop_signal.name,
                        duration(stop.timeout_ns)
                    ),
                )
                .arg("seq", event.seq)
                .arg("asked for by", &stop.signal.name)
                .arg("signal", &stop.stop_signal.name)
                .arg("timeout ns", stop.timeout_ns);
                self.begin(sink, now_ns, Phase::StopWindow, window)
            }
            What::Kill(kill) if self.open.last() == Some(&Phase::StopWindow) => {
                self.end(sink, now_ns, &format!("killed: {}", kill.reason))
            }
            What::JailExited(exited) if self.open.last() != Some(&Phase::Teardown) => {
                while !self.open.is_empty() {
                    self.end(sink, now_ns, &format!("PID 1 {}", status(&exited.status)))?;
                }
                let teardown = Mark::new(CATEGORY, "teardown").arg("seq", event.seq);
                self.begin(sink, now_ns, Phase::Teardown, teardown)
            }
            _ => Ok(()),
        }
    }

    /// A step of the teardown ended.
    pub fn step<W: Write>(
        &mut self,
        sink: &mut Sink<W>,
        now_ns: u64,
        event: &Event,
        step: &Teardown,
    ) -> io::Result<()> {
        let start_ns = now_ns.saturating_sub(step.duration_ns);
        let mark = Mark::of(CATEGORY, &step.step)
            .arg("seq", event.seq)
            .arg("duration ns", step.duration_ns)
            .arg("error", step.error.as_ref());
        let free = self.steps.iter().position(|(_, end)| *end <= start_ns);
        let track = match free.and_then(|free| self.steps.get_mut(free)) {
            Some((track, end_ns)) => {
                *end_ns = now_ns;
                *track
            }
            None => {
                let track = match self.steps.is_empty() {
                    true => self.lane(sink, start_ns, Lane::Teardown)?,
                    false => sink.track(start_ns, self.child(Lane::Teardown))?,
                };
                self.steps.push((track, now_ns));
                track
            }
        };
        sink.begin(start_ns, track, mark)?;
        sink.end(now_ns, track)
    }

    /// The jail's memory at one moment.
    pub fn memory<W: Write>(
        &mut self,
        sink: &mut Sink<W>,
        now_ns: u64,
        sample: &MemorySample,
    ) -> io::Result<()> {
        let kinds = &sample.kinds;
        let values = [
            ("in use", Some(sample.usage_bytes)),
            ("limit", sample.limit_bytes),
            ("anonymous", Some(kinds.anon)),
            ("files", Some(kinds.file)),
            ("tmpfs and shared", Some(kinds.shmem)),
            ("kernel", Some(kinds.kernel)),
            ("sockets", Some(kinds.sock)),
            ("swap", Some(sample.swap_bytes)),
        ];
        for (name, value) in values {
            if let Some(value) = value {
                self.count(sink, now_ns, Lane::Memory, name, Unit::SizeBytes, value)?;
            }
        }
        Ok(())
    }

    /// How the CPU limit held the jail back so far.
    pub fn throttling<W: Write>(
        &mut self,
        sink: &mut Sink<W>,
        now_ns: u64,
        cpu: &CpuThrottling,
    ) -> io::Result<()> {
        let throttled = cpu.throttled_ns;
        let lane = Lane::Processor;
        self.count(sink, now_ns, lane, "throttled", Unit::TimeNs, throttled)?;
        let periods = cpu.throttled_periods;
        self.count(
            sink,
            now_ns,
            lane,
            "throttled periods",
            Unit::Count,
            periods,
        )
    }

    /// The jail's own counters of the same.
    pub fn counters<W: Write>(
        &mut self,
        sink: &mut Sink<W>,
        now_ns: u64,
        counters: &Counters,
    ) -> io::Result<()> {
        let Some(own) = counters.levels.first() else {
            return Ok(());
        };
        let value = |name| own.values.get(name).copied();
        match (
            value("cpu.stat:throttled_usec"),
            value("cpu.stat:nr_throttled"),
        ) {
            (Some(throttled_us), Some(throttled_periods)) => {
                let cpu = CpuThrottling {
                    throttled_periods,
                    throttled_ns: throttled_us.saturating_mul(1_000),
                    ..CpuThrottling::default()
                };
                self.throttling(sink, now_ns, &cpu)
            }
            _ => Ok(()),
        }
    }

    /// The trace is over.
    pub fn finish<W: Write>(
        &mut self,
        sink: &mut Sink<W>,
        now_ns: u64,
        whole: bool,
    ) -> io::Result<()> {
        while let Some(phase) = self.open.last() {
            let how = match (phase, whole) {
                (Phase::Teardown, true) => "all done",
                _ => "not in the trace",
            };
            self.end(sink, now_ns, how)?;
        }
        Ok(())
    }

    fn begin<W: Write>(
        &mut self,
        sink: &mut Sink<W>,
        now_ns: u64,
        phase: Phase,
        mark: Mark,
    ) -> io::Result<()> {
        self.open.push(phase);
        sink.begin(now_ns, self.track, mark)
    }

    fn end<W: Write>(&mut self, sink: &mut Sink<W>, now_ns: u64, how: &str) -> io::Result<()> {
        self.open.pop();
        sink.end_with(now_ns, self.track, "ended", how)
    }

    /// A counter; one that never was anything but zero is left out.
    fn count<W: Write>(
        &mut self,
        sink: &mut Sink<W>,
        now_ns: u64,
        lane: Lane,
        name: &'static str,
        unit: Unit,
        value: u64,
    ) -> io::Result<()> {
        let track = match self.counters.get(name) {
            Some(track) => *track,
            None if value == 0 => return Ok(()),
            None => {
                let parent = self.lane(sink, now_ns, lane)?;
                let track = sink.track(
                    now_ns,
                    TrackDescriptor {
                        name: Some(name.to_owned()),
                        parent_uuid: Some(parent),
                        counter: Some(CounterDescriptor {
                            unit: Some(unit.into()),
                            y_axis_share_key: (lane == Lane::Memory)
                                .then(|| lane.name().to_owned()),
                        }),
                        sibling_order_rank: Some(rank(self.counters.len())),
                        ..TrackDescriptor::default()
                    },
                )?;
                self.counters.insert(name, track);
                track
            }
        };
        sink.count(now_ns, track, value)
    }

    fn lane<W: Write>(&mut self, sink: &mut Sink<W>, now_ns: u64, lane: Lane) -> io::Result<u64> {
        if let Some(track) = self.lanes.get(&lane) {
            return Ok(*track);
        }
        let track = sink.track(now_ns, self.child(lane))?;
        self.lanes.insert(lane, track);
        Ok(track)
    }

    fn child(&self, lane: Lane) -> TrackDescriptor {
        TrackDescriptor {
            name: Some(lane.name().to_owned()),
            parent_uuid: Some(self.track),
            child_ordering: Some(EXPLICIT),
            sibling_order_rank: Some(lane as i32),
            ..TrackDescriptor::default()
        }
    }
}

/// An event in words.
fn noted(event: &Event) -> Mark {
    Mark::new(CATEGORY, label(event.what.kind()))
        .arg("seq", event.seq)
        .arg("what", sentence(event))
}

fn rank(index: usize) -> i32 {
    i32::try_from(index).unwrap_or(i32::MAX)
}
