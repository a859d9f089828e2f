//! Programs whose exit code says something else than what happened.

use std::net::TcpListener;

use super::{Act, Arguments, fork, shell_code, sleep_forever, sleep_ms, wait_for};

pub(super) const ACTS: &[Act] = &[
    ("used-port", used_port),
    ("like-shell", like_shell),
    ("launder", launder),
    ("daemonize", daemonize),
    ("wrap", wrap),
    ("steal", steal),
    ("ignore-children", ignore_children),
];

/// Binds a port that is taken, and gives up.
fn used_port(_: &Arguments<'_>) -> i32 {
    let taken = TcpListener::bind("127.0.0.1:0").and_then(|first| {
        let address = first.local_addr()?;
        Ok((first, address))
    });
    match taken {
        Ok((_first, address)) if TcpListener::bind(address).is_ok() => 0,
        _ => 1,
    }
}

/// A child that a signal kills.
fn killed_child(signal: i32) -> i32 {
    let child = fork();
    if child == 0 {
        // SAFETY: kill has no preconditions.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            libc::kill(libc::getpid(), signal);
        }
        sleep_forever();
    }
    wait_for(child).1
}

/// `SIGNAL`: a child is killed by it, and its status passed on as shells do.
fn like_shell(arguments: &Arguments<'_>) -> i32 {
    shell_code(killed_child(arguments.number(0) as i32))
}

/// `SIGNAL CODE`: a child is killed by it, and the code returned.
fn launder(arguments: &Arguments<'_>) -> i32 {
    killed_child(arguments.number(0) as i32);
    arguments.number(1) as i32
}

/// Goes to the background as daemons do: twice a child, with a session of its own between.
fn daemonize(_: &Arguments<'_>) -> i32 {
    let child = fork();
    if child == 0 {
        // SAFETY: setsid has no preconditions.
        unsafe { libc::setsid() };
        if fork() == 0 {
            sleep_forever();
        }
        return 0;
    }
    wait_for(child);
    // The daemon is under way.
    sleep_ms(50);
    0
}

/// Returns 256, of which nothing is left.
fn wrap(_: &Arguments<'_>) -> i32 {
    256
}

/// A thread collects any child; another one wants the status of a certain child, and comes too late.
fn steal(_: &Arguments<'_>) -> i32 {
    let child = fork();
    if child == 0 {
        sleep_ms(50);
        return 7;
    }
    let reaper = std::thread::spawn(|| wait_for(-1));
    let _ = reaper.join();
    match wait_for(child) {
        (reaped, status) if reaped == child => shell_code(status),
        _ => 1,
    }
}

/// Ignores SIGCHLD, so that a child's status is discarded, and wants it all the same.
fn ignore_children(_: &Arguments<'_>) -> i32 {
    // SAFETY: SIG_IGN is a valid disposition.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    let child = fork();
    if child == 0 {
        return 3;
    }
    let (reaped, status) = wait_for(child);
    // The kernel's release of the child comes a moment later.
    sleep_ms(150);
    match reaped == child {
        true => shell_code(status),
        false => 1,
    }
}
