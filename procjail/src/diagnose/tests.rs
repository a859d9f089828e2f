//! The engine on the story of [`crate::event::story`], and on traces that lack something.

use proptest::prelude::*;

use super::fixture::{Scene, inside};
use super::*;
use crate::event::story;
use crate::trace::Header;
use crate::trace::Output;

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

#[test]
fn a_file_of_another_root_is_not_blamed() {
    let run = |exists| {
        let chroot = inside(1, "chroot");
        let mut scene = Scene::new(&["chroot", "rootfs", "/bin/sh"]);
        let file = crate::event::ExecutedFile {
            form: crate::event::FileForm::Elf,
            interpreter: Some("/lib64/ld.so".to_owned()),
            interpreter_exists: Some(exists),
            executable: Some(true),
            ..crate::event::ExecutedFile::default()
        };
        scene
            .exec_failed(2, &chroot, "/bin/sh", libc::ENOENT, Some(file))
            .end(3, &chroot, 127 << 8);
        let first = scene.found().swap_remove(0);
        assert!(first.fact.contains("/bin/sh"), "{}", first.fact);
        (first.id, first.confidence)
    };
    // PID 1's root has it and its loader, so it was looked for in another one.
    assert_eq!(
        run(true),
        ("exit-127-not-found".to_owned(), Confidence::Likely)
    );
    assert_eq!(
        run(false),
        ("exec-interpreter-missing".to_owned(), Confidence::Proven)
    );
}
