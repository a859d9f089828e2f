//! Pipes and timers of runs in which nothing went wrong, and of such in which something did.

use crate::diagnose::fixture::{Scene, fault, inside, outside, sent};
use crate::diagnose::{Confidence, Rank};
use crate::event::*;

fn broken_pipe(writer: &Task) -> SignalGenerated {
    SignalGenerated {
        syscall: Some(Syscall {
            number: 1,
            name: "write".to_owned(),
        }),
        ..sent(libc::SIGPIPE, writer)
    }
}

/// `yes | head`: the reader's end at 20 ms with that wait status, the writer's SIGPIPE a millisecond later or earlier,
/// and what PID 1 returns.
fn pipeline(reader_status: i32, reader_first: bool, code: i32) -> Scene {
    let (shell, yes, head) = (inside(1, "sh"), inside(2, "yes"), inside(3, "head"));
    let mut scene = Scene::new(&["sh", "-c", "yes | head"]);
    let died = if reader_first { 21 } else { 18 };
    scene
        .fork(1, &shell, &yes)
        .exec(2, &yes, &["yes"])
        .fork(3, &shell, &head)
        .exec(4, &head, &["head"])
        .exit_to(20, &head, &shell, reader_status)
        .send(died, &yes, broken_pipe(&yes))
        .exit_to(died + 1, &yes, &shell, libc::SIGPIPE)
        .reap(23, &shell, &yes)
        .reap(24, &shell, &head)
        .end(30, &shell, code << 8);
    scene
}

#[test]
fn a_reader_that_has_seen_enough_is_no_problem() {
    for reader_first in [true, false] {
        let scene = pipeline(0, reader_first, 0);
        assert_eq!(scene.ids()[0], "exited-by-itself");
        let pipe = scene.verdict("sigpipe-death");
        assert_eq!(
            (pipe.rank, pipe.confidence),
            (Rank::Note, Confidence::Proven)
        );
        assert!(pipe.fact.contains("head (PID 3) ended"), "{}", pipe.fact);
    }
    // With pipefail it is why the shell failed.
    let failed = pipeline(0, true, 128 + libc::SIGPIPE);
    assert_eq!(failed.ids()[0], "sigpipe-death");
    assert_eq!(failed.verdict("sigpipe-death").rank, Rank::Problem);
}

#[test]
fn all_writers_of_a_pipeline_end_with_its_reader() {
    let (shell, first) = (inside(1, "sh"), inside(4, "cat"));
    let mut scene = pipeline(0, true, 0);
    scene
        .fork(1, &shell, &first)
        .exec(2, &first, &["cat"])
        .send(25, &first, broken_pipe(&first))
        .exit_to(26, &first, &shell, libc::SIGPIPE)
        .reap(27, &shell, &first);
    let found = scene.found();
    let pipes: Vec<Rank> = found
        .iter()
        .filter(|one| one.id == "sigpipe-death")
        .map(|one| one.rank)
        .collect();
    assert_eq!(found[0].id, "exited-by-itself");
    assert_eq!(pipes, [Rank::Note, Rank::Note]);
}

#[test]
fn a_writer_ends_because_its_reader_failed() {
    let head = inside(3, "head");
    let mut scene = pipeline(libc::SIGSEGV, true, 139);
    scene.send(19, &head, fault(libc::SIGSEGV, 1, &head, None));
    let found = crate::diagnose::explain(&scene.case()).diagnoses;
    assert!(
        found.iter().all(|one| one.id != "sigpipe-death"),
        "{found:#?}"
    );
    assert_eq!(found[0].id, "segv-fault");
    let below = &found[0].consequences;
    assert!(
        below.iter().any(|one| one.id == "sigpipe-death"),
        "{below:#?}"
    );
}

#[test]
fn a_command_before_the_pipeline_was_not_its_reader() {
    let (shell, earlier) = (inside(1, "sh"), inside(5, "false"));
    let mut scene = pipeline(0, false, 0);
    scene
        .fork(0, &shell, &earlier)
        .exit_to(0, &earlier, &shell, 1 << 8);
    assert_eq!(scene.verdict("sigpipe-death").rank, Rank::Note);
}

#[test]
fn a_client_that_hung_up_or_a_stop_is_another_matter() {
    // Nobody beside it read: a server of a socket.
    let (shell, server) = (inside(1, "sh"), inside(2, "server"));
    let mut alone = Scene::new(&["sh"]);
    alone
        .fork(1, &shell, &server)
        .send(20, &server, broken_pipe(&server))
        .exit_to(21, &server, &shell, libc::SIGPIPE)
        .reap(22, &shell, &server)
        .end(30, &shell, 0);
    assert_eq!(alone.verdict("sigpipe-death").rank, Rank::Problem);
    // The writer had work to finish.
    let mut stopped = pipeline(0, true, 0);
    let handled = SignalGenerated {
        disposition: Disposition::Handler,
        unkillable: false,
        ..sent(libc::SIGTERM, &shell)
    };
    stopped.send(10, outside(9, "bash"), handled);
    assert_eq!(stopped.verdict("sigpipe-death").rank, Rank::Problem);
}

/// A shell starts timeout(1), whose time is over, and returns that code.
fn time_limit(code: i32) -> Scene {
    let (shell, timeout, tail) = (inside(1, "sh"), inside(2, "timeout"), inside(3, "tail"));
    let alarm = SignalGenerated {
        code: SignalCode {
            number: -2,
            name: "SI_TIMER".into(),
        },
        disposition: Disposition::Handler,
        syscall: None,
        ..sent(libc::SIGALRM, &timeout)
    };
    let mut scene = Scene::new(&["sh", "-c", "timeout 1 tail -f log || true"]);
    scene
        .fork(1, &shell, &timeout)
        .exec(2, &timeout, &["timeout", "1", "tail"])
        .fork(3, &timeout, &tail)
        .send(1_000, outside(0, "swapper"), alarm)
        .signal(1_001, &timeout, &tail, libc::SIGTERM, 0)
        .exit_to(1_002, &tail, &timeout, libc::SIGTERM)
        .reap(1_003, &timeout, &tail)
        .exit_to(1_004, &timeout, &shell, 124 << 8)
        .reap(1_005, &shell, &timeout)
        .end(1_006, &shell, code << 8);
    scene
}

#[test]
fn a_time_limit_that_nobody_minded_is_a_note() {
    let scene = time_limit(0);
    assert_eq!(scene.ids()[0], "exited-by-itself");
    assert_eq!(scene.verdict("timeout-expired").rank, Rank::Note);
    for code in [124, 1] {
        let scene = time_limit(code);
        assert_eq!(scene.verdict("timeout-expired").rank, Rank::Problem);
        assert_eq!(scene.ids()[0], "timeout-expired");
    }
}
