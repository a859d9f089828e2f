//! System calls that fail: kept in the kernel, and told of a process that ends badly, or that met an error
//! which is seldom an ordinary answer.

use aya_ebpf::{
    helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_user},
    macros::map,
    maps::{Array, HashMap, PerCpuArray},
};
use procjail_common::{
    ADDRESS_LEN, FAILED_CALLS, FAILED_DIRECTORY_LEN, FAILED_PATH_LEN, FailedCall, FailedCalls,
    NO_RESOURCE, UNKNOWN_CALL, call_failure, failed_text, is_weighty, kind,
};

use crate::{
    config::{offset, present},
    emit::{self, Skip},
    read, scope, task,
};

/// How many processes are kept at a time, with errors of any weight; a power of two.
const PROCESSES: u32 = 512;
/// With weighty ones.
const WEIGHTY_PROCESSES: u32 = 256;

/// The last calls of a process that failed.
#[repr(C)]
#[derive(Clone, Copy)]
struct Ring {
    pid: u32,
    /// How many failed in all. The last is at this number less one, modulo [`FAILED_CALLS`].
    count: u32,
    calls: [FailedCall; FAILED_CALLS],
}

/// Ordinary errors. By process ID, the rest of which is ignored: a process takes the place of another that
/// has the same one, which may still end well, so that nobody would have asked.
#[map]
static ORDINARY: Array<Ring> = Array::with_max_entries(PROCESSES, 0);

/// Weighty errors, by process ID.
#[map]
static WEIGHTY: HashMap<u32, Ring> = HashMap::with_max_entries(WEIGHTY_PROCESSES, 0);

/// What a new entry of [`WEIGHTY`] begins as.
#[map]
static NO_FAILURES: Array<Ring> = Array::with_max_entries(1, 0);

/// Where a call is put together.
#[map]
static FAILED: PerCpuArray<FailedCall> = PerCpuArray::with_max_entries(1, 0);

/// The record, and what follows it.
#[repr(C)]
struct Told {
    record: FailedCalls,
    first: [FailedCall; FAILED_CALLS],
    second: [FailedCall; FAILED_CALLS],
}

/// Where a record is put together.
#[map]
static TOLD: PerCpuArray<Told> = PerCpuArray::with_max_entries(1, 0);

/// `EINTR`, `ENOTTY` and `EINPROGRESS`: ordinary answers. `EAGAIN` is one of most calls.
const EINTR: i64 = 4;
/// See [`call_failure::KEPT_EAGAIN`].
pub const EAGAIN: i64 = 11;
const ENOMEM: i64 = 12;
const EMFILE: i64 = 24;
const EFBIG: i64 = 27;
const ENOTTY: i64 = 25;
const EINPROGRESS: i64 = 115;
/// The greatest error number that a program can see; those behind it are the kernel's own (ERESTART…).
const LAST: i64 = 133;

/// Whether what a system call returned tells of something that went wrong.
#[inline(always)]
pub fn is_error(result: i64) -> bool {
    (-LAST..0).contains(&result) && result != -EINTR && result != -ENOTTY && result != -EINPROGRESS
}

/// Whether it is for a call with that entry of [`SyscallTable::failure`](procjail_common::SyscallTable).
#[inline(always)]
pub fn is_kept(how: u8, result: i64) -> bool {
    how != call_failure::IGNORED && (result != -EAGAIN || how == call_failure::KEPT_EAGAIN)
}

/// The ring that a call of that process goes to.
#[inline(always)]
fn ring(pid: u32, weighty: bool) -> Result<*mut Ring, Skip> {
    if !weighty {
        return ORDINARY.get_ptr_mut(pid & (PROCESSES - 1)).ok_or(Skip);
    }
    if let Some(ring) = WEIGHTY.get_ptr_mut(pid) {
        return Ok(ring);
    }
    let empty = NO_FAILURES.get(0).ok_or(Skip)?;
    // If another thread was quicker, its entry is found.
    let _ = WEIGHTY.insert(pid, empty, read::BPF_NOEXIST);
    WEIGHTY.get_ptr_mut(pid).ok_or_else(|| {
        emit::lost(kind::FAILED_CALLS);
        Skip
    })
}

/// Keeps a failed call of the running task, if it is the jail's. `how` is one of [`call_failure`].
// The name as the compiler makes it would differ with the folder that it is built in. A function of its own,
// as the verifier's work grows faster than the length of one.
#[unsafe(export_name = "note_failure")]
#[inline(never)]
pub fn note(regs: u64, number: u32, how: u8, result: i64) -> i32 {
    let _ = try_note(regs, number, how, result);
    0
}

