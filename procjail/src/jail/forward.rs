//! Each signal reaches PID 1 exactly once, although the kernel drops some.
//!
//! PID 1 of a namespace does not get a signal that it neither handles nor blocks, not even from
//! outside (`sig_task_ignored` in kernel/signal.c); only SIGKILL and SIGSTOP go through. An APP that
//! installs its handlers a moment after it started would lose what comes before. So the launcher looks
//! first, and holds a signal that would be dropped until there is someone to take it.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use super::outcome::Observer;
use super::signals::{self, MAX_HELD, Received};
use crate::clock;
use crate::event::ForwardAction;
use crate::pidfd;

/// What a process does with signals, one bit each (bit n-1 for signal n): proc_pid_status(5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Dispositions {
    pub caught: u64,
    pub ignored: u64,
    pub blocked: u64,
    pub pending: u64,
    /// It waits for something (state S), and does not just happen not to be running.
    pub sleeping: bool,
}

impl Dispositions {
    /// Those of a process; none if it is gone.
    pub fn of(pid: u32) -> Option<Dispositions> {
        let mut now =
            Dispositions::parse(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?);
        if now.sleeping {
            // While it waits, the kernel takes what it waits for out of the mask that it shows.
            now.blocked |= awaited(pid).unwrap_or(0);
        }
        Some(now)
    }

    fn parse(status: &str) -> Dispositions {
        let mask = |key: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(key))
                .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
                .unwrap_or(0)
        };
        Dispositions {
            caught: mask("SigCgt:"),
            ignored: mask("SigIgn:"),
            blocked: mask("SigBlk:"),
            pending: mask("ShdPnd:") | mask("SigPnd:"),
            sleeping: status
                .lines()
                .find_map(|line| line.strip_prefix("State:"))
                .is_some_and(|state| state.trim_start().starts_with('S')),
        }
    }
}

/// The signals that the main thread of a process waits for in sigtimedwait(2); none if it doesn't.
///
/// An init such as tini blocks all signals and waits for them so. In its wait they are blocked no longer,
/// but not dropped either (`sig_ignored` in kernel/signal.c looks at `real_blocked`).
fn awaited(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?;
    let mut words = text.split_whitespace();
    let number: libc::c_long = words.next()?.parse().ok()?;
    if number != libc::SYS_rt_sigtimedwait {
        return None;
    }
    let set = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
    let memory = std::fs::File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut mask = [0; 8];
    memory.read_exact_at(&mut mask, set).ok()?;
    Some(u64::from_ne_bytes(mask))
}

/// What becomes of a signal that is sent to the PID 1 of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Its handler runs, or it is ignored as APP (or the default action) wants it.
    Taken,
    /// It is blocked and has no handler: it stays pending until it is waited for (sigwait(3)), or is
    /// dropped when it is unblocked.
    Pending,
    /// The kernel drops it.
    Dropped,
}

/// Tells from PID 1's masks; the order is the kernel's (`sig_ignored`: a blocked signal is never
/// dropped).
pub(super) fn reach(signal: i32, now: &Dispositions) -> Reach {
    let Some(bit) = bit(signal) else {
        return Reach::Dropped;
    };
    match signal {
        libc::SIGKILL | libc::SIGSTOP => Reach::Taken,
        _ if (now.caught | now.ignored) & bit != 0 => Reach::Taken,
        _ if now.blocked & bit != 0 => Reach::Pending,
        // By default these do nothing, so there is nothing to lose.
        libc::SIGCONT | libc::SIGURG | libc::SIGWINCH | libc::SIGCHLD => Reach::Taken,
        _ => Reach::Dropped,
    }
}

/// The launcher passes this signal on. SIGKILL and SIGSTOP can't be received, SIGCHLD is about the
/// launcher's own child; SIGTTIN and SIGTTOU are about the launcher's own use of the terminal.
pub(super) fn forwardable(signal: i32) -> bool {
    !matches!(
        signal,
        libc::SIGKILL | libc::SIGSTOP | libc::SIGCHLD | libc::SIGTTIN | libc::SIGTTOU
    )
}

