//! Runs the built `procjail` as root and looks at what a user would see.

#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod app;

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};

/// Nothing here takes longer; what does has hung.
pub const LIMIT: Duration = Duration::from_secs(20);

/// `procjail run` with these arguments, not started yet.
pub fn command<I: IntoIterator<Item: AsRef<OsStr>>>(args: I) -> Command {
    // SAFETY: always succeeds.
    let uid = unsafe { libc::geteuid() };
    assert_eq!(uid, 0, "these tests make jails: run them as root");
    let mut command = Command::new(env!("CARGO_BIN_EXE_procjail"));
    command.arg("run").args(args).stdin(Stdio::null());
    command
}

/// A copy of procjail in that directory which everybody may execute: the build directory may be closed to
/// others.
pub fn program_for_all(directory: &Path) -> PathBuf {
    let copy = directory.join("procjail");
    std::fs::copy(env!("CARGO_BIN_EXE_procjail"), &copy).unwrap();
    for path in [directory, &copy] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    copy
}

/// Starts a command with pipes for its outputs.
pub fn spawn(mut command: Command) -> Child {
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs a command to its end.
pub fn output(command: Command) -> Output {
    wait(spawn(command))
}

/// Waits for a child whose outputs are pipes.
pub fn wait(mut child: Child) -> Output {
    fn drain(pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
        let mut pipe = pipe;
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            pipe.read_to_end(&mut bytes).unwrap();
            bytes
        })
    }
    let stdout = drain(child.stdout.take().unwrap());
    let stderr = drain(child.stderr.take().unwrap());
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if start.elapsed() > LIMIT {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("procjail did not end within {LIMIT:?}");
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    Output {
        status,
        stdout: stdout.join().unwrap(),
        stderr: stderr.join().unwrap(),
    }
}

/// Runs `procjail run ARGS`: exit code, standard output, standard error.
pub fn run<I: IntoIterator<Item: AsRef<OsStr>>>(args: I) -> (i32, String, String) {
    let output = output(command(args));
    (
        output
            .status
            .code()
            .expect("procjail exits, whatever happens"),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// Runs it, demands success and nothing on standard error; standard output.
#[track_caller]
pub fn ok<I: IntoIterator<Item: AsRef<OsStr>>>(args: I) -> String {
    let (code, stdout, stderr) = run(args);
    assert_eq!((code, stderr.as_str()), (0, ""), "stdout: {stdout}");
    stdout
}

/// Runs it, demands an exit code and that standard error is one line with all these parts.
#[track_caller]
pub fn refused<I: IntoIterator<Item: AsRef<OsStr>>>(args: I, code: i32, parts: &[&str]) {
    let (got, stdout, stderr) = run(args);
    assert_eq!((got, stdout.as_str()), (code, ""), "stderr: {stderr}");
    assert!(
        stderr.starts_with("procjail: ") && stderr.trim_end().lines().count() == 1,
        "{stderr}"
    );
    for part in parts {
        assert!(stderr.contains(part), "{part:?} is not in: {stderr}");
    }
}

/// A directory with what a root needs: proc, dev, tmp, mnt and a static shell.
pub fn root() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["bin", "proc", "dev", "tmp", "mnt", "etc"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"]
        .iter()
        .find(|path| Path::new(path).exists());
    let busybox = busybox.expect("install busybox-static: roots of these tests have no libraries");
    std::fs::copy(busybox, dir.path().join("bin/busybox")).unwrap();
    for name in [
        "sh", "cat", "ls", "mount", "readlink", "touch", "mkdir", "mknod", "stat", "sleep",
    ] {
        std::os::unix::fs::symlink("busybox", dir.path().join("bin").join(name)).unwrap();
    }
    // Another user may enter it.
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(dir.path(), mode).unwrap();
    dir
}

/// The same as text.
pub fn text(path: impl AsRef<Path>) -> String {
    path.as_ref().to_str().unwrap().to_owned()
}

/// The mounts of the host.
pub fn host_mounts() -> String {
    std::fs::read_to_string("/proc/self/mountinfo").unwrap()
}

/// Lets a closure of system calls run in the launcher before it executes.
pub fn hostile(command: &mut Command, setup: fn()) {
    let setup = move || {
        setup();
        Ok(())
    };
    // SAFETY: the closures that are passed only make system calls.
    unsafe { command.pre_exec(setup) };
}

/// A tmpfs of our own on the host, unmounted when dropped.
pub struct HostTmpfs(tempfile::TempDir);

impl HostTmpfs {
    /// Mounts it, shared or private.
    pub fn mount(shared: bool) -> HostTmpfs {
        let dir = tempfile::tempdir().unwrap();
        let propagation = if shared {
            MsFlags::MS_SHARED
        } else {
            MsFlags::MS_PRIVATE
        };
        let none = None::<&str>;
        mount(
            Some("tmpfs"),
            dir.path(),
            Some("tmpfs"),
            MsFlags::empty(),
            none,
        )
        .unwrap();
        mount(none, dir.path(), none, propagation, none).unwrap();
        HostTmpfs(dir)
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }
}

impl Drop for HostTmpfs {
    fn drop(&mut self) {
        // Again and again: a test may have put mounts on top or below.
        while nix::mount::umount2(self.0.path(), nix::mount::MntFlags::MNT_DETACH).is_ok() {}
    }
}
