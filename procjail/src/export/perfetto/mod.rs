//! The trace as the Perfetto viewer reads it (<https://ui.perfetto.dev>): tracks, slices, arrows, counters.
//!
//! ```text
//! jail NAME                 set-up | run ( grace period ) | teardown
//!   verdicts, teardown steps, losses, cgroups, kernel log, snapshots, leaks
//!   memory                  a counter for each kind, and the limit
//! python3 (PID 7) 4143      life ( program ( signals, OOM kills, mounts, … ) ) | zombie
//!   resident memory         a counter
//!   threads, if they were recorded
//! ```
//!
//! Packets are written as the events are read; the viewer sorts them by time. An arrow has the number of the
//! event that it begins at: a signal sent, a fork, an OOM kill.

mod jail;
mod mark;
mod proto;
mod sink;
#[cfg(test)]
mod tests;
mod tracks;

use std::io::{self, Write};

use super::Subject;
use crate::event::{Event, OomKill, SignalDelivered, SignalGenerated, SignalResult, Task, What};
use crate::render::{is_minor, label};
use crate::trace::Output;
use crate::trace::{Footer, Header};
use crate::words;

use jail::{Jail, Lane};
use mark::Mark;
use sink::Sink;
use tracks::Tracks;

/// Columns of a sentence: nothing has to fit a terminal here.
const WIDTH: usize = 1_000;

fn sentence(event: &Event) -> String {
    words::sentence(event, WIDTH)
}

/// Writes the trace.
pub(super) struct Perfetto<'a, W: Write> {
    sink: Sink<W>,
    subject: &'a Subject,
    tracks: Tracks<'a>,
    jail: Option<Jail<'a>>,
    /// Time of the last event: no later one is before it.
    now_ns: u64,
}

impl<'a, W: Write> Perfetto<'a, W> {
    /// Writes to `out`.
    pub fn new(subject: &'a Subject, out: W) -> Self {
        let first_ns = first_ns(subject);
        Self {
            sink: Sink::new(out),
            subject,
            tracks: Tracks::new(&subject.case, first_ns),
            jail: None,
            now_ns: first_ns,
        }
    }

    /// Something that a task does, or that happens to it.
    fn instant(&mut self, task: &Task, mark: Mark) -> io::Result<()> {
        let track = self.tracks.of(&mut self.sink, self.now_ns, task)?;
        self.sink.instant(self.now_ns, track, mark)
    }

    fn sent(&mut self, event: &Event, signal: &SignalGenerated) -> io::Result<()> {
        let details = |name: String| {
            Mark::of("signal", &name)
                .arg("seq", event.seq)
                .arg("what", sentence(event))
                .arg("signal", &signal.signal.name)
                .arg("code", &signal.code.name)
                .arg("result", result(signal.result))
        };
        let name = &signal.signal.name;
        let mut mark = details(format!("{name} sent"))
            .arg("target", signal.target.pid)
            .arg("target in jail", signal.target.jail_pid)
            .arg("disposition", disposition(signal.disposition))
            .arg("blocked", signal.blocked.then_some(true))
            .arg("unkillable", signal.unkillable.then_some(true))
            .arg("exiting", signal.exiting.then_some(true))
            .arg(
                "system call",
                signal.syscall.as_ref().map(|call| &*call.name),
            );
        // Of a child's end the exit tells.
        if is_minor(event) {
            return self.instant(&event.task, mark);
        }
        mark = mark.starts(event.seq);
        self.instant(&event.task, mark)?;
        let queued = matches!(
            signal.result,
            SignalResult::Delivered | SignalResult::LoseInfo | SignalResult::Unknown
        );
        if queued {
            return Ok(());
        }
        // No delivery will tell the target's side of it.
        let mark = details(format!("{name} {}", result(signal.result))).ends([event.seq]);
        self.instant(&signal.target, mark)
    }

    fn taken(&mut self, event: &Event, signal: &SignalDelivered) -> io::Result<()> {
        let fatal = signal.fatal.as_ref();
        let mut mark = Mark::of("signal", &format!("{} delivered", signal.signal.name))
            .arg("seq", event.seq)
            .arg("what", sentence(event))
            .arg("signal", &signal.signal.name)
            .arg("code", &signal.code.name)
            .arg("disposition", disposition(signal.disposition))
            .arg("fatal", fatal.map(|signal| &*signal.name))
            .arg("latency ns", signal.latency_ns)
            .arg("sent by event", signal.generated_seq);
        let now_ns = self.now_ns;
        match (fatal, signal.generated_seq) {
            (Some(_), Some(sent)) => {
                self.tracks
                    .doomed(&mut self.sink, now_ns, &event.task, sent)?;
                mark = mark.passes([sent]);
            }
            (None, sent) => mark = mark.ends(sent),
            (Some(_), None) => {}
        }
        self.instant(&event.task, mark)
    }

    fn oom_killed(&mut self, event: &Event, kill: &OomKill) -> io::Result<()> {
        let mark = Mark::new("memory", "OOM kill")
            .arg("seq", event.seq)
            .arg("what", sentence(event))
            .arg("victim", kill.victim.pid)
            .arg("victim in jail", kill.victim.jail_pid)
            .arg("victim's anonymous bytes", kill.memory.anon_bytes)
            .arg("oom_score_adj", kill.oom_score_adj)
            .arg("killed by kernel", kill.killed_by_kernel)
            .starts(event.seq);
        self.instant(&event.task, mark)?;
        let now_ns = self.now_ns;
        self.tracks
            .doomed(&mut self.sink, now_ns, &kill.victim, event.seq)
    }

