//! Programs that crash.

use std::os::fd::AsRawFd;
use std::ptr;

use super::{Act, Arguments, fail, fork, say, shell_code, sleep_ms, wait_for};

pub(super) const ACTS: &[Act] = &[
    ("segv", segv),
    ("overflow", overflow),
    ("abort", abort),
    ("wait-aborted", wait_aborted),
    #[cfg(target_arch = "x86_64")]
    ("divide", divide),
    ("illegal", illegal),
    #[cfg(target_arch = "x86_64")]
    ("lacking", lacking),
    ("trap", trap),
    ("bus", bus),
    ("forbidden-call", forbidden_call),
    ("forbidden-thread", forbidden_thread),
    ("refused-call", refused_call),
];

/// The runtime has handlers for faults, to tell of stack overflows; other programs have none.
fn no_handlers() {
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: SIG_DFL is a valid disposition.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Stores to an address, with no check by the compiler before.
fn store(address: u64) {
    // SAFETY: none: the process is meant to fault, and has nothing else to do.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        std::arch::asm!("mov dword ptr [{0}], 1", in(reg) address);
        #[cfg(target_arch = "aarch64")]
        std::arch::asm!("str wzr, [{0}]", in(reg) address);
    }
}

/// A child stores to an address where nothing is; then PID 1 does through a null pointer.
fn segv(_: &Arguments<'_>) -> i32 {
    no_handlers();
    let child = fork();
    if child == 0 {
        store(0x1234_5678_0000);
    }
    wait_for(child);
    store(0);
    1
}

/// Calls itself without end.
fn overflow(_: &Arguments<'_>) -> i32 {
    no_handlers();
    deeper(0) as i32
}

fn deeper(depth: u64) -> u64 {
    let room = std::hint::black_box([depth; 256]);
    match std::hint::black_box(depth) {
        u64::MAX => 0,
        _ => deeper(depth + 1) + room.first().copied().unwrap_or(0),
    }
}

/// A child aborts, then PID 1 does.
fn abort(_: &Arguments<'_>) -> i32 {
    no_handlers();
    let child = fork();
    if child == 0 {
        std::process::abort();
    }
    wait_for(child);
    std::process::abort()
}

/// Waits for a child that sleeps, and returns as a shell does.
fn wait_aborted(_: &Arguments<'_>) -> i32 {
    let child = fork();
    if child == 0 {
        super::sleep_forever();
    }
    say("ready");
    shell_code(wait_for(child).1)
}

/// Divides by zero, without the check that the compiler makes before.
#[cfg(target_arch = "x86_64")]
fn divide(_: &Arguments<'_>) -> i32 {
    let quotient: u32;
    // SAFETY: none: the process is meant to fault, and has nothing else to do.
    unsafe {
        std::arch::asm!(
            "div {0:e}",
            in(reg) 0_u32,
            inout("eax") 1_u32 => quotient,
            inout("edx") 0_u32 => _,
        );
    }
    quotient as i32
}

/// Comes to an instruction that is encoded as one of an extension and that no processor has.
#[cfg(target_arch = "x86_64")]
fn lacking(_: &Arguments<'_>) -> i32 {
    // SAFETY: none: the process is meant to fault, and has nothing else to do.
    unsafe {
        // VEX, and an operation code that is not taken.
        std::arch::asm!(".byte 0xc4, 0xe2, 0x78, 0xff, 0xc0");
    }
    1
}

/// Comes to an instruction that no processor executes.
fn illegal(_: &Arguments<'_>) -> i32 {
    // SAFETY: none: the process is meant to fault, and has nothing else to do.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        std::arch::asm!("ud2");
        #[cfg(target_arch = "aarch64")]
        std::arch::asm!("udf #0");
    }
    1
}

/// Comes to a breakpoint.
fn trap(_: &Arguments<'_>) -> i32 {
    // SAFETY: none: the process is meant to fault, and has nothing else to do.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        std::arch::asm!("int3");
        #[cfg(target_arch = "aarch64")]
        std::arch::asm!("brk #0");
    }
    1
}

/// `FILE CUT`: maps a file of 16 MiB and writes to all of it; if CUT is 1, the file is made empty before.
fn bus(arguments: &Arguments<'_>) -> i32 {
    const BYTES: usize = 16 << 20;
    no_handlers();
    let path = arguments.text(0);
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .unwrap_or_else(|_| fail(path));
    if file.set_len(BYTES as u64).is_err() {
        fail("set_len");
    }
    // SAFETY: a new mapping, at an address that the kernel chooses.
    let start = unsafe {
        libc::mmap(
            ptr::null_mut(),
            BYTES,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    if start == libc::MAP_FAILED {
        fail("mmap");
    }
    if arguments.number(1) == 1 && file.set_len(0).is_err() {
        fail("set_len");
    }
    for offset in (0..BYTES).step_by(4096) {
        store(start as u64 + offset as u64);
    }
    0
}

/// Makes a system call end in `action` (`SECCOMP_RET_*`) from now on.
fn forbid(call: libc::c_long, action: u32) {
    // BPF_LD|BPF_W|BPF_ABS of the call's number, which comes first in struct seccomp_data; BPF_JMP|BPF_JEQ;
    // BPF_RET.
    let step = |code: u16, jt: u8, jf: u8, k: u32| libc::sock_filter { code, jt, jf, k };
    let filter = [
        step(0x20, 0, 0, 0),
        step(0x15, 0, 1, call as u32),
        step(0x06, 0, 0, action),
        step(0x06, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: PR_SET_NO_NEW_PRIVS takes numbers; the filter is valid through the call.
    let refused = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                0,
                &raw const program,
            ) != 0
    };
    if refused {
        fail("seccomp");
    }
}

/// Calls what its filter forbids.
fn forbidden_call(_: &Arguments<'_>) -> i32 {
    forbid(libc::SYS_getppid, libc::SECCOMP_RET_KILL_PROCESS);
    // SAFETY: getppid has no preconditions.
    unsafe { libc::getppid() };
    1
}

/// A thread calls what its filter forbids; the others go on for a while.
fn forbidden_thread(_: &Arguments<'_>) -> i32 {
    std::thread::spawn(|| {
        forbid(libc::SYS_getppid, libc::SECCOMP_RET_KILL_THREAD);
        // SAFETY: getppid has no preconditions.
        unsafe { libc::getppid() };
    });
    sleep_ms(200);
    0
}

/// A call that the filter refuses, and that the program can't do without.
fn refused_call(_: &Arguments<'_>) -> i32 {
    forbid(
        libc::SYS_userfaultfd,
        libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
    );
    // SAFETY: userfaultfd takes a number only.
    let descriptor = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) };
    i32::from(descriptor < 0)
}
