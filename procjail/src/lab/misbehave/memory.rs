//! Using up memory, in all its kinds.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::ptr;

use super::{Act, Arguments, fail, fork, say, sleep_forever, sleep_ms, wait_for};

pub(super) const ACTS: &[Act] = &[
    ("alloc", alloc),
    ("alloc-offered", alloc_offered),
    ("alloc-slowly", alloc_slowly),
    ("alloc-when-told", alloc_when_told),
    ("alloc-in-child", alloc_in_child),
    ("alloc-in-a-group", alloc_in_a_group),
    ("alloc-and-abort", alloc_and_abort),
    ("alloc-protected", alloc_protected),
    ("alloc-beside-stat", alloc_beside_stat),
    ("alloc-shared", alloc_shared),
    ("workers", workers),
    ("restart", restart),
    ("protect-hog", protect_hog),
    ("fill", fill),
    ("lock-file", lock_file),
    ("page-tables", page_tables),
    ("fill-sockets", fill_sockets),
    ("reread", reread),
    ("ask", ask),
    ("kill", kill),
];

const STEP: usize = 1 << 20;

/// A mapping of so many bytes; the process ends if there is none.
fn map(bytes: usize, flags: libc::c_int, protection: libc::c_int, fd: libc::c_int) -> *mut u8 {
    // SAFETY: a new mapping at an address of the kernel's choice; checked below.
    let start = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, fd, 0) };
    if start == libc::MAP_FAILED {
        fail("mmap");
    }
    start.cast()
}

/// Takes anonymous memory and keeps it, in steps of 1 MiB with a pause between.
fn take(bytes: u64, pause_ms: u64) {
    let mut left = bytes as usize;
    while left > 0 {
        let length = left.min(STEP);
        let start = map(
            length,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            libc::PROT_READ | libc::PROT_WRITE,
            -1,
        );
        // SAFETY: the mapping is that long and writable.
        unsafe { ptr::write_bytes(start, 0x5a, length) };
        left -= length;
        if pause_ms > 0 {
            sleep_ms(pause_ms);
        }
    }
}

/// `BYTES`: takes them and exits. Further arguments are for those who look at them.
fn alloc(arguments: &Arguments<'_>) -> i32 {
    take(arguments.number(0), 0);
    say("allocated");
    0
}

/// `BYTES`: offers itself to the OOM killer before all others, and takes them.
fn alloc_offered(arguments: &Arguments<'_>) -> i32 {
    if std::fs::write("/proc/self/oom_score_adj", "1000").is_err() {
        fail("write to oom_score_adj");
    }
    take(arguments.number(0), 0);
    0
}

/// `BYTES MS`: takes them, a MiB each `MS`.
fn alloc_slowly(arguments: &Arguments<'_>) -> i32 {
    take(arguments.number(0), arguments.number(1));
    say("allocated");
    0
}

/// `BYTES`: says so, waits for a line on stdin or half a second, takes them and sleeps.
fn alloc_when_told(arguments: &Arguments<'_>) -> i32 {
    say("ready");
    let mut line = [0];
    if std::io::stdin().read(&mut line).unwrap_or(0) == 0 {
        sleep_ms(500);
    }
    take(arguments.number(0), 0);
    say("allocated");
    sleep_forever()
}

/// `BYTES AFTER_MS CODE`: a child takes them; its parent collects it, says how it ended, goes on for so
/// long and exits with that code.
fn alloc_in_child(arguments: &Arguments<'_>) -> i32 {
    let child = fork();
    if child == 0 {
        take(arguments.number(0), 0);
        return 0;
    }
    wait_for(child);
    say("child ended");
    sleep_ms(arguments.number(1));
    arguments.number(2) as i32
}

/// `BYTES COUNT`: so many children sleep while the parent takes them.
fn alloc_in_a_group(arguments: &Arguments<'_>) -> i32 {
    for _ in 0..arguments.number(1) {
        if fork() == 0 {
            sleep_forever();
        }
    }
    take(arguments.number(0), 0);
    0
}

/// `BYTES`: takes them and gives up, as a runtime does at its own limit.
fn alloc_and_abort(arguments: &Arguments<'_>) -> i32 {
    take(arguments.number(0), 0);
    std::process::abort()
}

