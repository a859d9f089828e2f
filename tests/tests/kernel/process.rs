//! Forks, execs, exits and reaps.

use procjail_tests::{misbehave, scene};

#[test]
fn exit_code_is_the_apps_own() {
    scene(|scene| {
        for code in [0, 1, 7, 125, 255] {
            let text = code.to_string();
            scene
                .run(&[], &[&misbehave(), "exit", &text])
                .finish()
                .expect_code(code);
        }
        let trace = scene
            .trace(&[], &[&misbehave(), "exit", "7"])
            .finish()
            .expect_code(7)
            .trace();
        trace.expect_complete();
        let (event, exit) = trace.exit_of(1);
        assert_eq!(exit.status.code, Some(7));
        assert_eq!(exit.status.signal, None);
        assert!(event.task.in_jail);
        let footer = trace.footer();
        assert_eq!(footer.exit_code, Some(7));
        assert_eq!(footer.processes, 1);
        assert_eq!(footer.status.as_ref(), Some(&exit.status));
    });
}

#[test]
fn what_exit_was_called_with_is_told_whole() {
    scene(|scene| {
        let misbehave = misbehave();
        let argument = |app: &[&str], code: i32| {
            let app = [&[misbehave.as_str()], app].concat();
            let trace = scene.trace(&[], &app).finish().expect_code(code).trace();
            trace.exit_of(1).1.argument
        };
        assert_eq!(argument(&["exit", "257"], 1), Some(257));
        // By a thread that is not the last one to end.
        assert_eq!(argument(&["exit-by-thread", "300"], 300 & 0xff), Some(300));
        assert_eq!(argument(&["segv"], 128 + libc::SIGSEGV), None);
    });
}

#[test]
fn groups_and_sessions_are_told_by_their_leaders() {
    scene(|scene| {
        let script = "setsid /bin/sh -c 'exit 3'; exit 4";
        let trace = scene
            .trace(&[], &["/bin/sh", "-c", script])
            .finish()
            .expect_code(4)
            .trace();
        let (_, init) = trace.exit_of(1);
        let (event, child) = trace.exit_of(2);
        assert_eq!(child.status.code, Some(3));
        assert_eq!(
            (child.process_group, child.session),
            (event.task.pid, event.task.pid)
        );
        assert_ne!(init.session, child.session);
        assert_ne!((init.process_group, init.session), (0, 0));
    });
}

#[test]
fn first_exec_has_the_arguments() {
    scene(|scene| {
        let trace = scene
            .trace(&[], &["/bin/echo", "one", "", "two words"])
            .finish()
            .expect_code(0)
            .trace();
        let execs = trace.execs();
        let (event, exec) = execs.first().expect("an exec");
        assert_eq!(event.task.jail_pid, Some(1));
        assert_eq!(exec.filename, "/bin/echo");
        assert_eq!(exec.argv, ["/bin/echo", "one", "", "two words"]);
        assert!(!exec.argv_truncated);
    });
}

#[test]
fn long_arguments_are_cut_and_say_so() {
    scene(|scene| {
        let long = "x".repeat(3000);
        let trace = scene
            .trace(&[], &["/bin/true", &long, &long])
            .finish()
            .expect_code(0)
            .trace();
        let execs = trace.execs();
        let (_, exec) = execs.first().expect("an exec");
        assert!(exec.argv_truncated);
        assert_eq!(exec.argv_bytes, "/bin/true".len() as u64 + 6000 + 3);
        let kept: usize = exec.argv.iter().map(|text| text.len() + 1).sum();
        assert!((3000..=4097).contains(&kept), "{kept} bytes kept");
    });
}

#[test]
fn zombies_are_counted_and_cleared_by_the_kernel() {
    scene(|scene| {
        let trace = scene
            .trace(&[], &[&misbehave(), "zombies", "5"])
            .finish()
            .expect_code(0)
            .trace();
        trace.expect_complete();
        assert_eq!(trace.forks().len(), 5);
        assert_eq!(trace.footer().zombies, 5);
        assert_eq!(trace.footer().processes, 6);
        let last = trace.exit_of(1).0.seq;
        for pid in 2..=6 {
            let (event, exit) = trace.exit_of(pid);
            assert!(event.seq < last);
            assert_eq!(exit.status.code, Some(0));
            assert_eq!(exit.parent.jail_pid, Some(1));
        }
        let reaped_by_app = trace
            .reaps()
            .iter()
            .filter(|(event, _)| event.seq < last)
            .count();
        assert_eq!(reaped_by_app, 0, "PID 1 collects nobody");
    });
}

#[test]
fn orphans_are_adopted_and_reaped_by_pid_1() {
    scene(|scene| {
        let finished = scene
            .trace(&[], &[&misbehave(), "orphans", "3"])
            .finish()
            .expect_code(0);
        assert_eq!(finished.stdout, "4\n");
        let trace = finished.trace();
        trace.expect_complete();
        let reaped: Vec<_> = trace
            .reaps()
            .into_iter()
            .filter(|(event, _)| event.task.jail_pid == Some(1))
            .collect();
        assert_eq!(reaped.len(), 4);
        let orphans = trace
            .exits()
            .into_iter()
            .filter(|(event, exit)| {
                event.task.jail_pid > Some(2) && exit.parent.jail_pid == Some(1)
            })
            .count();
        assert_eq!(orphans, 3, "their parent is PID 1 by the time they end");
        assert_eq!(trace.footer().zombies, 0);
    });
}

#[test]
fn a_dead_main_thread_is_not_the_end_of_the_process() {
    scene(|scene| {
        let trace = scene
            .trace(&[], &[&misbehave(), "threads-exit"])
            .finish()
            .expect_code(5)
            .trace();
        let ends: Vec<_> = trace
            .exits()
            .into_iter()
            .filter(|(_, exit)| exit.process)
            .collect();
        assert_eq!(ends.len(), 1, "one process ends once");
        assert_eq!(ends[0].1.status.code, Some(5));
    });
}

#[test]
fn a_failed_exec_is_told_with_its_error() {
    scene(|scene| {
        let trace = scene
            .trace(&[], &[&misbehave(), "exec-fail"])
            .finish()
            .expect_code(127)
            .trace();
        let failures = trace.exec_failures();
        let (event, failure) = failures.first().expect("a failed exec");
        assert_eq!(failure.filename, "/nonexistent/program");
        assert_eq!(failure.error.name, "ENOENT");
        assert_eq!(event.task.jail_pid, Some(2));
        assert_eq!(trace.exit_of(2).1.status.code, Some(127));
    });
}

#[test]
fn fork_is_refused_at_the_pids_limit() {
    scene(|scene| {
        let finished = scene
            .trace(&["--pids", "10"], &[&misbehave(), "fork-fail"])
            .finish()
            .expect_code(0);
        assert_eq!(
            finished.stdout,
            format!("made 9, then errno {}\n", libc::EAGAIN)
        );
        let trace = finished.trace();
        assert_eq!(trace.forks().len(), 9);
        // The namespace's end kills the children, which sleep.
        let killed = trace
            .exits()
            .into_iter()
            .filter(|(_, exit)| {
                exit.status
                    .signal
                    .as_ref()
                    .is_some_and(|signal| signal.name == "SIGKILL")
            })
            .count();
        assert_eq!(killed, 9);
    });
}
