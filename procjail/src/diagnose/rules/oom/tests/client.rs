//! A client of an OOM victim, and what only looks like one.

use super::*;
use crate::diagnose::fixture::failed_call;

const LOST: &str = "server closed the connection unexpectedly\n\tThis probably means\n";

/// A shell runs a server, of which a worker is OOM-killed at 1 s, and a client, which returns 2 so many milliseconds
/// after the worker's end, having written that. Then the shell runs another command, and returns 2 as well.
fn served(client_ms: u64, text: &str) -> Scene {
    let (shell, server) = (inside(1, "bash"), inside(2, "postgres"));
    let (worker, client) = (inside(3, "postgres"), inside(4, "psql"));
    let command = inside(5, "sleep");
    let at = 1_100 + client_ms;
    let mut scene = Scene::new(&["/bin/bash"]);
    scene
        .fork(1, &shell, &server)
        .fork(2, &shell, &client)
        .fork(10, &server, &worker)
        .at(
            1_000,
            &worker,
            What::OomKill(kill(worker.clone(), mib(60), full())),
        )
        .exit_to(1_100, &worker, &server, libc::SIGKILL)
        .reap(1_101, &server, &worker)
        .exit_to(at, &client, &shell, 0x200)
        .reap(at, &shell, &client)
        .fork(at + 1, &shell, &command)
        .exit_to(at + 1_500, &command, &shell, 0)
        .reap(at + 1_500, &shell, &command)
        .end(at + 1_501, &shell, 0x200);
    if !text.is_empty() {
        scene.stderr(at, &client, text);
    }
    scene
}

fn first(scene: &Scene) -> String {
    scene.ids().into_iter().next().unwrap_or_default()
}

#[test]
fn the_kill_of_a_server_comes_before_what_its_client_says() {
    let scene = served(30, LOST);
    assert!(first(&scene).starts_with("oom-"), "{:?}", scene.ids());
    let found = scene.verdict("exit-own-code");
    assert_eq!(found.sure(), Confidence::ConsistentWith);
    assert!(
        found.verdict().contains("postgres (PID 3) had ended"),
        "{}",
        found.verdict()
    );
    scene.expect_no("oom-earlier-not-cause");
}

#[test]
fn a_client_that_fails_later_or_of_something_else_does_so_by_itself() {
    for scene in [
        served(900, LOST),
        served(30, "psql: error: invalid option -- x\n"),
        served(30, "psql: /etc/app.conf: Permission denied\n"),
    ] {
        assert_eq!(first(&scene), "exit-own-code");
    }
    // What it failed at has nothing to do with a connection.
    let mut refused = served(
        30,
        "app: cannot go on, /etc/app.conf: Permission denied, connection closed\n",
    );
    let file = failed_call("openat", libc::EACCES, Some("/etc/app.conf"), &[]);
    refused.failed_calls(1_130, inside(4, "psql"), vec![file]);
    assert_eq!(first(&refused), "exit-own-code");
}

#[test]
fn a_worker_of_its_own_does_not_serve_it() {
    // What a parent says of its child's end is told with the kill already.
    let (app, worker) = (inside(1, "app"), inside(2, "worker"));
    let mut scene = Scene::new(&["/bin/app"]);
    scene
        .fork(1, &app, &worker)
        .at(
            1_000,
            &worker,
            What::OomKill(kill(worker.clone(), mib(60), full())),
        )
        .exit_to(1_100, &worker, &app, libc::SIGKILL)
        .reap(1_101, &app, &worker)
        .end(1_110, &app, 0x100)
        .stderr(1_110, &app, "a worker died\n");
    let all = scene.found();
    assert!(
        all.iter()
            .all(|one| !one.verdict().contains("may have served")),
        "{all:#?}"
    );
}
