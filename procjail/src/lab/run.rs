//! Running a scenario: a jail, a trace, an explanation, and whether it is the right one.

use std::path::Path;

use super::scratch::Scratch;
use super::{Failure, Scenario, Stage};
use crate::diagnose::{self, Case, Diagnosis, Explanation};
use crate::trace;

/// A scenario that was run.
#[derive(Debug)]
pub struct Ran {
    /// What the trace explains.
    pub explanation: Explanation,
    /// Whether that is what it should.
    pub verdict: Verdict,
}

/// Whether the explanation is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All that must be found was, and nothing that must not.
    Right,
    /// What is wrong, one sentence each.
    Wrong(Vec<String>),
}

/// Runs a scenario; the trace is left at `keep`, if that is wanted.
///
/// # Errors
///
/// The scenario could not be played; the machine lacks what it needs, or it took too long.
pub fn run(scenario: &'static Scenario, keep: Option<&Path>) -> Result<Ran, Failure> {
    for need in scenario.needs {
        need.check()?;
    }
    let scratch = Scratch::make(scenario.id)?;
    // A name that no scenario uses.
    let own = scratch.path().join("procjail-trace.jsonl");
    let trace = keep.unwrap_or(&own);
    let mut stage = Stage::new(scenario, scratch.path(), trace);
    let outcome = (scenario.outside)(&mut stage);
    let ended = stage.end();
    outcome?;
    ended?;
    let explanation = explain(trace, scenario)?;
    let verdict = judge(scenario, &explanation);
    Ok(Ran {
        explanation,
        verdict,
    })
}

/// Explains a trace file.
fn explain(path: &Path, scenario: &Scenario) -> Result<Explanation, Failure> {
    let wrong = |error: &dyn std::fmt::Display| Failure::Trace(error.to_string());
    let mut reader = trace::open(path).map_err(|error| wrong(&error))?;
    let (mut case, damage) = Case::read(&mut reader).map_err(|error| wrong(&error))?;
    if let Some(error) = damage {
        return Err(wrong(&error));
    }
    case.reported = scenario.reported();
    Ok(diagnose::explain(&case))
}

fn judge(scenario: &Scenario, explanation: &Explanation) -> Verdict {
    let mut ids = Vec::new();
    collect(&explanation.diagnoses, &mut ids);
    let mut wrong = Vec::new();
    for id in std::iter::once(&scenario.id).chain(scenario.also) {
        if !ids.iter().any(|found| found == id) {
            wrong.push(format!("{id} was not found"));
        }
    }
    for id in scenario.never {
        if ids.iter().any(|found| found == id) {
            wrong.push(format!("{id} was found, which only looks like it"));
        }
    }
    match wrong.is_empty() {
        true => Verdict::Right,
        false => Verdict::Wrong(wrong),
    }
}

fn collect<'a>(diagnoses: &'a [Diagnosis], ids: &mut Vec<&'a str>) {
    for one in diagnoses {
        ids.push(&one.id);
        collect(&one.consequences, ids);
    }
}
