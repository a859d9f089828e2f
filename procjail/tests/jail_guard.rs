//! Nothing of a jail survives its launcher, whatever APP does against it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use common::{command, spawn};

/// Processes of the host whose environment has this mark.
fn marked(mark: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment
            .windows(mark.len())
            .any(|part| part == mark.as_bytes())
        {
            let comm = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            found.push(format!(
                "{} {}",
                entry.file_name().to_string_lossy(),
                comm.trim()
            ));
        }
    }
    found
}

/// Waits until no marked process is left.
#[track_caller]
fn assert_all_gone(mark: &str) {
    let start = Instant::now();
    loop {
        let left = marked(mark);
        if left.is_empty() {
            return;
        }
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "survivors: {left:?}"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Only a living process can remove the cgroups of a launcher that was killed.
fn clean() {
    let program = env!("CARGO_BIN_EXE_procjail");
    let status = std::process::Command::new(program)
        .arg("clean")
        .output()
        .unwrap()
        .status;
    assert!(status.success());
}

fn mark(name: &str) -> String {
    format!("JAIL_GUARD_TEST={name}-{}", std::process::id())
}

#[test]
fn a_running_jail_dies_with_its_launcher() {
    // Ignored signals, sessions of their own, orphans.
    let script = "trap '' TERM INT HUP; (setsid sleep 60 &) ; sleep 60 & echo ready; wait; wait";
    for init in [false, true] {
        let mark = mark(&format!("running-{init}"));
        let mut args = vec!["--env", &mark];
        args.extend(init.then_some("--init"));
        args.extend(["--", "sh", "-c", script]);
        let mut launcher = spawn(command(&args));
        launcher
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut [0; 6])
            .unwrap();
        // One that is just executing has no environment to be seen.
        let start = Instant::now();
        while marked(&mark).len() < 3 {
            assert!(start.elapsed() < common::LIMIT, "{:?}", marked(&mark));
        }
        launcher.kill().unwrap();
        assert_eq!(launcher.wait().unwrap().signal(), Some(libc::SIGKILL));
        assert_all_gone(&mark);
    }
    clean();
}

#[test]
fn app_cannot_outlive_the_launcher_by_disarming_pid_1() {
    let mark = mark("disarmed");
    // prctl(PR_SET_PDEATHSIG, 0).
    let script = "import ctypes, os, time\n\
        ctypes.CDLL(None).prctl(1, 0)\n\
        if os.fork() == 0:\n    os.setsid()\n\
        else:\n    print('ready', flush=True)\n\
        time.sleep(60)";
    let mut launcher = spawn(command(["--env", &mark, "--", "python3", "-c", script]));
    launcher
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut [0; 6])
        .unwrap();
    assert_eq!(marked(&mark).len(), 2);
    launcher.kill().unwrap();
    launcher.wait().unwrap();
    assert_all_gone(&mark);
    clean();
}

#[test]
fn a_launcher_killed_at_any_instant_of_the_start_leaves_no_process() {
    let mark = mark("random");
    for round in 0..60u64 {
        let mut command = command(["--env", &mark, "--user", "65534", "--", "sleep", "60"]);
        // The guard and the set-up child are marked as well: they are copies of the launcher.
        command.env("JAIL_GUARD_TEST", mark.split_once('=').unwrap().1);
        let mut launcher = spawn(command);
        // A debug build takes some milliseconds to get to APP; spread over all of it.
        std::thread::sleep(Duration::from_micros(round * 211 % 9000));
        launcher.kill().unwrap();
        launcher.wait().unwrap();
        assert_all_gone(&mark);
    }
    clean();
}

#[test]
fn a_killed_guard_is_the_end_of_the_jail() {
    let mark = mark("guard");
    let mut command = command(["--", "sh", "-c", "echo ready; exec sleep 60"]);
    command.env("JAIL_GUARD_TEST", mark.split_once('=').unwrap().1);
    let mut launcher = spawn(command);
    launcher
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut [0; 6])
        .unwrap();
    let found = marked(&mark);
    let guard = found
        .iter()
        .find(|process| process.ends_with("procjail-guard"))
        .expect("there is a guard");
    let pid: i32 = guard.split(' ').next().unwrap().parse().unwrap();
    // SAFETY: no pointer is passed; the guard is the launcher's child and not reaped yet.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    let output = common::wait(launcher);
    assert_eq!(output.status.code(), Some(128 + libc::SIGKILL));
    assert_all_gone(&mark);
}