#[inline(always)]
fn try_note(regs: u64, number: u32, how: u8, result: i64) -> Result<(), Skip> {
    let task = scope::require_current()?;
    let call = FAILED.get_ptr_mut(0).ok_or(Skip)?;
    let (tid, pid) = task::ids(task);
    let weighty = is_weighty(-result as u32);
    // SAFETY: the slot belongs to this processor while the program runs; every field is written.
    unsafe {
        let now = emit::now();
        (*call).time_ns = now;
        (*call).number = number;
        (*call).errno = -result as i32;
        (*call).tid = tid;
        (*call).text_kind = failed_text::NONE;
        (*call).text_len = 0;
        (*call).resource = NO_RESOURCE;
        (*call).repeats = 0;
        (*call).reserved = 0;
        (*call).used = 0;
        (*call).limit = 0;
        (*call).args[0] = read::kernel(regs, offset!(regs_arg0));
        (*call).args[1] = read::kernel(regs, offset!(regs_arg1));
        (*call).args[2] = read::kernel(regs, offset!(regs_arg2));
        (*call).args[3] = read::kernel(regs, offset!(regs_arg3));
        read::zero::<2>((&raw mut (*call).fs_type).cast());
        (*call).time_again_ns = now;
        if task::is_compat(task) {
            (*call).number = UNKNOWN_CALL;
        } else if how == call_failure::PEER {
            peer(call, task);
        } else if how >= call_failure::ADDRESS {
            address(call, regs, how);
        } else if how >= call_failure::PATH {
            let path = (*call).args[usize::from(how) & 3];
            let to = (&raw mut (*call).text).cast();
            (*call).text_len = read::user_str(to, FAILED_PATH_LEN as u32, path);
            (*call).text_kind = failed_text::PATH;
        } else if how == call_failure::KEPT_FILE && weighty {
            file(call, task);
        }
        if weighty && present(offset!(signal_rlimits)) {
            limit(call, task);
        }
        put(ring(pid, weighty)?, call, pid);
    }
    Ok(())
}

/// Adds a call to a ring. One that is tried again and again takes a single place, so that it doesn't push
/// out what came before.
///
/// # Safety
///
/// `ring` is valid for writing, and `call` for reading. Other threads may write to the ring at the same
/// time; what comes of that is found out by the two times of a call.
#[unsafe(export_name = "put_failure")]
#[inline(never)]
unsafe fn put(ring: *mut Ring, call: *mut FailedCall, pid: u32) -> i32 {
    // SAFETY: the caller vouches for both.
    unsafe {
        if (*ring).pid != pid {
            (*ring).pid = pid;
            (*ring).count = 0;
            (*ring).calls[FAILED_CALLS - 1].number = UNKNOWN_CALL;
        }
        let count = (*ring).count;
        let last = &raw const (*ring).calls[count.wrapping_sub(1) as usize & (FAILED_CALLS - 1)];
        // The same arguments may be another path.
        let kind = u64::from((*call).text_kind);
        const { assert!(failed_text::PATH == 1 && failed_text::ADDRESS == 3) };
        let is_path = kind & !(kind >> 1) & 1;
        let difference = u64::from((*last).number ^ (*call).number)
            | u64::from((*last).errno as u32 ^ (*call).errno as u32)
            | (*last).args[1] ^ (*call).args[1]
            | (*last).args[2] ^ (*call).args[2]
            | is_path;
        let again = !read::all_ones_unless_equal(difference, 0) as u32;
        (*call).repeats = (*last).repeats.wrapping_add(1) & again;
        let index = count.wrapping_sub(again & 1);
        (*ring).count = index.wrapping_add(1);
        let to = &raw mut (*ring).calls[index as usize & (FAILED_CALLS - 1)];
        bpf_probe_read_kernel(to.cast(), size_of::<FailedCall>() as u32, call.cast());
    }
    0
}

/// Writes the socket address that a call was given.
///
/// # Safety
///
/// `call` is valid for writing.
#[unsafe(export_name = "note_address")]
#[inline(never)]
unsafe fn address(call: *mut FailedCall, regs: u64, how: u8) -> i32 {
    /// `sizeof(struct sockaddr_in6)`, the longer of the two Internet addresses.
    const INTERNET: u64 = 28;
    // SAFETY: the caller vouches for `call`; the length is at most that of the array.
    unsafe {
        let (place, length) = match how {
            // sendto(fd, buffer, length, flags, address, address_length)
            call_failure::SEND_TO => (read::kernel(regs, offset!(regs_arg4)), INTERNET),
            // sendmsg(fd, message, flags): its first members are the address and the length
            call_failure::MESSAGE => {
                let [place, length]: [u64; 2] = read::user((*call).args[1]);
                (place, length & 0xffff_ffff)
            }
            // connect(fd, address, length), bind(fd, address, length)
            _ => ((*call).args[1], (*call).args[2]),
        };
        let length = read::at_most::<ADDRESS_LEN>(length);
        let to = (&raw mut (*call).text).cast();
        if place != 0 && bpf_probe_read_user(to, length as u32, place as *const _) == 0 {
            (*call).text_len = length as u32;
            (*call).text_kind = failed_text::ADDRESS;
        }
    }
    0
}

