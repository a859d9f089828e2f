//! Traces to make pages of: recorded ones, hostile ones, large ones.

use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// A recorded trace.
pub fn recorded(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/traces")
        .join(format!("{name}.jsonl.zst"))
}

/// Lines of a recorded trace.
pub fn lines(name: &str) -> Vec<Value> {
    let mut text = String::new();
    let file = std::fs::File::open(recorded(name)).expect("a recorded trace");
    zstd::Decoder::new(file)
        .and_then(|mut decoder| decoder.read_to_string(&mut text))
        .expect("readable");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

pub fn write_trace(directory: &Path, lines: impl IntoIterator<Item = Value>) -> PathBuf {
    let path = directory.join("trace.jsonl");
    let mut file = BufWriter::new(std::fs::File::create(&path).expect("a file"));
    for line in lines {
        writeln!(file, "{line}").expect("written");
    }
    file.flush().expect("written");
    path
}

/// What would do harm if it were taken for anything but text.
pub const HOSTILE: &str = "</script><script>window.pwned=1</script><img src=x onerror=\"pwned=2\">'\"`--><!--<svg/onload=pwned=3>\
    </title></style></table></noscript>&lt;b&gt;{{7*7}}${pwned=4}\\u003cb\\\u{202e}\u{2028}\u{1b}[31m\u{0}\u{9b}\u{fffd}javascript:pwned=5";

/// Each text of a line that the traced program, or whoever runs it, may choose.
pub fn poisoned(mut line: Value) -> Value {
    fn poison(value: &mut Value, key: &str) {
        // What a reader of traces has to understand stays.
        const KEPT: [&str; 9] = [
            "format",
            "result",
            "kind",
            "change",
            "stage",
            "moment",
            "disposition",
            "action",
            "by",
        ];
        match value {
            Value::String(text) if !KEPT.contains(&key) => {
                text.push_str(HOSTILE);
            }
            Value::Array(items) => items.iter_mut().for_each(|item| poison(item, key)),
            Value::Object(fields) if key == "limits" || key == "environment" => {
                let poisoned = fields.iter().map(|(name, value)| {
                    (
                        format!("{name}{HOSTILE}"),
                        json!(format!("{value}{HOSTILE}")),
                    )
                });
                *fields = poisoned.collect();
            }
            Value::Object(fields) => fields.iter_mut().for_each(|(key, item)| poison(item, key)),
            _ => {}
        }
    }
    poison(&mut line, "");
    line
}

/// A storm: so many events of processes that come and go, within the run of a recorded trace.
pub fn storm(events: usize) -> Vec<Value> {
    let mut lines = lines("fork-bomb");
    let footer = lines.pop().expect("a footer");
    let parent = lines
        .iter()
        .find(|line| line["kind"] == "fork")
        .expect("a fork")
        .clone();
    let exit = lines
        .iter()
        .find(|line| line["kind"] == "exit")
        .expect("an exit")
        .clone();
    let exec = lines
        .iter()
        .find(|line| line["kind"] == "exec")
        .expect("an exec")
        .clone();
    let last = lines.last().expect("an event");
    let mut seq = last["seq"].as_u64().expect("a number");
    let mut time_ns = last["time_ns"].as_u64().expect("a time");
    let mut number = 0u64;
    while lines.len() < events + 1 {
        number += 1;
        let mut child = parent["data"]["child"].clone();
        for (name, value) in [
            ("pid", 100_000 + number),
            ("tid", 100_000 + number),
            ("jail_pid", 100 + number),
        ] {
            child[name] = json!(value);
        }
        child["start_ns"] = json!(time_ns + 900);
        let mut push = |mut line: Value, task: Option<&Value>| {
            seq += 1;
            time_ns += 1_000;
            line["seq"] = json!(seq);
            line["time_ns"] = json!(time_ns);
            if let Some(task) = task {
                line["task"] = task.clone();
            }
            lines.push(line);
        };
        let mut fork = parent.clone();
        fork["data"]["child"] = child.clone();
        push(fork, None);
        child["comm"] = json!(format!("worker-{}", number % 7));
        let mut run = exec.clone();
        run["data"]["argv"] = json!([format!("worker-{}", number % 7), number.to_string()]);
        push(run, Some(&child));
        push(exit.clone(), Some(&child));
    }
    lines.push(footer);
    lines
}
