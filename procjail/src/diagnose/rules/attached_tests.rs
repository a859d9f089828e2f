//! The rules on traces of what others started, which begin late and tell less.

use crate::diagnose::Confidence;
use crate::diagnose::fixture::{Scene, inside, outside, sent};
use crate::event::{
    DetachReason, Detached, Disposition, SignalGenerated, SignalResult, Task, What,
};

/// runc sends a signal that is ignored in PID 1.
fn ignored(scene: &mut Scene, ms: u64, pid1: &Task) {
    let signal = SignalGenerated {
        result: SignalResult::Ignored,
        disposition: Disposition::Ignore,
        ..sent(libc::SIGTERM, pid1)
    };
    scene.send(ms, outside(5001, "runc"), signal);
}

fn killed(scene: &mut Scene, ms: u64, pid1: &Task) {
    scene
        .signal(ms, outside(5002, "runc"), pid1, libc::SIGKILL, 0)
        .exit_to(ms, pid1, outside(4000, "containerd-shim"), libc::SIGKILL);
}

#[test]
fn times_are_those_of_the_process_not_of_the_attachment() {
    let (mut scene, pid1) = Scene::attached("app", &[]);
    scene.exit_to(100, &pid1, outside(4000, "containerd-shim"), 3 << 8);
    let one = scene.verdict("exited-by-itself");
    assert!(
        one.fact.contains("exited with 3 after 3.100 s"),
        "{}",
        one.fact
    );
    assert!(
        !format!("{one:?}").contains("procjail was not asked"),
        "{one:#?}"
    );
    assert!(one.remedy.contains("--failed-calls"), "{}", one.remedy);
}

#[test]
fn who_ignored_a_signal_before_may_have_inherited_that() {
    let (mut scene, pid1) = Scene::attached("app", &[libc::SIGTERM]);
    ignored(&mut scene, 10, &pid1);
    killed(&mut scene, 1010, &pid1);
    let one = scene.verdict("term-ignored-by-choice");
    assert!(!one.fact.contains("choice"), "{}", one.fact);
    assert_eq!(one.confidence, Confidence::Proven);
    assert_eq!(one.sure(), Confidence::ConsistentWith);
    assert!(
        one.ruled_out
            .iter()
            .all(|out| !out.because.contains("procjail"))
    );
    assert!(one.remedy.contains("(--stop-signal)"), "{}", one.remedy);
}

#[test]
fn a_stop_that_is_all_in_the_trace_is_as_sure_as_ever() {
    let (mut scene, pid1) = Scene::attached("app", &[]);
    let dropped = SignalGenerated {
        result: SignalResult::Ignored,
        unkillable: true,
        ..sent(libc::SIGTERM, &pid1)
    };
    scene.send(10, outside(5001, "runc"), dropped);
    killed(&mut scene, 1010, &pid1);
    let one = scene.verdict("term-ignored-pid1-default");
    assert_eq!(one.sure(), Confidence::Proven, "{one:#?}");
    // What came before the trace may have asked for a stop.
    let (mut scene, pid1) = Scene::attached("app", &[]);
    killed(&mut scene, 10, &pid1);
    let one = scene.verdict("term-not-sent");
    assert_eq!(one.sure(), Confidence::ConsistentWith, "{one:#?}");
}

#[test]
fn who_ignores_a_signal_since_did_so_by_choice() {
    let (mut scene, pid1) = Scene::attached("app", &[]);
    ignored(&mut scene, 10, &pid1);
    killed(&mut scene, 1010, &pid1);
    let one = scene.verdict("term-ignored-by-choice");
    assert_eq!(one.sure(), Confidence::Proven, "{one:#?}");
    let shown = one
        .evidence
        .iter()
        .any(|shown| shown.shows.contains("when procjail attached"));
    assert!(shown, "{one:#?}");
}

#[test]
fn what_a_found_process_made_inherited_it_from_that() {
    let (mut scene, pid1) = Scene::attached("sh", &[libc::SIGTERM]);
    let sets = |what: &mut What| {
        let ignored = vec![crate::event::Signal::new(libc::SIGTERM)];
        let sets = crate::event::SignalSets {
            ignored,
            caught: Vec::new(),
            blocked: Vec::new(),
        };
        if let What::Exec(exec) = what {
            exec.signals = Some(sets);
        }
    };
    scene.exec(5, &pid1, &["app"]);
    scene.change(|_, what| sets(what));
    ignored(&mut scene, 10, &pid1);
    killed(&mut scene, 1010, &pid1);
    let one = scene.verdict("term-ignored-inherited");
    assert!(
        one.cause
            .is_some_and(|cause| cause.text.contains("sh (PID 1)"))
    );
}

