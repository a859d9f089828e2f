//! Programs that come to a limit.

use std::fs::File;
use std::io::Write;

use super::{Act, Arguments, fail, fork, shell_code, wait_for};

pub(super) const ACTS: &[Act] = &[
    ("burn", burn),
    ("write-file", write_file),
    ("fill-disk", fill),
    ("open-files", open_files),
    ("watch-instances", watch_instances),
    ("spin", spin),
];

/// Two children use all the processor they get: one has no handler for SIGXCPU, one ignores it.
fn burn(_: &Arguments<'_>) -> i32 {
    let burner = |ignores: bool| {
        let child = fork();
        if child == 0 {
            if ignores {
                // SAFETY: SIG_IGN is a valid disposition.
                unsafe { libc::signal(libc::SIGXCPU, libc::SIG_IGN) };
            }
            let start = std::time::Instant::now();
            // Ends by itself, if there should be no limit.
            while start.elapsed().as_secs() < 45 {
                std::hint::spin_loop();
            }
            std::process::exit(0);
        }
        child
    };
    let (obeys, ignores) = (burner(false), burner(true));
    wait_for(obeys);
    shell_code(wait_for(ignores).1)
}

/// `FILE`: a child writes 1 MiB to it.
fn write_file(arguments: &Arguments<'_>) -> i32 {
    let path = arguments.text(0);
    let child = fork();
    if child == 0 {
        let mut file = File::create(path).unwrap_or_else(|_| fail(path));
        for _ in 0..256 {
            if file.write_all(&[b'x'; 4096]).is_err() {
                fail("write");
            }
        }
        return 0;
    }
    shell_code(wait_for(child).1)
}

/// `FILE`: writes until there is no room left, and gives up.
fn fill(arguments: &Arguments<'_>) -> i32 {
    let path = arguments.text(0);
    let mut file = File::create(path).unwrap_or_else(|_| fail(path));
    for _ in 0..4096 {
        if file.write_all(&[b'x'; 4096]).is_err() {
            return 1;
        }
    }
    0
}

/// Opens files until it may open no more, and gives up.
fn open_files(_: &Arguments<'_>) -> i32 {
    let mut open = Vec::new();
    for _ in 0..4096 {
        match File::open("/dev/null") {
            Ok(file) => open.push(file),
            Err(_) => return 1,
        }
    }
    0
}

/// Makes inotify instances until its user may have no more, and gives up.
fn watch_instances(_: &Arguments<'_>) -> i32 {
    for _ in 0..100_000 {
        // SAFETY: inotify_init1(2) takes flags alone.
        if unsafe { libc::inotify_init1(libc::IN_CLOEXEC) } == -1 {
            return 1;
        }
    }
    0
}

/// `MS`: uses all the processor that it gets for so long.
fn spin(arguments: &Arguments<'_>) -> i32 {
    let start = std::time::Instant::now();
    while start.elapsed().as_millis() < u128::from(arguments.number(0)) {
        std::hint::spin_loop();
    }
    0
}
