//! What processes write to their standard error: the last of it, told of one that ends badly. What is written without a
//! pause, such as a long stack trace, says first what it is about, so the beginning of that is kept too.

use aya_ebpf::{
    helpers::generated::bpf_probe_read_user,
    macros::map,
    maps::{Array, HashMap},
};
use procjail_common::{STDERR_HEAD_LEN, STDERR_TAIL_LEN, StderrTail, kind};

use crate::{
    config::{offset, present},
    emit::{self, Skip},
    read, task,
};

/// How many processes are kept at a time.
const PROCESSES: u32 = 256;

/// Parts of a vector that are looked at. The loader of shared libraries writes a dozen.
const PARTS: u64 = 16;

/// A silence of this length is a pause, nanoseconds.
const PAUSE_NS: u64 = 50_000_000;

/// The end of what a process wrote.
#[repr(C)]
#[derive(Clone, Copy)]
struct Tail {
    record: StderrTail,
    /// A write that begins before the ring's end may be as long as the ring, or twice as long for all that the
    /// verifier knows.
    overflow: [u8; 2 * STDERR_TAIL_LEN],
}

/// By process ID.
#[map]
static TAILS: HashMap<u32, Tail> = HashMap::with_max_entries(PROCESSES, 0);

/// What a new entry of [`TAILS`] begins as.
#[map]
static NO_TAIL: Array<Tail> = Array::with_max_entries(1, 0);

/// Whether a call that begins with a descriptor may be about standard error. A shell that executes
/// `echo words >&2` makes descriptor 1 the same as 2 for that time.
#[inline(always)]
pub fn may_be(regs: u64) -> bool {
    let descriptor: u64 = read::kernel(regs, offset!(regs_arg0));
    matches!(descriptor as u32, 1 | 2)
}

/// Whether descriptors 1 and 2 are the same open file.
#[inline(always)]
fn are_the_same(task: u64) -> bool {
    if !present(offset!(task_files)) {
        return false;
    }
    let files: u64 = read::kernel(task, offset!(task_files));
    let table: u64 = read::kernel(files, offset!(files_fdt));
    let array: u64 = read::kernel(table, offset!(fdtable_fd));
    let [out, err]: [u64; 2] = read::kernel(array, 8);
    out == err
}

/// Keeps the `written` bytes that the running task, which is the jail's, has written.
#[unsafe(export_name = "note_stderr")]
#[inline(never)]
pub fn note(task: u64, regs: u64, vector: bool, written: u64) -> i32 {
    let _ = try_note(task, regs, vector, written);
    0
}

#[inline(always)]
fn try_note(task: u64, regs: u64, vector: bool, written: u64) -> Result<(), Skip> {
    let descriptor: u64 = read::kernel(regs, offset!(regs_arg0));
    if descriptor as u32 != 2 && !are_the_same(task) {
        return Err(Skip);
    }
    let tail = tail(task::ids(task).1)?;
    // SAFETY: the entry is valid. Threads that write at the same time may spoil the text.
    unsafe { note_pause(tail) };
    let place: u64 = read::kernel(regs, offset!(regs_arg1));
    if !vector {
        // SAFETY: as above.
        unsafe { append(tail, place, written) };
        return Ok(());
    }
    let parts: u64 = read::kernel(regs, offset!(regs_arg2));
    let mut left = written;
    for index in 0..PARTS {
        if index >= parts {
            break;
        }
        let [part, length]: [u64; 2] = read::user(place + 16 * index);
        let length = read::lesser(length, left);
        // SAFETY: as above.
        unsafe { append(tail, part, length) };
        left -= length;
    }
    Ok(())
}

/// The entry of a process.
#[inline(always)]
fn tail(pid: u32) -> Result<*mut Tail, Skip> {
    if let Some(tail) = TAILS.get_ptr_mut(pid) {
        return Ok(tail);
    }
    let empty = NO_TAIL.get(0).ok_or(Skip)?;
    // If another thread was quicker, its entry is found.
    let _ = TAILS.insert(pid, empty, read::BPF_NOEXIST);
    TAILS.get_ptr_mut(pid).ok_or_else(|| {
        emit::lost(kind::STDERR_TAIL);
        Skip
    })
}

/// What is written after a pause is a new beginning.
///
/// # Safety
///
/// `tail` is valid for writing.
#[inline(always)]
unsafe fn note_pause(tail: *mut Tail) {
    // SAFETY: the caller vouches for `tail`.
    unsafe {
        let record = &raw mut (*tail).record;
        let silence = emit::now().saturating_sub((*record).last_ns);
        let new = read::all_ones_unless_equal(read::lesser(silence, PAUSE_NS), silence);
        (*record).begun += ((*record).written - (*record).begun) & new;
    }
}

/// Appends bytes of the running process.
///
/// Without branches: the verifier would follow both sides of each, for each part of a vector.
///
/// # Safety
///
/// `tail` is valid for writing.
#[unsafe(export_name = "append_stderr")]
#[inline(never)]
unsafe fn append(tail: *mut Tail, place: u64, length: u64) -> i32 {
    const LEN: u64 = STDERR_TAIL_LEN as u64;
    const HEAD: u64 = STDERR_HEAD_LEN as u64;
    const { assert!(STDERR_TAIL_LEN == 1 << 10 && STDERR_HEAD_LEN == 1 << 9) };
    let kept = read::lesser(length, LEN);
    let skipped = length - kept;
    let all = place;
    let place = place + skipped;
    // SAFETY: the caller vouches for `tail`. The first read of the ring ends in the overflow at the latest, and what
    // comes to lie there is no longer than the ring. What is read to the head fits in.
    unsafe {
        let written = (*tail).record.written - (*tail).record.begun;
        let begun = read::lesser(written, HEAD);
        let first = read::lesser(length, HEAD - begun);
        let head = (&raw mut (*tail).record.head).cast::<u8>();
        let size = read::below::<10>(first) as u32;
        let head = head.add(read::below::<10>(begun) as usize);
        bpf_probe_read_user(head.cast(), size, all as *const _);
        let start = (*tail).record.written + skipped;
        let ring = (&raw mut (*tail).record.bytes).cast::<u8>();
        let at = start & (LEN - 1);
        let size = read::below::<11>(kept) as u32;
        let failed = bpf_probe_read_user(ring.add(at as usize).cast(), size, place as *const _);
        // What lies behind the ring belongs to its beginning.
        let inside = read::lesser(kept, LEN - at);
        let rest = read::below::<10>(kept - inside) as u32;
        bpf_probe_read_user(ring.cast(), rest, (place + inside) as *const _);
        let told = !read::all_ones_unless_equal(failed as u64, 0);
        (*tail).record.written += (skipped + kept) & told;
        (*tail).record.last_ns = emit::now();
    }
    0
}

/// Tells what a process that has ended wrote last, if it ended `badly`, and forgets it.
#[unsafe(export_name = "tell_stderr")]
#[inline(never)]
pub fn tell(process: u64, badly: bool) -> i32 {
    let pid = task::ids(process).1;
    let Some(tail) = TAILS.get_ptr_mut(pid) else {
        return 0;
    };
    // SAFETY: the entry is valid, and no thread of its process is left.
    unsafe {
        if badly && (*tail).record.written > 0 {
            emit::header(&raw mut (*tail).record.header, kind::STDERR_TAIL, process);
            let record = (&raw const (*tail).record).cast::<u8>();
            let bytes = core::slice::from_raw_parts(record, size_of::<StderrTail>());
            let _ = emit::bytes(kind::STDERR_TAIL, bytes);
        }
    }
    let _ = TAILS.remove(pid);
    0
}
