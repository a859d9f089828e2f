//! Stops that no scenario plays, and the look-alikes.

mod ended;
mod long;

use crate::diagnose::Confidence;
use crate::diagnose::fixture::{Scene, inside, outside};
use crate::event::*;

pub(super) const TERM: i32 = libc::SIGTERM;

pub(super) fn launcher() -> Task {
    outside(4100, "procjail")
}

/// A signal from kill(2) as the kernel tells of it.
pub(super) fn sent(to: Task, number: i32) -> SignalGenerated {
    SignalGenerated {
        signal: Signal::new(number),
        code: SignalCode {
            number: 0,
            name: "SI_USER".into(),
        },
        target: to,
        group: true,
        result: SignalResult::Delivered,
        disposition: Disposition::Handler,
        blocked: false,
        unkillable: false,
        exiting: false,
        syscall: Some(Syscall {
            number: libc::SYS_kill,
            name: "kill".into(),
        }),
        sender_exiting: false,
        sender_kthread: false,
        sender_traces_target: false,
        fault: None,
    }
}

pub(super) fn send(scene: &mut Scene, ms: u64, from: Task, what: SignalGenerated) {
    scene.at(ms, from, What::SignalGenerated(what));
}

pub(super) fn handled(scene: &mut Scene, ms: u64, task: Task, number: i32) {
    let what = SignalDelivered {
        signal: Signal::new(number),
        code: SignalCode {
            number: 0,
            name: "SI_USER".into(),
        },
        disposition: Disposition::Handler,
        fatal: None,
        latency_ns: None,
        generated_seq: None,
    };
    scene.at(ms, task, What::SignalDelivered(what));
}

/// A request at 100 ms, with a window of 1 s.
pub(super) fn asked(scene: &mut Scene) {
    scene.launcher().pid = launcher().pid;
    let what = StopRequested {
        signal: Signal::new(TERM),
        stop_signal: Signal::new(TERM),
        timeout_ns: 1_000_000_000,
        by: None,
    };
    scene.at(100, launcher(), What::StopRequested(what));
}

/// The kill when the window is over, at 1100 ms.
pub(super) fn killed(scene: &mut Scene, tasks: &[Task]) {
    for (task, at) in tasks.iter().zip(0..) {
        let kill = SignalGenerated {
            group: false,
            disposition: Disposition::Default,
            exiting: true,
            syscall: Some(Syscall {
                number: libc::SYS_write,
                name: "write".into(),
            }),
            ..sent(task.clone(), libc::SIGKILL)
        };
        send(scene, 1100, launcher(), kill);
        scene.exit(1102 + at, task.clone(), -libc::SIGKILL, 0);
    }
    let what = Kill {
        reason: "stop-timeout".into(),
        method: "cgroup.kill".into(),
    };
    scene.at(1101, launcher(), What::Kill(what));
}

pub(super) fn thread(task: Task, state: &str, call: &str) -> ThreadState {
    ThreadState {
        syscall: Some(Syscall {
            number: 0,
            name: call.into(),
        }),
        ..ThreadState::of(task, state)
    }
}

pub(super) fn look(scene: &mut Scene, ms: u64, moment: Moment, threads: Vec<ThreadState>) {
    let what = Snapshot {
        moment,
        threads,
        truncated: false,
        frozen: None,
        cpu: None,
        waited_ns: None,
        processes: Vec::new(),
    };
    scene.at(ms, launcher(), What::Snapshot(what));
}

pub(super) fn app() -> Task {
    inside(1, "app")
}

/// PID 1 got the signal as `what` says, and was killed.
pub(super) fn outlives(argv: &[&str], what: SignalGenerated) -> Scene {
    let mut scene = Scene::new(argv);
    asked(&mut scene);
    send(&mut scene, 101, launcher(), what);
    scene
}

