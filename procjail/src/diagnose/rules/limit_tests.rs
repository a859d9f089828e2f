//! Limits, and what only looks like them.

use crate::diagnose::fixture::{Scene, failed_call, fault, inside, sent};
use crate::diagnose::{Confidence, Rank};
use crate::event::Disposition;

fn has(scene: &Scene, id: &str) -> bool {
    scene.ids().iter().any(|found| found == id)
}

#[test]
fn an_oom_kill_is_no_cpu_limit() {
    let (pid1, worker) = (inside(1, "app"), inside(2, "worker"));
    let mut scene = Scene::new(&["/bin/app"]);
    scene
        .fork(1, &pid1, &worker)
        .send(5, &worker, fault(libc::SIGKILL, 128, &worker, None))
        .exit_to(6, &worker, &pid1, libc::SIGKILL)
        .end(7, &pid1, 0);
    assert!(has(&scene, "rlimit-cpu"));
    scene.oom_kill(5, &worker);
    assert!(!has(&scene, "rlimit-cpu"));
}

#[test]
fn a_handler_may_take_the_warning() {
    let pid1 = inside(1, "app");
    let mut scene = Scene::new(&["/bin/app"]);
    let mut warning = fault(libc::SIGXCPU, 128, &pid1, None);
    warning.disposition = Disposition::Handler;
    scene
        .send(5, &pid1, warning)
        .deliver(5, &pid1, libc::SIGXCPU, Disposition::Handler)
        .end(6, &pid1, 0);
    assert!(!has(&scene, "rlimit-cpu"));
}

#[test]
fn somebody_may_send_sigxfsz() {
    let (pid1, worker) = (inside(1, "app"), inside(2, "worker"));
    let mut scene = Scene::new(&["/bin/app"]);
    scene
        .fork(1, &pid1, &worker)
        .send(5, &pid1, sent(libc::SIGXFSZ, &worker))
        .exit_to(6, &worker, &pid1, libc::SIGXFSZ)
        .end(7, &pid1, 0);
    assert!(!has(&scene, "rlimit-fsize"));
}

#[test]
fn who_ignores_sigxfsz_fails_at_the_same_limit() {
    let app = inside(1, "app");
    let scene = |limit: Option<u64>| {
        let large = failed_call("write", libc::EFBIG, Some("/mnt/export"), &[]);
        let mut scene = Scene::new(&["/bin/app"]);
        let rlimits = &mut scene.header.jail.rlimits;
        rlimits.insert("fsize".into(), limit);
        scene
            .end(5, &app, 1 << 8)
            .failed_calls(5, &app, vec![large])
            .stderr(5, &app, "OSError: [Errno 27] File too large\n");
        scene
    };
    let found = scene(Some(1 << 20)).verdict("rlimit-fsize");
    assert_eq!(found.sure(), Confidence::Likely);
    assert!(found.fact.contains("1.0 MiB"), "{}", found.fact);
    assert!(!has(&scene(Some(1 << 20)), "exit-own-code"));
    assert!(!has(&scene(None), "rlimit-fsize") && has(&scene(None), "exit-own-code"));
}

#[test]
fn an_error_matters_only_before_a_bad_end() {
    let pid1 = inside(1, "app");
    let scene = |status| {
        let mut scene = Scene::new(&["/bin/app"]);
        let full = failed_call("write", libc::ENOSPC, None, &[]);
        scene
            .end(5, &pid1, status)
            .failed_calls(5, &pid1, vec![full]);
        scene
    };
    let bad = scene(0x100).verdict("enospc");
    assert_eq!(
        (bad.rank, bad.confidence),
        (Rank::Problem, Confidence::Proven)
    );
    assert_eq!(bad.sure(), Confidence::Likely);
    assert!(!has(&scene(0x100), "exit-own-code"));
    // What it lived with is worth a word, no more.
    let lived = scene(0);
    assert_eq!(lived.verdict("enospc").rank, Rank::Note);
    assert_eq!(
        lived.ids().first().map(String::as_str),
        Some("exited-by-itself")
    );
}

/// PID 1 gave up after that call.
fn refused(call: crate::event::FailedCall) -> Scene {
    let pid1 = inside(1, "app");
    let mut scene = Scene::new(&["/bin/app"]);
    scene
        .end(5, &pid1, 0x100)
        .failed_calls(5, &pid1, vec![call]);
    scene
}

#[test]
fn a_limit_of_the_kernel_is_no_full_file_system() {
    let scene = refused(failed_call(
        "inotify_add_watch",
        libc::ENOSPC,
        Some("/srv"),
        &[3],
    ));
    let (_, verdict) = scene.expect("kernel-limit");
    assert!(verdict.contains("fs.inotify.max_user_watches"), "{verdict}");
    assert!(!has(&scene, "enospc"));
    let user = refused(failed_call(
        "unshare",
        libc::ENOSPC,
        None,
        &[libc::CLONE_NEWUSER as u64],
    ));
    let (_, verdict) = user.expect("kernel-limit");
    assert!(verdict.contains("user.max_user_namespaces"), "{verdict}");
    let watches = refused(failed_call("inotify_init1", libc::EMFILE, None, &[]));
    assert!(has(&watches, "kernel-limit") && !has(&watches, "emfile"));
}

#[test]
fn a_tmpfs_is_full_by_its_own_size() {
    let mut scene = refused(failed_call("write", libc::ENOSPC, Some("/mnt/f"), &[3]));
    let plan = "mount a new tmpfs at /mnt of 65536 bytes".to_owned();
    scene.plan().push(plan);
    let (_, verdict) = scene.expect("enospc");
    assert!(
        verdict.contains("The tmpfs of 64.0 KiB at /mnt was full"),
        "{verdict}"
    );
}

#[test]
fn the_limit_of_open_files_is_the_one_in_force() {
    let mut call = failed_call("openat", libc::EMFILE, Some("/etc/passwd"), &[]);
    let mut scene = refused(call.clone());
    scene
        .header
        .jail
        .rlimits
        .insert("nofile".into(), Some(1024));
    scene.limit(1, &inside(1, "app"), "nofile", 32);
    let (_, verdict) = scene.expect("emfile");
    assert!(
        verdict.contains("32), which app (PID 1) had set"),
        "{verdict}"
    );
    (call.open_files, call.nofile_limit) = (Some(9), Some(1024));
    let (confidence, verdict) = refused(call).expect("emfile");
    assert!(verdict.contains("was not reached"), "{verdict}");
    assert_eq!(confidence, Confidence::ConsistentWith);
}

#[test]
fn throttling_in_most_periods_is_noted() {
    let scene = |throttled: u64| {
        let mut scene = Scene::new(&["/bin/app"]);
        let stat: &[(&str, u64)] = &[
            ("cpu.stat:nr_periods", 30),
            ("cpu.stat:nr_throttled", throttled),
        ];
        scene
            .end(3_000, inside(1, "app"), 0)
            .counters(3_001, &[("/web", stat)]);
        scene
    };
    let found = scene(29).verdict("cpu-throttled");
    assert_eq!(found.rank, Rank::Note);
    assert!(found.fact.contains("29 of 30 periods"), "{}", found.fact);
    assert!(!has(&scene(3), "cpu-throttled"));
}
