//! What tells why a process ended: its failed calls, its last words, its limits, its tracer.

use procjail::event::{FailedCall, Signal, SignalSets};
use procjail_tests::{Trace, misbehave, scene};

#[test]
fn the_last_failed_calls_of_a_process_that_ends_badly_are_told() {
    scene(|scene| {
        let missing = "/etc/nonexistent/app.conf";
        let calls = |code: i32, count: &str| {
            let app = [
                &misbehave(),
                "fail-calls",
                &code.to_string(),
                missing,
                count,
            ];
            let trace = scene.trace(&[], &app).finish().expect_code(code).trace();
            trace.expect_complete();
            let told = trace.failed_calls();
            assert!(told.len() <= 1, "{told:?}");
            told.first().map(|(event, failed)| {
                assert_eq!(event.task.jail_pid, Some(1));
                let (exit, _) = trace.exit_of(1);
                assert!(event.seq > exit.seq);
                failed.calls.clone()
            })
        };
        assert_eq!(calls(0, "3"), None, "it ended well");

        let few = calls(3, "2").expect("its failed calls");
        let last: Vec<_> = few.iter().rev().take(3).rev().collect();
        let paths: Vec<_> = last.iter().map(|call| call.path.as_deref()).collect();
        assert_eq!(
            paths,
            [
                Some(missing),
                Some("/nonexistent/0"),
                Some("/nonexistent/1")
            ]
        );
        let open = last[0];
        assert_eq!(
            (open.syscall.name.as_str(), open.error.name.as_str()),
            ("openat", "ENOENT")
        );
        assert_eq!(open.args[0] as i32, libc::AT_FDCWD);
        assert!(open.before_ns > 0 && open.before_ns >= last[1].before_ns);
        assert_ne!(open.tid, 0);

        let many = calls(3, "30").expect("its failed calls");
        assert_eq!(many.len(), 16);
        let last = many.last().and_then(|call| call.path.as_deref());
        assert_eq!(last, Some("/nonexistent/29"));
        let ordinary = many
            .iter()
            .any(|call| ["EAGAIN", "ENOTTY"].contains(&call.error.name.as_str()));
        assert!(!ordinary, "{many:?}");
    });
}

#[test]
fn calls_that_have_an_event_of_their_own_are_not_told_twice() {
    scene(|scene| {
        let trace = scene
            .trace(&[], &["/bin/sh", "-c", "/nonexistent/program; exit 5"])
            .finish()
            .expect_code(5)
            .trace();
        assert!(!trace.exec_failures().is_empty());
        let calls = trace.failed_calls();
        let mut names = calls.iter().flat_map(|(_, failed)| &failed.calls);
        assert!(names.all(|call| call.syscall.name != "execve"), "{calls:?}");
    });
}

/// The failed calls of PID 1 with that error.
fn with_error<'a>(trace: &'a Trace, error: &str) -> Vec<&'a FailedCall> {
    let calls = trace.failed_calls();
    let own = calls
        .iter()
        .filter(|(event, _)| event.task.jail_pid == Some(1));
    let all = own.flat_map(|(_, failed)| &failed.calls);
    all.filter(|call| call.error.name == error).collect()
}

