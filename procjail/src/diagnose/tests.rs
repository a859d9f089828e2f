//! The engine on the story of [`crate::event::story`], and on traces that lack something.

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
fn an_empty_trace_is_no_reason_to_panic() {
    let header = story::header_line();
    let explanation = explain(&case(&header, &[], None));
    assert_eq!(
        explanation.diagnoses.last().map(|one| one.id.as_str()),
        Some("no-finding")
    );
}
