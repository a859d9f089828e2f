//! What the page's template shows, made of the case.

use std::io::{self, Write};

use askama::Template;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::choose::{Rank, Share};
use super::data::Data;
use super::events::Events;
use super::lanes::Lanes;
use super::memory::Memory;
use super::picture::Picture;
use crate::diagnose::{self, Diagnosis};
use crate::export::Subject;
use crate::export::moment::Clock;
use crate::render::{Line, facts};
use crate::text::{command_line, count, escape, plural};
use crate::words::Tone;

mod chart;
mod tables;

use chart::Chart;
use tables::{EventRow, Process, processes, rows};

/// Deepest level of what followed that is shown by indentation.
const DEEPEST: u32 = 6;

const STYLE: &str = include_str!("report.css");
/// Says that there is a script, before anything is drawn.
const EARLY: &str = "document.documentElement.classList.add('js');";
const SCRIPT: &str = concat!(
    "'use strict';\ntry {\n",
    include_str!("js/data.js"),
    include_str!("js/view.js"),
    include_str!("js/lanes.js"),
    include_str!("js/marks.js"),
    include_str!("js/timeline.js"),
    include_str!("js/memory.js"),
    include_str!("js/table.js"),
    include_str!("js/main.js"),
    "} catch (error) {\n",
    include_str!("js/failed.js"),
    "}\n",
);

/// The page up to its data.
#[derive(Template)]
#[template(path = "html/page.html")]
pub(super) struct Page<'a> {
    policy: String,
    style: &'static str,
    early: &'static str,
    title: String,
    jail: String,
    command: String,
    ended: String,
    ended_tone: &'static str,
    started: String,
    missing: Option<String>,
    verdicts: Vec<Verdict>,
    unavailable: Vec<(String, String)>,
    facts: Vec<(&'static str, &'static str, String)>,
    lists: Vec<List>,
    picture: Picture,
    charts: Vec<Chart>,
    memory_note: String,
    processes: Vec<Process>,
    processes_note: Option<String>,
    rows: Vec<EventRow<'a>>,
    events_note: String,
    rows_note: Option<String>,
    printed_note: Option<String>,
    version: &'static str,
}

/// A diagnosis, or one that follows from it.
struct Verdict {
    id: String,
    text: String,
    cause: Option<Cause>,
    sure: &'static str,
    tone: &'static str,
    when: String,
    utc: String,
    weakened: Vec<String>,
    evidence: Vec<Fact>,
    ruled_out: Vec<(String, String)>,
    remedy: String,
    scenario: Option<String>,
    /// How deep below the diagnosis, and what it is.
    consequences: Vec<(u32, Verdict)>,
}

/// Why it happened.
struct Cause {
    label: String,
    text: String,
}

struct Fact {
    seq: Option<u64>,
    when: String,
    text: String,
}

/// Facts that few ask for.
struct List {
    title: &'static str,
    items: Vec<(String, String)>,
}

