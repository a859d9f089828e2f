//! One virtual machine: switched on, listened to, and never waited for without end.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::transcript::Transcript;

/// No machine takes longer.
const DEADLINE: Duration = Duration::from_secs(600);

/// Nor is it silent for longer: a test ends its own programs after a minute.
const SILENCE: Duration = Duration::from_secs(150);

/// How a machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// `/init` came to its last line.
    Regular,
    /// It switched itself off before: the kernel or `/init` gave up.
    Died,
    /// It was silent, or too slow, and was switched off.
    Hung,
}

/// What became of a machine.
#[derive(Debug)]
pub struct Run {
    /// How it ended.
    pub end: End,
    /// What it wrote for us.
    pub transcript: Transcript,
    /// What its kernel wrote to the console.
    pub console: String,
    /// From switching it on to its end.
    pub elapsed: Duration,
}

/// Boots a kernel and runs the tests of an initial file system; `console` is the file for the kernel's
/// messages.
///
/// # Errors
///
/// QEMU cannot be started.
pub fn boot(kernel: &Path, initrd: &Path, cgroups: &str, console: &Path) -> anyhow::Result<Run> {
    let start = Instant::now();
    let mut machine = Machine(
        Command::new("qemu-system-x86_64")
            // Threads of its own for each processor made the emulator stumble over code that the
            // kernel patches while it runs; they are no faster either.
            .args(["-accel", "tcg,thread=single", "-cpu", "max"])
            // The machine's clock counts its instructions, two nanoseconds each, and skips what it
            // sleeps: a busy host can't make it miss its ticks and time-outs.
            .args(["-icount", "shift=1,sleep=off"])
            .args(["-m", "1G", "-smp", "2"])
            // No disk, no network.
            .args([
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
                "-no-reboot",
            ])
            .arg("-kernel")
            .arg(kernel)
            .arg("-initrd")
            .arg(initrd)
            .arg("-append")
            .arg(format!(
                "console=ttyS0 panic=-1 quiet maxcpus=1 cgroups={cgroups}"
            ))
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .args(["-serial", "stdio"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run qemu-system-x86_64: install the package qemu-system-x86")?,
    );
    let stdout = machine.0.stdout.take().context("no output of QEMU")?;
    let (sender, lines) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut reader = BufReader::new(stdout);
        let mut bytes = Vec::new();
        while reader
            .read_until(b'\n', &mut bytes)
            .is_ok_and(|length| length > 0)
        {
            let line = String::from_utf8_lossy(&bytes).into_owned();
            bytes.clear();
            if sender.send(line).is_err() {
                return;
            }
        }
    });

    let mut transcript = Transcript::default();
    let end = loop {
        let left = DEADLINE.saturating_sub(start.elapsed()).min(SILENCE);
        match lines.recv_timeout(left) {
            Ok(line) => transcript.line(&line, start.elapsed()),
            Err(RecvTimeoutError::Timeout) => break End::Hung,
            Err(RecvTimeoutError::Disconnected) if transcript.status.is_some() => {
                break End::Regular;
            }
            Err(RecvTimeoutError::Disconnected) => break End::Died,
        }
    };
    drop(machine);
    // The pipe is closed by now.
    let _ = reader.join();
    Ok(Run {
        end,
        transcript,
        console: read(console),
        elapsed: start.elapsed(),
    })
}

/// A running QEMU, which ends with this value.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn read(path: &Path) -> String {
    let mut bytes = Vec::new();
    if let Ok(mut file) = File::open(path) {
        let _ = std::io::Read::read_to_end(&mut file, &mut bytes);
    }
    String::from_utf8_lossy(&bytes).replace('\r', "")
}

/// What the console says when it is the emulator that stumbled, or had no processor to run on, and what
/// that means. None of it is in procjail's power.
const SYMPTOMS: [(&str, &str); 7] = [
    ("int3: 0000", "a breakpoint of patched code was hit"),
    ("invalid opcode: 0000", "patched code was executed half-way"),
    (
        "text_poke",
        "the kernel stumbled over patching its own code",
    ),
    ("soft lockup", "a processor got no time"),
    ("rcu: INFO:", "a processor got no time"),
    ("rcu_sched self-detected stall", "a processor got no time"),
    ("timekeeping watchdog", "the clock went astray"),
];

/// The reason for which the emulator, not what it ran, is to blame.
pub fn emulators_fault(console: &str, log: &[String]) -> Option<&'static str> {
    let logged = |symptom: &str| log.iter().any(|line| line.contains(symptom));
    SYMPTOMS
        .iter()
        .find(|(symptom, _)| console.contains(symptom) || logged(symptom))
        .map(|(_, meaning)| *meaning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_symptoms_excuse_a_failure() {
        let stall = "[  60.1] watchdog: BUG: soft lockup - CPU#0 stuck for 26s!";
        assert!(emulators_fault(stall, &[]).is_some());
        assert!(emulators_fault("", &[stall.to_owned()]).is_some());
        let panic = "[   4.9] Kernel panic - not syncing: Attempted to kill init!";
        assert_eq!(emulators_fault(panic, &[panic.to_owned()]), None);
    }
}
