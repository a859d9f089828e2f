//! The rules on recorded traces: each scenario's trace gives the explanation that was looked at and
//! committed, and no look-alike's.
//!
//! `cargo xtask record` records the traces again; `INSTA_UPDATE=always cargo test --test explain` then
//! accepts what they explain, which is to be read before it is committed.

use std::path::Path;

use procjail::diagnose::{Case, Confidence, Diagnosis, Explanation, explain, rules};
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

/// Rules whose list is of a cause that some of their findings do not give.
const FACT_ALONE: &[&str] = &[
    "abrt-self",
    "exit-128n-by-program",
    "exit-own-code",
    "exit-status-laundered",
    "hang-coredump",
    "hang-d-state-fuse",
    "hang-d-state-nfs",
    "kill-after-grace",
    "oom-child-invisible",
    "oom-innocent-victim",
    "oom-kernel-memory",
    "oom-shmem-tmpfs",
    "term-blocked",
    "zombie-parent-not-reaping",
    "zombie-pid1-not-reaping",
];

#[test]
fn what_is_proven_excludes_all_of_its_rules_alternatives() {
    insta::glob!("traces/*.jsonl.zst", |path| {
        let explanation = explained(path);
        for one in explanation.all() {
            let alone = one.cause.is_none() && FACT_ALONE.contains(&one.id.as_str());
            let Some(rule) = rules::find(&one.id) else {
                continue;
            };
            if one.sure() != Confidence::Proven || alone {
                continue;
            }
            for what in rule.alternatives {
                assert!(
                    one.ruled_out.iter().any(|out| out.what == *what),
                    "{}: {} does not exclude {what}",
                    path.display(),
                    one.id
                );
            }
        }
    });
}
