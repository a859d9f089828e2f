//! From the bytes of the ring buffer to a checked [`Record`].
//!
//! Total: whatever the bytes are, the result is a record or a typed error. First the length is
//! checked, then the kind, then the record is copied out (the ring gives no alignment).

use procjail_common::{self as common, Header, PATH_LEN, kind, read_record};

/// One record of the BPF programs. The large ones are boxed, so that the others stay cheap to move.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    missing_docs,
    reason = "each variant is documented by the record of its name"
)]
pub enum Record {
    Fork(common::Fork),
    Exec(Box<Exec>),
    ExecFailed(Box<common::ExecFailed>),
    Exit(common::Exit),
    Reap(common::Reap),
    Wait(common::Wait),
    Free(common::Free),
    SignalGenerated(common::SignalGenerated),
    SignalDelivered(common::SignalDelivered),
    Sender(Box<common::Sender>),
    FailedCalls(Box<Failures>),
    StderrTail(Box<common::StderrTail>),
    LimitChanged(common::LimitChanged),
    OomKill(Box<common::OomKill>),
    OomReap(common::OomReap),
    Mount(Box<common::Mount>),
    Cgroup(Box<common::Cgroup>),
}

/// An exec with the strings that follow its record.
#[derive(Clone, Debug, PartialEq)]
pub struct Exec {
    /// The fixed part.
    pub record: common::Exec,
    /// File that was executed.
    pub filename: String,
    /// Arguments; the last one may be cut.
    pub argv: Vec<String>,
}

/// The failed calls of a process.
#[derive(Clone, Debug, PartialEq)]
pub struct Failures {
    /// The fixed part.
    pub record: common::FailedCalls,
    /// The calls, in no order.
    pub calls: Vec<common::FailedCall>,
}

impl Record {
    /// What every record begins with.
    pub fn header(&self) -> &Header {
        match self {
            Self::Fork(record) => &record.header,
            Self::Exec(exec) => &exec.record.header,
            Self::ExecFailed(record) => &record.header,
            Self::Exit(record) => &record.header,
            Self::Reap(record) => &record.header,
            Self::Wait(record) => &record.header,
            Self::Free(record) => &record.header,
            Self::SignalGenerated(record) => &record.header,
            Self::SignalDelivered(record) => &record.header,
            Self::Sender(record) => &record.header,
            Self::FailedCalls(failures) => &failures.record.header,
            Self::StderrTail(record) => &record.header,
            Self::LimitChanged(record) => &record.header,
            Self::OomKill(record) => &record.header,
            Self::OomReap(record) => &record.header,
            Self::Mount(record) => &record.header,
            Self::Cgroup(record) => &record.header,
        }
    }
}

/// Why bytes are not a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// There is not even a header.
    #[error("{got} bytes are too few for a record's header of {needed} bytes")]
    NoHeader {
        /// Bytes there are.
        got: usize,
        /// Bytes of a header.
        needed: usize,
    },
    /// The kind is none of [`procjail_common::kind`].
    #[error("unknown kind of record: {kind}")]
    UnknownKind {
        /// What the header says.
        kind: u32,
    },
    /// The record is cut.
    #[error("a record of kind {kind} has {got} bytes instead of {needed}")]
    Short {
        /// Its kind.
        kind: u32,
        /// Bytes there are.
        got: usize,
        /// Bytes it must have.
        needed: usize,
    },
    /// A length inside the record is more than there can be.
    #[error(
        "a record of kind {kind} claims {length} bytes of {field}, at most {limit} are possible"
    )]
    BadLength {
        /// Its kind.
        kind: u32,
        /// The field.
        field: &'static str,
        /// The length claimed.
        length: usize,
        /// The most there can be.
        limit: usize,
    },
}

