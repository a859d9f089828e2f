//! Who died, how often, and who knew.

use super::*;

#[test]
fn one_finding_for_many_victims() {
    let mut scene = Scene::new(&["app"]);
    for pid in 2..8 {
        let time = u64::from(pid) * 1000;
        let victim = inside(pid, "worker");
        scene.fork(time, app(), victim.clone());
        scene.at(
            time + 900,
            app(),
            What::OomKill(kill(victim.clone(), mib(60), full())),
        );
        scene.exit(time + 905, victim.clone(), -libc::SIGKILL, mib(60));
        scene.reap(time + 906, app(), victim);
    }
    scene.exit(60_000, app(), 0, mib(1));
    let found = scene.found();
    let limits = found.iter().filter(|one| one.id == "oom-own-limit");
    assert_eq!(limits.count(), 1);
    let (confidence, verdict) = scene.expect("oom-repeat-loop");
    assert_eq!(confidence, Confidence::Proven);
    assert!(verdict.contains("6 times"), "{verdict}");
    let (_, verdict) = scene.expect("oom-child-invisible");
    assert!(verdict.contains("then started worker"), "{verdict}");
    scene.expect_no("oom-fork-bomb");
    scene.expect_no("oom-group-kill");
}

#[test]
fn workers_that_died_together_are_no_loop() {
    let mut scene = Scene::new(&["app"]);
    for pid in 2..6 {
        scene.fork(10, app(), inside(pid, "worker"));
    }
    for pid in 2..6 {
        let time = 1000 + u64::from(pid);
        let victim = inside(pid, "worker");
        scene.at(time, app(), What::OomKill(kill(victim, mib(15), full())));
    }
    scene.expect_no("oom-repeat-loop");
    // Some milliseconds apart: one after another.
    scene.expect_no("oom-group-kill");
}

#[test]
fn workers_that_are_made_while_others_die_are_no_loop() {
    let mut scene = Scene::new(&["app"]);
    for pid in 2..8 {
        let time = u64::from(pid) * 1000;
        let victim = inside(pid, "worker");
        scene.fork(time, app(), victim.clone());
        scene.at(
            time + 900,
            app(),
            What::OomKill(kill(victim, mib(60), full())),
        );
    }
    // Nobody collects them: whoever makes the next one does not know.
    scene.expect_no("oom-repeat-loop");
}

#[test]
fn a_group_kill_needs_the_setting() {
    let mut scene = Scene::new(&["app"]);
    // The first victim's end has made room by the time of the others' events.
    let roomy = || chain((mib(50), Some(mib(64))), (mib(70), None), None);
    for pid in 2..5 {
        scene.fork(10, app(), inside(pid, "worker"));
        let victim = inside(pid, "worker");
        let chain = if pid == 2 { full() } else { roomy() };
        scene.at(1000, app(), What::OomKill(kill(victim, mib(5), chain)));
    }
    // On v1 there is none.
    scene.expect_no("oom-group-kill");
    scene.header.host.cgroup_mode = "v2".into();
    assert_eq!(scene.expect("oom-group-kill").0, Confidence::Likely);
    let limits = &mut scene.header.jail.limits;
    limits.insert("memory.oom.group".into(), "1".into());
    assert_eq!(scene.expect("oom-own-limit").0, Confidence::Proven);
    let (confidence, verdict) = scene.expect("oom-group-kill");
    assert_eq!(confidence, Confidence::Proven);
    assert!(verdict.contains("all 3 processes"), "{verdict}");
}

#[test]
fn pid_1_that_ends_at_once_has_seen_the_kill() {
    let mut scene = Scene::new(&["app"]);
    let child = inside(2, "worker");
    scene.fork(10, app(), child.clone());
    scene.at(
        1000,
        app(),
        What::OomKill(kill(child.clone(), mib(60), full())),
    );
    scene.exit(1005, child, -libc::SIGKILL, mib(60));
    scene.exit(1010, app(), 1, mib(1));
    scene.expect_no("oom-child-invisible");
    scene.expect_no("oom-earlier-not-cause");
}

#[test]
fn a_stop_after_an_oom_kill_is_what_ended_the_jail() {
    let mut scene = Scene::new(&["app"]);
    let child = inside(2, "worker");
    scene.fork(10, app(), child.clone());
    scene.at(1000, app(), What::OomKill(kill(child, mib(60), full())));
    let stop = StopRequested {
        signal: Signal::new(libc::SIGTERM),
        stop_signal: Signal::new(libc::SIGTERM),
        timeout_ns: 1,
        by: None,
    };
    scene.at(9000, outside(4100, "procjail"), What::StopRequested(stop));
    scene.exit(9010, app(), 143, mib(1));
    let (confidence, verdict) = scene.expect("oom-earlier-not-cause");
    assert_eq!(confidence, Confidence::Likely);
    assert!(
        verdict.contains("a stop was requested by SIGTERM"),
        "{verdict}"
    );
}

#[test]
fn lost_oom_kills_make_negative_claims_weak() {
    let mut scene = Scene::new(&["app"]);
    let child = inside(2, "worker");
    scene.fork(10, app(), child.clone());
    scene.at(1000, app(), What::OomKill(kill(child, mib(60), full())));
    scene.signal(9000, outside(77, "bash"), app(), libc::SIGKILL, 0);
    scene.exit(9001, app(), -libc::SIGKILL, mib(1));
    assert_eq!(scene.expect("oom-earlier-not-cause").0, Confidence::Likely);
    if let Some(footer) = &mut scene.footer {
        footer.lost = vec![Lost {
            event_kind: "oom-kill".into(),
            cpu: None,
            count: 1,
        }];
    }
    assert_eq!(
        scene.expect("oom-earlier-not-cause").0,
        Confidence::ConsistentWith
    );
}
