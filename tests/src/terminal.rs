//! A terminal for tests: a pty with a program as its session leader.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::pty::{OpenptyResult, Winsize, openpty};

use crate::wait_until;

/// A terminal and the program that it was opened for.
#[derive(Debug)]
pub struct Terminal {
    keyboard: File,
    screen: Arc<Mutex<String>>,
    child: Child,
}

impl Terminal {
    /// Starts a program as the leader of a new session on a terminal of 24 rows and 80 columns.
    pub fn start(program: &str, arguments: &[&str]) -> Terminal {
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let OpenptyResult { master, slave } = openpty(&size, None).expect("a pty");
        let copy = || slave.try_clone().expect("a descriptor");
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("TERM", "dumb")
            .stdin(copy())
            .stdout(copy())
            .stderr(copy());
        // SAFETY: setsid and ioctl are async-signal-safe; descriptor 0 is the terminal by now.
        unsafe {
            command.pre_exec(|| {
                if libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) != 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn().expect("the program can be started");
        // The command holds copies of the slave: without them the reader sees the end.
        drop((command, slave));

        let keyboard = File::from(master);
        let mut reader = keyboard.try_clone().expect("a descriptor");
        let screen = Arc::new(Mutex::new(String::new()));
        let shown = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The end of a pty is EIO.
            while let Ok(length @ 1..) = reader.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..length]);
                shown
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push_str(&text);
            }
        });
        Terminal {
            keyboard,
            screen,
            child,
        }
    }

    /// The program's process ID.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Types keys, such as `\x03` for Ctrl-C.
    pub fn type_keys(&mut self, keys: &str) {
        self.keyboard
            .write_all(keys.as_bytes())
            .expect("the terminal takes keys");
    }

    /// Changes the size of the window.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: TIOCSWINSZ reads a winsize.
        let result = unsafe { libc::ioctl(self.keyboard.as_raw_fd(), libc::TIOCSWINSZ, &size) };
        assert_eq!(result, 0, "cannot resize the terminal");
    }

    /// All that was shown so far.
    pub fn screen(&self) -> String {
        self.screen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// How many lines so far are this one.
    pub fn lines_that_are(&self, line: &str) -> usize {
        // The terminal echoes keys in front of the program's next line.
        self.screen()
            .lines()
            .filter(|shown| shown.trim_end().ends_with(line))
            .count()
    }

    /// Waits until a text is shown.
    pub fn wait_for(&self, text: &str) {
        wait_until(
            &format!("{text:?} on the terminal"),
            Duration::from_secs(20),
            || self.screen().contains(text).then_some(()),
        );
    }

    /// Waits for the program's end.
    pub fn finish(mut self) -> ExitStatus {
        wait_until(
            "end of the program on the terminal",
            Duration::from_secs(20),
            || self.child.try_wait().expect("the program's status"),
        )
    }
}