#[test]
fn who_waits_for_a_signal_does_not_just_block_it() {
    let blocked = SignalGenerated {
        blocked: true,
        disposition: Disposition::Default,
        ..sent(app(), TERM)
    };
    let mut waits = outlives(&["app"], blocked.clone());
    look(
        &mut waits,
        600,
        Moment::StopHalf,
        vec![thread(app(), "S", "read")],
    );
    killed(&mut waits, &[app()]);
    waits.expect_no("term-blocked");
    waits.expect("term-shutdown-unfinished");

    let mut sleeps = outlives(&["app"], blocked.clone());
    let pending = ThreadState {
        pending: vec![Signal::new(TERM)],
        blocked: vec![Signal::new(TERM)],
        ..thread(app(), "S", "nanosleep")
    };
    look(&mut sleeps, 600, Moment::StopHalf, vec![pending]);
    killed(&mut sleeps, &[app()]);
    assert_eq!(sleeps.expect("term-blocked").0, Confidence::Proven);

    let mut unknown = outlives(&["app"], blocked.clone());
    killed(&mut unknown, &[app()]);
    assert_eq!(unknown.expect("term-blocked").0, Confidence::ConsistentWith);

    // Queued a second time, so the first was taken.
    let mut again = outlives(&["app"], blocked.clone());
    send(&mut again, 300, outside(7, "timeout"), blocked);
    killed(&mut again, &[app()]);
    again.expect_no("term-blocked");
}

#[test]
fn a_second_request_at_once_is_impatience_and_no_hang() {
    let mut scene = outlives(&["app"], sent(app(), TERM));
    handled(&mut scene, 102, app(), TERM);
    let kill = SignalGenerated {
        exiting: true,
        ..sent(app(), libc::SIGKILL)
    };
    send(&mut scene, 105, launcher(), kill);
    scene.exit(106, app(), -libc::SIGKILL, 0);
    let what = Kill {
        reason: "second-signal".into(),
        method: "cgroup.kill".into(),
    };
    scene.at(107, launcher(), What::Kill(what));
    scene.expect_no("term-handler-no-exit");
    let (_, verdict) = scene.expect("kill-after-grace");
    assert!(verdict.contains("at a second request"), "{verdict}");
}

#[test]
fn a_kill_that_comes_after_the_end_forced_nothing() {
    let mut scene = outlives(&["app"], sent(app(), TERM));
    handled(&mut scene, 102, app(), TERM);
    scene.exit(110, app(), 0, 0);
    let what = Kill {
        reason: "second-signal".into(),
        method: "cgroup.kill".into(),
    };
    scene.at(111, launcher(), What::Kill(what));
    scene.expect("ended-on-request");
    scene.expect_no("kill-after-grace");
}

#[test]
fn other_handlers_make_it_a_mismatch_but_that_of_an_interpreter_does_not() {
    let dropped = SignalGenerated {
        result: SignalResult::Ignored,
        disposition: Disposition::Default,
        unkillable: true,
        ..sent(app(), TERM)
    };
    let with = |caught: i32| {
        let mut scene = outlives(&["app"], dropped.clone());
        let thread = ThreadState {
            caught: vec![Signal::new(caught)],
            ..thread(app(), "S", "poll")
        };
        look(&mut scene, 110, Moment::StopRequested, vec![thread]);
        killed(&mut scene, &[app()]);
        scene
    };
    let (confidence, verdict) = with(libc::SIGQUIT).expect("stop-signal-mismatch");
    assert_eq!(confidence, Confidence::Proven);
    assert!(verdict.contains("SIGQUIT"), "{verdict}");
    with(libc::SIGQUIT).expect_no("term-ignored-pid1-default");
    with(libc::SIGINT).expect("term-ignored-pid1-default");
    with(libc::SIGINT).expect_no("stop-signal-mismatch");
}

#[test]
fn lost_signals_weaken_what_relies_on_their_absence() {
    let dropped = SignalGenerated {
        result: SignalResult::Ignored,
        disposition: Disposition::Default,
        unkillable: true,
        ..sent(app(), TERM)
    };
    let mut scene = outlives(&["app"], dropped);
    killed(&mut scene, &[app()]);
    assert_eq!(
        scene.expect("term-ignored-pid1-default").0,
        Confidence::Proven
    );
    if let Some(footer) = &mut scene.footer {
        footer.lost.push(Lost {
            event_kind: "signal-delivered".into(),
            cpu: Some(0),
            count: 1,
        });
    }
    let (confidence, _) = scene.expect("term-ignored-pid1-default");
    assert_eq!(confidence, Confidence::ConsistentWith);
}

