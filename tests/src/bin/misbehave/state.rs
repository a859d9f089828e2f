//! Programs that print the state they were started in, one `name=value` a line.

use std::fs;

use crate::{Arguments, fail, say};

/// Open descriptors and what they are.
pub fn descriptors() -> i32 {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else {
        fail("/proc/self/fd");
    };
    let mut lines: Vec<(i32, String)> = Vec::new();
    for entry in entries.flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        // The directory being read is not inherited.
        if target.to_string_lossy().ends_with("/fd") {
            continue;
        }
        let number = entry.file_name().to_string_lossy().parse().unwrap_or(-1);
        lines.push((number, format!("{number}={}", target.display())));
    }
    lines.sort();
    for (_, line) in lines {
        say(&line);
    }
    0
}

/// Blocked and ignored signals, parent-death signal left aside.
pub fn signals() -> i32 {
    let Ok(status) = fs::read_to_string("/proc/self/status") else {
        fail("/proc/self/status");
    };
    for line in status.lines() {
        if let Some((name, value)) = line.split_once(':')
            && ["SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"].contains(&name)
        {
            say(&format!("{name}={}", value.trim()));
        }
    }
    0
}

/// The environment.
pub fn environment() -> i32 {
    let mut lines: Vec<String> = std::env::vars_os()
        .map(|(name, value)| format!("{}={}", name.display(), value.display()))
        .collect();
    lines.sort();
    for line in lines {
        say(&line);
    }
    0
}

/// Namespaces, process IDs, user, host name, working directory, cgroups.
pub fn namespaces() -> i32 {
    for name in ["pid", "mnt", "uts", "ipc", "cgroup", "net", "user"] {
        let target = fs::read_link(format!("/proc/self/ns/{name}")).unwrap_or_default();
        say(&format!("{name}={}", target.display()));
    }
    // SAFETY: none of these calls has preconditions.
    let (pid, parent, uid, gid) = unsafe {
        (
            libc::getpid(),
            libc::getppid(),
            libc::getuid(),
            libc::getgid(),
        )
    };
    say(&format!("getpid={pid}"));
    say(&format!("getppid={parent}"));
    say(&format!("uid={uid}"));
    say(&format!("gid={gid}"));
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    say(&format!("hostname={}", host.trim()));
    let directory = std::env::current_dir().unwrap_or_default();
    say(&format!("cwd={}", directory.display()));
    // /proc must be that of this PID namespace: its PID 1 is then this jail's.
    let comm = fs::read_to_string("/proc/1/comm").unwrap_or_default();
    say(&format!("pid1={}", comm.trim()));
    for line in fs::read_to_string("/proc/self/cgroup")
        .unwrap_or_default()
        .lines()
    {
        say(&format!("cgroups={line}"));
    }
    0
}

/// `CODE FILE COUNT`: looks for a file, then COUNT times for others, gets some ordinary errors, exits.
pub fn fail_calls(arguments: &Arguments) -> i32 {
    let _ = fs::File::open(arguments.text(2));
    for index in 0..arguments.number(3) {
        let _ = fs::File::open(format!("/nonexistent/{index}"));
    }
    // SAFETY: both calls get valid pointers; descriptors are those of the pipe.
    unsafe {
        let mut pipe = [0; 2];
        if libc::pipe2(pipe.as_mut_ptr(), libc::O_NONBLOCK) != 0 {
            fail("pipe2");
        }
        let mut byte = 0_u8;
        // EAGAIN, ENOTTY.
        libc::read(pipe[0], (&raw mut byte).cast(), 1);
        libc::isatty(pipe[0]);
    }
    arguments.number(1) as i32
}
