//! `procjail export` as a user runs it: outputs that are there, that can't be written, that go away; inputs that
//! are cut, foreign, or no files.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

const FORMATS: [&str; 3] = ["csv", "json", "markdown"];
/// What nothing here takes longer than.
const DEADLINE: Duration = Duration::from_secs(60);

/// The story's trace.
fn story() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/render/expected/trace.jsonl")
}

fn export(file: impl AsRef<Path>, format: &str, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_procjail"));
    command
        .arg("export")
        .arg(file.as_ref())
        .args(["--to", format])
        .args(more)
        .env_remove("CLICOLOR_FORCE");
    command
}

/// Exit code, stdout, stderr.
fn ran(command: &mut Command) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (status.code(), text(stdout), text(stderr))
}

/// It ends with that code and a sentence that has all these words, and writes nothing.
#[track_caller]
fn refused(command: &mut Command, code: i32, words: &[&str]) {
    let (got, stdout, stderr) = ran(command);
    assert_eq!((got, stdout.as_str()), (Some(code), ""), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "no {word} in {stderr}");
    }
}

/// Names in a directory.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory");
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
    let mut names: Vec<String> = entries
        .map(|entry| name(entry).to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path")
}

/// A trace of so many events, alike but for number and time.
fn long_trace(path: &Path, events: u64) {
    let story = fs::read_to_string(story()).expect("the story");
    let mut lines = story.lines();
    let header = lines.next().expect("a header");
    let line = lines
        .find(|line| line.contains("\"kind\":\"fork\""))
        .expect("a fork");
    let (_, rest) = line.split_once(",\"task\"").expect("a task");
    let start = line
        .split("\"time_ns\":")
        .nth(1)
        .and_then(|rest| rest.split(',').next());
    let start: u64 = start
        .and_then(|digits| digits.parse().ok())
        .expect("a time");
    let mut text = format!("{header}\n");
    for number in 1..=events {
        text += &format!(
            "{{\"seq\":{number},\"time_ns\":{},\"task\"{rest}\n",
            start + number
        );
    }
    fs::write(path, text).expect("room");
}

#[test]
fn a_file_has_what_standard_output_gets() {
    let directory = directory();
    for format in FORMATS {
        let (code, stdout, stderr) = ran(&mut export(story(), format, &[]));
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
        let out = directory.path().join(format);
        let (code, empty, _) = ran(&mut export(story(), format, &["-o", text(&out)]));
        assert_eq!((code, empty.as_str()), (Some(0), ""));
        assert!(fs::read_to_string(&out).expect("written") == stdout);
    }
    assert_eq!(names(directory.path()), FORMATS);
}

#[test]
fn a_file_that_exists_stays_unless_forced() {
    let directory = directory();
    let out = directory.path().join("out");
    for format in FORMATS {
        fs::write(&out, "mine").expect("room");
        refused(
            &mut export(story(), format, &["-o", text(&out)]),
            125,
            &["exists", "--force"],
        );
        assert_eq!(fs::read_to_string(&out).expect("there"), "mine");
        let (code, _, stderr) = ran(&mut export(story(), format, &["-o", text(&out), "--force"]));
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
        assert!(fs::read_to_string(&out).expect("there").len() > 1000);
        assert_eq!(names(directory.path()), ["out"]);
    }
}

#[test]
fn places_that_cannot_be_written_to_are_named() {
    let directory = directory();
    let missing = directory.path().join("no/such/out");
    let expected = [text(&missing), "ENOENT", "make its directory"];
    refused(
        &mut export(story(), "json", &["-o", text(&missing)]),
        125,
        &expected,
    );
    let itself = text(directory.path());
    refused(
        &mut export(story(), "json", &["-o", itself, "--force"]),
        125,
        &[itself, "EISDIR"],
    );
    assert!(names(directory.path()).is_empty());

    // Root may write anywhere: as somebody else then.
    let closed = directory.path().join("closed");
    fs::create_dir(&closed).expect("a directory");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).expect("permissions");
    let out = closed.join("out");
    let trace = fs::File::open(story()).expect("the story");
    let mut command = Command::new(common::program_for_all(directory.path()));
    command
        .args(["export", "-", "--to", "csv", "-o", text(&out)])
        .stdin(trace);
    if nix::unistd::geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    refused(&mut command, 125, &[text(&out), "EACCES", "another place"]);
    assert!(names(&closed).is_empty());
}

