//! The mounts of a jail: what APP sees, what it can't reach, and that the host never sees them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use common::{HostTmpfs, host_mounts, ok, refused, root, run, text};

#[test]
fn a_root_replaces_the_hosts_files() {
    let root = root();
    std::fs::write(root.path().join("etc/mark"), "inside").unwrap();
    let dir = text(root.path());
    let script = "cat /etc/mark; echo; pwd; ls /; cat /proc/1/comm; cat /proc/self/mountinfo";
    let inside = ok(["--root", &dir, "--", "sh", "-c", script]);
    let mut lines = inside.lines();
    assert_eq!((lines.next(), lines.next()), (Some("inside"), Some("/")));
    let listed: Vec<_> = lines.by_ref().take(6).collect();
    assert_eq!(listed, ["bin", "dev", "etc", "mnt", "proc", "tmp"]);
    assert_eq!(lines.next(), Some("sh"));
    // The old root is detached: nothing but the jail's own mounts.
    let targets: Vec<_> = lines.filter_map(|line| line.split(' ').nth(4)).collect();
    assert_eq!(targets, ["/", "/proc", "/dev", "/dev/pts", "/dev/shm"]);
    assert!(
        !host_mounts().contains(&dir),
        "nothing of it shows on the host"
    );
    assert_eq!(
        std::fs::read_dir(root.path().join("dev")).unwrap().count(),
        0
    );
}

#[test]
fn dev_has_what_programs_expect() {
    let root = root();
    let script = "cd /dev; echo *; echo x >null; cat full | cat >/dev/null & readlink fd; stat -c %t:%T:%a null tty; echo y >/dev/shm/z; ls -d pts/ptmx";
    let inside = ok([
        "--root",
        &text(root.path()),
        "--",
        "sh",
        "-c",
        &script.replace("cat full | cat >/dev/null & ", ""),
    ]);
    assert_eq!(
        inside,
        "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero\n\
         /proc/self/fd\n1:3:666\n5:0:666\npts/ptmx\n"
    );
}

#[test]
fn read_only_spares_what_must_be_written() {
    let script = "touch /tmp/x 2>/dev/null && echo leaky; echo 1 >/dev/null && echo dev; \
        echo 100 >/proc/self/oom_score_adj && echo proc; touch /mnt/x && echo tmpfs; touch /sys/fs/cgroup/x 2>/dev/null && echo leaky; true";
    let args = ["--read-only", "--tmpfs", "/mnt", "--", "sh", "-c", script];
    assert_eq!(ok(args), "dev\nproc\ntmpfs\n");
    let (root, data) = (root(), tempfile::tempdir().unwrap());
    let bind = format!("{}:/mnt", text(data.path()));
    let args = [
        "--root",
        &text(root.path()),
        "--read-only",
        "--tmpfs",
        "/tmp:1M",
        "--bind",
        &bind,
        "--",
        "sh",
        "-c",
        "touch /etc/x 2>/dev/null && echo leaky; touch /mnt/written /tmp/x && echo 1 >/dev/null && echo good",
    ];
    assert_eq!(ok(args), "good\n");
    assert!(data.path().join("written").exists() && !root.path().join("etc/x").exists());
}

#[test]
fn binds_show_host_files_and_may_be_read_only() {
    let (root, host) = (root(), HostTmpfs::mount(false));
    // A mount below the source comes along, and is read-only as well.
    std::fs::create_dir(host.path().join("below")).unwrap();
    nix::mount::mount(
        Some("tmpfs"),
        &host.path().join("below"),
        Some("tmpfs"),
        nix::mount::MsFlags::empty(),
        None::<&str>,
    )
    .unwrap();
    std::fs::write(host.path().join("below/file"), "deep").unwrap();
    let dir = text(root.path());
    let script = "cat /mnt/below/file; touch /mnt/x /mnt/below/x; true";
    for (suffix, writable) in [("", true), (":ro", false)] {
        let bind = format!("{}:/mnt{suffix}", text(host.path()));
        let (code, stdout, _) = run(["--root", &dir, "--bind", &bind, "--", "sh", "-c", script]);
        assert_eq!((code, stdout.as_str()), (0, "deep"));
        for file in ["x", "below/x"] {
            let file = host.path().join(file);
            assert_eq!(file.exists(), writable, "{suffix:?} {}", file.display());
            let _ = std::fs::remove_file(file);
        }
    }
    nix::mount::umount2(&host.path().join("below"), nix::mount::MntFlags::MNT_DETACH).unwrap();
    // A file can be bound to a file.
    std::fs::write(root.path().join("etc/name"), "").unwrap();
    let args = [
        "--root",
        &dir,
        "--bind",
        "/etc/hostname:/etc/name:ro",
        "--",
        "cat",
        "/etc/name",
    ];
    assert_eq!(ok(args), std::fs::read_to_string("/etc/hostname").unwrap());
}

