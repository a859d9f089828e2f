//! What the memory was made of, and how it grew.

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
    assert_eq!(confidence, Confidence::Likely);
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
    scene.header.host.cgroup_mode = "v2".into();
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
        assert_eq!(scene.verdict(id).confidence, Confidence::Proven);
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

fn anon(bytes: u64) -> MemoryKinds {
    MemoryKinds {
        anon: bytes,
        ..MemoryKinds::default()
    }
}

#[test]
fn steady_growth_and_spikes_are_told_apart() {
    let mut leak = scene(kill(app(), mib(60), full()));
    for second in 0..5 {
        let bytes = mib(4 + second * 12);
        leak.sample(second * 1000, bytes, anon(bytes));
    }
    let found = leak.verdict("mem-growth-leak");
    assert_eq!(found.confidence, Confidence::Proven);
    // Five seconds prove no leak.
    assert_eq!(found.sure(), Confidence::ConsistentWith);
    assert!(found.fact.contains("a second"), "{}", found.fact);
    leak.expect_no("mem-growth-spike");
    let mut spike = scene(kill(app(), mib(60), full()));
    for second in 0..5 {
        spike.sample(second * 1000 + 100, mib(10), anon(mib(10)));
    }
    let (_, verdict) = spike.expect("mem-growth-spike");
    assert!(!verdict.contains("leak"), "{verdict}");
    spike.expect_no("mem-growth-leak");
    // Page cache that fills up is no growth of the program's.
    let mut cache = scene(kill(app(), mib(60), full()));
    for second in 0..5 {
        cache.sample(second * 1000, mib(4 + second * 12), anon(mib(4)));
    }
    cache.expect_no("mem-growth-leak");
}

#[test]
fn a_warm_up_before_the_growth_is_no_spike() {
    let mut scene = scene(kill(app(), mib(60), full()));
    for (ms, size) in [(20, 2), (40, 10), (60, 20), (80, 30), (100, 40)] {
        scene.sample(ms, mib(size), anon(mib(size)));
    }
    for step in 1..10 {
        let bytes = mib(40) + step * (mib(23) / 10);
        scene.sample(100 + step * 480, bytes, anon(bytes));
    }
    let found = scene.verdict("mem-growth-leak");
    assert!(
        found.fact.contains("after it had reached 4") && found.fact.contains("4.9 MiB a second"),
        "{}",
        found.fact
    );
    scene.expect_no("mem-growth-spike");
}

#[test]
fn a_spike_is_measured_from_where_it_began() {
    let mut scene = scene(kill(app(), mib(60), full()));
    for ms in [4100, 4400, 4900] {
        scene.sample(ms, mib(5), anon(mib(5)));
    }
    let (_, verdict) = scene.expect("mem-growth-spike");
    assert!(verdict.contains("within 100 ms"), "{verdict}");
}

#[test]
fn whoever_writes_to_tmpfs_is_no_innocent_victim() {
    let tmpfs = || MemoryKinds {
        file: mib(60),
        shmem: mib(60),
        ..MemoryKinds::default()
    };
    let dd = |calls: &[&str]| {
        let mut victim = kill(app(), mib(1), full());
        victim.stack = stack(calls);
        let mut scene = scene(victim);
        scene.sample(4990, mib(63), tmpfs());
        scene
    };
    let writer = dd(&["try_charge_memcg", "shmem_write_begin", "vfs_write"]);
    writer.expect_no("oom-innocent-victim");
    let found = writer.verdict("oom-shmem-tmpfs");
    assert!(
        found
            .verdict()
            .contains("Files in tmpfs, which app (PID 1) wrote"),
        "{}",
        found.verdict()
    );
    assert_eq!(found.sure(), Confidence::Likely);
    assert!(writer.verdict("oom-own-limit").remedy.contains("size="));
    // Whoever merely touches its own memory did not fill it.
    dd(&["try_charge_memcg", "do_anonymous_page"]).expect("oom-innocent-victim");
    // Mapped, filled and detached: segments, which are no files.
    let sysv = dd(&["try_charge_memcg", "shmem_fault", "__do_fault"]);
    let found = sysv.verdict("oom-shmem-tmpfs");
    assert!(found.remedy.contains("ipcrm"), "{}", found.remedy);
}

