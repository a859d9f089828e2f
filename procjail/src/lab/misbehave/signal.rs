//! Programs that end by the signals of pipes, terminals and timers.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::stop::child;
use super::{Act, Arguments, fail, sleep_forever, sleep_ms, wait_for};

pub(super) const ACTS: &[Act] = &[
    ("pipe", pipe),
    ("hang-up", hang_up),
    ("orphan-group", orphan_group),
    ("ctrl-c", ctrl_c),
    ("timer", timer),
];

/// `yes | head`.
fn pipe(_: &Arguments<'_>) -> i32 {
    let mut ends = [0; 2];
    // SAFETY: there is room for two descriptors.
    if unsafe { libc::pipe(ends.as_mut_ptr()) } != 0 {
        fail("pipe");
    }
    let [out, into] = ends;
    let head = child("head", || {
        close(into);
        read(out);
        std::process::exit(0)
    });
    let yes = child("yes", || {
        close(out);
        for _ in 0..10_000_000 {
            write(into, b"y\n");
        }
        std::process::exit(0)
    });
    close(out);
    close(into);
    wait_for(head);
    wait_for(yes);
    0
}

fn close(fd: RawFd) {
    // SAFETY: the descriptor is this program's own, and not used again.
    unsafe { libc::close(fd) };
}

fn read(fd: RawFd) -> isize {
    let mut byte = [0u8; 1];
    // SAFETY: there is room for one byte.
    unsafe { libc::read(fd, byte.as_mut_ptr().cast(), 1) }
}

fn write(fd: RawFd, bytes: &[u8]) {
    // SAFETY: `bytes` is valid for reading.
    unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
}

/// Both ends of a new terminal: the one that a terminal emulator has, and the name of the other.
fn terminal() -> (OwnedFd, std::ffi::CString) {
    let mut name = [0; 64];
    // SAFETY: no pointer but that of `name`, which is as long as is said.
    unsafe {
        let fd = libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC);
        if fd < 0 || libc::grantpt(fd) != 0 || libc::unlockpt(fd) != 0 {
            fail("posix_openpt");
        }
        if libc::ptsname_r(fd, name.as_mut_ptr(), name.len()) != 0 {
            fail("ptsname");
        }
        (
            OwnedFd::from_raw_fd(fd),
            std::ffi::CStr::from_ptr(name.as_ptr()).to_owned(),
        )
    }
}

/// Leads a new session on that terminal.
fn lead_session(name: &std::ffi::CStr) {
    // SAFETY: `name` ends in NUL.
    unsafe {
        libc::setsid();
        let fd = libc::open(name.as_ptr(), libc::O_RDWR);
        if fd < 0 || libc::ioctl(fd, libc::TIOCSCTTY, 0) != 0 {
            fail("open the terminal");
        }
    }
}

/// A terminal emulator that closes while something runs in it.
fn hang_up(_: &Arguments<'_>) -> i32 {
    let (outer, name) = terminal();
    let app = child("app", || {
        close(outer.as_raw_fd());
        lead_session(&name);
        sleep_forever()
    });
    sleep_ms(150);
    drop(outer);
    wait_for(app);
    0
}

/// A job is stopped when the shell that made it ends.
fn orphan_group(_: &Arguments<'_>) -> i32 {
    let shell = child("jobs", || {
        // SAFETY: setsid has no preconditions.
        unsafe { libc::setsid() };
        let job = child("job", || {
            // SAFETY: both have no preconditions.
            unsafe {
                libc::setpgid(0, 0);
                libc::raise(libc::SIGSTOP);
            }
            sleep_forever()
        });
        let mut status = 0;
        // SAFETY: `status` is valid for writing.
        unsafe { libc::waitpid(job, &mut status, libc::WUNTRACED) };
        std::process::exit(0)
    });
    wait_for(shell);
    // The job is this program's now, as it is PID 1.
    wait_for(-1);
    0
}

/// Ctrl-C is typed at a terminal with two processes in the foreground.
fn ctrl_c(_: &Arguments<'_>) -> i32 {
    let (outer, name) = terminal();
    let app = child("app", || {
        close(outer.as_raw_fd());
        lead_session(&name);
        let second = child("helper", || sleep_forever());
        wait_for(second);
        sleep_forever()
    });
    sleep_ms(150);
    write(outer.as_raw_fd(), b"\x03");
    wait_for(app);
    // The helper is this program's now.
    wait_for(-1);
    0
}

/// A timer without a handler.
fn timer(_: &Arguments<'_>) -> i32 {
    let app = child("app", || {
        let time = libc::itimerval {
            it_interval: libc::timeval {
                tv_sec: 0,
                tv_usec: 0,
            },
            it_value: libc::timeval {
                tv_sec: 0,
                tv_usec: 100_000,
            },
        };
        // SAFETY: `time` is valid, and the old value is not asked for.
        unsafe { libc::setitimer(libc::ITIMER_REAL, &time, std::ptr::null_mut()) };
        sleep_forever()
    });
    wait_for(app);
    0
}