#[test]
fn a_shell_whose_trap_can_not_run_yet_is_likely_only_where_it_never_runs() {
    let (sh, sleep) = (inside(1, "sh"), inside(2, "sleep"));
    let mut scene = outlives(&["sh", "-c", "app"], sent(sh.clone(), TERM));
    scene.fork(10, sh.clone(), sleep.clone());
    handled(&mut scene, 102, sh.clone(), TERM);
    killed(&mut scene, &[sh, sleep]);
    assert_eq!(
        scene.expect("term-shell-trap-deferred").0,
        Confidence::Likely
    );
    scene.expect_no("term-handler-no-exit");
}

#[test]
fn a_shell_that_became_the_program_is_no_shell() {
    let dropped = SignalGenerated {
        result: SignalResult::Ignored,
        disposition: Disposition::Default,
        unkillable: true,
        ..sent(app(), TERM)
    };
    let mut scene = outlives(&["sh", "-c", "app"], dropped);
    scene.exec(20, app(), &["app"]);
    scene.fork(30, app(), inside(2, "worker"));
    killed(&mut scene, &[app(), inside(2, "worker")]);
    scene.expect_no("term-stuck-in-shell");
    scene.expect("term-ignored-pid1-default");
}

#[test]
fn what_a_parent_ignores_is_inherited() {
    let child = inside(2, "worker");
    let mut scene = outlives(&["app"], sent(app(), TERM));
    scene.fork(10, app(), child.clone());
    scene.exec(11, child.clone(), &["worker"]);
    handled(&mut scene, 102, app(), TERM);
    let ignored = SignalGenerated {
        result: SignalResult::Ignored,
        disposition: Disposition::Ignore,
        ..sent(child.clone(), TERM)
    };
    send(
        &mut scene,
        5,
        outside(7, "bash"),
        SignalGenerated {
            target: app(),
            ..ignored.clone()
        },
    );
    send(&mut scene, 103, app(), ignored);
    killed(&mut scene, &[app(), child]);
    let (confidence, verdict) = scene.expect("term-ignored-inherited");
    assert_eq!(confidence, Confidence::Proven);
    assert!(verdict.contains("inherited from app (PID 1)"), "{verdict}");
    scene.expect_no("term-ignored-by-choice");
}

#[test]
fn a_cpu_limit_counts_only_if_it_held_back_most_of_the_time() {
    let with = |throttled: u64| {
        let mut scene = outlives(&["app"], sent(app(), TERM));
        handled(&mut scene, 102, app(), TERM);
        let readings = [
            (110, Moment::StopRequested, 0),
            (1090, Moment::StopDeadline, throttled),
        ];
        for (ms, moment, throttled) in readings {
            let what = Snapshot {
                moment,
                threads: vec![thread(app(), "R", "")],
                truncated: false,
                frozen: None,
                cpu: Some(CpuThrottling {
                    periods: if throttled == 0 { 0 } else { 10 },
                    throttled_periods: throttled,
                    throttled_ns: throttled * 95_000_000,
                    used_ns: 1_000_000,
                }),
                waited_ns: None,
                processes: Vec::new(),
            };
            scene.at(ms, launcher(), What::Snapshot(what));
        }
        killed(&mut scene, &[app()]);
        scene
    };
    assert_eq!(
        with(9).expect("term-shutdown-cpu-throttled").0,
        Confidence::Proven
    );
    with(3).expect_no("term-shutdown-cpu-throttled");
}

#[test]
fn state_d_in_a_frozen_cgroup_is_the_freezers() {
    let mut scene = outlives(&["app"], sent(app(), TERM));
    let what = Snapshot {
        moment: Moment::StopHalf,
        threads: vec![ThreadState {
            pending: vec![Signal::new(TERM)],
            ..thread(app(), "D", "nanosleep")
        }],
        truncated: false,
        frozen: Some("/procjail/web".into()),
        cpu: None,
        waited_ns: None,
        processes: Vec::new(),
    };
    scene.at(600, launcher(), What::Snapshot(what));
    killed(&mut scene, &[app()]);
    assert_eq!(scene.expect("term-pending-frozen").0, Confidence::Proven);
    scene.expect_no("term-pending-uninterruptible");
}

