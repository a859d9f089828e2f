//! The launcher's own death: whatever happens to it, the jail goes with it.

use std::time::Duration;

use procjail_tests::{
    Random, Scene, collect_orphans, descendants, misbehave, rounds, scene, wait_until,
};

/// What runs in no time and must be gone.
const AFTERLIFE: Duration = Duration::from_secs(5);

/// Kills the launcher of a running jail and waits for everything to go.
fn kill_and_look(scene: &Scene, options: &[&str], subcommand: &str) {
    let running = scene.run(options, &[&misbehave(), subcommand]).spawn();
    running.wait_for_line("ready");
    running.signal(libc::SIGKILL);
    let finished = running.finish();
    assert_eq!(finished.signal, Some(libc::SIGKILL));
    nothing_runs("the launcher was killed");
}

/// No process of the test is alive.
fn nothing_runs(what: &str) {
    wait_until(&format!("end of the jail after {what}"), AFTERLIFE, || {
        // A PID namespace ends when its last zombie is collected, which is the host's init's part.
        collect_orphans();
        descendants().is_empty().then_some(())
    });
}

fn clean(scene: &Scene) {
    scene.procjail(&["clean"]).finish().expect_code(0);
}

#[test]
fn the_jail_dies_with_its_launcher() {
    scene(|scene| {
        kill_and_look(scene, &[], "ignore-term");
        kill_and_look(scene, &["--init"], "ignore-term");
        clean(scene);
    });
}

#[test]
fn even_an_app_without_a_parent_death_signal() {
    scene(|scene| {
        kill_and_look(scene, &[], "clear-pdeathsig");
        kill_and_look(scene, &["--init"], "clear-pdeathsig");
        clean(scene);
    });
}

#[test]
fn the_next_start_of_the_name_removes_what_is_left() {
    scene(|scene| {
        kill_and_look(scene, &["--name", "again"], "ignore-term");
        scene
            .run(&["--name", "again"], &["/bin/true"])
            .finish()
            .expect_code(0);
        let left: Vec<_> = procjail_tests::cgroup_directories()
            .into_iter()
            .filter(|path| path.ends_with("again"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    });
}

#[test]
fn clean_leaves_a_living_jail_alone() {
    scene(|scene| {
        let running = scene
            .run(&["--name", "living"], &[&misbehave(), "handle-term", "3"])
            .spawn();
        running.wait_for_line("ready");
        let other = tempfile::tempdir().expect("a directory");
        procjail_tests::Invocation::new(procjail_tests::procjail(), other.path())
            .args(&["clean"])
            .finish()
            .expect_code(0);
        running.signal(libc::SIGTERM);
        running.finish().expect_code(3);
    });
}

/// The issue of a bare parent-death signal is a race, so the launcher is killed at 200 instants spread
/// over its whole life, from before the clone to after the app's exit.
fn killed_at_random(scene: &Scene, command: &str, rounds: u32) {
    let mut random = Random::new();
    let app = misbehave();
    // The app ends by itself after some milliseconds, so that late instants fall into the teardown.
    let number = libc::SIGUSR1.to_string();
    let app = [app.as_str(), "count-signals", &number, "5"];
    let build = || {
        scene
            .procjail(&[command])
            .args(if command == "trace" {
                &["--quiet"]
            } else {
                &[]
            })
            .args(&["--memory", "256M", "--"])
            .args(&app)
    };
    // The first start fills caches and takes longer.
    build().finish().expect_code(0);
    let life = build().finish().expect_code(0).elapsed;
    let mut killed = 0;
    for round in 0..rounds {
        let delay = Duration::from_nanos(random.below(life.as_nanos() as u64 * 11 / 10));
        let running = build().spawn();
        std::thread::sleep(delay);
        if !running.has_ended() {
            killed += 1;
        }
        running.signal(libc::SIGKILL);
        running.finish();
        nothing_runs(&format!(
            "SIGKILL of `{command}` after {delay:?}, round {round}"
        ));
    }
    assert!(
        killed > rounds / 4,
        "only {killed} of {rounds} hit a living launcher"
    );
    clean(scene);
}

#[test]
fn two_hundred_sigkills_of_run_leave_no_survivor() {
    scene(|scene| killed_at_random(scene, "run", rounds(200)));
}

#[test]
fn sigkills_of_trace_leave_no_survivor() {
    scene(|scene| killed_at_random(scene, "trace", rounds(100)));
}

#[test]
fn a_killed_trace_leaves_a_readable_file() {
    scene(|scene| {
        let running = scene.trace(&[], &[&misbehave(), "ignore-term"]).spawn();
        running.wait_for_line("ready");
        std::thread::sleep(Duration::from_millis(150));
        running.signal(libc::SIGKILL);
        running.finish();
        nothing_runs("the tracer was killed");
        let file = scene.path("trace.jsonl").display().to_string();
        let written = std::fs::read_to_string(&file).expect("the trace");
        assert!(
            written.contains("\"kind\":\"exec\""),
            "what came before is in it: {written}"
        );
        let explained = scene.procjail(&["explain", &file]).finish().expect_code(0);
        let told = &explained.stdout;
        assert!(
            told.contains("trace-cut-off  (") && !told.contains("no-finding"),
            "{told}"
        );
        let shown = scene.procjail(&["show", &file]).finish().expect_code(0);
        assert!(shown.stdout.contains("misbehave"), "{}", shown.stdout);
        let text = format!("{}{}", shown.stdout, shown.stderr);
        assert!(
            text.contains("footer") || text.contains("incomplete") || text.contains("cut"),
            "{text}"
        );
        clean(scene);
    });
}
