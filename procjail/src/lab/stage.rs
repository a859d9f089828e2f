//! Where a scenario is played: the launcher with its jail, what is done from outside, and the undoing.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::Scenario;
use crate::exit::TEARDOWN_TIMEOUT;
use crate::jail;
use crate::trace::Header;

/// Longest time that a scenario may take before its launcher, and with it the jail, is killed.
const DEADLINE: Duration = Duration::from_secs(60);
/// How long the launcher may take to go after that.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Why a scenario could not be played.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The machine lacks something.
    #[error("this machine does not have what it needs: {0}")]
    Needs(String),
    /// Something outside the jail could not be done.
    #[error("cannot {what}: {}", crate::names::io_error(error))]
    Io {
        /// What was tried, on what.
        what: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// Something did not happen in time.
    #[error("waited {} for {what}", humantime::format_duration(*waited))]
    Late {
        /// What did not happen.
        what: String,
        /// For how long it was waited.
        waited: Duration,
    },
    /// The launcher failed.
    #[error("procjail trace failed: {0}")]
    Launcher(String),
    /// The trace could not be read.
    #[error("cannot explain the trace: {0}")]
    Trace(String),
}

impl Failure {
    /// For `map_err`: what was tried, on what.
    pub fn of(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |error| Self::Io { what, error }
    }
}

/// One scenario while it is played.
pub struct Stage {
    scenario: &'static Scenario,
    directory: PathBuf,
    trace: PathBuf,
    launcher: Option<Child>,
    status: Option<ExitStatus>,
    lines: Option<Receiver<String>>,
    complaint: Option<thread::JoinHandle<String>>,
    undo: Vec<Box<dyn FnOnce()>>,
    extra: Vec<String>,
    until: Instant,
}

/// What a scenario does outside unless it says otherwise: start the jail and wait for its end.
pub(super) fn watch(stage: &mut Stage) -> Result<(), Failure> {
    stage.start()?;
    stage.wait().map(drop)
}

impl Stage {
    /// A stage in a directory; the trace goes to `trace`.
    pub(super) fn new(scenario: &'static Scenario, directory: &Path, trace: &Path) -> Self {
        Self {
            scenario,
            directory: directory.to_owned(),
            trace: trace.to_owned(),
            launcher: None,
            status: None,
            lines: None,
            complaint: None,
            undo: Vec::new(),
            extra: Vec::new(),
            until: Instant::now() + DEADLINE,
        }
    }

