//! Who ended whom: a process that gives up ends those below it, and collects them.

use super::{Case, ProcessId, is_bad};
use crate::event::{Event, SignalGenerated, SignalResult};

/// A process that has begun to end the others ends itself within this time, nanoseconds.
const GIVING_UP_NS: u64 = 10_000_000_000;

/// A signal that somebody sent to end a process.
fn asks_to_end(signal: &SignalGenerated) -> bool {
    let number = matches!(
        signal.signal.number,
        libc::SIGTERM | libc::SIGINT | libc::SIGKILL | libc::SIGHUP | libc::SIGQUIT
    );
    // The kernel's own have a positive code.
    number && signal.code.number <= 0 && signal.result != SignalResult::Ignored
}

impl Case {
    /// The first signal by which one of these asked a process to end.
    fn told_by(
        &self,
        child: ProcessId,
        senders: &[ProcessId],
    ) -> Option<(&Event, &SignalGenerated)> {
        let ended_ns = self.ended_ns(child);
        self.received(child).find(|(event, signal)| {
            let sender = self.process_of(&event.task);
            asks_to_end(signal)
                && event.time_ns <= ended_ns
                && sender.is_some_and(|sender| sender != child && senders.contains(&sender))
        })
    }

    /// The first signal by which a process asked another one to end, which then ended badly and so by its doing: it
    /// returned a code, or raised the signal again once its handler was done.
    pub fn told_to_end(
        &self,
        child: ProcessId,
        by: ProcessId,
    ) -> Option<(&Event, &SignalGenerated)> {
        let (event, signal) = self.told_by(child, &[by])?;
        let after_ns = self.ended_ns(child).saturating_sub(event.time_ns);
        (after_ns <= GIVING_UP_NS && !self.is_grave(child)).then_some((event, signal))
    }

    /// A child's bad end is the doing of that process.
    pub fn ended_by(&self, child: ProcessId, by: ProcessId) -> bool {
        self.killed_by(child, by) || self.told_to_end(child, by).is_some()
    }

    /// When a process began to end the others before its own end, if it had collected a failure before, and all that
    /// ended badly afterwards was its own doing; CLOCK_BOOTTIME nanoseconds. What it did so for is before.
    pub(super) fn gave_up_ns(
        &self,
        id: ProcessId,
        exit: &Event,
        collected: &[(ProcessId, &Event)],
    ) -> Option<u64> {
        let mut bad = collected
            .iter()
            .filter(|(child, _)| self.status(*child).is_some_and(is_bad));
        let (_, failure) = *bad.clone().next()?;
        // Itself, or by what it then started for that, such as kill(1).
        let mut senders = vec![id];
        let children = self.process(id).children.iter().copied();
        senders.extend(children.filter(|child| self.born_ns(*child) >= failure.time_ns));
        let began_ns = senders
            .iter()
            .flat_map(|sender| self.sent(*sender).map(|sent| (*sender, sent)))
            .filter(|(sender, (event, signal))| {
                let target = self.process_of(&signal.target);
                asks_to_end(signal)
                    && event.seq > failure.seq
                    && event.seq < exit.seq
                    && exit.time_ns.saturating_sub(event.time_ns) <= GIVING_UP_NS
                    && target.is_some_and(|it| it != *sender && self.is_below(it, id))
            })
            .map(|(_, (event, _))| event.time_ns)
            .min()?;
        bad.all(|(child, reap)| {
            reap.time_ns <= began_ns
                || (!self.is_grave(*child) && self.told_by(*child, &senders).is_some())
        })
        .then_some(began_ns)
    }
}
