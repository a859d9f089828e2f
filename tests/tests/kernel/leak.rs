//! What a jail leaves is found, told, and nothing else is.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use procjail::event::LeakCheck;
use procjail_tests::{Scene, Trace, misbehave, procjail, scene};

/// The look at the host after the jail's removal; there must be exactly one.
#[track_caller]
fn check(trace: &Trace) -> LeakCheck {
    let checks = trace.leak_checks();
    assert_eq!(checks.len(), 1, "{checks:?}");
    checks[0].1.clone()
}

#[test]
fn a_clean_end_is_said_to_be_one() {
    scene(|scene| {
        let finished = scene
            .trace(&["--net", "none"], &[&misbehave(), "exit", "0"])
            .finish()
            .expect_code(0);
        let found = check(&finished.trace());
        assert!(!found.found_any(), "{found:?}");
        assert_eq!(found.incomplete, Vec::<String>::new());
        assert!(finished.stderr.contains("nothing is left of the jail"));
        assert!(
            !finished.stderr.contains("procjail: "),
            "{}",
            finished.stderr
        );
    });
}

/// Each is a rule with its look-alikes; the lab itself judges. Whatever it makes on the host is undone.
#[test]
fn every_leak_of_the_lab_is_explained() {
    const LEAKS: [&str; 8] = [
        "mount-propagated-to-host",
        "mount-held-by-other-ns",
        "mount-held-by-own-helper",
        "umount-busy",
        "mount-lazy-alive",
        "umount-locked",
        "ns-pinned",
        "cgroup-dying-pinned",
    ];
    scene(|scene| {
        let mut played = 0;
        for id in LEAKS {
            let finished = scene.procjail(&["lab", id]).finish();
            // 3: the machine lacks what it needs, and procjail says what.
            if finished.code == Some(3) {
                assert!(
                    finished.stderr.contains("does not have"),
                    "{}",
                    finished.stderr
                );
                continue;
            }
            let finished = finished.expect_code(0);
            assert!(finished.stdout.contains(id), "{}", finished.stdout);
            played += 1;
        }
        // One asks for a newer kernel than the oldest, one for the memory controller.
        assert!(played >= LEAKS.len() - 2, "only {played} were played");
    });
}

#[test]
fn what_vanishes_with_the_namespace_is_told() {
    scene(|scene| {
        let directory = scene.path("mnt");
        std::fs::create_dir(&directory).expect("a directory");
        let directory = directory.display().to_string();
        let program = procjail().display().to_string();
        let trace = scene
            .trace(&[], &[&program, "misbehave", "mount-leave", &directory])
            .finish()
            .expect_code(0)
            .trace();
        assert!(!check(&trace).found_any());
        let gone = trace.implicit_unmounts();
        assert_eq!(gone.len(), 1, "{gone:?}");
        let (event, gone) = gone[0];
        let mount = gone
            .mounts
            .iter()
            .find(|mount| mount.target == directory)
            .expect("the mount");
        assert_eq!(
            (mount.fs_type.as_str(), mount.source.as_str()),
            ("tmpfs", "lab")
        );
        assert!(gone.seen_ns < event.time_ns);
        // Where the kernel tells of unmounts, it tells of all: those of the host's mounts as well.
        if let Some(count) = gone.unmounted {
            assert!(count >= gone.mounts.len() as u64, "{gone:?}");
            let gone_ns = gone.gone_ns.expect("a time");
            assert!(
                gone.seen_ns < gone_ns && gone_ns < event.time_ns,
                "{gone:?}"
            );
        }
    });
}

/// Whether this kernel lets a jail pass mounts to the host; where it doesn't, that is refused.
fn can_share(scene: &Scene) -> bool {
    let finished = scene
        .run(&["--propagation", "shared"], &["/bin/true"])
        .finish();
    if finished.code == Some(125) {
        finished.expect_refusal(125, &["Linux 5.15"]);
        return false;
    }
    assert_eq!(finished.expect_code(0).stderr, "");
    true
}

