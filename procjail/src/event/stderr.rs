//! What a process wrote last to its standard error, from the ring that the kernel side kept.

use procjail_common::{self as common, STDERR_TAIL_LEN};

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
            before_ns: record.header.time_ns.saturating_sub(record.last_ns),
        }
    }
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
    fn any_number_of_bytes_is_possible() {
        for written in [0, 1, 1023, 1024, 1025, u64::MAX] {
            let mut record = stderr_tail(GATE_NS, task(1, "app"), "");
            record.written = written;
            let _ = StderrTail::from(&record);
        }
    }
}
