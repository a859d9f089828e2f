//! The signals that the launcher gets, as a stream.
//!
//! All are blocked and read from a signalfd(2), so none has an effect on the launcher itself and none
//! is lost between two instructions. They are opened before the jail's processes are cloned: a signal
//! that comes before APP executes waits here.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Instant;

use nix::errno::Errno;

use super::outcome::Observer;
use super::requester;
use super::terminal::Terminal;
use crate::event::{self, ForwardAction};
use crate::{clock, names};

/// The launcher's signals from now on. Open them once, in the main thread, before any other thread and
/// any clone.
#[derive(Debug)]
pub struct Signals {
    fd: OwnedFd,
    early: Vec<Received>,
    pub(super) terminal: Option<Terminal>,
}

/// A signal that the launcher got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Number.
    pub signal: i32,
    /// `si_code`: SI_USER, SI_QUEUE, SI_KERNEL, ….
    pub code: i32,
    /// Who sent it; 0 for the kernel or a process of another PID namespace.
    pub sender_pid: u32,
    /// Value of SI_QUEUE.
    pub value: u64,
    /// When the launcher read it.
    pub arrived: Instant,
    /// The sender, as it was then; none for the kernel.
    pub by: Option<Arc<event::Requester>>,
}

/// Real-time signals queue one by one; so many are kept for an APP that can't take them, more are
/// refused as the kernel refuses more than RLIMIT_SIGPENDING.
pub(super) const MAX_HELD: usize = 1024;