    /// An event without a form of its own, on the track of its task.
    fn plain(&mut self, event: &Event, category: &'static str) -> io::Result<()> {
        let mark = Mark::new(category, label(event.what.kind()))
            .arg("seq", event.seq)
            .arg("what", sentence(event));
        self.instant(&event.task, mark)
    }
}

impl<W: Write> Output for Perfetto<'_, W> {
    fn header(&mut self, header: &Header) -> io::Result<()> {
        self.sink
            .clocks(header.start_boot_ns, header.start_unix_ns)?;
        self.jail = Some(Jail::new(&mut self.sink, self.subject, self.now_ns)?);
        Ok(())
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        self.now_ns = self.now_ns.max(event.time_ns);
        let now_ns = self.now_ns;
        let Self {
            sink, tracks, jail, ..
        } = self;
        let Some(jail) = jail else {
            return Err(io::Error::other("an event before the header"));
        };
        match &event.what {
            What::Fork(fork) => tracks.forked(sink, now_ns, event, fork),
            What::Exec(exec) => tracks.executed(sink, now_ns, event, exec),
            What::Exit(exit) => tracks.exited(sink, now_ns, event, exit),
            What::Reap(reap) => {
                tracks.gone(sink, now_ns, &reap.child, "reaped")?;
                let mark = Mark::new("process", "reap")
                    .arg("seq", event.seq)
                    .arg("child", reap.child.pid)
                    .arg("child in jail", reap.child.jail_pid)
                    .arg("zombie ns", reap.zombie_ns);
                self.instant(&event.task, mark)
            }
            What::Free(free) => tracks.gone(sink, now_ns, &free.process, "released by the kernel"),
            What::SignalGenerated(signal) => self.sent(event, signal),
            What::SignalDelivered(signal) => self.taken(event, signal),
            What::OomKill(kill) => self.oom_killed(event, kill),
            What::OomReap(_) => self.plain(event, "memory"),
            What::Wait(_)
            | What::ExecFailed(_)
            | What::FailedCalls(_)
            | What::StderrTail(_)
            | What::LimitChanged(_)
            | What::Found(_)
            | What::Sender(_) => self.plain(event, "process"),
            What::Mount(_) => self.plain(event, "mount"),
            What::SignalForwarded(_) => self.plain(event, "signal"),
            What::JailCreated(_) | What::Attached(_) | What::Detached(_) => {
                jail.note(sink, now_ns, None, event)
            }
            What::GateOpened(_) | What::SetupFailed(_) | What::StopRequested(_) | What::Kill(_) => {
                jail.phase(sink, now_ns, event)
            }
            What::JailExited(_) => {
                jail.phase(sink, now_ns, event)?;
                tracks.namespace_ended(sink, now_ns)
            }
            What::Teardown(step) => jail.step(sink, now_ns, event, step),
            What::MemorySample(sample) => {
                jail.memory(sink, now_ns, sample)?;
                for one in &sample.processes {
                    tracks.memory(sink, now_ns, &one.process, one.memory.resident_bytes())?;
                }
                Ok(())
            }
            What::Counters(counters) => jail.counters(sink, now_ns, counters),
            What::Snapshot(snapshot) => jail.snapshot(sink, now_ns, event, snapshot),
            What::Cgroup(_) => jail.note(sink, now_ns, Some(Lane::Cgroups), event),
            What::KernelOom(_) | What::KernelMessage(_) => {
                jail.note(sink, now_ns, Some(Lane::KernelLog), event)
            }
            What::Leftover(_)
            | What::MountUse(_)
            | What::ImplicitUnmounts(_)
            | What::LeakCheck(_) => jail.note(sink, now_ns, Some(Lane::Leaks), event),
            What::Lost(_) => jail.note(sink, now_ns, Some(Lane::Losses), event),
        }
    }

    fn footer(&mut self, footer: Option<&Footer>) -> io::Result<()> {
        self.tracks.finish(&mut self.sink, self.now_ns)?;
        if let Some(jail) = &mut self.jail {
            jail.finish(&mut self.sink, self.now_ns, footer.is_some())?;
        }
        self.sink.flush()
    }
}

/// When the trace begins: the header is written after the jail was made.
fn first_ns(subject: &Subject) -> u64 {
    let header_ns = subject.case.header.start_boot_ns;
    let first = subject.case.events().first();
    first.map_or(header_ns, |event| event.time_ns.min(header_ns))
}

fn result(result: SignalResult) -> &'static str {
    match result {
        SignalResult::Delivered => "queued",
        SignalResult::Ignored => "ignored",
        SignalResult::AlreadyPending => "already pending",
        SignalResult::OverflowFail => "dropped, the queue is full",
        SignalResult::LoseInfo => "queued without details",
        SignalResult::Unknown => "unknown",
    }
}

fn disposition(disposition: crate::event::Disposition) -> &'static str {
    use crate::event::Disposition;
    match disposition {
        Disposition::Default => "default",
        Disposition::Ignore => "ignore",
        Disposition::Handler => "handler",
    }
}
