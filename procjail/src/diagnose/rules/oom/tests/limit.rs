//! Whose limit was hit.

use super::*;

#[test]
fn a_limit_above_is_not_the_jails() {
    let chain = chain(
        (mib(20), Some(mib(64))),
        (mib(128), Some(mib(128))),
        Some(2),
    );
    let scene = scene(kill(app(), mib(19), chain));
    let (confidence, verdict) = scene.expect("oom-ancestor-limit");
    assert_eq!(confidence, Confidence::Proven);
    assert!(
        verdict.contains("/pod")
            && verdict.contains("the other 108.0 MiB is in use outside the jail"),
        "{verdict}"
    );
    for other in ["oom-own-limit", "oom-global", "oom-innocent-victim"] {
        scene.expect_no(other);
    }
}

#[test]
fn the_id_tells_whose_limit_it_was_and_no_name() {
    // A container's cgroup, whose directory is called as the runtime likes.
    let chain = vec![
        level(9, "01a00bda", mib(64), Some(mib(64)), true),
        level(2, "docker", mib(64), None, false),
        level(0, "/", mib(900), None, false),
    ];
    let mut scene = scene(kill(app(), mib(60), chain));
    scene.header.jail.memory_cgroup_id = Some(9);
    scene.expect("oom-own-limit");
    scene.expect_no("oom-ancestor-limit");
    // Names as a jail's would be, of cgroups that are others.
    let mut scene = self::scene(kill(app(), mib(60), full()));
    scene.header.jail.memory_cgroup_id = Some(77);
    scene.expect("oom-ancestor-limit");
    scene.expect_no("oom-own-limit");
}

#[test]
fn a_limit_above_that_the_jail_alone_fills_is_its_own_doing() {
    let chain = chain(
        (mib(125), Some(mib(256))),
        (mib(128), Some(mib(128))),
        Some(2),
    );
    let (_, verdict) = scene(kill(app(), mib(120), chain)).expect("oom-ancestor-limit");
    assert!(!verdict.contains("outside"), "{verdict}");
}

#[test]
fn what_nobody_holds_is_not_said_to_be_others() {
    let chain = chain(
        (mib(20), Some(mib(64))),
        (mib(128), Some(mib(128))),
        Some(2),
    );
    let with = |others: &[ProcessSample]| {
        let mut scene = scene(kill(app(), mib(19), chain.clone()));
        let mut report = log(&app(), "memcg", Some("/pod"));
        report.kinds = Some(MemoryKinds {
            file: mib(105),
            shmem: mib(105),
            ..MemoryKinds::default()
        });
        report.processes = vec![holder(app(), mib(19))];
        report.processes.extend(others.to_vec());
        scene.at(5001, outside(0, ""), What::KernelOom(report));
        scene.verdict("oom-ancestor-limit")
    };
    let left = with(&[]);
    assert!(
        left.fact
            .contains("no process outside the jail holds any of it")
            && left.fact.contains("105.0 MiB is tmpfs files"),
        "{}",
        left.fact
    );
    assert!(
        left.remedy.contains("earlier jails left"),
        "{}",
        left.remedy
    );
    let shared = with(&[holder(outside(9, "db"), mib(100))]);
    assert!(
        shared
            .fact
            .contains("most by db (host PID 9) with 100.0 MiB"),
        "{}",
        shared.fact
    );
}

#[test]
fn two_full_levels_are_told_apart_by_the_kernel_log_alone() {
    let both = || chain((mib(64), Some(mib(64))), (mib(64), Some(mib(64))), Some(0));
    let mut scene = scene(kill(app(), mib(60), both()));
    assert_eq!(scene.expect("oom-own-limit").0, Confidence::Likely);
    let report = log(&app(), "memcg", Some("/pod"));
    scene.at(5001, outside(0, ""), What::KernelOom(report));
    assert_eq!(scene.expect("oom-ancestor-limit").0, Confidence::Proven);
    scene.expect_no("oom-own-limit");
}

#[test]
fn a_limit_that_has_room_again_is_not_the_machines() {
    let roomy = || chain((mib(40), Some(mib(64))), (mib(70), None), None);
    let mut scene = scene(kill(app(), mib(60), full()));
    let next = inside(2, "next");
    scene.at(
        5100,
        next.clone(),
        What::OomKill(kill(next, mib(30), roomy())),
    );
    scene.expect_no("oom-global");
    let (_, verdict) = scene.expect("oom-own-limit");
    assert!(verdict.contains("2 processes"), "{verdict}");
}

#[test]
fn a_full_machine_is_no_limit() {
    let roomy = || chain((mib(20), Some(mib(64))), (mib(70), None), None);
    let mut scene = scene(kill(app(), mib(19), roomy()));
    assert_eq!(scene.expect("oom-global").0, Confidence::ConsistentWith);
    let counted: &[(&str, u64)] = &[("memory.events:oom", 0)];
    scene.counters(5500, &[("/pod/procjail/web", counted)]);
    assert_eq!(scene.expect("oom-global").0, Confidence::Likely);
    let report = log(&app(), "none", None);
    scene.at(5001, outside(0, ""), What::KernelOom(report));
    let (confidence, verdict) = scene.expect("oom-global");
    assert_eq!(confidence, Confidence::Proven);
    assert!(verdict.contains("20.0 MiB of 64.0 MiB"), "{verdict}");
    scene.expect_no("oom-own-limit");
    scene.expect_no("oom-cpuset-mempolicy");
}

#[test]
fn nodes_are_named_by_the_kernel_log() {
    for (constraint, words) in [("cpuset", "cpuset.mems"), ("memory-policy", "mbind")] {
        let roomy = chain((mib(20), Some(mib(64))), (mib(70), None), None);
        let mut scene = scene(kill(app(), mib(19), roomy));
        let report = log(&app(), constraint, None);
        scene.at(5001, outside(0, ""), What::KernelOom(report));
        let (confidence, verdict) = scene.expect("oom-cpuset-mempolicy");
        assert_eq!(confidence, Confidence::Proven);
        assert!(verdict.contains(words), "{verdict}");
        scene.expect_no("oom-global");
    }
}

#[test]
fn a_report_of_another_death_does_not_count() {
    let mut scene = scene(kill(app(), mib(60), full()));
    let report = log(&inside(9, "other"), "none", None);
    scene.at(5001, outside(0, ""), What::KernelOom(report));
    scene.expect("oom-own-limit");
    scene.expect_no("oom-global");
}

#[test]
fn counters_tell_a_limit_that_has_room_again() {
    let drained = chain((mib(20), Some(mib(64))), (mib(70), None), None);
    let mut scene = scene(kill(app(), mib(60), drained));
    let counted: &[(&str, u64)] = &[("memory.events.local:oom", 1)];
    scene.counters(5500, &[("/pod/procjail/web", counted)]);
    assert_eq!(scene.expect("oom-own-limit").0, Confidence::Likely);
    scene.expect_no("oom-global");
}
