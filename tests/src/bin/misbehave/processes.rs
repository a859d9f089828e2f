//! Programs that make processes and don't look after them.

use crate::signals::install;
use crate::{Arguments, fail, fork, say, sleep_forever, sleep_ms, wait_for};

/// `N`: children that end and are never collected.
pub fn zombies(arguments: &Arguments) -> i32 {
    for _ in 0..arguments.number(1) {
        if fork() == 0 {
            return 0;
        }
    }
    // Long enough for the children to be dead when this process ends.
    sleep_ms(200);
    say("done");
    0
}

/// `N`: a child makes N processes and ends before them; prints how many were collected, the child
/// included, once there is none left.
pub fn orphans(arguments: &Arguments) -> i32 {
    if fork() == 0 {
        for _ in 0..arguments.number(1) {
            if fork() == 0 {
                sleep_ms(100);
                return 0;
            }
        }
        return 0;
    }
    let mut reaped = 0;
    while wait_for(-1, 0).0 > 0 {
        reaped += 1;
    }
    say(&reaped.to_string());
    0
}

/// The main thread ends first, then another thread ends the process with code 5.
pub fn threads_exit() -> i32 {
    for _ in 0..2 {
        std::thread::spawn(|| sleep_forever());
    }
    std::thread::spawn(|| {
        sleep_ms(100);
        // SAFETY: exit_group ends the process.
        unsafe { libc::syscall(libc::SYS_exit_group, 5) };
    });
    // SAFETY: exit ends this thread only; the others don't use its stack.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    0
}

/// Forks until the kernel refuses; prints how often it could and why it stopped.
pub fn fork_fail() -> i32 {
    for made in 0..10_000 {
        // SAFETY: the process has one thread.
        match unsafe { libc::fork() } {
            0 => sleep_forever(),
            -1 => {
                let error = std::io::Error::last_os_error();
                say(&format!(
                    "made {made}, then errno {}",
                    error.raw_os_error().unwrap_or(0)
                ));
                return 0;
            }
            _ => {}
        }
    }
    fail("no limit in 10000 forks")
}

/// A child executes a program that doesn't exist and exits 127, as a shell would.
pub fn exec_fail() -> i32 {
    let child = fork();
    if child == 0 {
        let name = c"/nonexistent/program";
        let argv = [name.as_ptr(), std::ptr::null()];
        // SAFETY: the array is NULL-terminated and its strings are NUL-terminated.
        unsafe { libc::execv(name.as_ptr(), argv.as_ptr()) };
        return 127;
    }
    libc::WEXITSTATUS(wait_for(child, 0).1)
}

/// Leaves a daemon behind that ignores SIGTERM and SIGHUP, in a session of its own.
pub fn double_fork_daemon() -> i32 {
    let child = fork();
    if child == 0 {
        // SAFETY: setsid has no preconditions.
        unsafe { libc::setsid() };
        if fork() == 0 {
            install(libc::SIGTERM, libc::SIG_IGN);
            install(libc::SIGHUP, libc::SIG_IGN);
            sleep_forever();
        }
        return 0;
    }
    wait_for(child, 0);
    sleep_ms(100);
    say("done");
    0
}

/// Switches its parent-death signal off and stays: only the launcher's second line can end it.
pub fn clear_pdeathsig() -> i32 {
    // SAFETY: prctl with these arguments touches no memory of ours.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, 0, 0, 0, 0) } != 0 {
        fail("prctl");
    }
    install(libc::SIGTERM, libc::SIG_IGN);
    install(libc::SIGHUP, libc::SIG_IGN);
    say("ready");
    sleep_forever()
}

/// `CODE`: a thread ends the whole process by exit_group(2), while the main thread sleeps.
pub fn exit_by_thread(arguments: &Arguments) -> i32 {
    let code = arguments.number(1) as i32;
    std::thread::spawn(move || {
        sleep_ms(50);
        // SAFETY: exit_group ends the process.
        unsafe { libc::syscall(libc::SYS_exit_group, code) };
    });
    sleep_forever()
}