/// Decodes one record.
///
/// # Errors
///
/// See [`DecodeError`]; the bytes are not usable then.
pub fn decode(bytes: &[u8]) -> Result<Record, DecodeError> {
    let header: Header = read_record(bytes).ok_or(DecodeError::NoHeader {
        got: bytes.len(),
        needed: size_of::<Header>(),
    })?;
    let kind = header.kind;
    Ok(match kind {
        kind::FORK => Record::Fork(fixed(kind, bytes)?),
        kind::EXEC => Record::Exec(Box::new(exec(bytes)?)),
        kind::EXEC_FAILED => {
            let record: common::ExecFailed = fixed(kind, bytes)?;
            fits(kind, "filename", record.filename_len as usize)?;
            Record::ExecFailed(Box::new(record))
        }
        kind::EXIT => Record::Exit(fixed(kind, bytes)?),
        kind::REAP => Record::Reap(fixed(kind, bytes)?),
        kind::WAIT => Record::Wait(fixed(kind, bytes)?),
        kind::FREE => Record::Free(fixed(kind, bytes)?),
        kind::SIGNAL_GENERATED => {
            let record: common::SignalGenerated = fixed(kind, bytes)?;
            within(kind, "code", record.code_len as usize, common::CODE_LEN)?;
            Record::SignalGenerated(record)
        }
        kind::SIGNAL_DELIVERED => Record::SignalDelivered(fixed(kind, bytes)?),
        kind::SENDER => {
            let record: common::Sender = fixed(kind, bytes)?;
            within(kind, "argv", record.argv_len as usize, record.argv.len())?;
            Record::Sender(Box::new(record))
        }
        kind::FAILED_CALLS => Record::FailedCalls(Box::new(failures(bytes)?)),
        kind::STDERR_TAIL => Record::StderrTail(Box::new(fixed(kind, bytes)?)),
        kind::LIMIT_CHANGED => Record::LimitChanged(fixed(kind, bytes)?),
        kind::OOM_KILL => {
            let record: common::OomKill = fixed(kind, bytes)?;
            let levels = record.levels as usize;
            within(kind, "memory cgroups", levels, common::MEMCG_LEVELS)?;
            let (kernel, user) = (record.kernel_stack_len, record.user_stack_len);
            within(
                kind,
                "kernel stack",
                kernel as usize,
                size_of_val(&record.kernel_stack),
            )?;
            within(
                kind,
                "user stack",
                user as usize,
                size_of_val(&record.user_stack),
            )?;
            Record::OomKill(Box::new(record))
        }
        kind::OOM_REAP => Record::OomReap(fixed(kind, bytes)?),
        kind::MOUNT => {
            let record: common::Mount = fixed(kind, bytes)?;
            fits(kind, "source", record.source_len.into())?;
            fits(kind, "target", record.target_len.into())?;
            fits(kind, "fs_type", record.fs_type_len.into())?;
            Record::Mount(Box::new(record))
        }
        kind::CGROUP => {
            let record: common::Cgroup = fixed(kind, bytes)?;
            fits(kind, "path", record.path_len as usize)?;
            Record::Cgroup(Box::new(record))
        }
        _ => return Err(DecodeError::UnknownKind { kind }),
    })
}

fn fixed<T: common::Record>(kind: u32, bytes: &[u8]) -> Result<T, DecodeError> {
    read_record(bytes).ok_or(DecodeError::Short {
        kind,
        got: bytes.len(),
        needed: size_of::<T>(),
    })
}

fn fits(kind: u32, field: &'static str, length: usize) -> Result<(), DecodeError> {
    within(kind, field, length, PATH_LEN)
}

fn within(kind: u32, field: &'static str, length: usize, limit: usize) -> Result<(), DecodeError> {
    if length > limit {
        return Err(DecodeError::BadLength {
            kind,
            field,
            length,
            limit,
        });
    }
    Ok(())
}

fn failures(bytes: &[u8]) -> Result<Failures, DecodeError> {
    let kind = kind::FAILED_CALLS;
    let record: common::FailedCalls = fixed(kind, bytes)?;
    let mut rest = bytes.get(size_of_val(&record)..).unwrap_or_default();
    let size = size_of::<common::FailedCall>();
    let mut calls = Vec::new();
    for count in [record.ordinary, record.weighty] {
        if count == 0 {
            continue;
        }
        let (ring, behind) =
            rest.split_at_checked(common::FAILED_CALLS * size)
                .ok_or(DecodeError::Short {
                    kind,
                    got: bytes.len(),
                    needed: bytes.len() - rest.len() + common::FAILED_CALLS * size,
                })?;
        let ring = ring.chunks_exact(size).take(count as usize);
        calls.extend(ring.filter_map(read_record::<common::FailedCall>));
        rest = behind;
    }
    for call in &calls {
        within(kind, "text", call.text_len as usize, call.text.len())?;
    }
    Ok(Failures { record, calls })
}

fn exec(bytes: &[u8]) -> Result<Exec, DecodeError> {
    let record: common::Exec = fixed(kind::EXEC, bytes)?;
    let strings = bytes.get(size_of::<common::Exec>()..).unwrap_or_default();
    let (filename, rest) = take(strings, "filename", record.filename_len)?;
    let (argv, _) = take(rest, "argv", record.argv_len)?;
    Ok(Exec {
        record,
        filename: text(filename),
        argv: arguments(argv),
    })
}

fn take<'a>(
    bytes: &'a [u8],
    field: &'static str,
    length: u32,
) -> Result<(&'a [u8], &'a [u8]), DecodeError> {
    let length = length as usize;
    bytes
        .split_at_checked(length)
        .ok_or(DecodeError::BadLength {
            kind: kind::EXEC,
            field,
            length,
            limit: bytes.len(),
        })
}

