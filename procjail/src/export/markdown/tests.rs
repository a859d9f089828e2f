//! The page as a Markdown parser reads it.

use pulldown_cmark::{Event as Piece, Options, Parser, Tag, TagEnd};

use crate::event::{Event, Exec, SignalGenerated, Task, What, story};
use crate::export::{Format, fixture};
use crate::trace::{Footer, Header};

/// What a page is made of.
#[derive(Debug, Default)]
struct Read {
    headings: Vec<String>,
    /// Text outside code.
    plain: String,
    code: String,
    /// Cells of each row of each table, its names first.
    tables: Vec<Vec<usize>>,
    /// What the page never has.
    unwanted: Vec<String>,
}

fn read(page: &str) -> Read {
    let mut read = Read::default();
    let (mut in_block, mut in_heading) = (false, false);
    for piece in Parser::new_ext(page, Options::ENABLE_TABLES | Options::ENABLE_GFM) {
        match piece {
            Piece::Text(text) if in_block => read.code += &text,
            Piece::Text(text) => {
                read.plain += &text;
                if in_heading && let Some(heading) = read.headings.last_mut() {
                    heading.push_str(&text);
                }
            }
            Piece::Code(text) => read.code += &text,
            Piece::SoftBreak => read.plain.push(' '),
            Piece::Start(Tag::CodeBlock(_)) => in_block = true,
            Piece::End(TagEnd::CodeBlock) => in_block = false,
            Piece::Start(Tag::Heading { .. }) => {
                in_heading = true;
                read.headings.push(String::new());
            }
            Piece::End(TagEnd::Heading(_)) => in_heading = false,
            Piece::Start(Tag::Table(_)) => read.tables.push(Vec::new()),
            Piece::Start(Tag::TableHead | Tag::TableRow) => {
                read.tables.last_mut().expect("in a table").push(0);
            }
            Piece::Start(Tag::TableCell) => {
                let rows = read.tables.last_mut().expect("in a table");
                *rows.last_mut().expect("in a row") += 1;
            }
            Piece::Start(Tag::Link { .. } | Tag::Image { .. } | Tag::HtmlBlock)
            | Piece::Html(_)
            | Piece::InlineHtml(_)
            | Piece::HardBreak
            | Piece::Rule => read.unwanted.push(format!("{piece:?}")),
            _ => {}
        }
    }
    read
}

/// A page of these events, and it as read. Whatever they are, it is whole.
fn page(header: &Header, events: &[Event], footer: Option<&Footer>) -> (String, Read) {
    let subject = fixture::subject(header, events, footer);
    let text = fixture::written(Format::Markdown, &subject, events);
    let read = read(&text);
    assert!(read.unwanted.is_empty(), "{:?}", read.unwanted);
    assert_eq!(read.headings.len(), 14, "{:?}", read.headings);
    for table in &read.tables {
        assert!(table.len() > 1 && table.iter().all(|cells| *cells == table[0]));
    }
    // Rows that the parser pads or cuts would be counted as whole.
    for line in text.lines().filter(|line| line.starts_with('|')) {
        assert!(line.ends_with(" |"), "{line}");
    }
    (text, read)
}

#[test]
fn it_has_the_sections_in_order() {
    let (events, footer) = story::trace();
    let (text, read) = page(&story::header_line(), &events, Some(&footer));
    let sections = [
        "Summary",
        "Impact",
        "Timeline",
        "Trigger, root cause, contributing factors",
        "Detection",
        "Evidence",
        "Ruled out",
        "False starts",
        "Numbers at the decisive moment",
        "Reproduction",
        "Actions",
        "What still puzzles",
        "Environment",
    ];
    assert_eq!(read.headings[1..], sections);
    let text = text.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    insta::assert_snapshot!(text);
}

#[test]
fn every_event_is_shown_or_counted() {
    let (events, footer) = story::trace();
    let (text, read) = page(&story::header_line(), &events, Some(&footer));
    let rows = read.tables[0].len() - 1;
    let others = text
        .lines()
        .find_map(|line| line.strip_prefix("Not shown: "));
    let others = others.and_then(|line| line.split(' ').next()?.parse::<usize>().ok());
    assert_eq!(rows + others.unwrap_or(0), events.len());
}

#[test]
fn nothing_but_a_header_is_a_page_as_well() {
    let (text, _) = page(&story::header_line(), &[], None);
    assert!(text.contains("The trace has no event."));
    assert!(text.contains("does not have its end"));
}

#[test]
fn a_trace_that_was_cut_off_says_so() {
    let (events, _) = story::trace();
    let (text, _) = page(&story::header_line(), &events[..events.len() / 2], None);
    assert!(text.contains("the trace is not complete") && text.contains("no footer"));
}

#[test]
fn text_of_the_program_stays_text() {
    let evil =
        "<img src=x onerror=alert(1)> [a](http://b) @all #1 | `x` **b** \r\n# c\u{202e} www.d.e";
    let (mut events, mut footer) = story::trace();
    let mut header = story::header_line();
    header.jail.name = evil.to_owned();
    header.jail.command = vec![evil.to_owned(), "```".to_owned()];
    header.jail.launcher.get_or_insert_default().plan = vec![evil.to_owned(), "````".to_owned()];
    header.jail.limits.insert(evil.to_owned(), evil.to_owned());
    header.host.hostname = evil.to_owned();
    for probe in &mut header.probes {
        probe.attached = false;
        probe.error = Some(evil.to_owned());
        probe.provides = evil.to_owned();
    }
    for step in &mut footer.teardown {
        step.error = Some(evil.to_owned());
    }
    for event in &mut events {
        event.task.comm = evil.to_owned();
        match &mut event.what {
            What::Exec(exec) => {
                *exec = Exec {
                    filename: evil.to_owned(),
                    argv: vec![evil.to_owned(), "x".repeat(10_000)],
                    ..exec.clone()
                }
            }
            What::SignalGenerated(signal) => {
                *signal = SignalGenerated {
                    target: Task {
                        comm: evil.to_owned(),
                        ..signal.target.clone()
                    },
                    ..signal.clone()
                }
            }
            What::OomKill(kill) => kill.victim.comm = evil.to_owned(),
            What::Cgroup(cgroup) => cgroup.path = evil.to_owned(),
            _ => {}
        }
    }
    let (_, read) = page(&header, &events, Some(&footer));
    assert!(read.code.contains("onerror"));
    for mark in ["<img", "@all", "#1", "http:", "www.", "**", "\u{202e}"] {
        assert!(!read.plain.contains(mark), "{mark}");
    }
}

#[test]
fn a_storm_is_cut_in_the_middle() {
    let (mut events, footer) = story::trace();
    let kill = events
        .iter()
        .find(|event| matches!(event.what, What::OomKill(_)))
        .expect("the story has one")
        .clone();
    let last = events.last().expect("an event").clone();
    for number in 1..=400 {
        events.push(Event {
            seq: last.seq + number,
            time_ns: last.time_ns + number,
            ..kill.clone()
        });
    }
    let (text, read) = page(&story::header_line(), &events, Some(&footer));
    assert!(read.tables[0].len() < 210);
    assert!(
        text.contains(&format!("| {} |\n", last.seq + 400)),
        "the end is shown"
    );
    assert!(text.contains(" more … |"));
}