/// `BYTES MS`: forbids the OOM killer to choose it, takes them, and is ended by a timer at the latest.
fn alloc_protected(arguments: &Arguments<'_>) -> i32 {
    let end = arguments.number(1);
    // The allocation never returns, so something else must end it.
    let guard = fork();
    if guard == 0 {
        if std::fs::write("/proc/self/oom_score_adj", "-1000").is_err() {
            fail("write to oom_score_adj");
        }
        take(arguments.number(0), 0);
        return 0;
    }
    if std::fs::write("/proc/self/oom_score_adj", "-1000").is_err() {
        fail("write to oom_score_adj");
    }
    sleep_ms(end);
    // SAFETY: kill has no preconditions.
    unsafe { libc::kill(guard, libc::SIGKILL) };
    wait_for(guard);
    1
}

/// `PATH BYTES`: one thread looks at PATH, which may never answer, while the main one takes BYTES.
fn alloc_beside_stat(arguments: &Arguments<'_>) -> i32 {
    let path = arguments.text(0).to_owned();
    std::thread::spawn(move || {
        let _ = std::fs::metadata(path);
    });
    sleep_ms(100);
    take(arguments.number(1), 0);
    0
}

/// `BYTES`: takes them while a child lives in the same memory (CLONE_VM).
fn alloc_shared(arguments: &Arguments<'_>) -> i32 {
    const STACK: usize = 256 << 10;
    extern "C" fn sleeps(_: *mut libc::c_void) -> libc::c_int {
        // Nothing but a system call: the memory is another's too.
        loop {
            // SAFETY: pause has no preconditions.
            unsafe { libc::pause() };
        }
    }
    let stack = map(
        STACK,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK,
        libc::PROT_READ | libc::PROT_WRITE,
        -1,
    );
    // SAFETY: the stack is the child's alone, its end is aligned to a page, and `sleeps` touches nothing
    // else.
    let child = unsafe {
        libc::clone(
            sleeps,
            stack.add(STACK).cast(),
            libc::CLONE_VM | libc::SIGCHLD,
            ptr::null_mut(),
        )
    };
    if child < 0 {
        fail("clone");
    }
    take(arguments.number(0), 0);
    0
}

/// `COUNT BYTES`: so many children take so much each and keep it.
fn workers(arguments: &Arguments<'_>) -> i32 {
    for _ in 0..arguments.number(0) {
        if fork() == 0 {
            take(arguments.number(1), 0);
            sleep_ms(2000);
            return 0;
        }
        sleep_ms(2);
    }
    sleep_ms(500);
    0
}

/// `TIMES BYTES`: starts a child that takes them, and another when it has ended.
fn restart(arguments: &Arguments<'_>) -> i32 {
    for _ in 0..arguments.number(0) {
        let child = fork();
        if child == 0 {
            take(arguments.number(1), 0);
            return 0;
        }
        wait_for(child);
        sleep_ms(20);
    }
    0
}

/// `BYTES`: two children take as much each, and a third, which is chosen before them, has next to
/// nothing.
fn protect_hog(arguments: &Arguments<'_>) -> i32 {
    let innocent = fork();
    if innocent == 0 {
        let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
        sleep_forever();
    }
    sleep_ms(50);
    for _ in 0..2 {
        if fork() == 0 {
            take(arguments.number(0), 1);
            sleep_ms(200);
            return 0;
        }
    }
    wait_for(-1);
    // SAFETY: kill has no preconditions. If another was chosen, this one would never end.
    unsafe { libc::kill(innocent, libc::SIGKILL) };
    wait_for(-1);
    wait_for(-1);
    0
}

/// `FILE BYTES`: a child writes so much to a file; its parent waits for it.
fn fill(arguments: &Arguments<'_>) -> i32 {
    let child = fork();
    if child == 0 {
        let Ok(mut file) = File::create(arguments.text(0)) else {
            fail("create the file");
        };
        let block = vec![0x5a; 64 << 10];
        for _ in 0..arguments.number(1) / block.len() as u64 {
            if file.write_all(&block).is_err() {
                fail("write");
            }
        }
        return 0;
    }
    wait_for(child);
    // What was written stays, whoever dies.
    take(8 << 20, 0);
    0
}

/// `FILE BYTES`: maps a file of that size and locks it in memory.
fn lock_file(arguments: &Arguments<'_>) -> i32 {
    let bytes = arguments.number(1);
    let path = CString::new(arguments.text(0)).unwrap_or_default();
    // SAFETY: the string is NUL-terminated and lives across the call.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_RDWR | libc::O_CREAT, 0o600) };
    // A file without content: pages are made when they are read, without a disk.
    // SAFETY: plain integers.
    if fd < 0 || unsafe { libc::ftruncate(fd, bytes as libc::off_t) } != 0 {
        fail("create the file");
    }
    let start = map(bytes as usize, libc::MAP_SHARED, libc::PROT_READ, fd);
    let mut done = 0;
    while done < bytes as usize {
        // SAFETY: within the mapping.
        if unsafe { libc::mlock(start.add(done).cast(), STEP) } != 0 {
            fail("mlock");
        }
        done += STEP;
    }
    0
}

