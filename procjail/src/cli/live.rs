//! What `run` says while its jail hangs: a line at a time, and never at the price of hanging itself.

use std::io::Write;
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::event::{Moment, What};
use crate::hang;
use crate::jail::Observer;

/// The user of an untraced jail, who wants to know only what it waits for.
pub struct Live;

impl Observer for Live {
    fn observe(&self, _time_ns: u64, what: What) {
        if let What::Snapshot(snapshot) = what
            && snapshot.moment == Moment::Stall
        {
            say(&hang::line(&snapshot));
        }
    }
}

/// A line on stderr if it takes one now: the teardown must not wait for a reader that doesn't read.
fn say(line: &str) {
    let stderr = std::io::stderr();
    let mut fds = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    let ready = matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1));
    if !ready {
        return;
    }
    // A pipe that is ready takes PIPE_BUF bytes at once.
    let mut text: String = line.chars().take(1000).collect();
    text.insert_str(0, "procjail: ");
    text.push('\n');
    let _ = stderr.lock().write_all(text.as_bytes());
}
