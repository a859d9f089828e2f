//! One order for what several processors and the launcher tell.
//!
//! The ring buffer keeps the order in which records were reserved, which is a little off that of
//! their times, and the launcher's own events come in besides. They are held back for a moment and
//! handed on by time, so that a cause never comes after its effect.

use std::collections::VecDeque;

use super::{Enricher, Event, Record, What};

/// How far records may be out of order, nanoseconds: a hook that was interrupted between taking its
/// time and reserving its record.
const WINDOW_NS: u64 = 5_000_000;

/// Most entries that are held back. More come out early.
const CAPACITY: usize = 1 << 14;

#[derive(Debug)]
enum Entry {
    Record(Record),
    Launcher(What),
}

/// An [`Enricher`] that is fed in the order of time.
#[derive(Debug)]
pub struct Sequencer {
    enricher: Enricher,
    waiting: VecDeque<(u64, Entry)>,
}

impl Sequencer {
    /// In front of `enricher`.
    pub fn new(enricher: Enricher) -> Self {
        Self {
            enricher,
            waiting: VecDeque::new(),
        }
    }

    /// Takes a record.
    pub fn record(&mut self, record: Record) {
        self.insert(record.header().time_ns, Entry::Record(record));
    }

    /// Takes a fact of the launcher's.
    pub fn launcher(&mut self, time_ns: u64, what: What) {
        self.insert(time_ns, Entry::Launcher(what));
    }

    fn insert(&mut self, time_ns: u64, entry: Entry) {
        // Nearly always the last place.
        let later = self
            .waiting
            .iter()
            .rev()
            .take_while(|(time, _)| *time > time_ns)
            .count();
        self.waiting
            .insert(self.waiting.len() - later, (time_ns, entry));
    }

    /// Hands on what is older than the window before `now_ns`, the CLOCK_BOOTTIME at which the ring
    /// buffer was last found empty (or was begun to be drained).
    ///
    /// # Errors
    ///
    /// The first one of `sink`, which is not called again.
    pub fn advance<E>(
        &mut self,
        now_ns: u64,
        sink: &mut dyn FnMut(Event) -> Result<(), E>,
    ) -> Result<(), E> {
        self.hand_on(now_ns.saturating_sub(WINDOW_NS), sink)
    }

    /// Hands on all that is left.
    ///
    /// # Errors
    ///
    /// The first one of `sink`.
    pub fn finish<E>(&mut self, sink: &mut dyn FnMut(Event) -> Result<(), E>) -> Result<(), E> {
        self.hand_on(u64::MAX, sink)
    }

    fn hand_on<E>(
        &mut self,
        until_ns: u64,
        sink: &mut dyn FnMut(Event) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some((time_ns, _)) = self.waiting.front()
            && (*time_ns <= until_ns || self.waiting.len() > CAPACITY)
            && let Some((time_ns, entry)) = self.waiting.pop_front()
        {
            let event = match entry {
                Entry::Record(record) => self.enricher.record(record),
                Entry::Launcher(what) => Some(self.enricher.launcher(time_ns, what)),
            };
            if let Some(event) = event {
                sink(event)?;
            }
        }
        Ok(())
    }

    /// The enricher, for its totals.
    pub fn enricher(&self) -> &Enricher {
        &self.enricher
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{GateOpened, Task};

    fn gate(setup_ns: u64) -> What {
        What::GateOpened(GateOpened { setup_ns })
    }

    fn times(sequencer: &mut Sequencer, now_ns: u64) -> Vec<u64> {
        let mut times = Vec::new();
        let mut sink = |event: Event| {
            times.push(event.time_ns);
            Ok::<(), ()>(())
        };
        assert_eq!(sequencer.advance(now_ns, &mut sink), Ok(()));
        times
    }

    #[test]
    fn entries_come_out_by_time_and_not_before_the_window_is_over() {
        let mut sequencer = Sequencer::new(Enricher::new(Task::default(), 4096));
        for time_ns in [30, 10, 20, WINDOW_NS + 40, 10] {
            sequencer.launcher(time_ns, gate(time_ns));
        }
        assert_eq!(times(&mut sequencer, WINDOW_NS + 25), [10, 10, 20]);
        assert_eq!(
            times(&mut sequencer, 2 * WINDOW_NS + 40),
            [30, WINDOW_NS + 40]
        );
        assert_eq!(times(&mut sequencer, u64::MAX), [0; 0]);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut sequencer = Sequencer::new(Enricher::new(Task::default(), 4096));
        for time_ns in 0..CAPACITY as u64 + 10 {
            sequencer.launcher(time_ns, gate(0));
        }
        assert_eq!(times(&mut sequencer, 0).len(), 10);
    }

    #[test]
    fn an_error_of_the_sink_stops() {
        let mut sequencer = Sequencer::new(Enricher::new(Task::default(), 4096));
        sequencer.launcher(1, gate(0));
        sequencer.launcher(2, gate(0));
        let mut calls = 0;
        let mut sink = |_| {
            calls += 1;
            Err("full")
        };
        assert_eq!(sequencer.finish(&mut sink), Err("full"));
        assert_eq!(calls, 1);
    }
}