impl Signals {
    /// Undoes what the parent left (ignored signals, a mask), blocks all signals and opens the stream.
    /// The child of a clone starts with all blocked and has to empty its own mask.
    ///
    /// Not blocked are the two that the C library keeps for itself (32 and 33).
    ///
    /// # Errors
    ///
    /// signalfd(2)'s.
    pub fn open() -> io::Result<Signals> {
        for signal in 1..=libc::SIGRTMAX() {
            default_if_ignored(signal);
        }
        let mut all = empty_set();
        // SAFETY: `all` is a valid set.
        unsafe { libc::sigfillset(&mut all) };
        // SAFETY: as above; the old mask isn't asked for.
        let errno = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &all, std::ptr::null_mut()) };
        if errno != 0 {
            return Err(io::Error::from_raw_os_error(errno));
        }
        // A child's changes of state are seen by its pidfd.
        // SAFETY: `all` is a valid set.
        unsafe { libc::sigdelset(&mut all, libc::SIGCHLD) };
        // SAFETY: `all` is a valid set; -1 asks for a new descriptor.
        let fd = Errno::result(unsafe {
            libc::signalfd(-1, &all, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC)
        })?;
        Ok(Signals {
            // SAFETY: the kernel just made this descriptor for us, nobody else knows it.
            fd: unsafe { OwnedFd::from_raw_fd(fd) },
            early: Vec::new(),
            terminal: Terminal::open(),
        })
    }

    /// Takes what has come and keeps it until APP executes. To be called when the descriptor gets
    /// readable while the jail is being set up.
    pub fn hold(&mut self, observer: &dyn Observer) {
        for received in self.read() {
            let kept = keep(&mut self.early, received.clone());
            let action = if kept {
                ForwardAction::HeldNotStarted
            } else {
                ForwardAction::Failed
            };
            observer.observe(clock::boot_ns(), forwarded(&received, action));
        }
    }

    /// How often the user asked to stop (SIGTERM, SIGINT) while the jail was being set up: twice means
    /// now.
    pub fn stop_requests(&self) -> usize {
        let asks = |received: &&Received| matches!(received.signal, libc::SIGTERM | libc::SIGINT);
        self.early.iter().filter(asks).count()
    }

    /// When the user asked first to stop the jail that was being set up.
    pub fn first_stop(&self) -> Option<Instant> {
        let asks = |received: &&Received| {
            matches!(
                received.signal,
                libc::SIGTERM | libc::SIGINT | libc::SIGQUIT | libc::SIGHUP
            )
        };
        self.early
            .iter()
            .find(asks)
            .map(|received| received.arrived)
    }

    /// What was held, in order.
    pub(super) fn take_early(&mut self) -> Vec<Received> {
        std::mem::take(&mut self.early)
    }

    /// All signals that wait now.
    pub(super) fn read(&self) -> Vec<Received> {
        let mut found: Vec<Received> = Vec::new();
        // Bounded: a storm of real-time signals must not keep the launcher from everything else.
        while found.len() < MAX_HELD
            && let Some(info) = self.read_one()
        {
            let arrived = Instant::now();
            let (signal, code, sender_pid) = (info.ssi_signo as i32, info.ssi_code, info.ssi_pid);
            let same = found
                .last()
                .filter(|last| sender_pid != 0 && last.sender_pid == sender_pid);
            let by = match same {
                Some(last) => last.by.clone(),
                None => requester::of(signal, code, sender_pid, info.ssi_uid).map(Arc::new),
            };
            let received = Received {
                signal,
                code,
                sender_pid,
                value: info.ssi_ptr,
                arrived,
                by,
            };
            if !self_inflicted(&received) {
                found.push(received);
            }
        }
        found
    }

    fn read_one(&self) -> Option<libc::signalfd_siginfo> {
        let mut info = std::mem::MaybeUninit::<libc::signalfd_siginfo>::zeroed();
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: the buffer has `size` bytes; signalfd writes whole records only.
        let read = unsafe { libc::read(self.fd.as_raw_fd(), info.as_mut_ptr().cast(), size) };
        // SAFETY: zeroed, and any content is a valid record of integers.
        (read == size as isize).then(|| unsafe { info.assume_init() })
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// Adds a signal to those that are kept, as the kernel does with pending ones: a standard signal once,
/// real-time signals one by one up to [`MAX_HELD`]. False if it was refused.
///
/// SIGTERM and SIGINT are kept as often as they come, up to two: the second means something else.
fn keep(kept: &mut Vec<Received>, received: Received) -> bool {
    let same = kept
        .iter()
        .filter(|held| held.signal == received.signal)
        .count();
    let most = match received.signal {
        libc::SIGTERM | libc::SIGINT => 2,
        signal if signal < libc::SIGRTMIN() => 1,
        _ => MAX_HELD,
    };
    if same >= most {
        // Merged into the one that is kept; a real-time signal is lost.
        return most < MAX_HELD;
    }
    kept.push(received);
    true
}

/// SIGPIPE and SIGXFSZ for the launcher's own writes (a closed stderr, a file size limit): they are not
/// APP's.
fn self_inflicted(received: &Received) -> bool {
    matches!(received.signal, libc::SIGPIPE | libc::SIGXFSZ)
        && received.sender_pid == std::process::id()
}

/// The event that tells what became of a signal.
pub(super) fn forwarded(received: &Received, action: ForwardAction) -> event::What {
    event::What::SignalForwarded(event::SignalForwarded {
        signal: named(received.signal),
        action,
        sender_pid: received.by.as_ref().map_or(0, |by| by.pid),
        held_ns: match action {
            ForwardAction::HeldNotStarted | ForwardAction::HeldNoHandler => 0,
            _ => received.arrived.elapsed().as_nanos() as u64,
        },
        by: received.by.as_deref().cloned(),
    })
}

/// A signal with its name.
pub(super) fn named(number: i32) -> event::Signal {
    event::Signal {
        number,
        name: names::signal(number),
    }
}

/// Only SIG_IGN can be inherited over execve; handlers are this program's own (Rust's, for stack
/// overflows) and stay. SIGPIPE is ignored by Rust's start-up code, rightly.
fn default_if_ignored(signal: i32) {
    if signal == libc::SIGPIPE {
        return;
    }
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: `action` is valid for writing; numbers that don't exist give EINVAL.
    let known = unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) } == 0;
    // SAFETY: zeroed, then written by the C library.
    let mut action = unsafe { action.assume_init() };
    if known && action.sa_sigaction == libc::SIG_IGN {
        action.sa_sigaction = libc::SIG_DFL;
        // SAFETY: `action` is what the C library gave, with the default action.
        unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) };
    }
}

pub(super) fn empty_set() -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: the set is valid for writing, and initialised by the call.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(signal: i32) -> Received {
        Received {
            signal,
            code: libc::SI_USER,
            sender_pid: 1,
            value: 0,
            arrived: Instant::now(),
            by: None,
        }
    }

    #[test]
    fn standard_signals_merge_and_real_time_signals_queue() {
        let mut kept = Vec::new();
        let rt = libc::SIGRTMIN() + 1;
        for signal in [libc::SIGUSR1, rt, libc::SIGUSR1, rt, libc::SIGTERM] {
            assert!(keep(&mut kept, received(signal)));
        }
        let numbers: Vec<_> = kept.iter().map(|held| held.signal).collect();
        assert_eq!(numbers, [libc::SIGUSR1, rt, rt, libc::SIGTERM]);
    }

    #[test]
    fn a_storm_of_real_time_signals_is_bounded() {
        let mut kept = Vec::new();
        for _ in 0..MAX_HELD {
            assert!(keep(&mut kept, received(libc::SIGRTMIN())));
        }
        assert!(!keep(&mut kept, received(libc::SIGRTMIN())));
        assert_eq!(kept.len(), MAX_HELD);
    }
}
