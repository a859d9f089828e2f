//! The kernel log (`/dev/kmsg`, Documentation/ABI/testing/dev-kmsg), from the moment it was opened.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use super::kernel_log::{Finding, KernelLog};
use crate::procfs;

/// Where the log is read.
const PATH: &str = "/dev/kmsg";

/// The log's name among the probes of a trace.
pub const NAME: &str = "kmsg";

/// What a trace lacks without it.
pub const PROVIDES: &str =
    "the kernel log's reports of OOM kills, and its lines about processes of the jail";

/// Most records of one round. A log that is written faster than it is read must not keep us.
const ROUND: usize = 4096;

/// Longer than any record; the kernel refuses to give a part of one.
const RECORD_BYTES: usize = 16 << 10;

/// The open log.
#[derive(Debug)]
pub struct Kmsg {
    file: File,
    log: KernelLog,
    record: Vec<u8>,
}

/// Opens the log at its end.
///
/// # Errors
///
/// There is none (a container), or it takes CAP_SYSLOG to read it.
pub fn open() -> io::Result<File> {
    let mut file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(PATH)?;
    file.seek(SeekFrom::End(0))?;
    Ok(file)
}

impl Kmsg {
    /// Looks in `file` for what concerns the jail whose cgroup is `cgroup`, such as `/procjail/web`.
    pub fn new(file: File, cgroup: &str) -> Kmsg {
        Kmsg {
            file,
            log: KernelLog::new(cgroup, procfs::page_bytes()),
            record: vec![0; RECORD_BYTES],
        }
    }

    /// Readable when there is more.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// What was found in the records since the last time.
    pub fn read(&mut self) -> Vec<Finding> {
        let mut found = Vec::new();
        for _ in 0..ROUND {
            match self.file.read(&mut self.record) {
                Ok(0) => break,
                Ok(length) => {
                    found.extend(self.log.take(self.record.get(..length).unwrap_or_default()))
                }
                // EPIPE: records were overwritten before they were read; the next read goes on.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        found
    }
}
