//! What an OOM kill led to, and what it did not.

use super::*;

fn worker() -> Task {
    inside(3, "worker")
}

/// `worker`, made by that process, is OOM-killed after a second and collected.
fn lose_worker<'a>(scene: &'a mut Scene, parent: &Task) -> &'a mut Scene {
    scene
        .fork(20, parent, worker())
        .at(
            1000,
            worker(),
            What::OomKill(kill(worker(), mib(60), full())),
        )
        .exit_to(1005, worker(), parent, libc::SIGKILL)
        .reap(1006, parent, worker())
}

/// PID 1 `make` has a shell, PID 2, which loses its worker.
fn killed() -> Scene {
    let mut scene = Scene::new(&["make"]);
    let (make, shell) = (inside(1, "make"), inside(2, "sh"));
    scene.fork(10, &make, &shell);
    lose_worker(&mut scene, &shell);
    scene
}

/// The first verdict.
fn first(scene: &Scene) -> String {
    scene.ids().into_iter().next().unwrap_or_default()
}

#[test]
fn the_kill_comes_before_the_codes_that_it_became() {
    let (make, shell) = (inside(1, "make"), inside(2, "sh"));
    let mut scene = killed();
    let cleaner = inside(4, "rm");
    scene
        .fork(1010, &shell, &cleaner)
        .exit_to(1015, &cleaner, &shell, 0)
        .reap(1016, &shell, &cleaner)
        .exit_to(1020, &shell, &make, 1 << 8)
        .reap(1021, &make, &shell)
        .end(1025, &make, 2 << 8);
    assert_eq!(first(&scene), "oom-own-limit");
    let found = scene.verdict("oom-own-limit");
    assert!(
        found
            .fact
            .contains("sh (PID 2) collected it and exited with 1, 14 ms later")
            && found
                .fact
                .contains("make (PID 1) collected that one and exited with 2, 4.0 ms later"),
        "{}",
        found.fact
    );
    assert!(found.pids.contains(&make.pid));
    scene.expect_no("oom-earlier-not-cause");
}

#[test]
fn what_a_shell_does_last_does_not_come_before_the_kill() {
    let first = |later_ms: u64| {
        let (shell, grep) = (inside(1, "sh"), inside(4, "grep"));
        let mut scene = Scene::new(&["sh"]);
        lose_worker(&mut scene, &shell)
            .fork(later_ms, &shell, &grep)
            .exec(later_ms + 1, &grep, &["grep"])
            .stderr(
                later_ms + 5,
                &grep,
                "grep: /log: No such file or directory\n",
            )
            .exit_to(later_ms + 6, &grep, &shell, 2 << 8)
            .reap(later_ms + 7, &shell, &grep)
            .end(later_ms + 8, &shell, 2 << 8);
        scene.expect("exit-own-code");
        first(&scene)
    };
    assert_eq!(first(1010), "oom-own-limit");
    assert_eq!(first(9_000), "exit-own-code");
}

#[test]
fn a_shell_that_goes_on_well_breaks_the_chain() {
    let (make, shell) = (inside(1, "make"), inside(2, "sh"));
    let mut scene = killed();
    scene
        .exit_to(1020, &shell, &make, 0)
        .reap(1021, &make, &shell)
        .end(1025, &make, 2 << 8);
    let found = scene.verdict("oom-own-limit");
    assert!(!found.pids.contains(&make.pid), "{}", found.fact);
}

#[test]
fn the_code_of_another_child_is_not_the_kills() {
    let mut scene = Scene::new(&["sh"]);
    let (shell, other) = (inside(1, "sh"), inside(4, "check"));
    lose_worker(&mut scene, &shell)
        .fork(1010, &shell, &other)
        .exit_to(1500, &other, &shell, 7 << 8)
        .reap(1501, &shell, &other)
        .end(1502, &shell, 7 << 8);
    assert!(!scene.verdict("oom-own-limit").pids.contains(&shell.pid));
    let found = scene.verdict("oom-earlier-not-cause");
    assert!(
        found.fact.contains("check (PID 4) exited with 7"),
        "{}",
        found.fact
    );
    assert_ne!(first(&scene), "oom-own-limit", "{:#?}", scene.ids());
}

