//! Moving PID 1 into the v1 hierarchies, in the background.
//!
//! The first write to a `cgroup.procs` waits for an RCU grace period, 10 ms and more on an idle
//! machine. Meanwhile the child sets itself up and the launcher loads what it needs.

use std::sync::Arc;
use std::thread::JoinHandle;

use crate::cgroup::Dir;
use crate::cgroup::Error;

/// A move that goes on. Dropping waits for its end: the process must not be reaped before, or its
/// number could come to mean another one.
#[derive(Debug)]
pub struct Joining(Option<JoinHandle<Result<(), Error>>>);

impl Joining {
    pub(super) fn start(dirs: Vec<Dir>, pid: u32) -> Result<Joining, Error> {
        if dirs.is_empty() {
            return Ok(Joining(None));
        }
        let dirs = Arc::new(dirs);
        let theirs = Arc::clone(&dirs);
        let thread = std::thread::Builder::new().name("procjail-join".into());
        match thread.spawn(move || join(&theirs, pid)) {
            Ok(handle) => Ok(Joining(Some(handle))),
            // No thread to be had: then it takes its time.
            Err(_) => join(&dirs, pid).map(|()| Joining(None)),
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// What the kernel refused.
    pub fn finish(&mut self) -> Result<(), Error> {
        match self.0.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(()),
        }
    }
}

impl Drop for Joining {
    fn drop(&mut self) {
        let _ = self.finish();
    }
}

/// One right after the other: they share the grace period.
fn join(dirs: &[Dir], pid: u32) -> Result<(), Error> {
    for dir in dirs {
        dir.write("cgroup.procs", &pid.to_string())
            .map_err(|errno| {
                let file = dir.path().join("cgroup.procs");
                Error::io(format!("move process {pid} by"), file, errno)
            })?;
    }
    Ok(())
}
