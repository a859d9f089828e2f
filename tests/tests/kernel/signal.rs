//! The fate of signals: from inside, from outside, through the launcher.

use std::time::Duration;

use procjail::event::{Disposition, Fault, ForwardAction, SignalResult};
use procjail_tests::{Random, Scene, misbehave, rounds, scene};

fn end_by(scene: &Scene, subcommand: &str) -> procjail_tests::Finished {
    scene.trace(&[], &[&misbehave(), subcommand]).finish()
}

/// The registers are those of the program: not the kernel's, not zero, and not the same.
#[track_caller]
fn in_user_memory(fault: &Fault) {
    for address in [fault.instruction, fault.stack_pointer] {
        assert!((0x1000..1 << 56).contains(&address), "{fault:x?}");
    }
    assert_ne!(fault.instruction, fault.stack_pointer);
}

#[test]
fn a_tracer_is_told_from_other_senders() {
    scene(|scene| {
        let trace = end_by(scene, "trace-and-kill").expect_code(0).trace();
        let kills = trace.signals_to(2, libc::SIGKILL);
        let (event, kill) = kills.first().expect("the tracer's kill");
        assert_eq!(event.task.jail_pid, Some(1));
        assert!(kill.sender_traces_target);
        let stops = trace.signals_to(2, libc::SIGSTOP);
        let (_, stop) = stops.first().expect("the child's own stop");
        assert!(!stop.sender_traces_target, "its own tracer it is not");
        assert_eq!(stop.fault, None);
    });
}

#[test]
fn a_segmentation_fault_ends_pid_1() {
    scene(|scene| {
        let trace = end_by(scene, "segv")
            .expect_code(128 + libc::SIGSEGV)
            .trace();
        let (_, exit) = trace.exit_of(1);
        assert_eq!(
            exit.status.signal.as_ref().expect("a signal").name,
            "SIGSEGV"
        );
        let signals = trace.signals_to(1, libc::SIGSEGV);
        let (event, signal) = signals.first().expect("the kernel's signal");
        assert_eq!(
            event.task.jail_pid,
            Some(1),
            "a fault is sent by the task itself"
        );
        assert_eq!(signal.code.name, "SEGV_MAPERR");
        assert_eq!(signal.result, SignalResult::Delivered);
        let fault = signal.fault.as_ref().expect("where it faulted");
        assert_eq!(fault.address, 8);
        in_user_memory(fault);
    });
}

#[test]
fn a_division_by_zero_ends_pid_1() {
    scene(|scene| {
        let trace = end_by(scene, "fpe").expect_code(128 + libc::SIGFPE).trace();
        let signals = trace.signals_to(1, libc::SIGFPE);
        let (_, signal) = signals.first().expect("the kernel's signal");
        assert_eq!(signal.code.name, "FPE_INTDIV");
        let fault = signal.fault.as_ref().expect("where it faulted");
        assert_eq!(fault.address, fault.instruction, "the instruction itself");
        in_user_memory(fault);
    });
}

#[test]
fn abort_as_pid_1_is_ignored_at_first() {
    scene(|scene| {
        let finished = end_by(scene, "abort");
        let trace = finished.trace();
        let signals = trace.signals_to(1, libc::SIGABRT);
        let (_, first) = signals.first().expect("raise(SIGABRT)");
        assert_eq!(first.result, SignalResult::Ignored);
        assert_eq!(first.disposition, Disposition::Default);
        assert!(first.unkillable, "PID 1 of a namespace");
        // The C library then executes an instruction that faults.
        assert!(
            finished.code >= Some(128),
            "ended by a fault, not by {:?}",
            finished.code
        );
    });
}

#[test]
fn pid_1_survives_sigkill_from_inside() {
    scene(|scene| {
        let finished = end_by(scene, "kill-parent").expect_code(0);
        assert_eq!(finished.stdout, "survived\n");
        let trace = finished.trace();
        let signals = trace.signals_to(1, libc::SIGKILL);
        let (event, kill) = signals.first().expect("the kill");
        assert_eq!(event.task.jail_pid, Some(2));
        assert_eq!(kill.result, SignalResult::Ignored);
        assert!(kill.unkillable);
        assert_eq!(kill.syscall.as_ref().expect("a system call").name, "kill");
    });
}

