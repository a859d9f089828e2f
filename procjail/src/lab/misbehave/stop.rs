//! Programs that don't stop as they should.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use super::{Act, Arguments, fail, fork, say, sleep_forever, sleep_ms, wait_for};

pub(super) const ACTS: &[Act] = &[
    ("shell", shell),
    ("shell-trap", shell_trap),
    ("shell-wait", shell_wait),
    ("wrapper-deaf", wrapper_deaf),
    ("wrapper-hasty", wrapper_hasty),
    ("ignore", ignore),
    ("ignore-exec", ignore_exec),
    ("obey", obey),
    ("handle-only", handle_only),
    ("reraise", reraise),
    ("stop-late", stop_late),
    ("deadlock", deadlock),
    ("reload", reload),
    ("stop-slowly", stop_slowly),
    ("stop-busily", stop_busily),
    ("block", block),
    ("handle-quit", handle_quit),
    ("stopped-child", stopped_child),
    ("vfork", vfork),
    ("forward-to-one", forward_to_one),
    ("two", two),
];

/// The last signal that [`note`] got; 0 for none.
static NOTED: AtomicI32 = AtomicI32::new(0);

extern "C" fn note(signal: libc::c_int) {
    NOTED.store(signal, Ordering::SeqCst);
}

extern "C" fn leave(_: libc::c_int) {
    // SAFETY: _exit is safe in a signal handler.
    unsafe { libc::_exit(0) }
}

/// sigaction(2) without SA_RESTART: calls are interrupted, as shells want it.
pub(super) fn on(signal: i32, handler: extern "C" fn(libc::c_int)) {
    set(signal, handler as *const () as libc::sighandler_t);
}

fn set(signal: i32, handler: libc::sighandler_t) {
    // SAFETY: all zeros is a valid sigaction; its fields are set before it is used.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        if libc::sigaction(signal, &action, std::ptr::null_mut()) != 0 {
            fail("sigaction");
        }
    }
}

