//! `procjail show` as a user runs it.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn trace_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/render/expected/trace.jsonl")
}

fn show(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_procjail"));
    command
        .arg("show")
        .args(arguments)
        .env_remove("CLICOLOR_FORCE");
    command
}

fn output(arguments: &[&str]) -> (Option<i32>, String, String) {
    let path = trace_file();
    let arguments: Vec<&str> = arguments
        .iter()
        .map(|argument| {
            if *argument == "FILE" {
                path.to_str().expect("path")
            } else {
                argument
            }
        })
        .collect();
    let Output {
        status,
        stdout,
        stderr,
    } = show(&arguments).output().expect("runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (status.code(), text(stdout), text(stderr))
}

/// Kinds of the events shown, of a successful run in JSON.
fn kinds(arguments: &[&str]) -> Vec<String> {
    let (code, stdout, stderr) = output(&[&["FILE", "--format", "json"], arguments].concat());
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    stdout
        .lines()
        .filter_map(|line| line.split_once("\"kind\":\"")?.1.split_once('"'))
        .map(|(kind, _)| kind.to_owned())
        .collect()
}

#[test]
fn json_without_filters_is_the_file() {
    let (code, stdout, stderr) = output(&["FILE", "--format", "json"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(stdout == std::fs::read_to_string(trace_file()).expect("readable"));
}

#[test]
fn text_has_no_colours_where_there_is_no_terminal() {
    let (code, stdout, stderr) = output(&["FILE"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(
        stdout.contains(
            "SIGTERM from outside (bash 4121, kill) -> 1 sh: ignored, PID 1 has no handler"
        )
    );
    assert!(!stdout.contains('\x1b'));
}

#[test]
fn filters_choose_events() {
    assert_eq!(
        kinds(&["--kind", "oom-kill,oom-reap"]),
        ["oom-kill", "oom-reap"]
    );
    assert_eq!(
        kinds(&["--kind", "forwarded", "--kind", "kill"]),
        ["signal-forwarded", "signal-forwarded", "kill"]
    );
    // By its PID in the jail and by that on the host, as actor and as target.
    let by_jail_pid = kinds(&["--pid", "2"]);
    assert_eq!(by_jail_pid, kinds(&["--pid", "4132"]));
    assert!(by_jail_pid.contains(&"fork".to_owned()) && by_jail_pid.contains(&"reap".to_owned()));
    assert_eq!(
        kinds(&["--since", "950ms", "--until", "950.1ms"]),
        ["signal-generated", "oom-kill"]
    );
    assert_eq!(kinds(&["--until", "-1ms"]), ["leftover", "jail-created"]);
    // The header has 07:29:27.123456789 for 8.123 ms before the gate.
    let absolute = [
        "--since",
        "2026-11-22T07:29:28.08Z",
        "--until",
        "2026-11-22T07:29:28.0816Z",
    ];
    assert_eq!(kinds(&absolute), ["signal-generated"]);
}

#[test]
fn times_stay_relative_to_the_gate_when_its_event_is_filtered_out() {
    let (_, stdout, _) = output(&["FILE", "--kind", "oom-kill"]);
    assert!(
        stdout.lines().any(|line| line.starts_with("  +950.048ms ")),
        "{stdout}"
    );
}

#[test]
fn a_kind_that_was_asked_for_is_shown_though_it_is_minor() {
    let (_, stdout, _) = output(&["FILE", "--kind", "free"]);
    assert!(stdout.contains("released by the kernel"), "{stdout}");
}

#[test]
fn wrong_filters_are_usage_errors() {
    let (code, _, stderr) = output(&["FILE", "--kind", "oom"]);
    assert_eq!(code, Some(2));
    assert!(
        stderr.contains("there is no such kind; the kinds are fork, exec,"),
        "{stderr}"
    );
    let (code, _, stderr) = output(&["FILE", "--since", "yesterday"]);
    assert_eq!(code, Some(2));
    assert!(
        stderr.contains("neither a time since the gate such as 1.5s"),
        "{stderr}"
    );
}

#[test]
fn a_trace_that_was_cut_off_is_shown_and_said_to_be() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("cut.jsonl");
    let whole = std::fs::read(trace_file()).expect("readable");
    std::fs::write(&path, &whole[..whole.len() / 2]).expect("written");
    let (code, stdout, stderr) = output(&[path.to_str().expect("path")]);
    assert_eq!(code, Some(0));
    assert!(
        stderr.contains("no footer: the file ends after"),
        "{stderr}"
    );
    assert!(
        stdout.contains("incomplete, it has no footer: it ends at +"),
        "{stdout}"
    );
}

#[test]
fn a_damaged_trace_is_shown_up_to_the_damage() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("damaged.jsonl");
    let whole = std::fs::read_to_string(trace_file()).expect("readable");
    let mut lines: Vec<&str> = whole.lines().collect();
    lines[6] = "}{";
    std::fs::write(&path, lines.join("\n")).expect("written");
    let (code, stdout, stderr) = output(&[path.to_str().expect("path")]);
    assert_eq!(code, Some(125));
    assert!(stderr.contains("damaged.jsonl, line 7: "), "{stderr}");
    assert!(stdout.contains("made 2 (4132)"), "{stdout}");
}

#[test]
fn other_files_are_refused() {
    let (code, stdout, stderr) = output(&["/proc/self/exe"]);
    assert_eq!((code, stdout.as_str()), (Some(125), ""));
    assert!(stderr.contains("is not a trace of procjail"), "{stderr}");
    let (code, _, stderr) = output(&["/nowhere"]);
    assert_eq!(code, Some(125));
    assert_eq!(
        stderr,
        "procjail: cannot open /nowhere: ENOENT (No such file or directory)\n"
    );
}

#[test]
fn standard_input_is_a_file_too() {
    let mut child = show(&["-", "--format", "json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("runs");
    let whole = std::fs::read(trace_file()).expect("readable");
    let compressed = zstd::encode_all(whole.as_slice(), 3).expect("compresses");
    child
        .stdin
        .take()
        .expect("piped")
        .write_all(&compressed)
        .expect("taken");
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success());
    assert!(output.stdout == whole);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    // More than a pipe holds, so that the writer must notice.
    let whole = std::fs::read_to_string(trace_file()).expect("readable");
    let mut lines: Vec<&str> = whole.lines().collect();
    let footer = lines.pop().expect("a footer");
    let events = lines.split_off(1);
    lines.extend(events.iter().cycle().take(5_000));
    lines.push(footer);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("long.jsonl");
    std::fs::write(&path, lines.join("\n") + "\n").expect("written");
    let mut child = show(&[path.to_str().expect("path")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("runs");
    let mut first = [0; 10];
    child
        .stdout
        .take()
        .expect("piped")
        .read_exact(&mut first)
        .expect("a line");
    let output = child.wait_with_output().expect("ends");
    assert_eq!(
        (output.status.code(), output.stderr.as_slice()),
        (Some(0), &b""[..])
    );
}

#[test]
fn a_full_output_is_a_failure() {
    let full = std::fs::File::create("/dev/full").expect("opens");
    let path = trace_file();
    let output = show(&[path.to_str().expect("path")])
        .stdout(full)
        .output()
        .expect("runs");
    assert_eq!(output.status.code(), Some(125));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        stderr.contains("cannot write to standard output"),
        "{stderr}"
    );
}
