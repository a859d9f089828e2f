//! The end of a jail.

use std::time::Duration;

use procjail_tests::{misbehave, scene};

#[test]
fn a_daemon_left_behind_dies_with_pid_1() {
    scene(|scene| {
        let trace = scene
            .trace(&[], &[&misbehave(), "double-fork-daemon"])
            .finish()
            .expect_code(0)
            .trace();
        trace.expect_complete();
        let (_, exit) = trace.exit_of(3);
        assert_eq!(
            exit.status.signal.as_ref().expect("a signal").name,
            "SIGKILL"
        );
        // It is the kernel's own kill at the end of the namespace, sent by PID 1 as it ends.
        let kills = trace.signals_to(3, libc::SIGKILL);
        let (event, kill) = kills.first().expect("the kill");
        assert_eq!(event.task.jail_pid, Some(1));
        assert!(kill.sender_exiting);
        assert_eq!(kill.code.name, "SI_KERNEL");
    });
}

#[test]
fn many_processes_end_quickly() {
    scene(|scene| {
        let running = scene
            .trace(
                &["--stop-timeout", "100ms"],
                &[
                    "/bin/sh",
                    "-c",
                    "trap '' TERM; for i in $(seq 200); do sleep 1000 & done; echo ready; wait",
                ],
            )
            .spawn();
        running.wait_for_line("ready");
        let before = running.elapsed();
        running.signal(libc::SIGTERM);
        let finished = running.finish().expect_code(128 + libc::SIGKILL);
        assert!(
            finished.elapsed - before < Duration::from_secs(5),
            "{:?}",
            finished.elapsed
        );
        let trace = finished.trace();
        trace.expect_complete();
        let ends = trace
            .exits()
            .iter()
            .filter(|(_, exit)| exit.process)
            .count();
        assert_eq!(
            ends as u64,
            trace.footer().processes,
            "every process made has ended"
        );
    });
}

#[test]
fn a_frozen_jail_is_removed_too() {
    scene(|scene| {
        let running = scene
            .trace(
                &["--name", "frozen", "--stop-timeout", "200ms"],
                &[&misbehave(), "handle-term", "0"],
            )
            .spawn();
        running.wait_for_line("ready");
        let directory = procjail_tests::cgroup_directories()
            .into_iter()
            .find(|path| path.ends_with("frozen") && path.join("cgroup.freeze").exists())
            .expect("the jail's v2 directory");
        std::fs::write(directory.join("cgroup.freeze"), "1").expect("frozen");
        running.signal(libc::SIGTERM);
        let finished = running.finish();
        assert!(
            finished.elapsed < Duration::from_secs(10),
            "{:?}",
            finished.elapsed
        );
        assert_eq!(
            finished.code,
            Some(128 + libc::SIGKILL),
            "{}",
            finished.stderr
        );
    });
}

#[test]
fn a_jail_of_a_cgroup_below_is_removed() {
    scene(|scene| {
        // The app makes a cgroup of its own below the jail's and leaves a process in it.
        let running = scene
            .run(&["--name", "nested"], &[&misbehave(), "handle-term", "0"])
            .spawn();
        running.wait_for_line("ready");
        let directory = procjail_tests::cgroup_directories()
            .into_iter()
            .find(|path| path.ends_with("nested") && path.join("cgroup.events").exists())
            .expect("the jail's v2 directory");
        std::fs::create_dir(directory.join("below")).expect("a cgroup");
        running.signal(libc::SIGTERM);
        running.finish().expect_code(0);
    });
}