/// The process that signals are for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    pub pid: u32,
    pub pidfd: BorrowedFd<'a>,
}

impl Target<'_> {
    fn reach(&self, signal: i32) -> Reach {
        // A process that is gone is found out by sending.
        Dispositions::of(self.pid).map_or(Reach::Taken, |now| reach(signal, &now))
    }

    fn send(&self, received: &Received) -> ForwardAction {
        let sent = if received.code == libc::SI_QUEUE {
            pidfd::send_value(self.pidfd, received.signal, received.value)
        } else {
            pidfd::send(self.pidfd, received.signal)
        };
        match sent {
            Ok(()) => ForwardAction::Forwarded,
            Err(_) => ForwardAction::Failed,
        }
    }
}

/// First and longest pause between two looks at a PID 1 that has no handler.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Evidence that a block is meant, after which a signal is sent to be waited for. Shells and libraries
/// block everything for some microseconds; on a busy machine they can be off the processor for
/// milliseconds there, and a signal sent then is dropped when they unblock it. So a look at a process
/// that sleeps with the signal blocked weighs much, and one at a process that doesn't weighs little.
const BLOCK_IS_MEANT: u8 = 60;
const SLEEPING_LOOK: u8 = 20;
const OTHER_LOOK: u8 = 1;

/// Signals that are on their way.
#[derive(Debug, Default)]
pub(super) struct Forwarder {
    /// Nothing is held: what the kernel drops is lost, as under docker.
    as_is: bool,
    held: VecDeque<Held>,
    pause: Duration,
    next_look: Option<Instant>,
}

#[derive(Debug)]
struct Held {
    received: Received,
    deadline: Instant,
    /// It was sent, or the terminal did, while it was blocked. If it vanishes from there with neither
    /// block nor handler left, the kernel dropped it (`get_signal`) when it was unblocked.
    sent: bool,
    /// Evidence that PID 1 means to keep it blocked; see [`BLOCK_IS_MEANT`].
    blocked: u8,
}

impl Forwarder {
    /// Nothing is on its way. `as_is`: nothing will be held either.
    pub fn new(as_is: bool) -> Forwarder {
        Forwarder {
            as_is,
            ..Forwarder::default()
        }
    }

    /// Sends a signal, or holds it, at most until `deadline`. `by_terminal`: PID 1 got a copy from the
    /// terminal already.
    pub fn offer(
        &mut self,
        received: Received,
        by_terminal: bool,
        deadline: Instant,
        target: Target<'_>,
        observer: &dyn Observer,
    ) {
        let tell =
            |action| observer.observe(clock::boot_ns(), signals::forwarded(&received, action));
        let reach = match self.as_is {
            true => Reach::Taken,
            false => target.reach(received.signal),
        };
        if reach == Reach::Taken || (by_terminal && reach == Reach::Pending) {
            tell(if by_terminal {
                ForwardAction::SentByTerminal
            } else {
                target.send(&received)
            });
        }
        if reach == Reach::Taken {
            return;
        }
        let kept = self.may_hold(received.signal);
        if reach == Reach::Dropped {
            // A standard signal that is held already is merged with that one, as the kernel does.
            let merged = received.signal < libc::SIGRTMIN();
            tell(if kept || merged {
                ForwardAction::HeldNoHandler
            } else {
                ForwardAction::Failed
            });
        }
        if !kept {
            return;
        }
        self.held.push_back(Held {
            received,
            deadline,
            sent: by_terminal && reach == Reach::Pending,
            blocked: 0,
        });
        self.pause = FIRST_PAUSE;
        self.next_look = Some(Instant::now() + self.pause);
    }

    /// When [`Forwarder::look`] is to be called next.
    pub fn next_look(&self) -> Option<Instant> {
        self.next_look
    }

