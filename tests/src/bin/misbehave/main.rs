//! Programs that fail in known ways: what the kernel tests and the benchmarks run inside a jail.
//!
//! There is no Rust runtime around `main`: the runtime ignores SIGPIPE and looks at the standard
//! descriptors before the program gets control, and the tests want to see the process exactly as the
//! launcher made it.
#![no_main]

mod memory;
mod processes;
mod signals;
mod state;
mod storms;

use std::ffi::{CStr, c_char, c_int};
use std::io::Write;
use std::time::Duration;

/// The arguments after the program's name.
struct Arguments(Vec<String>);

impl Arguments {
    /// The number at `index`; a message and exit code 2 if there is none.
    fn number(&self, index: usize) -> u64 {
        match self.0.get(index).and_then(|text| text.parse().ok()) {
            Some(number) => number,
            None => usage(),
        }
    }

    /// The text at `index`.
    fn text(&self, index: usize) -> &str {
        match self.0.get(index) {
            Some(text) => text,
            None => usage(),
        }
    }

    /// Whether an option such as `--hold` is given.
    fn has(&self, option: &str) -> bool {
        self.0.iter().any(|text| text == option)
    }

    /// The number after an option.
    fn option(&self, option: &str) -> Option<u64> {
        let index = self.0.iter().position(|text| text == option)?;
        Some(self.number(index + 1))
    }
}

/// The C library's entry point.
///
/// # Safety
///
/// `argv` has `argc` strings, as the C library guarantees.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    let arguments = (1..argc as usize)
        .map(|index| {
            // SAFETY: `argv` has `argc` strings that live as long as the process.
            let text = unsafe { CStr::from_ptr(*argv.add(index)) };
            text.to_string_lossy().into_owned()
        })
        .collect();
    run(&Arguments(arguments))
}

fn run(arguments: &Arguments) -> c_int {
    match arguments.text(0) {
        "exit" => arguments.number(1) as c_int,
        "ignore-term" => signals::ignore_term(),
        "default-term" => signals::default_term(),
        "handle-term" => signals::handle_term(arguments),
        "count-signals" => signals::count_signals(arguments),
        "block-term" => signals::block_term(arguments),
        "wait-term" => signals::wait_term(),
        "tty" => signals::tty(),
        "stop-self" => signals::stop_self(),
        "kill-parent" => signals::kill_parent(),
        "segv" => signals::segv(),
        "trace-and-kill" => signals::trace_and_kill(),
        "fail-calls" => state::fail_calls(arguments),
        "tell-errors" => state::tell_errors(arguments),
        "fill-stderr" => state::fill_stderr(arguments),
        "exit-by-thread" => processes::exit_by_thread(arguments),
        "illegal" => signals::illegal(),
        "abort" => signals::abort(),
        "fpe" => signals::fpe(),
        "alloc" => memory::alloc(arguments),
        "oom-child" => memory::oom_child(arguments),
        "mount-tmpfs" => memory::mount_tmpfs(arguments),
        "mount-leak" => memory::mount_leak(arguments),
        "zombies" => processes::zombies(arguments),
        "orphans" => processes::orphans(arguments),
        "threads-exit" => processes::threads_exit(),
        "fork-fail" => processes::fork_fail(),
        "exec-fail" => processes::exec_fail(),
        "double-fork-daemon" => processes::double_fork_daemon(),
        "clear-pdeathsig" => processes::clear_pdeathsig(),
        "fork-storm" => storms::forks(arguments),
        "signal-storm" => storms::signals(arguments),
        "syscall-storm" => storms::syscalls(arguments),
        "fds" => state::descriptors(),
        "sigstate" => state::signals(),
        "env" => state::environment(),
        "ns" => state::namespaces(),
        _ => usage(),
    }
}

fn usage() -> ! {
    eprintln!("misbehave: unknown or incomplete arguments; see tests/src/bin/misbehave/main.rs");
    std::process::exit(2)
}

/// Prints a line at once, whatever stdout is.
fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{line}");
    let _ = stdout.flush();
}

/// Sleeps, however many signals come.
fn sleep_ms(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

/// Sleeps until a signal ends the process.
fn sleep_forever() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// Prints why `what` failed and exits with code 3.
fn fail(what: &str) -> ! {
    eprintln!("misbehave: {what}: {}", std::io::Error::last_os_error());
    std::process::exit(3)
}

/// fork(2). The program has one thread at this point, so the child may do anything.
fn fork() -> libc::pid_t {
    // SAFETY: no other thread exists that could hold a lock across the fork.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        fail("fork");
    }
    pid
}

/// waitpid(2) for one child; what it returned and the status.
fn wait_for(pid: libc::pid_t, options: c_int) -> (libc::pid_t, c_int) {
    let mut status = 0;
    loop {
        // SAFETY: `status` is valid for writing.
        let reaped = unsafe { libc::waitpid(pid, &mut status, options) };
        if reaped >= 0 || std::io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
            return (reaped, status);
        }
    }
}
