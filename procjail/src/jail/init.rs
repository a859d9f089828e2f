//! `--init`: a small reaper at PID 1.
//!
//! It forwards signals to APP, collects every orphan of the jail, and ends with APP's status, a death
//! by signal n as 128+n: PID 1 can't die of most signals itself.

use std::ffi::c_int;

use super::sys::{self, CloneArgs};

/// Splits this process: the parent becomes the reaper and never returns, the child goes on to be APP.
pub fn split() -> sys::Result<()> {
    let args = CloneArgs {
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    // SAFETY: this process has one thread.
    match unsafe { sys::clone3(&args) }? {
        0 => Ok(()),
        app => reaper(app),
    }
}

fn reaper(app: libc::pid_t) -> ! {
    sys::set_comm(c"procjail-init");
    // Above all the report's pipe: its end tells the launcher that APP executes.
    let _ = sys::close_all_but(c_int::MAX);
    install_handlers();
    // SAFETY: an all-zero set is valid, and filled by the next call.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `all` is valid for writing.
    unsafe { libc::sigfillset(&mut all) };
    loop {
        // SAFETY: all zeros is a valid siginfo, and the call fills it.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: both are valid. All signals are blocked since the launcher's start.
        let signal = unsafe { libc::sigwaitinfo(&all, &mut info) };
        if signal == libc::SIGCHLD {
            reap(app);
        } else if signal > 0 && info.si_code != libc::SI_KERNEL {
            // What the kernel sends to the terminal's foreground processes APP gets itself.
            // SAFETY: no pointer is passed.
            unsafe { libc::kill(app, signal) };
        }
    }
}

/// Collects whoever has ended; ends if APP has.
fn reap(app: libc::pid_t) {
    let mut status: c_int = 0;
    loop {
        // SAFETY: `status` is valid for writing.
        let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG | libc::__WALL) };
        if pid <= 0 {
            return;
        }
        if pid == app {
            sys::exit(if libc::WIFSIGNALED(status) {
                128 + libc::WTERMSIG(status)
            } else {
                libc::WEXITSTATUS(status)
            });
        }
    }
}

/// A handler for every signal: without one the kernel drops what is sent to a PID 1, and the launcher
/// would wait for one to appear. The handlers never run, since the signals stay blocked.
fn install_handlers() {
    extern "C" fn nothing(_: c_int) {}
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: all zeros is a valid sigaction.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = nothing as extern "C" fn(c_int) as libc::sighandler_t;
        // SAFETY: `action` is valid. SIGKILL, SIGSTOP and the C library's own are refused.
        unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) };
    }
}
