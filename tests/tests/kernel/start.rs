//! The state that APP starts in.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;

use procjail_tests::{misbehave, scene};

fn values(output: &str) -> BTreeMap<&str, &str> {
    output
        .lines()
        .filter_map(|line| line.split_once('='))
        .collect()
}

#[test]
fn namespaces_are_new_and_proc_matches() {
    scene(|scene| {
        let finished = scene
            .run(&["--hostname", "jailed"], &[&misbehave(), "ns"])
            .finish()
            .expect_code(0);
        let inside = values(&finished.stdout);
        for namespace in ["pid", "mnt", "uts", "ipc", "cgroup"] {
            let host = std::fs::read_link(format!("/proc/self/ns/{namespace}")).expect("a link");
            assert_ne!(inside[namespace], host.display().to_string(), "{namespace}");
        }
        for namespace in ["net", "user"] {
            let host = std::fs::read_link(format!("/proc/self/ns/{namespace}")).expect("a link");
            assert_eq!(inside[namespace], host.display().to_string(), "{namespace}");
        }
        assert_eq!(inside["getpid"], "1");
        assert_eq!(inside["hostname"], "jailed");
        assert_eq!(
            inside["pid1"], "misbehave",
            "/proc is that of the PID namespace"
        );
    });
}

#[test]
fn net_none_is_an_empty_namespace() {
    scene(|scene| {
        let finished = scene
            .run(&["--net", "none"], &["/bin/cat", "/proc/net/dev"])
            .finish()
            .expect_code(0);
        let devices: Vec<&str> = finished
            .stdout
            .lines()
            .skip(2)
            .filter_map(|line| line.split_once(':'))
            .map(|(name, _)| name.trim())
            .filter(|name| *name != "lo")
            .collect();
        // Only what the kernel puts in every namespace (tunnel fallback devices) may be there.
        assert!(
            !devices.iter().any(|name| name.starts_with("eth")),
            "{devices:?}"
        );
        assert!(finished.stdout.contains("lo:"));
    });
}

#[test]
fn no_descriptor_is_inherited() {
    scene(|scene| {
        let file = std::fs::File::open("/").expect("a descriptor onto the host's root");
        let number = file.as_raw_fd();
        // SAFETY: dup2 and fcntl are async-signal-safe; 77 is free in the child.
        let invocation = unsafe {
            scene.run(&[], &[&misbehave(), "fds"]).before_exec(move || {
                libc::dup2(number, 77);
                Ok(())
            })
        };
        let finished = invocation.finish().expect_code(0);
        let open: Vec<&str> = values(&finished.stdout).into_keys().collect();
        assert_eq!(open, ["0", "1", "2"], "{}", finished.stdout);
        let trace = scene
            .trace(&[], &[&misbehave(), "fds"])
            .finish()
            .expect_code(0);
        let open: Vec<&str> = values(&trace.stdout).into_keys().collect();
        assert_eq!(open, ["0", "1", "2"], "{}", trace.stdout);
    });
}

#[test]
fn signal_state_is_clean_whatever_the_caller_had() {
    scene(|scene| {
        // SAFETY: all calls are async-signal-safe.
        let invocation = unsafe {
            scene.run(&[], &[&misbehave(), "sigstate"]).before_exec(|| {
                let mut set: libc::sigset_t = std::mem::zeroed();
                libc::sigemptyset(&mut set);
                libc::sigaddset(&mut set, libc::SIGUSR1);
                libc::sigaddset(&mut set, libc::SIGTERM);
                libc::sigaddset(&mut set, libc::SIGCHLD);
                libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
                libc::signal(libc::SIGUSR2, libc::SIG_IGN);
                libc::signal(libc::SIGCHLD, libc::SIG_IGN);
                libc::signal(libc::SIGPIPE, libc::SIG_IGN);
                Ok(())
            })
        };
        let finished = invocation.finish().expect_code(0);
        let state = values(&finished.stdout);
        for name in ["SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"] {
            assert_eq!(state[name], "0000000000000000", "{name}");
        }
    });
}

#[test]
fn environment_user_and_directory_are_as_asked() {
    scene(|scene| {
        let finished = scene
            .run(
                &["--clear-env", "--env", "A=1", "--env", "B=x=y"],
                &[&misbehave(), "env"],
            )
            .env("SECRET", "no")
            .finish()
            .expect_code(0);
        assert_eq!(finished.stdout, "A=1\nB=x=y\n");
        // The user must be able to execute the program: a system one, not the target directory's.
        let finished = scene
            .run(
                &["--user", "65534:65534", "--workdir", "/tmp"],
                &["/bin/sh", "-c", "id -u; id -g; pwd"],
            )
            .finish()
            .expect_code(0);
        assert_eq!(finished.stdout, "65534\n65534\n/tmp\n");
        let finished = scene
            .run(
                &["--rlimit", "nofile=64:128"],
                &["/bin/sh", "-c", "ulimit -Sn; ulimit -Hn"],
            )
            .finish()
            .expect_code(0);
        assert_eq!(finished.stdout, "64\n128\n");
    });
}

#[test]
fn probes_are_attached_before_the_first_instruction() {
    scene(|scene| {
        let trace = scene
            .trace(&[], &[&misbehave(), "exit", "0"])
            .finish()
            .expect_code(0)
            .trace();
        trace.expect_complete();
        use procjail::event::What;
        let position = |wanted: fn(&What) -> bool| {
            trace
                .events
                .iter()
                .position(|event| wanted(&event.what))
                .expect("the event")
        };
        let created = position(|what| matches!(what, What::JailCreated(_)));
        let exec = position(|what| matches!(what, What::Exec(_)));
        let exit = position(|what| matches!(what, What::Exit(_)));
        let ended = position(|what| matches!(what, What::JailExited(_)));
        assert!(
            created < exec && exec < exit && exit < ended,
            "{}",
            trace.summary()
        );
    });
}
