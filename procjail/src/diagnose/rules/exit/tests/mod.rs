//! Exit codes that no scenario plays, and what only looks like them.

mod reasons;

use crate::diagnose::Confidence;
use crate::diagnose::fixture::{
    Scene, failed_call, fault, inside, launcher, outside, sent, thread,
};
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
fn a_reader_that_has_seen_enough_is_no_dead_worker() {
    assert!(has(&wrapper(11, 1, 0), "exit-zero-but-worker-died"));
    assert!(!has(
        &wrapper(libc::SIGPIPE, 1, 0),
        "exit-zero-but-worker-died"
    ));
    let mut stopped = wrapper(libc::SIGTERM, 1, 0);
    stopped.send(
        4,
        inside(1, "wrapper"),
        sent(libc::SIGTERM, &inside(2, "worker")),
    );
    assert!(!has(&stopped, "exit-zero-but-worker-died"));
    // What grep and test return is an answer.
    assert!(!has(&wrapper(0x100, 500, 0), "exit-zero-but-worker-died"));
    assert!(!has(&wrapper(0x100, 1, 0), "exit-zero-but-worker-died"));
    let mut said = wrapper(0x100, 1, 0);
    said.stderr(5, inside(2, "worker"), "worker: cannot open the queue\n");
    assert!(has(&said, "exit-zero-but-worker-died"));
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

#[test]
fn a_client_that_ends_its_server_is_no_daemon() {
    let (server, client) = (inside(1, "redis-server"), inside(2, "redis-cli"));
    let mut scene = Scene::new(&["/bin/sh"]);
    scene
        .fork(1, &server, &client)
        .exec(2, &server, &["redis-server"])
        .exec(500, &client, &["redis-cli", "shutdown"])
        .exit_with(1_000, &server, launcher(), 0, |exit| exit.session = 4131)
        .exit_with(1_001, &client, &server, 9, |exit| exit.session = 4132)
        .jail_exited(1_002, 0);
    let (confidence, story) = scene.expect("exited-by-itself");
    assert_eq!(confidence, Confidence::Proven);
    assert!(
        story
            .contains("redis-cli (PID 2) was still running, and was killed with the PID namespace"),
        "{story}"
    );
    assert!(!has(&scene, "exit-daemonized"));
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

#[test]
fn a_daemon_is_left_at_once_or_not_at_all() {
    let (pid1, daemon) = (inside(1, "nginx"), inside(2, "nginx"));
    let scene = |ms, session| {
        let mut scene = Scene::new(&["/bin/nginx"]);
        scene
            .fork(1, &pid1, &daemon)
            .exit_with(ms, &pid1, launcher(), 0, |exit| exit.session = 4131)
            .exit_with(ms + 1, &daemon, &pid1, 9, |exit| exit.session = session)
            .jail_exited(ms + 2, 0);
        scene
    };
    let found = scene(50, 4132).verdict("exit-daemonized");
    assert_eq!(found.sure(), Confidence::Proven);
    assert!(
        found.fact.contains("killed nginx (PID 2)"),
        "{}",
        found.fact
    );
    assert!(!has(&scene(60_000, 4132), "exit-daemonized"));
    assert!(!has(&scene(5_000, 4132), "exit-daemonized"));
    // It was killed before it came to setsid(2).
    scene(10, 4131).verdict("exit-daemonized");
    // One that another program left running, and gave up, is none.
    let (xargs, job) = (inside(3, "xargs"), inside(4, "job"));
    let mut left = Scene::new(&["/bin/sh"]);
    left.fork(1, &pid1, &xargs)
        .exec(2, &xargs, &["/usr/bin/xargs", "job"])
        .fork(3, &xargs, &job)
        .exit_to(20, &xargs, &pid1, 125 << 8)
        .reap(20, &pid1, &xargs)
        .exit_with(21, &pid1, launcher(), 0, |exit| exit.session = 4131)
        .exit_with(22, &job, &pid1, 9, |exit| exit.session = 4131)
        .jail_exited(23, 0);
    assert!(!has(&left, "exit-daemonized"));
    // One that is left in the session of PID 1 is none.
    let story = scene(50, 4131).verdict("exited-by-itself");
    assert!(
        story.fact.contains("nginx (PID 2) was still running"),
        "{}",
        story.fact
    );
}

#[test]
fn a_helper_that_its_own_parent_ended_is_no_dead_worker() {
    let (pid1, server, helper) = (inside(1, "app"), inside(2, "server"), inside(3, "helper"));
    let scene = |sender: &Task| {
        let mut scene = Scene::new(&["/bin/app"]);
        scene
            .fork(1, &pid1, &server)
            .fork(2, &server, &helper)
            .send(5, sender, sent(libc::SIGUSR1, &helper))
            .exit_to(5, &helper, &server, libc::SIGUSR1)
            .reap(6, &server, &helper)
            .exit_to(7, &server, &pid1, 0)
            .reap(7, &pid1, &server)
            .end(8, &pid1, 0);
        scene
    };
    assert!(!has(&scene(&server), "exit-zero-but-worker-died"));
}

#[test]
fn who_ends_its_child_when_asked_to_stop_does_what_it_was_asked() {
    let (pid1, job) = (inside(1, "ninja"), inside(2, "job"));
    let scene = |stopped: bool| {
        let mut scene = Scene::new(&["/bin/ninja"]);
        scene.fork(1, &pid1, &job);
        if stopped {
            let mut term = sent(libc::SIGTERM, &pid1);
            term.disposition = Disposition::Handler;
            scene.send(4, outside(70, "kill"), term).deliver(
                4,
                &pid1,
                libc::SIGTERM,
                Disposition::Handler,
            );
        }
        scene
            .send(5, &pid1, sent(libc::SIGTERM, &job))
            .exit_to(6, &job, &pid1, libc::SIGTERM)
            .reap(6, &pid1, &job)
            .end(7, &pid1, 2 << 8);
        scene
    };
    assert_eq!(
        scene(false).ids().first().map(String::as_str),
        Some("exit-status-laundered")
    );
    assert_eq!(
        scene(true).ids().first().map(String::as_str),
        Some("ended-on-request")
    );
}

/// A child that somebody else collects, and PID 1's wait for it, which fails.
fn stolen(args: &[u64]) -> Scene {
    let (pid1, child) = (inside(1, "app"), inside(2, "worker"));
    let mut scene = Scene::new(&["/bin/app"]);
    let failed = failed_call("wait4", libc::ECHILD, None, args);
    scene
        .fork(1, &pid1, &child)
        .exit_to(5, &child, &pid1, 0x700)
        .notice(5, &child, &pid1)
        .reap(5, thread(&pid1, 1), &child)
        .end(9, &pid1, 0x100)
        .failed_calls(9, &pid1, vec![failed]);
    scene
}

#[test]
fn a_status_is_stolen_from_who_asked_for_it() {
    let scene = stolen(&[2]);
    let found = scene.verdict("status-stolen");
    assert_eq!(found.confidence, Confidence::Proven);
    assert!(!has(&scene, "sigchld-ignored-autoreap") && !has(&scene, "exit-own-code"));
    // Of a child that did its work nothing is missed: its handler of SIGCHLD may keep the status.
    let mut kept = Scene::new(&["/bin/app"]);
    let (pid1, child) = (inside(1, "app"), inside(2, "worker"));
    kept.fork(1, &pid1, &child)
        .exit_to(5, &child, &pid1, 0)
        .reap(5, &pid1, &child)
        .end(9, &pid1, 23 << 8)
        .failed_calls(
            9,
            &pid1,
            vec![failed_call("wait4", libc::ECHILD, None, &[2])],
        );
    assert!(!has(&kept, "status-stolen"));
    // A loop that collects all children ends with ECHILD.
    let any = u64::from(u32::MAX);
    assert!(!has(&stolen(&[any]), "status-stolen"));
}

#[test]
fn children_are_discarded_where_nobody_collects_them_and_nothing_is_said() {
    let (pid1, child) = (inside(1, "app"), inside(2, "worker"));
    let mut scene = Scene::new(&["/bin/app"]);
    let failed = failed_call("wait4", libc::ECHILD, None, &[2]);
    scene
        .fork(1, &pid1, &child)
        .exit_to(5, &child, &pid1, 0x700)
        .free(8, &child)
        .end(200, &pid1, 0x100)
        .failed_calls(200, &pid1, vec![failed]);
    let found = scene.verdict("sigchld-ignored-autoreap");
    assert_eq!(found.confidence, Confidence::Proven);
    assert!(!has(&scene, "status-stolen") && !has(&scene, "exit-own-code"));
    // The kernel tells of the release late, but the wait found nobody.
    let mut late = Scene::new(&["/bin/app"]);
    let failed = failed_call("wait4", libc::ECHILD, None, &[2]);
    late.fork(1, &pid1, &child)
        .exit_to(5, &child, &pid1, 0x700)
        .end(200, &pid1, 0x100)
        .failed_calls(200, &pid1, vec![failed])
        .free(2_000, &child);
    assert!(has(&late, "sigchld-ignored-autoreap"));
    // A zombie that goes with the namespace.
    let mut zombie = Scene::new(&["/bin/app"]);
    zombie
        .fork(1, &pid1, &child)
        .exit_to(5, &child, &pid1, 0x700)
        .end(200, &pid1, 0x100)
        .free(201, &child);
    assert!(!has(&zombie, "sigchld-ignored-autoreap"));
}

#[test]
fn a_helper_that_is_left_is_no_daemon() {
    let (browser, helper, tab) = (
        inside(1, "chromium"),
        inside(2, "crashpad"),
        inside(3, "tab"),
    );
    let mut scene = Scene::new(&["/bin/chromium"]);
    scene
        .fork(50, &browser, &helper)
        .fork(60, &browser, &tab)
        .exit_to(1_500, &tab, &browser, 0)
        .reap(1_501, &browser, &tab)
        .end(1_900, &browser, 0)
        .exit_with(1_901, &helper, &browser, 9, |exit| exit.session = 7);
    assert!(!has(&scene, "exit-daemonized"));
}

#[test]
fn a_supervisor_that_was_asked_to_end_is_no_daemon() {
    let (pid1, service) = (inside(1, "runsvdir"), inside(2, "runsv"));
    let mut scene = Scene::new(&["/bin/runsvdir"]);
    scene
        .fork(1, &pid1, &service)
        .send(40, launcher(), sent(libc::SIGTERM, &pid1))
        .end(50, &pid1, 0)
        .exit_to(51, &service, &pid1, 9);
    assert!(!has(&scene, "exit-daemonized"));
}
