//! The OOM killer.

use procjail_tests::{Trace, misbehave, scene};

const LIMIT: &str = "32M";
const LIMIT_BYTES: u64 = 32 << 20;
const TOO_MUCH: &str = "100000000";

/// The jail's peak memory: there, unless the trace says that this kernel can't tell.
#[track_caller]
fn peak_memory(trace: &Trace) -> Option<u64> {
    let lacks = &trace.header.host.lacks;
    let lacking = lacks.iter().any(|lack| lack.feature == "memory.peak");
    let peak = trace.footer().peak_memory_bytes;
    assert_eq!(peak.is_none(), lacking, "peak {peak:?}, lacking {lacks:?}");
    peak
}

#[test]
fn an_oom_killed_pid_1_is_explained() {
    scene(|scene| {
        let finished = scene
            .trace(
                &["--memory", LIMIT, "--name", "oom"],
                &[&misbehave(), "alloc", TOO_MUCH],
            )
            .finish()
            .expect_code(128 + libc::SIGKILL);
        let trace = finished.trace();
        trace.expect_complete();
        let kills = trace.oom_kills();
        assert_eq!(kills.len(), 1);
        let (event, kill) = kills[0];
        assert_eq!(kill.victim.jail_pid, Some(1));
        assert_eq!(event.task.jail_pid, Some(1), "it triggered its own end");
        assert!(kill.killed_by_kernel);
        let anon = kill.memory.anon_bytes;
        assert!(
            (LIMIT_BYTES / 2..=LIMIT_BYTES).contains(&anon),
            "{anon} bytes anonymous"
        );
        let level = kill
            .chain
            .iter()
            .find(|level| level.at_limit)
            .expect("a level at its limit");
        assert_eq!(level.limit_bytes, Some(LIMIT_BYTES));
        assert!(level.usage_bytes <= LIMIT_BYTES && level.usage_bytes > LIMIT_BYTES * 9 / 10);
        assert_eq!(level.name, "oom", "the jail's own cgroup");
        if let Some(peak) = peak_memory(&trace) {
            assert!(
                (LIMIT_BYTES * 9 / 10..=LIMIT_BYTES).contains(&peak),
                "peak {peak}"
            );
        }
        // From the system call or page fault inwards, without the probe's own calls.
        let kernel: Vec<_> = kill
            .stack
            .kernel
            .iter()
            .map(|frame| frame.symbol.as_deref())
            .collect();
        assert_eq!(kernel.first(), Some(&Some("mark_oom_victim")), "{kernel:?}");
        assert!(
            kernel.contains(&Some("mem_cgroup_out_of_memory")),
            "{kernel:?}"
        );
        assert!(!kill.stack.user.is_empty());
        for frame in &kill.stack.user {
            let own = frame.module.as_deref() == Some(misbehave().as_str());
            assert!(own || frame.symbol.is_none(), "{:?}", kill.stack.user);
            assert_ne!(frame.address, 0);
        }
        // The kernel's SIGKILL comes first, in the same context.
        let sigkill = trace.signals_to(1, libc::SIGKILL);
        let (generated, signal) = sigkill.first().expect("the kernel's SIGKILL");
        assert_eq!(signal.code.name, "SI_KERNEL");
        assert!(generated.seq < event.seq);
    });
}

#[test]
fn pid_1_survives_the_oom_kill_of_its_child() {
    scene(|scene| {
        let finished = scene
            .trace(&["--memory", LIMIT], &[&misbehave(), "oom-child", TOO_MUCH])
            .finish()
            .expect_code(0);
        assert_eq!(finished.stdout, "child killed by signal 9\n");
        let trace = finished.trace();
        let kills = trace.oom_kills();
        assert_eq!(kills.len(), 1);
        assert_eq!(kills[0].1.victim.jail_pid, Some(2));
        let (_, exit) = trace.exit_of(2);
        assert_eq!(
            exit.status.signal.as_ref().expect("a signal").name,
            "SIGKILL"
        );
        assert_eq!(trace.exit_of(1).1.status.code, Some(0));
    });
}

#[test]
fn enough_memory_is_no_event() {
    scene(|scene| {
        let trace = scene
            .trace(
                &["--memory", "256M"],
                &[&misbehave(), "alloc", TOO_MUCH, "--steps"],
            )
            .finish()
            .expect_code(0)
            .trace();
        assert!(trace.oom_kills().is_empty());
        if let Some(peak) = peak_memory(&trace) {
            assert!(peak >= 100_000_000, "peak {peak}");
        }
    });
}

#[test]
fn the_other_jail_is_not_in_the_trace() {
    scene(|scene| {
        // A second jail, whose OOM kill the first trace must not have.
        let running = scene.trace(&[], &["/bin/sleep", "3"]).spawn();
        let other = tempfile::tempdir().expect("a directory");
        std::thread::sleep(std::time::Duration::from_millis(500));
        procjail_tests::Invocation::new(procjail_tests::procjail(), other.path())
            .args(&[
                "run",
                "--memory",
                LIMIT,
                "--",
                &misbehave(),
                "alloc",
                TOO_MUCH,
            ])
            .finish()
            .expect_code(128 + libc::SIGKILL);
        let trace = running.finish().expect_code(0).trace();
        assert!(trace.oom_kills().is_empty());
        assert!(
            trace
                .exits()
                .iter()
                .all(|(event, _)| event.task.comm == "sleep")
        );
    });
}
