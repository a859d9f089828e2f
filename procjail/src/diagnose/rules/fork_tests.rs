//! Refused forks and too many of them, by traces made by hand.

use crate::diagnose::fixture::{Scene, inside, mib, outside};
use crate::diagnose::{Confidence, Rank};
use crate::event::*;

fn app() -> Task {
    inside(1, "app")
}

/// PID 1 makes so many children, one each millisecond, and fails with these calls.
fn scene(children: u32, calls: &[(&str, i32)]) -> Scene {
    let mut scene = Scene::new(&["app"]);
    for pid in 2..2 + children {
        scene.fork(u64::from(pid), app(), inside(pid, "app"));
    }
    scene.exit(500, app(), 1, mib(5));
    scene.refused_calls(500, app(), calls);
    scene
}

fn limit(scene: &mut Scene, name: &str, value: u64) {
    let jail = &mut scene.header.jail;
    match name {
        "nproc" => jail.rlimits.insert(name.into(), Some(value)).is_some(),
        _ => jail.limits.insert(name.into(), value.to_string()).is_some(),
    };
}

const REFUSED: &[(&str, i32)] = &[("openat", libc::ENOENT), ("clone", libc::EAGAIN)];

#[test]
fn the_counter_proves_the_jails_limit() {
    let mut scene = scene(7, REFUSED);
    limit(&mut scene, "pids.max", 8);
    limit(&mut scene, "nproc", 1000);
    assert_eq!(scene.expect("fork-eagain-pids-max").0, Confidence::Likely);
    let counted: &[(&str, u64)] = &[("pids.events:max", 3), ("pids.max", 8)];
    scene.counters(600, &[("/procjail/web", counted)]);
    let (confidence, verdict) = scene.expect("fork-eagain-pids-max");
    assert_eq!(confidence, Confidence::Proven);
    assert!(
        verdict.contains("limit of 8") && verdict.contains("8 of app"),
        "{verdict}"
    );
    for other in [
        "fork-eagain-nproc",
        "fork-eagain-system",
        "fork-enomem",
        "fork-bomb",
    ] {
        scene.expect_no(other);
    }
}

#[test]
fn a_limit_above_is_named() {
    let mut scene = scene(7, REFUSED);
    let own: &[(&str, u64)] = &[("pids.events:max", 0)];
    let above: &[(&str, u64)] = &[("pids.events:max", 1), ("pids.max", 40)];
    scene.counters(600, &[("/pod/procjail/web", own), ("/pod", above)]);
    let (_, verdict) = scene.expect("fork-eagain-pids-max");
    assert!(
        verdict.contains("/pod above the jail") && verdict.contains("40"),
        "{verdict}"
    );
    let advice = scene.verdict("fork-eagain-pids-max").remedy;
    assert!(
        advice.contains("pids.max of the cgroup /pod") && !advice.contains("--pids"),
        "{advice}"
    );
}

#[test]
fn the_counter_of_the_jail_may_tell_of_a_limit_above() {
    let with = |children: u32, above: &[(&str, u64)]| {
        let mut scene = scene(children, REFUSED);
        limit(&mut scene, "pids.max", 100);
        let own: &[(&str, u64)] = &[("pids.events:max", 1), ("pids.max", 100)];
        scene.counters(600, &[("/pod/procjail/web", own), ("/pod", above)]);
        scene.verdict("fork-eagain-pids-max")
    };
    // PID 1 and five more fill the one above, not the jail.
    let found = with(5, &[("pids.max", 6)]);
    let verdict = found.verdict();
    assert!(
        verdict.contains("/pod above the jail had reached its limit of 6"),
        "{verdict}"
    );
    assert!(
        verdict.contains("1 fork of the jail was refused"),
        "{verdict}"
    );
    assert_eq!(found.sure(), Confidence::Proven);
    // Neither was seen full.
    let found = with(3, &[("pids.max", 6)]);
    assert_eq!(found.sure(), Confidence::Likely);
    assert!(
        found.verdict().contains("made inside the jail"),
        "{}",
        found.verdict()
    );
    assert_eq!(with(3, &[]).sure(), Confidence::Likely);
}

#[test]
fn zombies_count_until_they_are_collected() {
    let mut scene = Scene::new(&["app"]);
    for pid in 2..7 {
        scene.fork(u64::from(pid) * 10, app(), inside(pid, "worker"));
        scene.exit(u64::from(pid) * 10 + 5, inside(pid, "worker"), 0, mib(1));
    }
    limit(&mut scene, "pids.max", 6);
    let (confidence, verdict) = scene.expect("fork-eagain-pids-max");
    assert_eq!(confidence, Confidence::ConsistentWith);
    assert!(verdict.contains("dead and not collected"), "{verdict}");
    for pid in 2..7 {
        scene.reap(u64::from(pid) * 10 + 6, app(), inside(pid, "worker"));
    }
    scene.expect_no("fork-eagain-pids-max");
}

