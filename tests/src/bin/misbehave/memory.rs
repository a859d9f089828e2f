//! Programs that use up memory, and those that mount.

use std::ffi::CString;

use crate::{Arguments, fail, fork, say, sleep_forever, sleep_ms, wait_for};

const STEP: usize = 1 << 20;

/// Maps and touches `bytes` of anonymous memory, slowly if asked to, and keeps it.
fn touch(bytes: u64, slowly: bool) {
    let mut left = bytes as usize;
    while left > 0 {
        let length = left.min(STEP);
        // SAFETY: a fresh anonymous mapping; checked below, and only bytes inside it are written.
        unsafe {
            let start = libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            if start == libc::MAP_FAILED {
                fail("mmap");
            }
            std::ptr::write_bytes(start.cast::<u8>(), 0x5a, length);
        }
        left -= length;
        if slowly {
            sleep_ms(2);
        }
    }
}

/// `BYTES [--steps] [--hold]`: allocates, says so, and keeps it with `--hold`.
pub fn alloc(arguments: &Arguments) -> i32 {
    touch(arguments.number(1), arguments.has("--steps"));
    say("allocated");
    if arguments.has("--hold") {
        sleep_forever();
    }
    0
}

/// `BYTES`: a child allocates; the parent survives it, prints how it ended and exits 0.
pub fn oom_child(arguments: &Arguments) -> i32 {
    let child = fork();
    if child == 0 {
        touch(arguments.number(1), false);
        return 0;
    }
    let (_, status) = wait_for(child, 0);
    if libc::WIFSIGNALED(status) {
        say(&format!(
            "child killed by signal {}",
            libc::WTERMSIG(status)
        ));
    } else {
        say(&format!("child exited {}", libc::WEXITSTATUS(status)));
    }
    0
}

fn mount(directory: &str) {
    let target = CString::new(directory).unwrap_or_default();
    // SAFETY: all strings are NUL-terminated and live across the call.
    let result = unsafe {
        libc::mount(
            c"misbehave".as_ptr(),
            target.as_ptr(),
            c"tmpfs".as_ptr(),
            libc::MS_NOSUID,
            c"size=1m".as_ptr().cast(),
        )
    };
    if result != 0 {
        fail("mount");
    }
}

/// `DIR`: mounts a tmpfs, uses it and unmounts it.
pub fn mount_tmpfs(arguments: &Arguments) -> i32 {
    let directory = arguments.text(1);
    mount(directory);
    if std::fs::write(format!("{directory}/file"), "x").is_err() {
        fail("write");
    }
    let target = CString::new(directory).unwrap_or_default();
    // SAFETY: the string is NUL-terminated and lives across the call.
    if unsafe { libc::umount2(target.as_ptr(), 0) } != 0 {
        fail("umount2");
    }
    say("done");
    0
}

/// `DIR`: mounts a tmpfs and leaves it to the end of the mount namespace.
pub fn mount_leak(arguments: &Arguments) -> i32 {
    mount(arguments.text(1));
    say("mounted");
    0
}
