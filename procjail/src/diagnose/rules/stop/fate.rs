//! What became of the stop signal, in the process that held the stop up.

use super::attempt::{Attempt, asks_to_stop};
use crate::diagnose::{Case, ProcessId};
use crate::event::{
    Disposition, Event, Exec, Moment, SignalGenerated, SignalResult, Snapshot, ThreadState,
};
use crate::text;

/// What became of the stop signal.
pub(super) enum Fate<'a> {
    /// The kernel dropped it, or the launcher spared it that: PID 1 has no handler.
    Dropped,
    /// It is ignored (SIG_IGN).
    Ignored,
    /// A handler ran.
    Handled(&'a Event),
    /// A handler ran; then the process sent itself the same signal with the default action, which the kernel
    /// drops for PID 1: when each was.
    Reraised(&'a Event, &'a Event),
    /// Somebody waited for it (sigwait(3), signalfd(2)), and took it.
    Awaited,
    /// It is blocked, and was not taken as far as is known.
    Blocked,
    /// It is queued, and nobody came to take it.
    Queued,
    /// The trace doesn't tell.
    Unknown,
}

/// The process that the stop waited for: PID 1, or the one that PID 1 passed the signal on to.
pub(super) struct Holdout<'a> {
    /// Which.
    pub process: ProcessId,
    /// The signal as it was sent to it.
    pub sent: Option<(&'a Event, &'a SignalGenerated)>,
    /// From PID 1 down to it.
    pub path: Vec<ProcessId>,
    /// What it did with it.
    pub fate: Fate<'a>,
}

impl<'a> Holdout<'a> {
    /// Follows the signal from PID 1 to whoever had it last and outlived the grace period.
    pub fn of(case: &'a Case, attempt: &Attempt<'a>) -> Self {
        let mut process = attempt.pid1;
        let mut sent = attempt.sent;
        let mut path = vec![process];
        while let Some((next, passed)) = passed_on(case, attempt, process) {
            if path.contains(&next) {
                break;
            }
            path.push(next);
            process = next;
            sent = Some(passed);
        }
        let fate = match sent {
            Some((event, signal)) => fate(case, attempt, process, event, signal),
            None if attempt.held.is_some() || attempt.late.is_some() => dropped(attempt),
            None => Fate::Unknown,
        };
        Self {
            process,
            sent,
            path,
            fate,
        }
    }

    /// The first program that it executed after the signal had come to it.
    pub fn executed_since(
        &self,
        case: &'a Case,
        attempt: &Attempt<'_>,
    ) -> Option<(&'a Event, &'a Exec)> {
        let since = self.since_ns(attempt);
        let end_ns = attempt.end_ns(case);
        case.execs(self.process)
            .find(|(event, _)| case.began_ns(event) > since && event.time_ns < end_ns)
    }

    /// It is PID 1 itself.
    pub fn is_pid1(&self) -> bool {
        self.path.len() == 1
    }

    /// Number and name of the signal as it got it.
    pub fn signal(&self, attempt: &Attempt<'_>) -> (i32, String) {
        let signal = self.sent.map_or(attempt.signal, |(_, sent)| &sent.signal);
        (signal.number, text::escape(&signal.name))
    }

    /// When the signal came to it, nanoseconds of CLOCK_BOOTTIME.
    pub fn since_ns(&self, attempt: &Attempt<'_>) -> u64 {
        self.sent
            .map_or(attempt.asked.time_ns, |(event, _)| event.time_ns)
    }
}

/// What was sent at the deadline tells whether it was still unwanted then.
fn dropped<'a>(attempt: &Attempt<'_>) -> Fate<'a> {
    match attempt.late {
        // The launcher waited to see whether the block is meant.
        Some((_, signal)) if signal.blocked => Fate::Blocked,
        Some((_, signal)) if signal.result != SignalResult::Ignored => Fate::Unknown,
        Some((_, signal)) if signal.disposition == Disposition::Ignore => Fate::Ignored,
        _ => Fate::Dropped,
    }
}

/// A process that a process passed the stop on to early in the grace period, and that outlived it.
fn passed_on<'a>(
    case: &'a Case,
    attempt: &Attempt<'_>,
    from: ProcessId,
) -> Option<(ProcessId, (&'a Event, &'a SignalGenerated))> {
    let end_ns = attempt.end_ns(case);
    let half_ns = attempt.asked.time_ns + attempt.lasted_ns(case) / 2;
    case.sent(from).find_map(|(event, signal)| {
        let number = signal.signal.number;
        let asks =
            asks_to_stop(number) || number == attempt.signal.number || number == libc::SIGHUP;
        let early = attempt.spans(case, event) && event.time_ns <= half_ns;
        let to = case.process_of(&signal.target)?;
        (asks && early && to != from && case.process(to).in_jail() && case.alive_at(to, end_ns))
            .then_some((to, (event, signal)))
    })
}

