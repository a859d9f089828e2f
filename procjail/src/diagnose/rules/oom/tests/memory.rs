//! What the memory was made of, and how it grew.

use std::collections::BTreeMap;

use super::*;

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
