//! What a process wrote last to its standard error, from the ring that the kernel side kept.

use procjail_common::{self as common, STDERR_HEAD_LEN, STDERR_TAIL_LEN};

use super::evidence::StderrTail;

impl From<&common::StderrTail> for StderrTail {
    fn from(record: &common::StderrTail) -> Self {
        let truncated = record.written > STDERR_TAIL_LEN as u64;
        let bytes = if truncated {
            let next = (record.written % STDERR_TAIL_LEN as u64) as usize;
            let (newer, older) = record.bytes.split_at(next);
            [older, newer].concat()
        } else {
            let end = record.written as usize;
            record.bytes.get(..end).unwrap_or_default().to_vec()
        };
        Self {
            text: String::from_utf8_lossy(whole_characters(&bytes, truncated)).into_owned(),
            truncated,
            head: head(record),
            before_ns: record.header.time_ns.saturating_sub(record.last_ns),
        }
    }
}

/// The beginning of what it wrote without a pause, as far as the tail no longer has it.
fn head(record: &common::StderrTail) -> Option<String> {
    let tail = STDERR_TAIL_LEN as u64;
    let before = record
        .written
        .checked_sub(record.begun)?
        .checked_sub(tail)?;
    let length = before.min(STDERR_HEAD_LEN as u64);
    let bytes = record.head.get(..length as usize)?;
    (length > 0).then(|| String::from_utf8_lossy(bytes).into_owned())
}

/// Without the rest of a character of UTF-8 that was cut.
fn whole_characters(bytes: &[u8], cut: bool) -> &[u8] {
    /// A character has at most so many bytes besides its first.
    const REST: usize = 3;
    let rest = bytes
        .iter()
        .take(REST)
        .take_while(|byte| **byte & 0xc0 == 0x80);
    let skipped = if cut { rest.count() } else { 0 };
    bytes.get(skipped..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::fixture::{GATE_NS, stderr_tail, task};

    #[test]
    fn what_fits_is_told_whole() {
        let tail = StderrTail::from(&stderr_tail(GATE_NS, task(1, "app"), "no host\n"));
        assert_eq!((tail.text.as_str(), tail.truncated), ("no host\n", false));
        assert_eq!(tail.before_ns, 2_000);
    }

    #[test]
    fn the_ring_is_unrolled_where_it_ran_over() {
        let mut record = stderr_tail(GATE_NS, task(1, "app"), &"x".repeat(STDERR_TAIL_LEN));
        record.bytes[..4].copy_from_slice(b"end\n");
        record.written += 4;
        let tail = StderrTail::from(&record);
        assert_eq!((tail.text.len(), tail.truncated), (STDERR_TAIL_LEN, true));
        assert!(tail.text.starts_with("xxx") && tail.text.ends_with("xend\n"));
    }

    #[test]
    fn a_character_that_was_cut_is_left_out() {
        let mut record = stderr_tail(GATE_NS, task(1, "app"), &"x".repeat(STDERR_TAIL_LEN));
        record.written += 1;
        record.bytes[0] = b'!';
        record.bytes[1..3].copy_from_slice("ä".as_bytes());
        record.bytes[1] = b'x';
        assert!(StderrTail::from(&record).text.starts_with("x\u{fffd}x"));
        record.bytes[1] = 0x84;
        record.bytes[2] = b'x';
        assert!(StderrTail::from(&record).text.starts_with("xx"));
    }

    #[test]
    fn the_beginning_of_a_long_text_is_told_as_far_as_the_tail_lost_it() {
        let of = |written: u64, begun: u64| {
            let mut record = stderr_tail(GATE_NS, task(1, "app"), "");
            (record.written, record.begun) = (written, begun);
            record.head.fill(b'h');
            StderrTail::from(&record).head.map(|head| head.len())
        };
        assert_eq!(of(1_024, 0), None);
        assert_eq!(of(1_100, 100), None);
        assert_eq!(of(1_100, 70), Some(6));
        assert_eq!(of(1_536, 0), Some(512));
        assert_eq!(of(30_000, 10_000), Some(512));
    }

    #[test]
    fn any_number_of_bytes_is_possible() {
        for written in [0, 1, 1023, 1024, 1025, u64::MAX] {
            for begun in [0, 1, 1025, u64::MAX] {
                let mut record = stderr_tail(GATE_NS, task(1, "app"), "");
                (record.written, record.begun) = (written, begun);
                let _ = StderrTail::from(&record);
            }
        }
    }
}