#[test]
fn the_users_limit_is_told_where_the_jails_is_not_reached() {
    let mut scene = scene(3, REFUSED);
    limit(&mut scene, "nproc", 20);
    limit(&mut scene, "pids.max", 100);
    scene.plan().push(USER.to_owned());
    let counted: &[(&str, u64)] = &[("pids.events:max", 0)];
    scene.counters(600, &[("/procjail/web", counted)]);
    let found = scene.verdict("fork-eagain-nproc");
    assert_eq!(found.sure(), Confidence::Likely);
    assert!(
        found.verdict().contains("The user 4242 may have 20"),
        "{found:?}"
    );
    for other in ["fork-eagain-pids-max", "fork-eagain-system"] {
        scene.expect_no(other);
    }
}

/// A step of the plan.
const USER: &str = "become user 4242 and group 4242, without further groups";

#[test]
fn as_many_as_the_user_may_have_prove_it() {
    let mut scene = scene(3, REFUSED);
    limit(&mut scene, "nproc", 4);
    scene.plan().push(USER.to_owned());
    assert_eq!(
        scene.verdict("fork-eagain-nproc").sure(),
        Confidence::Proven
    );
}

#[test]
fn root_is_not_bound_by_the_limit_of_a_user() {
    let mut scene = scene(3, REFUSED);
    limit(&mut scene, "nproc", 96_365);
    scene.expect_no("fork-eagain-nproc");
    scene.expect("fork-eagain-system");
}

#[test]
fn a_refusal_that_the_program_lived_with_is_a_note() {
    let mut scene = Scene::new(&["bash"]);
    scene.exit(500, app(), 0, mib(5));
    scene.refused_calls(500, app(), REFUSED);
    assert_eq!(scene.verdict("fork-eagain-system").rank, Rank::Note);
    assert_eq!(
        scene.ids().first().map(String::as_str),
        Some("exited-by-itself")
    );
}

#[test]
fn a_namespace_without_its_first_process_takes_no_more() {
    let (shell, first) = (app(), inside(2, "true"));
    let mut scene = Scene::new(&["sh"]);
    let unshare = Mount {
        call: "unshare".into(),
        source: String::new(),
        target: String::new(),
        fs_type: String::new(),
        flags: libc::CLONE_NEWPID as u64,
        flag_names: vec!["CLONE_NEWPID".into()],
        args: vec![],
        result: Some(0),
        error: None,
        duration_ns: 1,
    };
    scene
        .at(1, &shell, What::Mount(unshare))
        .fork(2, &shell, &first)
        .exit_to(3, &first, &shell, 0)
        .reap(4, &shell, &first);
    scene.exit(500, &shell, 2, mib(5));
    scene.refused_calls(500, &shell, &[("vfork", libc::ENOMEM)]);
    let found = scene.verdict("fork-enomem");
    assert_eq!(found.sure(), Confidence::Proven);
    assert!(
        found.verdict().contains("Memory has nothing to do with it"),
        "{found:?}"
    );
}

#[test]
fn what_is_neither_is_the_machines() {
    let scene = scene(3, REFUSED);
    assert_eq!(
        scene.expect("fork-eagain-system").0,
        Confidence::ConsistentWith
    );
    scene.expect_no("fork-eagain-nproc");
    scene.expect_no("fork-eagain-pids-max");
}

#[test]
fn enomem_is_not_eagain() {
    let scene = scene(3, &[("clone3", libc::ENOMEM)]);
    assert_eq!(scene.expect("fork-enomem").0, Confidence::ConsistentWith);
    scene.expect_no("fork-eagain-system");
}

#[test]
fn a_fork_after_the_end_of_pid_1_fails_for_that() {
    let mut scene = Scene::new(&["app"]);
    let late = outside(900, "nsenter");
    scene.exit(100, app(), 0, mib(1));
    scene.exit(300, late.clone(), 1, mib(1));
    scene.refused_calls(300, late, &[("clone", libc::ENOMEM)]);
    let (confidence, verdict) = scene.expect("fork-enomem");
    assert_eq!(confidence, Confidence::Likely);
    assert!(verdict.contains("PID 1 of the jail had ended"), "{verdict}");
}

#[test]
fn a_pool_of_workers_is_no_bomb() {
    scene(60, &[]).expect_no("fork-bomb");
}

#[test]
fn a_shell_that_starts_commands_is_no_bomb() {
    let mut scene = Scene::new(&["app"]);
    for pid in 2..60 {
        scene.fork(u64::from(pid), app(), inside(pid, "app"));
        scene.exec(u64::from(pid), inside(pid, "sed"), &["sed"]);
        scene.exit(u64::from(pid) + 1, inside(pid, "sed"), 0, mib(1));
    }
    scene.expect_no("fork-bomb");
}

#[test]
fn subshells_are_no_bomb() {
    let mut scene = Scene::new(&["bash"]);
    for pid in 2..64 {
        scene.fork(
            u64::from(pid) * 5,
            inside(pid / 2, "app"),
            inside(pid, "app"),
        );
        scene.exit(u64::from(pid) * 5 + 20, inside(pid, "app"), 0, mib(1));
    }
    scene.expect_no("fork-bomb");
}

#[test]
fn each_makes_two_is_a_bomb() {
    let mut scene = Scene::new(&["app"]);
    for pid in 2..64 {
        scene.fork(u64::from(pid), inside(pid / 2, "app"), inside(pid, "app"));
    }
    let (confidence, verdict) = scene.expect("fork-bomb");
    assert_eq!(confidence, Confidence::Proven);
    assert!(verdict.contains("62 processes"), "{verdict}");
}
