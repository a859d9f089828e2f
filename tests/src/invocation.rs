//! One run of `procjail`, with a deadline.

use std::fs::File;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Trace, read_trace, wait_until};

/// No run of a test takes longer: the launcher is killed and the test fails.
const DEADLINE: Duration = Duration::from_secs(60);

/// A command line being built.
#[derive(Debug)]
pub struct Invocation {
    command: Command,
    arguments: Vec<String>,
    directory: PathBuf,
    trace: Option<PathBuf>,
}

impl Invocation {
    /// The program; its output goes to files in `directory`.
    pub fn new(program: PathBuf, directory: &Path) -> Invocation {
        let mut command = Command::new(program);
        command
            .stdin(Stdio::null())
            .stdout(File::create(directory.join("stdout")).expect("a file for stdout"))
            .stderr(File::create(directory.join("stderr")).expect("a file for stderr"))
            // Terminals and colours of the machine must not matter.
            .env_remove("NO_COLOR")
            .env("TERM", "dumb");
        Invocation {
            command,
            arguments: Vec::new(),
            directory: directory.to_owned(),
            trace: None,
        }
    }

    /// More arguments.
    pub fn args(mut self, arguments: &[&str]) -> Invocation {
        self.command.args(arguments);
        self.arguments
            .extend(arguments.iter().map(|&text| text.to_owned()));
        self
    }

    /// The trace is written to `trace.jsonl` in the directory.
    pub(crate) fn traced(mut self) -> Invocation {
        self.trace = Some(self.directory.join("trace.jsonl"));
        self
    }

    /// The same, with the option that names the file.
    pub fn traced_by(self, option: &str) -> Invocation {
        let path = self.directory.join("trace.jsonl").display().to_string();
        self.args(&[option, &path]).traced()
    }

    /// An environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Invocation {
        self.command.env(name, value);
        self
    }

    /// Another standard input.
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Invocation {
        self.command.stdin(stdin);
        self
    }

    /// Another standard output.
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Invocation {
        self.command.stdout(stdout);
        self
    }

    /// Another standard error.
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Invocation {
        self.command.stderr(stderr);
        self
    }

    /// Something done in the child before it becomes procjail, to start it in an odd state.
    ///
    /// # Safety
    ///
    /// As for [`CommandExt::pre_exec`]: only async-signal-safe calls.
    pub unsafe fn before_exec(
        mut self,
        odd: impl FnMut() -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Invocation {
        // SAFETY: passed on to the caller.
        unsafe { self.command.pre_exec(odd) };
        self
    }

    /// No more descriptors than that may be open in it (`RLIMIT_NOFILE`).
    pub fn descriptors(self, count: u64) -> Invocation {
        let limit = libc::rlimit {
            rlim_cur: count,
            rlim_max: count,
        };
        // SAFETY: setrlimit is a bare system call.
        unsafe {
            self.before_exec(move || match libc::setrlimit(libc::RLIMIT_NOFILE, &limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            })
        }
    }

    /// Starts it.
    pub fn spawn(mut self) -> Running {
        let child = self.command.spawn().expect("procjail can be started");
        Running {
            child,
            started: Instant::now(),
            arguments: self.arguments,
            directory: self.directory,
            trace: self.trace,
        }
    }

    /// Starts it and waits for its end.
    pub fn finish(self) -> Finished {
        self.spawn().finish()
    }
}

/// A running procjail. Dropping it doesn't end it: the scene does.
#[derive(Debug)]
pub struct Running {
    child: Child,
    started: Instant,
    arguments: Vec<String>,
    directory: PathBuf,
    trace: Option<PathBuf>,
}

impl Running {
    /// The launcher's process ID.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Since the start.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Sends a signal to the launcher, which is not collected yet.
    pub fn signal(&self, signal: i32) {
        // SAFETY: kill has no preconditions.
        let result = unsafe { libc::kill(self.pid() as libc::pid_t, signal) };
        assert_eq!(result, 0, "cannot signal the launcher");
    }

    /// Waits until APP has printed a line; fails at once if procjail ends before.
    #[track_caller]
    pub fn wait_for_line(&self, line: &str) {
        let stdout = self.directory.join("stdout");
        wait_until(&format!("line {line:?} of APP"), DEADLINE, || {
            // In this order, or a line printed between the two would be missed.
            let ended = self.has_ended();
            let text = read(&stdout);
            let found = text.lines().any(|found| found == line);
            assert!(
                found || !ended,
                "procjail {:?} ended before APP printed {line:?}\nstdout:\n{text}\nstderr:\n{}",
                self.arguments,
                read(&self.directory.join("stderr"))
            );
            found.then_some(())
        });
    }

    /// Whether it has ended; it stays uncollected.
    pub fn has_ended(&self) -> bool {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        // The state follows the name, which is in parentheses.
        stat.rsplit_once(')')
            .is_none_or(|(_, rest)| rest.trim_start().starts_with('Z'))
    }

    /// Waits for the end.
    pub fn finish(mut self) -> Finished {
        while !self.has_ended() {
            if self.elapsed() > DEADLINE {
                let stderr = read(&self.directory.join("stderr"));
                let _ = self.child.kill();
                let _ = self.child.wait();
                panic!(
                    "procjail {:?} ran for {DEADLINE:?}; stderr:\n{stderr}",
                    self.arguments
                );
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let elapsed = self.elapsed();
        let status = self.child.wait().expect("the launcher's status");
        Finished {
            code: status.code(),
            signal: status.signal(),
            stdout: read(&self.directory.join("stdout")),
            stderr: read(&self.directory.join("stderr")),
            elapsed,
            arguments: self.arguments,
            trace: self.trace,
        }
    }
}

fn read(path: &Path) -> String {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .expect("the output file");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// How a run of procjail ended.
#[derive(Debug)]
pub struct Finished {
    /// Exit code.
    pub code: Option<i32>,
    /// Or the signal that ended the launcher.
    pub signal: Option<i32>,
    /// What APP and procjail wrote.
    pub stdout: String,
    /// The same for stderr.
    pub stderr: String,
    /// From the start to the end.
    pub elapsed: Duration,
    arguments: Vec<String>,
    trace: Option<PathBuf>,
}

impl Finished {
    /// Checks the exit code; shows everything if it is another.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Finished {
        assert_eq!(
            self.code,
            Some(code),
            "procjail {:?} (signal {:?})\nstdout:\n{}\nstderr:\n{}",
            self.arguments,
            self.signal,
            self.stdout,
            self.stderr
        );
        self
    }

    /// Checks that procjail refused: the exit code, one sentence with all of `words`, no output of APP.
    #[track_caller]
    pub fn expect_refusal(self, code: i32, words: &[&str]) -> Finished {
        let finished = self.expect_code(code);
        for word in words {
            assert!(
                finished.stderr.contains(word),
                "procjail {:?} does not say {word:?}:\n{}",
                finished.arguments,
                finished.stderr
            );
        }
        assert!(
            !finished.stderr.contains("panicked"),
            "procjail {:?} panicked:\n{}",
            finished.arguments,
            finished.stderr
        );
        finished
    }

    /// The trace file, which must be whole.
    #[track_caller]
    pub fn trace(&self) -> Trace {
        let path = self.trace.as_ref().expect("it was run by Scene::trace");
        let trace = read_trace(path);
        assert!(
            trace.footer.is_some(),
            "the trace has no footer; stderr:\n{}",
            self.stderr
        );
        trace
    }
}
