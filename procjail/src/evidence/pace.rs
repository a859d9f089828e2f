//! When to look at the jail's memory, and when what was seen is worth an event.
//!
//! A look costs microseconds and leaves nothing; an event costs more and stays in the trace. So looks
//! are frequent while memory grows or the limit is near, and rare while nothing changes; an event
//! needs a change.

use std::time::Duration;

/// Between looks, at least.
const FAST: Duration = Duration::from_millis(5);

/// Between looks, at most.
const SLOW: Duration = Duration::from_millis(250);

/// Without a change there is an event so often.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// The same at the limit, where a jail may get nowhere while its usage does not move.
const HEARTBEAT_AT_LIMIT: Duration = Duration::from_millis(500);

/// A change of so many hundredths of the limit is an event.
const STEP_PERCENT: u64 = 3;

/// Smaller changes are noise.
const MIN_STEP_BYTES: u64 = 256 << 10;

/// Shares of the limit, in hundredths, whose crossing is an event.
const MARKS: [u64; 4] = [50, 75, 90, 95];

/// After so many events, each time, steps and times double.
const THIN_OUT: u64 = 512;

/// In the long run at most this share of a processor's time goes into events: one part in so many.
const SHARE: u32 = 100;

/// So much time may go into events at once.
const BURST: Duration = Duration::from_millis(20);

/// The state of a jail's pace. Times are counted from any fixed moment.
#[derive(Debug)]
pub struct Pace {
    interval: Duration,
    next_look: Duration,
    seen: Option<(Duration, u64)>,
    told: Option<(Duration, u64)>,
    events: u64,
    /// What events have cost, less the share that was free since.
    spent: Duration,
}

impl Pace {
    /// Nothing happens until [`Pace::hurry`].
    pub fn new(now: Duration) -> Pace {
        Pace {
            interval: FAST,
            next_look: now + HEARTBEAT,
            seen: None,
            told: None,
            events: 0,
            spent: Duration::ZERO,
        }
    }

    /// When the next look is due.
    pub fn next_look(&self) -> Duration {
        self.next_look
    }

    /// Something is about to happen.
    pub fn hurry(&mut self, now: Duration) {
        self.interval = FAST;
        self.next_look = now + FAST;
    }

    /// Takes note of a look. Tells whether it is worth an event.
    pub fn look(&mut self, now: Duration, usage: u64, limit: Option<u64>) -> bool {
        self.interval = match self.seen {
            Some((then, before)) if usage > before => {
                let grown = usage - before;
                match limit {
                    // Twenty looks on the way to the limit, if it goes on like this.
                    Some(limit) => {
                        let left = limit.saturating_sub(usage) as f64;
                        let seconds = now.saturating_sub(then).as_secs_f64() * left / grown as f64;
                        let pace = Duration::try_from_secs_f64(seconds / 20.0).unwrap_or(SLOW);
                        pace.min(self.interval * 2)
                    }
                    None if grown >= MIN_STEP_BYTES => self.interval / 2,
                    None => self.interval * 2,
                }
            }
            _ => self.interval * 2,
        }
        .clamp(FAST, SLOW);
        self.next_look = now + self.interval;
        self.seen = Some((now, usage));
        self.allows(now) && self.is_due(now, usage, limit)
    }

    fn is_due(&self, now: Duration, usage: u64, limit: Option<u64>) -> bool {
        let Some((then, before)) = self.told else {
            return true;
        };
        let thin = self.thin();
        let step = limit.unwrap_or(usage.max(before)) / 100 * STEP_PERCENT;
        let step = step.max(MIN_STEP_BYTES).saturating_mul(u64::from(thin));
        let mark = |bytes: u64| {
            limit.map_or(0, |limit| {
                let reached = |percent: &&u64| bytes >= limit / 100 * **percent;
                MARKS.iter().filter(reached).count()
            })
        };
        let heartbeat = match mark(usage) {
            reached if reached == MARKS.len() => HEARTBEAT_AT_LIMIT,
            _ => HEARTBEAT,
        };
        // Beyond the first doubling, going up and down across a mark is no news.
        usage.abs_diff(before) >= step
            || (thin == 1 && mark(usage) != mark(before))
            || now.saturating_sub(then) >= heartbeat * thin
    }

