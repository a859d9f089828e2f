//! A cgroup of a test.

use std::{
    ffi::CString,
    fs, io,
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

/// A cgroup of the test, on any hierarchy. Dropping it kills what is in it and removes it.
pub struct TestCgroup(pub PathBuf);

impl TestCgroup {
    pub fn new(parent: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // SAFETY: the call has no preconditions.
        assert_eq!(unsafe { libc::geteuid() }, 0, "the kernel tests need root");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("procjail-test-{}-{number}", std::process::id());
        let path = Path::new(parent).join(name);
        fs::create_dir(&path).expect("cgroup made");
        Self(path)
    }

    /// On the default hierarchy, wherever it is mounted.
    pub fn unified() -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts listed");
        let line = mounts
            .lines()
            .find(|line| line.contains(" - cgroup2 "))
            .expect("a cgroup2 mount");
        Self::new(line.split(' ').nth(4).expect("its path"))
    }

    pub fn id(&self) -> u64 {
        fs::metadata(&self.0).expect("cgroup exists").ino()
    }

    /// A command that runs in these cgroups from before its first instruction.
    pub fn command(cgroups: &[&Self], program: &str) -> Command {
        let files: Vec<CString> = cgroups
            .iter()
            .map(|cgroup| {
                let path = cgroup.0.join("cgroup.procs");
                CString::new(path.to_str().expect("plain path")).expect("no NUL")
            })
            .collect();
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        // SAFETY: only system calls that are async-signal-safe.
        unsafe {
            command.pre_exec(move || {
                for file in &files {
                    let fd = libc::open(file.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
                    if fd < 0 || libc::write(fd, c"0".as_ptr().cast(), 1) != 1 {
                        return Err(io::Error::last_os_error());
                    }
                    libc::close(fd);
                }
                Ok(())
            })
        };
        command
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
        for _ in 0..200 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        eprintln!("left behind: {}", self.0.display());
    }
}
