//! The signal was taken, and the program had not ended in the end.

use super::*;
use crate::diagnose::fixture::failed_call;

/// PID 1 took SIGTERM and was killed; `before`, `middle` and `last` are the looks at its main thread.
fn outlived(before: Option<ThreadState>, middle: ThreadState, last: ThreadState) -> Scene {
    with_threads(before.map(|one| vec![one]), vec![middle], vec![last])
}

fn with_threads(
    before: Option<Vec<ThreadState>>,
    middle: Vec<ThreadState>,
    last: Vec<ThreadState>,
) -> Scene {
    let mut scene = Scene::new(&["app"]);
    asked(&mut scene);
    if let Some(before) = before {
        look(&mut scene, 101, Moment::StopRequested, before);
    }
    send(&mut scene, 102, launcher(), sent(app(), TERM));
    handled(&mut scene, 103, app(), TERM);
    look(&mut scene, 600, Moment::StopHalf, middle);
    look(&mut scene, 1090, Moment::StopDeadline, last);
    killed(&mut scene, &[app()]);
    scene
}

/// A thread that waits at a place, and has run so often.
fn waits(call: &str, place: u64, switches: u64) -> ThreadState {
    ThreadState {
        stack_pointer: Some(place),
        switches: Some(switches),
        cpu_ns: Some(switches * 1_000),
        ..thread(app(), "S", call)
    }
}

/// A wait for a lock without a time limit.
fn locked(place: u64, switches: u64) -> ThreadState {
    ThreadState {
        arguments: vec![1, 0x89, 0, 0, 0, 0],
        ..waits("futex", place, switches)
    }
}

/// Sets what the looks have on a process's files and sockets: bytes written, listening, connected.
fn activity(scene: &mut Scene, process: &Task, looks: [(u64, &[&str], &[&str]); 3]) {
    let own = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect();
    let mut looks = looks.iter();
    scene.change(|_, what| {
        if let What::Snapshot(snapshot) = what
            && let Some((written, listening, connected)) = looks.next()
        {
            snapshot.processes.push(ProcessActivity {
                pid: process.pid,
                write_bytes: *written,
                listening: own(listening),
                connected: own(connected),
                ..ProcessActivity::default()
            });
        }
    });
}

fn why(scene: &Scene) -> String {
    let found = scene.verdict("term-shutdown-unfinished");
    found.cause.map_or(String::new(), |cause| cause.text)
}

#[test]
fn went_on_as_before_needs_a_look_at_before() {
    let sleep = |switches| waits("clock_nanosleep", 100, switches);
    let unknown = outlived(None, sleep(5), sleep(9));
    unknown.expect_no("term-handler-no-exit");
    let found = unknown.verdict("term-shutdown-unfinished");
    assert!(
        found
            .evidence
            .iter()
            .any(|one| one.shows.contains("no look at the program before"))
    );

    let (confidence, text) =
        outlived(Some(sleep(2)), sleep(5), sleep(9)).expect("term-handler-no-exit");
    assert_eq!(confidence, Confidence::Likely);
    assert!(text.contains("with the same stack"), "{text}");
    assert!(
        text.contains("Could also be: a shutdown that waits in the same way"),
        "{text}"
    );
}

#[test]
fn a_loop_that_never_came_round_may_still_look_at_its_flag() {
    let sleep = || waits("clock_nanosleep", 100, 2);
    let found = outlived(Some(sleep()), sleep(), sleep()).verdict("term-handler-no-exit");
    assert_eq!(found.sure(), Confidence::Likely);
}

#[test]
fn a_sleep_at_another_place_is_the_shutdowns() {
    let scene = outlived(
        Some(waits("clock_nanosleep", 100, 2)),
        waits("clock_nanosleep", 50, 5),
        waits("clock_nanosleep", 50, 5),
    );
    scene.expect_no("term-handler-no-exit");
    assert!(why(&scene).starts_with("It sleeps (clock_nanosleep), with a deeper stack"));
    assert_eq!(
        scene.verdict("term-shutdown-unfinished").confidence,
        Confidence::Proven
    );
}

