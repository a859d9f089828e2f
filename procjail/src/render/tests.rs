//! What users see, compared with committed files, and totality on arbitrary traces.
//!
//! `UPDATE_EXPECT=1 cargo test` rewrites the files under `expected/`.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::event::{fixture, story, *};
use crate::trace::{Footer, Output};

fn expect_file(name: &str, got: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/render/expected")
        .join(name);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, got).expect("expectation is written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(got == expected, "{name} differs; got:\n{got}");
}

fn text(look: Look, events: &[Event], footer: Option<&Footer>) -> String {
    let mut out = Vec::new();
    let mut timeline = Timeline::new(&mut out, look);
    timeline
        .header(&story::header_line())
        .expect("a vector takes all");
    for event in events {
        timeline.event(event).expect("a vector takes all");
    }
    timeline.footer(footer).expect("a vector takes all");
    String::from_utf8(out).expect("text")
}

#[test]
fn timeline_of_a_whole_trace() {
    let (events, footer) = story::trace();
    expect_file(
        "timeline.txt",
        &text(Look::default(), &events, Some(&footer)),
    );
}

#[test]
fn timeline_with_everything() {
    let (events, footer) = story::trace();
    let look = Look {
        verbose: true,
        ..Look::default()
    };
    expect_file("verbose.txt", &text(look, &events, Some(&footer)));
}

#[test]
fn timeline_in_colour_on_a_narrow_terminal() {
    let (events, footer) = story::trace();
    let look = Look {
        color: true,
        width: 100,
        verbose: false,
    };
    expect_file("colour.txt", &text(look, &events, Some(&footer)));
}

#[test]
fn timeline_of_a_trace_that_was_cut_off_before_the_gate() {
    let (events, _) = story::trace();
    expect_file("cut.txt", &text(Look::default(), &events[..1], None));
}

#[test]
fn a_quiet_end() {
    let (_, footer) = story::trace();
    let footer = Footer {
        status: Some(ExitStatus::from_wait(0)),
        exit_code: Some(0),
        lost: Vec::new(),
        zombies: 0,
        teardown: Vec::new(),
        ..footer
    };
    let text = text(Look::default(), &[], Some(&footer));
    assert!(text.contains("exit status 0\n"), "{text}");
    assert!(text.contains("complete, but 1 probe is missing"), "{text}");
}

#[test]
fn json_lines_are_the_lines_of_the_file() {
    let (events, footer) = story::trace();
    let mut out = Vec::new();
    let mut lines = JsonLines::new(&mut out);
    lines
        .header(&story::header_line())
        .expect("a vector takes all");
    for event in &events {
        lines.event(event).expect("a vector takes all");
    }
    lines.footer(Some(&footer)).expect("a vector takes all");
    expect_file("trace.jsonl", &String::from_utf8(out).expect("text"));
}

/// Events of any content: mutated records through the enricher, and the launcher's with any text.
fn any_event() -> impl Strategy<Value = Event> {
    let records: Vec<Vec<u8>> = story::records().iter().map(fixture::encode).collect();
    let launcher: Vec<What> = story::launcher()
        .into_iter()
        .map(|(_, what)| what)
        .collect();
    let of_kernel = (
        prop::sample::select(records),
        prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..40),
    )
        .prop_filter_map("decodable and not dropped", |(mut bytes, changes)| {
            // The kind stays.
            for (index, value) in changes {
                let index = 4 + index.index(bytes.len() - 4);
                bytes[index] = value;
            }
            let record = decode(&bytes).ok()?;
            Enricher::new(Task::default(), 4096).record(record)
        });
    let of_launcher = (
        prop::sample::select(launcher),
        any::<String>(),
        any::<u64>(),
    )
        .prop_map(|(mut what, text, number)| {
            match &mut what {
                What::JailCreated(jail) => (jail.name, jail.cgroup) = (text.clone(), text),
                What::Teardown(step) => {
                    (step.step, step.error, step.duration_ns) = (text.clone(), Some(text), number)
                }
                What::Kill(kill) => (kill.reason, kill.method) = (text.clone(), text),
                What::Lost(lost) => (lost.event_kind, lost.count) = (text, number),
                What::SignalForwarded(signal) => {
                    (signal.signal.name, signal.held_ns) = (text, number)
                }
                What::StopRequested(stop) => stop.timeout_ns = number,
                _ => {}
            }
            Enricher::new(Task::default(), 4096).launcher(number, what)
        });
    prop_oneof![of_kernel, of_launcher]
}

