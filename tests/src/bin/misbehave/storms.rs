//! Programs that make many events, and say how long they took: one number, nanoseconds.

use std::ffi::CString;
use std::time::Instant;

use crate::signals::{install_counter, receipts};
use crate::{Arguments, fail, say, wait_for};

/// `N [PROGRAM]`: fork, exec and wait, N times.
///
/// Plain calls, not posix_spawn(3): glibc's puts 130 calls of sigaction(2) in between, and the storm
/// would be one of those.
pub fn forks(arguments: &Arguments) -> i32 {
    let program = arguments.0.get(2).map_or("/bin/true", String::as_str);
    let program = CString::new(program).unwrap_or_default();
    let argv = [program.as_ptr(), std::ptr::null()];
    let start = Instant::now();
    for _ in 0..arguments.number(1) {
        // SAFETY: this program has one thread; the child only makes async-signal-safe calls.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: the string is NUL-terminated and the arrays are NULL-terminated.
            unsafe {
                libc::execve(program.as_ptr(), argv.as_ptr(), [std::ptr::null()].as_ptr());
                libc::_exit(127);
            }
        }
        if pid < 0 || wait_for(pid, 0) != (pid, 0) {
            fail("fork, exec, wait");
        }
    }
    say(&start.elapsed().as_nanos().to_string());
    0
}

/// `N`: N signals to itself, each handled before the next is sent.
pub fn signals(arguments: &Arguments) -> i32 {
    let count = arguments.number(1);
    install_counter(libc::SIGUSR1);
    let start = Instant::now();
    for _ in 0..count {
        // SAFETY: neither call has preconditions.
        unsafe { libc::kill(libc::getpid(), libc::SIGUSR1) };
    }
    let elapsed = start.elapsed();
    if receipts(libc::SIGUSR1) != count {
        fail("signals were lost");
    }
    say(&elapsed.as_nanos().to_string());
    0
}

/// `N`: the cheapest system call, N times.
pub fn syscalls(arguments: &Arguments) -> i32 {
    let start = Instant::now();
    for _ in 0..arguments.number(1) {
        // SAFETY: getppid has no preconditions; the raw call is never cached by the C library.
        unsafe { libc::syscall(libc::SYS_getppid) };
    }
    say(&start.elapsed().as_nanos().to_string());
    0
}
