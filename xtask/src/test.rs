//! `cargo xtask test`: every check there is, with one truthful line at the end.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use procjail_tests::{Census, become_subreaper};

use crate::vm;
use crate::workspace::{cargo, root, target};

/// Run all checks: format, lints, the BPF object, unit and property tests, transcripts, the package,
/// kernel tests here and on other kernels
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these parts
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    only: Vec<Part>,
    /// Only the kernel tests in virtual machines
    #[arg(long)]
    vm: bool,
    #[command(flatten)]
    machines: vm::Machines,
}

impl Args {
    fn wants(&self, part: Part) -> bool {
        if self.vm || self.machines.kernel.is_some() {
            part == Part::Vm
        } else {
            self.only.is_empty() || self.only.contains(&part)
        }
    }
}

/// A part of the checks, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// rustfmt finds nothing to change
    Format,
    /// The committed BPF object is what the sources give; what follows runs on the one just built
    Ebpf,
    /// clippy has no warning
    Lint,
    /// The generated pages are what the sources give
    Docs,
    /// Unit and property tests, transcripts of the command line, each part of procjail by itself
    Unit,
    /// The optimised build
    Build,
    /// The Debian package: installed, used, removed (as root)
    Package,
    /// procjail on this machine's kernel (as root)
    Kernel,
    /// procjail on other kernels, in virtual machines
    Vm,
}

const ALL: [Part; 9] = [
    Part::Format,
    Part::Ebpf,
    Part::Lint,
    Part::Docs,
    Part::Unit,
    Part::Build,
    Part::Package,
    Part::Kernel,
    Part::Vm,
];

/// Tells the build of procjail which BPF object to embed; printed by `ebpf --check`.
pub const OBJECT_VARIABLE: &str = "PROCJAIL_BPF_OBJECT";

/// What a command came to.
#[derive(Debug, Default)]
struct Outcome {
    tally: Tally,
    /// The BPF object that it built, where it is not the committed one byte for byte.
    fresh_object: Option<PathBuf>,
}

/// Passed and failed checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Passed.
    pub passed: u64,
    /// Failed.
    pub failed: u64,
    /// Left out on purpose.
    pub ignored: u64,
}

/// Runs the parts one after the other, whatever fails.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut total = Tally::default();
    let mut report = Vec::new();
    let mut fresh_object = None;
    for part in ALL {
        if !args.wants(part) {
            continue;
        }
        let start = Instant::now();
        let mut tally = Tally::default();
        if part == Part::Vm {
            // What went wrong is one failed check, and the other parts are told all the same.
            tally.add(
                vm::run(&args.machines, fresh_object.as_deref()).unwrap_or_else(|error| {
                    println!("{error:#}");
                    Tally::default().with_status(false)
                }),
            );
        }
        let census = matches!(part, Part::Package | Part::Kernel).then(census);
        for mut command in commands(part)? {
            if let Some(path) = &fresh_object {
                command.env(OBJECT_VARIABLE, path);
            }
            let outcome = run_counted(&mut command)?;
            tally.add(outcome.tally);
            fresh_object = outcome.fresh_object.or(fresh_object);
        }
        if let Some(before) = census {
            tally.add(nothing_left(part, &before));
        }
        total.add(tally);
        report.push((part, tally, start.elapsed()));
    }
    println!();
    for (part, tally, elapsed) in report {
        println!("{}", line(part, tally, elapsed));
    }
    let ignored = match total.ignored {
        0 => String::new(),
        count => format!(", {count} skipped"),
    };
    println!("{} passed, {} failed{ignored}", total.passed, total.failed);
    Ok(if total.failed == 0 && total.passed > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What there is before tests that make jails. Their orphans come to this process from here on.
fn census() -> Census {
    become_subreaper();
    Census::take()
}

/// After all of them: not one process, mount, cgroup or BPF program more than before.
fn nothing_left(part: Part, before: &Census) -> Tally {
    let left = before.leftovers();
    let part = name(part);
    for entry in &left {
        println!("left behind by the {part} tests: {entry}");
    }
    if left.is_empty() {
        println!("the {part} tests left nothing behind");
    }
    Tally::default().with_status(left.is_empty())
}

fn name(part: Part) -> String {
    format!("{part:?}").to_lowercase()
}

fn line(part: Part, tally: Tally, elapsed: Duration) -> String {
    let name = name(part);
    let verdict = if tally.failed == 0 { "ok" } else { "FAILED" };
    format!(
        "{name:<8} {verdict:<7} {:>5} passed {:>4} failed {:>7.1} s",
        tally.passed,
        tally.failed,
        elapsed.as_secs_f64()
    )
}

/// The commands of a part. Each counts as one check unless it is a test runner that counts itself.
fn commands(part: Part) -> anyhow::Result<Vec<Command>> {
    let this = |args: &[&str]| -> anyhow::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(args);
        Ok(command)
    };
    Ok(match part {
        Part::Format => vec![
            cargo(&["fmt", "--all", "--check"]),
            // The BPF crate is a workspace of its own.
            cargo(&[
                "fmt",
                "--manifest-path",
                "procjail-ebpf/Cargo.toml",
                "--check",
            ]),
        ],
        Part::Lint => vec![cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ])],
        Part::Ebpf => vec![this(&["ebpf", "--check"])?],
        Part::Docs => vec![this(&["docs", "--check"])?],
        Part::Unit => vec![cargo(&[
            "test",
            "--workspace",
            "--exclude",
            "procjail-tests",
            "--no-fail-fast",
        ])],
        Part::Build => vec![cargo(&["build", "--release", "--package", "procjail"])],
        Part::Package => vec![this(&["deb", "--check"])?],
        Part::Kernel => {
            // One at a time: the tests take a census of the whole machine.
            let mut command = cargo(&[
                "test",
                "--package",
                "procjail-tests",
                "--no-fail-fast",
                "--",
                "--test-threads=1",
            ]);
            command.env("PROCJAIL_BIN", target()?.join("release/procjail"));
            vec![command]
        }
        // Not a command: see `run`.
        Part::Vm => vec![],
    })
}

