//! `procjail explain` on traces that are whole, cut off, lossy, late, damaged, foreign, or from the future.

use std::io::Write;
use std::process::{Command, Output};

use serde_json::Value;

/// The story's trace, line by line.
fn lines() -> Vec<String> {
    let text = include_str!("../src/render/expected/trace.jsonl");
    text.lines().map(str::to_owned).collect()
}

/// What `procjail explain ARGUMENTS FILE` says of a file of these lines.
fn explain(lines: &[String], arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    // A file that was cut within a line has no end of line there.
    let end = lines
        .last()
        .filter(|line| line.ends_with('}'))
        .map(|_| "\n");
    file.write_all((lines.join("\n") + end.unwrap_or("")).as_bytes())
        .expect("room");
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_procjail"))
        .arg("explain")
        .args(arguments)
        .arg(file.path())
        .env_remove("CLICOLOR_FORCE")
        .output()
        .expect("runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (status.code(), text(stdout), text(stderr))
}

fn json(lines: &[String]) -> Value {
    let (code, stdout, _) = explain(lines, &["--format", "json"]);
    assert_eq!(code, Some(0));
    serde_json::from_str(&stdout).expect("one JSON object")
}

/// The diagnosis of that id, at the top or below.
fn find<'a>(value: &'a Value, id: &str) -> Option<&'a Value> {
    let list = value
        .get("diagnoses")
        .or_else(|| value.get("consequences"))?
        .as_array()?;
    list.iter()
        .find_map(|one| (one["id"] == id).then_some(one).or_else(|| find(one, id)))
}

#[test]
fn a_whole_trace_is_explained() {
    let explanation = json(&lines());
    assert_eq!(explanation["version"], 2);
    assert_eq!(explanation["complete"], false, "the story lost events");
    let first = &explanation["diagnoses"][0];
    for field in [
        "id",
        "fact",
        "confidence",
        "time_ns",
        "pids",
        "evidence",
        "ruled_out",
        "weakened",
        "remedy",
        "scenario",
        "consequences",
    ] {
        assert!(first.get(field).is_some(), "{field} is always there");
    }
}

#[test]
fn text_has_no_colours_where_there_is_no_terminal() {
    let (code, stdout, _) = explain(&lines(), &[]);
    assert_eq!(code, Some(0));
    assert!(
        stdout.contains("what to do") && !stdout.contains('\x1b'),
        "{stdout}"
    );
}

#[test]
fn a_trace_that_was_cut_off_says_so() {
    let mut cut = lines();
    cut.pop();
    let half = cut.last().map(|line| line[..line.len() / 2].to_owned());
    cut.extend(half);
    let (code, stdout, stderr) = explain(&cut[..], &[]);
    assert_eq!(code, Some(0));
    assert!(stdout.contains("trace-cut-off"), "{stdout}");
    assert!(stderr.contains("no footer"), "{stderr}");
}

#[test]
fn losses_come_with_their_numbers_and_weaken() {
    let explanation = json(&lines());
    let lost = find(&explanation, "evidence-lost").expect("the story lost events");
    assert!(
        lost["fact"]
            .as_str()
            .is_some_and(|text| text.contains("missing"))
    );
}

#[test]
fn a_trace_without_its_start_says_so() {
    let mut late = lines();
    late.retain(|line| {
        !line.contains("\"kind\":\"gate-opened\"")
            && !line.contains("\"kind\":\"jail-created\"")
            && !line.contains("\"kind\":\"exec\"")
    });
    assert!(find(&json(&late), "attached-late").is_some());
}

#[test]
fn a_probe_that_is_missing_is_named() {
    let mut without = lines();
    let header = without[0].clone();
    let mut header: Value = serde_json::from_str(&header).expect("a header");
    header["probes"] = serde_json::json!([
        {"name": "mark_victim", "attached": false, "error": "EPERM", "provides": "OOM kills"}
    ]);
    without[0] = header.to_string();
    let explanation = json(&without);
    let unavailable = explanation["unavailable"].to_string();
    assert!(
        unavailable.contains("OOM kills") && unavailable.contains("EPERM"),
        "{unavailable}"
    );
}

#[test]
fn damage_within_is_named_and_the_rest_explained() {
    let mut damaged = lines();
    let middle = damaged.len() / 2;
    damaged[middle] = "{\"seq\":".to_owned();
    let (code, stdout, stderr) = explain(&damaged, &[]);
    assert_eq!(code, Some(0));
    assert!(stderr.contains(&format!("line {}", middle + 1)), "{stderr}");
    assert!(stdout.contains("trace-cut-off"), "{stdout}");
}

#[test]
fn other_files_and_newer_traces_are_refused() {
    let (code, stdout, stderr) = explain(&["{\"hello\":1}".to_owned()], &[]);
    assert_eq!((code, stdout.as_str()), (Some(125), ""));
    assert!(
        stderr.contains("not a trace of procjail") || stderr.contains("not the header"),
        "{stderr}"
    );
    let mut newer = lines();
    newer[0] = newer[0].replacen("\"version\":", "\"version\":9", 1);
    let (code, _, stderr) = explain(&newer, &[]);
    assert_eq!(code, Some(125));
    assert!(stderr.contains("use a newer procjail"), "{stderr}");
}
