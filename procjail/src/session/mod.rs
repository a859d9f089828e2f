//! A live trace: from the ring buffer to the outputs.
//!
//! ```text
//! ring buffer --[reader thread]--> spool --[writer thread]--> sort, decode, enrich --> outputs
//! launcher  --------------------->
//! ```
//!
//! The reader only copies, so that the kernel's ring is emptied as fast as memory allows; the writer
//! does the rest, and may block on a slow terminal or disk without the reader or the launcher being
//! held up. What lies between them is bounded: when the spool is full the reader waits, the ring
//! fills, and the kernel counts what it could not record.

mod alarm;
mod end;
mod executed;
mod progress;
mod reader;
mod spool;
mod trace;
mod writer;

use std::{
    io,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread as threads,
    time::{Duration, Instant},
};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::{
    event::{Found, Lost, Task, What},
    evidence::{Finding, Listener, stall_snapshot},
    jail::{LookAtStall, Observer},
    kernel,
    thread::stand_back,
};

pub use alarm::Alarm;
pub use end::End;
use executed::View;
use progress::Progress;
pub use spool::{Item, Spool};
pub use trace::{Leaks, StartError, TraceSession};
pub use writer::{Report, Sink};

/// Bytes that may wait between the kernel's ring buffer and the outputs.
pub const SPOOL_BYTES: usize = 256 << 20;

/// How long the outputs may go without progress at the end before they are given up.
const OUTPUT_STALL: Duration = Duration::from_secs(10);

/// Where the launcher's own events enter the trace. Made before the jail, as the jail's first event is
/// its creation.
#[derive(Clone)]
pub struct Recorder {
    spool: Arc<Spool>,
    /// Host PID of the jail's PID 1; 0 before there is one.
    pid1: Arc<AtomicU32>,
}

impl Recorder {
    /// A recorder whose events wait until a [`Session`] takes them up.
    pub fn new() -> Self {
        Self {
            spool: Arc::new(Spool::new(SPOOL_BYTES)),
            pid1: Arc::default(),
        }
    }
}

impl Recorder {
    /// Takes a process that was there before, and how PID 1 sees its files.
    pub fn found(&self, time_ns: u64, task: Task, found: Found) {
        if task.jail_pid == Some(1) {
            self.spool.push(Item::View(View::of(task.pid)));
        }
        self.spool.push(Item::Found {
            time_ns,
            task: Box::new(task),
            found: Box::new(found),
        });
    }
}

impl Listener for Recorder {
    fn kernel_log(&self, time_ns: u64, finding: Finding) {
        self.spool.push(Item::KernelLog {
            time_ns,
            finding: Box::new(finding),
        });
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Observer for Recorder {
    fn observe(&self, time_ns: u64, what: What) {
        match &what {
            What::JailCreated(created) => self.pid1.store(created.pid, Ordering::Relaxed),
            // A moment later PID 1 may be gone, and its root with it. That is final now.
            What::GateOpened(_) => {
                let pid1 = self.pid1.load(Ordering::Relaxed);
                self.spool.push(Item::View(View::of(pid1)));
            }
            _ => {}
        }
        self.spool.push(Item::Launcher {
            time_ns,
            what: Box::new(what),
        });
    }

    fn look_at_stall(&self) -> Option<LookAtStall> {
        Some(stall_snapshot)
    }
}

/// The two threads of a live trace.
pub struct Session {
    /// Whether a user would otherwise wait before an unmoving terminal.
    shows_progress: bool,
    spool: Arc<Spool>,
    stop: Arc<EventFd>,
    reader: threads::JoinHandle<()>,
    writer: threads::JoinHandle<Report>,
}

impl Session {
    /// Starts to move events from `source` and `recorder` to `sinks`, which have the header already.
    /// `alarm` is called when the kernel tells of what others wait for, before that is written.
    ///
    /// # Errors
    ///
    /// The threads or the event descriptor could not be made.
    pub fn start(
        recorder: &Recorder,
        source: kernel::Reader,
        sinks: Vec<Sink>,
        alarm: impl Fn(Alarm) + Send + 'static,
    ) -> io::Result<Self> {
        let spool = Arc::clone(&recorder.spool);
        let shows_progress = sinks.iter().all(|sink| !sink.is_terminal_stream);
        let stop = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?);
        let reader = threads::Builder::new().name("reader".into()).spawn({
            let (spool, stop) = (Arc::clone(&spool), Arc::clone(&stop));
            move || {
                stand_back();
                reader::run(source, &spool, stop.as_fd(), &alarm);
            }
        })?;
        let writer = threads::Builder::new().name("writer".into()).spawn({
            let spool = Arc::clone(&spool);
            move || {
                stand_back();
                writer::run(&spool, sinks)
            }
        })?;
        Ok(Self {
            shows_progress,
            spool,
            stop,
            reader,
            writer,
        })
    }

    /// Takes what is left in the ring, writes the footer, and ends the threads. The probes should be
    /// attached until here. `lost` is asked once the ring is empty.
    ///
    /// Gives up, and returns `None`, when the outputs make no progress for a while (a pipe that nobody
    /// reads).
    pub fn finish(self, lost: impl FnOnce() -> Vec<Lost>, end: End) -> Option<Report> {
        // A failed write leaves the reader at its next timeout; the flag in the spool ends it as well.
        self.spool.end_of_source();
        let _ = self.stop.write(1);
        let mut progress = Progress::new(self.shows_progress);
        wait_for(&self.spool, &mut progress, || self.reader.is_finished())?;
        self.spool.push(Item::End {
            lost: lost(),
            end: Box::new(end),
        });
        wait_for(&self.spool, &mut progress, || self.writer.is_finished())?;
        self.writer.join().ok()
    }
}

/// Waits until `done`, as long as the spool is being emptied.
fn wait_for(spool: &Spool, shown: &mut Progress, done: impl Fn() -> bool) -> Option<()> {
    let mut progress = spool.taken();
    let mut since = Instant::now();
    let mut pause = Duration::from_micros(50);
    while !done() {
        if spool.taken() != progress {
            progress = spool.taken();
            since = Instant::now();
        } else if since.elapsed() > OUTPUT_STALL {
            return None;
        }
        shown.update(spool.bytes());
        threads::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    }
    Some(())
}