#[test]
fn a_deadlock_needs_every_thread_in_a_lock_and_none_that_runs() {
    let before = || Some(waits("clock_nanosleep", 100, 2));
    let stuck = outlived(before(), locked(50, 5), locked(50, 5));
    assert_eq!(stuck.expect("term-deadlock").0, Confidence::Likely);
    outlived(before(), locked(50, 5), locked(50, 6)).expect_no("term-deadlock");
    // It waited in a lock all along.
    outlived(Some(locked(50, 5)), locked(50, 5), locked(50, 5)).expect_no("term-deadlock");
    let timed = || ThreadState {
        arguments: vec![1, 0x89, 0, 0x7ffe, 0, 0],
        ..waits("futex", 50, 5)
    };
    assert_eq!(
        outlived(before(), timed(), timed())
            .verdict("term-deadlock")
            .sure(),
        Confidence::Likely
    );
}

#[test]
fn a_lock_that_another_thread_may_release_is_no_deadlock() {
    let other = || ThreadState {
        task: crate::diagnose::fixture::thread(&app(), 1),
        ..waits("clock_nanosleep", 10, 1)
    };
    let both = || vec![locked(50, 5), other()];
    let scene = with_threads(Some(vec![waits("poll", 100, 2), other()]), both(), both());
    scene.expect_no("term-deadlock");
    assert!(why(&scene).contains("is in clock_nanosleep"));
}

#[test]
fn a_sleep_and_a_lock_of_a_shutdown_hook_are_told_apart_by_the_time_limit() {
    let hook = |limit: u64| ThreadState {
        task: Task {
            comm: "Thread-0".into(),
            ..crate::diagnose::fixture::thread(&app(), 1)
        },
        arguments: vec![1, 0x189, 0, limit, 0, 0xffff_ffff],
        ..waits("futex", 10, 1)
    };
    let play = |limit: u64, before: bool| {
        let both = || vec![locked(50, 2), hook(limit)];
        let mut earlier = vec![locked(100, 2)];
        earlier.extend(before.then(|| hook(limit)));
        // Something ran, as there is a timer's thread in every JVM.
        let mut last = both();
        last[0].switches = Some(9);
        why(&with_threads(Some(earlier), both(), last))
    };
    let sleep = play(0x7ffe, false);
    assert!(
        sleep.starts_with(
            "Its thread Thread-0, which was started since the signal, waits with a time limit"
        ),
        "{sleep}"
    );
    let lock = play(0, false);
    assert!(
        lock.contains("its thread Thread-0, which was started since the signal, waits without"),
        "{lock}"
    );
    // A thread that was there before need not have to do with it.
    assert!(!play(0x7ffe, true).contains("Thread-0"));
}

#[test]
fn closed_listeners_and_an_open_connection_are_a_drain() {
    let wait = || waits("epoll_wait", 100, 2);
    let mut scene = outlived(Some(wait()), wait(), wait());
    let open: &[&str] = &["127.0.0.1:4000"];
    activity(
        &mut scene,
        &app(),
        [(0, &["0.0.0.0:80"], open), (0, &[], open), (0, &[], open)],
    );
    assert!(why(&scene).starts_with("It drains: it no longer listens on 0.0.0.0:80"));

    // A server that keeps its listener does not stop.
    let mut scene = outlived(Some(wait()), wait(), wait());
    let kept: &[&str] = &["0.0.0.0:80"];
    activity(
        &mut scene,
        &app(),
        [(0, kept, open), (0, kept, open), (0, kept, open)],
    );
    let found = scene.verdict("term-handler-no-exit");
    assert_eq!(found.sure(), Confidence::Likely);
}

