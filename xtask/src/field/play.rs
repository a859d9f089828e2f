//! Plays a case: the program below `procjail trace`, and what is done to it.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use super::case::{Act, Case, Deed, Target};
use super::packages::{NPM, VENV};
use super::processes;
use super::score::Explanation;

/// For a shell line, and for an explanation.
const SHELL: Duration = Duration::from_secs(30);
/// For the program to be ready.
const READY: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(10);

/// Where things are.
#[derive(Debug)]
pub struct Stage {
    /// The procjail that is tried.
    pub procjail: PathBuf,
    /// The directory of PyPI's and npm's packages.
    pub tools: PathBuf,
    /// The cases' directories, traces and logs.
    pub room: PathBuf,
}

impl Stage {
    /// The case's directory.
    pub fn directory(&self, case: &Case) -> PathBuf {
        self.room.join(&case.name)
    }

    /// The case's trace, written by a run.
    pub fn trace(&self, case: &Case) -> PathBuf {
        self.directory(case).join("trace.jsonl")
    }

    /// The same environment everywhere, without the one who plays.
    fn command(&self, program: &Path, case: &Case) -> Command {
        let mut path = OsString::new();
        // A virtual environment has a python3 of its own.
        if !case.packages.pip.is_empty() {
            path.push(self.tools.join(VENV).join("bin:"));
        }
        if !case.packages.npm.is_empty() {
            path.push(self.tools.join(NPM).join(".bin:"));
        }
        path.push("/usr/sbin:/usr/bin:/sbin:/bin");
        let directory = self.directory(case);
        let mut command = Command::new(program);
        command.env_clear().env("PATH", path);
        command.env("LANG", "C.UTF-8").env("HOME", &directory);
        command
            .env("DIR", &directory)
            .env("PROCJAIL_BIN", &self.procjail);
        // The group is what is killed if a time is over.
        command.current_dir(&directory).process_group(0);
        command.stdin(Stdio::null());
        // SAFETY: signal(2) and sigprocmask(2) are async-signal-safe, and `none` is initialised.
        unsafe {
            command.pre_exec(|| {
                // Whoever plays may ignore or block some: Python ignores SIGXFSZ and SIGPIPE, nohup SIGHUP.
                for number in 1..=libc::SIGRTMAX() {
                    libc::signal(number, libc::SIG_DFL);
                }
                let mut none: libc::sigset_t = std::mem::zeroed();
                libc::sigemptyset(&raw mut none);
                libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
                Ok(())
            });
        }
        command
    }

    /// A shell line, with a time limit.
    fn shell(&self, line: &str, case: &Case, variables: &[(&str, String)]) -> anyhow::Result<()> {
        let mut command = self.command(Path::new("/bin/sh"), case);
        command.args(["-c", line]).envs(variables.iter().cloned());
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.directory(case).join("shell.log"))?;
        command.stdout(log.try_clone()?).stderr(log);
        let mut child = command.spawn().with_context(|| line.to_owned())?;
        match wait(&mut child, Instant::now() + SHELL)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("{line}: {status}"),
            None => bail!("{line}: not done after {SHELL:?}"),
        }
    }

    /// Plays; the trace is there afterwards. An error means that the case did not happen as it is written.
    pub fn play(&self, case: &Case) -> anyhow::Result<Vec<String>> {
        let directory = self.directory(case);
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir_all(&directory)?;
        fs::set_permissions(&directory, Permissions::from_mode(0o755))?;
        for (name, text) in &case.files {
            let path = directory.join(name);
            fs::create_dir_all(path.parent().context("a file without a directory")?)?;
            fs::write(&path, text)?;
            fs::set_permissions(&path, Permissions::from_mode(0o755))?;
        }
        // Two may play at a time.
        let jail = format!("field-{}-{}", case.name, std::process::id());
        let played = self.perform(case, &jail);
        let mut undone = Ok(());
        for line in &case.undo {
            undone = undone.and(self.shell(line, case, &[]));
        }
        let left = processes::clean(&jail, &directory);
        played.and(undone)?;
        Ok(left)
    }

    fn perform(&self, case: &Case, jail: &str) -> anyhow::Result<()> {
        for line in &case.setup {
            self.shell(line, case, &[])?;
        }
        let directory = self.directory(case);
        let mut command = self.command(&self.procjail, case);
        let here = |word: &String| word.replace("$DIR", &directory.to_string_lossy());
        command.args(["trace", "--quiet", "--name", jail, "--output"]);
        command.arg(self.trace(case));
        command.args(case.options.iter().map(here)).arg("--");
        command.args(case.command.iter().map(here));
        command.stdout(File::create(directory.join("out"))?);
        command.stderr(File::create(directory.join("err"))?);
        let started = Instant::now();
        let mut child = command.spawn().context("cannot start procjail")?;
        let launcher = child.id();
        let mut run = Run {
            stage: self,
            case,
            launcher,
            first: None,
        };
        let acted = run.act(&mut child);
        let status = wait(&mut child, started + case.deadline)?;
        let variables = run.variables(status);
        acted?;
        ensure!(
            status.is_some(),
            "it was still running at its deadline, {:?}",
            case.deadline
        );
        for line in &case.proof {
            self.shell(line, case, &variables)
                .context("no proof of the truth")?;
        }
        Ok(())
    }

    /// Explains the case's trace.
    pub fn explain(&self, case: &Case) -> anyhow::Result<Explanation> {
        let path = self.directory(case).join("explanation.json");
        let mut command = self.command(&self.procjail, case);
        command
            .args(["explain", "--format", "json"])
            .arg(self.trace(case));
        command.stdout(File::create(&path)?);
        command.stderr(File::create(self.directory(case).join("explain.err"))?);
        let status = wait(&mut command.spawn()?, Instant::now() + SHELL)?;
        ensure!(
            status.is_some_and(|status| status.success()),
            "procjail explain failed: {status:?}"
        );
        Ok(serde_json::from_slice(&fs::read(path)?)?)
    }
}

