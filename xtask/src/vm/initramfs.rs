//! What a test machine holds: the tests or the chaos, procjail, the failing programs, busybox, and nothing
//! else.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, ensure};

use crate::test::OBJECT_VARIABLE;
use crate::workspace::cargo;

/// Linked without a C library of the machine's, which has none.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The same as of the tests outside: it is built already.
const PROFILE: &str = "release";

/// Where programs lie in a machine, below its root.
pub const PROCJAIL: &str = "test/procjail";
/// See [`PROCJAIL`].
pub const JOB: &str = "test/deps/job";
/// See [`PROCJAIL`].
pub const MISBEHAVE: &str = "test/misbehave";

/// The programs that go into a machine.
#[derive(Debug)]
pub struct Programs {
    /// The chaos.
    pub chaos: PathBuf,
    procjail: PathBuf,
    misbehave: PathBuf,
    busybox: PathBuf,
}

/// Builds the programs as static executables, with another BPF object than the committed one if given.
///
/// # Errors
///
/// A build fails, or busybox is not installed.
pub fn build(bpf_object: Option<&Path>) -> anyhow::Result<Programs> {
    let built = run_cargo(
        &[
            "build",
            "--package=procjail",
            "--package=procjail-tests",
            "--bins",
        ],
        bpf_object,
    )?;
    let busybox = PathBuf::from("/bin/busybox");
    ensure!(
        busybox.is_file(),
        "there is no /bin/busybox: install the package busybox-static"
    );
    Ok(Programs {
        chaos: find(&built, "chaos")?,
        procjail: find(&built, "procjail")?,
        misbehave: find(&built, "misbehave")?,
        busybox,
    })
}

/// Builds the kernel tests in the same way; see [`build`].
///
/// # Errors
///
/// The build fails.
pub fn build_tests(bpf_object: Option<&Path>) -> anyhow::Result<PathBuf> {
    let built = run_cargo(
        &[
            "test",
            "--no-run",
            "--package=procjail-tests",
            "--test=kernel",
        ],
        bpf_object,
    )?;
    find(&built, "kernel")
}

/// Builds for a machine; cargo's messages.
fn run_cargo(arguments: &[&str], bpf_object: Option<&Path>) -> anyhow::Result<Vec<u8>> {
    let mut command = cargo(arguments);
    command
        .args(["--profile", PROFILE, "--target", TARGET])
        .args(["--quiet", "--message-format=json"])
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    if let Some(path) = bpf_object {
        command.env(OBJECT_VARIABLE, path);
    }
    let output = command.output().context("cannot run cargo")?;
    ensure!(
        output.status.success(),
        "cargo {}: {}",
        arguments.join(" "),
        output.status
    );
    Ok(output.stdout)
}

/// The executable of that name.
fn find(messages: &[u8], name: &str) -> anyhow::Result<PathBuf> {
    executable(messages, name).with_context(|| format!("cargo did not build {name}"))
}

/// Where an executable lies, by cargo's messages.
fn executable(messages: &[u8], name: &str) -> Option<PathBuf> {
    messages
        .split(|&byte| byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| Some(PathBuf::from(message["executable"].as_str()?)))
}

/// Writes the archive that the kernel unpacks as its first file system; `command` is run there. `job` is
/// a program for it, which is [`JOB`] there; `ramdisk` is the module of the kernel for a block device in memory.
///
/// # Errors
///
/// A program cannot be read, or the archive not be written.
pub fn write(
    programs: &Programs,
    job: Option<&Path>,
    ramdisk: Option<&Path>,
    command: &str,
    path: &Path,
) -> anyhow::Result<()> {
    let mut archive = Archive::default();
    for name in ["bin", "dev", "test", "test/deps"] {
        archive.add(name, DIRECTORY | 0o755, &[]);
    }
    let script = include_str!("init.sh");
    archive.add("init", FILE | 0o755, script.as_bytes());
    archive.add("test/command", FILE | 0o644, command.as_bytes());
    let parts = [
        ("bin/busybox", Some(&*programs.busybox)),
        // The tests look for the other two where cargo puts them: one directory up.
        (JOB, job),
        ("test/brd.ko", ramdisk),
        (PROCJAIL, Some(&*programs.procjail)),
        (MISBEHAVE, Some(&*programs.misbehave)),
    ];
    for (name, program) in parts
        .into_iter()
        .filter_map(|(name, program)| Some((name, program?)))
    {
        let content =
            fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
        archive.add(name, FILE | 0o755, &content);
    }
    let mut file =
        fs::File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    file.write_all(&archive.finish())
        .with_context(|| format!("cannot write {}", path.display()))
}

const FILE: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;

/// A cpio archive of the form `newc`, the one that the kernel reads: see
/// `Documentation/driver-api/early-userspace/buffer-format.rst`.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let links = 1;
        let fields = [
            self.entries,
            mode,
            0, // user
            0, // group
            links,
            0, // time
            content.len() as u32,
            0, // device
            0,
            0, // device, if it is one
            0,
            name.len() as u32 + 1,
            0, // checksum, in another form
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_aligned_headers_and_an_end() {
        let mut archive = Archive::default();
        archive.add("init", FILE | 0o755, b"#!/bin/sh\n");
        let bytes = archive.finish();
        assert!(bytes.starts_with(b"07070100000001000081ed"));
        assert_eq!(&bytes[110..115], b"init\0");
        // The header and the name are 115 bytes, filled up to 116; the content is 10, filled up to 12.
        assert_eq!(&bytes[116..126], b"#!/bin/sh\n");
        assert_eq!(&bytes[128..134], b"070701");
        assert!(bytes.len().is_multiple_of(4));
    }

    #[test]
    fn a_program_is_found_among_messages() {
        let messages = b"{\"target\":{\"name\":\"kernel\"},\"executable\":null}\nnoise\n\
            {\"target\":{\"name\":\"misbehave\"},\"executable\":\"/a\"}\n\
            {\"target\":{\"name\":\"kernel\"},\"executable\":\"/b\"}\n";
        assert_eq!(executable(messages, "kernel"), Some(PathBuf::from("/b")));
        assert_eq!(executable(messages, "procjail"), None);
    }
}