/// The open file of a descriptor, or anything if there is none: what lies there is checked by its use.
#[inline(always)]
fn file_of(task: u64, descriptor: u64) -> u64 {
    let files: u64 = read::kernel(task, offset!(task_files));
    let table: u64 = read::kernel(files, offset!(files_fdt));
    let array: u64 = read::kernel(table, offset!(fdtable_fd));
    read::kernel(array.wrapping_add((descriptor & 0xffff_ffff) * 8), 0)
}

/// Writes the address that a descriptor's socket is or was to be connected to, as a `struct sockaddr`.
///
/// # Safety
///
/// `call` is valid for writing.
#[unsafe(export_name = "note_peer")]
#[inline(never)]
unsafe fn peer(call: *mut FailedCall, task: u64) -> i32 {
    const AF_INET: u16 = 2;
    const AF_INET6: u16 = 10;
    if !present(offset!(task_files)) || !present(offset!(sock_address6)) {
        return 0;
    }
    // SAFETY: the caller vouches for `call`; what is written lies in the array's first 32 bytes.
    unsafe {
        let socket: u64 = read::kernel(file_of(task, (*call).args[0]), offset!(file_private));
        let sock: u64 = read::kernel(socket, offset!(socket_sock));
        let family: u16 = read::kernel(sock, offset!(sock_family));
        let port: u16 = read::kernel(sock, offset!(sock_port));
        let to = (&raw mut (*call).text).cast::<u8>();
        read::zero::<4>(to.cast());
        to.cast::<u16>().write(family);
        to.add(2).cast::<u16>().write(port);
        if family == AF_INET {
            let address: u32 = read::kernel(sock, offset!(sock_address));
            to.add(4).cast::<u32>().write(address);
            (*call).text_len = 16;
            (*call).text_kind = failed_text::ADDRESS;
        } else if family == AF_INET6 {
            let address = sock.wrapping_add(u64::from(offset!(sock_address6)));
            bpf_probe_read_kernel(to.add(8).cast(), 16, address as *const _);
            (*call).text_len = 28;
            (*call).text_kind = failed_text::ADDRESS;
        }
    }
    0
}

/// Writes the name of a descriptor's file, after that of its directory and a slash, and the type of its file
/// system. The names are the file system's own, whatever the program called them.
///
/// # Safety
///
/// `call` is valid for writing.
#[unsafe(export_name = "note_file")]
#[inline(never)]
unsafe fn file(call: *mut FailedCall, task: u64) -> i32 {
    const { assert!(FAILED_DIRECTORY_LEN.is_power_of_two() && FAILED_DIRECTORY_LEN < FAILED_PATH_LEN) };
    const REST: usize = FAILED_PATH_LEN - FAILED_DIRECTORY_LEN;
    if !present(offset!(task_files)) {
        return 0;
    }
    // SAFETY: the caller vouches for `call`.
    let descriptor = unsafe { (*call).args[0] };
    let file = file_of(task, descriptor);
    let dentry: u64 = read::kernel(file, offset!(file_dentry));
    if dentry == 0 {
        return 0;
    }
    // Side by side on all kernels; user space made sure of it.
    let [parent, _, name]: [u64; 3] = read::kernel(dentry, offset!(dentry_parent));
    let [_, _, directory]: [u64; 3] = read::kernel(parent, offset!(dentry_parent));
    // SAFETY: the caller vouches for `call`; a directory's name ends below its part, the slash and the
    // file's name come behind it.
    unsafe {
        let to = (&raw mut (*call).text).cast::<u8>();
        let length = read::kernel_str(to, FAILED_DIRECTORY_LEN as u32, directory);
        // Changes nothing; it is for the verifier.
        let length = length & (FAILED_DIRECTORY_LEN as u32 - 1);
        let slash = to.add(length as usize);
        slash.write(b'/');
        (*call).text_len = length + 1 + read::kernel_str(slash.add(1), REST as u32 - 1, name);
        (*call).text_kind = failed_text::FILE;
        if present(offset!(dentry_super_block)) {
            let block: u64 = read::kernel(dentry, offset!(dentry_super_block));
            let system: u64 = read::kernel(block, offset!(super_block_type));
            let name: u64 = read::kernel(system, offset!(file_system_name));
            read::kernel_str((&raw mut (*call).fs_type).cast(), 16, name);
        }
    }
    0
}

