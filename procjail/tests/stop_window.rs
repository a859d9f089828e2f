//! How a jail is stopped, and that it ends whatever APP does.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::app::{Running, cgroups_of, processes_with, unique, wait_until};
use common::command;

const IGNORES: &str = "trap '' TERM INT HUP QUIT; echo ready; while :; do sleep 0.05; done";

#[test]
fn a_handler_decides_the_exit_code() {
    let app = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done";
    let jail = Running::start(command(["--", "sh", "-c", app]));
    jail.expect("ready");
    jail.signal(libc::SIGTERM);
    let (status, took, _) = jail.finish();
    assert_eq!(status.code(), Some(7));
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn who_ignores_the_stop_signal_is_killed_when_the_window_closes() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT, libc::SIGHUP] {
        let jail = Running::start(command([
            "--stop-timeout",
            "500ms",
            "--",
            "sh",
            "-c",
            IGNORES,
        ]));
        jail.expect("ready");
        jail.signal(signal);
        let (status, took, _) = jail.finish();
        assert_eq!(status.code(), Some(137));
        assert!(took >= Duration::from_millis(490), "{took:?}");
        assert!(took < Duration::from_secs(3), "{took:?}");
    }
}

#[test]
fn who_has_no_handler_is_killed_when_the_window_closes() {
    let jail = Running::start(command(["--stop-timeout", "300ms", "--", "sleep", "100"]));
    std::thread::sleep(Duration::from_millis(100));
    jail.signal(libc::SIGTERM);
    let (status, took, _) = jail.finish();
    assert_eq!(status.code(), Some(137));
    assert!(
        took >= Duration::from_millis(280) && took < Duration::from_secs(3),
        "{took:?}"
    );
}

