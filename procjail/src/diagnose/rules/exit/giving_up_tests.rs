//! A manager that gives up ends the rest: the reason is what it collected before.

use crate::diagnose::fixture::{Scene, inside, launcher, sent};
use crate::event::{Disposition, Task};

fn first(scene: &Scene) -> String {
    scene.ids().into_iter().next().unwrap_or_default()
}

/// How a manager ends the worker that is left.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// By itself.
    Directly,
    /// Once ps(1) has told it which processes there are.
    AfterAList,
    /// By kill(1).
    ByAHelper,
    /// Not at all: a worker ends another one.
    Not,
}

/// A manager of two workers: `lint` fails with a code, and the manager, which says so, ends `serve`, which dies of the
/// signal, raised again or not, and is collected after that.
fn manager(code: i32, how: How, raised_again: bool) -> Scene {
    let (pid1, serve, lint) = (inside(1, "run-p"), inside(2, "serve"), inside(3, "lint"));
    let helper = inside(4, "ps");
    let mut scene = Scene::new(&["/bin/run-p"]);
    scene
        .fork(1, &pid1, &serve)
        .fork(2, &pid1, &lint)
        .exit_to(500, &lint, &pid1, code << 8)
        .stderr(500, &lint, "lint: missing semicolon\n")
        .reap(501, &pid1, &lint);
    let mut term = sent(libc::SIGTERM, &serve);
    if raised_again {
        term.disposition = Disposition::Handler;
    }
    if matches!(how, How::AfterAList | How::ByAHelper) {
        scene
            .fork(505, &pid1, &helper)
            .exec(506, &helper, &["/bin/ps"])
            .exit_to(511, &helper, &pid1, 0)
            .reap(511, &pid1, &helper);
    }
    let sender: Task = match how {
        How::Directly | How::AfterAList => pid1.clone(),
        How::ByAHelper => helper.clone(),
        How::Not => inside(5, "rival"),
    };
    if how == How::Not {
        scene.fork(3, &pid1, &sender);
    }
    let at = match how {
        How::ByAHelper => 510,
        _ => 512,
    };
    scene.send(at, &sender, term);
    if raised_again {
        scene
            .deliver(513, &serve, libc::SIGTERM, Disposition::Handler)
            .send(513, &serve, sent(libc::SIGTERM, &serve));
    }
    scene
        .exit_to(514, &serve, &pid1, libc::SIGTERM)
        .reap(515, &pid1, &serve)
        .end(517, &pid1, 0x100)
        .stderr(517, &pid1, "ERROR: \"lint\" exited with 1.\n");
    scene
}

#[test]
fn what_a_manager_ended_itself_is_no_reason_of_its_end() {
    for how in [How::Directly, How::AfterAList, How::ByAHelper] {
        for raised_again in [false, true] {
            let scene = manager(1, how, raised_again);
            assert_eq!(first(&scene), "exit-own-code");
            let found = scene.verdict("exit-own-code");
            assert!(found.fact.contains("\"lint\" exited with 1"), "{found:?}");
            let cause = found.cause.expect("a cause");
            assert!(
                cause.text.contains("lint (PID 3) had exited with 1")
                    && cause.text.contains("missing semicolon"),
                "{}",
                cause.text
            );
            assert!(!scene.ids().contains(&"exit-status-laundered".to_owned()));
        }
    }
}

#[test]
fn a_reason_with_another_code_is_before_what_the_manager_ended_too() {
    let found = manager(3, How::Directly, false).verdict("exit-status-laundered");
    assert!(
        found.fact.contains("lint (PID 3), which had returned 3"),
        "{}",
        found.fact
    );
}

#[test]
fn what_others_ended_may_be_the_reason() {
    let found = manager(0, How::Not, false).verdict("exit-status-laundered");
    assert!(
        found
            .fact
            .contains("its child serve (PID 2), which was killed by SIGTERM"),
        "{}",
        found.fact
    );
}

