//! Victims that do not die, and processes that nobody kills.

use super::*;

#[test]
fn a_victim_that_dies_slowly_is_stuck() {
    let mut scene = Scene::new(&["app"]);
    scene.at(1000, app(), What::OomKill(kill(app(), mib(60), full())));
    let reaper = outside(57, "oom_reaper");
    let reap = |stage| {
        What::OomReap(OomReap {
            stage,
            victim: app(),
        })
    };
    scene.at(3000, reaper.clone(), reap(OomReapStage::Wake));
    scene.at(3001, reaper, reap(OomReapStage::Skip));
    scene.exit(9000, app(), -libc::SIGKILL, mib(60));
    let (confidence, verdict) = scene.expect("oom-victim-stuck");
    assert_eq!(confidence, Confidence::Proven);
    assert!(verdict.contains("could not free its memory"), "{verdict}");
    self::scene(kill(app(), mib(60), full())).expect_no("oom-victim-stuck");
}

#[test]
fn protected_processes_are_no_switched_off_oom_killer() {
    let message = |text: &str| {
        What::KernelMessage(KernelMessage {
            level: 4,
            text: text.into(),
        })
    };
    let mut scene = Scene::new(&["app"]);
    scene.at(
        500,
        outside(0, ""),
        message("Out of memory and no killable processes..."),
    );
    let counted: &[(&str, u64)] = &[
        ("memory.events:oom", 193_817),
        ("memory.events:oom_kill", 0),
    ];
    scene.counters(5000, &[("/procjail/web", counted)]);
    let (_, verdict) = scene.expect("oom-no-eligible-victim");
    assert!(verdict.contains("193,817 times"), "{verdict}");
    scene.expect_no("oom-disabled-v1-hang");
}
