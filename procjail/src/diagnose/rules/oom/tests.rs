//! OOM verdicts that no scenario can reproduce everywhere, and the look-alikes of all.

use std::collections::BTreeMap;

use super::runtime::heap;
use crate::diagnose::Confidence;
use crate::diagnose::fixture::{Scene, inside, mib, oom_kill, outside};
use crate::event::*;

fn level(id: u64, name: &str, usage: u64, limit: Option<u64>, at_limit: bool) -> MemoryCgroup {
    MemoryCgroup {
        id,
        name: name.into(),
        usage_bytes: usage,
        limit_bytes: limit,
        swap_usage_bytes: 0,
        swap_limit_bytes: None,
        at_limit,
    }
}

/// The jail's cgroup and those above it; whose limit was hit is said by `at`.
fn chain(
    jail: (u64, Option<u64>),
    above: (u64, Option<u64>),
    at: Option<usize>,
) -> Vec<MemoryCgroup> {
    vec![
        level(3, "web", jail.0, jail.1, at == Some(0)),
        level(2, "procjail", jail.0, None, false),
        level(1, "pod", above.0, above.1, at == Some(2)),
        level(0, "/", mib(900), None, false),
    ]
}

/// A jail at its limit of 64 MiB.
fn full() -> Vec<MemoryCgroup> {
    chain((mib(64), Some(mib(64))), (mib(70), None), Some(0))
}

fn kill(victim: Task, anon: u64, chain: Vec<MemoryCgroup>) -> OomKill {
    OomKill {
        memory: ProcessMemory {
            anon_bytes: anon,
            ..ProcessMemory::default()
        },
        chain,
        ..oom_kill(&victim)
    }
}

/// The kernel log's report of the death of a task.
fn log(victim: &Task, constraint: &str, limit: Option<&str>) -> KernelOom {
    KernelOom {
        constraint: constraint.into(),
        limit_cgroup: limit.map(str::to_owned),
        victim_cgroup: "/pod/procjail/web".into(),
        victim_pid: victim.pid,
        kinds: None,
        processes: Vec::new(),
        mems_allowed: "0".into(),
    }
}

/// PID 1 `app` is OOM-killed 5 s after its start.
fn scene(kill: OomKill) -> Scene {
    let mut scene = Scene::new(&["app"]);
    let victim = kill.victim.clone();
    let trigger = inside(1, "app");
    scene.signal(5000, trigger.clone(), victim.clone(), libc::SIGKILL, 128);
    scene.at(5000, trigger, What::OomKill(kill));
    scene.exit(5005, victim, -libc::SIGKILL, mib(50));
    scene
}

fn app() -> Task {
    inside(1, "app")
}

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
        verdict.contains("/pod") && verdict.contains("108.0 MiB belong to others"),
        "{verdict}"
    );
    for other in ["oom-own-limit", "oom-global", "oom-innocent-victim"] {
        scene.expect_no(other);
    }
}