#[test]
fn a_stop_that_was_continued_holds_nothing_up() {
    let mut scene = outlives(&["app"], sent(app(), TERM));
    for (ms, number) in [(50, libc::SIGSTOP), (60, libc::SIGCONT)] {
        send(&mut scene, ms, outside(7, "bash"), sent(app(), number));
    }
    killed(&mut scene, &[app()]);
    scene.expect_no("term-pending-stopped");
}

#[test]
fn a_trap_that_ran_when_the_command_had_ended_is_proven() {
    let (sh, sleep) = (inside(1, "sh"), inside(2, "sleep"));
    let play = |ended: u64| {
        let mut scene = outlives(&["sh", "-c", "app"], sent(sh.clone(), TERM));
        scene.fork(10, sh.clone(), sleep.clone());
        handled(&mut scene, 102, sh.clone(), TERM);
        scene.exit(ended, sleep.clone(), 0, 0);
        scene.reap(ended + 1, sh.clone(), sleep.clone());
        scene.exit(ended + 2, sh.clone(), 0, 0);
        scene
    };
    assert_eq!(
        play(800).expect("term-shell-trap-deferred").0,
        Confidence::Proven
    );
    play(120).expect_no("term-shell-trap-deferred");
}

/// PID 1 ignores SIGTERM from `own` on, and made a program that starts with it ignored if `child`.
fn ignoring(own: bool, child: bool) -> Scene {
    let sets = |ignored: bool| {
        Some(SignalSets {
            ignored: ignored.then(|| Signal::new(TERM)).into_iter().collect(),
            ..SignalSets::default()
        })
    };
    let sleep = inside(2, "sleep");
    let mut scene = outlives(&["app"], sent(app(), TERM));
    scene.fork(10, app(), sleep.clone());
    scene.exec(11, sleep.clone(), &["sleep"]);
    handled(&mut scene, 102, app(), TERM);
    let ignored = SignalGenerated {
        result: SignalResult::Ignored,
        disposition: Disposition::Ignore,
        ..sent(sleep.clone(), TERM)
    };
    send(&mut scene, 103, app(), ignored);
    killed(&mut scene, &[app(), sleep]);
    scene.change(|task, what| match what {
        What::Exec(exec) if task.jail_pid == Some(1) => exec.signals = sets(own),
        What::Exec(exec) => exec.signals = sets(child),
        What::Fork(fork) => fork.signals = sets(child),
        _ => {}
    });
    scene
}

#[test]
fn who_set_sig_ign_is_followed_over_fork_and_exec() {
    let (confidence, text) = ignoring(false, true).expect("term-ignored-inherited");
    assert_eq!(confidence, Confidence::Proven);
    assert!(text.contains("inherited that from app (PID 1)"), "{text}");
    let (confidence, text) = ignoring(false, false).expect("term-ignored-by-choice");
    assert_eq!(confidence, Confidence::Proven);
    assert!(text.contains("Its program chose"), "{text}");
    let text = ignoring(true, true).expect("term-ignored-inherited").1;
    assert!(text.contains("what started the jail"), "{text}");
}

#[test]
fn a_signal_that_a_debugger_holds_is_told() {
    let gdb = inside(2, "gdb");
    let play = |pending: bool| {
        let mut scene = outlives(&["app"], sent(app(), TERM));
        scene.fork(10, app(), gdb.clone());
        let traced = ThreadState {
            tracer_pid: gdb.pid,
            pending: pending.then(|| Signal::new(TERM)).into_iter().collect(),
            ..thread(app(), "t", "poll")
        };
        look(&mut scene, 600, Moment::StopHalf, vec![traced]);
        killed(&mut scene, &[app(), gdb.clone()]);
        scene
    };
    let (confidence, text) = play(false).expect("term-held-by-tracer");
    assert_eq!(confidence, Confidence::Proven);
    assert!(text.contains("traced by gdb (PID 2)"), "{text}");
    let (confidence, text) = play(true).expect("term-held-by-tracer");
    assert_eq!(confidence, Confidence::Likely);
    assert!(text.contains("a breakpoint"), "{text}");
}