/// `BYTES`: reads one byte every 2 MiB of so much address space: page tables, and hardly anything else.
fn page_tables(arguments: &Arguments<'_>) -> i32 {
    /// What one page table of the lowest level maps on x86-64 and, with pages of 4 KiB, on arm64.
    const SPAN: usize = 2 << 20;
    let bytes = arguments.number(0) as usize;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let start = map(bytes, flags, libc::PROT_READ, -1);
    // Huge pages need no such table.
    // SAFETY: the mapping is that long.
    unsafe { libc::madvise(start.cast(), bytes, libc::MADV_NOHUGEPAGE) };
    let mut at = 0;
    while at < bytes {
        // SAFETY: within the mapping, which is readable.
        unsafe { ptr::read_volatile(start.add(at)) };
        at += SPAN;
    }
    0
}

/// `CONNECTIONS BYTES`: sends over so many connections what nobody reads, then takes memory.
fn fill_sockets(arguments: &Arguments<'_>) -> i32 {
    let Ok(listener) = TcpListener::bind("127.0.0.1:0") else {
        fail("bind");
    };
    let Ok(address) = listener.local_addr() else {
        fail("getsockname");
    };
    let mut kept = Vec::new();
    let block = vec![0x5a; 256 << 10];
    for _ in 0..arguments.number(0) {
        let Ok(mut sender) = TcpStream::connect(address) else {
            fail("connect");
        };
        let Ok((receiver, _)) = listener.accept() else {
            fail("accept");
        };
        let size: libc::c_int = 8 << 20;
        // Root may go beyond the machine's maximum.
        for (fd, option) in [
            (sender.as_raw_fd(), libc::SO_SNDBUFFORCE),
            (receiver.as_raw_fd(), libc::SO_RCVBUFFORCE),
        ] {
            // SAFETY: the value lives across the call and has that length.
            unsafe {
                libc::setsockopt(
                    fd,
                    libc::SOL_SOCKET,
                    option,
                    ptr::from_ref(&size).cast(),
                    size_of::<libc::c_int>() as libc::socklen_t,
                )
            };
        }
        let _ = sender.set_nonblocking(true);
        while sender.write(&block).is_ok() {}
        kept.push((sender, receiver));
    }
    say("sent");
    take(arguments.number(1), 0);
    0
}

/// `FILE BYTES MS`: reads a file of that size over and over through a mapping, for so long.
fn reread(arguments: &Arguments<'_>) -> i32 {
    let bytes = arguments.number(1) as usize;
    let Ok(mut file) = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(arguments.text(0))
    else {
        fail("create the file");
    };
    let block = vec![0x5a; STEP];
    for _ in 0..bytes / STEP {
        if file.write_all(&block).is_err() {
            fail("write");
        }
    }
    if file.sync_all().is_err() {
        fail("fsync");
    }
    let start = map(bytes, libc::MAP_SHARED, libc::PROT_READ, file.as_raw_fd());
    say("ready");
    let end = std::time::Instant::now() + std::time::Duration::from_millis(arguments.number(2));
    while std::time::Instant::now() < end {
        let mut at = 0;
        while at < bytes {
            // SAFETY: within the mapping, which is readable, and the file is that long.
            unsafe { ptr::read_volatile(start.add(at)) };
            at += 4096;
        }
    }
    0
}

/// `BYTES`: asks for them at once, and aborts if they are refused.
fn ask(arguments: &Arguments<'_>) -> i32 {
    let bytes = arguments.number(0) as usize;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping at an address of the kernel's choice, which is not used.
    let start = unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_READ, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        say("refused");
        std::process::abort();
    }
    0
}

/// `SIGNAL PID...`: sends it to each.
fn kill(arguments: &Arguments<'_>) -> i32 {
    let signal = arguments.number(0) as i32;
    for index in 1..arguments.count() {
        // SAFETY: kill has no preconditions.
        if unsafe { libc::kill(arguments.number(index) as libc::pid_t, signal) } != 0 {
            fail("kill");
        }
    }
    0
}
