//! Reasons for a code: messages on stderr, and calls that failed.

use super::{has, wrapper};
use crate::diagnose::Confidence;
use crate::diagnose::fixture::{Scene, failed_call, inside, launcher, sent};
use crate::event::*;

/// PID 1 returned a code after these calls, and wrote that to stderr.
fn failing(calls: Vec<FailedCall>, stderr: &str) -> Scene {
    let app = inside(1, "app");
    let mut scene = Scene::new(&["/bin/app"]);
    scene.end(11, &app, 4 << 8).failed_calls(11, &app, calls);
    if !stderr.is_empty() {
        scene.stderr(11, &app, stderr);
    }
    scene
}

fn connect(error: i32, address: &str) -> FailedCall {
    FailedCall {
        address: Some(address.into()),
        ..failed_call("connect", error, None, &[3])
    }
}

#[test]
fn what_every_program_looks_for_is_no_reason() {
    let lookups = vec![
        failed_call("access", libc::ENOENT, Some("/etc/ld.so.preload"), &[]),
        failed_call("newfstatat", libc::ENOENT, Some("/usr/sbin/sh"), &[]),
        failed_call("openat", libc::ENOENT, Some("/root/.bash_history"), &[]),
        failed_call("fcntl", libc::EBADF, None, &[]),
        failed_call("ioctl", libc::ENOTTY, None, &[]),
        connect(libc::ENOENT, "unix:/var/run/nscd/socket"),
    ];
    let scene = failing(lookups, "");
    assert!(!has(&scene, "exit-own-code"));
    let (confidence, story) = scene.expect("exited-by-itself");
    assert_eq!(confidence, Confidence::Proven);
    assert_eq!(story, "app (PID 1) exited with 4 after 11 ms.");
}

#[test]
fn the_file_that_it_was_called_with_is_not_optional() {
    let app = inside(1, "app");
    let scene = |argument: &str| {
        let missing = failed_call("openat", libc::ENOENT, Some("/etc/app.conf"), &[]);
        let mut scene = Scene::new(&["/bin/app", argument]);
        scene
            .end(11, &app, 1 << 8)
            .failed_calls(11, &app, vec![missing]);
        scene
    };
    for argument in ["/etc/app.conf", "--config=/etc/app.conf"] {
        let found = scene(argument).verdict("exit-own-code");
        assert!(
            found.verdict().contains("openat /etc/app.conf"),
            "{found:?}"
        );
        assert!(found.sure() < Confidence::Proven);
    }
    assert!(!has(&scene("/etc/other.conf"), "exit-own-code"));
}

#[test]
fn the_place_that_was_tried_is_named_by_its_directory() {
    // The line of source above the error has the name of another.
    let stderr = "  File \"/usr/lib/python3.11/tempfile.py\", line 223, in _get_default_tempdir\n    \
                  raise FileNotFoundError(_errno.ENOENT,\n\
                  FileNotFoundError: [Errno 2] No usable temporary directory found in ['/tmp', '/var/tmp', \
                  '/usr/tmp', '/srv']\n";
    let flags = (libc::O_RDWR | libc::O_CREAT | libc::O_EXCL) as u64;
    let open = |error, path| failed_call("openat", error, Some(path), &[0, 0, flags, 0o600]);
    for error in [libc::EROFS, libc::EACCES, libc::EPERM] {
        let name = Errno::new(error).name;
        let scene = |elsewhere| {
            let calls = vec![
                open(error, elsewhere),
                open(libc::ENOENT, "/usr/tmp/hdl7sstl"),
            ];
            failing(calls, stderr).verdict("exit-own-code")
        };
        let found = scene("/var/tmp/q1x5l0ab");
        assert!(
            found
                .verdict()
                .contains(&format!("openat /var/tmp/q1x5l0ab failed with {name}")),
            "{found:?}"
        );
        assert_eq!(found.sure(), Confidence::Likely);
        // A place of which only a part is named was not meant.
        let other = scene("/var/q1x5l0ab").verdict();
        assert!(!other.contains(&name), "{other}");
    }
}

