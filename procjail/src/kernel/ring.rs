//! The reader's end of the ring buffer.

use std::os::fd::{AsFd as _, BorrowedFd};

use aya::maps::{MapData, RingBuf};

/// Takes records out of the ring; one for each [`super::Tracer`].
///
/// It outlives the tracer: what is in the ring when the probes are detached can still be read.
pub struct Reader {
    ring: RingBuf<MapData>,
}

impl Reader {
    pub(super) fn new(ring: RingBuf<MapData>) -> Self {
        Self { ring }
    }

    /// Readable (poll(2)) when there are records.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }

    /// Passes records to `take` in the order in which they were made, until none is left or
    /// `max_bytes` were passed, and returns the number of bytes. The bound lets the caller do other
    /// work while the jail writes as fast as this reads.
    pub fn drain(&mut self, max_bytes: usize, take: &mut dyn FnMut(&[u8])) -> usize {
        let mut bytes = 0;
        while bytes < max_bytes
            && let Some(record) = self.ring.next()
        {
            bytes += record.len();
            take(&record);
        }
        bytes
    }
}
