//! Mounts that APP makes.

use procjail_tests::{misbehave, scene};

#[test]
fn a_tmpfs_mount_and_its_unmount_are_told() {
    scene(|scene| {
        let directory = scene.path("mnt");
        std::fs::create_dir(&directory).expect("a directory");
        let directory = directory.display().to_string();
        let trace = scene
            .trace(&[], &[&misbehave(), "mount-tmpfs", &directory])
            .finish()
            .expect_code(0)
            .trace();
        let mounts: Vec<_> = trace
            .mounts()
            .into_iter()
            .filter(|(event, mount)| event.task.jail_pid == Some(1) && mount.target == directory)
            .collect();
        assert_eq!(mounts.len(), 2, "{mounts:?}");
        let (_, mount) = mounts[0];
        assert_eq!(mount.call, "mount");
        assert_eq!(mount.fs_type, "tmpfs");
        assert_eq!(mount.source, "misbehave");
        assert_eq!(mount.flag_names, ["MS_NOSUID"]);
        assert_eq!(mount.result, Some(0));
        assert!(mount.duration_ns > 0);
        assert_eq!(mounts[1].1.call, "umount2");
        assert_eq!(mounts[1].1.result, Some(0));
    });
}

#[test]
fn a_mount_that_fails_has_its_error() {
    scene(|scene| {
        let trace = scene
            .trace(&[], &[&misbehave(), "mount-leak", "/nonexistent"])
            .finish()
            .expect_code(3)
            .trace();
        let mounts = trace.mounts();
        let (_, mount) = mounts
            .iter()
            .find(|(_, mount)| mount.target == "/nonexistent")
            .expect("the failed mount");
        assert_eq!(mount.error.as_ref().expect("an error").name, "ENOENT");
    });
}

/// In every propagation mode that keeps mounts inside, nothing is left on the host; the census of the
/// scene proves it. `shared` is the classic leak, made on purpose.
#[test]
fn a_leaked_mount_dies_with_the_namespace() {
    scene(|scene| {
        let directory = scene.path("mnt");
        std::fs::create_dir(&directory).expect("a directory");
        let directory = directory.display().to_string();
        for propagation in ["private", "slave"] {
            scene
                .run(
                    &["--propagation", propagation],
                    &[&misbehave(), "mount-leak", &directory],
                )
                .finish()
                .expect_code(0);
            let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
            assert!(!mounts.contains(&directory), "{propagation}: {mounts}");
        }
    });
}

#[test]
fn no_mounts_means_no_mount_events() {
    scene(|scene| {
        let directory = scene.path("mnt");
        std::fs::create_dir(&directory).expect("a directory");
        let directory = directory.display().to_string();
        let trace = scene
            .trace(&["--no-mounts"], &[&misbehave(), "mount-tmpfs", &directory])
            .finish()
            .expect_code(0)
            .trace();
        assert!(trace.mounts().is_empty());
    });
}