impl<'a> Page<'a> {
    pub(super) fn of(
        subject: &'a Subject,
        clock: Clock,
        lanes: &Lanes,
        events: &'a Events,
        memory: &Memory,
    ) -> Self {
        let case = &subject.case;
        let header = &case.header;
        let explanation = &subject.explanation;
        let command = command_line(&header.jail.command, 400);
        let jail = escape(&header.jail.name);
        let first = explanation.diagnoses.first();
        let lines = facts(
            header,
            case.footer.as_ref(),
            &events.totals(),
            &clock.relative(events.last_ns),
        );
        let (rows, left_out, printed) = rows(events, clock);
        let drawn = memory.is_drawn();
        let (processes, processes_note) = processes(lanes, clock, case.end_ns());
        let plain = printed.0;
        Self {
            policy: policy(),
            style: STYLE,
            early: EARLY,
            title: format!("{}: {command} ({jail})", first.map_or("", |one| &one.id)),
            ended: explanation.ended.as_deref().map_or_else(
                || "how PID 1 ended is not in the trace".to_owned(),
                |ended| format!("PID 1 {}", escape(ended)),
            ),
            ended_tone: lines
                .iter()
                .find(|line| line.name == "exit status")
                .map_or("warning", |line| tone(line.tone)),
            started: clock.utc(case.gate_ns()),
            missing: subject.missing.as_deref().map(escape),
            verdicts: explanation
                .diagnoses
                .iter()
                .map(|one| verdict(one, clock))
                .collect(),
            unavailable: explanation
                .unavailable
                .iter()
                .map(|one| (escape(&one.what), escape(&one.because)))
                .collect(),
            facts: named(lines),
            lists: lists(subject),
            picture: Picture::of(case, clock, lanes, events),
            charts: if drawn {
                Chart::both(memory, case, clock)
            } else {
                vec![]
            },
            memory_note: memory_note(memory),
            processes,
            processes_note,
            events_note: events_note(events),
            rows_note: (left_out > 0).then(|| {
                format!(
                    "This table has {} rows: {} more events are in the file and are shown with \
                     JavaScript.",
                    count(rows.len() as u64),
                    count(left_out)
                )
            }),
            printed_note: (printed.1 > 0).then(|| {
                format!(
                    "Printed are {} of them: those that matter most. {} more are in the file.",
                    count(plain),
                    count(printed.1)
                )
            }),
            rows,
            version: env!("CARGO_PKG_VERSION"),
            jail,
            command,
        }
    }

    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        self.write_into(out)
    }
}

/// The data, the script that reads them, and the end.
pub(super) fn close(out: &mut impl Write, data: &Data<'_>) -> io::Result<()> {
    out.write_all(b"<script type=\"application/json\" id=\"data\">")?;
    data.write(out)?;
    out.write_all(b"</script>\n<script>")?;
    out.write_all(SCRIPT.as_bytes())?;
    out.write_all(b"</script>\n</body>\n</html>\n")
}

/// What the page may do: run its own two scripts, apply its own style, and nothing else.
fn policy() -> String {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
    format!(
        "default-src 'none'; script-src 'sha256-{}' 'sha256-{}'; style-src 'sha256-{}'; img-src data:; \
         base-uri 'none'; form-action 'none'",
        hash(EARLY),
        hash(SCRIPT),
        hash(STYLE)
    )
}

pub(super) fn tone(tone: Tone) -> &'static str {
    match tone {
        Tone::Bad => "bad",
        Tone::Warning => "warning",
        Tone::Plain => "plain",
        Tone::Launcher => "launcher",
        Tone::Dim => "dim",
    }
}

fn verdict(one: &Diagnosis, clock: Clock) -> Verdict {
    let mut consequences = Vec::new();
    // Bounded: diagnoses are nested as deep as their causes, and each is held by one other.
    let mut stack: Vec<(u32, &Diagnosis)> =
        one.consequences.iter().rev().map(|one| (0, one)).collect();
    while let Some((depth, next)) = stack.pop() {
        let mut alone = next.clone();
        alone.consequences.clear();
        consequences.push((depth.min(DEEPEST), verdict(&alone, clock)));
        stack.extend(
            next.consequences
                .iter()
                .rev()
                .map(|one| (depth.saturating_add(1), one)),
        );
    }
    Verdict {
        id: escape(&one.id),
        text: escape(&one.fact),
        cause: one.cause.as_ref().map(|cause| Cause {
            label: cause.label(),
            text: escape(&cause.sentence()),
        }),
        sure: match one.id.as_str() {
            "no-finding" => "",
            _ => one.sure().word(),
        },
        tone: match one.rank {
            diagnose::Rank::Story => "plain",
            diagnose::Rank::Problem => "bad",
            diagnose::Rank::Note | diagnose::Rank::Evidence => "warning",
        },
        when: clock.relative(one.time_ns),
        utc: clock.utc(one.time_ns),
        weakened: one.weakened.iter().map(|why| escape(why)).collect(),
        evidence: one
            .evidence
            .iter()
            .map(|fact| Fact {
                seq: fact.seq,
                when: fact
                    .time_ns
                    .map_or_else(String::new, |time_ns| clock.relative(time_ns)),
                text: escape(&fact.shows),
            })
            .collect(),
        ruled_out: one
            .ruled_out
            .iter()
            .map(|other| (escape(&other.what), escape(&other.because)))
            .collect(),
        remedy: escape(&one.remedy),
        scenario: one.scenario.as_deref().map(escape),
        consequences,
    }
}