#[test]
fn a_request_in_flight_is_no_program_that_goes_on() {
    let sleep = || waits("clock_nanosleep", 100, 2);
    let mut scene = outlived(Some(sleep()), sleep(), sleep());
    let open: &[&str] = &["127.0.0.1:4000"];
    let kept: &[&str] = &["0.0.0.0:80"];
    activity(
        &mut scene,
        &app(),
        [(0, kept, open), (0, kept, open), (0, kept, open)],
    );
    assert!(why(&scene).starts_with("It finishes a request"));
}

#[test]
fn what_ends_beside_a_process_is_no_step_of_its_shutdown() {
    let (server, worker, beside) = (inside(2, "server"), inside(3, "worker"), inside(4, "sleep"));
    let ending = |ended: &Task| {
        let mut scene = Scene::new(&["app"]);
        scene.fork(10, app(), server.clone());
        scene.fork(11, server.clone(), worker.clone());
        scene.fork(12, app(), beside.clone());
        asked(&mut scene);
        send(&mut scene, 102, launcher(), sent(app(), TERM));
        handled(&mut scene, 103, app(), TERM);
        send(&mut scene, 104, app(), sent(server.clone(), TERM));
        handled(&mut scene, 105, server.clone(), TERM);
        scene.exit(900, ended.clone(), 0, 0);
        killed(&mut scene, &[app(), server.clone()]);
        scene
    };
    ending(&worker).expect("term-slow-shutdown");
    ending(&beside).expect_no("term-slow-shutdown");
    ending(&beside).expect("term-shutdown-unfinished");
}

#[test]
fn what_it_writes_is_told() {
    let sleep = |place| waits("clock_nanosleep", place, 2);
    let mut scene = outlived(Some(sleep(100)), sleep(50), sleep(50));
    activity(
        &mut scene,
        &app(),
        [(0, &[], &[]), (4096, &[], &[]), (12288, &[], &[])],
    );
    assert!(
        why(&scene).starts_with("It writes: 8.0 KiB"),
        "{}",
        why(&scene)
    );
}

#[test]
fn an_exec_after_the_signal_is_a_reload() {
    let wait = || waits("poll", 100, 2);
    let mut scene = outlived(Some(wait()), wait(), wait());
    scene.exec(110, app(), &["app", "--again"]);
    scene.expect("term-reload");
    scene.expect_no("term-handler-no-exit");
}

#[test]
fn new_workers_for_old_ones_are_a_reload_and_a_loop_of_commands_is_none() {
    let wait = || waits("wait4", 100, 2);
    let (old, new) = (inside(2, "worker"), inside(3, "worker"));
    let mut scene = outlived(Some(wait()), wait(), wait());
    scene.fork(10, app(), old.clone());
    scene.fork(110, app(), new);
    scene.exit(120, old, 0, 0);
    scene.expect("term-reload");

    let mut scene = outlived(Some(wait()), wait(), wait());
    for number in 2..10 {
        let sleep = inside(number, "sleep");
        let at = 60 + u64::from(number - 2) * 130;
        scene.fork(at, app(), sleep.clone());
        scene.exec(at + 1, sleep.clone(), &["sleep", "0.1"]);
        scene.exit(at + 120, sleep, 0, 0);
    }
    scene.expect_no("term-reload");
    scene.expect_no("term-slow-shutdown");
    let (_, text) = scene.expect("term-handler-no-exit");
    assert!(text.contains("it went on starting sleep"), "{text}");
}

#[test]
fn a_signal_that_pid_1_sends_itself_again_is_dropped() {
    let wait = || waits("epoll_pwait", 100, 2);
    let mut scene = outlived(Some(wait()), wait(), wait());
    let again = SignalGenerated {
        disposition: Disposition::Default,
        blocked: true,
        unkillable: true,
        ..sent(app(), TERM)
    };
    send(&mut scene, 104, app(), again);
    let found = scene.verdict("term-reraised-pid1");
    assert_eq!(
        (found.confidence, found.sure()),
        (Confidence::Proven, Confidence::Likely)
    );
    scene.expect_no("term-shutdown-unfinished");
}

