//! Programs that are killed, and programs that kill.

use super::stop::{child, kill};
use super::{Act, Arguments, fail, say, sleep_forever, sleep_ms, wait_for};

pub(super) const ACTS: &[Act] = &[
    ("kill-worker", kill_worker),
    ("idle-workers", workers),
    ("leave-workers", leave_workers),
    ("parent-death", parent_death),
    ("tracer", tracer),
    ("kill-all", kill_all),
];

/// Kills its worker, as a manager does whose worker doesn't answer: SIGTERM, which the worker ignores,
/// then SIGKILL.
fn kill_worker(_: &Arguments<'_>) -> i32 {
    let worker = child("worker", || {
        // SAFETY: SIG_IGN is a valid disposition.
        unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
        sleep_forever()
    });
    sleep_ms(100);
    kill(worker, libc::SIGTERM);
    sleep_ms(150);
    kill(worker, libc::SIGKILL);
    wait_for(worker);
    1
}

/// `COUNT`: has workers.
fn workers(arguments: &Arguments<'_>) -> i32 {
    for _ in 0..arguments.number(0) {
        child("worker", || sleep_forever());
    }
    say("ready");
    sleep_forever()
}

/// `COUNT`: has workers, and ends.
fn leave_workers(arguments: &Arguments<'_>) -> i32 {
    for _ in 0..arguments.number(0) {
        child("worker", || sleep_forever());
    }
    sleep_ms(100);
    0
}

/// A thread makes a child that is to die with its parent, and ends; the process does not.
fn parent_death(_: &Arguments<'_>) -> i32 {
    let thread = std::thread::spawn(|| {
        // SAFETY: the other thread only waits for this one, so it holds no lock that the child needs.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: these are system calls without pointers, but for the name, which ends in NUL.
            unsafe {
                libc::prctl(libc::PR_SET_NAME, c"worker".as_ptr());
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::alarm(60);
                loop {
                    libc::pause();
                }
            }
        }
        sleep_ms(100);
        pid
    });
    match thread.join() {
        Ok(pid) if pid > 0 => {
            wait_for(pid);
            sleep_ms(50);
            0
        }
        _ => fail("fork"),
    }
}

/// A child traces another one, so that it dies with it, and ends.
fn tracer(_: &Arguments<'_>) -> i32 {
    let app = child("app", || sleep_forever());
    let tracer = child("debugger", || {
        // SAFETY: PTRACE_SEIZE takes numbers only.
        let seized = unsafe {
            libc::ptrace(
                libc::PTRACE_SEIZE,
                app,
                std::ptr::null_mut::<libc::c_void>(),
                libc::PTRACE_O_EXITKILL as usize as *mut libc::c_void,
            )
        };
        if seized != 0 {
            fail("ptrace");
        }
        sleep_ms(100);
        std::process::exit(0)
    });
    wait_for(tracer);
    wait_for(app);
    0
}

/// A child kills everybody that it can.
fn kill_all(_: &Arguments<'_>) -> i32 {
    let workers: Vec<libc::pid_t> = (0..3)
        .map(|_| child("worker", || sleep_forever()))
        .collect();
    let killer = child("cleanup", || {
        sleep_ms(100);
        kill(-1, libc::SIGKILL);
        std::process::exit(0)
    });
    for pid in workers {
        wait_for(pid);
    }
    wait_for(killer);
    0
}
