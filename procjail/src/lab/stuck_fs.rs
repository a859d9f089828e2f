//! A file system that takes questions and never answers: a FUSE mount whose daemon only greets.
//!
//! What asks it something can't be killed before it is released, like a process that waits for a dead
//! NFS server or disk; but it can be released at any time.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use super::Failure;

/// A mounted file system that never answers. Dropping it releases who waits, and unmounts it.
pub struct StuckFs {
    target: PathBuf,
    daemon: Option<JoinHandle<()>>,
}

/// `FUSE_INIT` of include/uapi/linux/fuse.h.
const FUSE_INIT: u32 = 26;
/// A version of the protocol that every kernel since 5.10 speaks.
const VERSION: (u32, u32) = (7, 31);

impl StuckFs {
    /// Mounts it at a directory, which is made.
    ///
    /// # Errors
    ///
    /// There is no `/dev/fuse`, or the mount is refused.
    pub fn mount(target: &Path) -> Result<Self, Failure> {
        let io = |what: &str| Failure::of(format!("{what} {}", target.display()));
        fs::create_dir_all(target).map_err(io("create"))?;
        let device = File::options()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .map_err(Failure::of("open /dev/fuse"))?;
        let data = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0",
            device.as_raw_fd()
        );
        let (point, data) = (
            c_string(target.as_os_str().as_encoded_bytes()),
            c_string(data.as_bytes()),
        );
        // SAFETY: all strings are NUL-terminated and live across the call.
        let result = unsafe {
            libc::mount(
                c"procjail-lab".as_ptr(),
                point.as_ptr(),
                c"fuse".as_ptr(),
                libc::MS_NOSUID | libc::MS_NODEV,
                data.as_ptr().cast(),
            )
        };
        if result != 0 {
            return Err(io("mount a FUSE file system at")(
                std::io::Error::last_os_error(),
            ));
        }
        Ok(Self {
            target: target.to_owned(),
            // It ends when the mount does: its read fails then.
            daemon: Some(thread::spawn(move || serve(device))),
        })
    }

    /// What releases who waits, and those who ask later.
    pub fn release(&self) -> impl FnOnce() + 'static {
        let target = self.target.clone();
        move || unmount(&target)
    }
}

impl Drop for StuckFs {
    fn drop(&mut self) {
        unmount(&self.target);
        if let Some(daemon) = self.daemon.take() {
            let _ = daemon.join();
        }
        let _ = fs::remove_dir(&self.target);
    }
}

/// Ends the connection, whoever waits for it, and takes the mount away.
fn unmount(target: &Path) {
    let point = c_string(target.as_os_str().as_encoded_bytes());
    // SAFETY: the string is NUL-terminated and lives across the calls.
    unsafe {
        // With MNT_FORCE the kernel aborts the connection before it looks whether the mount is busy
        // (`fuse_umount_begin()` in fs/fuse/inode.c).
        libc::umount2(point.as_ptr(), libc::MNT_FORCE);
        libc::umount2(point.as_ptr(), libc::MNT_DETACH);
    }
}

fn c_string(bytes: &[u8]) -> CString {
    // A path of ours has no NUL.
    CString::new(bytes).unwrap_or_default()
}

/// Answers the greeting, and takes all else without an answer.
fn serve(mut device: File) {
    // Requests are read whole, at least this much (`FUSE_MIN_READ_BUFFER`).
    let mut request = vec![0; 1 << 17];
    loop {
        let length = match device.read(&mut request) {
            Ok(length) => length,
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => continue,
            // A request was taken back before it was read.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => continue,
            Err(_) => return,
        };
        let word = |at: usize| {
            request
                .get(at..at + 4)
                .filter(|_| at + 4 <= length)
                .and_then(|bytes| bytes.try_into().ok())
                .map_or(0, u32::from_ne_bytes)
        };
        // struct fuse_in_header: len, opcode, unique (64 bits), …
        if word(4) != FUSE_INIT {
            continue;
        }
        let unique = request.get(8..16).unwrap_or(&[0; 8]).to_vec();
        // struct fuse_out_header and struct fuse_init_out, 16 and 64 bytes.
        let mut answer = Vec::with_capacity(80);
        answer.extend(80u32.to_ne_bytes());
        answer.extend(0u32.to_ne_bytes());
        answer.extend(unique);
        for value in [VERSION.0, VERSION.1, 1 << 16, 0, 0x0010_0010, 1 << 16] {
            answer.extend(value.to_ne_bytes());
        }
        answer.resize(80, 0);
        if device.write_all(&answer).is_err() {
            return;
        }
    }
}