/// The name by which the process appears.
pub(super) fn call_itself(name: &str) {
    let Ok(name) = CString::new(name) else { return };
    // SAFETY: `name` is a string that ends in NUL.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// A child of that name that does `act`, which must not return.
pub(super) fn child(name: &str, act: impl FnOnce()) -> libc::pid_t {
    match fork() {
        0 => {
            call_itself(name);
            act();
            std::process::exit(9)
        }
        pid => pid,
    }
}

/// A child that has no handler of its own.
fn plain_child(name: &str) -> libc::pid_t {
    child(name, || {
        set(libc::SIGTERM, libc::SIG_DFL);
        sleep_forever()
    })
}

pub(super) fn kill(pid: libc::pid_t, signal: i32) {
    // SAFETY: kill has no preconditions.
    unsafe { libc::kill(pid, signal) };
}

/// Sleeps until a handler has run.
fn until_noted() {
    while NOTED.load(Ordering::SeqCst) == 0 {
        sleep_ms_interrupted(600_000);
    }
}

/// Sleeps that long, or until a handler has run.
fn sleep_ms_interrupted(milliseconds: u64) {
    let time = libc::timespec {
        tv_sec: (milliseconds / 1000) as libc::time_t,
        tv_nsec: (milliseconds % 1000 * 1_000_000) as libc::c_long,
    };
    // SAFETY: `time` is valid, and the rest is not asked for.
    unsafe { libc::nanosleep(&time, std::ptr::null_mut()) };
}

/// `sh -c 'app; true'`: waits for a command in the foreground, without a trap.
fn shell(_: &Arguments<'_>) -> i32 {
    let app = plain_child("app");
    say("ready");
    wait_for(app);
    0
}

/// `MS`, as `trap 'exit 0' TERM; app`: the trap runs when the command in the foreground has ended.
fn shell_trap(arguments: &Arguments<'_>) -> i32 {
    on(libc::SIGTERM, note);
    let app = child("app", || {
        set(libc::SIGTERM, libc::SIG_DFL);
        sleep_ms(arguments.number(0));
        std::process::exit(0)
    });
    say("ready");
    wait_for(app);
    0
}

/// `trap 'kill -TERM $pid' TERM; app & pid=$!; wait $pid`: the trap ends the wait, and so the script.
fn shell_wait(_: &Arguments<'_>) -> i32 {
    on(libc::SIGTERM, note);
    let app = child("app", drain);
    say("ready");
    let mut status = 0;
    // SAFETY: `status` is valid for writing.
    unsafe { libc::waitpid(app, &mut status, 0) };
    if NOTED.load(Ordering::SeqCst) != 0 {
        kill(app, libc::SIGTERM);
        // For the program to begin its shutdown.
        sleep_ms(50);
        return 143;
    }
    0
}

/// Needs two seconds to stop.
fn drain() {
    on(libc::SIGTERM, note);
    until_noted();
    sleep_ms(2_000);
    std::process::exit(0)
}

/// Takes the signal, and keeps it to itself.
fn wrapper_deaf(_: &Arguments<'_>) -> i32 {
    on(libc::SIGTERM, note);
    let app = plain_child("app");
    say("ready");
    wait_for(app);
    0
}

/// Passes the signal on, and leaves before its child.
fn wrapper_hasty(_: &Arguments<'_>) -> i32 {
    on(libc::SIGTERM, note);
    let app = child("app", drain);
    say("ready");
    until_noted();
    kill(app, libc::SIGTERM);
    sleep_ms(50);
    0
}

/// Ignores SIGTERM.
fn ignore(_: &Arguments<'_>) -> i32 {
    set(libc::SIGTERM, libc::SIG_IGN);
    say("ready");
    sleep_forever()
}

/// `PROGRAM`: ignores SIGTERM, waits for SIGUSR1, and executes the program to sleep.
fn ignore_exec(arguments: &Arguments<'_>) -> i32 {
    set(libc::SIGTERM, libc::SIG_IGN);
    block_signal(libc::SIGUSR1);
    say("ignoring");
    wait_for_signal(libc::SIGUSR1);
    unblock_signal(libc::SIGUSR1);
    let to_c = |text: &str| CString::new(text.as_bytes()).unwrap_or_default();
    let program = to_c(arguments.text(0));
    let argv = [program.clone(), to_c("misbehave"), to_c("sleep")];
    let mut pointers: Vec<*const libc::c_char> = argv.iter().map(|one| one.as_ptr()).collect();
    pointers.push(std::ptr::null());
    // SAFETY: `pointers` is an array of strings that ends in a null pointer.
    unsafe { libc::execv(program.as_ptr(), pointers.as_ptr()) };
    fail(&format!(
        "exec {}",
        std::ffi::OsStr::from_bytes(program.as_bytes()).display()
    ))
}

/// Ends when it is asked to.
fn obey(_: &Arguments<'_>) -> i32 {
    on(libc::SIGTERM, leave);
    say("ready");
    sleep_forever()
}

/// Its handler sets a flag that nobody looks at.
fn handle_only(_: &Arguments<'_>) -> i32 {
    on(libc::SIGTERM, note);
    say("ready");
    sleep_forever()
}

/// What a runtime does for a program without a handler of its own.
extern "C" fn end_by_signal(signal: libc::c_int) {
    set(signal, libc::SIG_DFL);
    // SAFETY: raise has no preconditions.
    unsafe { libc::raise(signal) };
}

/// Its handler sends it the signal again, by the default action.
fn reraise(_: &Arguments<'_>) -> i32 {
    on(libc::SIGTERM, end_by_signal);
    say("ready");
    sleep_forever()
}

extern "C" fn leave_late(_: libc::c_int) {
    sleep_ms_interrupted(20_000);
    // SAFETY: _exit is safe in a signal handler.
    unsafe { libc::_exit(0) }
}

/// Its handler takes 20 seconds.
fn stop_late(_: &Arguments<'_>) -> i32 {
    on(libc::SIGTERM, leave_late);
    say("ready");
    sleep_forever()
}

/// Held by the program while its handler runs.
static LOCK: Mutex<()> = Mutex::new(());

extern "C" fn take_lock(_: libc::c_int) {
    drop(LOCK.lock());
}

/// Its handler wants a lock that the interrupted code holds.
fn deadlock(_: &Arguments<'_>) -> i32 {
    on(libc::SIGTERM, take_lock);
    let _held = LOCK.lock();
    say("ready");
    sleep_forever()
}

/// Executes itself anew when it is asked to end.
fn reload(_: &Arguments<'_>) -> i32 {
    on(libc::SIGTERM, note);
    say("ready");
    until_noted();
    let error = std::process::Command::new("/proc/self/exe")
        .args(["misbehave", "sleep"])
        .exec();
    fail(&format!("exec: {error}"))
}

/// `COUNT MS`: has children, and ends one after the other when it is asked to, with a pause after each.
fn stop_slowly(arguments: &Arguments<'_>) -> i32 {
    let workers: Vec<libc::pid_t> = (0..arguments.number(0))
        .map(|_| plain_child("worker"))
        .collect();
    on(libc::SIGTERM, note);
    say("ready");
    until_noted();
    for worker in workers {
        kill(worker, libc::SIGTERM);
        wait_for(worker);
        sleep_ms(arguments.number(1));
    }
    0
}

/// `MS`: needs that much CPU time to stop.
fn stop_busily(arguments: &Arguments<'_>) -> i32 {
    on(libc::SIGTERM, note);
    say("ready");
    until_noted();
    let mut state = 1u64;
    while cpu_time() < Duration::from_millis(arguments.number(0)) {
        for _ in 0..10_000 {
            state = std::hint::black_box(state.wrapping_mul(6_364_136_223_846_793_005) + 1);
        }
    }
    i32::from(state == 0)
}

/// CPU time of this process.
fn cpu_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is valid for writing.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn mask(how: i32, signal: i32) {
    // SAFETY: the set is filled before it is used.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, signal);
        libc::sigprocmask(how, &set, std::ptr::null_mut());
    }
}