#[test]
fn a_signal_before_the_look_at_what_runs_was_no_signal_before_an_exec() {
    let (mut scene, pid1) = Scene::attached("app", &[]);
    let mut early = sent(libc::SIGTERM, &pid1);
    early.result = SignalResult::Ignored;
    early.disposition = Disposition::Default;
    early.unkillable = true;
    // Probes first, then the look: the signal is before it in the trace.
    scene.shift(2);
    scene.send(1, outside(5001, "runc"), early);
    killed(&mut scene, 1010, &pid1);
    scene.expect_no("term-lost-before-exec");
}

#[test]
fn what_was_not_recorded_did_not_fail_to_happen() {
    let (mut scene, pid1) = Scene::attached("sh", &[]);
    let child = inside(2, "worker");
    scene
        .fork(5, &pid1, &child)
        .exec(6, &child, &["worker"])
        .exit_to(20, &child, &pid1, libc::SIGSEGV)
        .exit_to(21, &pid1, outside(4000, "containerd-shim"), 4 << 8);
    let one = scene.verdict("exit-status-laundered");
    let text = format!("{one:?}");
    assert!(!text.contains("did not collect"), "{text}");
}

#[test]
fn zombies_of_before_and_since_are_their_parents() {
    let (mut scene, pid1) = Scene::attached("app", &[]);
    // A look at /proc cuts starts to ticks; the kernel does not.
    let exact = Task {
        start_ns: pid1.start_ns + 1_026_687,
        ..pid1.clone()
    };
    let dead = inside(2, "curl");
    scene.found_in(&dead, &pid1, "Z");
    let child = inside(3, "wget");
    scene.found_in(&child, &pid1, "S");
    scene
        .exit_to(500, &child, &exact, 0)
        .notice(501, &child, &exact)
        .exec(3000, inside(4, "sh"), &["sh"]);
    let one = scene.verdict("zombie-pid1-not-reaping");
    assert!(
        one.fact.contains("2 zombies (1 curl, 1 wget)."),
        "{}",
        one.fact
    );
}

#[test]
fn who_moved_out_of_the_cgroup_did_not_end() {
    let (mut scene, pid1) = Scene::attached("app", &[]);
    scene.header.jail.pid = 0;
    let (pid1, other) = (
        Task {
            jail_pid: None,
            ..pid1
        },
        Task {
            jail_pid: None,
            ..inside(2, "worker")
        },
    );
    scene.change(|task, _| task.jail_pid = None);
    let detached = Detached {
        reason: DetachReason::TargetEnded,
        processes: 0,
    };
    let shim = outside(4000, "containerd-shim");
    scene
        .exit_to(10, &pid1, &shim, 3 << 8)
        .at(20, Task::default(), What::Detached(detached));
    let one = scene.verdict("no-finding");
    assert!(
        one.fact.contains("app (host PID 4131) exited with 3"),
        "{}",
        one.fact
    );
    scene.found_in(&other, &shim, "S");
    let one = scene.verdict("no-finding");
    assert!(
        one.fact
            .contains("worker (host PID 4132) did not end in it"),
        "{}",
        one.fact
    );
}

#[test]
fn an_end_whose_signal_came_before_is_not_unremarkable() {
    let (mut scene, pid1) = Scene::attached("app", &[]);
    scene.exit_to(1, &pid1, outside(4000, "containerd-shim"), libc::SIGKILL);
    let one = scene.verdict("no-finding");
    assert_eq!(one.sure(), Confidence::ConsistentWith);
    assert!(one.fact.contains("was killed by SIGKILL"), "{}", one.fact);
    assert!(one.ruled_out.is_empty(), "{one:#?}");
}

#[test]
fn a_process_that_takes_long_to_end_is_no_zombie_before_its_parent_is_told() {
    let mut scene = Scene::new(&["app"]);
    let (pid1, child) = (inside(1, "app"), inside(2, "worker"));
    scene
        .fork(5, &pid1, &child)
        .exit_to(20, &child, &pid1, 0)
        .notice(1900, &child, &pid1)
        .end(2000, &pid1, 0);
    scene.expect_no("zombie-pid1-not-reaping");
}
