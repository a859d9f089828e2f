//! System calls: what no other tracepoint tells.
//!
//! Failed execs, reaps, and the calls that change mounts and namespaces. A program here runs on every
//! system call of the host, so the number is looked up in a table before anything else.

use aya_ebpf::{
    macros::{map, raw_tracepoint},
    maps::HashMap,
    programs::RawTracePointContext,
};
use procjail_common::{
    ExecFailed, Mount, PATH_LEN, Reap, SYSCALL_NUMBERS, kind, mount_call, mount_stage,
    syscall_class,
};

use crate::{
    config::{SYSCALLS, offset, present},
    emit::{self, Skip},
    read, scope,
};

/// A call that changes mounts, between its entry and its return.
#[repr(C)]
#[derive(Clone, Copy)]
struct Call {
    entered_ns: u64,
    class: u64,
    args: [u64; 5],
}

/// By thread ID.
#[map]
static CALLS: HashMap<u32, Call> = HashMap::with_max_entries(4096, 0);

/// What a system call is to the programs: a value of [`syscall_class`].
#[inline(always)]
fn class(number: u64) -> u8 {
    if number >= SYSCALL_NUMBERS as u64 {
        return syscall_class::NONE;
    }
    // SAFETY: the index was checked; volatile since user space fills the table in before the load.
    unsafe {
        core::ptr::read_volatile((&raw const SYSCALLS.class).cast::<u8>().add(number as usize))
    }
}

#[inline(always)]
fn args(regs: u64) -> [u64; 5] {
    [
        read::kernel(regs, offset!(regs_arg0)),
        read::kernel(regs, offset!(regs_arg1)),
        read::kernel(regs, offset!(regs_arg2)),
        read::kernel(regs, offset!(regs_arg3)),
        read::kernel(regs, offset!(regs_arg4)),
    ]
}

#[raw_tracepoint]
pub fn sys_enter(ctx: RawTracePointContext) -> i32 {
    let _ = try_enter(&ctx);
    0
}

fn try_enter(ctx: &RawTracePointContext) -> Result<(), Skip> {
    // include/trace/events/syscalls.h, 5.10 to 7.2: TP_PROTO(struct pt_regs *regs, long id)
    let class = class(ctx.arg(1));
    if class < syscall_class::MOUNTS {
        return Err(Skip);
    }
    let regs: u64 = ctx.arg(0);
    let task = scope::require_current()?;
    let tid: u32 = read::kernel(task, offset!(task_pid));
    let call = Call {
        entered_ns: emit::now(),
        class: u64::from(class),
        args: args(regs),
    };
    let _ = CALLS.insert(tid, call, 0);
    Ok(())
}

#[raw_tracepoint]
pub fn sys_exit(ctx: RawTracePointContext) -> i32 {
    let _ = try_exit(&ctx);
    0
}

fn try_exit(ctx: &RawTracePointContext) -> Result<(), Skip> {
    // include/trace/events/syscalls.h, 5.10 to 7.2: TP_PROTO(struct pt_regs *regs, long ret)
    let regs: u64 = ctx.arg(0);
    let result: i64 = ctx.arg(1);
    let number: u32 = read::kernel(regs, offset!(regs_syscall));
    let class = class(u64::from(number));
    if class == syscall_class::NONE {
        return Err(Skip);
    }
    match class {
        syscall_class::EXECVE | syscall_class::EXECVEAT if result < 0 => {
            try_exec_failed(regs, class, result)
        }
        syscall_class::WAIT4 if result > 0 => try_wait4(regs, result),
        syscall_class::WAITID if result == 0 => try_waitid(regs),
        class if class >= syscall_class::MOUNTS => try_mount(result),
        _ => Err(Skip),
    }
}

fn try_exec_failed(regs: u64, class: u8, result: i64) -> Result<(), Skip> {
    let task = scope::require_current()?;
    let at = class == syscall_class::EXECVEAT;
    let path: u64 = if at {
        read::kernel(regs, offset!(regs_arg1))
    } else {
        read::kernel(regs, offset!(regs_arg0))
    };
    emit::record(kind::EXEC_FAILED, task, |to: *mut ExecFailed| {
        // SAFETY: `to` is the reserved record; every field is written.
        unsafe {
            (*to).errno = -result as i32;
            (*to).at = u32::from(at);
            (*to).reserved = 0;
            (*to).filename_len =
                read::user_str((&raw mut (*to).filename).cast(), PATH_LEN as u32, path);
        }
    })
}