/// A shared mount around the scene's directory, undone with all that came up below.
fn shared(scene: &Scene, test: impl FnOnce(&Path)) {
    if !can_share(scene) {
        return;
    }
    let path = scene.path("shared");
    std::fs::create_dir(&path).expect("a directory");
    let none: Option<&str> = None;
    mount(Some(&path), &path, none, MsFlags::MS_BIND, none).expect("a bind mount");
    mount(none, &path, none, MsFlags::MS_PRIVATE, none).expect("a private mount");
    mount(none, &path, none, MsFlags::MS_SHARED, none).expect("a shared mount");
    std::fs::create_dir(path.join("mnt")).expect("a directory");
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(&path)));
    let _ = umount2(&path.join("mnt"), MntFlags::MNT_DETACH);
    umount2(&path, MntFlags::MNT_DETACH).expect("unmounted");
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn run_says_what_it_leaves_on_the_host() {
    scene(|scene| {
        shared(scene, |path| {
            let target = path.join("mnt").display().to_string();
            let app = [misbehave(), "mount-leak".to_owned(), target.clone()];
            let app: Vec<&str> = app.iter().map(String::as_str).collect();
            let finished = scene
                .run(&["--propagation", "shared"], &app)
                .finish()
                .expect_code(0);
            let lines: Vec<_> = finished.stderr.lines().collect();
            assert_eq!(lines.len(), 1, "{lines:?}");
            assert!(
                lines[0].contains(&target) && lines[0].contains("on the host"),
                "{lines:?}"
            );
        });
    });
}

/// A short-lived jail is gone before its mounts were looked at: what it did is known all the same.
#[test]
fn a_mount_left_at_once_is_found() {
    scene(|scene| {
        shared(scene, |path| {
            let target = path.join("mnt").display().to_string();
            let trace = scene
                .trace(
                    &["--propagation", "shared"],
                    &[&misbehave(), "mount-leak", &target],
                )
                .finish()
                .expect_code(0)
                .trace();
            let found = check(&trace);
            assert_eq!(found.mounts.len(), 1, "{found:?}");
            assert!(found.mounts[0].launchers);
            assert_eq!(found.mounts[0].mount.target, target);
        });
    });
}

#[test]
fn who_joined_from_outside_is_told() {
    scene(|scene| {
        let running = scene
            .trace(&["--name", "joined"], &[&misbehave(), "handle-term", "0"])
            .spawn();
        running.wait_for_line("ready");
        let directory = procjail_tests::cgroup_directories()
            .into_iter()
            .find(|path| path.ends_with("joined") && path.join("cgroup.events").exists())
            .expect("the jail's v2 directory");
        let mut outsider = Command::new(misbehave())
            .arg("default-term")
            .stdout(Stdio::null())
            .spawn()
            .expect("an outsider");
        std::fs::write(directory.join("cgroup.procs"), outsider.id().to_string()).expect("moved");
        running.signal(libc::SIGTERM);
        let finished = running.finish().expect_code(0);
        outsider.wait().expect("killed with the jail");
        let found = check(&finished.trace());
        let pids: Vec<u32> = found.joined.iter().map(|task| task.pid).collect();
        assert_eq!(pids, [outsider.id()]);
        assert_eq!(found.joined[0].jail_pid, None);
        assert!(
            finished.stderr.contains("had joined"),
            "{}",
            finished.stderr
        );
    });
}

#[test]
fn a_namespace_in_use_and_output_held_are_told() {
    scene(|scene| {
        let (mut output, input) = std::io::pipe().expect("a pipe");
        let running = scene
            .trace(&["--net", "none"], &[&misbehave(), "handle-term", "0"])
            .stdout(input.try_clone().expect("a descriptor"))
            .spawn();
        let mut line = [0; 6];
        output.read_exact(&mut line).expect("ready");
        assert_eq!(&line, b"ready\n");
        // PID 1 is the launcher's child that has a network namespace of its own.
        let own = std::fs::read_link("/proc/self/ns/net").expect("a namespace");
        let pid1 = procjail_tests::descendants()
            .into_iter()
            .find(|pid| {
                std::fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|found| found != own)
            })
            .expect("PID 1");
        let namespace = std::fs::File::open(format!("/proc/{pid1}/ns/net")).expect("a namespace");
        let mut holder = Command::new(misbehave());
        holder.arg("default-term").stdout(input);
        // SAFETY: setsid and setns are system calls and nothing more.
        unsafe {
            holder.pre_exec(move || {
                libc::setsid();
                match libc::setns(std::os::fd::AsRawFd::as_raw_fd(&namespace), 0) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
        let mut holder = holder.spawn().expect("a holder");
        // Where namespaces have no ID, a holder is told if a look saw it beside the jail: one is taken every 250 ms.
        std::thread::sleep(std::time::Duration::from_millis(400));
        running.signal(libc::SIGTERM);
        let finished = running.finish().expect_code(0);
        holder.kill().expect("killed");
        holder.wait().expect("its status");
        let found = check(&finished.trace());
        assert_eq!(found.namespaces.len(), 1, "{found:?}");
        assert_eq!(found.namespaces[0].kind, "net");
        let pins: Vec<u32> = found.namespaces[0]
            .pins
            .iter()
            .map(|pin| pin.process.pid)
            .collect();
        assert!(pins.contains(&holder.id()), "{found:?}");
        let holders: Vec<u32> = found.output.iter().map(|held| held.process.pid).collect();
        assert_eq!(holders, [holder.id()]);
    });
}
