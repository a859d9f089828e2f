//! Reads the beginning of files that could not be executed: why is in the file, not in the error.
//!
//! The files are looked up as the jail sees them, through descriptors of its PID 1's root and working
//! directory, which the launcher takes before it opens the gate: a process whose execve(2) failed is gone when
//! its event is read. Nothing here may wait for somebody in the jail, so only regular files on the file system
//! of that root or directory are opened, and only where that is one that answers from this machine.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;

use crate::event::{ExecFailed, ExecutedFile, Task, inspect};
use crate::jail;

/// How much of a file is read, bytes.
const HEAD_BYTES: u64 = 4096;
/// Most files that are looked at in one trace.
const MOST: u32 = 256;

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
    looked: u32,
}

impl Files {
    /// The files are to be looked up as PID 1 sees them.
    pub fn seen_from(&mut self, view: View) {
        self.view = view;
    }

    /// What the file is that `task` could not execute; `None` if there is no such file, or if it can't be
    /// told.
    pub fn look(&mut self, task: &Task, failed: &ExecFailed) -> Option<ExecutedFile> {
        let telling = matches!(
            failed.error.number,
            libc::ENOENT | libc::EACCES | libc::ENOEXEC
        );
        if !telling || failed.filename.is_empty() || self.looked >= MOST {
            return None;
        }
        self.looked += 1;
        let root = self.view.root.as_ref()?.as_raw_fd();
        let own;
        let directory = match failed.filename.starts_with('/') {
            true => root,
            false => {
                own = local(&format!("/proc/{}/cwd", task.pid));
                own.as_ref().or(self.view.directory.as_ref())?.as_raw_fd()
            }
        };
        let mut file = open(directory, &failed.filename)?;
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
