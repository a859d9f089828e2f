//! Programs that do well or badly with signals.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Arguments, fail, fork, say, sleep_forever, sleep_ms, wait_for};

/// How often each signal came.
static RECEIPTS: [AtomicU64; 65] = [const { AtomicU64::new(0) }; 65];

extern "C" fn count(signal: libc::c_int) {
    RECEIPTS[signal as usize].fetch_add(1, Ordering::Relaxed);
}

/// Installs a handler that counts, or another disposition.
pub fn install(signal: libc::c_int, handler: libc::sighandler_t) {
    // SAFETY: the action is all zeroes but for a valid handler; the handler only adds to an atomic.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = libc::SA_RESTART;
        if libc::sigaction(signal, &action, std::ptr::null_mut()) != 0 {
            fail("sigaction");
        }
    }
}

/// Installs the handler that counts.
pub fn install_counter(signal: libc::c_int) {
    install(
        signal,
        count as extern "C" fn(libc::c_int) as libc::sighandler_t,
    );
}

/// How often `signal` came.
pub fn receipts(signal: libc::c_int) -> u64 {
    RECEIPTS[signal as usize].load(Ordering::Relaxed)
}

/// Ignores SIGTERM and stays.
pub fn ignore_term() -> i32 {
    install(libc::SIGTERM, libc::SIG_IGN);
    say("ready");
    sleep_forever()
}

/// Has no handler for SIGTERM: as PID 1 it never gets it.
pub fn default_term() -> i32 {
    say("ready");
    sleep_forever()
}

/// `CODE [--after MS]`: installs a handler after MS, prints each receipt, exits with CODE 100 ms after
/// the first, so that a second one would be seen.
pub fn handle_term(arguments: &Arguments) -> i32 {
    if let Some(after) = arguments.option("--after") {
        say("started");
        sleep_ms(after);
    }
    install_counter(libc::SIGTERM);
    say("ready");
    let mut seen = 0;
    let mut left_ms: Option<u64> = None;
    loop {
        while seen < receipts(libc::SIGTERM) {
            seen += 1;
            say("SIGTERM");
            left_ms.get_or_insert(100);
        }
        match &mut left_ms {
            Some(0) => return arguments.number(1) as i32,
            Some(left) => *left -= 1,
            None => {}
        }
        sleep_ms(1);
    }
}

/// `SIG MS`: counts a signal for a while and prints how often it came.
pub fn count_signals(arguments: &Arguments) -> i32 {
    let signal = arguments.number(1) as i32;
    install_counter(signal);
    say("ready");
    sleep_ms(arguments.number(2));
    say(&receipts(signal).to_string());
    0
}

/// Blocks SIGTERM and waits for it in sigwait(3), as small inits do; prints it and exits with 0.
pub fn wait_term() -> i32 {
    mask(libc::SIG_BLOCK);
    say("ready");
    let mut taken = 0;
    // SAFETY: the set is made by sigemptyset, and both live through the calls.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGTERM);
        if libc::sigwait(&set, &mut taken) != 0 {
            fail("sigwait");
        }
    }
    say(&taken.to_string());
    0
}

/// `MS`: blocks SIGTERM, waits, unblocks it with a handler, prints how often it came.
pub fn block_term(arguments: &Arguments) -> i32 {
    install_counter(libc::SIGTERM);
    mask(libc::SIG_BLOCK);
    say("ready");
    sleep_ms(arguments.number(1));
    mask(libc::SIG_UNBLOCK);
    say(&receipts(libc::SIGTERM).to_string());
    0
}

fn mask(how: libc::c_int) {
    // SAFETY: the set is initialised by sigemptyset before use.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGTERM);
        libc::sigprocmask(how, &set, std::ptr::null_mut());
    }
}

