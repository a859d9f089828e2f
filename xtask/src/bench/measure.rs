//! Interleaved measuring, medians, and the tables.

use std::io::{self, BufRead, BufReader, Read, Seek};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// No single run takes longer.
const LIMIT: Duration = Duration::from_secs(300);

/// One line of a table: a command, and the times it took.
pub struct Contestant {
    /// Name in the table.
    pub name: String,
    /// The words of the command line.
    pub command: Vec<String>,
    /// The mount namespace to start it in, if not the one of this process.
    pub namespace: Option<std::fs::File>,
    /// What is measured.
    pub clock: Clock,
    /// Nanoseconds, one for each round.
    pub times: Vec<f64>,
    /// The most memory that a run had resident, bytes.
    pub peak_bytes: u64,
    /// Why it does not take part, in its own words.
    pub refusal: Option<String>,
}

/// What is measured of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Clock {
    /// From its start to its end, as seen from outside.
    Whole,
    /// The number that it prints, divided by this.
    Printed(f64),
}

impl Contestant {
    /// A contestant without times yet.
    pub fn new(name: &str, clock: Clock, command: &[&str]) -> Contestant {
        Contestant {
            name: name.to_owned(),
            command: command.iter().map(|&word| word.to_owned()).collect(),
            namespace: None,
            clock,
            times: Vec::new(),
            peak_bytes: 0,
            refusal: None,
        }
    }

    /// Starts it in another mount namespace.
    pub fn in_namespace(mut self, namespace: std::fs::File) -> Contestant {
        self.namespace = Some(namespace);
        self
    }

    /// Runs it once. What it says on stderr is shown only if it fails.
    pub fn run(&mut self) -> anyhow::Result<f64> {
        let mut stderr = tempfile::tempfile().context("cannot make a temporary file")?;
        let mut command = Command::new(&self.command[0]);
        command
            .args(&self.command[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr.try_clone()?);
        if let Some(namespace) = &self.namespace {
            let descriptor = std::os::fd::AsRawFd::as_raw_fd(namespace);
            // SAFETY: setns is async-signal-safe and the descriptor is open across the fork.
            unsafe {
                command.pre_exec(move || match libc::setns(descriptor, libc::CLONE_NEWNS) {
                    0 => Ok(()),
                    _ => Err(io::Error::last_os_error()),
                });
            }
        }
        let start = Instant::now();
        let output = run_bounded(command).with_context(|| format!("cannot run {}", self.name))?;
        let elapsed = start.elapsed().as_nanos() as f64;
        self.peak_bytes = self.peak_bytes.max(output.peak_bytes);
        if let Some(status) = output.failure {
            let mut words = String::new();
            stderr.rewind()?;
            stderr.read_to_string(&mut words)?;
            let last = words.lines().rfind(|line| !line.trim().is_empty());
            bail!("{status}: {}", last.unwrap_or("(no words)"));
        }
        match self.clock {
            Clock::Whole => Ok(elapsed),
            Clock::Printed(divisor) => {
                let number = output
                    .stdout
                    .lines()
                    .find_map(|line| line.trim().parse::<f64>().ok());
                Ok(number.with_context(|| format!("{} printed no time", self.name))? / divisor)
            }
        }
    }

    /// The median time.
    pub fn median(&self) -> f64 {
        median(&self.times)
    }

    fn minimum(&self) -> f64 {
        self.times.iter().copied().fold(f64::INFINITY, f64::min)
    }
}

/// What a run printed, and how it failed if it did.
struct Output {
    stdout: String,
    /// Of the command and of what it waited for.
    peak_bytes: u64,
    failure: Option<String>,
}

/// Runs a command to its end, or kills it when its time is up.
fn run_bounded(mut command: Command) -> anyhow::Result<Output> {
    let mut child = command.spawn()?;
    let pid = child.id();
    let (finished, watch) = std::sync::mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        if watch.recv_timeout(LIMIT) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            // SAFETY: kill has no preconditions; the child is collected only after this thread is told.
            unsafe { libc::kill(pid as libc::pid_t, libc::SIGTERM) };
        }
    });
    let mut stdout = String::new();
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_string(&mut stdout)?;
    }
    // Waits without collecting: the process ID stays ours until the watchdog is gone.
    // SAFETY: `info` is valid for writing.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        libc::waitid(libc::P_PID, pid, &mut info, libc::WEXITED | libc::WNOWAIT);
    }
    drop(finished);
    let _ = watchdog.join();
    let mut status = 0;
    // SAFETY: all zeros is a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both are valid for writing; `child` is not waited for by anybody else.
    let collected = unsafe { libc::wait4(pid as libc::pid_t, &mut status, 0, &mut usage) };
    if collected < 0 {
        return Err(io::Error::last_os_error().into());
    }
    let status = ExitStatus::from_raw(status);
    let failure = (!status.success()).then(|| format!("{status}"));
    Ok(Output {
        stdout,
        // In KiB, as getrusage(2) has it.
        peak_bytes: u64::try_from(usage.ru_maxrss).unwrap_or(0) << 10,
        failure,
    })
}

