//! From the gate to PID 1's end: signals, the grace period, and the decision to kill.
//!
//! Every wait has a deadline. The runtime is made here, after the jail's processes were cloned: a
//! clone of a program with threads would be unsafe.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::forward::{Forwarder, Target, forwardable};
use super::outcome::{Observer, Outcome};
use super::signals::{Received, named};
use super::{Jail, requester, teardown, terminal};
use crate::clock;
use crate::event;
use crate::pidfd;
use crate::procfs::state as proc;

impl Jail<'_> {
    /// Supervises a jail whose gate was opened, until PID 1 ended and everything is removed. Bounded:
    /// from a stop request by the grace period, from PID 1's end or the kill by `--teardown-timeout`.
    pub fn supervise(mut self, observer: &dyn Observer) -> Outcome {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build();
        let early = self.signals.take_early();
        let reason = match &runtime {
            Ok(runtime) => runtime.block_on(watch(&self, early, observer)),
            // Out of descriptors, say. Without a way to wait safely, the jail ends.
            Err(_) => Some(SUPERVISION_FAILED),
        };
        self.end(reason, observer)
    }

    /// Kills everything and removes the jail, within `--teardown-timeout`: for a jail that can't or
    /// shall not run. `reason` is told in the [`event::Kill`], such as `setup-failed`.
    pub fn abort(self, reason: &str, observer: &dyn Observer) -> Outcome {
        self.end(Some(reason), observer)
    }

    fn end(mut self, reason: Option<&str>, observer: &dyn Observer) -> Outcome {
        let started = self.opened.unwrap_or_else(Instant::now);
        let outcome = teardown::end(&mut self, started, reason, observer);
        if !outcome.remains.is_empty() {
            // The time is over. Dropping would try, and wait, once more.
            std::mem::forget(self);
        }
        outcome
    }
}

/// The launcher itself has a problem.
const SUPERVISION_FAILED: &str = "supervision-failed";

/// How often PID 1 is looked at without a reason. Its end shows at the pidfd, but only after all other
/// processes of its namespace are reaped: if one of them never is, nothing else tells.
const HEARTBEAT: Duration = Duration::from_millis(250);

/// Returns when PID 1 ended (none), or with the reason why everything must be killed now.
async fn watch(
    jail: &Jail<'_>,
    early: Vec<Received>,
    observer: &dyn Observer,
) -> Option<&'static str> {
    // SAFETY: both descriptors are borrowed from `jail`, which outlives this function and keeps them.
    let ready = |fd| unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    let (Ok(ended), Ok(signals)) = (
        ready(jail.spawned.pidfd.as_fd()),
        ready(jail.signals.as_fd()),
    ) else {
        return Some(SUPERVISION_FAILED);
    };
    let mut window = Window::new(jail, observer);
    for received in early {
        // The terminal's copy, if there was one, was dropped: APP did not exist.
        let received = Received {
            code: if received.code == libc::SI_KERNEL {
                libc::SI_USER
            } else {
                received.code
            },
            ..received
        };
        if let Some(reason) = window.receive(received) {
            return Some(reason);
        }
    }
    loop {
        let wake = window.wake().min(Instant::now() + HEARTBEAT);
        tokio::select! {
            biased;
            _ = ended.readable() => return None,
            guard = signals.readable() => {
                // Cleared first: what comes after the read makes it ready again.
                if let Ok(mut guard) = guard {
                    guard.clear_ready();
                }
                for mut received in jail.signals.read() {
                    if received.sender_pid != 0
                        && requester::numbered_inside(&jail.cgroups.pids(), received.sender_pid)
                    {
                        received.by = received.by.map(|by| Arc::new(requester::unknown(by.uid)));
                    }
                    if let Some(reason) = window.receive(received) {
                        return Some(reason);
                    }
                }
            }
            () = tokio::time::sleep_until(wake.into()) => {}
        }
        if let Some(reason) = window.tick(Instant::now()) {
            return Some(reason);
        }
    }
}

/// Two copies of a stop signal from one sender within this time are one request: timeout(1) signals
/// its child and then its whole process group.
const SAME_REQUEST: Duration = Duration::from_millis(50);