fn fate<'a>(
    case: &'a Case,
    attempt: &Attempt<'_>,
    process: ProcessId,
    event: &Event,
    signal: &SignalGenerated,
) -> Fate<'a> {
    match signal.result {
        SignalResult::Ignored => match signal.disposition {
            _ if signal.exiting => Fate::Unknown,
            Disposition::Ignore => Fate::Ignored,
            Disposition::Default if signal.unkillable => Fate::Dropped,
            _ => Fate::Unknown,
        },
        SignalResult::OverflowFail | SignalResult::Unknown => Fate::Unknown,
        SignalResult::Delivered | SignalResult::AlreadyPending | SignalResult::LoseInfo => {
            let number = signal.signal.number;
            let taken = case.delivered(process).find(|(taken, what)| {
                what.signal.number == number
                    && taken.time_ns >= event.time_ns
                    && attempt.spans(case, taken)
            });
            match taken {
                Some((taken, what)) if what.disposition == Disposition::Handler => {
                    match reraised(case, process, number, taken) {
                        Some((raised, _)) => Fate::Reraised(taken, raised),
                        None => Fate::Handled(taken),
                    }
                }
                // Unblocked without a handler: dropped only then.
                Some(_) if case.process(process).is_pid1() => Fate::Dropped,
                Some(_) => Fate::Unknown,
                // The default action ends it; that it is not over yet has another reason.
                None if signal.exiting => Fate::Queued,
                // Its tracer got it first.
                None if held(case, attempt, process) => Fate::Queued,
                // A thread that waits for a signal has it unblocked for as long.
                None if queued_again(case, process, number, event)
                    || still_pending(case, attempt, process, number) == Some(false) =>
                {
                    Fate::Awaited
                }
                None if signal.blocked => Fate::Blocked,
                None => Fate::Queued,
            }
        }
    }
}

/// The signal that PID 1 sent itself after its handler had run, with the default action: that is how a process
/// ends by the signal that it has cleaned up after, unless it is PID 1 (`sig_task_ignored()` in
/// kernel/signal.c).
pub(super) fn reraised<'a>(
    case: &'a Case,
    process: ProcessId,
    number: i32,
    taken: &Event,
) -> Option<(&'a Event, &'a SignalGenerated)> {
    if !case.process(process).is_pid1() {
        return None;
    }
    case.sent(process).find(|(event, signal)| {
        event.seq > taken.seq
            && signal.signal.number == number
            && signal.disposition == Disposition::Default
            && case.process_of(&signal.target) == Some(process)
            && !signal.exiting
    })
}

/// A standard signal is queued once: if it was queued again without a handler having run, somebody had
/// waited for the first.
fn queued_again(case: &Case, process: ProcessId, number: i32, first: &Event) -> bool {
    case.received(process).any(|(event, signal)| {
        event.seq > first.seq
            && signal.signal.number == number
            && signal.result == SignalResult::Delivered
    })
}

/// Whether the last look at a process shows it stopped by a tracer.
fn held(case: &Case, attempt: &Attempt<'_>, process: ProcessId) -> bool {
    last_look(case, attempt, process).is_some_and(|(_, threads)| {
        threads
            .iter()
            .any(|thread| thread.state == "t" && thread.tracer_pid != 0)
    })
}

/// Whether the last look at a process shows the signal pending.
fn still_pending(
    case: &Case,
    attempt: &Attempt<'_>,
    process: ProcessId,
    number: i32,
) -> Option<bool> {
    let (_, threads) = last_look(case, attempt, process)?;
    Some(threads.iter().any(|thread| has(&thread.pending, number)))
}

/// A set has a signal.
pub(super) fn has(set: &[crate::event::Signal], number: i32) -> bool {
    set.iter().any(|signal| signal.number == number)
}

/// The snapshots taken within the attempt, in order.
pub(super) fn looks<'a>(
    case: &'a Case,
    attempt: &Attempt<'_>,
) -> impl Iterator<Item = (&'a Event, &'a Snapshot)> {
    let from = attempt.asked.time_ns;
    let to = attempt.end_ns(case);
    case.snapshots().filter(move |(event, snapshot)| {
        matches!(
            snapshot.moment,
            Moment::StopRequested | Moment::StopHalf | Moment::StopDeadline
        ) && (from..=to).contains(&event.time_ns)
    })
}

/// The threads of a process in a snapshot.
pub(super) fn threads_of<'a>(
    case: &Case,
    snapshot: &'a Snapshot,
    process: ProcessId,
) -> Vec<&'a ThreadState> {
    let pid = case.process(process).task.pid;
    let of = |thread: &&ThreadState| thread.task.pid == pid;
    snapshot.threads.iter().filter(of).collect()
}

/// The last look at a process, if it was more than the one at the request.
pub(super) fn last_look<'a>(
    case: &'a Case,
    attempt: &Attempt<'_>,
    process: ProcessId,
) -> Option<(&'a Event, Vec<&'a ThreadState>)> {
    looks(case, attempt)
        .filter(|(_, snapshot)| snapshot.moment != Moment::StopRequested)
        .map(|(event, snapshot)| (event, threads_of(case, snapshot, process)))
        .filter(|(_, threads)| !threads.is_empty())
        .last()
}

/// The processes below one that live at the end of the attempt.
pub(super) fn survivors(case: &Case, attempt: &Attempt<'_>, below: ProcessId) -> Vec<ProcessId> {
    let end_ns = attempt.end_ns(case);
    case.descendants(below)
        .into_iter()
        .filter(|id| case.process(*id).in_jail() && case.alive_at(*id, end_ns))
        .filter(|id| case.born_ns(*id) <= attempt.asked.time_ns)
        .collect()
}

/// Whether a process was sent any signal that asks to stop, within the attempt.
pub(super) fn was_asked(case: &Case, attempt: &Attempt<'_>, process: ProcessId) -> bool {
    case.received(process).any(|(event, signal)| {
        attempt.spans(case, event)
            && signal.signal.number != libc::SIGKILL
            && signal.signal.number != libc::SIGCHLD
            && signal.signal.number != libc::SIGCONT
    })
}