#[test]
fn a_full_device_is_an_error_wherever_it_is() {
    for format in FORMATS {
        refused(
            &mut export(story(), format, &["-o", "/dev/full"]),
            125,
            &["/dev/full", "ENOSPC"],
        );
        let full = fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .expect("a device");
        let (code, _, stderr) = ran(export(story(), format, &[]).stdout(full));
        // `output` takes stdout for itself unless it is set: it is.
        assert_eq!(code, Some(125), "{stderr}");
        assert!(
            stderr.contains("standard output") && stderr.contains("ENOSPC"),
            "{stderr}"
        );
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let directory = directory();
    let trace = directory.path().join("trace");
    long_trace(&trace, 5_000);
    for format in ["csv", "json"] {
        let mut child = export(&trace, format, &[])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("runs");
        let mut reader = BufReader::with_capacity(64, child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line");
        drop(reader);
        let ended = child.wait_with_output().expect("ends");
        assert_eq!(ended.status.code(), Some(0));
        assert_eq!(
            String::from_utf8_lossy(&ended.stderr).replace(NO_FOOTER, ""),
            ""
        );
    }
}

/// What is said of [`long_trace`].
const NO_FOOTER: &str = "procjail: no footer: the file ends after 5000 events\n";

#[test]
fn unknown_forms_are_refused_by_name() {
    refused(
        &mut export(story(), "pdf", &[]),
        2,
        &["pdf", "csv", "json", "markdown"],
    );
    let mut none = Command::new(env!("CARGO_BIN_EXE_procjail"));
    refused(none.arg("export").arg(story()), 2, &["--to"]);
}

#[test]
fn what_is_no_trace_leaves_no_file() {
    let directory = directory();
    let place = directory.path();
    let write = |name: &str, bytes: &[u8]| {
        let path = place.join(name);
        fs::write(&path, bytes).expect("room");
        path
    };
    let newer = b"{\"format\":\"procjail-trace\",\"version\":99,\"procjail\":\"9\"}\n";
    let cases: [(PathBuf, &[&str]); 6] = [
        (place.join("missing"), &["missing", "ENOENT"]),
        (place.to_owned(), &["EISDIR"]),
        (write("empty", b""), &["empty"]),
        (
            write("foreign", b"{\"hello\":1}\n"),
            &["not a trace of procjail"],
        ),
        (
            write("binary", b"\x7fELF\x02\x01\x01\0\xff\xfe"),
            &["not a trace of procjail"],
        ),
        (write("newer", newer), &["99", "use a newer procjail"]),
    ];
    let before = names(place);
    let out = place.join("out");
    for (path, words) in cases {
        for format in FORMATS {
            refused(&mut export(&path, format, &["-o", text(&out)]), 125, words);
            assert_eq!(names(place), before);
        }
    }
}

#[test]
fn a_trace_that_is_cut_or_damaged_is_exported_up_to_there() {
    let directory = directory();
    let whole = fs::read_to_string(story()).expect("the story");
    let lines: Vec<&str> = whole.lines().collect();
    let cut = directory.path().join("cut");
    fs::write(&cut, &whole[..whole.len() / 2]).expect("room");
    let damaged = directory.path().join("damaged");
    let mut with = lines.clone();
    with[20] = "{\"seq\":";
    fs::write(&damaged, with.join("\n")).expect("room");
    for (path, words) in [(cut, "no footer"), (damaged, "line 21")] {
        for format in FORMATS {
            let (code, stdout, stderr) = ran(&mut export(&path, format, &[]));
            assert_eq!(code, Some(0));
            assert!(stderr.contains(words), "{stderr}");
            match format {
                "csv" => assert!(stdout.lines().count() > 10),
                "json" => {
                    let value: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
                    assert!(value["footer"].is_null());
                    assert!(
                        value["missing"]
                            .as_str()
                            .is_some_and(|text| text.contains(words))
                    );
                }
                _ => assert!(stdout.contains("the trace is not complete"), "{stdout}"),
            }
        }
    }
}

#[test]
fn standard_input_and_pipes_are_read_like_files() {
    let directory = directory();
    let expected = ran(&mut export(story(), "json", &[])).1;
    let stdin = fs::File::open(story()).expect("the story");
    assert!(ran(export("-", "json", &[]).stdin(stdin)).1 == expected);

    let pipe = directory.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let writer = std::thread::spawn({
        let pipe = pipe.clone();
        move || fs::write(pipe, fs::read(story()).expect("the story"))
    });
    assert!(ran(&mut export(&pipe, "json", &[])).1 == expected);
    writer.join().expect("no panic").expect("all was read");

    // An empty one is a trace without a header.
    refused(
        export("-", "json", &[]).stdin(Stdio::null()),
        125,
        &["standard input", "empty"],
    );
}

#[test]
fn pipes_are_written_to_and_links_followed() {
    let directory = directory();
    let expected = ran(&mut export(story(), "json", &[])).1;
    let pipe = directory.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let mut child = export(story(), "json", &["-o", text(&pipe)])
        .spawn()
        .expect("runs");
    let mut got = String::new();
    let mut reader = fs::File::open(&pipe).expect("a writer");
    reader.read_to_string(&mut got).expect("text");
    assert_eq!(child.wait().expect("ends").code(), Some(0));
    assert!(got == expected);
    assert!(fs::metadata(&pipe).expect("there").file_type().is_fifo());

    let (target, link) = (
        directory.path().join("target"),
        directory.path().join("link"),
    );
    fs::write(&target, "mine").expect("room");
    symlink(&target, &link).expect("a link");
    refused(
        &mut export(story(), "json", &["-o", text(&link)]),
        125,
        &["exists"],
    );
    assert_eq!(
        ran(&mut export(
            story(),
            "json",
            &["-o", text(&link), "--force"]
        ))
        .0,
        Some(0)
    );
    assert!(
        fs::symlink_metadata(&link).expect("there").is_symlink(),
        "the link stays"
    );
    assert!(fs::read_to_string(&target).expect("there") == expected);
    assert_eq!(names(directory.path()), ["link", "pipe", "target"]);
}

/// Whether the process has a file in a directory that has no name yet, with something in it.
fn has_begun(pid: Pid, directory: &Path) -> bool {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors");
    descriptors.flatten().any(|entry| {
        let place = fs::read_link(entry.path()).unwrap_or_default();
        place.starts_with(directory)
            && place.to_string_lossy().ends_with(" (deleted)")
            && fs::metadata(entry.path()).is_ok_and(|file| file.len() > 0)
    })
}

/// An export to `out`, where `old` is so far, stopped by SIGSTOP when it has written a part of its file.
fn stopped_half_way(trace: &Path, out: &Path, old: Option<&str>) -> Child {
    let begin = Instant::now();
    let place = out.parent().expect("a directory");
    // A tester that gets no processor may miss one.
    while begin.elapsed() < DEADLINE {
        let mut more = vec!["-o", text(out)];
        if let Some(old) = old {
            fs::write(out, old).expect("room");
            more.push("--force");
        } else if out.exists() {
            fs::remove_file(out).expect("removed");
        }
        let mut command = export(trace, "json", &more);
        // SAFETY: sigaction(2) may be called after fork(2).
        unsafe {
            command.pre_exec(|| {
                // What runs in the background of a shell without job control inherits SIGINT as ignored.
                for fatal in [Signal::SIGINT, Signal::SIGTERM] {
                    signal(fatal, SigHandler::SigDfl)?;
                }
                Ok(())
            });
        }
        let child = command.stderr(Stdio::piped()).spawn().expect("runs");
        let pid = Pid::from_raw(child.id() as i32);
        loop {
            kill(pid, Signal::SIGSTOP).expect("a child that nobody has collected");
            match waitpid(pid, Some(WaitPidFlag::WUNTRACED)).expect("a child") {
                WaitStatus::Stopped(..) if has_begun(pid, place) => return child,
                WaitStatus::Stopped(..) => kill(pid, Signal::SIGCONT).expect("a child"),
                _ => break,
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    panic!("it was never seen half way");
}

#[test]
fn nothing_is_left_of_an_export_that_is_killed() {
    let directory = directory();
    let (place, trace) = (
        directory.path().join("place"),
        directory.path().join("trace"),
    );
    fs::create_dir(&place).expect("a directory");
    long_trace(&trace, 30_000);
    let out = place.join("out");
    for (fatal, old) in [
        (Signal::SIGKILL, None),
        (Signal::SIGINT, None),
        (Signal::SIGTERM, Some("mine")),
    ] {
        let mut child = stopped_half_way(&trace, &out, old);
        let pid = Pid::from_raw(child.id() as i32);
        kill(pid, fatal).expect("a child");
        kill(pid, Signal::SIGCONT).expect("a child");
        let ended = child.wait().expect("ends");
        assert_eq!(ended.signal(), Some(fatal as i32), "{ended}");
        match old {
            Some(old) => assert_eq!(fs::read_to_string(&out).expect("there"), old),
            None => assert!(names(&place).is_empty()),
        }
    }
}

/// While it is written there is nothing at its place, and whoever puts a file there meanwhile keeps it.
#[test]
fn a_file_that_comes_meanwhile_is_kept() {
    let directory = directory();
    let (place, trace) = (
        directory.path().join("place"),
        directory.path().join("trace"),
    );
    fs::create_dir(&place).expect("a directory");
    long_trace(&trace, 30_000);
    let out = place.join("out");
    let child = stopped_half_way(&trace, &out, None);
    fs::File::create_new(&out)
        .and_then(|mut file| file.write_all(b"mine"))
        .expect("the place is free");
    kill(Pid::from_raw(child.id() as i32), Signal::SIGCONT).expect("a child");
    let ended = child.wait_with_output().expect("ends");
    assert_eq!(ended.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("exists"));
    assert_eq!(fs::read_to_string(&out).expect("there"), "mine");
    assert_eq!(names(&place), ["out"]);
}
