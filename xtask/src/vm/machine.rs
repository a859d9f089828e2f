//! One virtual machine: switched on, listened to, and never waited for without end.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::transcript::Transcript;

/// No machine takes longer to boot and to do what is not counted in tests.
pub const DEADLINE: Duration = Duration::from_secs(300);

/// Nor longer than this for a test, on the average: twice what one takes on a host that is busy.
const PER_TEST: Duration = Duration::from_secs(6);

/// When a machine is switched off that has so many tests to run.
pub fn deadline(tests: usize) -> Duration {
    DEADLINE + PER_TEST.saturating_mul(u32::try_from(tests).unwrap_or(u32::MAX))
}

/// Nor is it silent for longer: a test ends its own programs after a minute of the machine's time, which
/// may be some of ours.
const SILENCE: Duration = Duration::from_secs(240);

/// What a machine is to do.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// The initial file system, which holds the program and its arguments.
    pub initrd: &'a Path,
    /// How its cgroups are arranged.
    pub cgroups: &'a str,
    /// The file for the kernel's messages.
    pub console: &'a Path,
    /// When it is switched off in any case.
    pub deadline: Duration,
}

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

/// Boots a kernel and has it do a job; `tell` hears each line that the machine writes.
///
/// # Errors
///
/// QEMU cannot be started.
pub fn boot(kernel: &Path, job: Job<'_>, tell: impl FnMut(&str)) -> anyhow::Result<Run> {
    let start = Instant::now();
    let output = job.console.with_extension("output");
    let mut output =
        File::create(&output).with_context(|| format!("cannot create {}", output.display()))?;
    let mut machine = Machine(
        Command::new("qemu-system-x86_64")
            // Threads of its own for each processor made the emulator stumble over code that the
            // kernel patches while it runs; they are no faster either.
            .args(["-accel", "tcg,thread=single", "-cpu", "max"])
            // The machine's clock counts its instructions, one nanosecond each, and skips what it
            // sleeps: a busy host can't make it miss its ticks and time-outs.
            .args(["-icount", "shift=0,sleep=off"])
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
            .arg(job.initrd)
            .arg("-append")
            .arg(format!(
                "console=ttyS0 panic=-1 quiet maxcpus=1 cgroups={}",
                job.cgroups
            ))
            .arg("-serial")
            .arg(format!("file:{}", job.console.display()))
            .args(["-serial", "stdio"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run qemu-system-x86_64: install the package qemu-system-x86")?,
    );
    let stdout = machine.0.stdout.take().context("no output of QEMU")?;
    let (end, transcript) = listen(stdout, &mut output, job.deadline, SILENCE, tell);
    drop(machine);
    Ok(Run {
        end,
        transcript,
        console: read(job.console),
        elapsed: start.elapsed(),
    })
}

/// Reads what a machine writes, until it ends or must be taken for hung; keeps a copy with the times.
///
/// The thread that reads ends with the machine.
fn listen(
    stream: impl Read + Send + 'static,
    copy: &mut impl Write,
    deadline: Duration,
    silence: Duration,
    mut tell: impl FnMut(&str),
) -> (End, Transcript) {
    let start = Instant::now();
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
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
    loop {
        let left = deadline.saturating_sub(start.elapsed()).min(silence);
        let end = match lines.recv_timeout(left) {
            Ok(line) => {
                let elapsed = start.elapsed();
                transcript.line(&line, elapsed);
                tell(&line);
                // For whoever wonders where the time goes.
                let _ = write!(copy, "{:8.2} {line}", elapsed.as_secs_f64());
                continue;
            }
            Err(RecvTimeoutError::Timeout) => End::Hung,
            Err(RecvTimeoutError::Disconnected) if transcript.status.is_some() => End::Regular,
            Err(RecvTimeoutError::Disconnected) => End::Died,
        };
        return (end, transcript);
    }
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
        let _ = file.read_to_end(&mut bytes);
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
        .or_else(|| {
            has_impossible_flags(console)
                .then_some("the processor had flags in EFLAGS that no processor has")
        })
}

/// Bits of EFLAGS that are always clear (Intel SDM, volume 1, 3.4.3). The emulator works flags out late, and
/// an interrupt in the middle of that finds something else there.
const RESERVED_FLAGS: u64 = !0x3f_7fd7;

/// Whether the registers that a dying kernel showed can't have been those of a processor.
fn has_impossible_flags(console: &str) -> bool {
    console
        .split("EFLAGS: ")
        .skip(1)
        .filter_map(|rest| rest.split_whitespace().next())
        .filter_map(|digits| u64::from_str_radix(digits, 16).ok())
        .any(|flags| flags & RESERVED_FLAGS != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(50);

    /// Listens to a machine that writes `text` and then lives on in silence if it `stays`.
    fn heard(text: &str, stays: bool, deadline: Duration, silence: Duration) -> (End, Transcript) {
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        writer.write_all(text.as_bytes()).expect("room in the pipe");
        let writer = stays.then_some(writer);
        let mut copy = Vec::new();
        let (end, transcript) = listen(reader, &mut copy, deadline, silence, |_| ());
        drop(writer);
        let copied = String::from_utf8(copy).expect("text");
        assert_eq!(copied.lines().count(), text.lines().count(), "{copied}");
        (end, transcript)
    }

    #[test]
    fn a_machine_that_comes_to_its_end_is_fine() {
        let (end, transcript) = heard(
            "@@start 6.1\ntest a::x ... ok\n@@end 0\n",
            false,
            LONG,
            LONG,
        );
        assert_eq!(end, End::Regular);
        assert_eq!(transcript.status, Some(0));
    }

    #[test]
    fn a_machine_that_stops_before_has_died() {
        let (end, transcript) = heard("@@start 6.1\ntest a::x ... ok\n", false, LONG, LONG);
        assert_eq!(end, End::Died);
        assert_eq!(transcript.tests.len(), 1);
        assert_eq!(heard("", false, LONG, LONG).0, End::Died);
    }

    #[test]
    fn a_machine_without_a_sign_of_life_is_hung() {
        let text = "@@start 6.1\ntest a::x ... ok\n";
        let (end, transcript) = heard(text, true, LONG, SHORT);
        assert_eq!(end, End::Hung);
        assert_eq!(transcript.tests.len(), 1, "what came before counts");
        assert_eq!(heard(text, true, SHORT, LONG).0, End::Hung);
        // It has told its end but doesn't switch itself off.
        assert_eq!(heard("@@end 0\n", true, LONG, SHORT).0, End::Hung);
    }

    #[test]
    fn only_known_symptoms_excuse_a_failure() {
        let stall = "[  60.1] watchdog: BUG: soft lockup - CPU#0 stuck for 26s!";
        assert!(emulators_fault(stall, &[]).is_some());
        assert!(emulators_fault("", &[stall.to_owned()]).is_some());
        let panic = "[   4.9] Kernel panic - not syncing: Attempted to kill init!";
        assert_eq!(emulators_fault(panic, &[panic.to_owned()]), None);
    }

    #[test]
    fn flags_that_no_processor_has_are_the_emulators() {
        let fault = |flags: &str| {
            format!(
                "[  177.6] Oops: double fault: 0000 [#1]\n[  177.6] RSP: 0018:ff33 EFLAGS: {flags}\n\
                 [  177.6] RSP: 002b:00007f48d9a5ec18 EFLAGS: 00000246 ORIG_RAX: 0000000000000141\n"
            )
        };
        assert!(emulators_fault(&fault("41e67e42"), &[]).is_some());
        assert!(emulators_fault(&fault("0000024a"), &[]).is_some());
        for possible in ["00010046", "00250ed7", "nonsense", ""] {
            assert_eq!(emulators_fault(&fault(possible), &[]), None, "{possible}");
        }
    }
}
