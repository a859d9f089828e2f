//! Every signal that the launcher gets reaches PID 1, once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use common::app::{Random, Running};
use common::command;

/// Installs its handlers only after a moment, counts SIGTERM, ends with 7.
const LATE_HANDLER: &str = "sleep 0.01; n=0; trap 'n=$((n+1))' TERM; i=0; \
    while [ $n -eq 0 ] && [ $i -lt 500 ]; do sleep 0.01; i=$((i+1)); done; \
    sleep 0.03; sleep 0.01; echo n=$n; exit 7";

#[test]
fn an_early_sigterm_is_never_lost_and_comes_once() {
    let mut random = Random(0x5eed_0001);
    let mut before = 0;
    for round in 0..200 {
        let jail = Running::start(command(["--", "sh", "-c", LATE_HANDLER]));
        std::thread::sleep(Duration::from_micros(random.below(30_000)));
        jail.signal(libc::SIGTERM);
        let (status, _, lines) = jail.finish();
        if status.signal() == Some(libc::SIGTERM) && lines.is_empty() {
            // The launcher itself had not started yet.
            before += 1;
            continue;
        }
        assert_eq!(
            (status.code(), lines),
            (Some(7), vec!["n=1".to_owned()]),
            "round {round}"
        );
    }
    assert!(before < 100, "{before} of 200 came before the launcher");
}

#[test]
fn an_early_sigterm_reaches_a_slow_starter() {
    let app = "import signal, sys, time\n\
               signal.signal(signal.SIGTERM, lambda s, f: (print('term', flush=True), sys.exit(7)))\n\
               signal.pause()";
    let mut reached = 0;
    for delay in [5, 10, 15, 20, 30, 50, 100] {
        let jail = Running::start(command(["--", "python3", "-c", app]));
        std::thread::sleep(Duration::from_millis(delay));
        jail.signal(libc::SIGTERM);
        let (status, _, lines) = jail.finish();
        if status.signal() == Some(libc::SIGTERM) && lines.is_empty() {
            // The launcher itself had not started yet.
            continue;
        }
        assert_eq!((status.code(), lines), (Some(7), vec!["term".to_owned()]));
        reached += 1;
    }
    assert!(
        reached >= 3,
        "{reached} of 7 came when the launcher was there"
    );
}

#[test]
fn a_signal_that_passes_a_short_block_is_not_lost() {
    // What a library does to make a thread: block all, unblock; handlers come later.
    let app = "import signal, sys, time\n\
               m = signal.valid_signals()\n\
               end = time.monotonic() + 0.3\n\
               print('ready', flush=True)\n\
               while time.monotonic() < end:\n\
               \x20   signal.pthread_sigmask(signal.SIG_BLOCK, m)\n\
               \x20   time.sleep(0.001)\n\
               \x20   signal.pthread_sigmask(signal.SIG_UNBLOCK, m)\n\
               \x20   time.sleep(0.004)\n\
               n = []\n\
               signal.signal(signal.SIGTERM, lambda s, f: n.append(s))\n\
               time.sleep(0.2)\n\
               print(len(n), flush=True)\n\
               sys.exit(7)";
    for _ in 0..5 {
        let jail = Running::start(command(["--", "python3", "-c", app]));
        jail.expect("ready");
        std::thread::sleep(Duration::from_millis(20));
        jail.signal(libc::SIGTERM);
        jail.expect("1");
        assert_eq!(jail.code(), 7);
    }
}

#[test]
fn a_waiter_without_a_handler_gets_it_once() {
    let app = "import signal, sys\n\
               signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR1])\n\
               print('ready', flush=True)\n\
               print(signal.sigwait([signal.SIGTERM, signal.SIGUSR1]).name, flush=True)\n\
               again = signal.sigtimedwait([signal.SIGTERM, signal.SIGUSR1], 0.2)\n\
               sys.exit(7 if again is None else 8)";
    let jail = Running::start(command(["--", "python3", "-c", app]));
    jail.expect("ready");
    jail.signal(libc::SIGUSR1);
    jail.expect("SIGUSR1");
    assert_eq!(jail.code(), 7);
}