#[test]
fn a_signal_that_came_before_the_exec_is_lost() {
    let dropped = || SignalGenerated {
        result: SignalResult::Ignored,
        disposition: Disposition::Default,
        unkillable: true,
        ..sent(app(), TERM)
    };
    let mut scene = Scene::new(&["bash", "-c", "sleep 1; exec python3"]);
    send(&mut scene, 50, outside(7, "kill"), dropped());
    scene.exec(200, app(), &["python3", "quick.py"]);
    send(
        &mut scene,
        900,
        outside(7, "kill"),
        sent(app(), libc::SIGKILL),
    );
    scene.exit(901, app(), -libc::SIGKILL, 0);
    let (_, text) = scene.expect("term-lost-before-exec");
    assert!(text.contains("when PID 1 was bash"), "{text}");
    scene.expect_no("term-ignored-pid1-default");
    // A second one met python3, which has no handler either.
    send(&mut scene, 300, outside(7, "kill"), dropped());
    scene.expect_no("term-lost-before-exec");
    scene.expect("term-ignored-pid1-default");
}

#[test]
fn a_call_that_failed_after_the_signal_is_why_the_shutdown_did() {
    let wait = || waits("epoll_wait", 100, 2);
    let kept: &[&str] = &["0.0.0.0:6379"];
    let play = |before_ns: u64| {
        let mut scene = outlived(Some(wait()), wait(), wait());
        activity(
            &mut scene,
            &app(),
            [(0, kept, &[]), (0, kept, &[]), (0, kept, &[])],
        );
        let failed = FailedCall {
            before_ns,
            ..failed_call("write", libc::ENOSPC, Some("/mnt/dump.rdb"), &[])
        };
        scene.failed_calls(1103, app(), vec![failed]);
        scene.verdict("term-handler-no-exit")
    };
    let text = play(900_000_000).verdict();
    assert!(
        text.contains("write /mnt/dump.rdb failed with ENOSPC"),
        "{text}"
    );
    // Before the signal, at 102 ms.
    let text = play(1_050_000_000).verdict();
    assert!(!text.contains("ENOSPC"), "{text}");
}

#[test]
fn a_program_below_which_things_end_does_not_go_on_as_before() {
    let wait = || waits("pselect6", 100, 2);
    let kept: &[&str] = &["unix:/run/db.sock"];
    let (helper, backend) = (inside(2, "helper"), inside(3, "backend"));
    let mut scene = outlived(Some(wait()), wait(), wait());
    activity(
        &mut scene,
        &app(),
        [(0, kept, &[]), (0, kept, &[]), (0, kept, &[])],
    );
    scene.fork(10, app(), helper.clone());
    scene.fork(11, app(), backend.clone());
    // Told over a pipe.
    scene.exit(105, helper, 0, 0);
    scene.expect_no("term-handler-no-exit");
    assert!(why(&scene).starts_with("What it stops has not all ended: backend (PID 3)"));
}

#[test]
fn a_child_that_serves_a_client_is_waited_for() {
    let wait = || waits("pselect6", 100, 2);
    let kept: &[&str] = &["unix:/run/db.sock"];
    let backend = inside(2, "backend");
    let mut scene = outlived(Some(wait()), wait(), wait());
    scene.fork(11, app(), backend.clone());
    scene.change(|_, what| {
        if let What::Snapshot(snapshot) = what {
            let thread = thread(backend.clone(), "S", "epoll_wait");
            snapshot.threads.push(thread);
        }
    });
    let looks = [(0, kept, &[] as &[&str]); 3];
    activity(&mut scene, &app(), looks);
    let open: &[&str] = &["unix:/run/db.sock"];
    activity(
        &mut scene,
        &backend,
        [(0, &[], open), (0, &[], open), (0, &[], open)],
    );
    scene.expect_no("term-handler-no-exit");
    assert!(
        why(&scene)
            .starts_with("It waits for what is below it: backend (PID 2) still has a connection")
    );
}