#[test]
fn a_second_request_ends_the_window() {
    for second in [libc::SIGINT, libc::SIGTERM] {
        let jail = Running::start(command([
            "--stop-timeout",
            "60s",
            "--",
            "sh",
            "-c",
            IGNORES,
        ]));
        jail.expect("ready");
        jail.signal(libc::SIGINT);
        std::thread::sleep(Duration::from_millis(100));
        jail.signal(second);
        let (status, took, _) = jail.finish();
        assert_eq!(status.code(), Some(137));
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
}

#[test]
fn two_copies_at_once_are_one_request() {
    // As timeout(1) does it: the child, then its whole group.
    let app = "n=0; trap 'n=$((n+1)); [ $n = 1 ] && { sleep 0.2; exit 7; }' TERM; echo ready; \
               while :; do sleep 0.01; done";
    let jail = Running::start(command(["--", "sh", "-c", app]));
    jail.expect("ready");
    jail.signal(libc::SIGTERM);
    std::thread::sleep(Duration::from_millis(3));
    jail.signal(libc::SIGTERM);
    assert_eq!(jail.code(), 7);
}

#[test]
fn the_stop_signal_can_be_another() {
    let app = "trap 'exit 4' USR1; trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done";
    let jail = Running::start(command(["--stop-signal", "USR1", "--", "sh", "-c", app]));
    jail.expect("ready");
    jail.signal(libc::SIGTERM);
    assert_eq!(jail.code(), 4);
}

#[test]
fn a_stopped_app_is_continued_to_obey() {
    let name = unique("stop-cont");
    let app = "trap 'exit 6' TERM; echo ready; while :; do sleep 0.01; done";
    let jail = Running::start(command(["--name", &name, "--", "sh", "-c", app]));
    jail.expect("ready");
    // PID 1 can't stop itself: from outside.
    let pid = first_process(&name);
    // SAFETY: PID 1 of our own jail.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGSTOP) }, 0);
    std::thread::sleep(Duration::from_millis(50));
    jail.signal(libc::SIGTERM);
    let (status, took, _) = jail.finish();
    assert_eq!(status.code(), Some(6));
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn the_end_of_the_first_process_ends_all() {
    let marker = format!("97531.{}", std::process::id());
    let app = format!("(trap '' TERM; sleep {marker}) & setsid sleep {marker} & sleep 0.1; exit 3");
    let (code, _, stderr) = common::run(["--", "sh", "-c", &app]);
    assert_eq!((code, stderr.as_str()), (3, ""));
    assert_eq!(processes_with(&format!("sleep\0{marker}")), []);
}

#[test]
fn a_signal_that_kills_it_is_told() {
    let (code, ..) = common::run(["--", "python3", "-c", "import ctypes; ctypes.string_at(0)"]);
    assert_eq!(code, 128 + libc::SIGSEGV);
}

#[test]
fn a_frozen_jail_can_be_stopped() {
    let name = unique("stop-frozen");
    let jail = Running::start(command([
        "--name",
        &name,
        "--stop-timeout",
        "300ms",
        "--",
        "sh",
        "-c",
        IGNORES,
    ]));
    jail.expect("ready");
    let cgroup = v2_of(&name);
    std::fs::write(cgroup.join("cgroup.freeze"), "1").unwrap();
    wait_until("frozen", || {
        std::fs::read_to_string(cgroup.join("cgroup.events"))
            .unwrap()
            .contains("frozen 1")
    });
    jail.signal(libc::SIGTERM);
    let (status, took, _) = jail.finish();
    assert_eq!(status.code(), Some(137));
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(cgroups_of(&name), Vec::<std::path::PathBuf>::new());
}

#[test]
fn who_does_not_end_is_named_in_time() {
    // A process from outside that enters the jail's PID namespace, and whose own parent doesn't reap
    // it, keeps PID 1 from its end.
    let name = unique("stop-stuck");
    let args = [
        "--name",
        &name,
        "--teardown-timeout",
        "1s",
        "--",
        "sh",
        "-c",
    ];
    let app = "echo ready; while :; do sleep 0.05; done";
    let mut command = command(args.iter().copied().chain([app]));
    let stderr = tempfile::NamedTempFile::new().unwrap();
    command.stderr(stderr.reopen().unwrap());
    let jail = Running::start(command);
    jail.expect("ready");
    let pid = first_process(&name);
    // sh makes the entering process its child and then sleeps without waiting for it.
    let mut intruder = std::process::Command::new("python3")
        .arg("-c")
        .arg(format!(
            "import ctypes, os, time\nfd = os.open('/proc/{pid}/ns/pid', os.O_RDONLY)\n\
             assert ctypes.CDLL(None).setns(fd, 0x20000000) == 0\n\
             if os.fork() == 0:\n\x20   time.sleep(100)\n\x20   os._exit(0)\n\
             print('in', flush=True)\ntime.sleep(100)"
        ))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut word = [0; 3];
    std::io::Read::read_exact(intruder.stdout.as_mut().unwrap(), &mut word).unwrap();
    jail.signal(libc::SIGTERM);
    std::thread::sleep(Duration::from_millis(100));
    jail.signal(libc::SIGTERM);
    let (status, took, _) = jail.finish();
    let told = std::fs::read_to_string(stderr.path()).unwrap();
    intruder.kill().unwrap();
    intruder.wait().unwrap();
    assert_eq!(status.code(), Some(124), "{told}");
    assert!(took < Duration::from_secs(4), "{took:?}");
    assert!(
        told.contains(&format!("process {pid} (sh), S in zap_pid_ns_processes")),
        "{told}"
    );
    // The first look is due after 250 ms; a busy machine is a little late.
    let waited = told.split_once("waiting for ").and_then(|(_, rest)| {
        let (ms, _) = rest.split_once(" ms for ")?;
        ms.parse::<u32>().ok()
    });
    assert!(waited.is_some_and(|ms| (250..1000).contains(&ms)), "{told}");
    let parent = intruder.id();
    assert!(
        told.contains(&format!(
            "(python3), Z: it is dead, and its parent python3 (host PID {parent}) outside the jail does not reap it"
        )),
        "{told}"
    );
    assert!(told.contains(&format!("kill -KILL {parent}")), "{told}");
    wait_until("all is gone", || processes_with(&name).is_empty());
    common::ok(["--", "true"]);
    assert_eq!(cgroups_of(&name), Vec::<std::path::PathBuf>::new());
}

/// The jail's directory in the unified hierarchy.
fn v2_of(name: &str) -> std::path::PathBuf {
    let mut dirs = cgroups_of(name).into_iter();
    dirs.find(|dir| dir.join("cgroup.events").exists()).unwrap()
}

/// Host PID of PID 1.
fn first_process(name: &str) -> i32 {
    let procs = std::fs::read_to_string(v2_of(name).join("cgroup.procs")).unwrap();
    procs.lines().next().unwrap().parse().unwrap()
}
