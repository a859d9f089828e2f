//! Exit codes that no scenario plays, and what only looks like them.

use crate::diagnose::Confidence;
use crate::diagnose::fixture::{Scene, failed_call, inside, launcher, sent, thread};
use crate::event::*;

fn has(scene: &Scene, id: &str) -> bool {
    scene.ids().iter().any(|found| found == id)
}

/// PID 1 collects a worker that ended so, and ends so itself so many milliseconds later.
fn wrapper(worker_status: i32, after_ms: u64, status: i32) -> Scene {
    let (pid1, worker) = (inside(1, "wrapper"), inside(2, "worker"));
    let mut scene = Scene::new(&["/bin/wrapper"]);
    scene
        .fork(1, &pid1, &worker)
        .exit_to(5, &worker, &pid1, worker_status)
        .reap(5, &pid1, &worker)
        .end(5 + after_ms, &pid1, status);
    scene
}

#[test]
fn a_code_is_the_childs_where_it_was_passed_on() {
    let scene = wrapper(0x300, 1, 0x300);
    let found = scene.verdict("exit-own-code");
    assert!(
        found
            .verdict()
            .contains("worker (PID 2) itself returned the exit code 3")
    );
    assert!(
        found
            .verdict()
            .contains("wrapper (PID 1) returned the same")
    );
    assert_eq!(found.pids.len(), 2);
    let own = wrapper(0, 1, 0x300).verdict("exit-own-code");
    assert!(own.verdict().contains("wrapper (PID 1) itself"));
}

#[test]
fn a_code_that_follows_much_later_is_no_childs() {
    assert!(has(&wrapper(9, 5, 0x100), "exit-status-laundered"));
    let late = wrapper(9, 500, 0x100);
    assert!(!has(&late, "exit-status-laundered"));
    assert!(has(&late, "exit-own-code"));
}

#[test]
fn errors_of_the_wrapper_make_it_less_sure() {
    let mut scene = wrapper(9, 5, 0x100);
    assert_eq!(
        scene.verdict("exit-status-laundered").confidence,
        Confidence::Proven
    );
    let failed = failed_call("connect", libc::ECONNREFUSED, None, &[]);
    scene.failed_calls(10, inside(1, "wrapper"), vec![failed]);
    assert_eq!(
        scene.verdict("exit-status-laundered").confidence,
        Confidence::Likely
    );
}

#[test]
fn a_wrapper_that_killed_its_child_is_said_to() {
    let (pid1, worker) = (inside(1, "wrapper"), inside(2, "worker"));
    let mut scene = wrapper(libc::SIGTERM, 1, 124 << 8);
    scene.send(4, &pid1, sent(libc::SIGTERM, &worker));
    let found = scene.verdict("exit-status-laundered");
    assert!(
        found.verdict().contains("killed its child"),
        "{}",
        found.verdict()
    );
}