proptest! {
    #[test]
    fn any_event_is_one_harmless_line(event in any_event(), width in 0usize..300) {
        let look = Look { color: false, width, verbose: true };
        let before = text(look, &[], None).lines().count();
        let text = text(look, &[event], None);
        prop_assert_eq!(text.lines().count(), before + 1);
        prop_assert!(text.chars().all(|char| char == '\n' || !char.is_control()), "{:?}", text);
    }

    #[test]
    fn any_event_survives_json(event in any_event()) {
        let line = serde_json::to_string(&event).expect("serializes");
        prop_assert!(!line.contains('\n'));
        prop_assert_eq!(&serde_json::from_str::<Event>(&line).expect("parses"), &event);
        // In another order of fields, with one that this version doesn't know.
        let value: serde_json::Value = serde_json::from_str(&line).expect("parses");
        let shuffled = format!(
            r#"{{"new":[1,{{}}],"data":{},"kind":{},"task":{},"time_ns":{},"seq":{}}}"#,
            value["data"], value["kind"], value["task"], value["time_ns"], value["seq"]
        );
        prop_assert_eq!(&serde_json::from_str::<Event>(&shuffled).expect("parses"), &event);
        prop_assert_eq!(serde_json::from_value::<Event>(value).expect("parses"), event);
    }
}

#[test]
fn unknown_kinds_and_missing_fields_are_named() {
    let error = |line: &str| serde_json::from_str::<Event>(line).map_err(|error| error.to_string());
    let (events, _) = story::trace();
    let gate = events
        .iter()
        .find(|event| event.what.kind() == "gate-opened");
    let line = serde_json::to_string(gate.expect("a gate")).expect("serializes");
    let unknown = error(&line.replace("gate-opened", "earth\\u0007quake"));
    assert!(unknown.is_err_and(|error| error.contains("unknown kind of event `earth\\u{7}quake`")));
    let missing = error(&line.replace("\"time_ns\"", "\"time\""));
    assert!(missing.is_err_and(|error| error.contains("missing field `time_ns`")));
    let missing = error(&line.replace("\"setup_ns\"", "\"setup\""));
    assert!(missing.is_err_and(|error| error.contains("missing field `setup_ns`")));
}

#[test]
fn every_kind_has_the_name_that_serde_gives_it() {
    let (events, _) = story::trace();
    let mut seen = std::collections::BTreeSet::new();
    for event in &events {
        let value = serde_json::to_value(event).expect("serializes");
        assert_eq!(value["kind"], event.what.kind());
        seen.insert(event.what.kind());
    }
    // The story has all of them but the most minor one, the one of a run that never began,
    // and those of what others began.
    let unseen: Vec<_> = KINDS.iter().filter(|kind| !seen.contains(**kind)).collect();
    let expected = ["wait", "setup-failed", "attached", "found", "detached"];
    assert_eq!(unseen, expected.each_ref());
    let fields: Vec<String> = serde_json::to_string(&events[0])
        .expect("serializes")
        .split("\":")
        .filter_map(|part| part.rsplit('"').next().map(str::to_owned))
        .collect();
    let top: Vec<&String> = fields
        .iter()
        .filter(|field| ["seq", "time_ns", "task", "kind", "data"].contains(&field.as_str()))
        .collect();
    assert_eq!(top, ["seq", "time_ns", "task", "kind", "data"]);
}
