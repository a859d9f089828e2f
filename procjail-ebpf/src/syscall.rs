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
    ExecFailed, LimitChanged, Mount, PATH_LEN, Reap, SYSCALL_NUMBERS, call_failure, kind,
    mount_call, mount_stage, scope_flags, syscall_class,
};

use crate::{
    config::{SYSCALLS, flag, offset, present},
    emit::{self, Skip},
    failure, read, scope, stderr, task,
};

/// No child to wait for.
const ECHILD: i64 = 10;

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
pub fn class(number: u64) -> u8 {
    entry(&raw const SYSCALLS.class, number)
}

/// One byte of a table; 0, which stands for "not looked at" in all of them, for numbers beyond it.
#[inline(always)]
fn entry(table: *const [u8; SYSCALL_NUMBERS], number: u64) -> u8 {
    if number >= SYSCALL_NUMBERS as u64 {
        return 0;
    }
    // SAFETY: the index was checked; volatile since user space fills the table in before the load.
    unsafe { core::ptr::read_volatile(table.cast::<u8>().add(number as usize)) }
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
    let (tid, _) = task::ids(task);
    let call = Call {
        entered_ns: emit::now(),
        class: u64::from(class),
        args: args(regs),
    };
    if task::is_compat(task) {
        return Err(Skip);
    }
    if CALLS.insert(tid, call, 0).is_err() {
        emit::lost(kind::MOUNT);
    }
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
    let (mut result, mut how) = (result, None);
    if class == syscall_class::GETSOCKOPT && result == 0 {
        // A connection that was made in the background, and came to nothing.
        result = -socket_error(regs);
        how = Some(call_failure::PEER);
    }
    // A wait for nobody: perhaps another took the child's status first.
    let no_child =
        result == -ECHILD && matches!(class, syscall_class::WAIT4 | syscall_class::WAITID);
    if no_child || class < syscall_class::EXECVE && failure::is_error(result) {
        let how = how.unwrap_or_else(|| entry(&raw const SYSCALLS.failure, u64::from(number)));
        if failure::is_kept(how, result) {
            failure::note(regs, number, how, result);
        }
        return Ok(());
    }
    if class < syscall_class::EXECVE {
        return match class {
            syscall_class::WRITE | syscall_class::WRITEV => try_written(regs, class, result),
            syscall_class::PRLIMIT | syscall_class::SETRLIMIT => {
                try_limit_changed(regs, class, result)
            }
            _ => Err(Skip),
        };
    }
    let task = scope::require_current()?;
    if task::is_compat(task) {
        return Err(Skip);
    }
    if class >= syscall_class::MOUNTS {
        let (tid, _) = task::ids(task);
        let call = take(tid).ok_or(Skip)?;
        return mount(task, &call, mount_stage::DONE, result);
    }
    if class <= syscall_class::EXECVEAT {
        return try_exec_failed(task, regs, class, result);
    }
    let waitid = class == syscall_class::WAITID;
    let reaped = if waitid {
        waitid_pid(regs, result)
    } else {
        wait4_pid(regs, result)
    }?;
    emit::record(kind::REAP, task, |to: *mut Reap| {
        // SAFETY: `to` is the reserved record; every field is written.
        unsafe {
            (*to).ns_pid = reaped.ns_pid;
            (*to).waitid = u32::from(waitid);
            (*to).options = reaped.options;
            (*to).reserved = 0;
        }
    })
}

/// The error that getsockopt(SO_ERROR) has fetched; 0 for none, and for another option.
#[inline(always)]
fn socket_error(regs: u64) -> i64 {
    const SOL_SOCKET: u32 = 1;
    const SO_ERROR: u32 = 4;
    // getsockopt(fd, level, name, value, length)
    let level: u64 = read::kernel(regs, offset!(regs_arg1));
    let name: u64 = read::kernel(regs, offset!(regs_arg2));
    if (level as u32, name as u32) != (SOL_SOCKET, SO_ERROR) {
        return 0;
    }
    let value: u64 = read::kernel(regs, offset!(regs_arg3));
    let error: i32 = read::user(value);
    i64::from(error)
}

#[inline(always)]
fn try_written(regs: u64, class: u8, result: i64) -> Result<(), Skip> {
    if !flag(scope_flags::STDERR_TAIL) || result <= 0 || !stderr::may_be(regs) {
        return Err(Skip);
    }
    let task = scope::require_current()?;
    stderr::note(task, regs, class == syscall_class::WRITEV, result as u64);
    Ok(())
}

fn try_limit_changed(regs: u64, class: u8, result: i64) -> Result<(), Skip> {
    let [first, second, third, ..] = args(regs);
    // prlimit64(pid, resource, new, old) or setrlimit(resource, new)
    let (ns_pid, resource, place) = if class == syscall_class::PRLIMIT {
        (first, second, third)
    } else {
        (0, first, second)
    };
    if result != 0 || place == 0 {
        return Err(Skip);
    }
    let task = scope::require_current()?;
    if task::is_compat(task) {
        return Err(Skip);
    }
    emit::record(kind::LIMIT_CHANGED, task, |to: *mut LimitChanged| {
        // `struct rlimit64`
        let [soft, hard]: [u64; 2] = read::user(place);
        // SAFETY: `to` is the reserved record; every field is written.
        unsafe {
            (*to).ns_pid = ns_pid as u32;
            (*to).resource = resource as u32;
            (*to).soft = soft;
            (*to).hard = hard;
        }
    })
}

