//! How APP starts: its namespaces, descriptors, signals, capabilities, user, limits and environment.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{command, hostile, ok, output, run, text};

#[test]
fn app_is_pid_1_of_namespaces_of_its_own() {
    let script = "echo $$; for n in pid mnt uts ipc cgroup net; do readlink /proc/self/ns/$n; done; cat /proc/self/cgroup";
    let inside = ok(["--", "sh", "-c", script]);
    let mut lines = inside.lines();
    assert_eq!(lines.next(), Some("1"));
    for name in ["pid", "mnt", "uts", "ipc", "cgroup"] {
        let host = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_ne!(lines.next(), host.to_str(), "{name}");
    }
    let host = std::fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(
        lines.next(),
        host.to_str(),
        "the network is the host's by default"
    );
    let unified = lines.find(|line| line.starts_with("0::"));
    assert_eq!(
        unified,
        Some("0::/"),
        "the namespace is rooted at the jail's own cgroup"
    );
}

#[test]
fn without_a_network_there_is_a_loopback_interface_that_is_up() {
    let inside = ok([
        "--net",
        "none",
        "--",
        "cat",
        "/proc/net/dev",
        "/proc/net/route",
        "/proc/net/fib_trie",
    ]);
    assert!(
        inside.contains("lo:") && inside.contains("127.0.0.1"),
        "{inside}"
    );
    assert_eq!(
        inside
            .lines()
            .filter(|line| line.contains("bytes") || line.contains(": "))
            .count(),
        2,
        "{inside}"
    );
}

#[test]
fn proc_shows_the_jail_and_nothing_else() {
    let inside = ok(["--", "sh", "-c", "echo /proc/[0-9]*; cat /proc/1/comm"]);
    assert_eq!(inside, "/proc/1\nsh\n");
}

#[test]
fn nothing_of_a_hostile_parent_reaches_app() {
    let mut command = command(["--", "cat", "/proc/self/status", "/proc/self/fdinfo/7"]);
    hostile(&mut command, || {
        // SAFETY: system calls on valid values.
        unsafe {
            let mut all = std::mem::zeroed();
            libc::sigfillset(&mut all);
            libc::sigprocmask(libc::SIG_BLOCK, &all, std::ptr::null_mut());
            for signal in 1..65 {
                libc::signal(signal, libc::SIG_IGN);
            }
            for fd in [3, 7, 200] {
                libc::dup2(libc::open(c"/".as_ptr(), libc::O_RDONLY), fd);
            }
            // Inheritable: all that is permitted.
            let header: [u32; 2] = [0x2008_0522, 0];
            let mut data = [0u32; 6];
            libc::syscall(libc::SYS_capget, header.as_ptr(), data.as_mut_ptr());
            (data[2], data[5]) = (data[1], data[4]);
            libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr());
        }
    });
    let output = output(command);
    let status = String::from_utf8(output.stdout).unwrap();
    for name in [
        "SigBlk", "SigIgn", "SigCgt", "SigPnd", "ShdPnd", "CapInh", "CapAmb",
    ] {
        let line = status
            .lines()
            .find(|line| line.starts_with(name))
            .expect(name);
        assert!(line.ends_with(":\t0000000000000000"), "{line}");
    }
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("fdinfo/7: No such file"), "{said}");
}

#[test]
fn no_descriptor_above_2_is_open() {
    let list = |args: &[&str]| {
        let mut command = command(args);
        hostile(&mut command, || {
            for fd in [3, 7, 200] {
                // SAFETY: system calls on valid values.
                unsafe { libc::dup2(libc::open(c"/".as_ptr(), libc::O_RDONLY), fd) };
            }
        });
        String::from_utf8(output(command).stdout).unwrap()
    };
    // One more than the standard streams: the directory that is listed.
    assert_eq!(list(&["--", "ls", "/proc/self/fd"]), "0\n1\n2\n3\n");
    let both = list(&["--init", "--", "ls", "/proc/self/fd", "/proc/1/fd"]);
    assert_eq!(both, "/proc/1/fd:\n0\n1\n2\n\n/proc/self/fd:\n0\n1\n2\n3\n");
}

#[test]
fn standard_streams_are_passed_as_given() {
    let dir = tempfile::tempdir().unwrap();
    let (input, result) = (dir.path().join("in"), dir.path().join("out"));
    std::fs::write(&input, "hello").unwrap();
    let mut command = command(["--", "cat"]);
    command.stdin(std::fs::File::open(&input).unwrap());
    command.stdout(std::fs::File::create(&result).unwrap());
    assert!(command.status().unwrap().success());
    assert_eq!(std::fs::read_to_string(result).unwrap(), "hello");
}