#[test]
fn weighty_errors_are_told_with_what_they_are_about() {
    scene(|scene| {
        for code in ["0", "3"] {
            let app = [&misbehave(), "tell-errors", code, "/mnt", "30"];
            let trace = scene.trace(&["--tmpfs", "/mnt:64K"], &app).finish();
            let trace = trace.expect_code(code.parse().expect("a number")).trace();
            trace.expect_complete();

            let [full] = with_error(&trace, "ENOSPC")[..] else {
                panic!("{}", trace.summary());
            };
            assert_eq!(full.syscall.name, "write");
            assert_eq!(full.path.as_deref(), Some("full"));
            assert_eq!(full.fs_type.as_deref(), Some("tmpfs"));

            let [refused, later] = with_error(&trace, "ECONNREFUSED")[..] else {
                panic!("{}", trace.summary());
            };
            assert_eq!(
                (refused.address.as_deref(), refused.repeats),
                (Some("unix:@procjail-nobody"), 2)
            );
            assert_eq!(
                (later.syscall.name.as_str(), later.address.as_deref()),
                ("connect", Some("127.0.0.1:9"))
            );

            let [no_more] = with_error(&trace, "EMFILE")[..] else {
                panic!("{}", trace.summary());
            };
            assert_eq!(
                (no_more.open_files, no_more.nofile_limit),
                (Some(16), Some(16))
            );
            // Lookups are told of those that end badly, and never push out the rest.
            let lookups = with_error(&trace, "ENOENT").len();
            assert_eq!(lookups, if code == "0" { 0 } else { 16 });
        }
    });
}

#[test]
fn the_end_of_standard_error_is_told_of_a_process_that_ends_badly() {
    scene(|scene| {
        let misbehave = misbehave();
        let tails = |options: &[&str], app: &[&str], code: i32| {
            let app = [&[misbehave.as_str()], app].concat();
            let trace = scene.trace(options, &app).finish();
            let trace = trace.expect_code(code).trace();
            trace.expect_complete();
            let tails = trace.stderr_tails();
            let texts: Vec<_> = tails
                .iter()
                .map(|(event, tail)| {
                    assert!(event.seq > trace.exit_of(1).0.seq);
                    (tail.text.clone(), tail.truncated)
                })
                .collect();
            texts
        };
        let errors = |code| ["tell-errors", code, "/mnt", "0"];
        let tmpfs = ["--tmpfs", "/mnt:64K"];
        let whole = [("one two three\n".to_owned(), false)];
        assert_eq!(tails(&tmpfs, &errors("3"), 3), whole);
        assert_eq!(tails(&tmpfs, &errors("0"), 0), []);
        for off in ["--no-stderr-tail", "--no-syscalls"] {
            let options = [&tmpfs[..], &[off]].concat();
            assert_eq!(tails(&options, &errors("3"), 3), []);
        }
        for (bytes, piece) in [
            ("1016", "1016"),
            ("1017", "100"),
            ("5000", "1500"),
            ("3000", "7"),
        ] {
            let told = tails(&[], &["fill-stderr", bytes, piece], 1);
            let [(text, truncated)] = &told[..] else {
                panic!("{told:?}");
            };
            assert_eq!((text.len(), *truncated), (1024, bytes != "1016"));
            assert!(text.ends_with("xthe end\n"), "{text}");
            assert_eq!(text.trim_end_matches("the end\n").trim_matches('x'), "");
        }
    });
}

#[test]
fn what_is_written_without_a_pause_is_told_from_its_beginning() {
    scene(|scene| {
        let heads = |app: &[&str], code: i32| {
            let trace = scene.trace(&[], app).finish();
            let trace = trace.expect_code(code).trace();
            trace.expect_complete();
            let tails = trace.stderr_tails();
            let (_, tail) = tails.first().expect("a tail");
            tail.head.clone()
        };
        let misbehave = misbehave();
        let fill = |bytes: &str, piece: &str| {
            let app = [misbehave.as_str(), "fill-stderr", bytes, piece];
            heads(&app, 1).map(|head| head.len())
        };
        assert_eq!(fill("1016", "1016"), None);
        assert_eq!(fill("1017", "100"), Some(1));
        assert_eq!(fill("5000", "1500"), Some(512));
        assert_eq!(fill("3000", "7"), Some(512));
        let script = "echo noise >&2; sleep 0.5; echo reason >&2; \
                      for a in 1 2 3 4 5 6 7 8; do for b in 1 2 3 4 5 6 7 8; do \
                      echo 0123456789012345678901234567890123456789 >&2; done; done; exit 4";
        let head = heads(&["/bin/sh", "-c", script], 4).expect("a long text");
        assert!(head.starts_with("reason\n01234"), "{head}");
    });
}