fn block_signal(signal: i32) {
    mask(libc::SIG_BLOCK, signal);
}

fn unblock_signal(signal: i32) {
    mask(libc::SIG_UNBLOCK, signal);
}

/// Waits for a blocked signal, ten seconds at most.
fn wait_for_signal(signal: i32) {
    let time = libc::timespec {
        tv_sec: 10,
        tv_nsec: 0,
    };
    // SAFETY: the set is filled before it is used; what came is not asked for.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, signal);
        libc::sigtimedwait(&set, std::ptr::null_mut(), &time);
    }
}

/// Blocks SIGTERM, and never looks for it.
fn block(_: &Arguments<'_>) -> i32 {
    block_signal(libc::SIGTERM);
    say("ready");
    sleep_forever()
}

/// Stops at SIGQUIT only.
fn handle_quit(_: &Arguments<'_>) -> i32 {
    on(libc::SIGQUIT, leave);
    say("ready");
    sleep_forever()
}

/// Passes SIGTERM on to a child that has a handler for it, but is stopped.
fn stopped_child(_: &Arguments<'_>) -> i32 {
    let app = child("app", || {
        on(libc::SIGTERM, leave);
        // SAFETY: raise has no preconditions.
        unsafe { libc::raise(libc::SIGSTOP) };
        sleep_forever()
    });
    let mut status = 0;
    // SAFETY: `status` is valid for writing.
    unsafe { libc::waitpid(app, &mut status, libc::WUNTRACED) };
    on(libc::SIGTERM, note);
    say("ready");
    until_noted();
    kill(app, libc::SIGTERM);
    wait_for(app);
    0
}

/// Has a handler, and waits for a child of vfork(2) that takes its time.
fn vfork(_: &Arguments<'_>) -> i32 {
    on(libc::SIGTERM, leave);
    // Without CLONE_VM the child has memory of its own, so it may do anything; the parent waits all the
    // same.
    let flags = libc::CLONE_VFORK | libc::SIGCHLD;
    say("ready");
    // SAFETY: as fork(2): there is one thread, and the child gets a copy of its stack.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags as libc::c_ulong, 0, 0, 0, 0) };
    match pid {
        0 => {
            call_itself("helper");
            sleep_forever()
        }
        1.. => sleep_forever(),
        _ => fail("clone"),
    }
}

/// Has two children, and passes SIGTERM on to the first only.
fn forward_to_one(_: &Arguments<'_>) -> i32 {
    let helper = plain_child("helper");
    let app = plain_child("app");
    on(libc::SIGTERM, note);
    say("ready");
    until_noted();
    kill(helper, libc::SIGTERM);
    wait_for(helper);
    wait_for(app);
    0
}

/// Has a helper, and stops when it is asked to.
fn two(_: &Arguments<'_>) -> i32 {
    plain_child("helper");
    on(libc::SIGTERM, leave);
    say("ready");
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        sleep_ms(1_000);
    }
    9
}
