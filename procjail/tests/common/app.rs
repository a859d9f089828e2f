//! Jails that run while the test does something to them.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// A running `procjail run`, killed when dropped.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    /// Starts it; its output is read line by line.
    pub fn start(mut command: Command) -> Running {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let stdout: ChildStdout = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Running { child, lines }
    }

    /// PID of the launcher.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Waits for a line of output.
    #[track_caller]
    pub fn expect(&self, line: &str) {
        match self.lines.recv_timeout(super::LIMIT) {
            Ok(got) => assert_eq!(got, line),
            Err(error) => panic!("no {line:?}: {error}"),
        }
    }

    /// The next line, if one comes in time.
    pub fn line_within(&self, time: Duration) -> Option<String> {
        self.lines.recv_timeout(time).ok()
    }

    /// Sends the launcher a signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: the launcher is our child and not reaped.
        assert_eq!(unsafe { libc::kill(self.pid(), signal) }, 0);
    }

    /// Waits for its end: how it ended, how long it took from now, and the rest of its output.
    #[track_caller]
    pub fn finish(mut self) -> (std::process::ExitStatus, Duration, Vec<String>) {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(start.elapsed() < super::LIMIT, "procjail did not end");
            std::thread::sleep(Duration::from_millis(1));
        };
        let took = start.elapsed();
        let mut rest = Vec::new();
        while let Some(line) = self.line_within(Duration::from_millis(200)) {
            rest.push(line);
        }
        (status, took, rest)
    }

    /// Waits for its end and gives the exit code.
    #[track_caller]
    pub fn code(self) -> i32 {
        self.finish()
            .0
            .code()
            .expect("procjail exits, whatever happens")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A name for a jail that no other test has.
pub fn unique(name: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{name}-{}-{next}", std::process::id())
}

/// All cgroup directories of a jail, in every hierarchy.
pub fn cgroups_of(name: &str) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let roots = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
    let roots = roots.map(|entry| entry.path());
    for root in roots.chain(std::iter::once("/sys/fs/cgroup".into())) {
        let jails = std::fs::read_dir(root.join("procjail"))
            .into_iter()
            .flatten();
        for jail in jails.flatten() {
            if jail
                .file_name()
                .to_str()
                .is_some_and(|found| found.starts_with(name))
            {
                found.push(jail.path());
            }
        }
    }
    found
}

/// Living processes with this text in their arguments, zombies not counted.
pub fn processes_with(text: &str) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid != std::process::id())
        .filter(|pid| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| String::from_utf8_lossy(&line).contains(text))
        })
        .collect()
}

/// Waits until something holds.
#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < super::LIMIT, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Small differing numbers; where a signal strikes must differ, not be unpredictable.
pub struct Random(pub u64);

impl Random {
    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
