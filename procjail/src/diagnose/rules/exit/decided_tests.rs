//! Workers that their manager ended, and workers that had died.

use crate::diagnose::Rank;
use crate::diagnose::fixture::{Scene, fault, inside, launcher, outside, sent};
use crate::event::*;

const DIED: &str = "exit-zero-but-worker-died";

/// PID 1's worker is sent that signal at 100 ms, dies of it and is replaced; PID 1 returns 0.
fn replaced(sender: &Task, number: i32) -> Scene {
    let (master, worker, next) = (
        inside(1, "master"),
        inside(2, "worker"),
        inside(5, "worker"),
    );
    let mut scene = Scene::new(&["master"]);
    scene
        .fork(1, &master, &worker)
        .exec(2, &worker, &["worker"])
        .signal(100, sender, &worker, number, 0)
        .exit_to(101, &worker, &master, number)
        .reap(102, &master, &worker)
        .fork(103, &master, &next)
        .exec(104, &next, &["worker"])
        .exit_to(900, &next, &master, 0)
        .reap(901, &master, &next)
        .end(1_000, &master, 0);
    scene
}

/// The launcher passes a request to stop on to PID 1.
fn asked(scene: &mut Scene, ms: u64) {
    let master = inside(1, "master");
    let stop = StopRequested {
        signal: Signal::new(libc::SIGTERM),
        stop_signal: Signal::new(libc::SIGTERM),
        timeout_ns: 10_000_000_000,
        by: None,
    };
    scene.at(ms, launcher(), What::StopRequested(stop)).send(
        ms + 1,
        launcher(),
        SignalGenerated {
            disposition: Disposition::Handler,
            unkillable: false,
            ..sent(libc::SIGTERM, &master)
        },
    );
    scene.deliver(ms + 2, &master, libc::SIGTERM, Disposition::Handler);
}

#[test]
fn a_worker_that_its_master_ended_has_not_died() {
    let master = inside(1, "master");
    for number in [
        libc::SIGTERM,
        libc::SIGKILL,
        libc::SIGQUIT,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGABRT,
    ] {
        replaced(&master, number).expect_no(DIED);
    }
}

#[test]
fn nor_one_that_was_ended_on_its_masters_behalf() {
    let (master, kill) = (inside(1, "master"), inside(3, "kill"));
    let mut by_command = replaced(&kill, libc::SIGTERM);
    by_command
        .fork(98, &master, &kill)
        .exec(99, &kill, &["kill", "2"])
        .exit_to(101, &kill, &master, 0);
    by_command.expect_no(DIED);
    // Another process beside it may have had reasons of its own.
    let sibling = inside(3, "cleanup");
    let mut by_sibling = replaced(&sibling, libc::SIGKILL);
    by_sibling.fork(98, &master, &sibling);
    by_sibling.verdict(DIED);
}

#[test]
fn nor_one_whose_handler_raised_its_masters_signal_again() {
    let (master, worker) = (inside(1, "master"), inside(2, "worker"));
    let run = |sender: &Task| {
        let mut scene = replaced(&worker, libc::SIGTERM);
        let first = SignalGenerated {
            disposition: Disposition::Handler,
            ..sent(libc::SIGTERM, &worker)
        };
        scene
            .send(50, sender, first)
            .deliver(51, &worker, libc::SIGTERM, Disposition::Handler);
        scene
    };
    run(&master).expect_no(DIED);
    run(&outside(9, "bash")).verdict(DIED);
}

#[test]
fn a_crash_or_a_kill_from_outside_is_a_death() {
    let worker = inside(2, "worker");
    replaced(&outside(9, "bash"), libc::SIGKILL).verdict(DIED);
    replaced(&worker, libc::SIGTERM).verdict(DIED);
    let mut crashed = replaced(&worker, libc::SIGSEGV);
    crashed.change(|_, what| {
        if let What::SignalGenerated(signal) = what {
            *signal = fault(libc::SIGSEGV, 1, &worker, None);
        }
    });
    crashed.verdict(DIED);
}

#[test]
fn a_stop_that_was_asked_for_is_the_story() {
    let master = inside(1, "master");
    let mut scene = replaced(&master, libc::SIGTERM);
    asked(&mut scene, 950);
    assert_eq!(scene.ids()[0], "ended-on-request");
    scene.expect_no(DIED);
    // What had died before is told, and 0 is the answer to the request.
    let mut killed = replaced(&outside(9, "bash"), libc::SIGKILL);
    asked(&mut killed, 950);
    assert!(killed.ids().contains(&"ended-on-request".to_owned()));
    assert_eq!(killed.ids()[0], "kill-external");
    assert_eq!(killed.verdict(DIED).rank, Rank::Note);
}
