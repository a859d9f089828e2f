//! What one system call costs. A program on any system call tracepoint makes every system call of the
//! host a little slower, so this is measured inside the jail and outside of it.

use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};

use super::measure::{Clock, Contestant, first_line, race, table};
use crate::workspace::{Profile, build_optimised};

const CALLS: u64 = 5_000_000;

/// Measures and prints. There is no bar: the numbers are for the documentation.
pub fn run(rounds: usize) -> anyhow::Result<bool> {
    let (procjail, misbehave) = build_optimised(Profile::Dist)?;
    let procjail = procjail.display().to_string();
    let misbehave = misbehave.display().to_string();
    let calls = CALLS.to_string();
    let one = |name: &str, words: &[&str]| {
        let command = [words, &[misbehave.as_str(), "syscall-storm", &calls]].concat();
        Contestant::new(name, Clock::Printed(CALLS as f64), &command)
    };

    println!("getppid(2) in the jail, {rounds} rounds:");
    let mut inside = vec![
        one("no jail", &[]),
        one("procjail run", &[&procjail, "run", "--"]),
        one(
            "procjail trace --no-syscalls",
            &[&procjail, "trace", "--quiet", "--no-syscalls", "--"],
        ),
        one(
            "procjail trace --no-mounts",
            &[&procjail, "trace", "--quiet", "--no-mounts", "--"],
        ),
        one("procjail trace", &[&procjail, "trace", "--quiet", "--"]),
    ];
    race(&mut inside, rounds);
    table(&inside, "ns", 1.0);

    println!("\ngetppid(2) of the rest of the host, {rounds} rounds:");
    let mut outside = Vec::new();
    for (name, options) in [
        ("nothing traced", None),
        (
            "beside procjail trace --no-syscalls",
            Some(&["--no-syscalls"][..]),
        ),
        (
            "beside procjail trace --no-mounts",
            Some(&["--no-mounts"][..]),
        ),
        ("beside procjail trace", Some(&[][..])),
    ] {
        let tracer = options
            .map(|options| Tracer::start(&procjail, options))
            .transpose()?;
        let mut contestant = [one(name, &[])];
        race(&mut contestant, rounds);
        drop(tracer);
        outside.extend(contestant);
    }
    table(&outside, "ns", 1.0);
    Ok(true)
}

/// A jail that is traced and does nothing, until it is dropped.
struct Tracer(Child);

impl Tracer {
    fn start(procjail: &str, options: &[&str]) -> anyhow::Result<Tracer> {
        let mut child = Command::new(procjail)
            .args(["trace", "--quiet"])
            .args(options)
            .args([
                "--",
                "/bin/sh",
                "-c",
                "trap 'exit 0' TERM; echo ready; while :; do sleep 1; done",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start procjail")?;
        let line = first_line(&mut child)?;
        if line != "ready\n" {
            let status = child.wait()?;
            bail!("procjail trace did not start: {status}");
        }
        Ok(Tracer(child))
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // SAFETY: kill has no preconditions; the child is not collected yet.
        unsafe { libc::kill(self.0.id() as libc::pid_t, libc::SIGTERM) };
        let _ = self.0.wait();
    }
}
