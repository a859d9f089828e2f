//! A trace as the rules see it: its events, and the processes, signals and cgroups they tell of.

mod build;
mod ending;
mod fate;
mod leak;
mod limits;
mod origin;
mod process;
mod signals;
mod words;

pub use build::{Builder, SharedBuilder};
pub use fate::{PassedOn, Passing, is_bad};
pub use limits::Limit;
pub use origin::Origin;
pub use process::{Notice, Process, ProcessId};
pub use words::program_of;

use std::collections::HashMap;

use crate::diagnose::rules::Known;
use crate::event::{
    Counters, Event, Kill, Lost, MemorySample, Moment, OomKill, Sender, SignalForwarded, Snapshot,
    StopRequested, Task, What,
};
use crate::jail::INIT;
use crate::trace::{Footer, Header};

/// Position of an event in [`Case::events`].
pub type Index = usize;

/// What somebody else, a container runtime say, reported of the same run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reported {
    /// An exit code.
    Code(i32),
    /// A reason in a word, such as `OOMKilled` or `Error`; or a state, such as `running`.
    Reason(String),
}

impl Reported {
    /// From a number or a word.
    ///
    /// # Errors
    ///
    /// There is nothing in it.
    pub fn parse(text: &str) -> Result<Self, String> {
        match (text.trim(), text.trim().parse()) {
            ("", _) => Err(
                "it needs an exit code, a reason such as Error, or a state such as running"
                    .to_owned(),
            ),
            (_, Ok(code)) => Ok(Self::Code(code)),
            (reason, Err(_)) => Ok(Self::Reason(reason.to_owned())),
        }
    }
}

impl Reported {
    /// The state that is reported, if it is one of something that still exists: Docker's and Kubernetes'
    /// `running`, `Up 3 hours`, `Terminating`; systemd's `active` and `deactivating`.
    pub fn alive(&self) -> Option<&str> {
        const ALIVE: [&str; 11] = [
            "active",
            "deactivating",
            "exiting",
            "paused",
            "pausing",
            "removing",
            "running",
            "started",
            "stopping",
            "terminating",
            "up",
        ];
        let Self::Reason(text) = self else {
            return None;
        };
        let word = text.split(|char: char| !char.is_alphanumeric()).next()?;
        ALIVE
            .contains(&word.to_ascii_lowercase().as_str())
            .then_some(text)
    }
}

/// A whole trace, indexed.
///
/// It holds every event but masses of the same: of signals alike in sender, target and fate the first
/// few and the last are kept, and the rest counted ([`Case::repeats`]). Releases and a child's SIGCHLD
/// are kept with their process.
#[derive(Clone, Debug)]
pub struct Case {
    /// The first line of the trace.
    pub header: Header,
    /// The last line; `None` for a trace that was cut off.
    pub footer: Option<Footer>,
    /// What somebody else reported, if whoever asks for an explanation tells it.
    pub reported: Option<Reported>,
    pub(super) events: Vec<Event>,
    pub(super) processes: Vec<Process>,
    pub(super) by_key: HashMap<(u32, u64), ProcessId>,
    pub(super) by_pid: HashMap<u32, ProcessId>,
    pub(super) pid1: Option<ProcessId>,
    pub(super) repeats: HashMap<u64, u64>,
    pub(super) oom_kills: Vec<Index>,
    pub(super) limit_changes: Vec<Index>,
    pub(super) senders: HashMap<(u32, u64), Index>,
    pub(super) gate_ns: Option<u64>,
    pub(super) end_ns: u64,
    pub(super) total: u64,
    pub(super) overflow: u64,
    pub(super) known: Known,
}

impl Case {
    /// The events, in order.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Events in the trace, those included that are only counted.
    pub fn total_events(&self) -> u64 {
        self.total
    }

    /// How many more events were just like that one and are not kept.
    pub fn repeats(&self, event: &Event) -> u64 {
        self.repeats.get(&event.seq).copied().unwrap_or(0)
    }

    /// The processes, in the order in which they appear.
    pub fn processes(&self) -> impl Iterator<Item = (ProcessId, &Process)> {
        self.processes
            .iter()
            .enumerate()
            .map(|(index, process)| (ProcessId(index), process))
    }

    /// PID 1 of the jail.
    pub fn pid1(&self) -> Option<ProcessId> {
        self.pid1
    }

