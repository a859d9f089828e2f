//! What does not go away when it is killed, and those outside who keep it. Those say `ready` when they hold
//! what they hold, and let go when their standard input ends.

use std::ffi::CString;
use std::io::Read;

use super::{Act, Arguments, fail, fork, say, sleep_forever, sleep_ms, wait_for};

pub(super) const ACTS: &[Act] = &[
    ("wait-for-file", wait_for_file),
    ("nested-wait-for-file", nested),
    ("dump", dump),
    ("fill-and-exit", fill_and_exit),
    ("exec-with-thread", exec_with_thread),
    ("exit-when", exit_when),
    ("join-pid-namespace", join_pid_namespace),
    ("trace-exit", trace_exit),
    ("slow-sink", slow_sink),
];

/// Names this process, as a worker would be.
fn call_it(name: &str) {
    if let Ok(name) = CString::new(name) {
        // SAFETY: the string is NUL-terminated.
        unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
    }
}

/// `PATH`: a child asks for a file whose file system does not answer.
fn wait_for_file(arguments: &Arguments<'_>) -> i32 {
    ask_for(arguments.text(0));
    say("ready");
    sleep_forever()
}

/// A child that asks for a file, and time for it to get stuck.
fn ask_for(path: &str) {
    if fork() == 0 {
        call_it("worker");
        let _ = std::fs::metadata(path);
        std::process::exit(0);
    }
    sleep_ms(100);
}

/// `PATH`: the same in a PID namespace below.
fn nested(arguments: &Arguments<'_>) -> i32 {
    // SAFETY: no pointer is passed; only children are affected.
    if unsafe { libc::unshare(libc::CLONE_NEWPID) } != 0 {
        fail("unshare");
    }
    if fork() == 0 {
        call_it("inner-init");
        ask_for(arguments.text(0));
        say("ready");
        sleep_forever();
    }
    sleep_forever()
}

/// Memory that is used, in small pages.
fn fill(bytes: u64) -> Vec<u8> {
    // SAFETY: no pointer is passed.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
    let mut memory = vec![0_u8; bytes as usize];
    for byte in memory.iter_mut().step_by(4096) {
        *byte = 1;
    }
    memory
}

/// A child that fills so much memory, and ends with it.
fn filled(bytes: u64, end: fn() -> !) -> libc::pid_t {
    let child = fork();
    if child == 0 {
        call_it("worker");
        let memory = fill(bytes);
        std::hint::black_box(&memory);
        end();
    }
    child
}

/// `BYTES`: a child with so much memory dumps core.
fn dump(arguments: &Arguments<'_>) -> i32 {
    let child = filled(arguments.number(0), || std::process::abort());
    say("ready");
    wait_for(child);
    0
}

/// `BYTES`: a child with so much memory ends.
fn fill_and_exit(arguments: &Arguments<'_>) -> i32 {
    let child = filled(arguments.number(0), || {
        // Not even the allocator gives it back.
        // SAFETY: nothing is left to be done.
        unsafe { libc::_exit(0) }
    });
    wait_for(child);
    0
}

/// `FILE`: a second thread sleeps; once there is that file the main thread executes another program.
fn exec_with_thread(arguments: &Arguments<'_>) -> i32 {
    let file = arguments.text(0).to_owned();
    let thread = std::thread::Builder::new().name("helper".into());
    if thread.spawn(|| sleep_ms(60_000)).is_err() {
        fail("make a thread");
    }
    say("ready");
    until_there(&file);
    let error = std::os::unix::process::CommandExt::exec(
        std::process::Command::new("/proc/self/exe").args(["misbehave", "exit", "0"]),
    );
    eprintln!("procjail misbehave: exec: {error}");
    3
}

/// `FILE`: exits once there is that file.
fn exit_when(arguments: &Arguments<'_>) -> i32 {
    say("ready");
    until_there(arguments.text(0));
    0
}

fn until_there(file: &str) {
    for _ in 0..6000 {
        if std::path::Path::new(file).exists() {
            return;
        }
        sleep_ms(10);
    }
}

/// Waits until whoever started this lets go.
fn until_released() {
    let mut rest = Vec::new();
    let _ = std::io::stdin().read_to_end(&mut rest);
}

/// `PID`: has a child in that process's PID namespace, and does not reap it before it is released.
fn join_pid_namespace(arguments: &Arguments<'_>) -> i32 {
    let path = format!("/proc/{}/ns/pid", arguments.number(0));
    let Ok(namespace) = std::fs::File::open(&path) else {
        fail("open the namespace");
    };
    let fd = std::os::fd::AsRawFd::as_raw_fd(&namespace);
    // SAFETY: no pointer is passed; only children are affected.
    if unsafe { libc::setns(fd, libc::CLONE_NEWPID) } != 0 {
        fail("setns");
    }
    let child = fork();
    if child == 0 {
        call_it("worker");
        sleep_forever();
    }
    say("ready");
    until_released();
    wait_for(child);
    0
}

/// `TID`: traces a thread, and is told of its end.
fn trace_exit(arguments: &Arguments<'_>) -> i32 {
    let tid = arguments.number(0) as libc::pid_t;
    let options = libc::PTRACE_O_TRACEEXIT as usize;
    // SAFETY: no memory of this process is touched by it.
    if unsafe { libc::ptrace(libc::PTRACE_SEIZE, tid, 0_usize, options) } != 0 {
        fail("ptrace");
    }
    say("ready");
    until_released();
    0
}

/// `MILLISECONDS`: takes a core dump, but not at once.
fn slow_sink(arguments: &Arguments<'_>) -> i32 {
    sleep_ms(arguments.number(0));
    until_released();
    0
}
