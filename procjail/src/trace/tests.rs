//! Files that are whole, cut, damaged, foreign; written, and read back.

use std::io::{self, Write};
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::event::{Event, story};
use crate::trace::Output;

/// The story's trace as a file of this name.
fn written(name: &str) -> Vec<u8> {
    let (events, footer) = story::trace();
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, Path::new(name)).expect("writer");
    writer.header(&story::header_line()).expect("header");
    for event in &events {
        writer.event(event).expect("event");
    }
    writer.footer(Some(&footer)).expect("footer");
    drop(writer);
    bytes
}

struct Read {
    events: Vec<Event>,
    footer: Option<Footer>,
    missing: Option<String>,
}

fn read(bytes: &[u8]) -> Result<Read, String> {
    let mut reader =
        Reader::new(io::Cursor::new(bytes.to_vec()), "file").map_err(|error| error.to_string())?;
    let events = reader
        .by_ref()
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    Ok(Read {
        events,
        footer: reader.footer().cloned(),
        missing: reader.missing().map(str::to_owned),
    })
}

fn failure(bytes: &[u8]) -> String {
    match read(bytes) {
        Ok(_) => panic!("read without an error"),
        Err(error) => error,
    }
}

#[test]
fn what_was_written_is_read_back() {
    let (events, footer) = story::trace();
    let plain = written("a.jsonl");
    let compressed = written("a.jsonl.zst");
    assert!(compressed.len() < plain.len() / 4);
    for bytes in [plain, compressed] {
        let read = read(&bytes).expect("whole");
        assert_eq!(read.events, events);
        assert_eq!(read.footer.as_ref(), Some(&footer));
        assert_eq!(read.missing, None);
    }
}

#[test]
fn a_plain_trace_may_be_cut_anywhere() {
    let (events, _) = story::trace();
    let whole = written("a.jsonl");
    let first_line = whole
        .iter()
        .position(|byte| *byte == b'\n')
        .expect("a line");
    assert_eq!(
        failure(&[]),
        "file is empty: it has not even the header of a trace"
    );
    for length in 1..first_line {
        let error = failure(&whole[..length]);
        assert!(
            error.starts_with("file is not a trace of procjail: "),
            "{error}"
        );
    }
    for length in (first_line..whole.len() - 2).step_by(7) {
        let read = read(&whole[..length]).expect("up to the last whole line");
        assert_eq!(read.events[..], events[..read.events.len()]);
        assert!(
            read.missing
                .is_some_and(|missing| missing.starts_with("no footer: the file ends after "))
        );
    }
    // Without its last line feed it has still everything.
    let read = read(&whole[..whole.len() - 1]).expect("whole");
    assert!(read.footer.is_some() && read.missing.is_none());
}

#[test]
fn a_line_that_is_cut_is_told_from_one_that_is_missing() {
    let whole = written("a.jsonl");
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    let missing = |bytes: &[u8]| read(bytes).expect("readable").missing;
    let none = missing(lines[0]);
    assert_eq!(
        none.as_deref(),
        Some("no footer: the file ends after 0 events")
    );
    let two = lines[..3].concat();
    assert_eq!(
        missing(&two).as_deref(),
        Some("no footer: the file ends after 2 events")
    );
    let cut = missing(&two[..two.len() - 10]);
    assert_eq!(
        cut.as_deref(),
        Some("no footer: the file ends after 1 events, in the middle of a line")
    );
    // What a power cut leaves of a page that was never written.
    let zeros = [two.as_slice(), &[0; 100]].concat();
    assert!(missing(&zeros).is_some_and(|missing| missing.contains("after 2 events")));
}

#[test]
fn a_frame_that_is_cut_off_behind_the_footer_lacks_nothing() {
    let mut encoder = zstd::Encoder::new(Vec::new(), 0).expect("encoder");
    encoder.write_all(&written("a.jsonl")).expect("written");
    encoder.flush().expect("flushed");
    let read = read(encoder.get_ref()).expect("whole");
    assert!(read.footer.is_some());
    assert_eq!(read.missing, None);
}

#[test]
fn a_compressed_trace_may_be_cut_anywhere() {
    let (events, _) = story::trace();
    let whole = written("a.zst");
    for length in 20..whole.len() {
        match read(&whole[..length]) {
            Ok(read) => assert_eq!(read.events[..], events[..read.events.len()]),
            Err(error) => assert!(error.starts_with("file is empty"), "{length}: {error}"),
        }
    }
}