    /// APP: PID 1, or with `--init` the first child of procjail's own PID 1.
    pub fn main_process(&self) -> Option<ProcessId> {
        let pid1 = self.pid1?;
        match self.has_init() {
            true => self.process(pid1).children.first().copied(),
            false => Some(pid1),
        }
    }

    /// PID 1 is procjail's own (`--init`), and APP its child.
    pub fn has_init(&self) -> bool {
        self.header.plan().iter().any(|step| step == INIT)
    }

    /// The memory controller is one of cgroup v1, as on nearly all hosts but those with v2 alone: its files are
    /// `memory.usage_in_bytes` and the like, and there is no `memory.events`, `memory.low` or `--oom-group`.
    pub fn cgroup_v1(&self) -> bool {
        const V2: [&str; 4] = [
            "memory.max",
            "memory.high",
            "memory.swap.max",
            "memory.oom.group",
        ];
        let limits = &self.header.jail.limits;
        self.header.host.cgroup_mode != "v2" && !V2.iter().any(|file| limits.contains_key(*file))
    }

    /// The process that a task belongs to, if the trace has anything about it.
    pub fn process_of(&self, task: &Task) -> Option<ProcessId> {
        match task.start_ns {
            0 => self.by_pid.get(&task.pid).copied(),
            start_ns => {
                let known = self.by_key.get(&(task.pid, start_ns));
                known.or_else(|| self.cut(task)).copied()
            }
        }
    }

    /// The process that had a host PID last.
    pub fn process_by_pid(&self, pid: u32) -> Option<ProcessId> {
        self.by_pid.get(&pid).copied()
    }

    /// A process. `ProcessId`s come from this case only, so there always is one.
    pub fn process(&self, id: ProcessId) -> &Process {
        &self.processes[id.0]
    }

    /// An event by its position.
    pub fn event(&self, index: Index) -> &Event {
        &self.events[index]
    }

    /// When APP was let go, CLOCK_BOOTTIME nanoseconds; the start of the trace if that isn't in it.
    pub fn gate_ns(&self) -> u64 {
        self.gate_ns.unwrap_or(self.header.start_boot_ns)
    }

    /// Time of the last event, or the end that the footer tells.
    pub fn end_ns(&self) -> u64 {
        self.end_ns
    }

    /// The trace was there from the start: it has the opening of the gate.
    pub fn from_the_start(&self) -> bool {
        self.gate_ns.is_some()
    }

    /// procjail itself started what was traced; if not, it attached to what others had started.
    pub fn is_launched(&self) -> bool {
        self.header.jail.launcher.is_some()
    }

    /// Events that were more than a case holds.
    pub fn overflow(&self) -> u64 {
        self.overflow
    }

    /// Nothing is missing.
    pub fn complete(&self) -> bool {
        self.footer.is_some() && self.losses().is_empty() && self.overflow == 0
    }

    /// What was lost.
    pub fn losses(&self) -> Vec<Lost> {
        match &self.footer {
            Some(footer) => footer.lost.clone(),
            None => self
                .each(|what| match what {
                    What::Lost(lost) => Some(lost.clone()),
                    _ => None,
                })
                .map(|(_, lost)| lost)
                .collect(),
        }
    }

    /// Whether a probe, such as `signal_generate`, was attached.
    pub fn has_probe(&self, name: &str) -> bool {
        self.header
            .probes
            .iter()
            .any(|probe| probe.name == name && probe.attached)
    }

    /// The task is procjail, which made the jail.
    pub fn is_launcher(&self, task: &Task) -> bool {
        let launcher = self.header.jail.launcher.as_ref();
        task.pid != 0 && launcher.is_some_and(|launcher| launcher.pid == task.pid)
    }

