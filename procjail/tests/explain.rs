//! The rules on recorded traces: each scenario's trace gives the explanation that was looked at and
//! committed, and no look-alike's.
//!
//! `cargo xtask record` records the traces again; `INSTA_UPDATE=always cargo test --test explain` then
//! accepts what they explain, which is to be read before it is committed.

use std::path::Path;

use procjail::diagnose::{Case, Diagnosis, Explanation, explain};
use procjail::lab;
use procjail::render::{Detail, Look, explanation};
use procjail::trace;

fn explained(path: &Path) -> Explanation {
    let mut reader = trace::open(path).expect("a trace");
    let (mut case, damage) = Case::read(&mut reader).expect("a case");
    assert!(damage.is_none(), "{damage:?}");
    case.reported = scenario_of(path).reported();
    explain(&case)
}

fn ids<'a>(diagnoses: &'a [Diagnosis], found: &mut Vec<&'a str>) {
    for one in diagnoses {
        found.push(&one.id);
        ids(&one.consequences, found);
    }
}

/// The scenario that a trace was recorded of.
fn scenario_of(path: &Path) -> &'static lab::Scenario {
    let name = path.file_name().expect("a name").to_string_lossy();
    let id = name.strip_suffix(".jsonl.zst").expect("a recorded trace");
    lab::find(id).unwrap_or_else(|| panic!("there is no scenario {id} any more"))
}

#[test]
fn recorded_traces_are_explained_as_before() {
    insta::glob!("traces/*.jsonl.zst", |path| {
        let text = explanation(&explained(path), Detail::All, &Look::default());
        insta::assert_snapshot!(text);
    });
}

#[test]
fn each_is_found_and_its_look_alikes_are_not() {
    let mut seen = 0;
    insta::glob!("traces/*.jsonl.zst", |path| {
        let scenario = scenario_of(path);
        let explanation = explained(path);
        let mut found = Vec::new();
        ids(&explanation.diagnoses, &mut found);
        for id in std::iter::once(&scenario.id).chain(scenario.also) {
            assert!(
                found.contains(id),
                "{}: {id} is not in {found:?}",
                scenario.id
            );
        }
        for id in scenario.never {
            assert!(!found.contains(id), "{}: {id} is in {found:?}", scenario.id);
        }
        seen += 1;
    });
    assert!(seen > 0, "no traces");
}
