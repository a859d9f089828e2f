//! The last system calls that failed, oldest first, from the ring that the kernel side kept.

use procjail_common::{self as common, FAILED_CALLS, NO_PATH};

use super::{
    decode::text_of,
    evidence::{FailedCall, FailedCalls},
    model::{Errno, Syscall},
};

impl From<&common::FailedCalls> for FailedCalls {
    fn from(record: &common::FailedCalls) -> Self {
        let kept = record.count.min(FAILED_CALLS as u32);
        let oldest = record.count - kept;
        let calls = (0..kept)
            .filter_map(|index| {
                let place = oldest.wrapping_add(index) as usize % FAILED_CALLS;
                record.calls.get(place)
            })
            // Two threads failed at the same instant, and wrote to the same place.
            .filter(|call| call.time_ns == call.time_again_ns)
            .map(|call| FailedCall {
                syscall: Syscall::new(call.number.into()),
                error: Errno::new(call.errno),
                path: (call.path_len != NO_PATH)
                    .then(|| text_of(&call.path, call.path_len as usize)),
                args: call.args.to_vec(),
                tid: call.tid,
                before_ns: record.header.time_ns.saturating_sub(call.time_ns),
                address: None,
                fs_type: None,
                open_files: None,
                nofile_limit: None,
            })
            .collect();
        Self { calls }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::fixture::{GATE_NS, failed_calls};

    fn paths(record: &common::FailedCalls) -> Vec<String> {
        let calls = FailedCalls::from(record).calls;
        calls.into_iter().filter_map(|call| call.path).collect()
    }

    #[test]
    fn the_last_ones_are_told_oldest_first() {
        assert_eq!(paths(&failed_calls(GATE_NS, 2)), ["/lib/0.so", "/lib/1.so"]);
        let many = paths(&failed_calls(GATE_NS, 21));
        assert_eq!(many.len(), FAILED_CALLS);
        assert_eq!(many.first().map(String::as_str), Some("/lib/5.so"));
        assert_eq!(many.last().map(String::as_str), Some("/lib/20.so"));
        let calls = FailedCalls::from(&failed_calls(GATE_NS, 21)).calls;
        let last = calls.last().expect("calls");
        assert_eq!(
            (last.syscall.name.as_str(), last.error.name.as_str()),
            ("openat", "ENOENT")
        );
        assert_eq!((last.before_ns, last.args.len()), (1_000, 4));
    }

    #[test]
    fn a_call_without_a_path_and_one_that_was_written_twice() {
        let mut record = failed_calls(GATE_NS, 2);
        record.calls[0].path_len = NO_PATH;
        assert_eq!(paths(&record), ["/lib/1.so"]);
        record.calls[1].time_again_ns += 1;
        let calls = FailedCalls::from(&record).calls;
        assert_eq!(calls.len(), 1);
        assert_eq!(calls[0].path, None);
    }
}