/// Prints the signals that a terminal sends as they come; SIGUSR1 ends it, being no request to stop.
pub fn tty() -> i32 {
    let signals = [
        (libc::SIGINT, "SIGINT"),
        (libc::SIGQUIT, "SIGQUIT"),
        (libc::SIGHUP, "SIGHUP"),
        (libc::SIGCONT, "SIGCONT"),
        (libc::SIGWINCH, "SIGWINCH"),
        (libc::SIGUSR1, "SIGUSR1"),
    ];
    for (signal, _) in signals {
        install_counter(signal);
    }
    say("ready");
    let mut seen = [0; 6];
    loop {
        for (seen, (signal, name)) in seen.iter_mut().zip(signals) {
            while *seen < receipts(signal) {
                *seen += 1;
                if signal == libc::SIGWINCH {
                    say(&format!("{name} {}", window_size()));
                } else {
                    say(name);
                }
            }
        }
        if receipts(libc::SIGUSR1) > 0 {
            return 0;
        }
        sleep_ms(1);
    }
}

fn window_size() -> String {
    // SAFETY: `size` is valid for writing and TIOCGWINSZ writes a winsize.
    unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        if libc::ioctl(1, libc::TIOCGWINSZ, &mut size) != 0 {
            return "?".to_owned();
        }
        format!("{}x{}", size.ws_row, size.ws_col)
    }
}

/// A child stops itself; the parent sees it, continues it and collects it.
pub fn stop_self() -> i32 {
    let child = fork();
    if child == 0 {
        // SAFETY: raise has no preconditions.
        unsafe { libc::raise(libc::SIGSTOP) };
        return 4;
    }
    let (_, status) = wait_for(child, libc::WUNTRACED);
    say(&format!("stopped={}", libc::WIFSTOPPED(status)));
    // SAFETY: kill has no preconditions; the child is not reaped yet.
    unsafe { libc::kill(child, libc::SIGCONT) };
    let (_, status) = wait_for(child, 0);
    libc::WEXITSTATUS(status)
}

/// A child sends SIGKILL to its parent. As PID 1 the parent survives it, and says so.
pub fn kill_parent() -> i32 {
    let child = fork();
    if child == 0 {
        // SAFETY: neither call has preconditions.
        unsafe { libc::kill(libc::getppid(), libc::SIGKILL) };
        return 0;
    }
    wait_for(child, 0);
    say("survived");
    0
}

/// Dies by a real fault: writes to an address that is not mapped.
pub fn segv() -> i32 {
    let nowhere: *mut u8 = std::ptr::without_provenance_mut(std::hint::black_box(8));
    // SAFETY: none; the fault is the purpose. The page at 0 is never mapped (vm.mmap_min_addr).
    unsafe { nowhere.write_volatile(1) };
    0
}

/// Dies by an instruction that is none, as compilers put where a program must not come.
pub fn illegal() -> i32 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: none; the fault is the purpose.
    unsafe {
        std::arch::asm!("ud2");
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!("udf #0");
    }
    0
}

/// Dies by abort(3).
pub fn abort() -> i32 {
    // SAFETY: abort has no preconditions.
    unsafe { libc::abort() }
}

/// Dies by a real division by zero (on x86-64; elsewhere it raises the signal).
pub fn fpe() -> i32 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: none; the fault is the purpose. The registers that `div` changes are declared.
    unsafe {
        std::arch::asm!("div {0:e}", in(reg) 0_u32, inout("eax") 1_u32 => _, inout("edx") 0_u32 => _);
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: raise has no preconditions.
    unsafe {
        libc::raise(libc::SIGFPE);
    }
    0
}

/// A child asks to be traced and stops; its parent, now its tracer, kills it.
pub fn trace_and_kill() -> i32 {
    let child = fork();
    if child == 0 {
        // SAFETY: neither call has preconditions.
        unsafe {
            if libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) != 0 {
                fail("ptrace");
            }
            libc::raise(libc::SIGSTOP);
        }
        return 4;
    }
    wait_for(child, 0);
    // SAFETY: kill has no preconditions; the child is not reaped yet.
    unsafe { libc::kill(child, libc::SIGKILL) };
    wait_for(child, 0);
    0
}
