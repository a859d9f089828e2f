//! Waiting for the end of the target, for a signal, or for a time; whichever comes first.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::cgroup::View;
use crate::event::DetachReason;
use crate::{pidfd, procfs};

/// How often it is asked whether the cgroup is empty: a target without a PID 1 of its own gives no notice.
const PERIOD: Duration = Duration::from_millis(20);

/// The same where PID 1's end is told.
const LONG_PERIOD: Duration = Duration::from_secs(1);

/// What is waited for, opened before the probes: so no end is missed.
#[derive(Debug)]
pub struct Watched {
    signals: SignalFd,
    /// Of PID 1, whose end is that of all in its namespace.
    pid_1: Option<OwnedFd>,
    view: View,
}

impl Watched {
    /// Blocks the signals that detach, for this thread and those made after; opens what tells the end.
    ///
    /// # Errors
    ///
    /// Out of descriptors; PID 1 is gone.
    pub fn open(view: &View, pid_1: u32) -> std::io::Result<Watched> {
        let mut signals = SigSet::empty();
        // Whoever starts it with one of them ignored, as nohup(1) does, means that.
        let ignored = procfs::read("/proc/self/status").unwrap_or_default();
        let ignored = procfs::Status::parse(&ignored).signals("SigIgn");
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            if ignored & (1 << (signal as i32 - 1)) == 0 {
                signals.add(signal);
            }
        }
        signals.thread_block()?;
        let pid_1 = (pid_1 != 0).then(|| pidfd::open(pid_1)).transpose()?;
        Ok(Watched {
            signals: SignalFd::with_flags(
                &signals,
                SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
            )?,
            pid_1,
            view: view.try_clone()?,
        })
    }
}

/// Waits, at most so long if a limit is given.
pub fn wait(watched: &Watched, limit: Option<Duration>) -> DetachReason {
    let end = limit.map(|limit| Instant::now() + limit);
    let period = match watched.pid_1 {
        Some(_) => LONG_PERIOD,
        None => PERIOD,
    };
    loop {
        let now = Instant::now();
        if end.is_some_and(|end| end <= now) {
            return DetachReason::TimeOver;
        }
        let left = end.map_or(period, |end| end.saturating_duration_since(now).min(period));
        let mut fds = vec![PollFd::new(watched.signals.as_fd(), PollFlags::POLLIN)];
        fds.extend(
            watched
                .pid_1
                .as_ref()
                .map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)),
        );
        // Rounded up: a rest of less than a millisecond must not spin.
        let ms = u16::try_from(left.as_micros().div_ceil(1000)).unwrap_or(u16::MAX);
        let _ = poll(&mut fds, PollTimeout::from(ms));
        let told = |index: usize| fds.get(index).is_some_and(|fd| fd.any().unwrap_or(false));
        if told(1) {
            return DetachReason::TargetEnded;
        }
        if told(0) {
            return DetachReason::Asked;
        }
        if !watched.view.is_populated() {
            return DetachReason::TargetEnded;
        }
    }
}