#[test]
fn sources_are_the_hosts_even_if_they_are_hidden_inside() {
    let data = tempfile::tempdir_in("/tmp").unwrap();
    std::fs::write(data.path().join("file"), "seen").unwrap();
    let bind = format!("{}:/mnt", text(data.path()));
    let args = [
        "--tmpfs",
        "/tmp",
        "--bind",
        &bind,
        "--workdir",
        "/",
        "--",
        "sh",
        "-c",
        "cat /mnt/file; echo; ls /tmp",
    ];
    assert_eq!(
        ok(args),
        "seen\n\n".trim_end_matches('\n').to_owned() + "\n"
    );
}

#[test]
fn a_tmpfs_is_as_large_as_asked() {
    let inside = ok([
        "--tmpfs", "/mnt:2M", "--", "stat", "-f", "-c", "%T %b %S", "/mnt",
    ]);
    let mut words = inside.split_whitespace();
    assert_eq!(words.next(), Some("tmpfs"));
    let sizes: Vec<u64> = words.map(|word| word.parse().unwrap()).collect();
    assert_eq!(sizes.iter().product::<u64>(), 2 << 20);
}

#[test]
fn symbolic_links_of_a_root_lead_nowhere_outside() {
    let outside = tempfile::tempdir().unwrap();
    let untouched = || assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    for name in ["proc", "dev"] {
        // CVE-2019-19921, CVE-2026-41579: /proc or /dev of the root leads to a directory of the host.
        let root = root();
        std::fs::remove_dir(root.path().join(name)).unwrap();
        symlink(outside.path(), root.path().join(name)).unwrap();
        refused(
            ["--root", &text(root.path()), "--", "sh"],
            125,
            &["ELOOP", &format!("{name} is a symbolic link")],
        );
        // Inside the root it is refused as well.
        std::fs::remove_file(root.path().join(name)).unwrap();
        symlink("tmp", root.path().join(name)).unwrap();
        refused(["--root", &text(root.path()), "--", "sh"], 125, &["ELOOP"]);
        untouched();
    }
    // A mount point that leads outside is looked for inside: it isn't there.
    let root = root();
    symlink(outside.path(), root.path().join("out")).unwrap();
    symlink("../../../../../..", root.path().join("up")).unwrap();
    let dir = text(root.path());
    refused(
        ["--root", &dir, "--tmpfs", "/out", "--", "sh"],
        125,
        &["ENOENT"],
    );
    refused(
        ["--root", &dir, "--bind", "/etc:/out", "--", "sh"],
        125,
        &["ENOENT"],
    );
    untouched();
    // Upwards ends at the jail's root.
    let inside = ok([
        "--root",
        &dir,
        "--bind",
        "/etc/hostname:/up/etc/x",
        "--",
        "true",
    ]
    .map(|arg| match arg {
        "/etc/hostname:/up/etc/x" => "/usr:/up/mnt",
        "true" => "/bin/ls",
        other => other,
    }));
    assert!(inside.contains("bin"), "{inside}");
    // CVE-2025-31133: /dev/null of the root is never used, let alone followed.
    symlink("/proc/sysrq-trigger", root.path().join("dev/null")).unwrap();
    assert_eq!(
        ok(["--root", &dir, "--", "stat", "-c", "%F", "/dev/null"]),
        "character special file\n"
    );
}

#[test]
fn a_link_swapped_in_a_loop_never_catches_a_mount() {
    // CVE-2021-30465, CVE-2024-45310: the mount point changes between directory and link.
    let (root, outside) = (root(), tempfile::tempdir().unwrap());
    let (point, other) = (root.path().join("point"), root.path().join("other"));
    std::fs::create_dir(&point).unwrap();
    symlink(outside.path(), &other).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let exchange = |from: &std::path::Path, to: &std::path::Path| {
                let (from, to) = (
                    std::ffi::CString::new(text(from)).unwrap(),
                    std::ffi::CString::new(text(to)).unwrap(),
                );
                // SAFETY: both are valid C strings; 2 is RENAME_EXCHANGE.
                unsafe {
                    libc::syscall(
                        libc::SYS_renameat2,
                        libc::AT_FDCWD,
                        from.as_ptr(),
                        libc::AT_FDCWD,
                        to.as_ptr(),
                        2,
                    )
                };
            };
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                exchange(&point, &other);
            }
        });
        for _ in 0..40 {
            let args = [
                "--root",
                &text(root.path()),
                "--tmpfs",
                "/point",
                "--",
                "sh",
                "-c",
                "cat /proc/self/mountinfo",
            ];
            let (code, stdout, _) = run(args);
            assert!(code == 0 || code == 125, "{code}");
            let inside = stdout.lines().filter_map(|line| line.split(' ').nth(4));
            assert!(
                inside.clone().all(|target| !target.starts_with("/tmp/")),
                "{stdout}"
            );
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let mounts = host_mounts();
    assert!(!mounts.contains(&text(root.path())) && !mounts.contains(&text(outside.path())));
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}