#[test]
fn shared_memory_that_is_most_of_the_charge_is_what_the_kill_follows_from() {
    let with = |shmem: u64, purpose: &str| {
        let mut victim = kill(app(), mib(2), full());
        victim.stack = stack(&["try_charge_memcg", purpose]);
        let mut scene = scene(victim);
        let kinds = MemoryKinds {
            anon: mib(63) - shmem,
            file: shmem,
            shmem,
            ..MemoryKinds::default()
        };
        scene.sample(4990, mib(63), kinds);
        let first = scene.ids().into_iter().next();
        (first.unwrap_or_default(), scene)
    };
    // Files that somebody wrote, memory that is mapped, and what lies there when another asks for more.
    for purpose in ["shmem_write_begin", "shmem_fault", "do_anonymous_page"] {
        let (first, scene) = with(mib(45), purpose);
        assert_eq!(first, "oom-shmem-tmpfs", "{purpose}");
        let found = scene.verdict("oom-shmem-tmpfs");
        assert!(
            found.fact.starts_with("app (PID 1) was OOM-killed: of the"),
            "{}",
            found.fact
        );
        assert!(
            found.consequences.is_empty() && scene.ids().iter().any(|id| id == "oom-own-limit")
        );
    }
    let (_, idle) = with(mib(45), "do_anonymous_page");
    let found = idle.verdict("oom-shmem-tmpfs");
    for word in ["size=", "ipcs -m", "ipcrm"] {
        assert!(found.remedy.contains(word), "{}", found.remedy);
    }
    assert_eq!(with(mib(20), "do_anonymous_page").0, "oom-own-limit");
}

#[test]
fn shared_memory_above_the_jail_is_not_all_that_fills_it() {
    let mut victim = kill(app(), mib(2), full());
    if let Some(own) = victim.chain.first_mut() {
        own.limit_bytes = None;
    }
    if let Some(above) = victim.chain.get_mut(1) {
        above.limit_bytes = Some(mib(64));
        above.usage_bytes = mib(64);
    }
    let mut scene = scene(victim);
    let kinds = MemoryKinds {
        file: mib(50),
        shmem: mib(50),
        ..MemoryKinds::default()
    };
    scene.sample(4990, mib(63), kinds);
    assert_ne!(
        scene.ids().first().map(String::as_str),
        Some("oom-shmem-tmpfs")
    );
}

#[test]
fn kernel_memory_is_told_by_what_was_being_allocated() {
    let of = |call: &str| {
        let mut victim = kill(app(), mib(2), full());
        victim.stack = stack(&["try_charge_memcg", call, "vfs_write"]);
        let mut scene = scene(victim);
        let kernel = MemoryKinds {
            kernel: mib(60),
            ..MemoryKinds::default()
        };
        scene.sample(4990, mib(63), kernel);
        scene
    };
    let pipe = of("anon_pipe_write").verdict("oom-kernel-memory");
    assert!(pipe.verdict().contains("pipes that nobody reads"));
    let socket = of("unix_stream_sendmsg");
    assert!(
        socket
            .verdict("oom-socket-buffers")
            .verdict()
            .contains("Unix sockets")
    );
    socket.expect_no("oom-kernel-memory");
    let unknown = of("something_else").verdict("oom-kernel-memory");
    assert!(unknown.cause.is_none());
    assert!(unknown.fact.contains("does not tell"), "{}", unknown.fact);
}

#[test]
fn all_large_holders_are_named_with_what_they_share() {
    let mut scene = scene(kill(app(), mib(38), full()));
    let mut report = log(&app(), "memcg", Some("/pod/procjail/web"));
    report.kinds = Some(anon(mib(63)));
    report.processes = vec![holder(app(), mib(38)), holder(inside(2, "saver"), mib(39))];
    scene.at(5001, outside(0, ""), What::KernelOom(report));
    let (_, verdict) = scene.expect("oom-own-limit");
    assert!(
        verdict.contains("saver (PID 2) 39.0 MiB and app (PID 1) 38.0 MiB")
            && verdict.contains("share at least 14.0 MiB"),
        "{verdict}"
    );
}

#[test]
fn mapped_memory_that_stays_is_a_file_or_a_segment() {
    let shared = |bytes| MemoryKinds {
        file: bytes,
        shmem: bytes,
        ..MemoryKinds::default()
    };
    let with = |left: u64| {
        let mut victim = kill(app(), mib(2), full());
        victim.memory.shmem_bytes = mib(58);
        let mut scene = scene(victim);
        scene.sample(4990, mib(63), shared(mib(60)));
        scene.sample(5200, left, shared(left));
        scene.verdict("oom-shmem-tmpfs")
    };
    assert!(with(mib(60)).remedy.contains("ipcrm"));
    assert!(with(0).remedy.contains("Map less"));
}

#[test]
fn a_spike_between_samples_has_no_length() {
    let mut scene = scene(kill(app(), mib(60), full()));
    for ms in [500, 600, 1000] {
        scene.sample(ms, mib(5), anon(mib(5)));
    }
    let (_, verdict) = scene.expect("mem-growth-spike");
    assert!(
        verdict.contains("which nothing showed 4.000 s earlier"),
        "{verdict}"
    );
}
