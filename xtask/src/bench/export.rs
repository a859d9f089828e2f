//! Exports of traces of a million events, by signals alone and by short-lived processes: how long each form takes,
//! and how much memory. `show` reads and writes the same file, and is what they are compared with.

use std::path::Path;

use anyhow::{Context, ensure};
use procjail::trace;
use procjail_tests::collector::Collector;

use super::measure::{Clock, Contestant, bar, race, table};
use crate::workspace::{Profile, build_optimised};

/// Programs of the storms, and how many pieces make a million events.
const STORMS: [(&str, u64); 2] = [("signal-storm", 500_000), ("fork-storm", 170_000)];
const EVENTS: u64 = 1_000_000;

const FORMS: [&str; 5] = ["csv", "html", "json", "markdown", "perfetto"];

/// Longest time of an export, nanoseconds, and most memory, bytes.
const LONGEST_NS: f64 = 10e9;
const MOST_BYTES: u64 = 1_000_000_000;

/// Measures and prints; whether the bars are met.
pub fn run(rounds: usize) -> anyhow::Result<bool> {
    let (procjail, misbehave) = build_optimised(Profile::Dist)?;
    let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
    let mut met = true;
    for (storm, pieces) in STORMS {
        let file = directory.path().join("trace.jsonl");
        let events = record(&procjail, &misbehave, storm, pieces, &file)?;
        met &= export(&procjail, storm, events, rounds, &file)?;
    }
    Ok(met)
}

/// Traces a storm; how many events there are.
fn record(
    procjail: &Path,
    misbehave: &Path,
    storm: &str,
    pieces: u64,
    file: &Path,
) -> anyhow::Result<u64> {
    let (procjail, misbehave) = (
        procjail.display().to_string(),
        misbehave.display().to_string(),
    );
    let (file_name, pieces) = (file.display().to_string(), pieces.to_string());
    let words = [
        &procjail, "trace", "--quiet", "-o", &file_name, "--", &misbehave, storm, &pieces,
    ];
    Contestant::new(storm, Clock::Whole, &words).run()?;
    let mut reader = trace::open(file)?;
    let events = reader.by_ref().map_while(Result::ok).count() as u64;
    ensure!(
        reader.footer().is_some() && events >= EVENTS,
        "the trace of {storm} has {events} events"
    );
    Ok(events)
}

fn export(
    procjail: &Path,
    storm: &str,
    events: u64,
    rounds: usize,
    file: &Path,
) -> anyhow::Result<bool> {
    let (procjail, input) = (procjail.display().to_string(), file.display().to_string());
    let output = file.with_extension("export").display().to_string();
    let collector = Collector::blind();
    let to = |form: &str, name: &str, target: &str| {
        let words = [
            &procjail, "export", &input, "--to", form, "-o", target, "--force",
        ];
        Contestant::new(name, Clock::Whole, &words)
    };
    let mut contestants = vec![Contestant::new(
        "show --format json",
        Clock::Whole,
        &[
            "sh",
            "-c",
            "\"$0\" show \"$1\" --format json >\"$2\"",
            &procjail,
            &input,
            &output,
        ],
    )];
    contestants.extend(FORMS.iter().map(|form| to(form, form, &output)));
    contestants.push(to("otlp", "otlp over HTTP", &collector.http()));
    contestants.push(to("otlp", "otlp over gRPC", &collector.grpc()));
    race(&mut contestants, rounds);

    println!("{storm}: {events} events, {rounds} rounds");
    table(&contestants, "s", 1e9);
    let mut met = true;
    for one in contestants.iter().skip(1) {
        met &= bar(
            &format!(
                "{storm} to {}: {:.1} s of {:.0} s, {} MB of {} MB",
                one.name,
                one.median() / 1e9,
                LONGEST_NS / 1e9,
                one.peak_bytes / 1_000_000,
                MOST_BYTES / 1_000_000
            ),
            one.refusal.is_none() && one.median() <= LONGEST_NS && one.peak_bytes <= MOST_BYTES,
        );
    }
    Ok(met)
}