    /// All events that `pick` takes, with what it made of them.
    pub fn each<'a, T: 'a>(
        &'a self,
        pick: impl Fn(&'a What) -> Option<T> + 'a,
    ) -> impl Iterator<Item = (&'a Event, T)> + 'a {
        self.events
            .iter()
            .filter_map(move |event| Some((event, pick(&event.what)?)))
    }

    /// The same of the events at some positions alone.
    fn those<'a, T: 'a>(
        &'a self,
        indices: &'a [Index],
        pick: fn(&'a What) -> Option<T>,
    ) -> impl DoubleEndedIterator<Item = (&'a Event, T)> + 'a {
        indices.iter().filter_map(move |index| {
            let event = self.event(*index);
            Some((event, pick(&event.what)?))
        })
    }

    /// The OOM kills, in order.
    pub fn oom_kills(&self) -> impl Iterator<Item = (&Event, &OomKill)> {
        self.those(&self.oom_kills, |what| match what {
            What::OomKill(kill) => Some(kill),
            _ => None,
        })
    }

    /// The first time that a stop was requested of the launcher.
    pub fn stop_request(&self) -> Option<(&Event, &StopRequested)> {
        self.each(|what| match what {
            What::StopRequested(stop) => Some(stop),
            _ => None,
        })
        .next()
    }

    /// The second request, which ends the wait.
    pub fn second_request(&self) -> Option<(&Event, &StopRequested)> {
        self.each(|what| match what {
            What::StopRequested(stop) => Some(stop),
            _ => None,
        })
        .nth(1)
    }

    /// What the launcher did with the signals that it got.
    pub fn forwards(&self) -> impl Iterator<Item = (&Event, &SignalForwarded)> {
        self.each(|what| match what {
            What::SignalForwarded(forwarded) => Some(forwarded),
            _ => None,
        })
    }

    /// When the launcher killed everything for a reason such as `stop-timeout`.
    pub fn launcher_kills(&self) -> impl Iterator<Item = (&Event, &Kill)> {
        self.each(|what| match what {
            What::Kill(kill) => Some(kill),
            _ => None,
        })
    }

    /// The memory samples, in order.
    pub fn memory_samples(&self) -> impl Iterator<Item = (&Event, &MemorySample)> {
        self.each(|what| match what {
            What::MemorySample(sample) => Some(sample),
            _ => None,
        })
    }

    /// The counters read at a moment, the last time.
    pub fn counters(&self, moment: Moment) -> Option<(&Event, &Counters)> {
        self.each(move |what| match what {
            What::Counters(counters) if counters.moment == moment => Some(counters),
            _ => None,
        })
        .last()
    }

    /// A counter of the jail's own cgroup (`level` 0) or of one above, as last read.
    pub fn counter(&self, level: usize, name: &str) -> Option<u64> {
        let (_, counters) = self
            .each(|what| match what {
                What::Counters(counters) => Some(counters),
                _ => None,
            })
            .last()?;
        counters.levels.get(level)?.values.get(name).copied()
    }

    /// By how much a counter grew between the start and the last reading.
    pub fn counter_growth(&self, level: usize, name: &str) -> Option<u64> {
        let last = self.counter(level, name)?;
        let first = self
            .counters(Moment::Start)
            .and_then(|(_, counters)| counters.levels.get(level)?.values.get(name).copied())
            .unwrap_or(0);
        Some(last.saturating_sub(first))
    }

    /// The snapshots of the jail's tasks, in order.
    pub fn snapshots(&self) -> impl Iterator<Item = (&Event, &Snapshot)> {
        self.each(|what| match what {
            What::Snapshot(snapshot) => Some(snapshot),
            _ => None,
        })
    }

    /// Who a sender from outside is, if that was recorded.
    pub fn sender(&self, task: &Task) -> Option<(&Event, &Sender)> {
        let event = self.event(*self.senders.get(&(task.pid, task.start_ns))?);
        match &event.what {
            What::Sender(sender) => Some((event, sender)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::diagnose::fixture::{Scene, inside};
    use crate::jail::INIT;

    #[test]
    fn with_an_init_of_procjails_own_the_main_process_is_its_child() {
        let (pid1, app) = (inside(1, "procjail-init"), inside(2, "app"));
        let mut scene = Scene::bare();
        scene.fork(1, &pid1, &app).exec(2, &app, &["app"]);
        let case = scene.case();
        assert_eq!(case.main_process(), case.pid1());
        scene.plan().push(INIT.to_owned());
        let case = scene.case();
        assert_eq!(case.main_process(), case.process_of(&app));
        assert!(case.has_init() && case.main_process() != case.pid1());
    }

    #[test]
    fn the_memory_controllers_version_is_known_by_mode_and_limits() {
        let mut scene = Scene::bare();
        for (mode, v1) in [("v2", false), ("hybrid", true), ("v1", true)] {
            scene.header.host.cgroup_mode = mode.into();
            assert_eq!(scene.case().cgroup_v1(), v1, "{mode}");
        }
        // A hybrid host may have this controller in the unified hierarchy.
        let limits = &mut scene.header.jail.limits;
        limits.insert("memory.max".into(), "1".into());
        scene.header.host.cgroup_mode = "hybrid".into();
        assert!(!scene.case().cgroup_v1());
    }
}