#[test]
fn a_silent_helper_of_a_manager_that_gives_up_is_no_other_reason() {
    let mut scene = Scene::new(&["pool"]);
    let (manager, helper) = (inside(1, "pool"), inside(4, "pgrep"));
    lose_worker(&mut scene, &manager)
        .fork(1010, &manager, &helper)
        .exit_to(1020, &helper, &manager, 1 << 8)
        .reap(1021, &manager, &helper)
        .end(1100, &manager, 1 << 8)
        .stderr(
            1101,
            &manager,
            "TerminatedWorkerError: a worker was terminated\n",
        );
    assert!(scene.verdict("oom-own-limit").pids.contains(&manager.pid));
    scene.expect_no("oom-earlier-not-cause");
    assert_eq!(first(&scene), "oom-own-limit", "{:#?}", scene.ids());
}

#[test]
fn a_shell_that_went_on_with_other_work_ended_for_another_reason() {
    let mut scene = Scene::new(&["sh"]);
    let (shell, other) = (inside(1, "sh"), inside(4, "build"));
    lose_worker(&mut scene, &shell)
        .fork(1010, &shell, &other)
        .exit_to(2500, &other, &shell, 0)
        .reap(2501, &shell, &other)
        .end(2502, &shell, 7 << 8);
    assert!(!scene.verdict("oom-own-limit").pids.contains(&shell.pid));
}

#[test]
fn what_a_manager_ends_after_the_kill_ended_because_of_it() {
    let mut scene = Scene::new(&["pool"]);
    let pool = inside(1, "pool");
    for pid in [2, 4] {
        scene.fork(10, &pool, inside(pid, "worker"));
    }
    lose_worker(&mut scene, &pool);
    for pid in [2, 4] {
        let other = inside(pid, "worker");
        scene
            .signal(1010, &pool, &other, libc::SIGTERM, 0)
            .exit_to(1011, &other, &pool, libc::SIGTERM)
            .reap(1012, &pool, &other);
    }
    scene.end(1020, &pool, 1 << 8);
    assert_eq!(first(&scene), "oom-own-limit");
    let pids = scene.verdict("oom-own-limit").pids;
    assert!(pids.contains(&inside(4, "worker").pid) && pids.contains(&pool.pid));
}

/// A pool that lost a worker, replaced it and did nothing until it was stopped.
fn idle_pool(listening: &[&str]) -> Scene {
    let mut scene = Scene::new(&["pool"]);
    let (pool, next) = (inside(1, "pool"), inside(9, "worker"));
    lose_worker(&mut scene, &pool).fork(1100, &pool, &next);
    let stop = StopRequested {
        signal: Signal::new(libc::SIGTERM),
        stop_signal: Signal::new(libc::SIGTERM),
        timeout_ns: 1,
        by: None,
    };
    let look = Snapshot {
        moment: Moment::StopRequested,
        threads: Vec::new(),
        truncated: false,
        frozen: None,
        cpu: None,
        waited_ns: None,
        processes: vec![ProcessActivity {
            pid: pool.pid,
            listening: listening.iter().map(|text| (*text).to_owned()).collect(),
            ..ProcessActivity::default()
        }],
    };
    scene
        .at(9000, outside(4100, "procjail"), What::StopRequested(stop))
        .at(9000, outside(4100, "procjail"), What::Snapshot(look))
        .signal(9500, outside(4100, "procjail"), &pool, libc::SIGKILL, 0)
        .end(9501, &pool, libc::SIGKILL);
    scene
}

#[test]
fn a_pool_that_waits_for_a_lost_result_is_told_from_a_server() {
    let scene = idle_pool(&[]);
    assert_eq!(first(&scene), "oom-own-limit");
    let found = scene.verdict("oom-child-invisible");
    assert_eq!(found.sure(), Confidence::Likely);
    assert!(
        found
            .verdict()
            .contains("waits for a result that never comes"),
        "{}",
        found.verdict()
    );
    scene.expect_no("oom-earlier-not-cause");
    let server = idle_pool(&["0.0.0.0:80"]);
    let found = server.verdict("oom-child-invisible");
    assert!(
        !found.verdict().contains("never comes"),
        "{}",
        found.verdict()
    );
    server.expect("oom-earlier-not-cause");
}
