//! Axes: where their ticks are.

use crate::text::{bytes, duration};

/// Ticks of a time axis from `from_ns` to `to_ns` relative to the gate: at most about `most`, at round times.
pub(super) fn times(from_ns: i64, to_ns: i64, most: u32) -> Vec<(i64, String)> {
    let span = to_ns.saturating_sub(from_ns).max(1);
    let step = step(span as f64 / f64::from(most.max(1))).max(1.0) as i64;
    let mut ticks = Vec::new();
    let mut at = from_ns.div_euclid(step).saturating_mul(step);
    while at <= to_ns && ticks.len() <= 2 * most as usize {
        if at >= from_ns {
            let sign = if at < 0 { "-" } else { "" };
            let text = match at {
                0 => "0".to_owned(),
                at => format!(
                    "{sign}{}",
                    duration(at.unsigned_abs()).replace(".000 s", " s")
                ),
            };
            ticks.push((at, text));
        }
        match at.checked_add(step) {
            Some(next) => at = next,
            None => break,
        }
    }
    ticks
}

/// 1, 2 or 5 times a power of ten, at least `least`.
fn step(least: f64) -> f64 {
    let power = 10f64.powf(least.max(1.0).log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= least)
        .unwrap_or(10.0 * power)
}

/// Ticks of an axis of bytes from 0 to `most`, at powers of two and halves between them.
pub(super) fn sizes(most: u64) -> Vec<(u64, String)> {
    let mut step = 1u64 << (63 - (most / 4).max(1).leading_zeros());
    if most / step > 6 {
        step = step.saturating_mul(2);
    }
    (0..=6)
        .map(|index| step.saturating_mul(index))
        .take_while(|size| *size <= most)
        .map(|size| (size, bytes(size)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_at_round_times() {
        let texts = |from, to| -> Vec<String> {
            let ticks = times(from, to, 6);
            ticks.into_iter().map(|(_, text)| text).collect()
        };
        assert_eq!(
            texts(-10_000_000, 110_000_000),
            ["0", "20 ms", "40 ms", "60 ms", "80 ms", "100 ms"]
        );
        assert!(texts(0, 0).len() <= 12);
        assert!(times(i64::MIN, i64::MAX, 6).len() <= 13);
    }

    #[test]
    fn ticks_of_sizes_are_few() {
        for most in [0, 1, 5, 4096, 50 << 20, u64::MAX] {
            let ticks = sizes(most);
            assert!((1..=7).contains(&ticks.len()), "{most}: {ticks:?}");
        }
        assert_eq!(sizes(48 << 20)[1].1, "8.0 MiB");
    }
}
