//! The table against its schema and against the events.

use super::*;
use crate::event::{Exec, Task, What, story};
use crate::export::{Format, fixture};

/// Lines of cells, the names first.
fn read(text: &str) -> Vec<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .from_reader(text.as_bytes());
    reader
        .records()
        .map(|record| {
            let record = record.expect("as many cells as names");
            record.iter().map(str::to_owned).collect()
        })
        .collect()
}

/// The cell of that name in a line.
fn cell<'a>(line: &'a [String], name: &str) -> &'a str {
    let at = COLUMNS.iter().position(|column| column.name == name);
    &line[at.expect("a column")]
}

#[test]
fn cells_are_of_their_columns_types() {
    let (_, events, text) = fixture::story(Format::Csv);
    let lines = read(&text);
    assert_eq!(lines.len(), events.len() + 1);
    assert!(lines[0].iter().eq(COLUMNS.iter().map(|column| column.name)));
    for (line, event) in lines[1..].iter().zip(&events) {
        for (value, column) in line.iter().zip(COLUMNS) {
            if value.is_empty() {
                assert!(!column.required, "{} of {}", column.name, event.seq);
                continue;
            }
            let fits = match column.type_ {
                "integer" => value.parse::<i64>().is_ok(),
                "number" => value.parse::<f64>().is_ok(),
                "boolean" => matches!(value.as_str(), "true" | "false"),
                "datetime" => value.parse::<jiff::Timestamp>().is_ok(),
                "object" => serde_json::from_str::<serde_json::Value>(value)
                    .is_ok_and(|value| value.is_object()),
                "string" => true,
                other => panic!("{other} is not a type"),
            };
            assert!(fits, "{} of {}: {value}", column.name, event.seq);
        }
        let data: serde_json::Value = serde_json::from_str(cell(line, "data")).expect("JSON");
        let whole = serde_json::to_value(event).expect("JSON");
        assert_eq!(data, whole["data"], "{}", event.seq);
    }
}

#[test]
fn every_column_has_something_in_the_story() {
    let (_, _, text) = fixture::story(Format::Csv);
    let lines = read(&text);
    for column in COLUMNS {
        assert!(
            lines[1..]
                .iter()
                .any(|line| !cell(line, column.name).is_empty()),
            "{}",
            column.name
        );
    }
}

#[test]
fn an_event_is_a_line_whatever_is_in_it() {
    let (mut events, footer) = story::trace();
    let evil = "=cmd|' /C calc'!A0\r\n\t\"quoted\", x;=1\u{fffd}";
    let event = events.last_mut().expect("an event");
    event.task = Task {
        comm: evil.to_owned(),
        ..Task::default()
    };
    event.what = What::Exec(Exec {
        filename: evil.to_owned(),
        argv: vec![evil.to_owned(), "x".repeat(100_000)],
        argv_truncated: false,
        argv_bytes: 1,
        signals: None,
    });
    let subject = fixture::subject(&story::header_line(), &events, Some(&footer));
    let text = fixture::written(Format::Csv, &subject, &events);
    assert_eq!(text.matches("\r\n").count(), events.len() + 1);
    assert_eq!(text.matches('\n').count(), events.len() + 1);
    let lines = read(&text);
    let line = lines.last().expect("a line");
    let kept = "'=cmd|' /C calc'!A0\\r\\n\\t\"quoted\", x;'=1\u{fffd}";
    assert_eq!(cell(line, "comm"), kept);
    assert_eq!(cell(line, "path"), kept);
    let data: serde_json::Value = serde_json::from_str(cell(line, "data")).expect("JSON");
    assert_eq!(data["argv"][0], evil);
}

#[test]
fn a_trace_without_events_has_names() {
    assert_eq!(read(&fixture::empty(Format::Csv)).len(), 1);
}

#[test]
fn names_are_told_apart() {
    let mut names: Vec<_> = COLUMNS.iter().map(|column| column.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), COLUMNS.len());
}
