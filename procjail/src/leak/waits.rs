//! Processes of the jail that wait for the answer of a FUSE daemon or a file server, for long.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::event::KernelWait;
use crate::hang;
use crate::procfs;
use crate::procfs::host;

/// Shorter waits are how such file systems work.
const LONG: Duration = Duration::from_secs(1);

/// Processes that are looked at each time, and waits that are told.
const PROCESSES: usize = 64;
const TOLD: usize = 16;

/// Who waits since when, and the waits that were long.
#[derive(Debug, Default)]
pub struct Waits {
    waiting: BTreeMap<u32, (String, Instant)>,
    long: Vec<KernelWait>,
}

impl Waits {
    /// Looks where the processes wait.
    pub fn look(&mut self, pids: &[u32]) {
        let places = pids.iter().take(PROCESSES).filter_map(|pid| {
            let place = procfs::read(&format!("/proc/{pid}/wchan"))?;
            hang::is_wait_for_answer(&place).then_some((*pid, place))
        });
        self.note(places.collect(), Instant::now());
    }

    fn note(&mut self, places: Vec<(u32, String)>, now: Instant) {
        let before = std::mem::take(&mut self.waiting);
        for (pid, place) in places {
            let since = before
                .get(&pid)
                .filter(|(known, _)| *known == place)
                .map_or(now, |(_, since)| *since);
            let waited = now.duration_since(since);
            if waited >= LONG {
                self.told(pid, &place, waited);
            }
            self.waiting.insert(pid, (place, since));
        }
    }

    fn told(&mut self, pid: u32, place: &str, waited: Duration) {
        let waited_ns = waited.as_nanos() as u64;
        let known = |one: &&mut KernelWait| one.process.pid == pid && one.place == place;
        if let Some(one) = self.long.iter_mut().find(known) {
            one.waited_ns = one.waited_ns.max(waited_ns);
        } else if self.long.len() < TOLD {
            self.long.push(KernelWait {
                process: host::task(pid),
                place: place.to_owned(),
                waited_ns,
            });
        }
    }

    /// The long ones.
    pub fn long(&self) -> Vec<KernelWait> {
        self.long.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_long_wait_is_told_and_many_short_ones_are_not() {
        let place = || "request_wait_answer".to_owned();
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut waits = Waits::default();
        for ms in [0, 250, 500] {
            waits.note(vec![(1, place()), (2, place())], at(ms));
        }
        // One got its answer, and asks again.
        waits.note(vec![(1, place())], at(750));
        waits.note(vec![(1, place()), (2, place())], at(1000));
        waits.note(vec![(1, place()), (2, place())], at(1250));
        let long = waits.long();
        assert_eq!(long.len(), 1, "{long:?}");
        assert_eq!(long[0].waited_ns, 1_250_000_000);
    }
}
