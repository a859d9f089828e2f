//! Exit codes that no scenario plays, and what only looks like them.

mod children;
mod reasons;

use crate::diagnose::Confidence;
use crate::diagnose::fixture::{Scene, failed_call, fault, inside, launcher, sent};
use crate::event::*;

fn has(scene: &Scene, id: &str) -> bool {
    scene.ids().iter().any(|found| found == id)
}

/// PID 1 collects a worker that ended so, and ends so itself so many milliseconds later.
fn wrapper(worker_status: i32, after_ms: u64, status: i32) -> Scene {
    let (pid1, worker) = (inside(1, "wrapper"), inside(2, "worker"));
    let mut scene = Scene::new(&["/bin/wrapper"]);
    scene
        .fork(1, &pid1, &worker)
        .exit_to(5, &worker, &pid1, worker_status)
        .reap(5, &pid1, &worker)
        .end(5 + after_ms, &pid1, status);
    scene
}

#[test]
fn a_code_is_the_childs_where_it_was_passed_on() {
    let mut scene = wrapper(0x300, 1, 0x300);
    let (confidence, story) = scene.expect("exited-by-itself");
    assert_eq!(confidence, Confidence::Proven);
    assert!(
        story.contains("Its child worker (PID 2) had exited with 3"),
        "{story}"
    );
    assert!(!has(&scene, "exit-own-code") && !has(&scene, "exit-status-laundered"));
    scene.stderr(5, inside(2, "worker"), "worker: no such table\n");
    let found = scene.verdict("exit-own-code");
    assert_eq!(found.fact, "wrapper (PID 1) exited with 3.");
    assert_eq!(found.confidence, Confidence::Proven);
    assert_eq!(found.sure(), Confidence::Likely);
    assert_eq!(found.pids.len(), 2);
    let cause = found.cause.expect("a cause");
    assert_eq!(
        cause.text,
        "Its child worker (PID 2) had exited with 3 1.0 ms before; the last it wrote to stderr: `worker: no such \
         table`."
    );
    assert!(
        cause
            .alternatives
            .contains(&"a reason of its own".to_owned())
    );
}

#[test]
fn a_code_that_follows_much_later_is_no_childs() {
    assert!(has(&wrapper(9, 5, 0x100), "exit-status-laundered"));
    let late = wrapper(9, 5_000, 0x100);
    assert!(!has(&late, "exit-status-laundered"));
    assert!(has(&late, "exited-by-itself"));
}

#[test]
fn what_a_child_s_end_led_to_is_never_proven() {
    let found = wrapper(9, 5, 0x100).verdict("exit-status-laundered");
    assert_eq!(found.confidence, Confidence::Proven);
    assert_eq!(found.sure(), Confidence::Likely);
    let cause = found.cause.expect("a cause");
    assert_eq!(cause.alternatives, ["a reason of its own"]);
}

/// A shell runs commands one after the other, each with that status, and returns a code.
fn script(statuses: &[i32], code: i32) -> Scene {
    let shell = inside(1, "sh");
    let mut scene = Scene::new(&["/bin/sh"]);
    for (number, status) in (2..).zip(statuses) {
        let (child, ms) = (inside(number, "cmd"), u64::from(number) * 10);
        scene
            .fork(ms, &shell, &child)
            .exit_to(ms + 5, &child, &shell, *status)
            .reap(ms + 5, &shell, &child);
    }
    scene.end(statuses.len() as u64 * 10 + 26, &shell, code << 8);
    scene
}

#[test]
fn an_equal_code_of_an_earlier_child_means_nothing() {
    let mut scene = script(&[0x100, 0x100, 0x200], 1);
    for (pid, text) in [
        (2, "first: failed"),
        (3, "second: failed"),
        (4, "third: failed"),
    ] {
        scene.stderr(u64::from(pid) * 10 + 5, inside(pid, "cmd"), text);
    }
    let found = scene.verdict("exit-own-code");
    assert!(
        found.verdict().contains("`third: failed`"),
        "{}",
        found.verdict()
    );
    assert!(found.fact.contains("exited with 1"), "{}", found.fact);
    assert_eq!(
        scene.verdict("exit-status-laundered").sure(),
        Confidence::ConsistentWith
    );
}

