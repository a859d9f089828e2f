//! Reads the beginning of files that could not be executed: why is in the file, not in the error.
//!
//! The files are looked up below the root of the process, if it is still there when its event is read. Mostly it is
//! gone: then through descriptors of PID 1's root and working directory, which the launcher takes before it opens the
//! gate, unless the process may have had others. Of chroot(2) there is no event, but what it led to may show: a file that
//! can't have failed so is not the one that was executed. Nothing here may wait for somebody in the jail, so only regular files on the file system
//! of that root or directory are opened, and only where that is one that answers from this machine.

use std::collections::HashSet;
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;

use crate::event::{Event, ExecFailed, ExecutedFile, Task, What, inspect};
use crate::{jail, procfs};

/// How much of a file is read, bytes.
const HEAD_BYTES: u64 = 4096;
/// Most files that are looked at in one trace.
const MOST: u32 = 256;
/// Most processes with mounts of their own that are known at a time.
const MOST_APART: usize = 65_536;
/// A start time of procfs is cut to a tick of so many nanoseconds.
const TICK_NS: u64 = 10_000_000;

/// The root and the working directory of the jail's PID 1.
#[derive(Debug, Default)]
pub struct View {
    root: Option<OwnedFd>,
    directory: Option<OwnedFd>,
}

impl View {
    /// That of a process, which must be there.
    pub fn of(pid: u32) -> Self {
        Self {
            root: local(&format!("/proc/{pid}/root")),
            directory: local(&format!("/proc/{pid}/cwd")),
        }
    }
}

/// The jail's files, from the gate on.
#[derive(Debug, Default)]
pub struct Files {
    view: View,
    /// Host PIDs of processes that changed mounts or namespaces, and of all that they made: what PID 1 sees may not be
    /// what they saw.
    apart: HashSet<u32>,
    looked: u32,
}

impl Files {
    /// The files are to be looked up as PID 1 sees them.
    pub fn seen_from(&mut self, view: View) {
        self.view = view;
    }

    /// Takes note of what may give a process another root than PID 1's.
    pub fn see(&mut self, event: &Event) {
        match &event.what {
            What::Mount(call) if call.error.is_none() => self.set_apart(event.task.pid),
            What::Fork(fork) if !fork.thread && self.apart.contains(&event.task.pid) => {
                self.set_apart(fork.child.pid);
            }
            What::Exit(exit) if exit.process => {
                self.apart.remove(&event.task.pid);
            }
            _ => {}
        }
    }

    fn set_apart(&mut self, pid: u32) {
        if self.apart.len() < MOST_APART {
            self.apart.insert(pid);
        }
    }

    /// What the file is that `task` could not execute; `None` if there is no such file, or if it can't be
    /// told.
    pub fn look(&mut self, task: &Task, failed: &ExecFailed) -> Option<ExecutedFile> {
        let error = failed.error.number;
        let telling = matches!(error, libc::ENOENT | libc::EACCES | libc::ENOEXEC);
        if !telling || failed.filename.is_empty() || self.looked >= MOST {
            return None;
        }
        self.looked += 1;
        let own;
        let view = match is_there(task) {
            true => {
                own = View::of(task.pid);
                &own
            }
            false if self.apart.contains(&task.pid) => return None,
            false => &self.view,
        };
        let root = view.root.as_ref()?.as_raw_fd();
        let directory = match failed.filename.starts_with('/') {
            true => root,
            false => view.directory.as_ref()?.as_raw_fd(),
        };
        let told = told(root, directory, &failed.filename)?;
        told.may_fail_with(error).then_some(told)
    }
}

/// The very process still has a root and a working directory: it is neither dead nor another one with its number.
fn is_there(task: &Task) -> bool {
    let started =
        procfs::read(&format!("/proc/{}/stat", task.pid)).map(|stat| procfs::start_ns(&stat));
    started.is_some_and(|started| started != 0 && started.abs_diff(task.start_ns) <= TICK_NS)
        && std::fs::read_link(format!("/proc/{}/root", task.pid)).is_ok()
}

/// What a file is.
fn told(root: RawFd, directory: RawFd, name: &str) -> Option<ExecutedFile> {
    let mut file = open(directory, name)?;
    let executable = file.metadata().ok()?.mode() & 0o111 != 0;
    let mut head = Vec::new();
    Read::take(&mut file, HEAD_BYTES)
        .read_to_end(&mut head)
        .ok()?;
    let mut told = inspect(&head);
    told.executable = Some(executable);
    told.interpreter_exists = told
        .interpreter
        .as_ref()
        .filter(|name| name.starts_with('/'))
        .and_then(|name| exists(root, name));
    Some(told)
}

/// A directory, if its file system needs nobody but this machine's kernel and disks.
fn local(path: &str) -> Option<OwnedFd> {
    /// `*_SUPER_MAGIC` of statfs(2): ext2 to ext4, XFS, Btrfs, tmpfs, ramfs, overlayfs, squashfs, EROFS, F2FS.
    const LOCAL: [i64; 9] = [
        0xef53,
        0x5846_5342,
        0x9123_683e,
        0x0102_1994,
        0x8584_58f6,
        0x794c_7630,
        0x7371_7368,
        0xe0f5_e1e2,
        0xf2f5_2010,
    ];
    let path = CString::new(path).ok()?;
    let directory = jail::openat2(libc::AT_FDCWD, &path, libc::O_PATH | libc::O_CLOEXEC, 0).ok()?;
    let kind = jail::fs_type(directory.as_raw_fd()).ok()?;
    LOCAL.contains(&(kind & 0xffff_ffff)).then_some(directory)
}