    /// Tries again what is held.
    pub fn look(&mut self, now: Instant, target: Target<'_>, observer: &dyn Observer) {
        if self.next_look.is_none_or(|next| now < next) {
            return;
        }
        let Some(dispositions) = Dispositions::of(target.pid) else {
            self.held.clear();
            self.next_look = None;
            return;
        };
        let mut sent_into_block = false;
        self.held.retain_mut(|held| {
            let tell = |action| {
                observer.observe(clock::boot_ns(), signals::forwarded(&held.received, action));
            };
            let signal = held.received.signal;
            held.blocked = match reach(signal, &dispositions) {
                Reach::Pending if dispositions.sleeping => {
                    held.blocked.saturating_add(SLEEPING_LOOK)
                }
                Reach::Pending => held.blocked.saturating_add(OTHER_LOOK),
                Reach::Taken | Reach::Dropped => 0,
            };
            match next(signal, held.sent, held.blocked, &dispositions) {
                Next::Done => false,
                Next::Wait if now < held.deadline => true,
                Next::Hold if now < held.deadline => {
                    tell(ForwardAction::HeldNoHandler);
                    held.sent = false;
                    true
                }
                Next::Wait | Next::Hold => {
                    if !held.sent {
                        // For the record: the kernel drops it.
                        target.send(&held.received);
                        tell(ForwardAction::SentAtDeadline);
                    }
                    false
                }
                Next::Send { watch } => {
                    tell(target.send(&held.received));
                    held.sent = true;
                    sent_into_block |= watch;
                    watch
                }
            }
        });
        if sent_into_block {
            self.pause = FIRST_PAUSE / 2;
        }
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        self.next_look = (!self.held.is_empty()).then(|| Instant::now() + self.pause);
    }

    /// The end: what is still held is sent anyway, so that the trace shows what the kernel does with it.
    pub fn flush(&mut self, target: Target<'_>, observer: &dyn Observer) {
        for held in self.held.drain(..).filter(|held| !held.sent) {
            target.send(&held.received);
            observer.observe(
                clock::boot_ns(),
                signals::forwarded(&held.received, ForwardAction::SentAtDeadline),
            );
        }
        self.next_look = None;
    }

    /// As the kernel queues: a standard signal once, real-time signals up to a limit.
    fn may_hold(&self, signal: i32) -> bool {
        let held = self
            .held
            .iter()
            .filter(|held| held.received.signal == signal);
        let most = if signal < libc::SIGRTMIN() {
            1
        } else {
            MAX_HELD
        };
        held.count() < most
    }
}

/// What to do with a held signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// It was taken.
    Done,
    /// Nothing has changed.
    Wait,
    /// It was dropped after all: hold it from now on.
    Hold,
    /// Send it; and watch it, because it is blocked.
    Send { watch: bool },
}

fn next(signal: i32, sent: bool, blocked: u8, now: &Dispositions) -> Next {
    let pending = bit(signal).is_some_and(|bit| now.pending & bit != 0);
    match (sent, reach(signal, now)) {
        (false, Reach::Dropped) => Next::Wait,
        (false, Reach::Taken) => Next::Send { watch: false },
        (false, Reach::Pending) if blocked < BLOCK_IS_MEANT => Next::Wait,
        (false, Reach::Pending) => Next::Send { watch: true },
        (true, _) if pending => Next::Wait,
        // Consumed: by a handler, or by sigwait(3) or signalfd(2), which leave it blocked.
        (true, Reach::Taken | Reach::Pending) => Next::Done,
        (true, Reach::Dropped) => Next::Hold,
    }
}

fn bit(signal: i32) -> Option<u64> {
    let shift = u32::try_from(signal).ok()?.checked_sub(1)?;
    1u64.checked_shl(shift)
}

#[cfg(test)]
mod tests {
    use super::*;
    use libc::{
        SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGKILL, SIGSTOP, SIGTERM, SIGTTIN, SIGUSR1, SIGWINCH,
    };

    fn mask(signals: &[i32]) -> u64 {
        signals.iter().filter_map(|&signal| bit(signal)).sum()
    }