#[test]
fn stop_and_continue_inside() {
    scene(|scene| {
        let finished = end_by(scene, "stop-self").expect_code(4);
        assert_eq!(finished.stdout, "stopped=true\n");
        let trace = finished.trace();
        assert_eq!(trace.signals_to(2, libc::SIGSTOP).len(), 1);
        assert_eq!(trace.signals_to(2, libc::SIGCONT).len(), 1);
    });
}

#[test]
fn sigterm_reaches_the_handler_once() {
    scene(|scene| {
        let running = scene
            .trace(&[], &[&misbehave(), "handle-term", "7"])
            .spawn();
        running.wait_for_line("ready");
        running.signal(libc::SIGTERM);
        let finished = running.finish().expect_code(7);
        assert_eq!(finished.stdout, "ready\nSIGTERM\n");
        let trace = finished.trace();
        trace.expect_complete();
        assert_eq!(trace.stops().len(), 1);
        assert!(trace.kills().is_empty(), "no force was needed");
        let sent = trace.signals_to(1, libc::SIGTERM);
        assert_eq!(sent.len(), 1);
        let (event, sent) = sent[0];
        assert!(!event.task.in_jail);
        assert_eq!(event.task.pid, trace.header.launcher_pid());
        assert_eq!(sent.disposition, Disposition::Handler);
        assert_eq!(
            sent.syscall.as_ref().expect("a call").name,
            "pidfd_send_signal"
        );
        let handled = trace.handled_by(1, libc::SIGTERM);
        assert_eq!(handled.len(), 1);
        assert_eq!(handled[0].1.generated_seq, Some(event.seq));
        assert!(handled[0].1.latency_ns.is_some());
    });
}

#[test]
fn every_signal_that_can_be_is_forwarded_once() {
    scene(|scene| {
        for signal in [
            libc::SIGUSR1,
            libc::SIGUSR2,
            libc::SIGALRM,
            libc::SIGWINCH,
            40,
        ] {
            let number = signal.to_string();
            let running = scene
                .run(&[], &[&misbehave(), "count-signals", &number, "300"])
                .spawn();
            running.wait_for_line("ready");
            running.signal(signal);
            let finished = running.finish().expect_code(0);
            assert_eq!(finished.stdout, "ready\n1\n", "signal {signal}");
        }
    });
}

#[test]
fn a_signal_that_nobody_handles_is_held() {
    scene(|scene| {
        let running = scene
            .trace(
                &["--stop-timeout", "500ms"],
                &[&misbehave(), "default-term"],
            )
            .spawn();
        running.wait_for_line("ready");
        running.signal(libc::SIGTERM);
        let finished = running.finish().expect_code(128 + libc::SIGKILL);
        assert!(
            finished.elapsed < Duration::from_secs(5),
            "{:?}",
            finished.elapsed
        );
        let trace = finished.trace();
        let actions: Vec<_> = trace
            .forwarded()
            .iter()
            .map(|(_, data)| data.action)
            .collect();
        assert!(
            actions.contains(&ForwardAction::HeldNoHandler),
            "{actions:?}"
        );
        assert_eq!(trace.kills().len(), 1);
        assert_eq!(trace.kills()[0].1.reason, "stop-timeout");
        let asked = trace.stops()[0].1.by.clone().expect("who asked");
        assert_eq!(asked.pid, std::process::id());
        assert_eq!(asked.argv.first(), std::env::args().next().as_ref());
        assert_eq!(trace.forwarded()[0].1.by, Some(asked));
    });
}

/// In sigwait(3) the mask that /proc shows lacks what is waited for.
#[test]
fn a_signal_that_is_waited_for_is_sent_at_once() {
    scene(|scene| {
        let running = scene
            .trace(&["--stop-timeout", "20s"], &[&misbehave(), "wait-term"])
            .spawn();
        running.wait_for_line("ready");
        let before = running.elapsed();
        running.signal(libc::SIGTERM);
        let finished = running.finish().expect_code(0);
        assert_eq!(finished.stdout, "ready\n15\n");
        let took = finished.elapsed - before;
        assert!(took < Duration::from_secs(10), "not held: {took:?}");
        assert!(finished.trace().kills().is_empty());
    });
}