#[test]
fn the_message_decides_which_failed_call_it_was() {
    let calls = || {
        vec![
            failed_call("openat", libc::ENOENT, Some("/etc/app.conf"), &[]),
            connect(libc::ECONNREFUSED, "127.0.0.1:5432"),
        ]
    };
    let cause = |stderr: &str| {
        let found = failing(calls(), stderr).verdict("exit-own-code");
        assert_eq!(found.confidence, Confidence::Proven);
        let sure = found.cause.as_ref().map(|cause| cause.confidence);
        assert!(sure < Some(Confidence::Proven), "{found:?}");
        found.cause.map_or(String::new(), |cause| cause.text)
    };
    assert!(cause("port 5432 failed: Connection refused\n").contains("connect to 127.0.0.1:5432"));
    assert!(
        cause("app: /etc/app.conf: No such file or directory\n").contains("openat /etc/app.conf")
    );
    // It speaks of something else that failed.
    assert_eq!(cause("app: /x: Permission denied\n"), "");
    // It speaks of nothing that the kernel said.
    assert!(cause("ready\n").contains("connect to"));
    let silent = failing(calls(), "").verdict("exit-own-code");
    assert!(
        silent
            .verdict()
            .contains("nothing accepts connections there"),
        "{silent:?}"
    );
}

#[test]
fn an_error_that_only_the_message_has_is_a_reason_too() {
    let found = failing(
        vec![],
        "Error: connect ECONNREFUSED 127.0.0.1:9\n    at f {\n}\n",
    )
    .verdict("exit-own-code");
    assert!(
        found
            .fact
            .contains("among the last it wrote to stderr: `Error: connect"),
        "{found:?}"
    );
    assert!(
        found
            .verdict()
            .contains("The message speaks of ECONNREFUSED"),
        "{found:?}"
    );
}

#[test]
fn a_message_that_the_program_lived_with_is_no_reason() {
    let (shell, child) = (inside(1, "bash"), inside(2, "ls"));
    let mut scene = Scene::new(&["/bin/bash"]);
    scene
        .stderr(900, &shell, "bash: no job control in this shell\n")
        .fork(901, &shell, &child)
        .end(950, &shell, 7 << 8);
    assert!(!has(&scene, "exit-own-code"));
    scene.expect("exited-by-itself");
}

#[test]
fn an_error_long_before_or_before_other_work_is_no_reason() {
    let mut early = connect(libc::ECONNREFUSED, "127.0.0.1:5432");
    early.before_ns = 10_000_000_000;
    let mut scene = Scene::new(&["/bin/app"]);
    scene
        .end(20_000, inside(1, "app"), 4 << 8)
        .failed_calls(20_000, inside(1, "app"), vec![early]);
    assert!(!has(&scene, "exit-own-code"));
    let mut went_on = failing(vec![connect(libc::ECONNREFUSED, "127.0.0.1:5432")], "");
    went_on.fork(11, inside(1, "app"), inside(2, "app"));
    assert!(!has(&went_on, "exit-own-code"));
}

#[test]
fn what_failed_before_the_program_was_executed_is_not_its_own() {
    let mut scene = failing(
        vec![failed_call("connect", libc::ECONNREFUSED, None, &[])],
        "",
    );
    scene.exec(11, inside(1, "app"), &["/bin/late"]);
    assert!(!has(&scene, "exit-own-code"));
}

#[test]
fn what_a_program_says_when_it_was_asked_to_end_is_no_reason() {
    let mut scene = failing(vec![], "Exiting normally, received signal 15: error 0.\n");
    let mut signal = sent(libc::SIGTERM, &inside(1, "app"));
    signal.result = SignalResult::Ignored;
    scene.send(5, launcher(), signal.clone());
    assert!(
        has(&scene, "exit-own-code"),
        "what is ignored asks for nothing"
    );
    signal.result = SignalResult::Delivered;
    scene.send(6, launcher(), signal);
    assert!(!has(&scene, "exit-own-code"));
}

