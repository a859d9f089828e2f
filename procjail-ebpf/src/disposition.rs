//! What a task does with signals: which it ignores, catches and blocks.

use aya_ebpf::{helpers::generated::bpf_probe_read_kernel, macros::map, maps::PerCpuArray};
use procjail_common::SignalSets;

use crate::{config::offset, read};

/// Signals that are told; those above are real-time signals.
const SIGNALS: usize = 31;

/// Words of one `k_sigaction`, on all architectures so far.
const WORDS: usize = 4;

/// The actions of a process: more than fits on a program's stack.
#[map]
static ACTIONS: PerCpuArray<[u64; SIGNALS * WORDS]> = PerCpuArray::with_max_entries(1, 0);

/// Writes what a task does with signals.
///
/// Without branches on what was read, since the verifier would follow both sides of each.
///
/// # Safety
///
/// `to` is valid for writing.
#[unsafe(export_name = "fill_signal_sets")]
#[inline(never)]
pub unsafe fn fill(to: *mut SignalSets, task: u64) -> i32 {
    // SAFETY: the caller vouches for `to`; the scratch belongs to this processor while the program runs.
    unsafe {
        read::zero::<{ size_of::<SignalSets>() / 8 }>(to.cast());
        let size = size_of::<[u64; SIGNALS * WORDS]>() as u32;
        if offset!(k_sigaction_size) != 8 * WORDS as u32 || offset!(k_sigaction_handler) != 0 {
            return 0;
        }
        let Some(actions) = ACTIONS.get_ptr_mut(0) else {
            return 0;
        };
        let hand: u64 = read::kernel(task, offset!(task_sighand));
        let place = hand.wrapping_add(u64::from(offset!(sighand_action)));
        if bpf_probe_read_kernel(actions.cast(), size, place as *const _) != 0 {
            return 0;
        }
        let (mut ignored, mut caught) = (0, 0);
        for index in 0..SIGNALS {
            let handler = (*actions)[index * WORDS];
            // SIG_DFL is 0, SIG_IGN is 1, and an address has no highest bit.
            let address = ((handler >> 1) + (u64::MAX >> 1)) >> 63;
            caught |= address << index;
            ignored |= (handler & 1 & !address) << index;
        }
        let blocked: u64 = read::kernel(task, offset!(task_blocked));
        (*to).blocked = blocked as u32 & (u32::MAX >> 1);
        (*to).ignored = ignored as u32;
        (*to).caught = caught as u32;
        (*to).known = 1;
    }
    0
}
