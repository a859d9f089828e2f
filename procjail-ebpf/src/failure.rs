//! System calls that fail: kept in the kernel, and told only of a process that ends badly.

use aya_ebpf::{macros::map, maps::Array};
use procjail_common::{
    FAILED_CALLS, FAILED_DIRECTORY_LEN, FAILED_PATH_LEN, FailedCalls, NO_PATH, call_failure, kind,
};

use crate::{
    config::{offset, present},
    emit::{self, Skip},
    read, scope, task,
};

/// How many processes are kept at a time; a power of two.
const PROCESSES: u32 = 512;

/// By process ID, the rest of which is ignored: a process takes the place of another that has the same
/// one. Each is the record that will be handed over.
#[map]
static FAILURES: Array<FailedCalls> = Array::with_max_entries(PROCESSES, 0);

/// `EINTR`, `ENOTTY` and `EINPROGRESS`: ordinary answers. `EAGAIN` is one of most calls.
const EINTR: i64 = 4;
/// See [`call_failure::KEPT_EAGAIN`].
pub const EAGAIN: i64 = 11;
const EBUSY: i64 = 16;
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

#[inline(always)]
fn slot(pid: u32) -> Result<*mut FailedCalls, Skip> {
    FAILURES.get_ptr_mut(pid & (PROCESSES - 1)).ok_or(Skip)
}

/// Keeps a failed call of the running task, if it is the jail's. `how` is one of [`call_failure`].
#[inline(always)]
pub fn note(regs: u64, number: u32, how: u8, result: i64) -> Result<(), Skip> {
    let task = scope::require_current()?;
    let (tid, pid) = task::ids(task);
    let slot = slot(pid)?;
    // SAFETY: the slot is valid for writing. Other threads may write to it at the same time; what comes
    // of that is found out by the two times.
    unsafe {
        if (*slot).pid != pid {
            // The other process may still end well, and then nobody would have asked: no event is lost.
            (*slot).pid = pid;
            (*slot).count = 0;
        }
        let count = (*slot).count;
        (*slot).count = count.wrapping_add(1);
        let call = &raw mut (*slot).calls[count as usize & (FAILED_CALLS - 1)];
        let now = emit::now();
        (&raw mut (*call).time_ns).write_volatile(now);
        (*call).number = number;
        (*call).errno = -result as i32;
        (*call).tid = tid;
        let args: [u64; 4] = [
            read::kernel(regs, offset!(regs_arg0)),
            read::kernel(regs, offset!(regs_arg1)),
            read::kernel(regs, offset!(regs_arg2)),
            read::kernel(regs, offset!(regs_arg3)),
        ];
        (*call).args = args;
        (*call).path_len = NO_PATH;
        if how >= call_failure::PATH {
            let path = match how - call_failure::PATH {
                0 => args[0],
                1 => args[1],
                _ => args[2],
            };
            let to = (&raw mut (*call).path).cast();
            (*call).path_len = read::user_str(to, FAILED_PATH_LEN as u32, path);
        } else if how == call_failure::KEPT_FILE && result == -EBUSY && present(offset!(task_files))
        {
            (*call).path_len = file(&raw mut (*call).path, task, args[0]);
        }
        (&raw mut (*call).time_again_ns).write_volatile(now);
    }
    Ok(())
}

/// Writes the name of a descriptor's file, after that of its directory and a slash; returns their length. Both
/// are the file system's own, whatever the program called them.
///
/// # Safety
///
/// `to` is valid for writing.
#[inline(always)]
unsafe fn file(to: *mut [u8; FAILED_PATH_LEN], task: u64, descriptor: u64) -> u32 {
    const { assert!(FAILED_DIRECTORY_LEN.is_power_of_two() && FAILED_DIRECTORY_LEN < FAILED_PATH_LEN) };
    const REST: usize = FAILED_PATH_LEN - FAILED_DIRECTORY_LEN;
    let files: u64 = read::kernel(task, offset!(task_files));
    let table: u64 = read::kernel(files, offset!(files_fdt));
    let array: u64 = read::kernel(table, offset!(fdtable_fd));
    // A descriptor that was written to is no greater than the table, and whatever is read is checked.
    let file: u64 = read::kernel(array.wrapping_add(descriptor.wrapping_mul(8)), 0);
    let dentry: u64 = read::kernel(file, offset!(file_dentry));
    // Side by side on all kernels; user space made sure of it.
    let [parent, _, name]: [u64; 3] = read::kernel(dentry, offset!(dentry_parent));
    let [_, _, directory]: [u64; 3] = read::kernel(parent, offset!(dentry_parent));
    // SAFETY: the caller vouches for `to`; a directory's name ends below its part, the slash and the file's
    // name come behind it.
    unsafe {
        let to = to.cast::<u8>();
        let length = read::kernel_str(to, FAILED_DIRECTORY_LEN as u32, directory);
        // Changes nothing; it is for the verifier.
        let length = length & (FAILED_DIRECTORY_LEN as u32 - 1);
        let slash = to.add(length as usize);
        slash.write(b'/');
        length + 1 + read::kernel_str(slash.add(1), REST as u32 - 1, name)
    }
}

/// Tells the failed calls of a process that has ended, if it ended `badly`, and forgets them.
#[inline(always)]
pub fn tell(process: u64, badly: bool) -> Result<(), Skip> {
    let pid = task::ids(process).1;
    let slot = slot(pid)?;
    // SAFETY: the slot is valid for writing, and no thread of its process is left.
    unsafe {
        if (*slot).pid != pid {
            return Err(Skip);
        }
        if badly {
            emit::header(&raw mut (*slot).header, kind::FAILED_CALLS, process);
            let bytes = core::slice::from_raw_parts(slot.cast::<u8>(), size_of::<FailedCalls>());
            let _ = emit::bytes(kind::FAILED_CALLS, bytes);
        }
        (*slot).pid = 0;
        (*slot).count = 0;
    }
    Ok(())
}
