//! PID 1 was asked to stop and ended by itself.

use super::*;

/// `comm` is PID 1, took SIGTERM at 102 ms and exits with a code at 150 ms.
fn obeys(argv: &[&str], comm: &str, code: i32, with: impl FnOnce(&mut Scene, Task)) -> Scene {
    let pid1 = inside(1, comm);
    let mut scene = outlives(argv, sent(pid1.clone(), TERM));
    handled(&mut scene, 102, pid1.clone(), TERM);
    with(&mut scene, pid1.clone());
    scene.exit(150, pid1, code, 0);
    scene
}

/// PID 1's end takes a process with it.
fn taken_along(scene: &mut Scene, ms: u64, victim: &Task) {
    let kill = SignalGenerated {
        code: SignalCode {
            number: 128,
            name: "SI_KERNEL".into(),
        },
        disposition: Disposition::Default,
        syscall: None,
        sender_exiting: true,
        ..sent(victim.clone(), libc::SIGKILL)
    };
    send(scene, ms, inside(1, "app"), kill);
    scene.exit(ms + 1, victim.clone(), -libc::SIGKILL, 0);
}

#[test]
fn a_program_that_obeys_has_its_story_told() {
    let scene = obeys(&["app"], "app", 0, |_, _| {});
    let found = scene.verdict("ended-on-request");
    assert_eq!(
        (found.confidence, found.sure()),
        (Confidence::Proven, Confidence::Likely)
    );
    let text = found.verdict();
    assert!(
        text.contains("procjail was asked to stop the jail (SIGTERM). app (PID 1) ran its handler and exited with 0"),
        "{text}"
    );
    scene.expect_no("exited-by-itself");
}

#[test]
fn a_handler_that_ran_is_no_reason_for_a_failure_that_came_later() {
    let sure = |text: &str, code: i32| {
        let scene = obeys(&["app"], "app", code, |scene, pid1| {
            scene.stderr(149, pid1, text);
        });
        scene.verdict("ended-on-request").sure()
    };
    let failure = "app: cannot open the queue: No such file or directory\n";
    assert_eq!(sure(failure, 1), Confidence::ConsistentWith);
    assert_eq!(sure("Exiting.\n", 1), Confidence::Likely);
    // What it says of the request itself is no other reason.
    let interrupted = "Traceback (most recent call last):\nSystemExit: error: got SIGTERM\n";
    assert_eq!(sure(interrupted, 1), Confidence::Likely);
    assert_eq!(sure(failure, 128 + TERM), Confidence::Likely);
    let text = obeys(&["app"], "app", 1, |scene, pid1| {
        scene.stderr(149, pid1, failure);
    })
    .verdict("ended-on-request")
    .verdict();
    assert!(
        text.contains("Could also be: what it wrote to stderr"),
        "{text}"
    );
}

#[test]
fn a_program_that_waits_where_it_did_before_may_have_ended_for_another_reason() {
    let play = |place: u64| {
        let look_at = |place| ThreadState {
            stack_pointer: Some(place),
            ..thread(app(), "S", "read")
        };
        let mut scene = Scene::new(&["app"]);
        asked(&mut scene);
        look(&mut scene, 101, Moment::StopRequested, vec![look_at(100)]);
        send(&mut scene, 102, launcher(), sent(app(), TERM));
        handled(&mut scene, 103, app(), TERM);
        look(&mut scene, 600, Moment::StopHalf, vec![look_at(place)]);
        scene.exit(900, app(), 0, 0);
        scene.verdict("ended-on-request").sure()
    };
    assert_eq!(play(100), Confidence::ConsistentWith);
    assert_eq!(play(50), Confidence::Likely);
}

#[test]
fn the_signal_itself_ends_it_for_sure() {
    let mut scene = outlives(
        &["app"],
        SignalGenerated {
            disposition: Disposition::Default,
            ..sent(app(), TERM)
        },
    );
    scene.exit(103, app(), -TERM, 0);
    let found = scene.verdict("ended-on-request");
    assert_eq!(found.sure(), Confidence::Proven);
}