/// Splits argument strings, each ended by a NUL. Only the last may lack it, when it was cut.
pub(super) fn arguments(bytes: &[u8]) -> Vec<String> {
    if bytes.is_empty() {
        return Vec::new();
    }
    let whole = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    whole
        .split(|byte| *byte == 0)
        .map(|argument| String::from_utf8_lossy(argument).into_owned())
        .collect()
}

/// The text before the first NUL. Bytes that are not UTF-8 are replaced.
pub(super) fn text(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

/// [`text`] of the first `length` bytes.
pub(super) fn text_of(bytes: &[u8], length: usize) -> String {
    text(bytes.get(..length).unwrap_or(bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::fixture::{self, task};
    use crate::event::story;

    /// Records of all kinds.
    fn all() -> Vec<Record> {
        let mut all = story::records();
        let sender = fixture::sender(1, fixture::outside(9, "kill"), &["kill", "bin"], &["kill"]);
        all.push(Record::Sender(Box::new(sender)));
        all.push(Record::FailedCalls(Box::new(fixture::failed_calls(1, 9))));
        all.push(Record::FailedCalls(Box::new(fixture::failed_calls(1, 21))));
        let tail = fixture::stderr_tail(1, task(1, "app"), "no such host\n");
        all.push(Record::StderrTail(Box::new(tail)));
        all.push(fixture::limit_changed(1, task(1, "app"), 0, 7, 64));
        all
    }

    #[test]
    fn records_survive_their_way_through_the_ring() {
        for record in all() {
            let mut bytes = fixture::encode(&record);
            assert_eq!(decode(&bytes), Ok(record.clone()));
            // The ring may pad a record.
            bytes.extend([0xff; 7]);
            assert_eq!(decode(&bytes), Ok(record));
        }
    }

    #[test]
    fn every_cut_of_a_record_is_an_error() {
        for record in all() {
            let bytes = fixture::encode(&record);
            for length in 0..bytes.len() {
                let error = decode(&bytes[..length]);
                assert!(error.is_err(), "{length} of {}: {error:?}", bytes.len());
            }
        }
    }

    #[test]
    fn errors_name_what_is_wrong() {
        assert_eq!(
            decode(&[]),
            Err(DecodeError::NoHeader { got: 0, needed: 72 })
        );
        let mut bytes = vec![0; 200];
        bytes[0] = 99;
        assert_eq!(decode(&bytes), Err(DecodeError::UnknownKind { kind: 99 }));
        bytes[0] = kind::EXIT as u8;
        bytes.truncate(100);
        assert_eq!(
            decode(&bytes),
            Err(DecodeError::Short {
                kind: kind::EXIT,
                got: 100,
                needed: 256
            })
        );
        let Record::Mount(mut mount) = story::records().remove(0) else {
            panic!("the story begins with a mount");
        };
        mount.target_len = 257;
        let error = decode(&fixture::encode(&Record::Mount(mount)));
        let expected = DecodeError::BadLength {
            kind: kind::MOUNT,
            field: "target",
            length: 257,
            limit: 256,
        };
        assert_eq!(error, Err(expected));
    }

    #[test]
    fn argument_strings_may_be_empty_cut_or_no_text() {
        assert_eq!(arguments(b""), [""; 0]);
        assert_eq!(arguments(b"\0"), [""]);
        assert_eq!(arguments(b"a\0\0b\0"), ["a", "", "b"]);
        assert_eq!(arguments(b"a\0cu"), ["a", "cu"]);
        assert_eq!(arguments(b"\xff\0"), ["\u{fffd}"]);
        assert_eq!(text(b"abc"), "abc");
        assert_eq!(text_of(b"abcdef", 3), "abc");
        assert_eq!(text_of(b"abc", 99), "abc");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_record_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn any_body_of_a_known_kind_is_a_record_or_an_error(
            kind in 0..kind::COUNT,
            mut bytes in prop::collection::vec(any::<u8>(), 80..2048),
        ) {
            bytes[..4].copy_from_slice(&kind.to_ne_bytes());
            if let Ok(record) = decode(&bytes) {
                prop_assert_eq!(record.header().kind, kind);
            }
        }

        #[test]
        fn mutated_records_are_records_or_errors(
            mut bytes in prop::sample::select(all().iter().map(fixture::encode).collect::<Vec<_>>()),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
            length in any::<prop::sample::Index>(),
        ) {
            for (index, value) in changes {
                let index = index.index(bytes.len());
                bytes[index] = value;
            }
            let _ = decode(&bytes);
            let _ = decode(&bytes[..length.index(bytes.len())]);
        }
    }
}