    /// The scenario that is played.
    pub fn scenario(&self) -> &'static Scenario {
        self.scenario
    }

    /// The scenario's own directory on the host, removed afterwards.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where the trace is written, line by line while the jail runs.
    pub fn trace(&self) -> &Path {
        &self.trace
    }

    /// Has something undone when the scenario is over, whatever becomes of it. The last one given is
    /// undone first; all that happens after the jail's end.
    pub fn undo(&mut self, action: impl FnOnce() + 'static) {
        self.undo.push(Box::new(action));
    }

    /// An option of `procjail trace` that is only known now; before [`Self::start`].
    pub fn option(&mut self, option: impl Into<String>) {
        self.extra.push(option.into());
    }

    /// The program as the jail sees it: procjail itself, under the scenario's name for it.
    pub fn program(&self) -> Result<PathBuf, Failure> {
        let own = std::env::current_exe().map_err(Failure::of("find procjail's own file"))?;
        if self.scenario.program.is_empty() {
            return Ok(own);
        }
        self.program_as(self.scenario.program)
    }

    /// The built-in program under another name, in the stage's directory.
    pub fn program_as(&self, name: &str) -> Result<PathBuf, Failure> {
        let own = std::env::current_exe().map_err(Failure::of("find procjail's own file"))?;
        let path = self.directory.join(name);
        if path.symlink_metadata().is_ok() {
            return Ok(path);
        }
        // In root's home, say, another user could not get at the file that a link leads to.
        let made = if self.scenario.options.contains(&"--user") && !open_to_all(&own) {
            fs::copy(&own, &path)
                .and_then(|_| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
        } else {
            symlink(&own, &path)
        };
        made.map_err(Failure::of(format!("create {}", path.display())))?;
        Ok(path)
    }

    fn filled(&self, text: &str) -> String {
        text.replace("{dir}", &self.directory.display().to_string())
    }

    /// Starts the launcher and the jail.
    ///
    /// # Errors
    ///
    /// procjail could not be started.
    pub fn start(&mut self) -> Result<(), Failure> {
        self.start_with(self.app_arguments()?)
    }

    fn app_arguments(&self) -> Result<Vec<String>, Failure> {
        let mut app = vec![
            self.program()?.display().to_string(),
            "misbehave".to_owned(),
        ];
        app.extend(self.scenario.app.iter().map(|text| self.filled(text)));
        Ok(app)
    }

    /// Starts the launcher with another program than the scenario's.
    ///
    /// # Errors
    ///
    /// procjail could not be started.
    pub fn start_with(&mut self, app: Vec<String>) -> Result<(), Failure> {
        let own = std::env::current_exe().map_err(Failure::of("find procjail's own file"))?;
        let mut command = Command::new(own);
        command
            .args(["trace", "--quiet", "-o"])
            .arg(&self.trace)
            .args(self.scenario.options.iter().map(|text| self.filled(text)))
            .args(&self.extra)
            .arg("--")
            .args(app)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // A lab that is killed takes its launcher with it, which gets the time to remove its jail.
        // SAFETY: prctl is a bare system call, which may be made after fork(2).
        unsafe {
            command.pre_exec(|| {
                nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM)
                    .map_err(io::Error::from)
            });
        }
        let mut launcher = command.spawn().map_err(Failure::of("start procjail"))?;
        let (sender, lines) = mpsc::channel();
        if let Some(stdout) = launcher.stdout.take() {
            thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        self.lines = Some(lines);
        if let Some(stderr) = launcher.stderr.take() {
            self.complaint = Some(thread::spawn(move || {
                // A bounded part: the program may write without end.
                io::read_to_string(io::Read::take(stderr, 64 << 10)).unwrap_or_default()
            }));
        }
        self.launcher = Some(launcher);
        Ok(())
    }

    /// Waits until the program has printed such a line.
    ///
    /// # Errors
    ///
    /// It ended, or the time is up.
    pub fn wait_for_line(&mut self, wanted: &str) -> Result<(), Failure> {
        self.line_that(wanted, |line| (line == wanted).then_some(()))
    }

    /// Waits for a line that begins so, and returns the rest of it.
    ///
    /// # Errors
    ///
    /// It ended, or the time is up.
    pub fn line_after(&mut self, start: &str) -> Result<String, Failure> {
        self.line_that(start, |line| line.strip_prefix(start).map(str::to_owned))
    }

    fn line_that<T>(
        &mut self,
        wanted: &str,
        pick: impl Fn(&str) -> Option<T>,
    ) -> Result<T, Failure> {
        let Some(lines) = &self.lines else {
            return Err(Failure::Launcher("it was not started".to_owned()));
        };
        loop {
            let left = self.until.saturating_duration_since(Instant::now());
            match lines.recv_timeout(left) {
                Ok(line) => {
                    if let Some(picked) = pick(&line) {
                        return Ok(picked);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    return Err(Failure::Late {
                        what: format!("the line \"{wanted}\""),
                        waited: DEADLINE,
                    });
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::Launcher(format!(
                        "it ended before the line \"{wanted}\""
                    )));
                }
            }
        }
    }

    /// Host PID of the launcher.
    pub fn launcher_pid(&self) -> u32 {
        self.launcher.as_ref().map_or(0, Child::id)
    }

    /// The header of the trace, which is written before the program starts.
    ///
    /// # Errors
    ///
    /// It was not written in time.
    pub fn header(&self) -> Result<Header, Failure> {
        self.poll("the trace's header", || self.header_now())
    }

    fn header_now(&self) -> Option<Header> {
        let mut line = String::new();
        BufReader::new(fs::File::open(&self.trace).ok()?)
            .read_line(&mut line)
            .ok()?;
        serde_json::from_str(&line).ok()
    }

    /// Host PID of the jail's PID 1.
    ///
    /// # Errors
    ///
    /// The jail was not made in time.
    pub fn pid1(&self) -> Result<u32, Failure> {
        self.header().map(|header| header.jail.pid)
    }

    /// Sends a signal to a process by its host PID.
    ///
    /// # Errors
    ///
    /// What kill(2) says.
    pub fn signal(&self, pid: u32, signal: i32) -> Result<(), Failure> {
        // SAFETY: kill has no preconditions.
        match unsafe { libc::kill(pid as libc::pid_t, signal) } {
            0 => Ok(()),
            _ => Err(Failure::of(format!("send signal {signal} to {pid}"))(
                io::Error::last_os_error(),
            )),
        }
    }

    /// Asks the launcher to stop the jail, as a service manager does.
    ///
    /// # Errors
    ///
    /// What kill(2) says.
    pub fn stop(&self) -> Result<(), Failure> {
        self.signal(self.launcher_pid(), libc::SIGTERM)
    }

    /// Makes a file in the stage's directory.
    ///
    /// # Errors
    ///
    /// It could not be written.
    pub fn make_file(&self, name: &str, content: &[u8], mode: u32) -> Result<PathBuf, Failure> {
        let path = self.directory.join(name);
        let what = || format!("write {}", path.display());
        fs::write(&path, content).map_err(Failure::of(what()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
            .map_err(Failure::of(what()))?;
        Ok(path)
    }

    /// Makes a directory in the stage's directory.
    ///
    /// # Errors
    ///
    /// It could not be made.
    pub fn make_directory(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = self.directory.join(name);
        fs::create_dir_all(&path).map_err(Failure::of(format!("create {}", path.display())))?;
        Ok(path)
    }

    /// Host PIDs of the children of a process's main thread; empty if it is gone.
    pub fn children(&self, pid: u32) -> Vec<u32> {
        fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
            .unwrap_or_default()
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .collect()
    }

    /// Runs the misbehaving program outside the jail, beside what else happens; it is ended with the
    /// scenario.
    ///
    /// # Errors
    ///
    /// It could not be started.
    pub fn run_outside(&mut self, arguments: &[&str]) -> Result<(), Failure> {
        let own = std::env::current_exe().map_err(Failure::of("find procjail's own file"))?;
        let mut child = Command::new(own)
            .arg("misbehave")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(Failure::of("start the misbehaving program outside"))?;
        self.undo(move || {
            let _ = child.kill();
            let _ = child.wait();
        });
        Ok(())
    }

    /// Tries until there is a value.
    ///
    /// # Errors
    ///
    /// There was none in time.
    pub fn poll<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T, Failure> {
        let start = Instant::now();
        loop {
            if let Some(value) = look() {
                return Ok(value);
            }
            if Instant::now() >= self.until {
                return Err(Failure::Late {
                    what: what.to_owned(),
                    waited: start.elapsed(),
                });
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Lets time go by.
    pub fn sleep_ms(&self, milliseconds: u64) {
        thread::sleep(Duration::from_millis(milliseconds));
    }

    /// Waits for the end of the jail.
    ///
    /// # Errors
    ///
    /// It did not end in time.
    pub fn wait(&mut self) -> Result<ExitStatus, Failure> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        let mut launcher = self
            .launcher
            .take()
            .ok_or_else(|| Failure::Launcher("it was not started".to_owned()))?;
        let status = self.poll("the end of the jail", || launcher.try_wait().ok().flatten());
        if let Ok(status) = status {
            self.status = Some(status);
        } else {
            self.launcher = Some(launcher);
        }
        status
    }

    /// Ends the scenario: the launcher, if it still runs, and everything made outside.
    ///
    /// # Errors
    ///
    /// procjail itself had failed.
    pub(super) fn end(mut self) -> Result<(), Failure> {
        self.clear();
        let complaint = self.complaint.take().filter(|_| self.status.is_some());
        let text = complaint.and_then(|thread| thread.join().ok());
        match (self.status, text) {
            (Some(status), Some(text))
                if status.code() == Some(125) && text.contains("procjail: ") =>
            {
                Err(Failure::Launcher(text.trim().to_owned()))
            }
            (Some(status), _) if status.signal().is_some() => Err(Failure::Launcher(format!(
                "it was killed by signal {}",
                status.signal().unwrap_or(0)
            ))),
            _ => Ok(()),
        }
    }

    fn clear(&mut self) {
        if let Some(mut launcher) = self.launcher.take() {
            // The jail dies with its launcher.
            let _ = launcher.kill();
            let start = Instant::now();
            while start.elapsed() < LAST_WORDS && !matches!(launcher.try_wait(), Ok(Some(_))) {
                thread::sleep(Duration::from_millis(5));
            }
        }
        let name = self.header_now().map(|header| header.jail.name);
        for action in self.undo.drain(..).rev() {
            action();
        }
        // A launcher that gave up has left something; what held it is undone now.
        let code = self.status.and_then(|status| status.code());
        let gave_up = code == Some(TEARDOWN_TIMEOUT.into());
        if let Some(name) = name.filter(|_| gave_up) {
            let _ = jail::clean(false, Some(&name), None);
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Whether every user may execute this file, and search the directories that lead to it.
fn open_to_all(path: &Path) -> bool {
    path.ancestors()
        .all(|part| fs::metadata(part).is_ok_and(|found| found.permissions().mode() & 0o001 != 0))
}
