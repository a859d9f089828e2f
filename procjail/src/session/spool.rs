//! The bounded queue between whoever makes events and the thread that writes them.

use std::{
    collections::VecDeque,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::{End, executed::View};
use crate::{
    event::{Found, Lost, Task, What},
    evidence::Finding,
};

/// What waits to be written.
pub enum Item {
    /// Records of the kernel in the order of the ring, each preceded by its length as a native-endian
    /// u32. Everything that happened before `watermark_ns` is in this chunk or was in an earlier one.
    Records {
        /// The records.
        bytes: Vec<u8>,
        /// CLOCK_BOOTTIME, nanoseconds.
        watermark_ns: u64,
    },
    /// A process that was there when procjail attached.
    Found {
        /// CLOCK_BOOTTIME, nanoseconds.
        time_ns: u64,
        /// The process.
        task: Box<Task>,
        /// What is known of it.
        found: Box<Found>,
    },
    /// How PID 1 sees its files.
    View(View),
    /// An event of the launcher.
    Launcher {
        /// CLOCK_BOOTTIME, nanoseconds.
        time_ns: u64,
        /// What it did.
        what: Box<What>,
    },
    /// What the kernel log says, of a process of the jail or of another.
    KernelLog {
        /// CLOCK_BOOTTIME, nanoseconds.
        time_ns: u64,
        /// What it says.
        finding: Box<Finding>,
    },
    /// Nothing follows.
    End {
        /// What the kernel could not record.
        lost: Vec<Lost>,
        /// How the jail ended.
        end: Box<End>,
    },
}

impl Item {
    fn cost(&self) -> usize {
        match self {
            Self::Records { bytes, .. } => bytes.len(),
            Self::View(_)
            | Self::Found { .. }
            | Self::Launcher { .. }
            | Self::KernelLog { .. }
            | Self::End { .. } => 0,
        }
    }
}

/// A queue that holds a limited number of bytes of the kernel's records. What the launcher has to say
/// is always taken: it must never wait for an output.
pub struct Spool {
    state: Mutex<State>,
    changed: Condvar,
    limit: usize,
    taken: AtomicU64,
    source_ended: AtomicBool,
    /// Wakes the reader when there is an event of another source than its own; none if out of
    /// descriptors.
    nudge: Option<EventFd>,
}

#[derive(Default)]
struct State {
    items: VecDeque<Item>,
    bytes: usize,
}

impl Spool {
    /// A queue that holds at most `limit` bytes of records (one chunk more, at most).
    pub fn new(limit: usize) -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            limit,
            taken: AtomicU64::new(0),
            source_ended: AtomicBool::new(false),
            nudge: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).ok(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A thread that panicked has left the queue whole: each change of it is a single step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an item, whatever is in the queue.
    pub fn push(&self, item: Item) {
        let waits = matches!(item, Item::Launcher { .. } | Item::KernelLog { .. });
        let mut state = self.lock();
        state.bytes += item.cost();
        state.items.push_back(item);
        drop(state);
        self.changed.notify_all();
        // It is let go once the reader has been past its time, which without records it never is.
        if let Some(nudge) = self.nudge.as_ref().filter(|_| waits) {
            let _ = nudge.write(1);
        }
    }

    /// Readable when the reader should mark the time.
    pub fn nudge(&self) -> Option<&EventFd> {
        self.nudge.as_ref()
    }

    /// Waits until there is room for more records, or until `timeout` has passed. Tells if there is.
    pub fn wait_for_room(&self, timeout: Duration) -> bool {
        let (state, _) = self
            .changed
            .wait_timeout_while(self.lock(), timeout, |state| state.bytes >= self.limit)
            .unwrap_or_else(PoisonError::into_inner);
        state.bytes < self.limit
    }

    /// Takes the oldest item; waits for one at most `timeout`.
    pub fn take(&self, timeout: Duration) -> Option<Item> {
        let (mut state, _) = self
            .changed
            .wait_timeout_while(self.lock(), timeout, |state| state.items.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        let item = state.items.pop_front()?;
        state.bytes -= item.cost();
        self.taken.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_all();
        Some(item)
    }

    /// Number of items taken so far, or of other signs of progress.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Notes that the writer is still at work on a large item.
    pub fn note_progress(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    /// Bytes of records that wait.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// The jail has ended: the reader takes what is in the ring and leaves.
    pub fn end_of_source(&self) {
        self.source_ended.store(true, Ordering::Release);
    }

    /// Whether [`Self::end_of_source`] was called.
    pub fn source_ended(&self) -> bool {
        self.source_ended.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(len: usize) -> Item {
        Item::Records {
            bytes: vec![0; len],
            watermark_ns: 0,
        }
    }

    #[test]
    fn has_no_room_from_its_limit_on_until_something_is_taken() {
        let spool = Spool::new(10);
        assert!(spool.wait_for_room(Duration::ZERO));
        spool.push(chunk(12));
        assert!(!spool.wait_for_room(Duration::ZERO));
        assert!(spool.take(Duration::ZERO).is_some());
        assert!(spool.wait_for_room(Duration::ZERO));
        assert_eq!(spool.taken(), 1);
    }

    #[test]
    fn takes_in_order_and_nothing_from_an_empty_queue() {
        let spool = Spool::new(10);
        spool.push(chunk(1));
        spool.push(chunk(2));
        let lengths: Vec<_> = std::iter::from_fn(|| spool.take(Duration::ZERO))
            .map(|item| item.cost())
            .collect();
        assert_eq!(lengths, [1, 2]);
        assert!(spool.take(Duration::from_millis(1)).is_none());
    }
}