/// A running jail and, once a stop is requested, its grace period.
struct Window<'a> {
    jail: &'a Jail<'a>,
    observer: &'a dyn Observer,
    forwarder: Forwarder,
    /// The request and when the grace period expires.
    stop: Option<(Received, Instant)>,
    next_heartbeat: Instant,
}

impl<'a> Window<'a> {
    fn new(jail: &'a Jail<'a>, observer: &'a dyn Observer) -> Window<'a> {
        Window {
            jail,
            observer,
            forwarder: Forwarder::new(jail.plan.stop.as_is),
            stop: None,
            next_heartbeat: Instant::now() + HEARTBEAT,
        }
    }

    /// When there is something to do without a signal.
    fn wake(&self) -> Instant {
        let times = [self.ends(), self.forwarder.next_look()];
        times
            .into_iter()
            .flatten()
            .fold(self.next_heartbeat, Instant::min)
    }

    /// Deals with a signal that the launcher got. Returns a reason if everything must be killed now.
    fn receive(&mut self, received: Received) -> Option<&'static str> {
        tracing::debug!(?received, "signal");
        match stop_request(self.stop.as_ref().map(|(first, _)| first), &received) {
            Request::First => return self.open(received),
            Request::Second => {
                self.tell_request(&received, libc::SIGKILL, Duration::ZERO);
                return Some("second-signal");
            }
            Request::Copy => {}
            Request::None if received.signal == libc::SIGTSTP => self.suspend(received),
            Request::None if forwardable(received.signal) => {
                let arrived = received.arrived + self.jail.plan.stop.timeout;
                let deadline = self.ends().map_or(arrived, |ends| ends.min(arrived));
                self.forward(received, deadline);
            }
            Request::None => {}
        }
        None
    }

    /// Begins the grace period: the stop signal, then SIGCONT, for a stopped process can't obey.
    fn open(&mut self, received: Received) -> Option<&'static str> {
        let timeout = self.jail.plan.stop.timeout;
        let ends = received.arrived + timeout;
        let stop_signal = self.jail.plan.stop.signal.unwrap_or(received.signal);
        self.stop = Some((received.clone(), ends));
        self.tell_request(&received, stop_signal, timeout);
        if stop_signal == libc::SIGKILL {
            return Some("stop-signal");
        }
        // A key has reached APP already.
        if !terminal::sent_to_group(&received, self.jail.spawned.pid) {
            self.observer.before_stop();
        }
        if stop_signal == received.signal {
            self.forward(received, ends);
        } else {
            // Another signal than the one that the terminal may have sent as well.
            let stop = Received {
                signal: stop_signal,
                code: libc::SI_USER,
                ..received
            };
            self.forward(stop, ends);
        }
        let _ = pidfd::send(&self.jail.spawned.pidfd, libc::SIGCONT);
        None
    }

    /// When the grace period expires, if it has begun.
    fn ends(&self) -> Option<Instant> {
        self.stop.as_ref().map(|(_, ends)| *ends)
    }

    fn tell_request(&self, received: &Received, stop_signal: i32, timeout: Duration) {
        let request = event::StopRequested {
            signal: named(received.signal),
            stop_signal: named(stop_signal),
            timeout_ns: timeout.as_nanos() as u64,
            by: received.by.as_deref().cloned(),
        };
        self.observer
            .observe(clock::boot_ns(), event::What::StopRequested(request));
    }

    /// What is due by now. Returns a reason if everything must be killed now.
    fn tick(&mut self, now: Instant) -> Option<&'static str> {
        self.forwarder.look(now, target(self.jail), self.observer);
        if self.ends().is_some_and(|ends| ends <= now) {
            self.forwarder.flush(target(self.jail), self.observer);
            return Some("stop-timeout");
        }
        if self.next_heartbeat <= now {
            self.next_heartbeat = now + HEARTBEAT;
            if proc::exiting(self.jail.spawned.pid) {
                // It is on its way out but something in its namespace keeps it: the clean-up, with
                // its time limit, begins.
                return Some("teardown");
            }
        }
        None
    }

    fn forward(&mut self, received: Received, deadline: Instant) {
        let by_terminal = terminal::sent_to_group(&received, self.jail.spawned.pid);
        self.forwarder.offer(
            received,
            by_terminal,
            deadline,
            target(self.jail),
            self.observer,
        );
    }

    /// Ctrl-Z: APP stops, then the launcher, so that the shell outside gets the terminal back. Returns
    /// when they are continued.
    fn suspend(&mut self, received: Received) {
        let by_terminal = terminal::sent_to_group(&received, self.jail.spawned.pid);
        let action = terminal::suspend(&received, by_terminal, target(self.jail));
        self.observer.observe(
            clock::boot_ns(),
            super::signals::forwarded(&received, action),
        );
    }
}

