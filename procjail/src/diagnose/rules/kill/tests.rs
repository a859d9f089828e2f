//! Kills that no scenario plays, and the look-alikes.

use crate::diagnose::Confidence;
use crate::diagnose::fixture::{Scene, inside, mib, oom_kill, outside, sent};
use crate::event::*;

const KILL: i32 = libc::SIGKILL;

fn worker() -> Task {
    inside(2, "worker")
}

/// PID 1 has a worker, which is killed by `from` with that code, after `with` had its way with it.
fn scene(from: Task, code: i32, with: impl FnOnce(&mut SignalGenerated)) -> Scene {
    let mut scene = Scene::new(&["app"]);
    scene.launcher().pid = 4100;
    scene.fork(10, inside(1, "app"), worker());
    let mut kill = SignalGenerated {
        code: SignalCode {
            number: code,
            name: String::new(),
        },
        exiting: true,
        syscall: None,
        ..sent(KILL, &worker())
    };
    with(&mut kill);
    scene.at(100, from, What::SignalGenerated(kill));
    scene.exit(101, worker(), -KILL, 0);
    scene
}

fn by_call(name: &str) -> impl FnOnce(&mut SignalGenerated) {
    let call = Syscall {
        number: 0,
        name: name.to_owned(),
    };
    move |kill| kill.syscall = Some(call)
}

#[test]
fn the_kernels_own_reasons_are_never_called_out_of_memory() {
    let mut unknown = scene(outside(2, "kworker"), 128, |kill| {
        kill.sender_kthread = true
    });
    let message = KernelMessage {
        level: 0,
        text: "sysrq: Kill All Tasks".into(),
    };
    unknown.at(102, outside(4100, "procjail"), What::KernelMessage(message));
    let (confidence, _) = unknown.expect("kill-kernel-other");
    assert_eq!(confidence, Confidence::ConsistentWith);
    unknown.expect_no("kill-external");
    let found = unknown.found();
    assert!(
        found.iter().all(|one| !one.id.starts_with("oom-")),
        "{found:?}"
    );
}

#[test]
fn a_tracer_that_ends_is_proven_where_it_was_recorded() {
    let tracer = || inside(3, "gdb");
    let ending = |traces: bool| {
        scene(tracer(), 128, move |kill| {
            kill.group = false;
            kill.sender_exiting = true;
            kill.sender_traces_target = traces;
        })
    };
    assert_eq!(
        ending(true).expect("kill-ptrace-exitkill").0,
        Confidence::Proven
    );
    assert_eq!(
        ending(false).expect("kill-ptrace-exitkill").0,
        Confidence::Likely
    );
    ending(true).expect_no("kill-kernel-other");
}

#[test]
fn the_end_of_pid_1_is_no_tracers() {
    let scene = scene(inside(1, "app"), 128, |kill| kill.sender_exiting = true);
    scene.expect("kill-pidns-teardown");
    scene.expect_no("kill-ptrace-exitkill");
}

#[test]
fn a_write_to_cgroup_kill_is_not_a_kill_of_each() {
    let scene = scene(outside(7, "runc"), 0, |kill| {
        kill.group = false;
        by_call("write")(kill);
    });
    scene.expect("kill-cgroup-kill");
    scene.expect_no("kill-external");
}

#[test]
fn the_oom_killers_of_user_space_have_a_verdict_of_their_own() {
    scene(outside(7, "earlyoom"), 0, by_call("kill")).expect_no("kill-external");
    scene(outside(7, "bash"), 0, by_call("kill")).expect("kill-external");
}

#[test]
fn a_worker_killed_by_its_parent_is_told_so() {
    let scene = scene(inside(1, "app"), 0, by_call("kill"));
    let (confidence, verdict) = scene.expect("kill-internal");
    assert_eq!(confidence, Confidence::Proven);
    assert!(verdict.contains("by its parent app (PID 1)"), "{verdict}");
    scene.expect_no("kill-external");
    scene.expect_no("exit-137-not-oom");
}

#[test]
fn one_signal_is_no_broadcast() {
    scene(inside(3, "cleanup"), 0, by_call("kill")).expect_no("kill-broadcast");
}

#[test]
fn a_parent_that_ends_as_a_whole_is_the_cause_of_parent_death() {
    let mut scene = Scene::new(&["app"]);
    let parent = inside(2, "parent");
    let child = inside(3, "child");
    scene.fork(10, inside(1, "app"), parent.clone());
    scene.fork(20, parent.clone(), child.clone());
    scene.exit(100, parent.clone(), 0, 0);
    scene.signal(101, parent, child.clone(), KILL, 0);
    scene.exit(102, child, -KILL, 0);
    // The fixture's signal is a kill(2), by a process that is not ending: no parent-death signal.
    scene.expect_no("kill-pdeathsig");
}