    /// Takes note of an event, whatever its reason, and of what it cost.
    pub fn told(&mut self, now: Duration, usage: u64, cost: Duration) {
        self.events += 1;
        self.spent = self.owed(now) + cost;
        self.told = Some((now, usage));
    }

    /// The last events were not too costly for another one.
    pub fn allows(&self, now: Duration) -> bool {
        self.owed(now) < BURST
    }

    fn owed(&self, now: Duration) -> Duration {
        let since = self
            .told
            .map_or(Duration::ZERO, |(then, _)| now.saturating_sub(then));
        self.spent.saturating_sub(since / SHARE)
    }

    fn thin(&self) -> u32 {
        1 << (self.events / THIN_OUT).min(16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Follows a usage for so long. Returns the times of the looks and the events.
    fn follow(
        seconds: f64,
        limit: Option<u64>,
        usage: impl Fn(Duration) -> u64,
    ) -> (usize, Vec<(Duration, u64)>) {
        let mut pace = Pace::new(Duration::ZERO);
        pace.hurry(Duration::ZERO);
        let (mut looks, mut events) = (0, Vec::new());
        while pace.next_look() < Duration::from_secs_f64(seconds) {
            let now = pace.next_look();
            looks += 1;
            if pace.look(now, usage(now), limit) {
                events.push((now, usage(now)));
                pace.told(now, usage(now), Duration::from_micros(50));
            }
        }
        (looks, events)
    }

    #[test]
    fn an_idle_jail_is_looked_at_four_times_a_second() {
        let (looks, events) = follow(60.0, Some(64 * MIB), |_| MIB);
        assert!((230..260).contains(&looks), "{looks}");
        assert!((6..=7).contains(&events.len()), "{events:?}");
    }

    #[test]
    fn a_leak_is_followed_in_steps_and_across_every_mark() {
        let leak = |now: Duration| (now.as_secs_f64() * 6.4 * MIB as f64) as u64;
        let (_, events) = follow(10.0, Some(64 * MIB), leak);
        assert!((25..45).contains(&events.len()), "{}", events.len());
        for mark in MARKS {
            let before = events
                .iter()
                .filter(|(_, usage)| usage * 100 < 64 * MIB * mark);
            let gap = before.map(|(_, usage)| usage).max();
            let gap = gap.expect("an event before the mark");
            assert!(64 * MIB * mark / 100 - gap <= 4 * MIB, "{mark}");
        }
    }

    #[test]
    fn a_spike_is_seen_before_it_reaches_the_limit() {
        let spike = |now: Duration| match now.as_millis() {
            0..1000 => 4 * MIB,
            ms => (4 * MIB + (ms as u64 - 1000) * MIB / 8).min(64 * MIB),
        };
        let (_, events) = follow(3.0, Some(64 * MIB), spike);
        let on_the_way = events
            .iter()
            .filter(|(_, usage)| (5 * MIB..63 * MIB).contains(usage));
        assert!(on_the_way.count() >= 8, "{events:?}");
    }

    #[test]
    fn events_are_thinned_out() {
        // Up and down for an hour, as a garbage collector does.
        let saw = |now: Duration| 10 * MIB + (now.as_millis() as u64 % 1000) * MIB / 25;
        let (_, events) = follow(3600.0, Some(64 * MIB), saw);
        assert!(events.len() < 5000, "{}", events.len());
        assert!(events.last().expect("an event").0 > Duration::from_secs(3000));
    }

    #[test]
    fn a_costly_event_is_followed_by_a_pause() {
        let mut pace = Pace::new(Duration::ZERO);
        assert!(pace.look(Duration::from_millis(5), MIB, None));
        pace.told(Duration::from_millis(5), MIB, Duration::from_millis(30));
        assert!(!pace.look(Duration::from_millis(500), 900 * MIB, None));
        assert!(pace.look(Duration::from_millis(1100), 900 * MIB, None));
    }
}