fn target<'a>(jail: &'a Jail<'_>) -> Target<'a> {
    Target {
        pid: jail.spawned.pid,
        pidfd: jail.spawned.pidfd.as_fd(),
    }
}

/// What a signal means for the grace period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    /// It begins the grace period.
    First,
    /// It ends the grace period now.
    Second,
    /// It is the first one once more.
    Copy,
    /// It is no request.
    None,
}

fn stop_request(first: Option<&Received>, received: &Received) -> Request {
    use libc::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
    match (received.signal, first) {
        (SIGTERM | SIGINT | SIGQUIT | SIGHUP, None) => Request::First,
        (signal, Some(first))
            if signal == first.signal
                && same_sender(first, received)
                && received.arrived.duration_since(first.arrived) < SAME_REQUEST =>
        {
            Request::Copy
        }
        (SIGTERM | SIGINT, Some(_)) => Request::Second,
        _ => Request::None,
    }
}

/// A process that signals the whole group is told with PID 0 to those that come after one of another PID
/// namespace: the kernel takes the number out for that one (`send_signal_locked` in kernel/signal.c), and
/// for all that follow. The terminal has none either, but another code.
fn same_sender(first: &Received, second: &Received) -> bool {
    let unnamed = |one: &Received| one.sender_pid == 0 && one.code == libc::SI_USER;
    let named = first.sender_pid != 0 && first.sender_pid == second.sender_pid;
    named || unnamed(first) || unnamed(second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use libc::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1};

    fn received(signal: i32, sender_pid: u32, arrived: Instant) -> Received {
        Received {
            signal,
            code: libc::SI_USER,
            sender_pid,
            value: 0,
            arrived,
            by: None,
        }
    }

    #[test]
    fn four_signals_ask_to_stop_and_two_of_them_insist() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        for signal in [SIGTERM, SIGINT, SIGQUIT, SIGHUP] {
            assert_eq!(
                stop_request(None, &received(signal, 7, now)),
                Request::First
            );
        }
        let first = received(SIGHUP, 7, now);
        for (signal, expected) in [
            (SIGTERM, Request::Second),
            (SIGINT, Request::Second),
            (SIGQUIT, Request::None),
            (SIGHUP, Request::None),
            (SIGUSR1, Request::None),
        ] {
            let second = received(signal, 7, later);
            assert_eq!(stop_request(Some(&first), &second), expected, "{signal}");
        }
        assert_eq!(
            stop_request(None, &received(SIGUSR1, 7, now)),
            Request::None
        );
    }

    #[test]
    fn a_copy_at_once_from_the_same_sender_is_the_same_request() {
        let now = Instant::now();
        let soon = now + Duration::from_millis(1);
        let first = received(SIGTERM, 7, now);
        let ask = |second| stop_request(Some(&first), &second);
        assert_eq!(ask(received(SIGTERM, 7, soon)), Request::Copy);
        assert_eq!(ask(received(SIGTERM, 8, soon)), Request::Second);
        assert_eq!(ask(received(SIGINT, 7, soon)), Request::Second);
        assert_eq!(
            ask(received(SIGTERM, 7, now + SAME_REQUEST)),
            Request::Second
        );
        // To the process, then to its group.
        assert_eq!(ask(received(SIGTERM, 0, soon)), Request::Copy);
        // The terminal: nobody types Ctrl-C twice by accident.
        let typed = |arrived| Received {
            code: libc::SI_KERNEL,
            ..received(SIGINT, 0, arrived)
        };
        assert_eq!(
            stop_request(Some(&typed(now)), &typed(soon)),
            Request::Second
        );
    }
}