#[test]
fn what_failed_after_a_helper_was_ended_is_the_reason() {
    // A script tries something, ends its server, and then a command of its fails.
    let (shell, server) = (inside(1, "sh"), inside(2, "server"));
    let mut scene = Scene::new(&["/bin/sh"]);
    scene.fork(1, &shell, &server);
    for (pid, at, text) in [(3, 100, "grep: nothing"), (4, 200, "tar: No space left")] {
        let command = inside(pid, "command");
        scene
            .fork(at, &shell, &command)
            .exit_to(at + 10, &command, &shell, 0x100)
            .stderr(at + 10, &command, text)
            .reap(at + 11, &shell, &command);
    }
    scene
        .send(150, &shell, sent(libc::SIGTERM, &server))
        .exit_to(151, &server, &shell, libc::SIGTERM)
        .reap(152, &shell, &server)
        .end(215, &shell, 0x100);
    let cause = scene.verdict("exit-own-code").cause.expect("a cause");
    assert!(cause.text.contains("No space left"), "{}", cause.text);
}

#[test]
fn a_wrapper_that_had_its_child_end_is_said_to_have() {
    // node raises the signal again once its own handler is done.
    let (pid1, worker) = (inside(1, "wrapper"), inside(2, "node"));
    let mut scene = Scene::new(&["/bin/wrapper"]);
    scene
        .fork(1, &pid1, &worker)
        .send(4, &pid1, sent(libc::SIGTERM, &worker))
        .deliver(4, &worker, libc::SIGTERM, Disposition::Handler)
        .send(5, &worker, sent(libc::SIGTERM, &worker))
        .exit_to(6, &worker, &pid1, libc::SIGTERM)
        .reap(7, &pid1, &worker)
        .end(8, &pid1, 124 << 8);
    let found = scene.verdict("exit-status-laundered");
    assert!(found.fact.contains("killed its child"), "{}", found.fact);
    assert!(found.cause.is_none(), "{found:?}");
    // Not so one that was ended by somebody else.
    let mut other = Scene::new(&["/bin/wrapper"]);
    other
        .fork(1, &pid1, &worker)
        .send(4, launcher(), sent(libc::SIGTERM, &worker))
        .exit_to(6, &worker, &pid1, libc::SIGTERM)
        .reap(7, &pid1, &worker)
        .end(8, &pid1, 124 << 8);
    let found = other.verdict("exit-status-laundered");
    assert!(!found.fact.contains("killed its child"), "{}", found.fact);
}

/// A script returns a command's code a while after it, and something is still running then.
fn kept(code: i32, command_code: i32, after_ms: u64) -> Scene {
    let (shell, server) = (inside(1, "sh"), inside(2, "server"));
    let (command, sleep) = (inside(3, "command"), inside(4, "sleep"));
    let mut scene = Scene::new(&["/bin/sh"]);
    let end = 110 + after_ms;
    let mut teardown = sent(libc::SIGKILL, &server);
    teardown.code.number = libc::SI_KERNEL;
    scene
        .fork(1, &shell, &server)
        .fork(10, &shell, &command)
        .exit_to(100, &command, &shell, command_code << 8)
        .stderr(100, &command, "command: cannot go on\n")
        .reap(101, &shell, &command)
        .fork(102, &shell, &sleep)
        .exit_to(end - 1, &sleep, &shell, 0)
        .reap(end - 1, &shell, &sleep)
        .end(end, &shell, code << 8)
        .send(end, &shell, teardown)
        .exit_to(end + 1, &server, &shell, libc::SIGKILL);
    scene
}

#[test]
fn an_uncommon_code_may_have_been_kept_for_a_while() {
    let cause = kept(2, 2, 5_000).verdict("exit-own-code").cause;
    assert!(
        cause.is_some_and(|cause| cause.text.contains("cannot go on")),
        "the same code"
    );
    for scene in [kept(1, 1, 5_000), kept(2, 2, 60_000)] {
        assert_eq!(first(&scene), "exited-by-itself");
    }
}

#[test]
fn the_end_of_the_namespace_is_no_managers_decision() {
    // The kernel's kills are not sent by PID 1, whatever is recorded as their sender.
    let scene = kept(3, 1, 5_000);
    assert_eq!(first(&scene), "exited-by-itself");
}
