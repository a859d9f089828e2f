//! Zombies and orphans that no scenario plays, and what only looks like them.

use crate::diagnose::Confidence;
use crate::diagnose::fixture::{Scene, inside, launcher, outside};
use crate::event::Exit;

fn has(scene: &Scene, id: &str) -> bool {
    scene.ids().iter().any(|found| found == id)
}

/// A child of PID 1's that ends at 10 ms and is never collected; PID 1 ends then.
fn neglected(pid1_ends_ms: u64) -> Scene {
    let (pid1, child) = (inside(1, "app"), inside(2, "curl"));
    let mut scene = Scene::new(&["/bin/app"]);
    scene
        .fork(1, &pid1, &child)
        .exit_to(10, &child, &pid1, 0)
        .notice(10, &child, &pid1)
        .end(pid1_ends_ms, &pid1, 0);
    scene
}

#[test]
fn a_zombie_has_to_last() {
    assert!(has(&neglected(5_000), "zombie-pid1-not-reaping"));
    assert!(!has(&neglected(500), "zombie-pid1-not-reaping"));
    let mut collected = neglected(5_000);
    collected.reap(4_000, inside(1, "app"), inside(2, "curl"));
    assert!(!has(&collected, "zombie-pid1-not-reaping"));
}

#[test]
fn a_child_that_is_discarded_is_no_zombie_though_the_news_are_late() {
    let (pid1, child) = (inside(1, "app"), inside(2, "curl"));
    let mut scene = Scene::new(&["/bin/app"]);
    scene
        .fork(1, &pid1, &child)
        .exit_to(10, &child, &pid1, 0)
        .free(3_000, &child)
        .end(2_900, &pid1, 0);
    assert!(!has(&scene, "zombie-pid1-not-reaping"));
}

#[test]
fn zombies_are_counted_and_extrapolated() {
    let pid1 = inside(1, "app");
    let mut scene = Scene::new(&["/bin/app"]);
    for number in 0..10 {
        let child = inside(2 + number, "curl");
        let ms = u64::from(number) * 6_000;
        scene
            .fork(ms, &pid1, &child)
            .exit_to(ms + 10, &child, &pid1, 0)
            .notice(ms + 10, &child, &pid1);
    }
    scene.end(60_000, &pid1, 0);
    let found = scene.verdict("zombie-pid1-not-reaping");
    assert!(
        found
            .verdict()
            .contains("10 zombies (10 curl) under it, 10 more a minute")
    );
}

#[test]
fn who_is_traced_is_not_its_parents_fault() {
    let (pid1, child, tracer) = (inside(1, "app"), inside(2, "worker"), inside(3, "strace"));
    let mut scene = Scene::new(&["/bin/app"]);
    scene
        .fork(1, &pid1, &child)
        .fork(1, &pid1, &tracer)
        .exit_to(10, &child, &pid1, 0)
        .notice(10, &child, &tracer)
        .end(5_000, &pid1, 0);
    assert!(has(&scene, "zombie-traced"));
    assert!(!has(&scene, "zombie-pid1-not-reaping"));
}

#[test]
fn a_main_thread_may_end_a_moment_before_the_others() {
    let pid1 = inside(1, "app");
    let scene = |ms: u64| {
        let mut scene = Scene::new(&["/bin/app"]);
        scene
            .exit_with(10, &pid1, outside(9, "x"), 0, |exit: &mut Exit| {
                exit.process = false
            })
            .end(10 + ms, &pid1, 0);
        has(&scene, "zombie-leader-live-threads")
    };
    assert!(scene(2_000));
    assert!(!scene(20));
}

#[test]
fn an_orphan_lives_on_for_a_while() {
    let (pid1, maker, orphan) = (inside(1, "app"), inside(2, "sh"), inside(3, "sleep"));
    let scene = |ms: u64| {
        let mut scene = Scene::new(&["/bin/app"]);
        scene
            .fork(1, &pid1, &maker)
            .fork(2, &maker, &orphan)
            .exit_to(5, &maker, &pid1, 0)
            .reap(5, &pid1, &maker)
            .exit_to(5 + ms, &orphan, &pid1, 0)
            .reap(6 + ms, &pid1, &orphan)
            .end(10_000, &pid1, 0);
        scene
    };
    assert!(has(&scene(3_000), "orphan-outlives-parent"));
    assert!(!has(&scene(300), "orphan-outlives-parent"));
}

#[test]
fn what_entered_from_outside_is_a_session_and_no_orphan() {
    let (pid1, nsenter) = (inside(1, "app"), outside(900, "nsenter"));
    let (entry, left) = (inside(2, "sh"), inside(3, "sleep"));
    let mut scene = Scene::new(&["/bin/app"]);
    scene
        .fork(1, &nsenter, &entry)
        .fork(2, &entry, &left)
        .exit_to(5, &entry, &nsenter, 0)
        .free(9, &entry)
        .end(5_000, &pid1, 0)
        .exit_to(5_001, &left, &pid1, 9);
    assert!(has(&scene, "orphan-exec-session"));
    assert!(!has(&scene, "orphan-outlives-parent"));
    assert!(!has(&scene, "zombie-outside-parent"));
}

/// Somebody enters the jail and collects what it started there as the jail's own end tells, which comes
/// `held_ms` after PID 1's; the kernel tells of the release at `freed_ms`, if ever.
fn entered(freed_ms: Option<u64>, pid1_ends_ms: u64, held_ms: u64) -> Scene {
    let (pid1, nsenter, entry) = (inside(1, "app"), outside(900, "nsenter"), inside(2, "sh"));
    let mut scene = Scene::new(&["/bin/app"]);
    scene
        .fork(1, &nsenter, &entry)
        .exit_to(5, &entry, &nsenter, 0)
        .exit_to(pid1_ends_ms, &pid1, launcher(), 0)
        .jail_exited(pid1_ends_ms + held_ms, 0);
    if let Some(ms) = freed_ms {
        scene.free(ms, &entry);
    }
    scene
}

#[test]
fn late_news_of_a_release_are_no_zombie() {
    let id = "zombie-outside-parent";
    // The end of PID 1 was not held up: it had been collected, whenever the kernel says so.
    assert!(!has(&entered(None, 5_000, 0), id));
    assert!(!has(&entered(Some(5_001), 5_000, 0), id));
    assert!(!has(&entered(Some(60_000), 5_000, 0), id));
    // A busy machine may be as late as that.
    assert!(!has(&entered(Some(4_000), 20_000, 0), id));
    let long = entered(Some(15_000), 20_000, 0).verdict(id);
    assert_eq!(long.confidence, Confidence::Likely);
    assert!(
        long.verdict().contains("did not collect it for 14.995 s"),
        "{}",
        long.verdict()
    );
}

#[test]
fn a_zombie_that_pid_1_waits_for_is_proven() {
    let id = "zombie-outside-parent";
    let held = entered(Some(3_001), 1_000, 2_000).verdict(id);
    assert_eq!(held.confidence, Confidence::Proven);
    assert!(
        held.verdict()
            .contains("kept PID 1 from ending for 2.000 s"),
        "{}",
        held.verdict()
    );
    // It waited for another one that was slow to die.
    let mut slow = entered(None, 1_000, 2_000);
    let other = inside(3, "worker");
    slow.exit_to(2_990, &other, inside(1, "app"), 9);
    assert!(!has(&slow, id));
    // It was collected before the end was held up.
    assert!(!has(&entered(Some(900), 1_000, 2_000), id));
}