#[test]
fn a_killed_writer_has_written_what_it_flushed() {
    for name in ["a.jsonl", "a.zst"] {
        let (events, _) = story::trace();
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, Path::new(name)).expect("writer");
        writer.header(&story::header_line()).expect("header");
        writer.event(&events[0]).expect("event");
        writer.footer(None).expect("flush");
        std::mem::forget(writer);
        let read = read(&bytes).expect("readable");
        assert_eq!(read.events[..], events[..1], "{name}");
        assert!(read.missing.is_some());
    }
}

#[test]
fn the_header_is_in_the_file_before_anything_else_happens() {
    let directory = tempfile::tempdir().expect("directory");
    for name in ["a.jsonl", "a.jsonl.zst"] {
        let path = directory.path().join(name);
        let mut writer = Writer::create(&path).expect("writer");
        writer.header(&story::header_line()).expect("header");
        let reader = open(&path).expect("header is there");
        assert_eq!(reader.header(), &story::header_line());
    }
}

#[test]
fn events_are_flushed_when_a_second_has_passed() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("a.jsonl");
    let (events, _) = story::trace();
    let mut writer = Writer::create(&path).expect("writer");
    writer.header(&story::header_line()).expect("header");
    writer.event(&events[0]).expect("event");
    writer.tick().expect("tick");
    let count = || {
        open(&path)
            .expect("readable")
            .filter_map(Result::ok)
            .count()
    };
    assert_eq!(count(), 0);
    std::thread::sleep(std::time::Duration::from_millis(1_010));
    writer.tick().expect("tick");
    assert_eq!(count(), 1);
}

#[test]
fn damage_is_named_by_its_line() {
    let whole = String::from_utf8(written("a.jsonl")).expect("text");
    let mut lines: Vec<&str> = whole.lines().collect();
    let join = |lines: &[&str]| lines.join("\n") + "\n";
    lines[3] = "garbage";
    assert!(failure(join(&lines).as_bytes()).starts_with("file, line 4: expected value"));
    lines[3] = r#"{"seq":3,"time_ns":1,"task":null,"kind":"fork","data":{}}"#;
    assert!(failure(join(&lines).as_bytes()).starts_with("file, line 4: invalid type: null"));
    lines[3] = r#"{"seq":3,"kind":"quake","data":{}}"#;
    assert!(
        failure(join(&lines).as_bytes()).starts_with("file, line 4: unknown kind of event `quake`")
    );
    lines.remove(3);
    let mut long = lines.clone();
    long.push(lines[1]);
    assert!(failure(join(&long).as_bytes()).ends_with("there is more after the footer"));
    let mut bytes = join(&lines).into_bytes();
    let end = bytes.len() - 20;
    bytes[end] = 0xff;
    assert!(failure(&bytes).contains("not UTF-8"));
}

#[test]
fn other_files_are_told_apart() {
    let not = "file is not a trace of procjail: its first line is ";
    assert_eq!(
        failure(b"hello\n"),
        format!("{not}not the header of a trace")
    );
    assert_eq!(
        failure(&[0x7f, b'E', b'L', b'F', 0, 0, 0xff]),
        format!("{not}not the header of a trace")
    );
    assert_eq!(
        failure(b"{\"a\":1}\n"),
        format!("{not}JSON, but not the header of a trace")
    );
    assert_eq!(failure(b"\n"), format!("{not}not the header of a trace"));
    let zeros = zstd::encode_all(&[0u8; 100][..], 0).expect("compresses");
    assert_eq!(failure(&zeros), format!("{not}not the header of a trace"));
    let newer =
        failure(b"{\"format\":\"procjail-trace\",\"version\":9,\"procjail\":\"9.1.0\",\"x\":0}\n");
    let own = env!("CARGO_PKG_VERSION");
    let expected = format!(
        "file is a trace of format version 9, written by procjail 9.1.0; this is procjail {own} and \
         reads versions up to 2: use a newer procjail"
    );
    assert_eq!(newer, expected);
    let error = failure(b"{\"format\":\"procjail-trace\",\"version\":1}\n");
    assert!(
        error.starts_with("file, line 1: bad header: missing field"),
        "{error}"
    );
}

#[test]
fn a_header_of_version_1_is_read_as_one_of_today() {
    let mut old = serde_json::to_value(story::header_line()).expect("a header");
    old["version"] = 1.into();
    let jail = old["jail"].as_object_mut().expect("an object");
    let launcher = jail.remove("launcher").expect("a launcher");
    jail.remove("container");
    for (new, old) in [
        ("pid", "launcher_pid"),
        ("plan", "plan"),
        ("stop_timeout_ns", "stop_timeout_ns"),
        ("stop_as_is", "stop_as_is"),
    ] {
        jail.insert(old.to_owned(), launcher[new].clone());
    }
    let read = |header: &serde_json::Value| {
        let bytes = format!("{header}\n").into_bytes();
        let reader = Reader::new(io::Cursor::new(bytes), "file").expect("a trace");
        reader.header().clone()
    };
    assert_eq!(read(&old), story::header_line());
    // The first traces did not have it yet.
    old["jail"]
        .as_object_mut()
        .expect("an object")
        .remove("stop_as_is");
    assert_eq!(read(&old), story::header_line());
}