#[test]
fn a_command_may_be_cleaned_up_after() {
    let mut scene = script(&[libc::SIGSEGV, 0], 1);
    let cmd = inside(2, "cmd");
    scene.send(24, &cmd, fault(libc::SIGSEGV, 1, &cmd, None));
    let found = scene.verdict("exit-status-laundered");
    assert!(
        found
            .fact
            .contains("its child cmd (PID 2), which was killed by SIGSEGV"),
        "{}",
        found.fact
    );
    assert!(
        found.verdict().contains("another command"),
        "{}",
        found.verdict()
    );
    // It follows from the crash, which comes first.
    assert_eq!(scene.ids(), ["segv-fault", "exit-status-laundered"]);
    assert!(!has(&script(&[0x100, 0], 3), "exit-status-laundered"));
}

#[test]
fn a_timer_that_expired_is_named() {
    let (pid1, worker) = (inside(1, "wrapper"), inside(2, "worker"));
    let told = |code: i32| {
        let mut scene = wrapper(libc::SIGTERM, 1, 124 << 8);
        let mut alarm = sent(libc::SIGALRM, &pid1).code;
        alarm.number = code;
        let taken = SignalDelivered {
            signal: Signal::new(libc::SIGALRM),
            code: alarm,
            disposition: Disposition::Handler,
            fatal: None,
            latency_ns: None,
            generated_seq: None,
        };
        scene.at(4, &pid1, What::SignalDelivered(taken)).send(
            4,
            &pid1,
            sent(libc::SIGTERM, &worker),
        );
        scene.verdict("exit-status-laundered").fact
    };
    let timer = told(libc::SI_KERNEL);
    assert!(
        timer.starts_with("A timer of wrapper (PID 1) expired"),
        "{timer}"
    );
    // Anybody may send SIGALRM.
    let kill = told(libc::SI_USER);
    assert!(
        kill.starts_with("wrapper (PID 1) killed its child"),
        "{kill}"
    );
}

#[test]
fn a_wrapper_that_killed_its_child_is_said_to() {
    let (pid1, worker) = (inside(1, "wrapper"), inside(2, "worker"));
    let mut scene = wrapper(libc::SIGTERM, 1, 124 << 8);
    scene.send(4, &pid1, sent(libc::SIGTERM, &worker));
    let found = scene.verdict("exit-status-laundered");
    assert!(
        found.verdict().contains("killed its child"),
        "{}",
        found.verdict()
    );
}

#[test]
fn codes_above_128_have_three_origins() {
    let shell = wrapper(9, 1, 137 << 8).verdict("exit-128n-by-program");
    assert!(
        shell
            .verdict()
            .contains("its child worker (PID 2) was killed by SIGKILL")
    );

    let pid1 = inside(1, "java");
    let mut handled = Scene::new(&["/bin/java"]);
    handled
        .deliver(5, &pid1, libc::SIGTERM, Disposition::Handler)
        .end(9, &pid1, 143 << 8);
    let handled = handled.verdict("exit-128n-by-program");
    assert!(handled.verdict().contains("after its handler took SIGTERM"));

    let mut alone = Scene::new(&["/bin/app"]);
    alone.end(9, inside(1, "app"), 137 << 8);
    let alone = alone.verdict("exit-128n-by-program");
    assert!(alone.verdict().contains("as an exit code"));

    // A signal is a signal.
    let mut killed = Scene::new(&["/bin/app"]);
    killed.end(9, inside(1, "app"), 9);
    assert!(!has(&killed, "exit-128n-by-program"));
}

#[test]
fn a_code_of_minus_one_is_255() {
    let pid1 = inside(1, "app");
    let mut scene = Scene::new(&["/bin/app"]);
    scene.exit_with(5, &pid1, launcher(), 0xff00, |exit| {
        exit.argument = Some(-1);
    });
    let found = scene.verdict("exit-wrapped");
    assert!(found.verdict().contains("exit(-1)") && found.verdict().contains("is 255"));
    assert!(!has(&scene, "exit-own-code"));
    assert_eq!(scene.ids(), ["exit-wrapped"]);
    // Where the reason is known, how its code was cut is a note.
    scene.stderr(5, &pid1, "can't bind to port 80: Permission denied\n");
    assert_eq!(scene.ids(), ["exit-own-code", "exit-wrapped"]);
}