    #[test]
    fn the_kernels_rule_for_the_first_process() {
        let app = Dispositions {
            caught: mask(&[SIGTERM]),
            ignored: mask(&[SIGHUP]),
            blocked: mask(&[SIGUSR1]),
            ..Dispositions::default()
        };
        for (signal, expected) in [
            (SIGTERM, Reach::Taken),
            (SIGHUP, Reach::Taken),
            (SIGUSR1, Reach::Pending),
            (SIGINT, Reach::Dropped),
            (SIGWINCH, Reach::Taken),
            (SIGCONT, Reach::Taken),
            (SIGKILL, Reach::Taken),
            (SIGSTOP, Reach::Taken),
            (libc::SIGRTMIN() + 2, Reach::Dropped),
            (64, Reach::Dropped),
            (0, Reach::Dropped),
            (65, Reach::Dropped),
        ] {
            assert_eq!(reach(signal, &app), expected, "signal {signal}");
        }
    }

    #[test]
    fn what_is_handled_or_ignored_is_taken_even_if_it_is_blocked_now() {
        let both = |caught: &[i32], ignored: &[i32]| Dispositions {
            caught: mask(caught),
            ignored: mask(ignored),
            blocked: mask(&[SIGTERM]),
            ..Dispositions::default()
        };
        assert_eq!(reach(SIGTERM, &both(&[SIGTERM], &[])), Reach::Taken);
        assert_eq!(reach(SIGTERM, &both(&[], &[SIGTERM])), Reach::Taken);
    }

    #[test]
    fn a_held_signal_is_sent_when_a_handler_appears_and_only_once() {
        let nothing = Dispositions::default();
        let caught = Dispositions {
            caught: mask(&[SIGTERM]),
            ..nothing
        };
        assert_eq!(next(SIGTERM, false, BLOCK_IS_MEANT, &nothing), Next::Wait);
        assert_eq!(
            next(SIGTERM, false, BLOCK_IS_MEANT, &caught),
            Next::Send { watch: false }
        );
        assert_eq!(next(SIGTERM, true, BLOCK_IS_MEANT, &caught), Next::Done);
    }

    #[test]
    fn a_signal_sent_into_a_passing_block_is_not_lost() {
        let nothing = Dispositions::default();
        let blocked = Dispositions {
            blocked: mask(&[SIGTERM]),
            ..nothing
        };
        let pending = Dispositions {
            pending: mask(&[SIGTERM]),
            ..blocked
        };
        assert_eq!(
            next(SIGTERM, false, BLOCK_IS_MEANT, &blocked),
            Next::Send { watch: true }
        );
        assert_eq!(next(SIGTERM, false, 1, &blocked), Next::Wait);
        assert_eq!(next(SIGTERM, true, BLOCK_IS_MEANT, &pending), Next::Wait);
        // Unblocked without a handler: dropped by the kernel.
        assert_eq!(next(SIGTERM, true, BLOCK_IS_MEANT, &nothing), Next::Hold);
        // Still blocked but no more pending: sigwait(3) took it.
        assert_eq!(next(SIGTERM, true, BLOCK_IS_MEANT, &blocked), Next::Done);
    }

    #[test]
    fn what_is_about_the_launcher_itself_is_not_passed_on() {
        for signal in [SIGKILL, SIGSTOP, SIGCHLD, SIGTTIN] {
            assert!(!forwardable(signal));
        }
        for signal in [SIGTERM, SIGUSR1, SIGWINCH, libc::SIGSEGV, libc::SIGRTMAX()] {
            assert!(forwardable(signal));
        }
    }

    #[test]
    fn masks_are_read_from_status() {
        let status = "Name:\tx\nState:\tS (sleeping)\nSigQ:\t0/9\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000004000\n\
                      SigBlk:\t0000000000010000\nSigIgn:\t0000000000001000\nSigCgt:\t0000000180004002\n";
        let now = Dispositions::parse(status);
        assert_eq!(now.pending, mask(&[SIGTERM]));
        assert_eq!(now.blocked, mask(&[SIGCHLD]));
        assert_eq!(now.ignored, mask(&[libc::SIGPIPE]));
        assert_eq!(now.caught & mask(&[SIGINT, SIGTERM]), now.caught & 0xffff);
        assert!(now.sleeping && !Dispositions::parse("State:\tR (running)\n").sleeping);
        assert_eq!(
            Dispositions::parse("SigCgt:\tzz\n"),
            Dispositions::default()
        );
    }
}
