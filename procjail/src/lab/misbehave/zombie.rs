//! Programs that don't look after their children, and outsiders that enter a jail.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::{Act, Arguments, fail, fork, fork_with, say, sleep_forever, sleep_ms, wait_for};

pub(super) const ACTS: &[Act] = &[
    ("neglect-orphans", neglect_orphans),
    ("neglect-children", neglect_children),
    ("leave-main-thread", leave_main_thread),
    ("trace-and-forget", trace_and_forget),
    ("orphan", orphan),
    ("idle", idle),
    ("enter", enter),
];

/// Of clone(2); the C library's constant has 32 bits only.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// Longer than a zombie on its way lives, milliseconds.
const LASTING_MS: u64 = 1_300;

/// A child makes three others and ends; PID 1 collects that one, and none of those it inherits.
fn neglect_orphans(_: &Arguments<'_>) -> i32 {
    let maker = fork();
    if maker == 0 {
        for _ in 0..3 {
            if fork() == 0 {
                sleep_ms(50);
                return 0;
            }
        }
        return 0;
    }
    wait_for(maker);
    sleep_ms(LASTING_MS);
    0
}

/// A child makes three others that end, and does not collect them; PID 1 does all it should.
fn neglect_children(_: &Arguments<'_>) -> i32 {
    let maker = fork();
    if maker == 0 {
        for _ in 0..3 {
            if fork() == 0 {
                return 0;
            }
        }
        sleep_ms(LASTING_MS);
        return 0;
    }
    while wait_for(-1).0 > 0 {}
    0
}

/// The main thread ends, another one goes on.
fn leave_main_thread(_: &Arguments<'_>) -> i32 {
    std::thread::spawn(|| {
        sleep_ms(LASTING_MS);
        std::process::exit(0);
    });
    // SAFETY: exit(2) ends this thread only; the others don't use its stack.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    1
}

/// A child traces another one, which ends, and does not wait for it.
fn trace_and_forget(_: &Arguments<'_>) -> i32 {
    let traced = fork();
    if traced == 0 {
        sleep_ms(100);
        return 0;
    }
    let tracer = fork();
    if tracer == 0 {
        // SAFETY: PTRACE_SEIZE with no options touches no memory of ours.
        if unsafe { libc::ptrace(libc::PTRACE_SEIZE, traced, 0, 0) } != 0 {
            fail("ptrace");
        }
        sleep_ms(100 + LASTING_MS);
        return 0;
    }
    wait_for(traced);
    wait_for(tracer);
    0
}

/// A child leaves another one behind that lives on.
fn orphan(_: &Arguments<'_>) -> i32 {
    let maker = fork();
    if maker == 0 {
        if fork() == 0 {
            sleep_ms(LASTING_MS);
        }
        return 0;
    }
    while wait_for(-1).0 > 0 {}
    0
}

/// `MS`: does nothing for so long and ends, collecting whatever it inherits.
fn idle(arguments: &Arguments<'_>) -> i32 {
    say("ready");
    let start = std::time::Instant::now();
    while (start.elapsed().as_millis() as u64) < arguments.number(0) {
        // SAFETY: no status is wanted.
        unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) };
        sleep_ms(20);
    }
    0
}

/// `PID CGROUP LEAVES MS`: run outside a jail. Enters the PID namespace of PID, starts a process there and
/// in the cgroup, and collects it after MS. If LEAVES is 1, that process leaves another one behind.
fn enter(arguments: &Arguments<'_>) -> i32 {
    let pid = arguments.number(0) as libc::pid_t;
    let path = arguments.text(1);
    let cgroup = File::open(path).unwrap_or_else(|_| fail(path));
    // SAFETY: pidfd_open takes numbers only.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if pidfd < 0 {
        fail("pidfd_open");
    }
    // SAFETY: the descriptor was just made, and nobody else has it.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd as i32) };
    // SAFETY: the descriptor is open.
    if unsafe { libc::setns(pidfd.as_raw_fd(), libc::CLONE_NEWPID) } != 0 {
        fail("setns");
    }
    let leaves = arguments.number(2) == 1;
    let child = clone_into(&cgroup);
    if child == 0 {
        if leaves && fork() == 0 {
            sleep_forever();
        }
        return 0;
    }
    sleep_ms(arguments.number(3));
    wait_for(child);
    0
}

/// fork(2) into a cgroup: 0 in the child.
fn clone_into(cgroup: &File) -> libc::pid_t {
    // SAFETY: all zeros is a valid clone_args.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = CLONE_INTO_CGROUP;
    args.cgroup = cgroup.as_raw_fd() as u64;
    // SAFETY: no CLONE_VM, and nothing is pointed to.
    unsafe { fork_with(args) }
}