/// A run while it is played.
struct Run<'a> {
    stage: &'a Stage,
    case: &'a Case,
    launcher: u32,
    first: Option<u32>,
}

impl Run<'_> {
    fn variables(&self, status: Option<ExitStatus>) -> Vec<(&'static str, String)> {
        let number = |number: Option<u32>| number.map(|number| number.to_string());
        let status =
            status.and_then(|status| status.code().or(status.signal().map(|signal| 128 + signal)));
        vec![
            ("PROCJAIL", self.launcher.to_string()),
            ("PID1", number(self.first).unwrap_or_default()),
            (
                "STATUS",
                status.map(|code| code.to_string()).unwrap_or_default(),
            ),
        ]
    }

    /// Does what is to be done, each at its time.
    fn act(&mut self, child: &mut Child) -> anyhow::Result<()> {
        if self.case.act.is_empty() {
            return Ok(());
        }
        let limit = Instant::now() + READY;
        loop {
            self.first = processes::first_of_jail();
            if self.first.is_some() && self.is_ready() {
                break;
            }
            ensure!(child.try_wait()?.is_none(), "it ended before it was ready");
            ensure!(Instant::now() < limit, "it was not ready after {READY:?}");
            sleep(LOOK);
        }
        let ready = Instant::now();
        for act in &self.case.act {
            while ready.elapsed() < act.at {
                ensure!(
                    child.try_wait()?.is_none(),
                    "it ended before {:?}, when {:?} was to be done",
                    act.at,
                    act.what
                );
                sleep(LOOK);
            }
            self.deed(act)?;
        }
        Ok(())
    }

    fn is_ready(&self) -> bool {
        let line = self.case.ready.as_ref();
        line.is_none_or(|line| {
            self.stage
                .shell(line, self.case, &self.variables(None))
                .is_ok()
        })
    }

    fn deed(&self, act: &Act) -> anyhow::Result<()> {
        match &act.what {
            Deed::Signal(number, Target::Procjail) => processes::signal(self.launcher, *number),
            Deed::Signal(number, Target::First) => {
                let first = self.first.context("there is no PID 1")?;
                processes::signal(first, *number);
            }
            Deed::Signal(number, Target::Named(name)) => {
                let pids = processes::named(name);
                ensure!(!pids.is_empty(), "no process of the jail is named {name}");
                pids.iter().for_each(|&pid| processes::signal(pid, *number));
            }
            Deed::Shell(line) => self.stage.shell(line, self.case, &self.variables(None))?,
        }
        Ok(())
    }
}

/// Waits; kills the child's process group if the time is over, and returns nothing then.
fn wait(child: &mut Child, limit: Instant) -> anyhow::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() > limit {
            if let Ok(group) = i32::try_from(child.id()) {
                // SAFETY: kill has no preconditions; the group was made for this child.
                unsafe { libc::kill(-group, libc::SIGKILL) };
            }
            child.wait()?;
            return Ok(None);
        }
        sleep(LOOK);
    }
}
