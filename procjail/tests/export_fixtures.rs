//! All recorded traces in each form of text: what comes out keeps the committed schemas, and nothing of it is
//! markup.

use std::path::{Path, PathBuf};

use procjail::export::{Format, Report, Source, Subject};
use procjail::trace;
use pulldown_cmark::{Event as Piece, Options, Parser, Tag};
use serde_json::Value;

/// The recorded traces.
fn fixtures() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces");
    let entries = std::fs::read_dir(directory).expect("recorded traces");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.to_string_lossy().ends_with(".jsonl.zst"))
        .collect();
    paths.sort();
    assert!(paths.len() > 100, "there are {} traces", paths.len());
    paths
}

/// A trace in a form, and what is known of it.
fn exported(path: &Path, format: Format) -> (Subject, String) {
    let source = Source::open(path).expect("a trace");
    let subject = source.explain(None).expect("explained");
    assert_eq!(subject.missing, None, "{}", path.display());
    let mut bytes = Vec::new();
    {
        let mut output = format.output(&subject, &mut bytes).expect("begun");
        source.pass_on(output.as_mut()).expect("passed on");
    }
    (subject, String::from_utf8(bytes).expect("UTF-8"))
}

/// A committed schema.
fn schema(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(name);
    let text = std::fs::read_to_string(&path).expect("a committed schema");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn documents_keep_the_schema_and_can_be_read_back() {
    let validator = jsonschema::validator_for(&schema("report.schema.json")).expect("a schema");
    for path in fixtures() {
        let (_, text) = exported(&path, Format::Json);
        let value: Value = serde_json::from_str(&text).expect("JSON");
        if let Err(error) = validator.validate(&value) {
            panic!("{}: {error} at {}", path.display(), error.instance_path());
        }
        let report: Report = serde_json::from_str(&text).expect("a report");
        assert_eq!(
            serde_json::to_value(&report).expect("JSON"),
            value,
            "{}",
            path.display()
        );
        // The trace is in it, whole.
        let mut reader = trace::open(&path).expect("a trace");
        assert_eq!(&report.header, reader.header());
        let events: Vec<_> = reader
            .by_ref()
            .map(|event| event.expect("an event"))
            .collect();
        assert_eq!(report.events, events);
        assert_eq!(report.footer.as_ref(), reader.footer());
    }
}

/// The schema says something: what lacks a field, or has one of another type, doesn't keep it.
#[test]
fn the_schema_refuses_other_documents() {
    let validator = jsonschema::validator_for(&schema("report.schema.json")).expect("a schema");
    let path = fixtures().remove(0);
    let (_, text) = exported(&path, Format::Json);
    let whole: Value = serde_json::from_str(&text).expect("JSON");
    for field in [
        "format",
        "version",
        "procjail",
        "header",
        "explanation",
        "events",
        "footer",
        "missing",
    ] {
        let mut without = whole.clone();
        without.as_object_mut().expect("an object").remove(field);
        assert!(!validator.is_valid(&without), "{field} is required");
    }
    let mut other = whole;
    other["events"][0]["kind"] = "invented".into();
    assert!(!validator.is_valid(&other));
}

#[test]
fn tables_keep_the_schema() {
    let schema = schema("events-csv.schema.json");
    let fields = schema["fields"].as_array().expect("fields");
    let name = |field: &Value| field["name"].as_str().map(str::to_owned).expect("a name");
    for path in fixtures() {
        let (subject, text) = exported(&path, Format::Csv);
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let names: Vec<String> = fields.iter().map(name).collect();
        assert!(
            reader
                .headers()
                .expect("names")
                .iter()
                .eq(names.iter().map(String::as_str))
        );
        let mut lines = 0;
        for line in reader.records() {
            let line = line.expect("as many cells as names");
            lines += 1;
            for (cell, field) in line.iter().zip(fields) {
                let place = || format!("{}, event {lines}: {cell} in {field}", path.display());
                if cell.is_empty() {
                    assert_eq!(field["constraints"]["required"], false, "{}", place());
                    continue;
                }
                let fits = match field["type"].as_str().expect("a type") {
                    "integer" => cell.parse::<i64>().is_ok(),
                    "number" => cell.parse::<f64>().is_ok(),
                    "boolean" => matches!(cell, "true" | "false"),
                    "datetime" => cell.parse::<jiff::Timestamp>().is_ok(),
                    "object" => {
                        serde_json::from_str::<Value>(cell).is_ok_and(|data| data.is_object())
                    }
                    "string" => !cell.starts_with(['=', '+', '-', '@', '\t', '\r']),
                    other => panic!("{other} is not a type"),
                };
                assert!(fits, "{}", place());
            }
        }
        assert_eq!(lines, subject.case.total_events(), "{}", path.display());
    }
}

#[test]
fn write_ups_are_markdown_and_nothing_else() {
    for path in fixtures() {
        let (subject, text) = exported(&path, Format::Markdown);
        let place = path.display();
        let mut rows: Vec<Vec<usize>> = Vec::new();
        let mut headings = 0;
        for piece in Parser::new_ext(&text, Options::ENABLE_TABLES | Options::ENABLE_GFM) {
            match piece {
                Piece::Start(Tag::Heading { .. }) => headings += 1,
                Piece::Start(Tag::Table(_)) => rows.push(Vec::new()),
                Piece::Start(Tag::TableHead | Tag::TableRow) => {
                    rows.last_mut().expect("in a table").push(0);
                }
                Piece::Start(Tag::TableCell) => {
                    *rows
                        .last_mut()
                        .and_then(|rows| rows.last_mut())
                        .expect("in a row") += 1;
                }
                Piece::Start(Tag::Link { .. } | Tag::Image { .. } | Tag::HtmlBlock)
                | Piece::Html(_)
                | Piece::InlineHtml(_)
                | Piece::Rule => panic!("{place}: {piece:?}"),
                _ => {}
            }
        }
        assert_eq!(headings, 14, "{place}");
        for table in rows {
            assert!(
                table.iter().all(|cells| *cells == table[0]),
                "{place}: {table:?}"
            );
        }
        // What somebody who has nothing but this page must find in it.
        let main = &subject.explanation.diagnoses[0];
        assert!(
            text.starts_with(&format!("# Incident: `{}`", main.id)),
            "{place}"
        );
        for diagnosis in &subject.explanation.diagnoses {
            assert!(
                text.contains(&format!("- `{}` (", diagnosis.id)),
                "{place}: {}",
                diagnosis.id
            );
        }
        let kernel = &subject.case.header.host.kernel;
        assert!(text.contains(kernel.as_str()), "{place}");
    }
}
