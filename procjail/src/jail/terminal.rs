//! The controlling terminal, which sends its signals to a whole process group at once.
//!
//! APP stays in the launcher's session and process group, so that job control of the shell outside
//! works on both together. A signal of the terminal therefore reaches APP without the launcher's help.
//! Whether the kernel dropped APP's copy, for want of a handler, is judged when the launcher reads its
//! own copy: a handler that is installed in the microseconds between makes the judgement wrong. Signals
//! that come from elsewhere don't have this gap.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use nix::unistd::{Pid, getpgid, getpgrp, getsid, tcgetpgrp, tcsetpgrp};

use super::forward::{Dispositions, Reach, Target, reach};
use super::signals::{Received, empty_set};
use crate::event::ForwardAction;
use crate::pidfd;
use crate::procfs::state as proc;

/// The terminal, with the process group that was in the foreground at the start.
#[derive(Debug)]
pub(super) struct Terminal {
    tty: File,
    foreground: Pid,
}

impl Terminal {
    /// The launcher's controlling terminal, if it has one.
    pub fn open() -> Option<Terminal> {
        let tty = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOCTTY | libc::O_CLOEXEC)
            .open("/dev/tty")
            .ok()?;
        let foreground = tcgetpgrp(&tty).ok()?;
        Some(Terminal { tty, foreground })
    }

    /// Gives the terminal back to the launcher's group if a shell inside the jail took it: with that
    /// shell dead, nobody could read from it. (SIGTTOU is blocked.)
    pub fn restore(&self) {
        let ours = getpgrp();
        if self.foreground == ours && tcgetpgrp(&self.tty).is_ok_and(|now| now != ours) {
            let _ = tcsetpgrp(&self.tty, ours);
        }
    }
}

/// The terminal sent this signal to the whole process group, and `pid` is in that group.
pub(super) fn sent_to_group(received: &Received, pid: u32) -> bool {
    let same_group = getpgid(Some(Pid::from_raw(pid as i32))).is_ok_and(|group| group == getpgrp());
    let session_leader = getsid(None).is_ok_and(|session| session == Pid::this());
    same_group && to_group(received, session_leader)
}

/// SI_KERNEL (0x80) is what the terminal's driver sends with.
fn to_group(received: &Received, session_leader: bool) -> bool {
    received.code == libc::SI_KERNEL
        && match received.signal {
            libc::SIGINT | libc::SIGQUIT | libc::SIGTSTP | libc::SIGWINCH => true,
            // A hang-up is told to the leader of the session alone (`__tty_hangup`).
            libc::SIGHUP | libc::SIGCONT => !session_leader,
            _ => false,
        }
}

/// How long APP's own handler of SIGTSTP may take, to restore the terminal's settings say.
const GRACE: Duration = Duration::from_millis(100);

/// Stops PID 1 and then the launcher; returns when somebody continued it, after continuing PID 1.
///
/// PID 1 of a namespace can't be stopped by SIGTSTP (the kernel drops it without a handler, and a
/// handler that raises it again has no effect either), but by SIGSTOP from outside.
pub(super) fn suspend(received: &Received, by_terminal: bool, target: Target<'_>) -> ForwardAction {
    let now = Dispositions::of(target.pid).unwrap_or_default();
    let mut action = ForwardAction::SentByTerminal;
    let taken = reach(received.signal, &now) != Reach::Dropped;
    if !by_terminal {
        action = match pidfd::send(target.pidfd, received.signal) {
            Ok(()) => ForwardAction::Forwarded,
            Err(_) => ForwardAction::Failed,
        };
    }
    if ignored(received.signal, &now) {
        // APP wants to run on, and the launcher with it.
        return action;
    }
    if taken {
        let until = Instant::now() + GRACE;
        while Instant::now() < until && !proc::stopped(target.pid) {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    let _ = pidfd::send(target.pidfd, libc::SIGSTOP);
    stop_self();
    let _ = pidfd::send(target.pidfd, libc::SIGCONT);
    action
}

fn ignored(signal: i32, now: &Dispositions) -> bool {
    now.ignored & (1 << (signal - 1)) != 0
}

/// Takes the default action of SIGTSTP. The kernel refuses to stop a process whose group has no shell
/// that could continue it; then this returns at once.
fn stop_self() {
    let mut set = empty_set();
    // SAFETY: `set` is a valid set, and the action of SIGTSTP is the default one.
    unsafe {
        libc::sigaddset(&mut set, libc::SIGTSTP);
        libc::raise(libc::SIGTSTP);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut());
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(signal: i32, code: i32) -> Received {
        Received {
            signal,
            code,
            sender_pid: 0,
            value: 0,
            arrived: Instant::now(),
            by: None,
        }
    }

    #[test]
    fn only_the_terminals_own_signals_are_shared() {
        for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGWINCH, libc::SIGHUP] {
            assert!(to_group(&received(signal, libc::SI_KERNEL), false));
            assert!(!to_group(&received(signal, libc::SI_USER), false));
        }
        assert!(!to_group(&received(libc::SIGTERM, libc::SI_KERNEL), false));
    }

    #[test]
    fn a_hang_up_told_to_the_session_leader_is_passed_on() {
        assert!(!to_group(&received(libc::SIGHUP, libc::SI_KERNEL), true));
        assert!(to_group(&received(libc::SIGINT, libc::SI_KERNEL), true));
    }
}
