//! The signals of a process.

use super::{Case, Origin, ProcessId};
use crate::event::{Disposition, Event, SignalDelivered, SignalGenerated, SignalResult, What};

/// A handler that raises its signal again is done within this time, nanoseconds: it may write a report before, or see
/// to what is still to be done.
const HANDLER_NS: u64 = 60_000_000_000;

impl Case {
    /// Signals that were sent to a process, in order.
    pub fn received(
        &self,
        id: ProcessId,
    ) -> impl DoubleEndedIterator<Item = (&Event, &SignalGenerated)> {
        self.those(&self.process(id).received, generated)
    }

    /// Signals that a process sent, in order.
    pub fn sent(
        &self,
        id: ProcessId,
    ) -> impl DoubleEndedIterator<Item = (&Event, &SignalGenerated)> {
        self.those(&self.process(id).sent, generated)
    }

    /// Signals that a process took, in order.
    pub fn delivered(
        &self,
        id: ProcessId,
    ) -> impl DoubleEndedIterator<Item = (&Event, &SignalDelivered)> {
        self.those(&self.process(id).delivered, |what| match what {
            What::SignalDelivered(signal) => Some(signal),
            _ => None,
        })
    }

    /// All signals sent to anyone, in order.
    pub fn signals(&self) -> impl Iterator<Item = (&Event, &SignalGenerated)> {
        self.each(generated)
    }

    /// The signal that ended a process. Where its handler took that and raised it again, it is the one that the handler
    /// took: what the process sent itself then says nothing of who or what was behind it.
    pub fn killing_signal(&self, id: ProcessId) -> Option<(&Event, &SignalGenerated)> {
        let last = self.last_signal(id)?;
        Some(self.handled_before(id, last).unwrap_or(last))
    }

    /// The signal with which a process ended itself once its handler had taken the same one, as crash reporters and the
    /// runtimes of languages do.
    pub fn raised_again(&self, id: ProcessId) -> Option<(&Event, &SignalGenerated)> {
        let last = self.last_signal(id)?;
        self.handled_before(id, last).map(|_| last)
    }

    /// The signal that a handler took before the process sent itself the same one, without a handler any more. For a
    /// fault it was the same thread.
    fn handled_before(
        &self,
        id: ProcessId,
        (last, signal): (&Event, &SignalGenerated),
    ) -> Option<(&Event, &SignalGenerated)> {
        if self.origin(last, signal) != Origin::Itself {
            return None;
        }
        let (first, taken) = self.received(id).rfind(|(event, first)| {
            event.seq < last.seq
                && first.signal.number == signal.signal.number
                && first.disposition == Disposition::Handler
                && first.result == SignalResult::Delivered
                && self.origin(event, first) != Origin::Itself
        })?;
        let faulted = matches!(self.origin(first, taken), Origin::Fault | Origin::Seccomp);
        // Another program has none of its handlers.
        let executed = self
            .execs(id)
            .any(|(event, _)| event.seq > first.seq && event.seq < last.seq);
        (!executed
            && last.time_ns - first.time_ns <= HANDLER_NS
            && (!faulted || first.task.tid == last.task.tid))
            .then_some((first, taken))
    }

    /// The signal of which a process died: the first of that number that was queued and that no handler
    /// took. Later ones coalesced or came too late.
    ///
    /// A fatal signal is not delivered under its own number: the kernel sets the exit code and wakes
    /// every thread with SIGKILL (`complete_signal()` in kernel/signal.c). The number comes from the
    /// exit status.
    fn last_signal(&self, id: ProcessId) -> Option<(&Event, &SignalGenerated)> {
        let number = self.status(id)?.signal.as_ref()?.number;
        let end = self.process(id).exit?;
        let handled = self
            .delivered(id)
            .filter(|(_, taken)| {
                taken.signal.number == number && taken.disposition == Disposition::Handler
            })
            .map(|(event, _)| event.seq)
            .next_back()
            .unwrap_or(0);
        let queued = |signal: &SignalGenerated| {
            matches!(
                signal.result,
                SignalResult::Delivered | SignalResult::LoseInfo
            )
        };
        let end_seq = self.event(end).seq;
        self.received(id)
            .filter(|(event, signal)| {
                event.seq > handled
                    && event.seq < end_seq
                    && signal.signal.number == number
                    && queued(signal)
            })
            .min_by_key(|(event, _)| event.seq)
    }

    /// What took a signal that was sent: the delivery that names it.
    pub fn delivery_of(&self, generated: &Event) -> Option<(&Event, &SignalDelivered)> {
        let What::SignalGenerated(signal) = &generated.what else {
            return None;
        };
        let target = self.process_of(&signal.target)?;
        self.delivered(target)
            .find(|(_, taken)| taken.generated_seq == Some(generated.seq))
    }
}

fn generated(what: &What) -> Option<&SignalGenerated> {
    match what {
        What::SignalGenerated(signal) => Some(signal),
        _ => None,
    }
}
