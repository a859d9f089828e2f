//! The engine on the story of [`crate::event::story`], and on traces that lack something.

use proptest::prelude::*;

use super::fixture::{Scene, inside};
use super::*;
use crate::event::story;
use crate::render::Output;
use crate::trace::Header;

/// A case of these events.
fn case(
    header: &Header,
    events: &[crate::event::Event],
    footer: Option<&crate::trace::Footer>,
) -> Case {
    let mut builder = Builder::new();
    builder.header(header).expect("a builder takes everything");
    for event in events {
        builder.event(event).expect("a builder takes everything");
    }
    builder.footer(footer).expect("a builder takes everything");
    builder.finish().expect("there was a header")
}

#[test]
fn rules_have_distinct_ids() {
    let mut ids: Vec<_> = rules::all().map(|rule| rule.id).collect();
    ids.sort_unstable();
    let count = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), count);
}

#[test]
fn rules_have_alternatives() {
    for rule in rules::all() {
        assert!(!rule.alternatives.is_empty(), "{}", rule.id);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A file may claim that processes made each other in a circle.
    #[test]
    fn processes_are_a_tree_whatever_a_file_claims(
        forks in prop::collection::vec((1_u32..8, 1_u32..8), 0..40),
        ends in prop::collection::vec((1_u32..8, 1_u32..8), 0..20),
    ) {
        let mut scene = Scene::bare();
        for (ms, (parent, child)) in (1..).zip(&forks) {
            scene.fork(ms, inside(*parent, "one"), inside(*child, "other"));
        }
        for (ms, (task, parent)) in (100..).zip(&ends) {
            scene.exit_to(ms, inside(*task, "one"), inside(*parent, "other"), 9);
            scene.reap(ms, inside(*parent, "other"), inside(*task, "one"));
        }
        let case = scene.case();
        for (id, _) in case.processes() {
            prop_assert!(!case.descendants(id).contains(&id));
            prop_assert!(!case.is_below(id, id));
        }
        prop_assert!(!explain(&case).diagnoses.is_empty());
    }
}

#[test]
fn an_empty_trace_is_no_reason_to_panic() {
    let header = story::header_line();
    let explanation = explain(&case(&header, &[], None));
    assert_eq!(
        explanation.diagnoses.last().map(|one| one.id.as_str()),
        Some("trace-cut-off")
    );
}