/// Runs a command, shows its output, and counts what its test runners report.
fn run_counted(command: &mut Command) -> anyhow::Result<Outcome> {
    println!("\n$ {}", words(command));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", words(command)))?;
    let mut outcome = Outcome::default();
    if let Some(stdout) = child.stdout.take() {
        let mut reader = BufReader::new(stdout);
        let mut bytes = Vec::new();
        while reader.read_until(b'\n', &mut bytes)? > 0 {
            std::io::stdout().write_all(&bytes)?;
            let line = String::from_utf8_lossy(&bytes);
            if let Some(found) = parse(&line) {
                outcome.tally.add(found);
            }
            if let Some(path) = line.trim().strip_prefix(OBJECT_VARIABLE) {
                outcome.fresh_object = other_object(path.trim_start_matches('='));
            }
            bytes.clear();
        }
    }
    let status = child.wait()?;
    outcome.tally = outcome.tally.with_status(status.success());
    Ok(outcome)
}

/// The object at `path`, unless it is the committed one byte for byte: then nothing needs to be rebuilt.
fn other_object(path: &str) -> Option<PathBuf> {
    let committed = std::fs::read(root().join("procjail/bpf/procjail.bpf.o"));
    let same = matches!((std::fs::read(path), committed), (Ok(new), Ok(old)) if new == old);
    (!same).then(|| PathBuf::from(path))
}

fn words(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

impl Tally {
    /// Counts more.
    pub fn add(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }

    /// Joins what was counted with how the command ended: one that counts nothing is a check itself, and
    /// one that failed without saying so (a crash, a build error) is one more failure.
    fn with_status(mut self, success: bool) -> Tally {
        if !success && self.failed == 0 {
            self.failed = 1;
        } else if success && self == Tally::default() {
            self.passed = 1;
        }
        self
    }
}

/// Reads libtest's `test result: ok. 3 passed; 0 failed; 0 ignored; ...`.
fn parse(line: &str) -> Option<Tally> {
    let counts = line.trim().strip_prefix("test result: ")?;
    let number = |word: &str| {
        let before = counts.split(word).next()?;
        before.trim_end().rsplit(' ').next()?.parse::<u64>().ok()
    };
    Some(Tally {
        passed: number(" passed")?,
        failed: number(" failed")?,
        ignored: number(" ignored")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtest_lines_are_read() {
        let line =
            "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out\n";
        let tally = Tally {
            passed: 12,
            failed: 3,
            ignored: 1,
        };
        assert_eq!(parse(line), Some(tally));
        assert_eq!(parse("test process::zombies ... ok"), None);
        assert_eq!(parse("test result: unheard of"), None);
    }

    #[test]
    fn a_silent_failure_counts() {
        assert_eq!(Tally::default().with_status(false).failed, 1);
        assert_eq!(Tally::default().with_status(true).passed, 1);
        let crashed = Tally {
            passed: 5,
            failed: 0,
            ignored: 0,
        };
        assert_eq!(
            crashed.with_status(false),
            Tally {
                passed: 5,
                failed: 1,
                ignored: 0
            }
        );
        let failed = Tally {
            passed: 5,
            failed: 2,
            ignored: 0,
        };
        assert_eq!(failed.with_status(false), failed);
    }
}
