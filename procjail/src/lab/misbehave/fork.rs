//! Too many processes.

use super::{Act, Arguments, fail, fork, say, sleep_ms};

pub(super) const ACTS: &[Act] = &[
    ("fork-until-refused", fork_until_refused),
    ("fork-bomb", fork_bomb),
    ("pool", pool),
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