/// Runs all in turns, after one round that doesn't count. One that fails says so and is out.
pub fn race(contestants: &mut [Contestant], rounds: usize) {
    for round in 0..=rounds {
        for contestant in contestants.iter_mut().filter(|one| one.refusal.is_none()) {
            match contestant.run() {
                Ok(time) if round > 0 => contestant.times.push(time),
                Ok(_) => {}
                Err(error) => contestant.refusal = Some(format!("{error:#}")),
            }
        }
    }
}

/// The middle of the sorted values.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[length / 2],
        length => (sorted[length / 2 - 1] + sorted[length / 2]) / 2.0,
    }
}

/// Prints the contestants, in `unit`s of so many nanoseconds, with ratios to the first one.
pub fn table(contestants: &[Contestant], unit: &str, nanoseconds: f64) {
    let width = contestants
        .iter()
        .map(|one| one.name.chars().count())
        .max()
        .unwrap_or(0);
    let base = contestants.first().map_or(f64::NAN, Contestant::median);
    println!(
        "{:width$} {:>10} {:>10} {:>7}",
        "",
        format!("min {unit}"),
        format!("median {unit}"),
        "ratio"
    );
    for one in contestants {
        match &one.refusal {
            Some(words) => println!("{:width$} does not take part: {words}", one.name),
            None => println!(
                "{:width$} {:>10.2} {:>10.2} {:>7.2}",
                one.name,
                one.minimum() / nanoseconds,
                one.median() / nanoseconds,
                one.median() / base
            ),
        }
    }
}

/// Prints whether a bar is met.
pub fn bar(what: &str, met: bool) -> bool {
    println!("{} {what}", if met { "PASS" } else { "FAIL" });
    met
}

/// The median of the contestant with this name; not a number if it did not take part.
pub fn median_of(contestants: &[Contestant], name: &str) -> f64 {
    contestants
        .iter()
        .find(|one| one.name == name && one.refusal.is_none())
        .map_or(f64::NAN, Contestant::median)
}

/// How many times as long one takes as another: the median of the rounds' ratios. Runs of one round
/// are neighbours in time, so what else the machine does mostly cancels out.
pub fn ratio_of(contestants: &[Contestant], name: &str, base: &str) -> f64 {
    let times = |name: &str| {
        contestants
            .iter()
            .find(|one| one.name == name && one.refusal.is_none())
            .map_or(&[][..], |one| &one.times)
    };
    let ratios: Vec<f64> = times(name)
        .iter()
        .zip(times(base))
        .map(|(time, base)| time / base)
        .collect();
    median(&ratios)
}

/// What a child whose output is a pipe says first; empty if it says nothing.
pub fn first_line(child: &mut Child) -> io::Result<String> {
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    Ok(line)
}

/// A mount namespace of its own, made by `script` and alive while the returned file is open.
pub fn mount_namespace(script: &str) -> anyhow::Result<std::fs::File> {
    let mut child = Command::new("unshare")
        .args([
            "--mount",
            "sh",
            "-c",
            &format!("{{ {script}; }} && echo ready && read line"),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run unshare")?;
    let line = first_line(&mut child)?;
    let namespace = std::fs::File::open(
        Path::new("/proc")
            .join(child.id().to_string())
            .join("ns/mnt"),
    );
    drop(child.stdin.take());
    child.wait()?;
    if line.trim() != "ready" {
        bail!("cannot prepare a mount namespace: {script}");
    }
    Ok(namespace?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn ratios_are_those_of_neighbours() {
        let timed = |name: &str, times: &[f64]| Contestant {
            times: times.to_vec(),
            ..Contestant::new(name, Clock::Whole, &[])
        };
        // The machine got twice as slow after the first round.
        let contestants = [
            timed("base", &[10.0, 20.0, 20.0]),
            timed("other", &[11.0, 22.0, 22.0]),
        ];
        assert!((ratio_of(&contestants, "other", "base") - 1.1).abs() < 1e-9);
    }

    #[test]
    fn a_failing_contestant_says_so() {
        let mut contestants = [Contestant::new("false", Clock::Whole, &["/bin/false"])];
        race(&mut contestants, 1);
        assert!(
            contestants[0]
                .refusal
                .as_ref()
                .is_some_and(|words| words.contains("1"))
        );
        assert!(median_of(&contestants, "false").is_nan());
        assert!(ratio_of(&contestants, "true", "false").is_nan());
    }

    #[test]
    fn printed_times_are_read() {
        let mut contestant = Contestant::new("echo", Clock::Printed(10.0), &["/bin/echo", "50"]);
        assert_eq!(contestant.run().ok(), Some(5.0));
        assert!(contestant.peak_bytes > 100 << 10);
    }
}
