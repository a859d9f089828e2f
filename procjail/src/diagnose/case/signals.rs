//! The signals of a process.

use super::{Case, ProcessId};
use crate::event::{Disposition, Event, SignalDelivered, SignalGenerated, SignalResult, What};

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

    /// The signal that ended a process: the first of that number that was queued and that no handler
    /// took. Later ones coalesced or came too late.
    ///
    /// A fatal signal is not delivered under its own number: the kernel sets the exit code and wakes
    /// every thread with SIGKILL (`complete_signal()` in kernel/signal.c). The number comes from the
    /// exit status.
    pub fn killing_signal(&self, id: ProcessId) -> Option<(&Event, &SignalGenerated)> {
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
