//! The thread that empties the kernel's ring buffer into the spool.

use std::{
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use procjail_common::Header;

use super::alarm::{self, Alarm};
use super::spool::{Item, Spool};
use crate::{clock, kernel};

/// After the kernel's notice, how long to let records gather. While the ring holds something unread the
/// kernel sends no further notice, so this bounds the notices and the rounds of this thread, for which
/// the traced program pays. A storm of signals fills the default ring in eight times as long.
const GATHER_MS: u16 = 10;

/// How long after the last records a mark of the time is sent, so that the writer can let go of them.
const SETTLE_MS: u16 = 10;

/// Most bytes of one chunk.
const CHUNK_BYTES: usize = 1 << 20;

/// Runs until [`Spool::end_of_source`] and the ring is empty. Calls `alarm` for what others wait for.
pub fn run(mut source: kernel::Reader, spool: &Spool, stop: BorrowedFd<'_>, alarm: &dyn Fn(Alarm)) {
    // Whether the writer waits for a later mark of time to let the last records go.
    let mut unsettled = true;
    loop {
        let ended = spool.source_ended();
        if !ended {
            wait(source.fd(), stop, spool, unsettled);
            // Not a sleep: the end of the jail must not wait for it.
            let _ = poll(&mut [PollFd::new(stop, PollFlags::POLLIN)], GATHER_MS);
        }
        // Taken here, so that what comes later nudges anew.
        let nudged = spool.nudge().is_some_and(|nudge| nudge.read().is_ok());
        let got = drain(&mut source, spool, unsettled || nudged, alarm);
        if ended && got == 0 {
            return;
        }
        unsettled = got > 0;
    }
}

fn wait(ring: BorrowedFd<'_>, stop: BorrowedFd<'_>, spool: &Spool, unsettled: bool) {
    let timeout = if unsettled {
        PollTimeout::from(SETTLE_MS)
    } else {
        PollTimeout::NONE
    };
    let mut fds = vec![
        PollFd::new(ring, PollFlags::POLLIN),
        PollFd::new(stop, PollFlags::POLLIN),
    ];
    let nudge = spool.nudge();
    fds.extend(nudge.map(|nudge| PollFd::new(nudge.as_fd(), PollFlags::POLLIN)));
    // Interrupted or timed out: the ring is looked at either way.
    let _ = poll(&mut fds, timeout);
}

/// Moves what the ring holds now. Returns how many bytes that was.
fn drain(
    source: &mut kernel::Reader,
    spool: &Spool,
    mark_time: bool,
    alarm: &dyn Fn(Alarm),
) -> usize {
    let mut total = 0;
    loop {
        // The ring keeps what the spool has no room for; what it can't keep, the kernel counts.
        if !spool.wait_for_room(Duration::from_millis(100)) {
            continue;
        }
        let before = clock::boot_ns();
        let mut bytes = Vec::new();
        let mut last_ns = 0;
        let mut alarms = Vec::new();
        let got = source.drain(CHUNK_BYTES, &mut |record| {
            if let Some(header) = procjail_common::read_record::<Header>(record) {
                last_ns = header.time_ns;
                alarm::note(&mut alarms, header.kind, record);
            }
            bytes.extend_from_slice(&(record.len() as u32).to_ne_bytes());
            bytes.extend_from_slice(record);
        });
        alarms.into_iter().for_each(alarm);
        let emptied = got < CHUNK_BYTES;
        if got > 0 || (mark_time && total == 0) {
            spool.push(Item::Records {
                bytes,
                // A ring that was not emptied holds more from before `before`.
                watermark_ns: if emptied { before } else { last_ns },
            });
        }
        total += got;
        if emptied {
            return total;
        }
    }
}

/// The time of a record, whatever kind it is: see [`procjail_common::Header`].
pub fn record_time_ns(record: &[u8]) -> Option<u64> {
    procjail_common::read_record::<Header>(record).map(|header| header.time_ns)
}