fn try_wait4(regs: u64, result: i64) -> Result<(), Skip> {
    // wait4(pid_t upid, int *stat_addr, int options, struct rusage *ru)
    let task = scope::require_current()?;
    let status: u64 = read::kernel(regs, offset!(regs_arg1));
    let options: u64 = read::kernel(regs, offset!(regs_arg2));
    if status != 0 {
        // A child that stopped (0x7f in the low byte) or went on (0xffff) is not reaped.
        let status: u32 = read::user(status);
        if status & 0xff == 0x7f || status & 0xffff == 0xffff {
            return Err(Skip);
        }
    }
    reap(task, result as u32, false, options as u32)
}

fn try_waitid(regs: u64) -> Result<(), Skip> {
    // waitid(int which, pid_t upid, struct siginfo *infop, int options, struct rusage *ru)
    const WNOHANG: u32 = 1;
    const WNOWAIT: u32 = 0x0100_0000;
    const SI_CODE: u64 = 8;
    const SI_PID: u64 = 16;
    const CLD_DUMPED: i32 = 3;
    let task = scope::require_current()?;
    let info: u64 = read::kernel(regs, offset!(regs_arg2));
    let options: u64 = read::kernel(regs, offset!(regs_arg3));
    let options = options as u32;
    if options & WNOWAIT != 0 {
        return Err(Skip);
    }
    if info == 0 {
        // Nothing tells who it was, or with WNOHANG whether there was one.
        if options & WNOHANG != 0 {
            return Err(Skip);
        }
        return reap(task, 0, true, options);
    }
    let code: i32 = read::user(info + SI_CODE);
    let pid: u32 = read::user(info + SI_PID);
    if pid == 0 || !(1..=CLD_DUMPED).contains(&code) {
        return Err(Skip);
    }
    reap(task, pid, true, options)
}

#[inline(always)]
fn reap(task: u64, ns_pid: u32, waitid: bool, options: u32) -> Result<(), Skip> {
    emit::record(kind::REAP, task, |to: *mut Reap| {
        // SAFETY: `to` is the reserved record; every field is written.
        unsafe {
            (*to).ns_pid = ns_pid;
            (*to).waitid = u32::from(waitid);
            (*to).options = options;
            (*to).reserved = 0;
        }
    })
}

fn try_mount(result: i64) -> Result<(), Skip> {
    let task = scope::require_current()?;
    let tid: u32 = read::kernel(task, offset!(task_pid));
    let call = take(tid).ok_or(Skip)?;
    mount(task, &call, mount_stage::DONE, result)
}

/// Tells the call that a thread was in when it ended; there is hardly ever one, as even a killed
/// thread returns from its call first.
#[inline(always)]
pub fn unfinished(task: u64, tid: u32) {
    if !present(offset!(regs_arg0)) {
        return;
    }
    if let Some(call) = take(tid) {
        let _ = mount(task, &call, mount_stage::UNFINISHED, 0);
    }
}

#[inline(always)]
fn take(tid: u32) -> Option<Call> {
    // SAFETY: only the thread itself changes its entry.
    let call = unsafe { CALLS.get(tid) }.copied()?;
    let _ = CALLS.remove(tid);
    Some(call)
}

/// Where the parts of a record lie among a call's arguments: indices, or `NONE`.
struct Shape {
    source: usize,
    target: usize,
    fs_type: usize,
    flags: usize,
    /// Which arguments are numbers, neither pointers nor the flags.
    numbers: [usize; 4],
}

const NONE: usize = usize::MAX;