#[test]
fn an_oom_kill_of_pid_1_is_no_label_of_the_contrary() {
    let mut scene = Scene::new(&["app"]);
    let app = inside(1, "app");
    scene.signal(100, app.clone(), app.clone(), KILL, 128);
    let kill = OomKill {
        memory: ProcessMemory {
            anon_bytes: mib(60),
            ..ProcessMemory::default()
        },
        ..oom_kill(&app)
    };
    scene.at(100, app.clone(), What::OomKill(kill));
    scene.exit(102, app, -KILL, 0);
    scene.expect_no("exit-137-not-oom");
    scene.expect_no("kill-external");
}

#[test]
fn a_count_of_oom_kills_that_grew_makes_the_label_less_sure() {
    let mut scene = Scene::new(&["app"]);
    let app = inside(1, "app");
    scene.signal(100, outside(7, "bash"), app.clone(), KILL, 0);
    scene.exit(102, app, -KILL, 0);
    assert_eq!(scene.expect("exit-137-not-oom").0, Confidence::Proven);
    scene.counters(110, &[("/web", &[("memory.events:oom_kill", 1)])]);
    assert_eq!(scene.expect("exit-137-not-oom").0, Confidence::Likely);
}

#[test]
fn full_memory_is_no_oom_kill_without_one() {
    let mut scene = Scene::new(&["app"]);
    let app = inside(1, "app");
    scene.sample(90, mib(64), MemoryKinds::default());
    scene.signal(100, outside(7, "bash"), app.clone(), KILL, 0);
    scene.exit(102, app, -KILL, 0);
    assert_eq!(scene.expect("exit-137-not-oom").0, Confidence::Proven);
    scene.expect("kill-external");
}

#[test]
fn a_parents_kill_after_failed_allocations_is_still_the_parents() {
    let mut scene = scene(inside(1, "app"), 0, by_call("kill"));
    scene.refused_calls(101, worker(), &[("mmap", libc::ENOMEM)]);
    scene.expect("kill-internal");
}

/// `from` sends a signal to some processes, which end by it, 10 microseconds apart or so.
fn burst(scene: &mut Scene, from: &Task, to: &[&Task], number: i32) {
    for victim in to {
        scene.signal(100, from.clone(), (*victim).clone(), number, 0);
        scene.exit(101, (*victim).clone(), -number, 0);
    }
}

#[test]
fn a_manager_that_ends_its_children_is_no_broadcast() {
    let mut scene = Scene::new(&["app"]);
    let app = inside(1, "app");
    let (one, two) = (inside(2, "worker"), inside(3, "worker"));
    scene.fork(10, app.clone(), one.clone());
    scene.fork(11, app.clone(), two.clone());
    burst(&mut scene, &app, &[&one, &two], libc::SIGTERM);
    scene.expect_no("kill-broadcast");
}

#[test]
fn who_hits_others_children_at_once_did_it_by_one_call_as_it_seems() {
    let mut scene = Scene::new(&["app"]);
    let app = inside(1, "app");
    let (one, two) = (inside(2, "worker"), inside(3, "worker"));
    scene.fork(10, app.clone(), one.clone());
    scene.fork(11, app, two.clone());
    let cleanup = inside(4, "cleanup");
    burst(&mut scene, &cleanup, &[&one, &two], KILL);
    let found = scene.verdict("kill-broadcast");
    assert_eq!(
        (found.confidence, found.sure()),
        (Confidence::Proven, Confidence::Likely)
    );
}

#[test]
fn who_kills_all_of_the_jail_is_told_of_even_if_it_made_it() {
    let mut scene = Scene::new(&["sh"]);
    let (init, sh) = (inside(1, "sh"), inside(2, "sh"));
    let (one, two) = (inside(3, "worker"), inside(4, "worker"));
    scene.fork(9, init.clone(), sh.clone());
    scene.fork(10, sh.clone(), one.clone());
    scene.fork(11, sh.clone(), two.clone());
    let mut all = scene.clone();
    burst(&mut all, &sh, &[&one, &two], KILL);
    let found = all.verdict("kill-broadcast");
    assert!(found.verdict().contains("kill(-1, SIGKILL)"));
    assert_eq!(found.sure(), Confidence::ConsistentWith);
    all.expect_no("kill-internal");
    // One that is left shows that it was not everything.
    scene.fork(12, init, inside(5, "other"));
    burst(&mut scene, &sh, &[&one, &two], KILL);
    scene.expect_no("kill-broadcast");
    scene.expect("kill-internal");
}

