//! Children: whose status was lost, who was left behind, and whose end says nothing.

use super::{has, wrapper};
use crate::diagnose::Confidence;
use crate::diagnose::fixture::{Scene, failed_call, inside, launcher, outside, sent, thread};
use crate::event::*;

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
    assert!(!has(&wrapper(0x100, 1, 0), "exit-zero-but-worker-died"));
    let mut said = wrapper(0x100, 1, 0);
    said.stderr(5, inside(2, "worker"), "worker: cannot open the queue\n");
    assert!(has(&said, "exit-zero-but-worker-died"));
}

#[test]
fn a_client_that_ends_its_server_is_no_daemon() {
    let (server, client) = (inside(1, "redis-server"), inside(2, "redis-cli"));
    let mut scene = Scene::new(&["/bin/sh"]);
    scene
        .fork(1, &server, &client)
        .exec(2, &server, &["redis-server"])
        .exec(500, &client, &["redis-cli", "shutdown"])
        .exit_with(1_000, &server, launcher(), 0, |exit| exit.session = 4131)
        .exit_with(1_001, &client, &server, 9, |exit| exit.session = 4132)
        .jail_exited(1_002, 0);
    let (confidence, story) = scene.expect("exited-by-itself");
    assert_eq!(confidence, Confidence::Proven);
    assert!(
        story
            .contains("redis-cli (PID 2) was still running, and was killed with the PID namespace"),
        "{story}"
    );
    assert!(!has(&scene, "exit-daemonized"));
}

#[test]
fn a_daemon_is_left_at_once_or_not_at_all() {
    let (pid1, daemon) = (inside(1, "nginx"), inside(2, "nginx"));
    let scene = |ms, session| {
        let mut scene = Scene::new(&["/bin/nginx"]);
        scene
            .fork(1, &pid1, &daemon)
            .exit_with(ms, &pid1, launcher(), 0, |exit| exit.session = 4131)
            .exit_with(ms + 1, &daemon, &pid1, 9, |exit| exit.session = session)
            .jail_exited(ms + 2, 0);
        scene
    };
    let found = scene(50, 4132).verdict("exit-daemonized");
    assert_eq!(found.sure(), Confidence::Proven);
    assert!(
        found.fact.contains("killed nginx (PID 2)"),
        "{}",
        found.fact
    );
    assert!(!has(&scene(60_000, 4132), "exit-daemonized"));
    assert!(!has(&scene(5_000, 4132), "exit-daemonized"));
    // It was killed before it came to setsid(2).
    scene(10, 4131).verdict("exit-daemonized");
    // One that another program left running, and gave up, is none.
    let (xargs, job) = (inside(3, "xargs"), inside(4, "job"));
    let mut left = Scene::new(&["/bin/sh"]);
    left.fork(1, &pid1, &xargs)
        .exec(2, &xargs, &["/usr/bin/xargs", "job"])
        .fork(3, &xargs, &job)
        .exit_to(20, &xargs, &pid1, 125 << 8)
        .reap(20, &pid1, &xargs)
        .exit_with(21, &pid1, launcher(), 0, |exit| exit.session = 4131)
        .exit_with(22, &job, &pid1, 9, |exit| exit.session = 4131)
        .jail_exited(23, 0);
    assert!(!has(&left, "exit-daemonized"));
    // One that is left in the session of PID 1 is none.
    let story = scene(50, 4131).verdict("exited-by-itself");
    assert!(
        story.fact.contains("nginx (PID 2) was still running"),
        "{}",
        story.fact
    );
}

#[test]
fn a_helper_that_its_own_parent_ended_is_no_dead_worker() {
    let (pid1, server, helper) = (inside(1, "app"), inside(2, "server"), inside(3, "helper"));
    let scene = |sender: &Task| {
        let mut scene = Scene::new(&["/bin/app"]);
        scene
            .fork(1, &pid1, &server)
            .fork(2, &server, &helper)
            .send(5, sender, sent(libc::SIGUSR1, &helper))
            .exit_to(5, &helper, &server, libc::SIGUSR1)
            .reap(6, &server, &helper)
            .exit_to(7, &server, &pid1, 0)
            .reap(7, &pid1, &server)
            .end(8, &pid1, 0);
        scene
    };
    assert!(!has(&scene(&server), "exit-zero-but-worker-died"));
}

#[test]
fn who_ends_its_child_when_asked_to_stop_does_what_it_was_asked() {
    let (pid1, job) = (inside(1, "ninja"), inside(2, "job"));
    let scene = |stopped: bool| {
        let mut scene = Scene::new(&["/bin/ninja"]);
        scene.fork(1, &pid1, &job);
        if stopped {
            let mut term = sent(libc::SIGTERM, &pid1);
            term.disposition = Disposition::Handler;
            scene.send(4, outside(70, "kill"), term).deliver(
                4,
                &pid1,
                libc::SIGTERM,
                Disposition::Handler,
            );
        }
        scene
            .send(5, &pid1, sent(libc::SIGTERM, &job))
            .exit_to(6, &job, &pid1, libc::SIGTERM)
            .reap(6, &pid1, &job)
            .end(7, &pid1, 2 << 8);
        scene
    };
    assert_eq!(
        scene(false).ids().first().map(String::as_str),
        Some("exit-status-laundered")
    );
    assert_eq!(
        scene(true).ids().first().map(String::as_str),
        Some("ended-on-request")
    );
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
    // Of a child that did its work nothing is missed: its handler of SIGCHLD may keep the status.
    let mut kept = Scene::new(&["/bin/app"]);
    let (pid1, child) = (inside(1, "app"), inside(2, "worker"));
    kept.fork(1, &pid1, &child)
        .exit_to(5, &child, &pid1, 0)
        .reap(5, &pid1, &child)
        .end(9, &pid1, 23 << 8)
        .failed_calls(
            9,
            &pid1,
            vec![failed_call("wait4", libc::ECHILD, None, &[2])],
        );
    assert!(!has(&kept, "status-stolen"));
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
fn a_helper_that_is_left_is_no_daemon() {
    let (browser, helper, tab) = (
        inside(1, "chromium"),
        inside(2, "crashpad"),
        inside(3, "tab"),
    );
    let mut scene = Scene::new(&["/bin/chromium"]);
    scene
        .fork(50, &browser, &helper)
        .fork(60, &browser, &tab)
        .exit_to(1_500, &tab, &browser, 0)
        .reap(1_501, &browser, &tab)
        .end(1_900, &browser, 0)
        .exit_with(1_901, &helper, &browser, 9, |exit| exit.session = 7);
    assert!(!has(&scene, "exit-daemonized"));
}

#[test]
fn a_supervisor_that_was_asked_to_end_is_no_daemon() {
    let (pid1, service) = (inside(1, "runsvdir"), inside(2, "runsv"));
    let mut scene = Scene::new(&["/bin/runsvdir"]);
    scene
        .fork(1, &pid1, &service)
        .send(40, launcher(), sent(libc::SIGTERM, &pid1))
        .end(50, &pid1, 0)
        .exit_to(51, &service, &pid1, 9);
    assert!(!has(&scene, "exit-daemonized"));
}