#[test]
fn a_child_that_was_never_collected_may_be_the_reason_too() {
    let (git, index) = (inside(1, "git"), inside(2, "index-pack"));
    let mut scene = Scene::new(&["/bin/git"]);
    let full = failed_call("write", libc::ENOSPC, Some("pack/tmp"), &[3]);
    scene
        .fork(1, &git, &index)
        .exit_to(50, &index, &git, 128 << 8)
        .failed_calls(50, &index, vec![full])
        .end(51, &git, 128 << 8)
        .stderr(51, &git, "fatal: invalid index-pack output\n");
    let found = scene.verdict("enospc");
    assert_eq!(found.pids.len(), 2);
    assert_eq!(scene.ids(), ["enospc"]);
}

/// A manager of two, one of which fails; so many milliseconds later it ends the other, or nothing.
fn manager(ends_other: bool) -> Scene {
    let (manager, bad, good) = (
        inside(1, "honcho"),
        inside(2, "python3"),
        inside(3, "sleep"),
    );
    let mut scene = Scene::new(&["/bin/honcho"]);
    scene
        .fork(1, &manager, &bad)
        .fork(2, &manager, &good)
        .exit_to(500, &bad, &manager, 0x300)
        .stderr(500, &bad, "ModuleNotFoundError: No module named 'x'\n")
        .fork(1_700, &manager, inside(4, "ps"))
        .exec_failed(1_701, inside(4, "ps"), "/bin/ps", libc::ENOENT, None)
        .exec(1_702, inside(4, "ps"), &["/usr/bin/ps"])
        .exit_to(1_790, inside(4, "ps"), &manager, 0x100)
        .reap(1_791, &manager, inside(4, "ps"))
        .end(1_800, &manager, 0x100);
    if ends_other {
        scene.send(1_720, &manager, sent(libc::SIGTERM, &good));
    }
    scene
}

#[test]
fn a_manager_that_ends_the_others_does_so_for_the_first_that_failed() {
    let found = manager(true).verdict("exit-own-code");
    assert_eq!(found.fact, "honcho (PID 1) exited with 1.");
    let cause = found.cause.expect("a cause");
    assert!(
        cause.text.contains("python3 (PID 2) had exited with 3"),
        "{}",
        cause.text
    );
    assert!(!has(&manager(false), "exit-own-code"));
}

/// The wrapper says that after its worker, a linker, had failed.
fn wrapper_that_says(text: &str, after_ms: u64) -> crate::diagnose::Diagnosis {
    let mut scene = wrapper(0x100, after_ms, 0x100);
    scene
        .exec(2, inside(2, "gold"), &["/usr/bin/gold", "-lfoo"])
        .stderr(5, inside(2, "gold"), "gold: cannot find -lfoo\n")
        .stderr(5 + after_ms, inside(1, "wrapper"), text);
    scene.verdict("exit-own-code")
}

#[test]
fn what_a_program_says_itself_after_a_childs_end_is_its_story() {
    let error = "ImportError: no library foo";
    for (after_ms, cause) in [(1, Some(Confidence::ConsistentWith)), (500, None)] {
        let found = wrapper_that_says(error, after_ms);
        assert_eq!(
            found.fact,
            "wrapper (PID 1) exited with 1; the last it wrote to stderr: `ImportError: no library foo`."
        );
        assert_eq!(found.confidence, Confidence::Proven);
        assert_eq!(found.cause.map(|cause| cause.confidence), cause);
    }
    // It says that the child is the reason.
    for text in ["make: *** [all] Error 1", "Command 'gold -lfoo' failed"] {
        let found = wrapper_that_says(text, 500);
        let cause = found.cause.expect("a cause");
        assert_eq!(cause.confidence, Confidence::Likely);
        assert!(cause.text.contains("cannot find -lfoo"), "{}", cause.text);
    }
    // A word that tells of no failure changes nothing.
    let found = wrapper_that_says("bye", 1);
    assert_eq!(found.sure(), Confidence::Likely);
}

#[test]
fn a_program_that_fails_by_itself_after_a_childs_crash_is_taken_at_its_word() {
    let mut scene = wrapper(libc::SIGKILL, 5, 0x100);
    scene.stderr(10, inside(1, "wrapper"), "ImportError: no library foo");
    let found = scene.verdict("exit-status-laundered");
    assert_eq!(found.sure(), Confidence::ConsistentWith);
    assert!(found.verdict().contains("no library foo"), "{found:?}");
}
