//! The controlling terminal, which sends its signals to a whole process group at once.
//!
//! APP stays in the launcher's session and process group, so that job control of the shell outside
//! works on both together. A signal of the terminal therefore reaches APP without the launcher's help.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;

use nix::unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp};

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