#[test]
fn a_process_that_is_killed_has_its_last_words_too() {
    scene(|scene| {
        let script = "/bin/sh -c 'echo child >&2; kill -KILL $$'; echo parent >&2; exit 4";
        let trace = scene
            .trace(&[], &["/bin/sh", "-c", script])
            .finish()
            .expect_code(4)
            .trace();
        let tails = trace.stderr_tails();
        let texts: Vec<_> = tails
            .iter()
            .map(|(event, tail)| (event.task.jail_pid, tail.text.as_str()))
            .collect();
        // A shell may say itself that its child was killed.
        assert_eq!(texts.first(), Some(&(Some(2), "child\n")));
        let last = texts.last().expect("the parent's");
        assert!(
            last.0 == Some(1) && last.1.ends_with("parent\n"),
            "{texts:?}"
        );
    });
}

#[test]
fn limits_that_are_set_are_told() {
    scene(|scene| {
        let trace = scene
            .trace(
                &["--rlimit", "core=0:0"],
                &["/bin/sh", "-c", "ulimit -S -n 64; exit 3"],
            )
            .finish()
            .expect_code(3)
            .trace();
        let changes = trace.limit_changes();
        let [(event, change)] = &changes[..] else {
            panic!("{changes:?}");
        };
        assert_eq!(event.task.jail_pid, Some(1));
        assert_eq!(change.target, event.task);
        assert_eq!(
            (change.resource.as_str(), change.soft),
            ("nofile", Some(64))
        );
    });
}

#[test]
fn what_a_process_ignores_is_told_when_it_is_made_and_executes() {
    scene(|scene| {
        let script = "trap '' TERM; trap : HUP; /bin/sleep 0; exit 0";
        let trace = scene
            .trace(&[], &["/bin/sh", "-c", script])
            .finish()
            .expect_code(0)
            .trace();
        let has = |signals: &[Signal], number| signals.iter().any(|signal| signal.number == number);
        let check = |sets: &Option<SignalSets>, ignores: bool, catches: bool| {
            let sets = sets.as_ref().expect("known");
            assert_eq!(has(&sets.ignored, libc::SIGTERM), ignores, "{sets:?}");
            assert_eq!(has(&sets.caught, libc::SIGHUP), catches, "{sets:?}");
            assert!(!has(&sets.ignored, libc::SIGHUP), "{sets:?}");
        };
        let execs = trace.execs();
        check(&execs[0].1.signals, false, false);
        let forks = trace.forks();
        let fork = forks
            .iter()
            .find(|(event, _)| event.task.jail_pid == Some(1));
        check(&fork.expect("a child").1.signals, true, true);
        let sleep = execs.iter().find(|(_, exec)| exec.filename == "/bin/sleep");
        check(&sleep.expect("executed").1.signals, true, false);
    });
}

#[test]
fn who_traced_a_process_is_told_at_its_end() {
    scene(|scene| {
        let trace = scene
            .trace(&[], &[&misbehave(), "trace-and-kill"])
            .finish()
            .trace();
        let tracer = trace.exit_of(2).1.tracer.as_ref();
        assert_eq!(tracer.and_then(|tracer| tracer.jail_pid), Some(1));
        assert_eq!(trace.exit_of(1).1.tracer, None);
    });
}

#[test]
fn a_fault_has_the_bytes_of_its_instruction() {
    scene(|scene| {
        let trace = scene.trace(&[], &[&misbehave(), "illegal"]).finish();
        let trace = trace.expect_code(128 + libc::SIGILL).trace();
        let faults = trace.signals_to(1, libc::SIGILL);
        let fault = faults.first().and_then(|(_, signal)| signal.fault.as_ref());
        let code = &fault.expect("a fault").code;
        if cfg!(target_arch = "x86_64") {
            assert!(code.starts_with(&[0x0f, 0x0b]), "ud2: {code:x?}");
        }
        assert!(code.len() <= 16);
    });
}