#[test]
fn a_limit_above_that_the_jail_alone_fills_is_its_own_doing() {
    let chain = chain(
        (mib(125), Some(mib(256))),
        (mib(128), Some(mib(128))),
        Some(2),
    );
    let (_, verdict) = scene(kill(app(), mib(120), chain)).expect("oom-ancestor-limit");
    assert!(verdict.contains("merely set one level up"), "{verdict}");
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

#[test]
fn one_finding_for_many_victims() {
    let mut scene = Scene::new(&["app"]);
    for pid in 2..8 {
        let time = u64::from(pid) * 1000;
        let victim = inside(pid, "worker");
        scene.fork(time, app(), victim.clone());
        scene.at(
            time + 900,
            app(),
            What::OomKill(kill(victim.clone(), mib(60), full())),
        );
        scene.exit(time + 905, victim.clone(), -libc::SIGKILL, mib(60));
        scene.reap(time + 906, app(), victim);
    }
    scene.exit(60_000, app(), 0, mib(1));
    let found = scene.found();
    let limits = found.iter().filter(|one| one.id == "oom-own-limit");
    assert_eq!(limits.count(), 1);
    let (confidence, verdict) = scene.expect("oom-repeat-loop");
    assert_eq!(confidence, Confidence::Proven);
    assert!(verdict.contains("6 times"), "{verdict}");
    let (_, verdict) = scene.expect("oom-child-invisible");
    assert!(verdict.contains("started another"), "{verdict}");
    scene.expect_no("oom-fork-bomb");
    scene.expect_no("oom-group-kill");
}

#[test]
fn workers_that_died_together_are_no_loop() {
    let mut scene = Scene::new(&["app"]);
    for pid in 2..6 {
        scene.fork(10, app(), inside(pid, "worker"));
    }
    for pid in 2..6 {
        let time = 1000 + u64::from(pid);
        let victim = inside(pid, "worker");
        scene.at(time, app(), What::OomKill(kill(victim, mib(15), full())));
    }
    scene.expect_no("oom-repeat-loop");
    // Some milliseconds apart: one after another.
    scene.expect_no("oom-group-kill");
}

#[test]
fn workers_that_are_made_while_others_die_are_no_loop() {
    let mut scene = Scene::new(&["app"]);
    for pid in 2..8 {
        let time = u64::from(pid) * 1000;
        let victim = inside(pid, "worker");
        scene.fork(time, app(), victim.clone());
        scene.at(
            time + 900,
            app(),
            What::OomKill(kill(victim, mib(60), full())),
        );
    }
    // Nobody collects them: whoever makes the next one does not know.
    scene.expect_no("oom-repeat-loop");
}

#[test]
fn a_group_kill_needs_the_setting() {
    let mut scene = Scene::new(&["app"]);
    for pid in 2..5 {
        scene.fork(10, app(), inside(pid, "worker"));
        let victim = inside(pid, "worker");
        scene.at(1000, app(), What::OomKill(kill(victim, mib(5), full())));
    }
    assert_eq!(scene.expect("oom-group-kill").0, Confidence::Likely);
    let limits = &mut scene.header.jail.limits;
    limits.insert("memory.oom.group".into(), "1".into());
    let (confidence, verdict) = scene.expect("oom-group-kill");
    assert_eq!(confidence, Confidence::Proven);
    assert!(verdict.contains("all 3 processes"), "{verdict}");
}

#[test]
fn pid_1_that_ends_at_once_has_seen_the_kill() {
    let mut scene = Scene::new(&["app"]);
    let child = inside(2, "worker");
    scene.fork(10, app(), child.clone());
    scene.at(
        1000,
        app(),
        What::OomKill(kill(child.clone(), mib(60), full())),
    );
    scene.exit(1005, child, -libc::SIGKILL, mib(60));
    scene.exit(1010, app(), 1, mib(1));
    scene.expect_no("oom-child-invisible");
    scene.expect_no("oom-earlier-not-cause");
}

#[test]
fn a_stop_after_an_oom_kill_is_what_ended_the_jail() {
    let mut scene = Scene::new(&["app"]);
    let child = inside(2, "worker");
    scene.fork(10, app(), child.clone());
    scene.at(1000, app(), What::OomKill(kill(child, mib(60), full())));
    let stop = StopRequested {
        signal: Signal::new(libc::SIGTERM),
        stop_signal: Signal::new(libc::SIGTERM),
        timeout_ns: 1,
    };
    scene.at(9000, outside(4100, "procjail"), What::StopRequested(stop));
    scene.exit(9010, app(), 143, mib(1));
    let (confidence, verdict) = scene.expect("oom-earlier-not-cause");
    assert_eq!(confidence, Confidence::Proven);
    assert!(
        verdict.contains("a stop was requested by SIGTERM"),
        "{verdict}"
    );
}

#[test]
fn lost_oom_kills_make_negative_claims_weak() {
    let mut scene = Scene::new(&["app"]);
    let child = inside(2, "worker");
    scene.fork(10, app(), child.clone());
    scene.at(1000, app(), What::OomKill(kill(child, mib(60), full())));
    scene.signal(9000, outside(77, "bash"), app(), libc::SIGKILL, 0);
    scene.exit(9001, app(), -libc::SIGKILL, mib(1));
    assert_eq!(scene.expect("oom-earlier-not-cause").0, Confidence::Proven);
    if let Some(footer) = &mut scene.footer {
        footer.lost = vec![Lost {
            event_kind: "oom-kill".into(),
            cpu: None,
            count: 1,
        }];
    }
    assert_eq!(
        scene.expect("oom-earlier-not-cause").0,
        Confidence::ConsistentWith
    );
}

#[test]
fn the_kernel_log_names_kinds_and_the_spared_hog() {
    let mut victim = kill(app(), mib(1), full());
    victim.oom_score_adj = 0;
    let mut scene = scene(victim);
    let mut report = log(&app(), "memcg", Some("/pod/procjail/web"));
    report.kinds = Some(MemoryKinds {
        anon: mib(63),
        ..MemoryKinds::default()
    });
    report.processes = vec![ProcessSample {
        process: inside(2, "db"),
        memory: ProcessMemory {
            anon_bytes: mib(60),
            ..ProcessMemory::default()
        },
        threads: 1,
        oom_score_adj: -998,
        environment: BTreeMap::new(),
    }];
    scene.at(5001, outside(0, ""), What::KernelOom(report));
    let (confidence, verdict) = scene.expect("oom-innocent-victim");
    assert_eq!(confidence, Confidence::Proven);
    assert!(
        verdict.contains("db (PID 2)") && verdict.contains("-998"),
        "{verdict}"
    );
    for other in ["oom-shmem-tmpfs", "oom-kernel-memory", "oom-socket-buffers"] {
        scene.expect_no(other);
    }
}

/// A kill of PID 1, which had little, with a sample of what the memory was made of just before.
fn made_of(kinds: MemoryKinds) -> Scene {
    let mut scene = scene(kill(app(), mib(2), full()));
    scene.sample(4990, mib(63), kinds);
    scene
}

#[test]
fn each_kind_has_its_verdict() {
    let none = MemoryKinds::default;
    let kinds = [
        (
            "oom-shmem-tmpfs",
            MemoryKinds {
                file: mib(50),
                shmem: mib(50),
                ..none()
            },
        ),
        (
            "oom-page-cache-unreclaimable",
            MemoryKinds {
                file: mib(50),
                file_dirty: mib(30),
                file_writeback: mib(15),
                ..none()
            },
        ),
        (
            "oom-kernel-memory",
            MemoryKinds {
                kernel: mib(50),
                slab_unreclaimable: mib(45),
                ..none()
            },
        ),
        (
            "oom-socket-buffers",
            MemoryKinds {
                sock: mib(48),
                anon: mib(3),
                ..none()
            },
        ),
    ];
    for (id, made) in &kinds {
        let scene = made_of(made.clone());
        assert_eq!(scene.expect(id).0, Confidence::Proven);
        for (other, _) in kinds.iter().filter(|(other, _)| other != id) {
            scene.expect_no(other);
        }
    }
}

#[test]
fn what_is_given_back_in_need_killed_nobody() {
    let clean_cache = made_of(MemoryKinds {
        file: mib(55),
        file_dirty: mib(1),
        ..MemoryKinds::default()
    });
    clean_cache.expect_no("oom-page-cache-unreclaimable");
    let names_and_inodes = made_of(MemoryKinds {
        kernel: mib(55),
        slab_reclaimable: mib(50),
        ..MemoryKinds::default()
    });
    names_and_inodes.expect_no("oom-kernel-memory");
}

#[test]
fn swap_is_named_only_where_there_is_some() {
    let mut chain = full();
    if let Some(own) = chain.first_mut() {
        own.swap_limit_bytes = Some(0);
    }
    let mut scene = scene(kill(app(), mib(60), chain.clone()));
    scene.header.host.cgroup_mode = "v2".into();
    scene.expect_no("oom-swap-capped");
    if let Some(own) = chain.first_mut() {
        own.swap_limit_bytes = Some(mib(8));
        own.swap_usage_bytes = mib(8);
    }
    let mut scene = self::scene(kill(app(), mib(60), chain));
    scene.header.host.cgroup_mode = "v2".into();
    assert_eq!(scene.expect("oom-swap-capped").0, Confidence::Proven);
}

#[test]
fn steady_growth_and_leaps_are_told_apart() {
    let anon = |bytes| MemoryKinds {
        anon: bytes,
        ..MemoryKinds::default()
    };
    let mut leak = scene(kill(app(), mib(60), full()));
    for second in 0..5 {
        leak.sample(
            second * 1000,
            mib(4 + second * 12),
            anon(mib(4 + second * 12)),
        );
    }
    leak.expect("mem-growth-leak");
    leak.expect_no("mem-growth-spike");
    let mut spike = scene(kill(app(), mib(60), full()));
    for second in 0..5 {
        spike.sample(second * 1000 + 100, mib(10), anon(mib(10)));
    }
    spike.expect("mem-growth-spike");
    spike.expect_no("mem-growth-leak");
    // A cache that fills up is no leak.
    let mut cache = scene(kill(app(), mib(60), full()));
    for second in 0..5 {
        cache.sample(second * 1000, mib(4 + second * 12), anon(mib(4)));
    }
    cache.expect_no("mem-growth-leak");
}

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

#[test]
fn runtimes_name_their_heap() {
    let argv = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
    let heap_of = |text: &str, variables: &[(&str, &str)]| {
        let environment = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        heap(&argv(text), &environment, mib(100), mib(8192)).map(|heap| heap.bytes)
    };
    assert_eq!(heap_of("/usr/bin/java -Xmx256m Main", &[]), Some(mib(256)));
    assert_eq!(heap_of("java -Xmx1g -Xmx64M Main", &[]), Some(mib(64)));
    assert_eq!(
        heap_of("java Main", &[("JAVA_TOOL_OPTIONS", "-Dx=1 -Xmx2g")]),
        Some(mib(2048))
    );
    assert_eq!(
        heap_of("java -XX:MaxRAMPercentage=75.0 Main", &[]),
        Some(mib(75))
    );
    assert_eq!(
        heap_of("node --max-old-space-size=512 x.js", &[]),
        Some(mib(512))
    );
    assert_eq!(
        heap_of(
            "nodejs x.js",
            &[("NODE_OPTIONS", "--max-old-space-size=1024")]
        ),
        Some(mib(1024))
    );
    assert_eq!(
        heap_of("server", &[("GOMEMLIMIT", "900MiB")]),
        Some(mib(900))
    );
    assert_eq!(heap_of("server", &[("GOMEMLIMIT", "off")]), Some(mib(8192)));
    for unknown in [
        "java Main",
        "java -Xmx Main",
        "java -Xmxlots",
        "node x.js",
        "sh -Xmx1g",
    ] {
        assert_eq!(heap_of(unknown, &[]), None, "{unknown}");
    }
}

#[test]
fn a_heap_that_fits_is_not_blamed() {
    let scene = |option: &str| {
        let mut scene = Scene::new(&["java", option, "Main"]);
        let java = inside(1, "java");
        scene.at(
            5000,
            java.clone(),
            What::OomKill(kill(java, mib(60), full())),
        );
        scene
    };
    assert_eq!(
        scene("-Xmx256m").expect("oom-runtime-heap-exceeds-limit").0,
        Confidence::Proven
    );
    // The heap alone would fit.
    assert_eq!(
        scene("-Xmx60m").expect("oom-runtime-heap-exceeds-limit").0,
        Confidence::Likely
    );
    scene("-Xmx40m").expect_no("oom-runtime-heap-exceeds-limit");
}

#[test]
fn an_abort_far_below_the_heap_is_another_failure() {
    let scene = |peak: u64| {
        let mut scene = Scene::new(&["node", "--max-old-space-size=100", "x.js"]);
        let node = inside(1, "node");
        scene.signal(1000, node.clone(), node.clone(), libc::SIGABRT, -6);
        scene.exit(1001, node, -libc::SIGABRT, peak);
        scene
    };
    scene(mib(90)).expect("oom-inside-runtime");
    scene(mib(20)).expect_no("oom-inside-runtime");
}
