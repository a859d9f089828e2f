//! Programs that print the state they were started in, one `name=value` a line.

use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};

use crate::{Arguments, fail, say};

/// Open descriptors and what they are.
pub fn descriptors() -> i32 {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else {
        fail("/proc/self/fd");
    };
    let mut lines: Vec<(i32, String)> = Vec::new();
    for entry in entries.flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        // The directory being read is not inherited.
        if target.to_string_lossy().ends_with("/fd") {
            continue;
        }
        let number = entry.file_name().to_string_lossy().parse().unwrap_or(-1);
        lines.push((number, format!("{number}={}", target.display())));
    }
    lines.sort();
    for (_, line) in lines {
        say(&line);
    }
    0
}

/// Blocked and ignored signals, parent-death signal left aside.
pub fn signals() -> i32 {
    let Ok(status) = fs::read_to_string("/proc/self/status") else {
        fail("/proc/self/status");
    };
    for line in status.lines() {
        if let Some((name, value)) = line.split_once(':')
            && ["SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"].contains(&name)
        {
            say(&format!("{name}={}", value.trim()));
        }
    }
    0
}

/// The environment.
pub fn environment() -> i32 {
    let mut lines: Vec<String> = std::env::vars_os()
        .map(|(name, value)| format!("{}={}", name.display(), value.display()))
        .collect();
    lines.sort();
    for line in lines {
        say(&line);
    }
    0
}

/// Namespaces, process IDs, user, host name, working directory, cgroups.
pub fn namespaces() -> i32 {
    for name in ["pid", "mnt", "uts", "ipc", "cgroup", "net", "user"] {
        let target = fs::read_link(format!("/proc/self/ns/{name}")).unwrap_or_default();
        say(&format!("{name}={}", target.display()));
    }
    // SAFETY: none of these calls has preconditions.
    let (pid, parent, uid, gid) = unsafe {
        (
            libc::getpid(),
            libc::getppid(),
            libc::getuid(),
            libc::getgid(),
        )
    };
    say(&format!("getpid={pid}"));
    say(&format!("getppid={parent}"));
    say(&format!("uid={uid}"));
    say(&format!("gid={gid}"));
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    say(&format!("hostname={}", host.trim()));
    let directory = std::env::current_dir().unwrap_or_default();
    say(&format!("cwd={}", directory.display()));
    // /proc must be that of this PID namespace: its PID 1 is then this jail's.
    let comm = fs::read_to_string("/proc/1/comm").unwrap_or_default();
    say(&format!("pid1={}", comm.trim()));
    for line in fs::read_to_string("/proc/self/cgroup")
        .unwrap_or_default()
        .lines()
    {
        say(&format!("cgroups={line}"));
    }
    0
}

/// `CODE FILE COUNT`: looks for a file, then COUNT times for others, gets some ordinary errors, exits.
pub fn fail_calls(arguments: &Arguments) -> i32 {
    let _ = fs::File::open(arguments.text(2));
    for index in 0..arguments.number(3) {
        let _ = fs::File::open(format!("/nonexistent/{index}"));
    }
    // SAFETY: both calls get valid pointers; descriptors are those of the pipe.
    unsafe {
        let mut pipe = [0; 2];
        if libc::pipe2(pipe.as_mut_ptr(), libc::O_NONBLOCK) != 0 {
            fail("pipe2");
        }
        let mut byte = 0_u8;
        // EAGAIN, ENOTTY.
        libc::read(pipe[0], (&raw mut byte).cast(), 1);
        libc::isatty(pipe[0]);
    }
    arguments.number(1) as i32
}

/// Meets weighty errors (a socket that nobody listens on, a full file system, no more descriptors), then
/// looks up `lookups` files in vain, writes to standard error in several ways, and exits with `code`:
/// `tell-errors CODE DIRECTORY LOOKUPS`.
pub fn tell_errors(arguments: &Arguments) -> i32 {
    let file = fs::File::create(format!("{}/full", arguments.text(2)));
    let Ok(mut file) = file else { fail("create") };
    while file.write_all(&[0; 4096]).is_ok() {}
    let Ok(address) = SocketAddr::from_abstract_name("procjail-nobody") else {
        fail("address");
    };
    for _ in 0..3 {
        let _ = UnixStream::connect_addr(&address);
    }
    connect_in_background();
    let limit = libc::rlimit {
        rlim_cur: 16,
        rlim_max: 32,
    };
    // SAFETY: the limit is valid for reading, the vector describes valid memory, and the descriptors made
    // here are nobody's.
    unsafe {
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        while libc::dup(file.as_raw_fd()) >= 0 {}
        for index in 0..arguments.number(3) {
            let _ = fs::metadata(format!("/nonexistent/{index}"));
        }
        let parts = ["two ", "three\n"].map(|text| libc::iovec {
            iov_base: text.as_ptr().cast_mut().cast(),
            iov_len: text.len(),
        });
        // Standard output is none of it.
        libc::write(1, "lines\n".as_ptr().cast(), 6);
        libc::write(2, "one ".as_ptr().cast(), 4);
        libc::writev(2, parts.as_ptr(), 2);
    }
    arguments.number(1) as i32
}

/// Connects to where nobody listens without waiting for the answer, and asks for it then, as event loops do.
fn connect_in_background() {
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: 9_u16.to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from_ne_bytes([127, 0, 0, 1]),
        },
        sin_zero: [0; 8],
    };
    // SAFETY: all pointers are valid, with the sizes of what they point to.
    unsafe {
        let socket = libc::socket(
            libc::AF_INET,
            libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
            0,
        );
        let size = size_of_val(&address) as u32;
        libc::connect(socket, (&raw const address).cast(), size);
        let mut waiting = libc::pollfd {
            fd: socket,
            events: libc::POLLOUT,
            revents: 0,
        };
        libc::poll(&mut waiting, 1, 1000);
        let (mut error, mut length) = (0, size_of::<i32>() as u32);
        let to = (&raw mut error).cast();
        libc::getsockopt(socket, libc::SOL_SOCKET, libc::SO_ERROR, to, &mut length);
        libc::close(socket);
    }
}

/// Writes `bytes` letters to standard error, in pieces of `piece`, and then a last line; exits with 1:
/// `fill-stderr BYTES PIECE`.
pub fn fill_stderr(arguments: &Arguments) -> i32 {
    let letters = vec![b'x'; arguments.number(2) as usize];
    let mut left = arguments.number(1) as usize;
    while left > 0 {
        let length = left.min(letters.len());
        // SAFETY: `letters` has as many bytes.
        unsafe { libc::write(2, letters.as_ptr().cast(), length) };
        left -= length;
    }
    // SAFETY: the text has as many bytes.
    unsafe { libc::write(2, "the end\n".as_ptr().cast(), 8) };
    1
}