#[test]
fn a_failure_that_is_told_as_a_success_comes_first() {
    let pid1 = inside(1, "app");
    let mut scene = Scene::new(&["/bin/app"]);
    scene
        .exit_with(5, &pid1, launcher(), 0, |exit| exit.argument = Some(256))
        .stderr(5, &pid1, "256 errors\n");
    assert_eq!(scene.ids(), ["exit-wrapped"]);
}

#[test]
fn an_init_of_procjails_own_changes_only_the_names() {
    let (init, app) = (inside(1, "procjail-init"), inside(2, "app"));
    let mut scene = Scene::bare();
    scene.plan().push(crate::jail::INIT.to_owned());
    scene
        .fork(0, &init, &app)
        .exec(1, &app, &["/bin/app"])
        .exit_to(11, &app, &init, 4 << 8)
        .reap(11, &init, &app)
        .end(12, &init, 4 << 8);
    let story = scene.verdict("exited-by-itself");
    assert!(
        story.fact.starts_with("app (PID 2) exited with 4 after"),
        "{}",
        story.fact
    );
    scene.stderr(11, &app, "app: no such table\n");
    let found = scene.verdict("exit-own-code");
    assert_eq!(
        found.fact,
        "app (PID 2) exited with 4; the last it wrote to stderr: `app: no such table`."
    );
}

/// A program of a shell that returned 127, what it looked for in vain last, and what it wrote to stderr.
fn returned_127(path: &str, stderr: &str) -> Scene {
    let (pid1, app) = (inside(1, "sh"), inside(2, "app"));
    let mut scene = Scene::new(&["/bin/sh"]);
    let failed = failed_call("openat", libc::ENOENT, Some(path), &[]);
    scene
        .fork(1, &pid1, &app)
        .exec(2, &app, &["/opt/app"])
        .exit_to(4, &app, &pid1, 127 << 8)
        .failed_calls(4, &app, vec![failed])
        .reap(5, &pid1, &app)
        .end(6, &pid1, 127 << 8);
    if !stderr.is_empty() {
        scene.stderr(4, &app, stderr);
    }
    scene
}

#[test]
fn a_missing_library_needs_the_loaders_own_words() {
    let library = "/usr/lib/libssl.so.3";
    let glibc =
        "app: error while loading shared libraries: libssl.so.3: cannot open shared object file\n";
    let musl = "Error loading shared library libssl.so.3: No such file or directory (needed by /opt/app)\n";
    for words in [glibc, musl] {
        let found = returned_127(library, words).verdict("exit-127-loader");
        assert_eq!(found.sure(), Confidence::Proven, "{found:?}");
        assert!(found.verdict().contains("libssl.so.3"));
    }
    let other = returned_127("/etc/app.conf", glibc).verdict("exit-127-loader");
    assert_eq!(other.sure(), Confidence::Likely);
    let silent = returned_127(library, "").verdict("exit-127-loader");
    assert_eq!(silent.sure(), Confidence::ConsistentWith);
    assert!(!has(&returned_127(library, "bye\n"), "exit-127-loader"));
    for own in ["/etc/ld.so.preload", "/etc/ld.so.cache", "/etc/app.conf"] {
        assert!(!has(&returned_127(own, ""), "exit-127-loader"), "{own}");
    }
}

#[test]
fn a_shell_that_looked_by_stat_says_what_it_did_not_find() {
    for line in [
        "sh: 1: nosuchtool: not found\n",
        "bash: line 1: nosuchtool: command not found\n",
        "zsh: command not found: nosuchtool\n",
    ] {
        let scene = returned_127("/etc/ld.so.preload", line);
        let found = scene.verdict("exit-127-not-found");
        assert_eq!(found.sure(), Confidence::Likely);
        assert!(
            found.verdict().contains("the command nosuchtool."),
            "{found:?}"
        );
        assert!(!has(&scene, "exit-127-loader") && !has(&scene, "exit-own-code"));
    }
}
