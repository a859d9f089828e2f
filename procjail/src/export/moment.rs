//! Times of a trace as others want them: UTC, and since the gate.

use crate::trace::Header;

/// The instant of a CLOCK_BOOTTIME time, nanoseconds since 1970. Total: what can't be is cut to what can.
pub(super) fn unix_ns(header: &Header, time_ns: u64) -> i128 {
    i128::from(time_ns) - i128::from(header.start_boot_ns) + i128::from(header.start_unix_ns)
}

/// The same as a timestamp; `None` for a time that no calendar has.
pub(super) fn timestamp(header: &Header, time_ns: u64) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_nanosecond(unix_ns(header, time_ns)).ok()
}

/// Seconds since the gate with all nine places, negative before it: `-0.035030112`.
pub(super) fn since_gate_s(gate_ns: u64, time_ns: u64) -> String {
    const SECOND: u64 = 1_000_000_000;
    let sign = if time_ns < gate_ns { "-" } else { "" };
    let ns = time_ns.abs_diff(gate_ns);
    format!("{sign}{}.{:09}", ns / SECOND, ns % SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::story;

    #[test]
    fn times_are_exact_on_both_sides_of_the_gate() {
        assert_eq!(since_gate_s(5_000_000_000, 5_000_000_001), "0.000000001");
        assert_eq!(since_gate_s(5_000_000_000, 3_999_999_999), "-1.000000001");
        let header = story::header_line();
        let at = |ns| timestamp(&header, ns).map(|time| format!("{time:.9}"));
        assert_eq!(
            at(header.start_boot_ns + 1).as_deref(),
            Some("2026-11-22T07:29:27.123456790Z")
        );
        assert!(at(0).is_some(), "before the start");
    }

    #[test]
    fn a_clock_beyond_the_calendar_is_no_time() {
        let mut header = story::header_line();
        header.start_unix_ns = u64::MAX;
        header.start_boot_ns = 0;
        let _ = timestamp(&header, u64::MAX);
        assert!(unix_ns(&header, u64::MAX) > 0);
    }
}