/// Looks a path up below a directory, on its file system, as if that were the root.
fn look_up(directory: RawFd, path: &str) -> nix::Result<OwnedFd> {
    let path = CString::new(path).map_err(|_| nix::errno::Errno::EINVAL)?;
    jail::openat2(
        directory,
        &path,
        libc::O_PATH | libc::O_CLOEXEC,
        libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_XDEV | libc::RESOLVE_NO_MAGICLINKS,
    )
}

/// A regular file, open for reading.
fn open(directory: RawFd, path: &str) -> Option<File> {
    let found = File::from(look_up(directory, path).ok()?);
    if !found.metadata().ok()?.is_file() {
        return None;
    }
    // What O_PATH found can be opened by its descriptor only.
    File::open(format!("/proc/self/fd/{}", found.as_raw_fd())).ok()
}

/// Whether a file exists; `None` if that can't be told.
fn exists(root: RawFd, path: &str) -> Option<bool> {
    match look_up(root, path) {
        Ok(_) => Some(true),
        Err(nix::errno::Errno::ENOENT | nix::errno::Errno::ENOTDIR) => Some(false),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Errno, FileForm};
    use std::os::unix::fs::PermissionsExt;

    /// Files as this very process sees them.
    fn files() -> Files {
        let mut files = Files::default();
        files.seen_from(View::of(std::process::id()));
        files
    }

    fn failed(path: &std::path::Path, number: i32) -> ExecFailed {
        ExecFailed {
            filename: path.display().to_string(),
            error: Errno {
                number,
                name: String::new(),
            },
            file: None,
        }
    }

    #[test]
    fn a_script_is_read_and_its_interpreter_looked_for() {
        let directory = tempfile::tempdir().unwrap();
        let mut files = Files::default();
        files.view.root = local(&directory.path().display().to_string());
        assert!(
            files.view.root.is_some(),
            "temporary files are on this machine"
        );
        let path = directory.path().join("script");
        std::fs::write(&path, "#!/interpreter\n").unwrap();
        let mut look = || {
            files
                .look(&Task::default(), &failed("/script".as_ref(), libc::ENOENT))
                .unwrap()
        };
        let told = look();
        assert_eq!(told.form, FileForm::Script);
        assert_eq!(told.interpreter_exists, Some(false));
        assert_eq!(told.executable, Some(false));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::write(directory.path().join("interpreter"), "").unwrap();
        let told = look();
        assert_eq!(told.interpreter_exists, Some(true));
        assert_eq!(told.executable, Some(true));
    }

    /// Files as PID 1 sees them: a script and a program that needs no loader.
    fn below(directory: &std::path::Path) -> Files {
        let program = [b"\x7fELF\x02\x01".as_slice(), &[0; 64]].concat();
        std::fs::write(directory.join("program"), program).unwrap();
        std::fs::write(directory.join("script"), "#!/nowhere\n").unwrap();
        let mut files = Files::default();
        files.view.root = local(&directory.display().to_string());
        files
    }

    fn event(task: &Task, what: What) -> Event {
        Event {
            seq: 1,
            time_ns: 1,
            task: task.clone(),
            what,
        }
    }

    #[test]
    fn a_file_that_cannot_have_failed_so_is_another_ones() {
        let directory = tempfile::tempdir().unwrap();
        let mut files = below(directory.path());
        let mut look = |error| files.look(&Task::default(), &failed("/program".as_ref(), error));
        // As after chroot(2), of which nothing else tells.
        assert_eq!(look(libc::ENOENT), None);
        assert_eq!(
            look(libc::EACCES).map(|told| told.form),
            Some(FileForm::Elf)
        );
    }

    #[test]
    fn a_process_with_mounts_of_its_own_is_not_judged_by_pid_1s() {
        let directory = tempfile::tempdir().unwrap();
        let mut files = below(directory.path());
        let gone = |pid| Task {
            pid,
            start_ns: 1,
            ..Task::default()
        };
        let (bwrap, below, other) = (gone(4_000_001), gone(4_000_002), gone(4_000_003));
        let moved = crate::event::Mount {
            call: "pivot_root".to_owned(),
            source: String::new(),
            target: String::new(),
            fs_type: String::new(),
            flags: 0,
            flag_names: Vec::new(),
            args: Vec::new(),
            result: Some(0),
            error: None,
            duration_ns: 1,
        };
        files.see(&event(&bwrap, What::Mount(moved)));
        let fork = crate::event::Fork {
            child: below.clone(),
            thread: false,
            signals: None,
        };
        files.see(&event(&bwrap, What::Fork(fork)));
        let script = failed("/script".as_ref(), libc::ENOENT);
        assert_eq!(files.look(&bwrap, &script), None);
        assert_eq!(files.look(&below, &script), None);
        assert!(files.look(&other, &script).is_some());
    }

    #[test]
    fn a_process_that_is_still_there_is_judged_by_its_own_root() {
        let directory = tempfile::tempdir().unwrap();
        let mut files = below(directory.path());
        let own = procfs::host::task(std::process::id());
        let script = failed("/script".as_ref(), libc::ENOENT);
        assert_eq!(files.look(&own, &script), None, "it is not below our root");
        // A later one with the same number.
        let gone = Task { start_ns: 1, ..own };
        assert!(files.look(&gone, &script).is_some());
    }

    #[test]
    fn what_is_no_file_is_not_read() {
        let mut files = files();
        for path in ["/dev/zero", "/proc/self/exe", "/", "/nowhere/at/all"] {
            let told = files.look(&Task::default(), &failed(path.as_ref(), libc::EACCES));
            assert_eq!(told, None, "{path}");
        }
        let other = failed("/bin/sh".as_ref(), libc::E2BIG);
        assert_eq!(files.look(&Task::default(), &other), None);
    }
}
