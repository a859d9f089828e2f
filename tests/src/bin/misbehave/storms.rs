//! Programs that make many events, and say how long they took: one number, nanoseconds.

use std::ffi::CString;
use std::time::Instant;

use crate::signals::{install_counter, receipts};
use crate::{Arguments, fail, say, wait_for};

/// `N [PROGRAM]`: vfork, exec and wait, N times.
pub fn forks(arguments: &Arguments) -> i32 {
    let program = arguments.0.get(2).map_or("/bin/true", String::as_str);
    let program = CString::new(program).unwrap_or_default();
    let argv = [program.as_ptr(), std::ptr::null()];
    let start = Instant::now();
    for _ in 0..arguments.number(1) {
        let mut pid = 0;
        // posix_spawn is how glibc does vfork and exec.
        // SAFETY: the strings are NUL-terminated, the arrays NULL-terminated, `pid` is valid for writing.
        let error = unsafe {
            libc::posix_spawn(
                &mut pid,
                program.as_ptr(),
                std::ptr::null(),
                std::ptr::null(),
                argv.as_ptr().cast::<*mut libc::c_char>(),
                [std::ptr::null_mut()].as_ptr(),
            )
        };
        if error != 0 || wait_for(pid, 0) != (pid, 0) {
            fail("posix_spawn");
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
