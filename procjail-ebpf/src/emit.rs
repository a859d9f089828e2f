//! The only way out: records into the ring, and a count of those that found no room.

use aya_ebpf::{
    helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_boot_ns},
    macros::map,
    maps::{PerCpuArray, RingBuf},
};
use procjail_common::{Header, Record, kind};

use crate::task;

/// The event is not the jail's, or there was no room for its record.
pub struct Skip;

/// The records. User space sets the real size.
#[map]
static RING: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// Records that found no room, by [`kind`] and processor.
#[map]
static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(kind::COUNT, 0);

/// CLOCK_BOOTTIME, nanoseconds.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// Makes one record in place and hands it over; `fill` writes all that follows the header.
///
/// `task` is the address of the task that the header names.
#[inline(always)]
pub fn record<T: Record + 'static>(
    kind: u32,
    task: u64,
    fill: impl FnOnce(*mut T),
) -> Result<(), Skip> {
    let Some(mut entry) = RING.reserve::<T>(0) else {
        lost(kind);
        return Err(Skip);
    };
    let to = entry.as_mut_ptr();
    // SAFETY: the ring gave `size_of::<T>()` bytes, and every record begins with a header.
    unsafe { header(to.cast(), kind, task) };
    fill(to);
    entry.submit(0);
    Ok(())
}

/// Hands over a record of varying length that was made elsewhere.
#[inline(always)]
pub fn bytes(kind: u32, record: &[u8]) -> Result<(), Skip> {
    match RING.output::<[u8]>(record, 0) {
        Ok(()) => Ok(()),
        Err(_) => {
            lost(kind);
            Err(Skip)
        }
    }
}

/// Writes a record's header.
///
/// # Safety
///
/// `to` is valid for writing.
#[inline(always)]
pub unsafe fn header(to: *mut Header, kind: u32, task: u64) {
    // SAFETY: the caller vouches for `to`; the helper has no preconditions.
    unsafe {
        (*to).kind = kind;
        (*to).cpu = bpf_get_smp_processor_id() as u32;
        (*to).time_ns = now();
        task::fill(&raw mut (*to).task, task);
    }
}

/// Counts a record that there will not be.
#[inline(always)]
pub fn lost(kind: u32) {
    if let Some(count) = LOST.get_ptr_mut(kind) {
        // SAFETY: the slot belongs to this processor.
        unsafe { *count += 1 };
    }
}
