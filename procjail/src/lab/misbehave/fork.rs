//! Too many processes.

use super::{Act, Arguments, fail, fork, fork_with, say, sleep_ms, wait_for};

pub(super) const ACTS: &[Act] = &[
    ("fork-until-refused", fork_until_refused),
    ("fork-bomb", fork_bomb),
    ("pool", pool),
    ("reuse-pid", reuse_pid),
];

/// `MOST`: makes children that sleep until no more can be made, and fails then.
fn fork_until_refused(arguments: &Arguments<'_>) -> i32 {
    for made in 0..arguments.number(0) {
        // SAFETY: there is one thread.
        match unsafe { libc::fork() } {
            -1 => {
                say(&format!("refused after {made}"));
                fail("fork");
            }
            0 => {
                sleep_ms(3000);
                return 0;
            }
            _ => {}
        }
    }
    0
}

/// `GENERATIONS`: each process makes two, which do the same, as far as they are let.
fn fork_bomb(arguments: &Arguments<'_>) -> i32 {
    for _ in 0..arguments.number(0) {
        // Both go on: the number doubles.
        // SAFETY: there is one thread.
        if unsafe { libc::fork() } == -1 {
            break;
        }
        sleep_ms(10);
    }
    sleep_ms(300);
    0
}

/// `PID`: a child with that number, and when it is gone another one.
fn reuse_pid(arguments: &Arguments<'_>) -> i32 {
    for _ in 0..2 {
        let child = fork_as(arguments.number(0) as libc::pid_t);
        if child == 0 {
            sleep_ms(20);
            return 0;
        }
        wait_for(child);
    }
    0
}

/// fork(2) with the child's number chosen, as for a restored process: 0 in the child.
fn fork_as(number: libc::pid_t) -> libc::pid_t {
    // SAFETY: all zeros is a valid clone_args.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.set_tid = &raw const number as u64;
    args.set_tid_size = 1;
    // SAFETY: no CLONE_VM, and `number` is valid for reading.
    unsafe { fork_with(args) }
}

/// `COUNT MS`: a pool of workers, all made by one, which live for so long.
fn pool(arguments: &Arguments<'_>) -> i32 {
    for _ in 0..arguments.number(0) {
        if fork() == 0 {
            sleep_ms(arguments.number(1));
            return 0;
        }
    }
    sleep_ms(arguments.number(1) + 100);
    0
}