/// Runs APP with a propagation, in a shared tmpfs of the host: while it runs, is there any mount of
/// procjail's, and is there APP's own?
fn mounts_seen_by_the_host(propagation: &str, extra: &[&str]) -> (bool, bool) {
    let host = HostTmpfs::mount(true);
    let dir = text(host.path());
    for name in ["app", "new", "proc", "dev", "bin"] {
        std::fs::create_dir(host.path().join(name)).unwrap();
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"]
        .iter()
        .find(|path| std::path::Path::new(path).exists());
    std::fs::copy(
        busybox.expect("install busybox-static"),
        host.path().join("bin/busybox"),
    )
    .unwrap();
    let inside = if extra.contains(&"--root") {
        ""
    } else {
        dir.as_str()
    };
    let new = format!("{inside}/new");
    let script = format!(
        "/bin/busybox mount -t tmpfs of-app {inside}/app && echo ready && exec /bin/busybox sleep 60"
    );
    let mut args = vec!["--propagation", propagation, "--tmpfs", &new];
    args.extend(
        extra
            .iter()
            .map(|arg| if *arg == "DIR" { dir.as_str() } else { arg }),
    );
    let shell = ["--", "/bin/busybox", "sh", "-c", &script];
    args.extend(shell);
    // Other tests have mounts of their own.
    let mounts = || {
        let all = host_mounts();
        let here = all.lines().filter(|line| line.contains(&dir));
        here.map(str::to_owned).collect::<Vec<_>>()
    };
    let before = mounts();
    let mut child = common::spawn(common::command(&args));
    let mut ready = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
    let during = mounts();
    let added: Vec<_> = during
        .iter()
        .filter(|line| !before.contains(line))
        .collect();
    let of_app = added.iter().any(|line| line.contains("of-app"));
    let ours = added.iter().any(|line| !line.contains("of-app"));
    // Busybox's sleep as PID 1 has no handler: the second one ends the stop window.
    for _ in 0..2 {
        // SAFETY: no pointer is passed; the child is not reaped yet.
        unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
        std::thread::sleep(Duration::from_millis(200));
    }
    common::wait(child);
    // What APP left on the host is APP's; nothing else may be there.
    let after = mounts();
    let known = |line: &String| before.contains(line) || line.contains("of-app");
    assert!(after.iter().all(known), "{after:?}");
    assert!(before.iter().all(|line| after.contains(line)), "{after:?}");
    if of_app {
        nix::mount::umount2(&host.path().join("app"), nix::mount::MntFlags::MNT_DETACH).unwrap();
    }
    (ours, of_app)
}

#[test]
fn no_propagation_leaks_a_mount_of_procjail() {
    for (propagation, app_is_seen) in [("private", false), ("slave", false), ("shared", true)] {
        assert_eq!(
            mounts_seen_by_the_host(propagation, &[]),
            (false, app_is_seen),
            "{propagation}"
        );
        assert_eq!(
            mounts_seen_by_the_host(propagation, &["--root", "DIR"]),
            (false, app_is_seen),
            "{propagation}, root"
        );
    }
}

#[test]
fn a_slave_sees_what_the_host_mounts_and_a_private_jail_does_not() {
    for (propagation, seen) in [("private", false), ("slave", true), ("shared", true)] {
        let host = HostTmpfs::mount(true);
        let (late, go) = (host.path().join("late"), host.path().join("go"));
        std::fs::create_dir(&late).unwrap();
        let script = format!(
            "until test -e {}; do sleep 0.01; done; grep -c of-host /proc/self/mountinfo; true",
            go.display()
        );
        let mut child = common::command(["--propagation", propagation, "--", "sh", "-c", &script]);
        let child = child
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // Its mounts are copied once it shows as PID 1 of a cgroup; a jail that isn't yet would see it anyway.
        wait_for_sleep(child.id());
        nix::mount::mount(
            Some("of-host"),
            &late,
            Some("tmpfs"),
            nix::mount::MsFlags::empty(),
            None::<&str>,
        )
        .unwrap();
        std::fs::write(&go, "").unwrap();
        let output = common::wait(child);
        nix::mount::umount2(&late, nix::mount::MntFlags::MNT_DETACH).unwrap();
        let expected: &[u8] = if seen { b"1\n" } else { b"0\n" };
        assert_eq!(output.stdout, expected, "{propagation}");
    }
}

/// Waits until a launcher's PID 1 runs APP.
fn wait_for_sleep(launcher: u32) {
    let start = Instant::now();
    let children = format!("/proc/{launcher}/task/{launcher}/children");
    loop {
        let pids = std::fs::read_to_string(&children).unwrap_or_default();
        let comm =
            |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if pids.split_whitespace().any(|pid| comm(pid) == "sh\n") {
            return;
        }
        assert!(start.elapsed() < common::LIMIT, "APP does not start");
        std::thread::sleep(Duration::from_millis(5));
    }
}
