//! A trace file, read as any user of it would: JSON, line by line. A mistake that the library makes both
//! in writing and in reading is found here.

use std::path::Path;

use procjail::event::{
    Disposition, Event, Exec, ExecFailed, Exit, Fork, OomKill, Reap, SignalDelivered,
    SignalForwarded, SignalGenerated, Task, Teardown, What,
};
use procjail::trace::{Footer, Header};
use serde::Deserialize;

use crate::kernel;

/// A trace file's content.
#[derive(Debug)]
pub struct Trace {
    /// First line.
    pub header: Header,
    /// All events.
    pub events: Vec<Event>,
    /// Last line, if the trace was ended properly.
    pub footer: Option<Footer>,
}

#[derive(Deserialize)]
struct Line {
    seq: u64,
    time_ns: u64,
    task: Task,
    #[serde(flatten)]
    what: What,
}

/// Reads a trace and checks what holds for every trace.
///
/// # Panics
///
/// If a line is not what the format says, or sequence numbers or times are out of order.
#[track_caller]
pub fn read_trace(path: &Path) -> Trace {
    let text = std::fs::read_to_string(path)
        .unwrap_or_else(|error| panic!("no trace at {}: {error}", path.display()));
    let mut lines: Vec<&str> = text.lines().collect();
    assert!(!lines.is_empty(), "the trace {} is empty", path.display());
    let header: Header = parse(lines.remove(0));
    let footer: Option<Footer> = match lines.last() {
        Some(line) if line.contains("\"footer\":true") => Some(parse(line)),
        _ => None,
    };
    if footer.is_some() {
        lines.pop();
    }
    let events: Vec<Event> = lines
        .into_iter()
        .map(|line| {
            let line: Line = parse(line);
            Event {
                seq: line.seq,
                time_ns: line.time_ns,
                task: line.task,
                what: line.what,
            }
        })
        .collect();
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event.seq, index as u64 + 1, "a gap in the sequence numbers");
    }
    for pair in events.windows(2) {
        assert!(
            pair[0].time_ns <= pair[1].time_ns,
            "time runs backwards: {pair:?}"
        );
    }
    if let Some(footer) = &footer {
        kernel::hear(&footer.lost);
        assert_eq!(
            footer.events,
            events.len() as u64,
            "the footer's count of events"
        );
    }
    Trace {
        header,
        events,
        footer,
    }
}

#[track_caller]
fn parse<'a, T: Deserialize<'a>>(line: &'a str) -> T {
    match serde_json::from_str(line) {
        Ok(value) => value,
        Err(error) => panic!("a line of the trace is not what the format says: {error}\n{line}"),
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident: $variant:ident($type:ty)),+ $(,)?) => {
        impl Trace {
            $(
                $(#[$doc])*
                pub fn $name(&self) -> Vec<(&Event, &$type)> {
                    self.events
                        .iter()
                        .filter_map(|event| match &event.what {
                            What::$variant(data) => Some((event, data)),
                            _ => None,
                        })
                        .collect()
                }
            )+
        }
    };
}

