//! The page of recorded and of made-up traces. What it does in a browser is tested in `tests/html/`.

use std::io::{Cursor, Read as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use proptest::prelude::*;
use serde_json::Value;
use sha2::Digest as _;

use super::data::harmless;
use super::*;
use crate::diagnose::{Case, explain};
use crate::export::Format;
use crate::trace::Reader;

fn traces() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces");
    let entries = std::fs::read_dir(directory).expect("recorded traces");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("readable").path())
        .collect();
    paths.retain(|path| path.extension().is_some_and(|name| name == "zst"));
    paths.sort();
    assert!(paths.len() > 100, "{} traces", paths.len());
    paths
}

fn recorded(name: &str) -> String {
    let path = traces()
        .into_iter()
        .find(|path| path.ends_with(format!("{name}.jsonl.zst")))
        .expect("a trace of that name");
    let mut text = String::new();
    zstd::Decoder::new(std::fs::File::open(path).expect("readable"))
        .and_then(|mut decoder| decoder.read_to_string(&mut text))
        .expect("a compressed trace");
    text
}

fn subject(text: &str) -> Subject {
    let mut reader = Reader::new(Cursor::new(text.as_bytes().to_vec()), "trace").expect("a header");
    let (case, damage) = Case::read(&mut reader).expect("taken");
    Subject {
        explanation: explain(&case),
        case,
        missing: damage.map(|damage| damage.to_string()),
    }
}

/// The page, and what the script reads.
fn page(text: &str) -> (String, Value) {
    let subject = subject(text);
    let mut bytes = Vec::new();
    {
        let mut output = Format::Html.output(&subject, &mut bytes).expect("begun");
        let mut reader =
            Reader::new(Cursor::new(text.as_bytes().to_vec()), "trace").expect("a header");
        output.header(reader.header()).expect("written");
        for event in reader.by_ref().map_while(Result::ok) {
            output.event(&event).expect("written");
        }
        output.footer(reader.footer()).expect("written");
    }
    let page = String::from_utf8(bytes).expect("UTF-8");
    let begin = "<script type=\"application/json\" id=\"data\">";
    let data = page.split_once(begin).expect("data").1;
    let data = data.split_once("</script>").expect("their end").0;
    assert!(!data.contains(['<', '>', '&']), "markup in the data");
    let data = serde_json::from_str(data).expect("JSON");
    (page, data)
}

#[test]
fn each_recorded_trace_has_a_page_with_its_verdicts_and_events() {
    for path in traces() {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name
            .and_then(|name| name.split('.').next())
            .expect("a name");
        let text = recorded(name);
        let (page, data) = page(&text);
        for diagnosis in subject(&text).explanation.diagnoses {
            assert!(
                page.contains(&format!("<code>{}</code>", diagnosis.id)),
                "{name}"
            );
        }
        let events = text.lines().count() - 2;
        assert_eq!(page.matches("<tr id=\"e").count(), events, "{name}");
        assert_eq!(
            data["events"]["seq"].as_array().map(Vec::len),
            Some(events),
            "{name}"
        );
        let pictures = page
            .split("<script>")
            .nth(1)
            .expect("what comes before the data");
        assert!(
            !pictures.contains("NaN") && !pictures.contains("inf\""),
            "{name}"
        );
    }
}

#[test]
fn a_trace_that_ends_anywhere_has_a_page() {
    for name in ["oom-fork-bomb", "hang-d-state-fuse"] {
        let text = recorded(name);
        for kept in 1..=text.lines().count() {
            let some: Vec<&str> = text.lines().take(kept).collect();
            page(&(some.join("\n") + "\n"));
        }
    }
}

#[test]
fn a_trace_that_begins_late_has_a_page() {
    let text = recorded("oom-fork-bomb");
    let lines: Vec<&str> = text.lines().collect();
    for first in [2, 10, 40, 100] {
        let some = [&lines[..1], &lines[first..]].concat();
        let (page, _) = page(&(some.join("\n") + "\n"));
        assert!(page.contains("id=\"verdicts\""));
    }
}

#[test]
fn times_and_numbers_at_their_limits_do_no_harm() {
    let text = recorded("mem-growth-leak");
    for (pattern, value) in [
        ("\"start_boot_ns\":", u64::MAX.to_string()),
        ("\"start_unix_ns\":", u64::MAX.to_string()),
        ("\"usage_bytes\":", u64::MAX.to_string()),
        ("\"limit_bytes\":", u64::MAX.to_string()),
        ("\"anon\":", u64::MAX.to_string()),
        ("\"duration_ns\":", u64::MAX.to_string()),
        ("\"start_ns\":", u64::MAX.to_string()),
        ("\"time_ns\":", "0".to_owned()),
    ] {
        let mut changed = String::new();
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once(pattern) {
            let digits = after.find(|char: char| !char.is_ascii_digit()).unwrap_or(0);
            changed += before;
            changed += pattern;
            // Null stays.
            changed += if digits > 0 { &value } else { "" };
            rest = after.get(digits..).unwrap_or_default();
        }
        changed += rest;
        page(&changed);
    }
}

#[test]
fn the_policy_names_the_scripts_and_the_style_that_are_there() {
    let (page, _) = page(&recorded("kill-external"));
    let policy = page
        .split_once("Content-Security-Policy\" content=\"")
        .expect("a policy")
        .1;
    let policy = policy
        .split_once('"')
        .expect("its end")
        .0
        .replace("&#39;", "'");
    let between = |tag: &str| -> Vec<&str> {
        let (begin, end) = (format!("<{tag}>"), format!("</{tag}>"));
        let mut found = Vec::new();
        let mut rest = page.as_str();
        while let Some((part, after)) = rest
            .split_once(&begin)
            .and_then(|(_, rest)| rest.split_once(&end))
        {
            found.push(part);
            rest = after;
        }
        found
    };
    let parts = [between("script"), between("style")].concat();
    assert_eq!(parts.len(), 3);
    for part in parts {
        let hash = base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(part));
        assert!(policy.contains(&format!("'sha256-{hash}'")), "{policy}");
    }
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
}

#[test]
fn siblings_that_are_alike_are_one_line() {
    let text = recorded("fork-bomb");
    let (_, data) = page(&text);
    let lanes = &data["lanes"];
    let parents = lanes["parent"].as_array().expect("parents");
    for (index, parent) in parents.iter().enumerate() {
        assert!(parent.as_i64().is_some_and(|parent| parent < index as i64));
    }
    // Each group lies together.
    for group in data["groups"].as_array().expect("groups") {
        let (first, count) = (
            group[0].as_u64().unwrap_or(0),
            group[1].as_u64().unwrap_or(0),
        );
        for at in first..first + count {
            assert_eq!(lanes["group"][at as usize], lanes["group"][first as usize]);
            assert_eq!(lanes["name"][at as usize], lanes["name"][first as usize]);
        }
    }
}

proptest! {
    #[test]
    fn any_text_comes_out_of_the_data_as_it_was(text in any::<String>()) {
        let mut bytes = Vec::new();
        harmless(&text, &mut bytes).expect("written");
        let json = String::from_utf8(bytes).expect("UTF-8");
        let special = json.contains(['<', '>', '&', '\u{2028}', '\u{2029}']);
        prop_assert!(!special);
        prop_assert_eq!(serde_json::from_str::<String>(&json).expect("JSON"), text);
    }
}