#[test]
fn what_pid_1_does_with_the_request_is_one_list() {
    let child = inside(2, "service");
    let blocked = SignalGenerated {
        blocked: true,
        ..sent(app(), TERM)
    };
    let mut scene = outlives(&["app"], blocked);
    scene.fork(10, app(), child.clone());
    send(&mut scene, 102, app(), sent(child.clone(), TERM));
    send(&mut scene, 103, app(), sent(child.clone(), libc::SIGHUP));
    scene.exit(110, child, 0, 0);
    scene.exit(150, app(), 0, 0);
    let fact = scene.verdict("ended-on-request").fact;
    assert!(
        fact.contains(
            "app (PID 1) had it blocked (as for sigwait or signalfd), passed it on to service (PID 2), sent SIGHUP to \
             service (PID 2) and exited with 0"
        ),
        "{fact}"
    );
}

#[test]
fn a_signal_that_pid_1_sent_itself_has_one_subject() {
    let mut scene = Scene::new(&["node"]);
    send(&mut scene, 100, app(), sent(app(), TERM));
    handled(&mut scene, 101, app(), TERM);
    scene.exit(150, app(), 0, 0);
    let fact = scene.verdict("ended-on-request").fact;
    assert!(
        fact.starts_with("app (PID 1) sent itself SIGTERM, has a handler for it and exited with 0"),
        "{fact}"
    );
}

#[test]
fn who_asked_procjail_is_named() {
    let mut request = StopRequested {
        signal: Signal::new(libc::SIGINT),
        stop_signal: Signal::new(libc::SIGINT),
        timeout_ns: 1_000_000_000,
        by: Some(Requester {
            pid: 77,
            argv: vec!["kill".into(), "-INT".into()],
            unit: Some("cron.service".into()),
            ..Requester::default()
        }),
    };
    let play = |request: &StopRequested| {
        let mut scene = Scene::new(&["app"]);
        scene.launcher().pid = launcher().pid;
        scene.at(100, launcher(), What::StopRequested(request.clone()));
        send(&mut scene, 101, launcher(), sent(app(), libc::SIGINT));
        handled(&mut scene, 102, app(), libc::SIGINT);
        scene.exit(150, app(), 0, 0);
        scene.expect("ended-on-request").1
    };
    let text = play(&request);
    assert!(
        text.starts_with("`kill -INT` (host PID 77, uid 0, unit cron.service) asked"),
        "{text}"
    );
    request.by = Some(Requester {
        pid: 77,
        ..Requester::default()
    });
    let text = play(&request);
    assert!(
        text.starts_with(
            "A process that ended before procjail could look at it (host PID 77, uid 0) asked"
        ),
        "{text}"
    );
    // One of the jail's own, which signals the process group that procjail is in.
    request.by = Some(Requester {
        pid: app().pid,
        ..Requester::default()
    });
    let text = play(&request);
    assert!(text.starts_with("app (PID 1) asked procjail"), "{text}");
    request.by = Some(Requester {
        terminal_key: true,
        ..Requester::default()
    });
    let text = play(&request);
    assert!(
        text.starts_with("Ctrl-C at the terminal asked procjail"),
        "{text}"
    );
}

#[test]
fn a_crash_after_a_request_is_not_its_story() {
    let mut scene = outlives(&["app"], sent(app(), TERM));
    handled(&mut scene, 102, app(), TERM);
    scene.exit(150, app(), -libc::SIGSEGV, 0);
    scene.expect_no("ended-on-request");
}

#[test]
fn a_signal_that_is_no_request_by_itself_is_a_likely_cause() {
    let mut scene = Scene::new(&["nginx"]);
    send(
        &mut scene,
        100,
        outside(7, "kill"),
        sent(app(), libc::SIGUSR2),
    );
    handled(&mut scene, 101, app(), libc::SIGUSR2);
    scene.exit(150, app(), 0, 0);
    let found = scene.verdict("ended-on-request");
    assert_eq!(
        (found.confidence, found.sure()),
        (Confidence::Proven, Confidence::Likely)
    );
}