kinds! {
    /// Forks, threads included.
    forks: Fork(Fork),
    /// Programs executed.
    execs: Exec(Exec),
    /// Attempts that failed.
    exec_failures: ExecFailed(ExecFailed),
    /// What ran when procjail attached.
    found: Found(procjail::event::Found),
    /// Ends of processes and threads.
    exits: Exit(Exit),
    /// Collected children.
    reaps: Reap(Reap),
    /// Signals sent.
    signals: SignalGenerated(SignalGenerated),
    /// Signals taken.
    deliveries: SignalDelivered(SignalDelivered),
    /// Signals that the launcher passed on or held.
    forwarded: SignalForwarded(SignalForwarded),
    /// Who senders from outside are.
    senders: Sender(procjail::event::Sender),
    /// System calls that failed in processes that ended badly.
    failed_calls: FailedCalls(procjail::event::FailedCalls),
    /// What processes that ended badly wrote last to standard error.
    stderr_tails: StderrTail(procjail::event::StderrTail),
    /// Resource limits that were set.
    limit_changes: LimitChanged(procjail::event::LimitChanged),
    /// Victims of the OOM killer.
    oom_kills: OomKill(OomKill),
    /// Changes of mounts.
    mounts: Mount(procjail::event::Mount),
    /// Changes of cgroups.
    cgroups: Cgroup(procjail::event::Cgroup),
    /// Kills by the launcher.
    kills: Kill(procjail::event::Kill),
    /// Set-ups that failed.
    setup_failures: SetupFailed(procjail::event::SetupFailed),
    /// Stop windows.
    stops: StopRequested(procjail::event::StopRequested),
    /// Memory at moments.
    memory_samples: MemorySample(procjail::event::MemorySample),
    /// Counters at moments.
    counters: Counters(procjail::event::Counters),
    /// Threads at moments.
    snapshots: Snapshot(procjail::event::Snapshot),
    /// The kernel log's reports of OOM kills.
    kernel_ooms: KernelOom(procjail::event::KernelOom),
    /// Its other lines.
    kernel_messages: KernelMessage(procjail::event::KernelMessage),
    /// Looks for what is left.
    leak_checks: LeakCheck(procjail::event::LeakCheck),
    /// What dead launchers had left.
    leftovers: Leftover(procjail::event::Leftover),
    /// What vanished with mount namespaces.
    implicit_unmounts: ImplicitUnmounts(procjail::event::ImplicitUnmounts),
    /// Steps of the clean-up.
    teardown: Teardown(Teardown),
}

impl Trace {
    /// The last line.
    #[track_caller]
    pub fn footer(&self) -> &Footer {
        self.footer.as_ref().expect("the trace has a footer")
    }

    /// The end of the process that has this PID inside the jail.
    #[track_caller]
    pub fn exit_of(&self, jail_pid: u32) -> (&Event, &Exit) {
        self.exits()
            .into_iter()
            .find(|(event, exit)| exit.process && event.task.jail_pid == Some(jail_pid))
            .unwrap_or_else(|| panic!("no exit of {jail_pid} in the trace:\n{}", self.summary()))
    }

    /// Signals of this number that were sent to the process with this PID inside the jail.
    pub fn signals_to(&self, jail_pid: u32, signal: i32) -> Vec<(&Event, &SignalGenerated)> {
        let mut found = self.signals();
        found.retain(|(_, data)| {
            data.target.jail_pid == Some(jail_pid) && data.signal.number == signal
        });
        found
    }

    /// Deliveries of this signal to a handler of the process with this PID inside the jail.
    pub fn handled_by(&self, jail_pid: u32, signal: i32) -> Vec<(&Event, &SignalDelivered)> {
        let mut found = self.deliveries();
        found.retain(|(event, data)| {
            event.task.jail_pid == Some(jail_pid)
                && data.signal.number == signal
                && data.disposition == Disposition::Handler
        });
        found
    }

    /// Checks that nothing was lost.
    ///
    /// What the hooks on system calls missed by preemption may have been any call of the machine, and
    /// in an emulator they miss some in every storm: it is no loss yet. Tests of the events that they
    /// tell find a real one.
    #[track_caller]
    pub fn expect_complete(&self) -> &Trace {
        let mut lost = self.footer().lost.clone();
        if kernel::probes_are_preempted() {
            lost.retain(|lost| {
                let of_calls = matches!(lost.event_kind.as_str(), "reap" | "mount");
                !(of_calls && lost.cpu.is_none())
            });
        }
        assert_eq!(lost, vec![], "events were lost");
        let unattached: Vec<_> = self
            .header
            .probes
            .iter()
            .filter(|probe| !probe.attached)
            .collect();
        assert!(
            unattached.is_empty(),
            "probes are not attached: {unattached:#?}"
        );
        self
    }

    /// One short line for each event, for messages.
    pub fn summary(&self) -> String {
        let lines = self.events.iter().map(|event| {
            format!(
                "{} {:?} {} {:?}\n",
                event.seq, event.task.jail_pid, event.task.comm, event.what
            )
        });
        lines.collect()
    }
}
