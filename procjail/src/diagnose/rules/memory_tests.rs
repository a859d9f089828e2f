//! Shortage without an OOM kill, by traces made by hand.

use std::collections::BTreeMap;

use crate::diagnose::fixture::{Scene, inside, mib, outside, sent};
use crate::diagnose::{Confidence, Rank};
use crate::event::*;

fn app() -> Task {
    inside(1, "app")
}

/// A sample at the limit with so many pages read again, and so long at a standstill.
fn sample(scene: &mut Scene, ms: u64, refaults: u64, stalled_us: u64) {
    let what = MemorySample {
        moment: Moment::Sample,
        usage_bytes: mib(63),
        limit_bytes: Some(mib(64)),
        kinds: MemoryKinds {
            file: mib(60),
            refaults_file: refaults,
            ..MemoryKinds::default()
        },
        swap_bytes: 0,
        events: BTreeMap::new(),
        stalled_us: Some(stalled_us),
        processes: Vec::new(),
    };
    scene.at(ms, outside(4100, "procjail"), What::MemorySample(what));
}

#[test]
fn memory_high_is_told_by_its_counter() {
    let mut scene = Scene::new(&["app"]);
    let limits = &mut scene.header.jail.limits;
    limits.insert("memory.high".into(), mib(32).to_string());
    sample(&mut scene, 0, 0, 0);
    sample(&mut scene, 2000, 0, 1_500_000);
    let counted: &[(&str, u64)] = &[("memory.events:high", 4000), ("cpu.stat:nr_throttled", 0)];
    scene.counters(2100, &[("/procjail/web", counted)]);
    let (confidence, verdict) = scene.expect("mem-high-throttle");
    assert_eq!(confidence, Confidence::Proven);
    assert!(
        verdict.contains("32.0 MiB") && verdict.contains("4,000 times"),
        "{verdict}"
    );
    scene.expect_no("mem-high-then-kill");
    scene.expect_no("mem-thrash-no-kill");
}

#[test]
fn a_jail_below_memory_high_is_not_throttled_by_it() {
    let mut scene = Scene::new(&["app"]);
    let counted: &[(&str, u64)] = &[("memory.events:high", 2), ("cpu.stat:nr_throttled", 900)];
    scene.counters(2100, &[("/procjail/web", counted)]);
    scene.expect_no("mem-high-throttle");
}

#[test]
fn reading_again_without_end_is_thrashing_and_reading_once_is_not() {
    let mut scene = Scene::new(&["app"]);
    for second in 0..4 {
        sample(&mut scene, second * 1000, second * 50_000, second * 700_000);
    }
    assert_eq!(scene.expect("mem-thrash-no-kill").0, Confidence::Proven);
    let mut once = Scene::new(&["app"]);
    for second in 0..4 {
        sample(&mut once, second * 1000, second * 100, 0);
    }
    once.expect_no("mem-thrash-no-kill");
}

#[test]
fn enomem_names_the_limit_that_is_set() {
    let mut scene = Scene::new(&["app"]);
    scene.exit(100, app(), -libc::SIGABRT, mib(5));
    scene.refused_calls(100, app(), &[("mmap", libc::ENOMEM)]);
    let found = scene.verdict("enomem-not-oom");
    assert_eq!(found.sure(), Confidence::ConsistentWith);
    assert!(found.verdict().contains("vm.overcommit_memory"));
    let rlimits = &mut scene.header.jail.rlimits;
    rlimits.insert("as".into(), Some(mib(512)));
    let found = scene.verdict("enomem-not-oom");
    assert_eq!(found.sure(), Confidence::Likely);
    let verdict = found.verdict();
    assert!(verdict.contains("(RLIMIT_AS) is 512.0 MiB"), "{verdict}");
    // It asked for more at once than that: no other limit need have refused it.
    assert!(!verdict.contains("vm.overcommit_memory"), "{verdict}");
}

#[test]
fn who_is_killed_by_another_did_not_end_for_want_of_memory() {
    let child = inside(2, "worker");
    let mut scene = Scene::new(&["app"]);
    scene
        .fork(1, app(), &child)
        .send(99, app(), sent(libc::SIGKILL, &child))
        .exit_to(100, &child, app(), libc::SIGKILL)
        .reap(101, app(), &child)
        .end(102, app(), 0x100);
    scene.refused_calls(100, &child, &[("mmap", libc::ENOMEM)]);
    assert!(
        scene
            .found()
            .iter()
            .all(|one| one.id != "enomem-not-oom" || one.rank != Rank::Problem),
        "{:?}",
        scene.ids()
    );
}

#[test]
fn a_limit_that_was_set_inside_is_known() {
    let mut scene = Scene::new(&["app"]);
    let shell = app();
    let java = inside(2, "java");
    scene
        .limit(5, &shell, "as", mib(800))
        .fork(6, &shell, &java)
        .exit_to(100, &java, &shell, 0x100)
        .reap(101, &shell, &java)
        .end(102, &shell, 0x100);
    scene.refused_calls(100, &java, &[("mmap", libc::ENOMEM)]);
    let found = scene.verdict("enomem-not-oom");
    assert!(
        found
            .verdict()
            .contains("800.0 MiB, which app (PID 1) had set"),
        "{found:?}"
    );
    // It explains PID 1's code, and nothing else is blamed.
    assert_eq!(scene.ids(), ["enomem-not-oom"]);
}

#[test]
fn refused_memory_that_the_program_lived_with_is_a_note() {
    let mut scene = Scene::new(&["app"]);
    scene.exit(100, app(), 0, mib(5));
    scene.refused_calls(100, app(), &[("mmap", libc::ENOMEM)]);
    assert_eq!(scene.verdict("enomem-not-oom").rank, Rank::Note);
}

#[test]
fn other_failed_calls_are_no_shortage() {
    let mut scene = Scene::new(&["app"]);
    scene.exit(100, app(), 1, mib(5));
    scene.refused_calls(
        100,
        app(),
        &[("openat", libc::ENOMEM), ("mmap", libc::EACCES)],
    );
    scene.expect_no("enomem-not-oom");
}

#[test]
fn a_watcher_is_known_by_its_name_and_better_by_its_file() {
    let killer = outside(800, "systemd-oomd");
    let mut scene = Scene::new(&["app"]);
    scene.signal(100, killer.clone(), app(), libc::SIGKILL, 0);
    scene.exit(101, app(), -libc::SIGKILL, mib(5));
    assert_eq!(
        scene.verdict("kill-userspace-oomd").sure(),
        Confidence::ConsistentWith
    );
    let sender = Sender {
        exe: "/usr/lib/systemd/systemd-oomd".into(),
        ..Sender::default()
    };
    scene.at(100, killer, What::Sender(sender));
    assert_eq!(
        scene.verdict("kill-userspace-oomd").sure(),
        Confidence::Likely
    );
    let mut other = Scene::new(&["app"]);
    other.signal(100, outside(801, "systemd"), app(), libc::SIGKILL, 0);
    other.exit(101, app(), -libc::SIGKILL, mib(5));
    other.expect_no("kill-userspace-oomd");
}
