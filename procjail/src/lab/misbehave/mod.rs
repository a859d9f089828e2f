//! The program that misbehaves: what the lab runs in its jails, as `procjail misbehave WHAT`.
//!
//! It is procjail itself, so that the lab needs nothing but procjail. Each misbehaviour says `ready`
//! on stdout when what it is about has begun, where somebody outside waits for it.

mod basics;
mod crash;
mod exec;
mod exit;
mod fork;
mod hang;
mod kill;
mod leak;
mod limit;
mod memory;
mod signal;
mod stop;
mod zombie;

use std::io::Write;
use std::time::Duration;

/// The arguments after the misbehaviour's name.
pub struct Arguments<'a>(&'a [String]);

impl Arguments<'_> {
    /// The number at `index`; a message and exit code 2 if there is none.
    pub fn number(&self, index: usize) -> u64 {
        self.0
            .get(index)
            .and_then(|text| text.parse().ok())
            .unwrap_or_else(|| usage())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The text at `index`.
    pub fn text(&self, index: usize) -> &str {
        self.0.get(index).map_or_else(|| usage(), String::as_str)
    }
}

/// One misbehaviour: its name, and what it does. What it returns is the exit code.
pub type Act = (&'static str, fn(&Arguments<'_>) -> i32);

const ACTS: &[&[Act]] = &[
    basics::ACTS,
    memory::ACTS,
    fork::ACTS,
    stop::ACTS,
    kill::ACTS,
    signal::ACTS,
    crash::ACTS,
    exec::ACTS,
    exit::ACTS,
    limit::ACTS,
    zombie::ACTS,
    hang::ACTS,
    leak::ACTS,
];

/// Misbehaves as asked and ends the process.
pub fn run(arguments: &[String]) -> ! {
    // The runtime ignores SIGPIPE; a program that misbehaves starts as any other does.
    // SAFETY: SIG_DFL is a valid disposition.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let (name, rest) = arguments.split_first().unwrap_or_else(|| usage());
    let act = ACTS
        .iter()
        .flat_map(|family| family.iter())
        .find(|(known, _)| known == name);
    match act {
        Some((_, act)) => std::process::exit(act(&Arguments(rest))),
        None => usage(),
    }
}

fn usage() -> ! {
    eprintln!("procjail misbehave: unknown or incomplete arguments; see procjail lab --list");
    std::process::exit(2)
}

/// Prints a line at once, whatever stdout is.
pub fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{line}");
    let _ = stdout.flush();
}

/// Sleeps, however many signals come.
pub fn sleep_ms(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

/// Sleeps until a signal ends the process. Ends by itself after ten minutes: whatever goes wrong, nothing
/// misbehaves for ever.
pub fn sleep_forever() -> ! {
    sleep_ms(600_000);
    std::process::exit(9)
}

/// Prints why `what` failed and exits with code 3.
pub fn fail(what: &str) -> ! {
    eprintln!(
        "procjail misbehave: {what}: {}",
        std::io::Error::last_os_error()
    );
    std::process::exit(3)
}

/// fork(2): 0 in the child.
pub fn fork() -> libc::pid_t {
    // SAFETY: callers fork before they make threads, so no other thread can hold a lock.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        fail("fork");
    }
    pid
}

/// fork(2) with what only clone3(2) takes: 0 in the child.
///
/// # Safety
///
/// `args` has no CLONE_VM, and what it points to is valid.
pub unsafe fn fork_with(mut args: libc::clone_args) -> libc::pid_t {
    args.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: without CLONE_VM this is a fork, and the process has one thread; the rest is the caller's word.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const args,
            size_of::<libc::clone_args>(),
        )
    };
    if pid < 0 {
        fail("clone3");
    }
    pid as libc::pid_t
}

/// waitpid(2) for one child: what it returned, and the status.
pub fn wait_for(pid: libc::pid_t) -> (libc::pid_t, i32) {
    let mut status = 0;
    loop {
        // SAFETY: `status` is valid for writing.
        let reaped = unsafe { libc::waitpid(pid, &mut status, 0) };
        if reaped >= 0 || std::io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
            return (reaped, status);
        }
    }
}

/// The exit code by which a shell tells how a child ended.
pub fn shell_code(status: i32) -> i32 {
    match libc::WIFSIGNALED(status) {
        true => 128 + libc::WTERMSIG(status),
        false => libc::WEXITSTATUS(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_misbehaviour_has_a_name_of_its_own() {
        let mut names: Vec<_> = ACTS.iter().flat_map(|family| family.iter()).collect();
        names.sort_unstable_by_key(|(name, _)| *name);
        for pair in names.windows(2) {
            let [(first, _), (second, _)] = pair else {
                continue;
            };
            assert_ne!(first, second);
        }
    }
}
