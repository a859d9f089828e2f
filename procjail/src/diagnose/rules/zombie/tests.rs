//! Zombies and orphans that no scenario plays, and what only looks like them.

use crate::diagnose::fixture::{Scene, inside, launcher, outside, sent};
use crate::diagnose::{Confidence, Rank};
use crate::event::{
    Disposition, Exit, LeakCheck, SignalCode, SignalGenerated, SignalResult, Task, What,
};

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
fn what_pid_1_leaves_while_it_stops_is_no_neglect() {
    let asked = |ms: u64| {
        let mut scene = neglected(2_500);
        let pid1 = inside(1, "app");
        scene.send(ms, outside(7, "kill"), sent(libc::SIGTERM, &pid1));
        has(&scene, "zombie-pid1-not-reaping")
    };
    assert!(!asked(5));
    assert!(asked(2_000));
}

#[test]
fn what_the_program_before_an_exec_collected_does_not_count() {
    let (pid1, setup) = (inside(1, "app"), inside(3, "mkdir"));
    let told = |executed_ms: u64| {
        let mut scene = neglected(5_000);
        scene
            .fork(2, &pid1, &setup)
            .exit_to(3, &setup, &pid1, 0)
            .reap(4, &pid1, &setup)
            .exec(executed_ms, &pid1, &["app"]);
        scene.verdict("zombie-pid1-not-reaping").fact
    };
    assert!(told(1).contains("It collected 1 other child"));
    assert!(!told(6).contains("other child"));
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
fn zombies_are_counted_and_not_extrapolated() {
    let pid1 = inside(1, "app");
    let scene = |apart_ms: u64| {
        let mut scene = Scene::new(&["/bin/app"]);
        for number in 0..10 {
            let child = inside(2 + number, "curl");
            let ms = u64::from(number) * apart_ms;
            scene
                .fork(ms, &pid1, &child)
                .exit_to(ms + 10, &child, &pid1, 0)
                .notice(ms + 10, &child, &pid1);
        }
        scene.end(60_000, &pid1, 0);
        scene.verdict("zombie-pid1-not-reaping").fact
    };
    let fact = scene(6_000);
    assert!(
        fact.contains("10 zombies (10 curl) within 54.000 s: children of its own"),
        "{fact}"
    );
    let burst = scene(3);
    assert!(burst.contains("10 zombies (10 curl): children"), "{burst}");
}

/// A worker ends; the kernel tells the process that it gave it to, or that traced it.
fn told_elsewhere(change: impl FnOnce(&mut Exit), parent_ends_ms: Option<u64>) -> Scene {
    let (pid1, parent) = (inside(1, "app"), inside(2, "pool"));
    let (child, other) = (inside(3, "worker"), inside(4, "strace"));
    let mut scene = Scene::new(&["/bin/app"]);
    scene
        .fork(1, &pid1, &parent)
        .fork(1, &parent, &child)
        .fork(1, &pid1, &other)
        .exit_with(10, &child, &parent, 9, change);
    let told = match parent_ends_ms {
        Some(ms) => {
            scene
                .exit_to(ms, &parent, &pid1, 9)
                .reap(ms, &pid1, &parent);
            &pid1
        }
        None => &other,
    };
    scene.notice(12, &child, told).end(5_000, &pid1, 0);
    scene
}

#[test]
fn a_tracer_is_known_by_the_kernels_word_alone() {
    let traced = told_elsewhere(|exit| exit.tracer = Some(inside(4, "strace")), None);
    let found = traced.verdict("zombie-traced");
    assert!(
        found.fact.contains("strace (PID 4) traced it"),
        "{}",
        found.fact
    );
    assert!(!has(&traced, "zombie-parent-not-reaping"));
    // A SIGCHLD elsewhere is no proof of one, and whose the zombie is isn't known then.
    let unknown = told_elsewhere(|_| (), None);
    for id in [
        "zombie-traced",
        "zombie-parent-not-reaping",
        "zombie-pid1-not-reaping",
    ] {
        assert!(!has(&unknown, id), "{id}");
    }
}

#[test]
fn one_that_died_with_its_parent_is_pid_1s() {
    let scene = told_elsewhere(|_| (), Some(11));
    assert!(!has(&scene, "zombie-traced") && !has(&scene, "zombie-parent-not-reaping"));
    let found = scene.verdict("zombie-pid1-not-reaping");
    assert!(
        found.fact.contains("1 zombie (1 worker): an orphan"),
        "{}",
        found.fact
    );
    assert!(
        found.fact.contains("It collected 1 other child."),
        "{}",
        found.fact
    );
}

#[test]
fn a_handler_that_waits_once_loses_those_that_end_together() {
    let (pid1, first, second) = (inside(1, "app"), inside(2, "curl"), inside(3, "curl"));
    let mut scene = Scene::new(&["/bin/app"]);
    let pending = SignalGenerated {
        result: SignalResult::AlreadyPending,
        disposition: Disposition::Handler,
        sender_exiting: true,
        code: SignalCode {
            number: libc::CLD_EXITED,
            name: "CLD_EXITED".to_owned(),
        },
        ..sent(libc::SIGCHLD, &pid1)
    };
    scene
        .fork(1, &pid1, &first)
        .fork(1, &pid1, &second)
        .exit_to(10, &first, &pid1, 0)
        .notice(10, &first, &pid1)
        .exit_to(10, &second, &pid1, 0)
        .send(10, &second, pending)
        .reap(11, &pid1, &first)
        .end(5_000, &pid1, 0);
    let found = scene.verdict("zombie-pid1-not-reaping");
    assert_eq!(found.confidence, Confidence::Proven);
    let cause = found.cause.expect("a cause");
    assert!(cause.text.contains("merge"), "{}", cause.text);
    assert_eq!(cause.confidence, Confidence::Likely);
    assert_eq!(cause.alternatives.len(), 2, "{:?}", cause.alternatives);
}

#[test]
fn workers_that_do_the_same_are_one_finding() {
    let pid1 = inside(1, "app");
    let mut scene = Scene::new(&["/bin/app"]);
    for number in 0..5 {
        let (parent, child) = (inside(10 + number, "pool"), inside(20 + number, "curl"));
        scene
            .fork(1, &pid1, &parent)
            .fork(1, &parent, &child)
            .exit_to(10, &child, &parent, 0)
            .notice(10, &child, &parent);
    }
    scene.end(5_000, &pid1, 0);
    let ids = scene.ids();
    let found = ids.iter().filter(|id| *id == "zombie-parent-not-reaping");
    assert_eq!(found.count(), 1);
    let fact = scene.verdict("zombie-parent-not-reaping").fact;
    assert!(
        fact.contains("and 2 more did not collect 5 dead children (5 curl)"),
        "{fact}"
    );
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

#[test]
fn who_joined_the_cgroup_first_entered_from_outside_all_the_same() {
    let pid1 = inside(1, "app");
    // In the jail's cgroup, and in no PID namespace of it: nsenter, or a runtime's first process.
    let nsenter = Task {
        in_jail: true,
        ..outside(900, "nsenter")
    };
    let (entry, left) = (inside(2, "sh"), inside(3, "sleep"));
    let scene = |left_ends_ms: u64, status: i32| {
        let mut scene = Scene::new(&["/bin/app"]);
        scene
            .fork(1, &nsenter, &entry)
            .fork(2, &entry, &left)
            .exit_to(5, &entry, &nsenter, 0)
            .reap(6, &nsenter, &entry);
        if left_ends_ms < 5_000 {
            scene
                .exit_to(left_ends_ms, &left, &pid1, status)
                .reap(left_ends_ms, &pid1, &left);
        }
        scene.end(5_000, &pid1, 0);
        if left_ends_ms >= 5_000 {
            scene.exit_to(left_ends_ms, &left, &pid1, status);
        }
        scene.verdict("orphan-exec-session")
    };
    let killed = scene(5_001, 9);
    assert!(
        killed
            .fact
            .contains("nsenter (host PID 900) ran in the jail from outside"),
        "{}",
        killed.fact
    );
    assert_eq!(killed.rank, Rank::Problem);
    assert_eq!(scene(3_000, 0).rank, Rank::Note, "it ended by itself");
}

#[test]
fn a_session_that_runs_until_the_end_is_a_note() {
    let (pid1, nsenter, entry) = (inside(1, "app"), outside(900, "nsenter"), inside(2, "sh"));
    let mut scene = Scene::new(&["/bin/app"]);
    scene
        .fork(1, &nsenter, &entry)
        .end(5_000, &pid1, 0)
        .exit_to(5_001, &entry, &nsenter, 9);
    let found = scene.verdict("orphan-exec-session");
    assert_eq!(found.rank, Rank::Note);
    assert!(
        found.fact.contains("was still running when PID 1 ended"),
        "{}",
        found.fact
    );
}

#[test]
fn who_is_in_the_pid_namespace_alone_was_not_watched() {
    let mut scene = Scene::new(&["/bin/app"]);
    let check = LeakCheck {
        entered: vec![inside(7, "sh"), inside(8, "sleep")],
        ..LeakCheck::default()
    };
    scene
        .end(5_000, inside(1, "app"), 0)
        .at(5_002, launcher(), What::LeakCheck(check));
    let found = scene.verdict("orphan-exec-session");
    assert_eq!(
        (found.rank, found.confidence),
        (Rank::Note, Confidence::Proven)
    );
    assert!(
        found.fact.contains(
            "sh (PID 7) and 1 other process ran in the jail's PID namespace but outside its cgroup"
        ),
        "{}",
        found.fact
    );
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