#[test]
fn an_ignored_sigterm_ends_in_sigkill() {
    scene(|scene| {
        let running = scene
            .trace(&["--stop-timeout", "500ms"], &[&misbehave(), "ignore-term"])
            .spawn();
        running.wait_for_line("ready");
        let before = running.elapsed();
        running.signal(libc::SIGTERM);
        let finished = running.finish().expect_code(128 + libc::SIGKILL);
        let took = finished.elapsed - before;
        assert!(
            took >= Duration::from_millis(500),
            "the window is kept: {took:?}"
        );
        assert!(took < Duration::from_secs(3), "and bounded: {took:?}");
        let trace = finished.trace();
        trace.expect_complete();
        let ignored = trace.signals_to(1, libc::SIGTERM);
        let (_, term) = ignored.first().expect("the forwarded SIGTERM");
        assert_eq!(term.result, SignalResult::Ignored);
        assert_eq!(term.disposition, Disposition::Ignore);
        let (_, exit) = trace.exit_of(1);
        assert_eq!(
            exit.status.signal.as_ref().expect("a signal").name,
            "SIGKILL"
        );
    });
}

#[test]
fn a_second_sigterm_ends_the_window() {
    scene(|scene| {
        let running = scene
            .trace(&["--stop-timeout", "50s"], &[&misbehave(), "ignore-term"])
            .spawn();
        running.wait_for_line("ready");
        running.signal(libc::SIGTERM);
        std::thread::sleep(Duration::from_millis(200));
        running.signal(libc::SIGTERM);
        let finished = running.finish().expect_code(128 + libc::SIGKILL);
        assert!(
            finished.elapsed < Duration::from_secs(10),
            "{:?}",
            finished.elapsed
        );
        assert_eq!(finished.trace().kills()[0].1.reason, "second-signal");
    });
}

#[test]
fn the_stop_signal_can_be_another() {
    scene(|scene| {
        let number = libc::SIGUSR1.to_string();
        let running = scene
            .run(
                &["--stop-signal", "SIGUSR1"],
                &[&misbehave(), "count-signals", &number, "500"],
            )
            .spawn();
        running.wait_for_line("ready");
        running.signal(libc::SIGTERM);
        assert_eq!(running.finish().expect_code(0).stdout, "ready\n1\n");
    });
}

#[test]
fn a_blocked_signal_is_not_ignored() {
    scene(|scene| {
        let running = scene
            .trace(&[], &[&misbehave(), "block-term", "300"])
            .spawn();
        running.wait_for_line("ready");
        running.signal(libc::SIGTERM);
        let finished = running.finish().expect_code(0);
        assert_eq!(finished.stdout, "ready\n1\n");
        let trace = finished.trace();
        let sent = trace.signals_to(1, libc::SIGTERM);
        assert_eq!(sent.len(), 1);
        assert!(sent[0].1.blocked);
        assert_eq!(sent[0].1.result, SignalResult::Delivered);
        let handled = trace.handled_by(1, libc::SIGTERM);
        let latency_ns = handled[0].1.latency_ns.expect("a latency");
        assert!(
            latency_ns > 10_000_000,
            "it waited to be unblocked: {latency_ns} ns"
        );
    });
}