/// Lines with their names; one without a name belongs to the one above.
fn named(lines: Vec<Line>) -> Vec<(&'static str, &'static str, String)> {
    lines
        .into_iter()
        .map(|line| (line.name, tone(line.tone), line.value))
        .collect()
}

fn lists(subject: &Subject) -> Vec<List> {
    let header = &subject.case.header;
    let jail = &header.jail;
    let pairs = |map: &std::collections::BTreeMap<String, String>| -> Vec<(String, String)> {
        map.iter()
            .map(|(name, value)| (escape(name), escape(value)))
            .collect()
    };
    let numbered = |steps: &[String]| -> Vec<(String, String)> {
        (1..)
            .zip(steps)
            .map(|(number, step): (u32, _)| (number.to_string(), escape(step)))
            .collect()
    };
    let rlimits = jail.rlimits.iter().map(|(name, value)| {
        let value = value.map_or_else(|| "unlimited".to_owned(), count);
        (escape(name), value)
    });
    let lacks = header.host.lacks.iter().map(|lack| {
        let name = format!("{} (Linux {})", escape(&lack.feature), escape(&lack.since));
        (name, escape(&lack.lost))
    });
    [
        ("limits as written", pairs(&jail.limits)),
        ("resource limits of PID 1", rlimits.collect()),
        ("environment of runtimes", pairs(&jail.environment)),
        ("how the jail was built", numbered(header.plan())),
        ("what this kernel lacks", lacks.collect()),
    ]
    .into_iter()
    .filter(|(_, items)| !items.is_empty())
    .map(|(title, items)| List { title, items })
    .collect()
}

fn memory_note(memory: &Memory) -> String {
    let samples = plural(memory.total as u64, "sample", "samples");
    let shown = match memory.at_ns.len() {
        shown if shown < memory.total => {
            format!(", of which {} are here", count(shown as u64))
        }
        _ => String::new(),
    };
    let uncharged = memory.usage.iter().all(|size| *size == 0);
    if memory.is_drawn() && uncharged {
        format!(
            "{samples}{shown}. The jail has no memory cgroup of its own: these are sums over its largest \
             processes, in which shared pages count more than once."
        )
    } else if memory.is_drawn() {
        format!("{samples}{shown}. What grows and goes between two of them is not in the curve.")
    } else {
        format!("{samples}: there is no curve to draw.")
    }
}

/// How many events there are, and which of them the file doesn't have.
fn events_note(events: &Events) -> String {
    let held = events.chosen.held().len() as u64;
    if held == events.total {
        return format!("All {} of the trace.", plural(held, "event", "events"));
    }
    let share = |Share { seen, one_in }: Share, name: &str| match one_in {
        1 => format!("all {} {name}", count(seen)),
        0 => format!("none of the {} {name}", count(seen)),
        one_in => format!("one in {one_in} of the {} {name}", count(seen)),
    };
    format!(
        "{} of the trace's {} events: {}, {}, {}. {} are left out.",
        count(held),
        count(events.total),
        share(
            events.chosen.share(Rank::Cited),
            "that verdicts cite or the launcher tells"
        ),
        share(events.chosen.share(Rank::Plain), "others"),
        share(events.chosen.share(Rank::Minor), "minor ones"),
        count(events.total - held)
    )
}
