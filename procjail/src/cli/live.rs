//! What `run` says while its jail hangs: a line at a time, and never at the price of hanging itself.

use std::cell::Cell;
use std::io::Write;
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::event::{Moment, What};
use crate::evidence::stall_snapshot;
use crate::hang;
use crate::jail::{LookAtStall, Observer};

/// How long the report at the end waits for a reader, a line.
const PATIENCE_MS: u16 = 500;

/// The user of an untraced jail, who wants to know only what it waits for.
#[derive(Default)]
pub struct Live {
    /// The time is over: the report comes next.
    over: Cell<bool>,
}

impl Observer for Live {
    fn observe(&self, _time_ns: u64, what: What) {
        match what {
            What::Snapshot(snapshot) if snapshot.moment == Moment::Stall && !self.over.get() => {
                say(&hang::line(&snapshot), PollTimeout::ZERO);
            }
            What::Teardown(step) if step.error.is_some() => self.over.set(true),
            _ => {}
        }
    }

    fn look_at_stall(&self) -> Option<LookAtStall> {
        Some(stall_snapshot)
    }
}

/// Says what remains. A reader that doesn't read is waited for, but not long.
pub fn report(remains: &[String]) {
    for line in remains {
        say(line, PollTimeout::from(PATIENCE_MS));
    }
}

/// A line on stderr if it takes one in that time: nothing may wait for a reader that doesn't read.
fn say(line: &str, patience: PollTimeout) {
    let stderr = std::io::stderr();
    let mut fds = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    let ready = matches!(poll(&mut fds, patience), Ok(1));
    if !ready {
        return;
    }
    // A pipe that is ready takes PIPE_BUF bytes at once.
    let mut text: String = line.chars().take(1000).collect();
    text.insert_str(0, "procjail: ");
    text.push('\n');
    let _ = stderr.lock().write_all(text.as_bytes());
}