#[test]
fn user_and_group_are_taken_on_without_further_groups() {
    let status = ok([
        "--user",
        "4321:8765",
        "--",
        "grep",
        "-E",
        "^(Uid|Gid|Groups|CapEff|CapPrm)",
        "/proc/self/status",
    ]);
    let words = |line: Option<&str>| {
        line.map(|line| {
            line.split_whitespace()
                .skip(1)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
    };
    let mut lines = status.lines();
    assert_eq!(words(lines.next()), Some(vec!["4321".to_owned(); 4]));
    assert_eq!(words(lines.next()), Some(vec!["8765".to_owned(); 4]));
    assert_eq!(words(lines.next()), Some(vec![]));
    assert_eq!(words(lines.next()), Some(vec!["0".repeat(16)]));
    assert_eq!(words(lines.next()), Some(vec!["0".repeat(16)]));
}

#[test]
fn resource_limits_are_set() {
    let args = [
        "--rlimit",
        "nofile=64:128",
        "--rlimit",
        "core=0",
        "--",
        "cat",
        "/proc/self/limits",
    ];
    let limits = ok(args);
    let of = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..]
            .split_whitespace()
            .take(2)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(of("Max open files"), ["64", "128"]);
    assert_eq!(of("Max core file size"), ["0", "0"]);
}

#[test]
fn environment_host_name_and_directory_are_as_asked() {
    let args = [
        "--clear-env",
        "--env",
        "A=b=c",
        "--env",
        "A=d\ne",
        "--hostname",
        "box",
        "--workdir",
        "/usr",
        "--",
        "/usr/bin/env",
        "-u",
        "NOTHING",
        "sh",
        "-c",
        "printf %s \"$A\"; echo \".$HOME.$(hostname).$(pwd)\"",
    ];
    assert_eq!(ok(args), "d\ne..box./usr\n");
    let mut inherited = command(["--env", "B=2", "--", "sh", "-c", "echo $A$B"]);
    inherited.env("A", "1").env("B", "1");
    assert_eq!(output(inherited).stdout, b"12\n");
}

#[test]
fn the_exit_code_is_apps() {
    assert_eq!(run(["--", "true"]).0, 0);
    assert_eq!(run(["--", "sh", "-c", "exit 7"]).0, 7);
    assert_eq!(run(["--init", "--", "sh", "-c", "exit 7"]).0, 7);
    // PID 1 can't kill itself by a signal, but the child of the reaper can.
    assert_eq!(
        run(["--init", "--", "sh", "-c", "kill -TERM $$"]).0,
        128 + 15
    );
    assert_eq!(
        run(["--init", "--", "sh", "-c", "kill -KILL $$"]).0,
        128 + 9
    );
    // A fault can: the kernel forces it.
    assert_eq!(run(["--", "sh", "-c", "kill -KILL $$; exit 3"]).0, 3);
}

#[test]
fn the_reaper_collects_orphans() {
    let script = "sh -c 'sleep 0.05 & exec true'; sleep 0.3; cat /proc/1/comm; echo /proc/[0-9]*";
    let inside = ok(["--init", "--", "sh", "-c", script]);
    // The reaper and sh: no zombie.
    assert_eq!(inside, "procjail-init\n/proc/1 /proc/2\n");
}

#[test]
fn the_reaper_forwards_signals() {
    let script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.01; done";
    let mut launcher = common::spawn(command(["--init", "--", "sh", "-c", script]));
    std::io::Read::read_exact(launcher.stdout.as_mut().unwrap(), &mut [0; 6]).unwrap();
    // SAFETY: no pointer is passed; the child is not reaped yet.
    unsafe { libc::kill(launcher.id() as i32, libc::SIGTERM) };
    assert_eq!(common::wait(launcher).status.code(), Some(9));
}

#[test]
fn app_is_found_by_the_path_of_the_jail() {
    let dir = tempfile::tempdir().unwrap();
    let tool = dir.path().join("tool-of-this-test");
    std::fs::write(&tool, "#!/bin/sh\necho $0 \"$@\"\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&tool, mode).unwrap();
    let path = format!("PATH=/nowhere:{}:/bin:/usr/bin", text(dir.path()));
    let said = ok(["--env", &path, "--", "tool-of-this-test", "-x"]);
    assert_eq!(said, format!("{} -x\n", text(&tool)));
    assert_eq!(run(["--", "tool-of-this-test"]).0, 127);
}

#[test]
fn nothing_of_the_launcher_can_be_reached() {
    // CVE-2019-5736: the launcher is not visible, and its file is busy.
    let script = "for p in /proc/[0-9]*; do readlink $p/exe; done | grep procjail; echo $?";
    assert_eq!(ok(["--", "sh", "-c", script]), "1\n");
    let (_, stdout, stderr) = run([
        "--init",
        "--",
        "sh",
        "-c",
        "echo x >>/proc/1/exe && echo written",
    ]);
    assert!(
        !stdout.contains("written") && stderr.contains("busy"),
        "{stdout}{stderr}"
    );
}