impl Shape {
    const fn of(call: u32) -> Self {
        let none = Self {
            source: NONE,
            target: NONE,
            fs_type: NONE,
            flags: NONE,
            numbers: [NONE; 4],
        };
        match call {
            // mount(source, target, type, flags, data)
            mount_call::MOUNT => Self { source: 0, target: 1, fs_type: 2, flags: 3, ..none },
            // umount2(target, flags)
            mount_call::UMOUNT => Self { target: 0, flags: 1, ..none },
            // move_mount(from_dirfd, from_path, to_dirfd, to_path, flags)
            mount_call::MOVE_MOUNT => Self {
                source: 1,
                target: 3,
                flags: 4,
                numbers: [0, 2, NONE, NONE],
                ..none
            },
            // open_tree(dirfd, path, flags)
            mount_call::OPEN_TREE => Self {
                source: 1,
                flags: 2,
                numbers: [0, NONE, NONE, NONE],
                ..none
            },
            // fsmount(fs_fd, flags, attr_flags)
            mount_call::FSMOUNT => Self { flags: 1, numbers: [0, 2, NONE, NONE], ..none },
            // mount_setattr(dirfd, path, flags, attr, size)
            mount_call::MOUNT_SETATTR => Self {
                target: 1,
                flags: 2,
                numbers: [0, 4, NONE, NONE],
                ..none
            },
            // pivot_root(new_root, put_old)
            mount_call::PIVOT_ROOT => Self { source: 0, target: 1, ..none },
            // setns(fd, nstype)
            mount_call::SETNS => Self { flags: 1, numbers: [0, NONE, NONE, NONE], ..none },
            // unshare(flags)
            mount_call::UNSHARE => Self { flags: 0, ..none },
            _ => none,
        }
    }
}

#[inline(always)]
fn mount(task: u64, call: &Call, stage: u32, result: i64) -> Result<(), Skip> {
    emit::record(kind::MOUNT, task, |to: *mut Mount| {
        // SAFETY: `to` is the reserved record; every field is written.
        unsafe {
            (*to).call = (call.class as u32).wrapping_sub(u32::from(syscall_class::MOUNTS));
            (*to).stage = stage;
            (*to).result = result;
            (*to).duration_ns = (*to).header.time_ns.wrapping_sub(call.entered_ns);
            (*to).flags = 0;
            (*to).args = [0; 4];
            (*to).source_len = 0;
            (*to).target_len = 0;
            (*to).fs_type_len = 0;
            (*to).reserved = 0;
        }
        macro_rules! shapes {
            ($($number:ident),+) => {
                match (call.class as u32).wrapping_sub(u32::from(syscall_class::MOUNTS)) {
                    // SAFETY: as above.
                    $(mount_call::$number => unsafe {
                        fill(to, call, const { Shape::of(mount_call::$number) })
                    },)+
                    _ => {}
                }
            };
        }
        shapes!(
            MOUNT, UMOUNT, MOVE_MOUNT, OPEN_TREE, FSMOUNT, MOUNT_SETATTR, PIVOT_ROOT, SETNS, UNSHARE
        );
    })
}

/// Writes the arguments of a call.
///
/// # Safety
///
/// `to` is valid for writing.
#[inline(always)]
unsafe fn fill(to: *mut Mount, call: &Call, shape: Shape) {
    const SIZE: u32 = PATH_LEN as u32;
    // SAFETY: the caller vouches for `to`.
    unsafe {
        if shape.flags != NONE {
            (*to).flags = call.args[shape.flags];
        }
        if shape.source != NONE {
            let from = call.args[shape.source];
            (*to).source_len = read::user_str((&raw mut (*to).source).cast(), SIZE, from) as u16;
        }
        if shape.target != NONE {
            let from = call.args[shape.target];
            (*to).target_len = read::user_str((&raw mut (*to).target).cast(), SIZE, from) as u16;
        }
        if shape.fs_type != NONE {
            let from = call.args[shape.fs_type];
            (*to).fs_type_len = read::user_str((&raw mut (*to).fs_type).cast(), SIZE, from) as u16;
        }
        if shape.numbers[0] != NONE {
            (*to).args[0] = call.args[shape.numbers[0]];
        }
        if shape.numbers[1] != NONE {
            (*to).args[1] = call.args[shape.numbers[1]];
        }
    }
}