#[test]
fn who_ends_a_process_by_another_signal_is_named_where_the_run_ends_by_it() {
    let play = |killer: Task, number: i32| {
        let (sh, watchdog) = (inside(1, "sh"), inside(3, "watchdog"));
        let mut scene = Scene::new(&["sh"]);
        scene
            .fork(10, &sh, worker())
            .fork(11, &sh, &watchdog)
            .send(100, killer, sent(number, &worker()))
            .exit_to(101, worker(), &sh, number)
            .reap(102, &sh, worker())
            .end(103, &sh, (128 + number) << 8);
        scene
    };
    for number in [libc::SIGTERM, libc::SIGHUP, libc::SIGALRM] {
        let scene = play(inside(3, "watchdog"), number);
        let (_, text) = scene.expect("kill-internal");
        let name = Signal::new(number).name;
        assert!(
            text.contains("by its sibling watchdog (PID 3), with")
                && text.contains(&format!("with {name}")),
            "{text}"
        );
        assert_eq!(scene.ids()[0], "kill-internal");
    }
    // What a parent ends is its own affair; who did it is told with the code.
    let own = play(inside(1, "sh"), libc::SIGTERM);
    own.expect_no("kill-internal");
    let text = own.verdict("exit-128n-by-program").verdict();
    assert!(
        text.contains("SIGTERM, which sh (PID 1) itself sent"),
        "{text}"
    );
}

/// A stop that PID 1 passes on to a pool and its workers; the pool has a handler if `handles`.
fn group_signal(handles: bool) -> Scene {
    let mut scene = Scene::new(&["dumb-init"]);
    let (init, pool) = (inside(1, "dumb-init"), inside(2, "pool"));
    let workers = [inside(3, "pool"), inside(4, "pool")];
    scene.fork(5, init.clone(), pool.clone());
    scene.exec(6, pool.clone(), &["pool"]);
    for worker in &workers {
        scene.fork(10, pool.clone(), worker.clone());
    }
    scene.signal(90, outside(7, "kill"), init.clone(), libc::SIGTERM, 0);
    scene.deliver(91, init.clone(), libc::SIGTERM, Disposition::Handler);
    let told = SignalGenerated {
        disposition: match handles {
            true => Disposition::Handler,
            false => Disposition::Default,
        },
        ..sent(libc::SIGTERM, &pool)
    };
    scene.send(100, init.clone(), told);
    burst(
        &mut scene,
        &init,
        &[&workers[0], &workers[1]],
        libc::SIGTERM,
    );
    scene.exit(200, init, 0, 0);
    scene
}

#[test]
fn a_group_signal_that_ends_a_pools_workers_is_told() {
    let text = group_signal(true).expect("kill-broadcast").1;
    assert!(
        text.starts_with("dumb-init (PID 1) sent SIGTERM not only to pool (PID 2)"),
        "{text}"
    );
    group_signal(false).expect_no("kill-broadcast");
}

#[test]
fn a_wrapper_that_kills_what_it_was_to_stop_tells_how_the_stop_went() {
    let mut scene = Scene::new(&["su"]);
    let (su, app) = (inside(1, "su"), inside(2, "app"));
    scene.fork(5, su.clone(), app.clone());
    let term = |to: &Task| SignalGenerated {
        disposition: Disposition::Handler,
        ..sent(libc::SIGTERM, to)
    };
    scene.send(90, outside(7, "kill"), term(&su));
    scene.deliver(91, su.clone(), libc::SIGTERM, Disposition::Handler);
    scene.send(92, su.clone(), term(&app));
    scene.send(2092, su.clone(), sent(KILL, &app));
    scene.exit(2093, app, -KILL, 0);
    scene.exit(2094, su, 143, 0);
    let first = scene.found().swap_remove(0);
    assert_eq!(first.id, "kill-internal");
    assert!(
        first.fact.contains("2.000 s after SIGTERM"),
        "{}",
        first.fact
    );
}

#[test]
fn a_manager_that_ends_the_group_of_its_child_is_no_broadcast() {
    let mut scene = Scene::new(&["honcho"]);
    let (manager, sh, sleep) = (inside(1, "honcho"), inside(2, "sh"), inside(3, "sleep"));
    scene.fork(10, manager.clone(), sh.clone());
    scene.fork(11, sh.clone(), sleep.clone());
    burst(&mut scene, &manager, &[&sleep, &sh], libc::SIGTERM);
    scene.expect_no("kill-broadcast");
}

#[test]
fn a_worker_that_its_parent_aborts_is_told_of_whatever_it_returns() {
    let mut scene = Scene::new(&["gunicorn"]);
    let app = inside(1, "gunicorn");
    scene.fork(10, app.clone(), worker());
    let abort = SignalGenerated {
        disposition: Disposition::Handler,
        ..sent(libc::SIGABRT, &worker())
    };
    scene.send(1100, app, abort);
    scene.exit(1110, worker(), 1, 0);
    let (_, text) = scene.expect("kill-internal");
    assert!(
        text.contains("gunicorn (PID 1) sent SIGABRT to its child worker (PID 2)"),
        "{text}"
    );
}

#[test]
fn a_jail_whose_program_never_ran_was_not_stopped() {
    let mut scene = Scene::bare();
    let pid1 = inside(1, "procjail");
    scene.signal(100, outside(4100, "procjail"), pid1.clone(), KILL, 0);
    scene.exit(101, pid1, -KILL, 0);
    scene.expect_no("term-not-sent");
    scene.expect_no("exit-137-not-oom");
}
