//! Limits, and the jail's cgroup.

use std::path::Path;

use procjail_tests::{cgroup_directories, misbehave, scene};

#[test]
fn limits_are_written_before_the_first_instruction() {
    scene(|scene| {
        let running = scene
            .trace(
                &[
                    "--memory", "64M", "--pids", "20", "--cpus", "0.5", "--name", "limits",
                ],
                &[&misbehave(), "default-term"],
            )
            .spawn();
        running.wait_for_line("ready");
        let read = |file: &str| {
            let found = cgroup_directories().into_iter().find_map(|directory| {
                let text = std::fs::read_to_string(directory.join(file)).ok()?;
                (directory.file_name()? == "limits").then_some(text)
            });
            found.map(|text| text.trim().to_owned())
        };
        let memory = read("memory.max").or_else(|| read("memory.limit_in_bytes"));
        assert_eq!(memory.as_deref(), Some("67108864"));
        assert_eq!(read("pids.max").as_deref(), Some("20"));
        let cpu = read("cpu.max").or_else(|| {
            let quota = read("cpu.cfs_quota_us")?;
            Some(format!("{quota} {}", read("cpu.cfs_period_us")?))
        });
        assert_eq!(cpu.as_deref(), Some("50000 100000"));
        running.signal(libc::SIGTERM);
        running.signal(libc::SIGINT);
        let trace = running.finish().expect_code(128 + libc::SIGKILL).trace();
        assert!(
            trace
                .header
                .jail
                .limits
                .values()
                .any(|value| value == "67108864"),
            "{:?}",
            trace.header.jail.limits
        );
    });
}

#[test]
fn the_app_is_in_its_cgroup() {
    scene(|scene| {
        let trace = scene
            .trace(&["--name", "member"], &[&misbehave(), "exit", "0"])
            .finish()
            .expect_code(0)
            .trace();
        let jail = &trace.header.jail;
        assert!(
            Path::new(&jail.cgroup).ends_with("member"),
            "{}",
            jail.cgroup
        );
        assert!(!Path::new(&jail.cgroup).exists(), "it is removed");
        let (event, _) = trace.execs()[0];
        assert_eq!(event.task.cgroup_id, jail.cgroup_id);
    });
}

#[test]
fn the_cgroup_becomes_empty_and_is_removed() {
    scene(|scene| {
        let trace = scene
            .trace(&[], &[&misbehave(), "zombies", "2"])
            .finish()
            .expect_code(0)
            .trace();
        use procjail::event::CgroupChange::Empty;
        assert!(trace.cgroups().iter().any(|(_, data)| data.change == Empty));
        assert!(!trace.footer().teardown.is_empty());
        for step in &trace.footer().teardown {
            assert_eq!(step.error, None, "{step:?}");
        }
    });
}

#[test]
fn two_jails_of_one_name_are_refused() {
    scene(|scene| {
        let running = scene
            .run(&["--name", "twin"], &[&misbehave(), "handle-term", "0"])
            .spawn();
        running.wait_for_line("ready");
        let other = tempfile::tempdir().expect("a directory");
        procjail_tests::Invocation::new(procjail_tests::procjail(), other.path())
            .args(&["run", "--name", "twin", "--", "/bin/true"])
            .finish()
            .expect_refusal(125, &["twin"]);
        running.signal(libc::SIGTERM);
        running.finish().expect_code(0);
    });
}

#[test]
fn what_this_hosts_mode_cannot_do_is_refused() {
    scene(|scene| {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        let memory_is_v1 = mounts
            .lines()
            .any(|line| line.contains(" - cgroup cgroup ") && line.contains("memory"));
        let finished = scene
            .run(
                &["--memory-high", "64M", "--name", "refused"],
                &[&misbehave(), "exit", "0"],
            )
            .finish();
        if memory_is_v1 {
            finished.expect_refusal(125, &["--memory-high"]);
            let made: Vec<_> = cgroup_directories()
                .into_iter()
                .filter(|path| path.ends_with("refused"))
                .collect();
            assert!(made.is_empty(), "nothing may be created: {made:?}");
        } else {
            finished.expect_code(0);
        }
    });
}

#[test]
fn too_few_descriptors_leave_nothing() {
    for limit in 3..=24 {
        for command in ["run", "trace"] {
            // Each looks for what is left: the next one that starts would remove it.
            scene(|scene| {
                let finished = scene
                    .procjail(&[command, "--", &misbehave(), "exit", "0"])
                    .descriptors(limit)
                    .finish();
                assert!(
                    matches!(finished.code, Some(0 | 125 | 126))
                        && !finished.stderr.contains("panicked"),
                    "{command} with {limit} descriptors: {:?} {}",
                    finished.code,
                    finished.stderr
                );
            });
        }
    }
}
