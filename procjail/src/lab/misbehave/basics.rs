//! The simplest: exiting and sleeping.

use super::{Act, Arguments, say, sleep_forever};

pub(super) const ACTS: &[Act] = &[("exit", exit), ("sleep", sleep)];

/// `CODE`: exits with it.
fn exit(arguments: &Arguments<'_>) -> i32 {
    arguments.number(0) as i32
}

/// Sleeps, with no handler for anything.
fn sleep(_: &Arguments<'_>) -> i32 {
    say("ready");
    sleep_forever()
}
