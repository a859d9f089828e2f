//! While a teardown waits: when to look what for.
//!
//! A step that takes long is looked at 250 ms, 1 s and 5 s after the last progress, then every 5 s. The
//! looking is done by a thread of its own ([`Lookout`]); here is only asked and passed on, and nothing
//! waits.

use std::time::{Duration, Instant};

use super::Jail;
use super::lookout::Lookout;
use super::outcome::Observer;
use crate::event::{Snapshot, What};

/// When a step without progress is looked at; then every [`PERIOD`].
const LOOKS: [Duration; 3] = [
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(5),
];

/// From one look to the next in the long run.
const PERIOD: Duration = Duration::from_secs(5);

/// How soon after the question its answer is looked for.
const ANSWER: Duration = Duration::from_millis(5);

/// When the time is over, how long the last look may take.
const LAST_LOOK: Duration = Duration::from_millis(500);

/// Watches one teardown.
pub(super) struct Watch<'a> {
    observer: &'a dyn Observer,
    /// 0 once it is reaped.
    pid_1: u32,
    /// The last progress.
    since: Instant,
    looks: u32,
    lookout: Option<Lookout>,
    /// No thread, no descriptors, or nobody who wants to know.
    blind: bool,
    last: Option<Snapshot>,
}

impl<'a> Watch<'a> {
    /// From now on.
    pub(super) fn new(observer: &'a dyn Observer, pid_1: u32) -> Watch<'a> {
        Watch {
            observer,
            pid_1,
            since: Instant::now(),
            looks: 0,
            lookout: None,
            blind: false,
            last: None,
        }
    }

    /// PID 1 is gone, and its number may become another's.
    pub(super) fn reaped(&mut self) {
        self.pid_1 = 0;
    }

    /// A step succeeded.
    pub(super) fn progress(&mut self) {
        self.since = Instant::now();
        self.looks = 0;
    }

    /// When [`Watch::tick`] is due again.
    pub(super) fn next(&self) -> Instant {
        let look = self.since + due(self.looks);
        match self.lookout.as_ref().is_some_and(Lookout::is_asked) {
            true => look.min(Instant::now() + ANSWER),
            false => look,
        }
    }

    /// Passes on what was found, and asks for more if it is time.
    pub(super) fn tick(&mut self, jail: &Jail<'_>) {
        self.pass_on(Duration::ZERO);
        if Instant::now() >= self.since + due(self.looks) {
            self.looks += 1;
            self.ask(jail);
        }
    }

    /// A last look, at what is left when the time is over; none if it can't be had in a moment.
    pub(super) fn last_look(&mut self, jail: &Jail<'_>) -> Option<Snapshot> {
        // One that is still being taken is of no use any more.
        self.pass_on(LAST_LOOK);
        self.last = None;
        self.ask(jail);
        self.pass_on(LAST_LOOK);
        self.last.take()
    }

    fn ask(&mut self, jail: &Jail<'_>) {
        if self.lookout.is_none() && !self.blind {
            let started = self.observer.look_at_stall().and_then(|look| {
                let view = jail.view().ok()?;
                Lookout::start(view, look).ok()
            });
            self.blind = started.is_none();
            self.lookout = started;
        }
        if let Some(lookout) = &mut self.lookout {
            lookout.ask(self.pid_1, self.since.elapsed());
        }
    }

    fn pass_on(&mut self, within: Duration) {
        let Some(lookout) = self.lookout.as_mut().filter(|lookout| lookout.is_asked()) else {
            return;
        };
        if let Some((time_ns, snapshot)) = lookout.answer(within) {
            self.observer
                .observe(time_ns, What::Snapshot(snapshot.clone()));
            self.last = Some(snapshot);
        }
    }
}

/// How long after the last progress the look of that number is due.
fn due(look: u32) -> Duration {
    match LOOKS.get(look as usize) {
        Some(due) => *due,
        None => {
            let further = look.saturating_sub(LOOKS.len() as u32).saturating_add(1);
            LOOKS[LOOKS.len() - 1] + PERIOD * further
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_become_rare() {
        let due: Vec<u64> = (0..6).map(|look| due(look).as_millis() as u64).collect();
        assert_eq!(due, [250, 1000, 5000, 10_000, 15_000, 20_000]);
    }

    #[test]
    fn progress_begins_anew() {
        let mut watch = Watch::new(&(), 1);
        let start = watch.since;
        assert_eq!(watch.next(), start + LOOKS[0]);
        watch.looks = 2;
        assert_eq!(watch.next(), start + LOOKS[2]);
        watch.progress();
        assert!(watch.next() <= Instant::now() + LOOKS[0]);
        watch.reaped();
        assert_eq!(watch.pid_1, 0);
    }
}