fn try_exec_failed(task: u64, regs: u64, class: u8, result: i64) -> Result<(), Skip> {
    if result >= 0 {
        return Err(Skip);
    }
    // execve(path, ..) or execveat(directory, path, ..)
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

/// A child that a call returned, dead and now gone.
struct Reaped {
    /// In the caller's PID namespace.
    ns_pid: u32,
    options: u32,
}

#[inline(always)]
fn wait4_pid(regs: u64, result: i64) -> Result<Reaped, Skip> {
    // wait4(pid_t upid, int *stat_addr, int options, struct rusage *ru)
    if result <= 0 {
        return Err(Skip);
    }
    let status: u64 = read::kernel(regs, offset!(regs_arg1));
    let options: u64 = read::kernel(regs, offset!(regs_arg2));
    // A child that stopped (0x7f in the low byte) or went on (0xffff) is not reaped. A status that
    // the caller didn't ask for reads as zero.
    let status: u32 = read::user(status);
    if status & 0xff == 0x7f || status & 0xffff == 0xffff {
        return Err(Skip);
    }
    Ok(Reaped {
        ns_pid: result as u32,
        options: options as u32,
    })
}

#[inline(always)]
fn waitid_pid(regs: u64, result: i64) -> Result<Reaped, Skip> {
    // waitid(int which, pid_t upid, struct siginfo *infop, int options, struct rusage *ru)
    const WNOHANG: u32 = 1;
    const WNOWAIT: u32 = 0x0100_0000;
    const SI_CODE: u64 = 8;
    const SI_PID: u64 = 16;
    const CLD_DUMPED: u32 = 3;
    let info: u64 = read::kernel(regs, offset!(regs_arg2));
    let options: u64 = read::kernel(regs, offset!(regs_arg3));
    let options = options as u32;
    if result != 0 || options & WNOWAIT != 0 {
        return Err(Skip);
    }
    if info == 0 {
        // Nothing tells who it was, or with WNOHANG whether there was one.
        return if options & WNOHANG == 0 {
            Ok(Reaped { ns_pid: 0, options })
        } else {
            Err(Skip)
        };
    }
    let code: u32 = read::user(info + SI_CODE);
    let ns_pid: u32 = read::user(info + SI_PID);
    // CLD_EXITED (1), CLD_KILLED or CLD_DUMPED; 0 if there was no child to return.
    if code.wrapping_sub(1) >= CLD_DUMPED {
        return Err(Skip);
    }
    Ok(Reaped { ns_pid, options })
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

/// Where the strings of a call lie, and its flags and numbers.
#[derive(Clone, Copy)]
struct Arguments {
    source: u64,
    target: u64,
    fs_type: u64,
    flags: u64,
    numbers: [u64; 2],
}

impl Arguments {
    /// Tells the arguments apart by the call's prototype.
    #[inline(always)]
    fn of(call: u32, args: &[u64; 5]) -> Self {
        let none = Self {
            source: 0,
            target: 0,
            fs_type: 0,
            flags: 0,
            numbers: [0; 2],
        };
        let [a, b, c, d, e] = *args;
        match call {
            // mount(source, target, type, flags, data)
            mount_call::MOUNT => Self {
                source: a,
                target: b,
                fs_type: c,
                flags: d,
                ..none
            },
            // umount2(target, flags)
            mount_call::UMOUNT => Self {
                target: a,
                flags: b,
                ..none
            },
            // move_mount(from_dirfd, from_path, to_dirfd, to_path, flags)
            mount_call::MOVE_MOUNT => Self {
                source: b,
                target: d,
                flags: e,
                numbers: [a, c],
                ..none
            },
            // open_tree(dirfd, path, flags)
            mount_call::OPEN_TREE => Self {
                source: b,
                flags: c,
                numbers: [a, 0],
                ..none
            },
            // fsmount(fs_fd, flags, attr_flags)
            mount_call::FSMOUNT => Self {
                flags: b,
                numbers: [a, c],
                ..none
            },
            // mount_setattr(dirfd, path, flags, attr, size)
            mount_call::MOUNT_SETATTR => Self {
                target: b,
                flags: c,
                numbers: [a, e],
                ..none
            },
            // pivot_root(new_root, put_old)
            mount_call::PIVOT_ROOT => Self {
                source: a,
                target: b,
                ..none
            },
            // setns(fd, nstype)
            mount_call::SETNS => Self {
                flags: b,
                numbers: [a, 0],
                ..none
            },
            // unshare(flags), the last one
            _ => Self { flags: a, ..none },
        }
    }
}

#[inline(always)]
fn mount(task: u64, call: &Call, stage: u32, result: i64) -> Result<(), Skip> {
    const SIZE: u32 = PATH_LEN as u32;
    let number = (call.class as u32).wrapping_sub(u32::from(syscall_class::MOUNTS));
    emit::record(kind::MOUNT, task, |to: *mut Mount| {
        let arguments = Arguments::of(number, &call.args);
        // SAFETY: `to` is the reserved record; every field is written.
        unsafe {
            (*to).call = number;
            (*to).stage = stage;
            (*to).result = result;
            (*to).duration_ns = (*to).header.time_ns.wrapping_sub(call.entered_ns);
            (*to).flags = arguments.flags;
            read::zero::<4>((&raw mut (*to).args).cast());
            (*to).args[0] = arguments.numbers[0];
            (*to).args[1] = arguments.numbers[1];
            (*to).reserved = 0;
            (*to).source_len =
                read::user_str((&raw mut (*to).source).cast(), SIZE, arguments.source) as u16;
            (*to).target_len =
                read::user_str((&raw mut (*to).target).cast(), SIZE, arguments.target) as u16;
            (*to).fs_type_len =
                read::user_str((&raw mut (*to).fs_type).cast(), SIZE, arguments.fs_type) as u16;
        }
    })
}
