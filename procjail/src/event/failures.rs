//! The last system calls that failed, oldest first, from what the kernel side kept.

use procjail_common::{self as common, UNKNOWN_CALL, failed_text};

use super::{
    address::address,
    decode::{Failures, text, text_of},
    evidence::{FailedCall, FailedCalls},
    model::{Errno, Syscall},
};

impl From<&Failures> for FailedCalls {
    fn from(failures: &Failures) -> Self {
        let now = failures.record.header.time_ns;
        let mut calls: Vec<_> = failures
            .calls
            .iter()
            // Two threads failed at the same instant, and wrote to the same place.
            .filter(|call| call.time_ns == call.time_again_ns)
            .collect();
        calls.sort_by_key(|call| call.time_ns);
        Self {
            calls: calls.into_iter().map(|call| failed(call, now)).collect(),
        }
    }
}

fn failed(call: &common::FailedCall, now: u64) -> FailedCall {
    let length = call.text_len as usize;
    let path = match call.text_kind {
        failed_text::PATH => Some(text_of(&call.text, length)),
        failed_text::FILE => file(&text_of(&call.text, length)),
        _ => None,
    };
    let bytes = call.text.get(..length).unwrap_or_default();
    let nofile = call.resource == libc::RLIMIT_NOFILE;
    let known = |value: u64| (nofile && value != u64::MAX).then_some(value);
    FailedCall {
        syscall: syscall(call),
        error: Errno::new(call.errno),
        path,
        args: call.args.to_vec(),
        tid: call.tid,
        before_ns: now.saturating_sub(call.time_ns),
        address: (call.text_kind == failed_text::ADDRESS)
            .then(|| address(bytes))
            .flatten(),
        fs_type: Some(text(&call.fs_type)).filter(|name| !name.is_empty()),
        repeats: call.repeats,
        open_files: known(call.used),
        nofile_limit: known(call.limit),
    }
}

/// The call, or the one whose error it fetched: a connection that was made in the background.
fn syscall(call: &common::FailedCall) -> Syscall {
    const OF_CONNECT: [i32; 4] = [
        libc::ECONNREFUSED,
        libc::EHOSTUNREACH,
        libc::ENETUNREACH,
        libc::ETIMEDOUT,
    ];
    Syscall::new(match i64::from(call.number) {
        libc::SYS_getsockopt if OF_CONNECT.contains(&call.errno) => libc::SYS_connect,
        _ if call.number == UNKNOWN_CALL => -1,
        number => number,
    })
}

/// The directory's and the file's name. A pipe or a socket has none, and the root of a file system is called
/// `/`.
fn file(name: &str) -> Option<String> {
    let name = name.strip_prefix("//").unwrap_or(name);
    (!name.is_empty() && name != "/").then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::fixture::{GATE_NS, bytes, failed_calls};

    fn paths(failures: &Failures) -> Vec<String> {
        let calls = FailedCalls::from(failures).calls;
        calls.into_iter().filter_map(|call| call.path).collect()
    }

    #[test]
    fn they_are_told_oldest_first() {
        let mut failures = failed_calls(GATE_NS, 3);
        failures.calls.swap(0, 2);
        assert_eq!(paths(&failures), ["/lib/0.so", "/lib/1.so", "/lib/2.so"]);
        let calls = FailedCalls::from(&failures).calls;
        let last = calls.last().expect("calls");
        assert_eq!(
            (last.syscall.name.as_str(), last.error.name.as_str()),
            ("openat", "ENOENT")
        );
        assert_eq!((last.before_ns, last.args.len()), (1_000, 4));
    }

    #[test]
    fn a_call_without_a_path_and_one_that_was_written_twice() {
        let mut failures = failed_calls(GATE_NS, 2);
        failures.calls[0].text_kind = failed_text::NONE;
        assert_eq!(paths(&failures), ["/lib/1.so"]);
        failures.calls[1].time_again_ns += 1;
        let calls = FailedCalls::from(&failures).calls;
        assert_eq!(calls.len(), 1);
        assert_eq!(calls[0].path, None);
    }

    #[test]
    fn addresses_files_and_limits_are_told() {
        let mut failures = failed_calls(GATE_NS, 3);
        let [connect, write, open] = &mut failures.calls[..] else {
            panic!("three calls");
        };
        connect.text_kind = failed_text::ADDRESS;
        connect.text = [0; _];
        connect.text[..8].copy_from_slice(&[2, 0, 0x15, 0x38, 127, 0, 0, 1]);
        connect.text_len = 16;
        write.text_kind = failed_text::FILE;
        write.fs_type = bytes("tmpfs");
        (open.resource, open.used, open.limit) = (libc::RLIMIT_NOFILE, 64, 64);
        let calls = FailedCalls::from(&failures).calls;
        assert_eq!(calls[0].address.as_deref(), Some("127.0.0.1:5432"));
        assert_eq!((&calls[0].path, &calls[0].fs_type), (&None, &None));
        assert_eq!(calls[1].path.as_deref(), Some("/lib/1.so"));
        assert_eq!(calls[1].fs_type.as_deref(), Some("tmpfs"));
        let limits = (calls[2].open_files, calls[2].nofile_limit);
        assert_eq!(limits, (Some(64), Some(64)));
        assert_eq!((calls[1].open_files, calls[1].nofile_limit), (None, None));
    }

    #[test]
    fn the_error_of_a_connection_in_the_background_is_that_of_connect() {
        let mut failures = failed_calls(GATE_NS, 2);
        for (call, errno) in failures
            .calls
            .iter_mut()
            .zip([libc::ECONNREFUSED, libc::ENOPROTOOPT])
        {
            (call.number, call.errno) = (libc::SYS_getsockopt as u32, errno);
        }
        let names: Vec<_> = FailedCalls::from(&failures)
            .calls
            .into_iter()
            .map(|call| call.syscall.name)
            .collect();
        assert_eq!(names, ["connect", "getsockopt"]);
    }

    #[test]
    fn a_socket_has_no_path_and_a_strange_program_no_call() {
        let mut failures = failed_calls(GATE_NS, 1);
        let call = &mut failures.calls[0];
        (call.text_kind, call.text, call.text_len) = (failed_text::FILE, bytes("/"), 1);
        call.number = UNKNOWN_CALL;
        let call = &FailedCalls::from(&failures).calls[0];
        assert_eq!((&call.path, call.syscall.number), (&None, -1));
        assert_eq!(file("//f").as_deref(), Some("f"));
        assert_eq!(file("data/f").as_deref(), Some("data/f"));
    }
}