#[test]
fn each_signal_is_passed_on_once() {
    let app = "trap 'echo usr1' USR1; trap 'echo winch' WINCH; trap 'echo usr2; exit 3' USR2; \
               echo ready; while :; do sleep 0.01; done";
    let jail = Running::start(command(["--", "sh", "-c", app]));
    jail.expect("ready");
    for _ in 0..3 {
        jail.signal(libc::SIGUSR1);
        jail.expect("usr1");
        jail.signal(libc::SIGWINCH);
        jail.expect("winch");
    }
    assert_eq!(jail.line_within(Duration::from_millis(100)), None);
    jail.signal(libc::SIGUSR2);
    jail.expect("usr2");
    assert_eq!(jail.code(), 3);
}

#[test]
fn real_time_signals_keep_their_value() {
    let app = "import signal\n\
               rt = signal.SIGRTMIN + 3\n\
               signal.pthread_sigmask(signal.SIG_BLOCK, [rt])\n\
               print('ready', flush=True)\n\
               for _ in range(3):\n\
               \x20   i = signal.sigwaitinfo([rt])\n\
               \x20   print(i.si_signo - signal.SIGRTMIN, i.si_code, flush=True)";
    let jail = Running::start(command(["--", "python3", "-c", app]));
    jail.expect("ready");
    for value in 1..=3usize {
        let value = libc::sigval {
            sival_ptr: value as *mut libc::c_void,
        };
        // SAFETY: the launcher is our child and not reaped.
        let result = unsafe { libc::sigqueue(jail.pid(), libc::SIGRTMIN() + 3, value) };
        assert_eq!(result, 0);
    }
    for _ in 0..3 {
        // SI_QUEUE is -1: sent with its value, not as a plain kill.
        jail.expect("3 -1");
    }
    assert_eq!(jail.code(), 0);
}

#[test]
fn a_signal_that_app_ignores_or_does_not_know_ends_nothing() {
    let jail = Running::start(command([
        "--",
        "sh",
        "-c",
        "trap '' USR1; echo ready; sleep 0.3; exit 5",
    ]));
    jail.expect("ready");
    jail.signal(libc::SIGUSR1);
    jail.signal(libc::SIGUSR2);
    jail.signal(libc::SIGALRM);
    assert_eq!(jail.code(), 5);
}

#[test]
fn what_the_parent_left_changes_nothing() {
    let mut command = command([
        "--",
        "sh",
        "-c",
        "trap 'exit 9' TERM; echo ready; while :; do sleep 0.01; done",
    ]);
    common::hostile(&mut command, || {
        // SAFETY: system calls on a valid set; allowed between fork and exec.
        unsafe {
            libc::signal(libc::SIGCHLD, libc::SIG_IGN);
            libc::signal(libc::SIGTERM, libc::SIG_IGN);
            let mut all = std::mem::zeroed();
            libc::sigfillset(&mut all);
            libc::sigprocmask(libc::SIG_BLOCK, &all, std::ptr::null_mut());
        }
    });
    let jail = Running::start(command);
    jail.expect("ready");
    jail.signal(libc::SIGTERM);
    assert_eq!(jail.code(), 9);
}

#[test]
fn as_it_is_a_signal_without_a_handler_is_lost() {
    let app = "echo ready; sleep 0.2; trap 'echo term; exit 9' TERM; \
               for i in $(seq 20); do sleep 0.01; done; exit 5";
    for (option, code) in [(&["--stop-as-is"][..], 5), (&[], 9)] {
        let arguments = [option, &["--", "sh", "-c", app]].concat();
        let jail = Running::start(command(arguments));
        jail.expect("ready");
        jail.signal(libc::SIGTERM);
        let (status, _, lines) = jail.finish();
        assert_eq!(status.code(), Some(code), "{option:?}: {lines:?}");
    }
}