/// The app installs its handler late; the signal comes at any moment from the launcher's start on.
/// The instants are taken from the measured length of a start, so that they fall into all of it.
#[test]
fn two_hundred_early_sigterms_are_not_lost() {
    scene(|scene| {
        let mut random = Random::new();
        let app = misbehave();
        let app = [app.as_str(), "handle-term", "7", "--after", "5"];
        let running = scene.run(&[], &app).spawn();
        running.wait_for_line("ready");
        let start = running.elapsed();
        running.signal(libc::SIGTERM);
        running.finish().expect_code(7);

        let mut before_the_launcher_listens = 0;
        let rounds = rounds(200);
        for round in 0..rounds {
            let delay = Duration::from_nanos(random.below(start.as_nanos() as u64));
            let running = scene.run(&["--stop-timeout", "5s"], &app).spawn();
            std::thread::sleep(delay);
            running.signal(libc::SIGTERM);
            let finished = running.finish();
            // Before the launcher's main function has blocked its signals, the kernel ends it: there
            // is no jail then, and the caller is told by the status.
            if finished.signal == Some(libc::SIGTERM) && finished.stdout.is_empty() {
                before_the_launcher_listens += 1;
                continue;
            }
            assert_eq!(
                (
                    finished.code,
                    finished
                        .stdout
                        .lines()
                        .filter(|line| *line == "SIGTERM")
                        .count()
                ),
                (Some(7), 1),
                "round {round}, SIGTERM after {delay:?}:\n{}{}",
                finished.stdout,
                finished.stderr
            );
        }
        assert!(
            before_the_launcher_listens < rounds * 9 / 10,
            "{before_the_launcher_listens} of {rounds} came before the launcher listened"
        );
    });
}

#[test]
fn a_sender_from_outside_is_told_once() {
    scene(|scene| {
        let running = scene
            .trace(&[], &[&misbehave(), "handle-term", "7"])
            .spawn();
        running.wait_for_line("ready");
        let pid = procjail_tests::descendants()
            .into_iter()
            .find(|pid| comm(*pid) == "misbehave")
            .expect("APP's host PID");
        // They are gone when the trace is read.
        let kill = |signal: &str| {
            let mut kill = std::process::Command::new("/bin/kill")
                .args([signal, &pid.to_string()])
                .spawn()
                .expect("/bin/kill");
            assert!(kill.wait().expect("its status").success());
            kill.id()
        };
        let first = kill("-URG");
        let script = format!("kill -CONT {pid}; kill -CONT {pid}");
        let mut shell = std::process::Command::new("/bin/sh")
            .args(["-c", &script])
            .spawn()
            .expect("/bin/sh");
        let second = shell.id();
        assert!(shell.wait().expect("its status").success());
        let third = kill("-TERM");
        let trace = running.finish().expect_code(7).trace();
        trace.expect_complete();

        let of = |pid: u32| -> Vec<_> {
            let mut found = trace.senders();
            found.retain(|(event, _)| event.task.pid == pid);
            found
        };
        assert!(of(first).is_empty(), "its signal is not recorded either");
        assert_eq!(of(second).len(), 1);
        let told = of(third);
        let [(event, sender)] = told.as_slice() else {
            panic!("not told once: {told:?}");
        };
        assert!(!event.task.in_jail);
        assert_eq!(event.task.comm, "kill");
        let exe = std::fs::canonicalize("/bin/kill").expect("a path");
        assert_eq!(sender.exe, exe.display().to_string());
        assert_eq!(sender.argv, ["/bin/kill", "-TERM", &pid.to_string()]);
        assert_eq!(sender.uid, 0);
        assert_eq!(sender.cgroup, own_cgroup());
        assert_eq!(sender.parents[0].pid, std::process::id());
        assert!(sender.parents.len() > 1, "{:?}", sender.parents);
        let last = sender.parents.last().expect("a parent");
        assert!(
            sender.parents.len() == 8 || last.pid == 1,
            "{:?}",
            sender.parents
        );
        let (signal, _) = trace.signals_to(1, libc::SIGTERM)[0];
        assert_eq!((signal.task.pid, signal.seq + 1), (third, event.seq));
        assert!(trace.senders().iter().all(|(event, _)| !event.task.in_jail));
    });
}

fn comm(pid: u32) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    text.trim_end().to_owned()
}

/// The cgroup of this process on the default hierarchy.
fn own_cgroup() -> String {
    let text = std::fs::read_to_string("/proc/self/cgroup").expect("cgroups");
    let line = text.lines().find_map(|line| line.strip_prefix("0::"));
    line.expect("a default hierarchy").to_owned()
}
