//! What the jail looks like from inside: roots, binds, tmpfs.

use std::path::PathBuf;

use procjail_tests::{Scene, scene};

/// A root file system of one static program.
fn busybox_root(scene: &Scene) -> PathBuf {
    let root = scene.path("root");
    // procjail makes nothing in other people's directories: the mount points must be there.
    for name in ["bin", "proc", "dev", "tmp", "ro", "rw"] {
        std::fs::create_dir_all(root.join(name)).expect("a directory");
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox"))
        .expect("the package busybox-static is installed");
    for name in ["sh", "ls", "cat", "touch", "mount", "true"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).expect("a link");
    }
    root
}

#[test]
fn a_root_of_its_own() {
    scene(|scene| {
        let root = busybox_root(scene);
        let root_name = root.display().to_string();
        let finished = scene
            .run(
                &["--root", &root_name],
                &[
                    "/bin/sh",
                    "-c",
                    "cat /proc/1/comm; ls /; : > /dev/null && echo null",
                ],
            )
            .finish()
            .expect_code(0);
        let lines: Vec<&str> = finished.stdout.lines().collect();
        assert_eq!(lines[0], "sh");
        assert!(
            lines.contains(&"bin") && lines.contains(&"null"),
            "{lines:?}"
        );
        assert!(
            !lines.contains(&"root") && !lines.contains(&"usr"),
            "the host's root: {lines:?}"
        );
        // Nothing of the old root is mounted inside.
        let finished = scene
            .run(
                &["--root", &root_name],
                &["/bin/cat", "/proc/self/mountinfo"],
            )
            .finish()
            .expect_code(0);
        assert!(
            !finished
                .stdout
                .contains(&root_name.replace("/root", "/stdout")),
            "{}",
            finished.stdout
        );
        assert!(
            !finished.stdout.contains("/sys/fs/cgroup/memory"),
            "{}",
            finished.stdout
        );
    });
}

#[test]
fn read_only_root_with_a_writable_tmpfs() {
    scene(|scene| {
        let root = busybox_root(scene).display().to_string();
        let script = "touch /file 2>/dev/null || echo refused; touch /tmp/file && echo written";
        let finished = scene
            .run(
                &["--root", &root, "--read-only", "--tmpfs", "/tmp:1M"],
                &["/bin/sh", "-c", script],
            )
            .finish()
            .expect_code(0);
        assert_eq!(finished.stdout, "refused\nwritten\n");
    });
}

#[test]
fn binds_appear_and_read_only_ones_are() {
    scene(|scene| {
        let root = busybox_root(scene).display().to_string();
        let data = scene.path("data");
        std::fs::create_dir(&data).expect("a directory");
        std::fs::write(data.join("file"), "content\n").expect("a file");
        let data = data.display().to_string();
        let script = "cat /rw/file; touch /rw/new; touch /ro/new2 2>/dev/null || echo refused";
        let finished = scene
            .run(
                &[
                    "--root",
                    &root,
                    "--bind",
                    &format!("{data}:/rw"),
                    "--bind",
                    &format!("{data}:/ro:ro"),
                ],
                &["/bin/sh", "-c", script],
            )
            .finish()
            .expect_code(0);
        assert_eq!(finished.stdout, "content\nrefused\n");
        assert!(scene.path("data/new").exists());
        assert!(!scene.path("data/new2").exists());
    });
}

#[test]
fn a_plan_creates_nothing() {
    scene(|scene| {
        let marker = scene.path("marker").display().to_string();
        for command in ["run", "trace"] {
            let finished = scene
                .procjail(&[
                    command,
                    "--plan",
                    "--memory",
                    "64M",
                    "--",
                    "/bin/touch",
                    &marker,
                ])
                .finish()
                .expect_code(0);
            assert!(finished.stdout.lines().count() >= 5, "{}", finished.stdout);
            assert!(finished.stdout.contains("67108864") || finished.stdout.contains("64"));
            assert!(!scene.path("marker").exists());
        }
    });
}

#[test]
fn init_forwards_and_reaps() {
    scene(|scene| {
        let app = procjail_tests::misbehave();
        let running = scene
            .trace(&["--init"], &[&app, "handle-term", "7"])
            .spawn();
        running.wait_for_line("ready");
        running.signal(libc::SIGTERM);
        let finished = running.finish().expect_code(7);
        assert_eq!(finished.stdout, "ready\nSIGTERM\n");
        let trace = finished.trace();
        assert_eq!(trace.exit_of(2).1.status.code, Some(7));

        // A zombie that the app leaves is collected by the reaper while the jail goes on.
        let trace = scene
            .trace(&["--init"], &["/bin/sh", "-c", "(sleep 0.1 &) ; sleep 0.4"])
            .finish()
            .expect_code(0)
            .trace();
        assert_eq!(trace.footer().zombies, 0);
        let reaped = trace
            .reaps()
            .iter()
            .any(|(event, _)| event.task.jail_pid == Some(1));
        assert!(reaped, "{}", trace.summary());
    });
}