/// Writes the resource limit that an error may come of, and how much of the resource is in use.
///
/// # Safety
///
/// `call` is valid for writing.
#[unsafe(export_name = "note_limit")]
#[inline(never)]
unsafe fn limit(call: *mut FailedCall, task: u64) -> i32 {
    const RLIMIT_FSIZE: u32 = 1;
    const RLIMIT_NPROC: u32 = 6;
    const RLIMIT_NOFILE: u32 = 7;
    const RLIMIT_AS: u32 = 9;
    // SAFETY: the caller vouches for `call`.
    unsafe {
        let resource = match i64::from((*call).errno) {
            EAGAIN => RLIMIT_NPROC,
            ENOMEM => RLIMIT_AS,
            EMFILE => RLIMIT_NOFILE,
            EFBIG => RLIMIT_FSIZE,
            _ => return 0,
        };
        (*call).resource = resource;
        (*call).used = match resource {
            RLIMIT_AS => {
                let mm: u64 = read::kernel(task, offset!(task_mm));
                task::pages(read::kernel(mm, offset!(mm_total_vm)))
            }
            RLIMIT_NOFILE => open_files(task),
            _ => u64::MAX,
        };
        let signal: u64 = read::kernel(task, offset!(task_signal));
        // `struct rlimit` is the soft and the hard limit.
        (*call).limit = read::kernel(signal, offset!(signal_rlimits) + 16 * resource);
    }
    0
}

/// How many descriptors a process has open: exactly if they are below 64, or if none above is free; else at least
/// so many.
#[inline(always)]
fn open_files(task: u64) -> u64 {
    if !present(offset!(files_next)) || !present(offset!(fdtable_open)) {
        return u64::MAX;
    }
    let files: u64 = read::kernel(task, offset!(task_files));
    let table: u64 = read::kernel(files, offset!(files_fdt));
    let bitmap: u64 = read::kernel(table, offset!(fdtable_open));
    let first: u64 = read::kernel(bitmap, 0);
    // All below this one are in use, and perhaps some from there on.
    let next: u32 = read::kernel(files, offset!(files_next));
    let size: u32 = read::kernel(table, offset!(fdtable_size));
    let mut lowest_free = u64::from(next);
    if next < size {
        let word: u64 = read::kernel(bitmap, next / 64 * 8);
        lowest_free += u64::from((word >> (next % 64)).trailing_ones());
    }
    let count = u64::from(first.count_ones());
    if count > lowest_free {
        count
    } else {
        lowest_free
    }
}

/// Tells the failed calls of a process that has ended, and forgets them. Of one that did not end `badly`,
/// only those of weighty errors.
#[unsafe(export_name = "tell_failures")]
#[inline(never)]
pub fn tell(process: u64, badly: bool) -> i32 {
    let _ = try_tell(process, badly);
    0
}

#[inline(always)]
fn try_tell(process: u64, badly: bool) -> Result<(), Skip> {
    const RING: usize = size_of::<[FailedCall; FAILED_CALLS]>();
    const HEAD: usize = size_of::<FailedCalls>();
    let pid = task::ids(process).1;
    let ordinary = ORDINARY.get_ptr_mut(pid & (PROCESSES - 1)).ok_or(Skip)?;
    let told = TOLD.get_ptr_mut(0).ok_or(Skip)?;
    // SAFETY: the rings are valid, and no thread of their process is left; the slot of `told` belongs to this
    // processor while the program runs.
    unsafe {
        let record = &raw mut (*told).record;
        (*record).ordinary = 0;
        if (*ordinary).pid == pid {
            if badly {
                (*record).ordinary = (*ordinary).count;
                let from = (&raw const (*ordinary).calls).cast();
                bpf_probe_read_kernel((&raw mut (*told).first).cast(), RING as u32, from);
            }
            (*ordinary).pid = 0;
            (*ordinary).count = 0;
        }
        (*record).weighty = 0;
        if let Some(weighty) = WEIGHTY.get_ptr_mut(pid) {
            (*record).weighty = (*weighty).count;
            let from = (&raw const (*weighty).calls).cast();
            let to = if (*record).ordinary == 0 {
                &raw mut (*told).first
            } else {
                &raw mut (*told).second
            };
            bpf_probe_read_kernel(to.cast(), RING as u32, from);
            let _ = WEIGHTY.remove(pid);
        }
        let rings = u32::from((*record).ordinary != 0) + u32::from((*record).weighty != 0);
        let length = match rings {
            0 => return Err(Skip),
            1 => HEAD + RING,
            _ => HEAD + 2 * RING,
        };
        emit::header(&raw mut (*record).header, kind::FAILED_CALLS, process);
        let bytes = core::slice::from_raw_parts(told.cast::<u8>(), length);
        emit::bytes(kind::FAILED_CALLS, bytes)
    }
}
