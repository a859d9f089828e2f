//! Times of a trace as others want them: UTC, and since the gate.

use crate::text;
use crate::trace::Header;

/// From a trace's clock, CLOCK_BOOTTIME in nanoseconds, to the wall's and to the time since the gate. Total:
/// what can't be is cut to what can.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start_boot_ns: u64,
    start_unix_ns: u64,
    gate_ns: Option<u64>,
}

impl Clock {
    /// The clock of a trace whose gate hasn't opened, as far as is known.
    pub fn of(header: &Header) -> Self {
        Self {
            start_boot_ns: header.start_boot_ns,
            start_unix_ns: header.start_unix_ns,
            gate_ns: None,
        }
    }

    /// The gate opened then; the first time counts.
    pub fn gate(&mut self, gate_ns: u64) {
        self.gate_ns.get_or_insert(gate_ns);
    }

    /// Nanoseconds since 1970.
    pub fn unix_ns(&self, time_ns: u64) -> u64 {
        let since = i128::from(time_ns) - i128::from(self.start_boot_ns);
        let unix_ns = i128::from(self.start_unix_ns) + since;
        u64::try_from(unix_ns.max(0)).unwrap_or(u64::MAX)
    }

    /// The same as a timestamp; `None` for a time that no calendar has.
    pub fn timestamp(&self, time_ns: u64) -> Option<jiff::Timestamp> {
        jiff::Timestamp::from_nanosecond(self.unix_ns(time_ns).into()).ok()
    }

    /// As `2026-11-22T07:29:28.081234Z`.
    pub fn utc(&self, time_ns: u64) -> String {
        self.timestamp(time_ns)
            .map_or_else(String::new, |time| format!("{time:.6}"))
    }

    /// Nanoseconds since the gate opened, negative before; `None` where that isn't known.
    pub fn since_gate_ns(&self, time_ns: u64) -> Option<i64> {
        Some(between(self.gate_ns?, time_ns))
    }

    /// The same, since the trace's start where the gate isn't known.
    pub fn since_gate(&self, time_ns: u64) -> i64 {
        self.since_gate_ns(time_ns)
            .unwrap_or_else(|| between(self.start_boot_ns, time_ns))
    }

    /// As `+12.345ms`.
    pub fn relative(&self, time_ns: u64) -> String {
        text::moment(self.since_gate(time_ns).into())
    }

    /// Seconds since the gate with all nine places, negative before it: `-0.035030112`.
    pub fn since_gate_s(&self, time_ns: u64) -> String {
        const SECOND: u64 = 1_000_000_000;
        let gate_ns = self.gate_ns.unwrap_or(self.start_boot_ns);
        let sign = if time_ns < gate_ns { "-" } else { "" };
        let ns = time_ns.abs_diff(gate_ns);
        format!("{sign}{}.{:09}", ns / SECOND, ns % SECOND)
    }
}

fn between(from_ns: u64, to_ns: u64) -> i64 {
    let since = i128::from(to_ns) - i128::from(from_ns);
    i64::try_from(since).unwrap_or(if since < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::story;

    #[test]
    fn times_are_exact_on_both_sides_of_the_gate() {
        let mut header = story::header_line();
        let mut clock = Clock::of(&header);
        clock.gate(5_000_000_000);
        assert_eq!(clock.since_gate_s(5_000_000_001), "0.000000001");
        assert_eq!(clock.since_gate_s(3_999_999_999), "-1.000000001");
        let at = |ns| {
            let time = clock.timestamp(ns);
            time.map(|time| format!("{time:.9}"))
        };
        assert_eq!(
            at(header.start_boot_ns + 1).as_deref(),
            Some("2026-11-22T07:29:27.123456790Z")
        );
        assert!(at(0).is_some(), "before the start");
        header.start_unix_ns = 5;
        let clock = Clock::of(&header);
        assert_eq!(clock.unix_ns(header.start_boot_ns + 1), 6);
        assert_eq!(clock.unix_ns(0), 0, "before 1970");
    }

    #[test]
    fn a_gate_is_known_late_and_once() {
        let header = story::header_line();
        let start_ns = header.start_boot_ns;
        let mut clock = Clock::of(&header);
        assert_eq!(clock.since_gate_ns(start_ns + 7), None);
        assert_eq!(clock.since_gate(start_ns + 7), 7);
        clock.gate(start_ns + 10);
        clock.gate(start_ns + 20);
        assert_eq!(clock.since_gate_ns(start_ns + 7), Some(-3));
        assert_eq!(clock.since_gate(start_ns + 7), -3);
    }

    #[test]
    fn a_clock_beyond_the_calendar_is_no_time() {
        let mut header = story::header_line();
        header.start_unix_ns = u64::MAX;
        header.start_boot_ns = 0;
        let clock = Clock::of(&header);
        let _ = clock.timestamp(u64::MAX);
        assert!(clock.unix_ns(u64::MAX) > 0);
        assert_eq!(clock.since_gate(u64::MAX), i64::MAX);
    }
}
