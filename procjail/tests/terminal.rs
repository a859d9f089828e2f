//! On a terminal: Ctrl-C once, Ctrl-Z and fg together, window sizes, and the terminal given back.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use common::LIMIT;

/// A shell with job control on a terminal of its own.
struct Shell {
    terminal: File,
    child: Child,
    output: Receiver<String>,
    seen: String,
}

impl Shell {
    fn start() -> Shell {
        let pty = nix::pty::openpty(None, None).unwrap();
        let slave = pty.slave;
        let mut command = Command::new("bash");
        command
            .args(["--norc", "--noprofile", "-i"])
            .env("PS1", "$ ")
            .env("PROCJAIL", env!("CARGO_BIN_EXE_procjail"))
            .stdin(Stdio::from(slave.try_clone().unwrap()))
            .stdout(Stdio::from(slave.try_clone().unwrap()))
            .stderr(Stdio::from(slave));
        // SAFETY: system calls only, between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY, 0);
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        // The command holds copies of the slave; with them the terminal would never end.
        drop(command);
        // SAFETY: a descriptor that nobody else owns.
        let copy = unsafe { OwnedFd::from_raw_fd(libc::dup(pty.master.as_raw_fd())) };
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let mut reader = File::from(copy);
            let mut bytes = [0; 4096];
            while let Ok(length) = reader.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
                if length == 0 || sender.send(text).is_err() {
                    return;
                }
            }
        });
        Shell {
            terminal: File::from(pty.master),
            child,
            output,
            seen: String::new(),
        }
    }

    fn send(&mut self, keys: &str) {
        self.terminal.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for a text in the output, and forgets all up to its end.
    #[track_caller]
    fn expect(&mut self, text: &str) -> String {
        let start = Instant::now();
        loop {
            if let Some(at) = self.seen.find(text) {
                let before = self.seen[..at].to_owned();
                self.seen.drain(..at + text.len());
                return before;
            }
            let left = LIMIT.saturating_sub(start.elapsed());
            match self.output.recv_timeout(left) {
                Ok(more) => self.seen.push_str(&more),
                Err(error) => panic!("no {text:?} ({error}) in {:?}", self.seen),
            }
        }
    }

    /// All that comes within a time.
    fn gather(&mut self, time: Duration) -> String {
        let end = Instant::now() + time;
        while let Ok(more) = self
            .output
            .recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            self.seen.push_str(&more);
        }
        std::mem::take(&mut self.seen)
    }

    fn resize(&self, rows: u16) {
        let size = libc::winsize {
            ws_row: rows,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: `size` is valid.
        let result = unsafe { libc::ioctl(self.terminal.as_raw_fd(), libc::TIOCSWINSZ, &size) };
        assert_eq!(result, 0);
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.terminal.write_all(b"\x03\x03\nexit\nexit\n");
        std::thread::sleep(Duration::from_millis(100));
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Counts a signal until another one ends it.
const COUNT: &str = "import os, signal, sys\n\
    n = 0\n\
    def count(s, f):\n\
    \x20   global n\n\
    \x20   n += 1\n\
    \x20   os.write(1, b'[%s %d]' % (signal.Signals(s).name.encode(), n))\n\
    for s in (signal.SIGINT, signal.SIGQUIT, signal.SIGWINCH): signal.signal(s, count)\n\
    signal.signal(signal.SIGUSR1, lambda s, f: sys.exit(5))\n\
    os.write(1, b'[ready]')\n\
    while True: signal.pause()";

fn count_script() -> tempfile::NamedTempFile {
    let mut script = tempfile::NamedTempFile::new().unwrap();
    script.write_all(COUNT.as_bytes()).unwrap();
    script
}

#[test]
fn ctrl_c_reaches_app_once() {
    let script = count_script();
    let mut shell = Shell::start();
    shell.send(&format!(
        "$PROCJAIL run --stop-timeout 1s -- python3 {}\n",
        script.path().display()
    ));
    shell.expect("[ready]");
    shell.send("\x03");
    shell.expect("[SIGINT 1]");
    let more = shell.gather(Duration::from_millis(500));
    assert!(!more.contains("[SIG"), "{more}");
    // It handled it and stayed: the window closes.
    shell.send("echo rc=$?\n");
    shell.expect("rc=137");
}

#[test]
fn ctrl_c_before_the_handler_reaches_app_once() {
    // Has a handler only after half a second. (python3 and sh have one for SIGINT from the start.)
    let app = "$| = 1; print '['.'begin]'; select undef, undef, undef, 0.5; $n = 0; \
               $SIG{INT} = sub { $n++ }; \
               for (1..30) { select undef, undef, undef, 0.01 } print '['.\"n=$n]\"; exit 7";
    let mut script = tempfile::NamedTempFile::new().unwrap();
    script
        .write_all(app.replace("\\\"", "\"").as_bytes())
        .unwrap();
    let mut shell = Shell::start();
    for delay in [0, 50, 200] {
        shell.send(&format!(
            "$PROCJAIL run -- perl {}\n",
            script.path().display()
        ));
        shell.expect("[begin]");
        std::thread::sleep(Duration::from_millis(delay));
        shell.send("\x03");
        shell.expect("[n=1]");
        shell.send("echo rc=$?\n");
        shell.expect("rc=7");
    }
}

#[test]
fn two_ctrl_c_end_an_app_that_does_not_listen() {
    let mut shell = Shell::start();
    shell.send("$PROCJAIL run --stop-timeout 60s -- sh -c 'trap \"\" INT; echo \"[\"ready]; sleep 100'; echo rc=$?\n");
    shell.expect("[ready]");
    shell.send("\x03");
    std::thread::sleep(Duration::from_millis(200));
    shell.send("\x03");
    shell.expect("rc=137");
}

#[test]
fn window_sizes_pass_once() {
    let script = count_script();
    let mut shell = Shell::start();
    shell.send(&format!(
        "$PROCJAIL run --stop-timeout 1s -- python3 {}\n",
        script.path().display()
    ));
    shell.expect("[ready]");
    shell.resize(33);
    shell.expect("[SIGWINCH 1]");
    let more = shell.gather(Duration::from_millis(300));
    assert!(!more.contains("[SIG"), "{more}");
}

#[test]
fn ctrl_z_stops_and_fg_resumes_both() {
    let mut shell = Shell::start();
    shell.send(
        "$PROCJAIL run --stop-timeout 1s -- sh -c 'i=0; while :; do i=$((i+1)); echo \"<$i\"\">\"; sleep 0.05; done'\n",
    );
    shell.expect("<3>");
    shell.send("\x1a");
    shell.expect("Stopped");
    shell.gather(Duration::from_millis(200));
    // Nothing runs on behind the prompt.
    let behind = shell.gather(Duration::from_millis(400));
    assert!(!behind.contains('<'), "{behind}");
    shell.send("echo sh''ell\n");
    shell.expect("shell");
    shell.send("fg\n");
    shell.expect("<");
    shell.expect("<");
    // And again.
    shell.send("\x1a");
    shell.expect("Stopped");
    shell.send("bg; sleep 0.3; kill -TERM %1; wait\n");
    shell.expect("Exit 137");
}

#[test]
fn the_terminal_is_given_back_after_an_inner_shell() {
    let mut shell = Shell::start();
    shell.send("$PROCJAIL run -- bash --norc --noprofile -i\n");
    shell.send("echo in''ner $$\n");
    shell.expect("inner 1\r\n");
    // Killed, it can't give the terminal back itself.
    shell.send("python3 -c 'import os; os._exit(0)'; exec true\n");
    shell.send("echo rc=$? ba''ck\n");
    shell.expect("rc=0 back");
    // A second one finds the terminal as the first did.
    shell.send("$PROCJAIL run -- sh -c 'read x; echo \"<$x\"\">\"'\n");
    shell.send("word\n");
    shell.expect("<word>");
}