#[test]
fn codes_above_128_have_three_origins() {
    let shell = wrapper(9, 1, 137 << 8).verdict("exit-128n-by-program");
    assert!(
        shell
            .verdict()
            .contains("its child worker (PID 2) was killed by SIGKILL")
    );

    let pid1 = inside(1, "java");
    let mut handled = Scene::new(&["/bin/java"]);
    handled
        .deliver(5, &pid1, libc::SIGTERM, Disposition::Handler)
        .end(9, &pid1, 143 << 8);
    let handled = handled.verdict("exit-128n-by-program");
    assert!(handled.verdict().contains("after its handler took SIGTERM"));

    let mut alone = Scene::new(&["/bin/app"]);
    alone.end(9, inside(1, "app"), 137 << 8);
    let alone = alone.verdict("exit-128n-by-program");
    assert!(alone.verdict().contains("chose itself"));

    // A signal is a signal.
    let mut killed = Scene::new(&["/bin/app"]);
    killed.end(9, inside(1, "app"), 9);
    assert!(!has(&killed, "exit-128n-by-program"));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_dead_worker() {
    assert!(has(&wrapper(11, 1, 0), "exit-zero-but-worker-died"));
    assert!(!has(
        &wrapper(libc::SIGPIPE, 1, 0),
        "exit-zero-but-worker-died"
    ));
    let mut stopped = wrapper(libc::SIGTERM, 1, 0);
    stopped.send(
        4,
        inside(1, "wrapper"),
        sent(libc::SIGTERM, &inside(2, "worker")),
    );
    assert!(!has(&stopped, "exit-zero-but-worker-died"));
    // What grep and test return is an answer.
    assert!(!has(&wrapper(0x100, 500, 0), "exit-zero-but-worker-died"));
}

#[test]
fn a_code_of_minus_one_is_255() {
    let pid1 = inside(1, "app");
    let mut scene = Scene::new(&["/bin/app"]);
    scene.exit_with(5, &pid1, launcher(), 0xff00, |exit| {
        exit.argument = Some(-1);
    });
    let found = scene.verdict("exit-wrapped");
    assert!(found.verdict().contains("exit(-1)") && found.verdict().contains("is 255"));
    assert!(!has(&scene, "exit-own-code"));
}

#[test]
fn a_missing_library_is_named_where_the_calls_are_known() {
    let (pid1, app) = (inside(1, "sh"), inside(2, "app"));
    let mut scene = Scene::new(&["/bin/sh"]);
    scene
        .fork(1, &pid1, &app)
        .exec(2, &app, &["/opt/app"])
        .exit_to(4, &app, &pid1, 127 << 8)
        .reap(5, &pid1, &app)
        .end(6, &pid1, 127 << 8);
    assert_eq!(
        scene.verdict("exit-127-loader").confidence,
        Confidence::ConsistentWith
    );
    let failed = failed_call("openat", libc::ENOENT, Some("/usr/lib/libssl.so.3"), &[]);
    scene.failed_calls(4, &app, vec![failed]);
    let found = scene.verdict("exit-127-loader");
    assert_eq!(found.confidence, Confidence::Proven);
    assert!(found.verdict().contains("libssl.so.3"));
    assert!(!has(&scene, "exit-own-code") && !has(&scene, "exit-127-not-found"));
}

#[test]
fn a_daemon_is_left_at_once_or_not_at_all() {
    let (pid1, daemon) = (inside(1, "nginx"), inside(2, "nginx"));
    let scene = |ms| {
        let mut scene = Scene::new(&["/bin/nginx"]);
        scene
            .fork(1, &pid1, &daemon)
            .end(ms, &pid1, 0)
            .exit_to(ms + 1, &daemon, &pid1, 9);
        has(&scene, "exit-daemonized")
    };
    assert!(scene(50));
    assert!(!scene(60_000));
}

/// A child that somebody else collects, and PID 1's wait for it, which fails.
fn stolen(args: &[u64]) -> Scene {
    let (pid1, child) = (inside(1, "app"), inside(2, "worker"));
    let mut scene = Scene::new(&["/bin/app"]);
    let failed = failed_call("wait4", libc::ECHILD, None, args);
    scene
        .fork(1, &pid1, &child)
        .exit_to(5, &child, &pid1, 0x700)
        .notice(5, &child, &pid1)
        .reap(5, thread(&pid1, 1), &child)
        .end(9, &pid1, 0x100)
        .failed_calls(9, &pid1, vec![failed]);
    scene
}

#[test]
fn a_status_is_stolen_from_who_asked_for_it() {
    let scene = stolen(&[2]);
    let found = scene.verdict("status-stolen");
    assert_eq!(found.confidence, Confidence::Proven);
    assert!(!has(&scene, "sigchld-ignored-autoreap") && !has(&scene, "exit-own-code"));
    // A loop that collects all children ends with ECHILD.
    let any = u64::from(u32::MAX);
    assert!(!has(&stolen(&[any]), "status-stolen"));
}

#[test]
fn children_are_discarded_where_nobody_collects_them_and_nothing_is_said() {
    let (pid1, child) = (inside(1, "app"), inside(2, "worker"));
    let mut scene = Scene::new(&["/bin/app"]);
    let failed = failed_call("wait4", libc::ECHILD, None, &[2]);
    scene
        .fork(1, &pid1, &child)
        .exit_to(5, &child, &pid1, 0x700)
        .free(8, &child)
        .end(200, &pid1, 0x100)
        .failed_calls(200, &pid1, vec![failed]);
    let found = scene.verdict("sigchld-ignored-autoreap");
    assert_eq!(found.confidence, Confidence::Proven);
    assert!(!has(&scene, "status-stolen") && !has(&scene, "exit-own-code"));
    // The kernel tells of the release late, but the wait found nobody.
    let mut late = Scene::new(&["/bin/app"]);
    let failed = failed_call("wait4", libc::ECHILD, None, &[2]);
    late.fork(1, &pid1, &child)
        .exit_to(5, &child, &pid1, 0x700)
        .end(200, &pid1, 0x100)
        .failed_calls(200, &pid1, vec![failed])
        .free(2_000, &child);
    assert!(has(&late, "sigchld-ignored-autoreap"));
    // A zombie that goes with the namespace.
    let mut zombie = Scene::new(&["/bin/app"]);
    zombie
        .fork(1, &pid1, &child)
        .exit_to(5, &child, &pid1, 0x700)
        .end(200, &pid1, 0x100)
        .free(201, &child);
    assert!(!has(&zombie, "sigchld-ignored-autoreap"));
}

#[test]
fn what_every_program_looks_for_is_no_reason() {
    let mut scene = Scene::new(&["/bin/sh"]);
    let sh = inside(1, "sh");
    scene.failed_calls(
        10,
        &sh,
        vec![
            failed_call("access", libc::ENOENT, Some("/etc/ld.so.preload"), &[]),
            failed_call(
                "openat",
                libc::ENOENT,
                Some("/usr/lib/locale/C.UTF-8/LC_CTYPE"),
                &[],
            ),
        ],
    );
    scene.end(11, &sh, 4 << 8);
    let verdict = scene.verdict("exit-own-code").verdict();
    assert!(!verdict.contains("ENOENT"), "{verdict}");
}