#[test]
fn a_line_without_end_is_refused() {
    let mut bytes = written("a.jsonl");
    bytes.extend(std::iter::repeat_n(b'x', 17 << 20));
    assert!(failure(&bytes).contains("longer than 16 MiB"));
    let first = vec![b'x'; 17 << 20];
    assert!(failure(&first).contains("longer than 16 MiB"));
}

#[test]
fn files_that_cannot_be_opened_say_why() {
    let directory = tempfile::tempdir().expect("directory");
    let error = |path: &Path| open(path).map(drop).map_err(|error| error.to_string());
    let dir = directory.path();
    let text = format!("cannot open {}: EISDIR (Is a directory)", dir.display());
    assert_eq!(error(dir), Err(text));
    let missing = dir.join("missing");
    let text = format!(
        "cannot open {}: ENOENT (No such file or directory)",
        missing.display()
    );
    assert_eq!(error(&missing), Err(text));
    let create = |path: &Path| {
        Writer::create(path)
            .map(drop)
            .map_err(|error| error.to_string())
    };
    let text = format!(
        "cannot create trace file {}: EISDIR (Is a directory); give the name of a file",
        dir.display()
    );
    assert_eq!(create(dir), Err(text));
    assert!(
        create(&missing.join("a"))
            .is_err_and(|error| error.contains("ENOENT") && error.contains("make its directory"))
    );
}

#[test]
fn a_full_disk_shows_with_the_header() {
    {
        let name = "/dev/full";
        let mut writer = Writer::create(Path::new(name)).expect("opens");
        let error = writer.header(&story::header_line()).expect_err("full");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let text = "cannot write trace file /dev/full: ENOSPC (No space left on device); make room, \
                    or choose another place with -o";
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn a_compressed_trace_on_a_full_disk_fails_as_early() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::from_raw_os_error(libc::ENOSPC))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut writer = Writer::new(Full, Path::new("a.zst")).expect("writer");
    let error = writer.header(&story::header_line()).expect_err("full");
    assert!(error.to_string().contains("a.zst: ENOSPC"));
}

#[test]
fn an_existing_file_is_replaced() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("a.jsonl");
    std::fs::write(&path, "x".repeat(100_000)).expect("written");
    let mut writer = Writer::create(&path).expect("writer");
    writer.header(&story::header_line()).expect("header");
    drop(writer);
    assert_eq!(open(&path).expect("a trace").count(), 0);
}

/// Masses of a signal between other events are condensed; nothing else is.
#[test]
fn masses_are_condensed() {
    let bytes = written("mass.jsonl");
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let signal = lines
        .iter()
        .find(|line| String::from_utf8_lossy(line).contains("signal-delivered"))
        .expect("the story has one");
    let (body, footer) = lines.split_at(lines.len() - 1);
    let mut mass = body.concat();
    for n in 0..1000 {
        let line = String::from_utf8_lossy(signal);
        let (_, rest) = line.split_once(",\"time_ns\":").expect("a time");
        mass.extend(format!("{{\"seq\":{},\"time_ns\":{rest}", 1_000_000 + n).into_bytes());
    }
    mass.extend(footer.concat());
    let mut reader = Reader::new(io::Cursor::new(mass), "file").expect("a header");
    let events: Vec<(Event, u64)> = reader.condensed().collect::<Result<_, _>>().expect("whole");
    let (story, _) = story::trace();
    // The first eight, of which the story has one, and the last.
    assert_eq!(events.len(), story.len() + 7 + 1);
    let (last, omitted) = events.last().expect("an event");
    assert_eq!((last.seq, *omitted), (1_000_999, 1001 - 8 - 1));
    assert!(reader.footer().is_some() && reader.missing().is_none());
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
        let _ = read(&bytes);
    }

    #[test]
    fn a_damaged_trace_is_read_or_refused(
        compressed in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..10),
    ) {
        let mut bytes = written(if compressed { "a.zst" } else { "a.jsonl" });
        for (index, value) in changes {
            let index = index.index(bytes.len());
            bytes[index] = value;
        }
        let _ = read(&bytes);
    }
}
