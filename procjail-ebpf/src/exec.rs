//! A process replaced its program: the one record of varying length.

use aya_ebpf::{
    helpers::generated::bpf_probe_read_user,
    macros::{map, raw_tracepoint},
    maps::PerCpuArray,
    programs::RawTracePointContext,
};
use procjail_common::{ARGV_LEN, Exec, PATH_LEN, kind};

use crate::{
    config::offset,
    disposition,
    emit::{self, Skip},
    read, scope,
};

/// The fixed part, then the file's name and the arguments back to back.
#[repr(C)]
struct Scratch {
    exec: Exec,
    strings: [u8; PATH_LEN + ARGV_LEN],
}

/// Too large for the 512 bytes of a program's stack.
#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

#[raw_tracepoint]
pub fn sched_process_exec(ctx: RawTracePointContext) -> i32 {
    let _ = try_exec(&ctx);
    0
}

fn try_exec(ctx: &RawTracePointContext) -> Result<(), Skip> {
    // include/trace/events/sched.h, 5.10 to 7.2:
    // TP_PROTO(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)
    let task: u64 = ctx.arg(0);
    let old_tid: u32 = ctx.arg(1);
    let bprm: u64 = ctx.arg(2);
    scope::require(task)?;
    let scratch = SCRATCH.get_ptr_mut(0).ok_or(Skip)?;

    // SAFETY: the slot belongs to this processor while the program runs, and every byte that is
    // handed over is written here.
    unsafe {
        let exec = &raw mut (*scratch).exec;
        let strings = (&raw mut (*scratch).strings).cast::<u8>();
        emit::header(&raw mut (*exec).header, kind::EXEC, task);

        let filename: u64 = read::kernel(bprm, offset!(binprm_filename));
        let mut filename_len = read::kernel_str(strings, PATH_LEN as u32, filename) as usize;
        if filename_len >= PATH_LEN {
            filename_len = PATH_LEN - 1;
        }

        let mm: u64 = read::kernel(task, offset!(task_mm));
        let start: u64 = read::kernel(mm, offset!(mm_arg_start));
        let end: u64 = read::kernel(mm, offset!(mm_arg_end));
        let total = end.wrapping_sub(start);
        let mut argv_len = if total > ARGV_LEN as u64 {
            ARGV_LEN
        } else {
            total as usize
        };
        let argv = strings.add(filename_len);
        if bpf_probe_read_user(argv.cast(), argv_len as u32, start as *const _) != 0 {
            argv_len = 0;
        }

        (*exec).old_tid = old_tid;
        (*exec).filename_len = filename_len as u32;
        (*exec).argv_len = argv_len as u32;
        (*exec).reserved = 0;
        (*exec).argv_total_len = total;
        disposition::fill(&raw mut (*exec).signals, task);
        let len = size_of::<Exec>() + filename_len + argv_len;
        emit::bytes(
            kind::EXEC,
            core::slice::from_raw_parts(scratch.cast::<u8>(), len),
        )
    }
}