#[test]
fn services_that_a_supervisor_leaves_are_named() {
    let (pid1, service) = (inside(1, "app"), inside(2, "sleep"));
    let mut scene = outlives(&["runsvdir"], sent(pid1.clone(), TERM));
    handled(&mut scene, 102, pid1.clone(), TERM);
    scene.fork(10, pid1.clone(), service.clone());
    scene.exit(3000, pid1, 0, 0);
    taken_along(&mut scene, 3001, &service);
    let (_, text) = scene.expect("ended-on-request");
    assert!(
        text.contains("sleep (PID 2), which never got a signal, was killed"),
        "{text}"
    );
}

#[test]
fn a_wrapper_that_signals_its_shell_only_leaves_the_program() {
    let (sh, node) = (inside(2, "sh"), inside(3, "node"));
    let scene = obeys(&["npm", "start"], "npm", 1, |scene, npm| {
        scene.fork(10, npm.clone(), sh.clone());
        scene.fork(20, sh.clone(), node.clone());
        let term = SignalGenerated {
            disposition: Disposition::Default,
            ..sent(sh.clone(), TERM)
        };
        send(scene, 103, npm, term);
        scene.exit(104, sh.clone(), -TERM, 0);
        taken_along(scene, 151, &node);
    });
    let (_, text) = scene.expect("term-wrapper-exits-first");
    assert!(text.contains("passed it on to sh (PID 2)"), "{text}");
    assert!(
        text.contains("node (PID 3), which never got a signal, was killed"),
        "{text}"
    );
}

#[test]
fn a_dropped_re_raise_explains_an_exit_code() {
    let again = |scene: &mut Scene, pid1: Task| {
        let raised = SignalGenerated {
            result: SignalResult::Ignored,
            disposition: Disposition::Default,
            unkillable: true,
            ..sent(pid1.clone(), TERM)
        };
        send(scene, 140, pid1, raised);
    };
    obeys(&["ruby"], "ruby", 1, again).expect("term-reraised-pid1");
    let clean = obeys(&["uvicorn"], "uvicorn", 0, again);
    clean.expect_no("term-reraised-pid1");
    clean.expect("ended-on-request");
}

#[test]
fn a_stop_that_procjail_held_says_so() {
    let mut scene = Scene::new(&["bash"]);
    asked(&mut scene);
    let held = SignalForwarded {
        signal: Signal::new(TERM),
        action: ForwardAction::HeldNoHandler,
        sender_pid: 7,
        held_ns: 0,
        by: None,
    };
    scene.at(101, launcher(), What::SignalForwarded(held));
    scene.exec(200, app(), &["python3"]);
    send(&mut scene, 300, launcher(), sent(app(), TERM));
    handled(&mut scene, 301, app(), TERM);
    scene.exit(350, app(), 0, 0);
    let (_, text) = scene.expect("ended-on-request");
    assert!(text.contains("PID 1 was bash and had no handler"), "{text}");
    assert!(text.contains("would have been lost"), "{text}");
}

#[test]
fn a_helper_that_ignores_the_signal_is_not_left_behind() {
    let (worker, tracker) = (inside(2, "worker"), inside(3, "tracker"));
    let play = |ignores: bool| {
        let pid1 = inside(1, "app");
        let mut scene = Scene::new(&["app"]);
        asked(&mut scene);
        let thread = ThreadState {
            ignored: ignores.then(|| Signal::new(TERM)).into_iter().collect(),
            ..thread(tracker.clone(), "S", "read")
        };
        look(&mut scene, 101, Moment::StopRequested, vec![thread]);
        send(&mut scene, 102, launcher(), sent(pid1.clone(), TERM));
        handled(&mut scene, 103, pid1.clone(), TERM);
        scene.fork(10, pid1.clone(), worker.clone());
        scene.fork(11, pid1.clone(), tracker.clone());
        send(&mut scene, 104, pid1.clone(), sent(worker.clone(), TERM));
        scene.exit(110, worker.clone(), 0, 0);
        scene.exit(150, pid1, 0, 0);
        taken_along(&mut scene, 151, &tracker);
        scene
    };
    play(true).expect("ended-on-request");
    play(true).expect_no("term-wrapper-exits-first");
    play(false).expect("term-wrapper-exits-first");
}
