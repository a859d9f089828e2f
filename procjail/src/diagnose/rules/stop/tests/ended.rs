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
    let (confidence, text) = scene.expect("ended-on-request");
    assert_eq!(confidence, Confidence::Proven);
    assert!(
        text.contains("procjail was asked to stop the jail (SIGTERM). app (PID 1) ran its handler and exited with 0"),
        "{text}"
    );
    scene.expect_no("exited-by-itself");
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
        scene.header.jail.launcher_pid = launcher().pid;
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
