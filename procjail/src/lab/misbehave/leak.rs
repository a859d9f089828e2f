//! Mounts that are left, held or busy.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use super::{Act, Arguments, fail, fork, say, sleep_ms, wait_for};

pub(super) const ACTS: &[Act] = &[
    ("mount-leave", leave),
    ("mount-copy", copy),
    ("mount-until", until),
    ("fuse-daemon-dies", daemon_dies),
    ("umount-own", own),
    ("umount-busy", busy),
    ("umount-lazy", lazy),
    ("umount-locked", locked),
    ("write-bytes", write_file),
    ("join-inner-cgroup", join),
];

/// As long as it takes until somebody outside has looked, and more.
const LOOK_MS: u64 = 300;

fn tmpfs(target: &str) {
    let _ = std::fs::create_dir_all(target);
    let none: Option<&str> = None;
    if mount(Some("lab"), target, Some("tmpfs"), MsFlags::empty(), none).is_err() {
        fail("mount");
    }
}

fn enter(directory: &str) {
    if std::env::set_current_dir(directory).is_err() {
        fail("chdir");
    }
}

/// `DIR`: mounts a tmpfs there and leaves it.
fn leave(arguments: &Arguments<'_>) -> i32 {
    tmpfs(arguments.text(0));
    sleep_ms(LOOK_MS);
    0
}

/// `DIR FILE`: mounts a tmpfs at DIR, waits until FILE exists, and unmounts it when somebody has had time to look
/// who has a copy.
fn until(arguments: &Arguments<'_>) -> i32 {
    let (target, file) = (arguments.text(0), arguments.text(1));
    tmpfs(target);
    say("ready");
    for _ in 0..1000 {
        if Path::new(file).exists() {
            break;
        }
        sleep_ms(10);
    }
    sleep_ms(LOOK_MS);
    match umount2(target, MntFlags::empty()) {
        Ok(()) => 0,
        Err(_) => fail("umount"),
    }
}

/// `PID`: makes a copy of the mount namespace of a process, and keeps it.
fn copy(arguments: &Arguments<'_>) -> i32 {
    let path = format!("/proc/{}/ns/mnt", arguments.number(0));
    let Ok(namespace) = File::open(path) else {
        fail("open the namespace");
    };
    if setns(namespace, CloneFlags::CLONE_NEWNS).is_err()
        || unshare(CloneFlags::CLONE_NEWNS).is_err()
    {
        fail("copy the namespace");
    }
    say("ready");
    sleep_ms(30_000);
    0
}

/// `DIR`: a child mounts a FUSE file system there and serves it until it is killed; then a file of it is asked for.
fn daemon_dies(arguments: &Arguments<'_>) -> i32 {
    let target = arguments.text(0);
    let (from, to) = nix::unistd::pipe().unwrap_or_else(|_| fail("pipe"));
    let daemon = fork();
    if daemon == 0 {
        let device = File::options().read(true).write(true).open("/dev/fuse");
        let device = device.unwrap_or_else(|_| fail("open /dev/fuse"));
        let fd = device.as_raw_fd();
        let data = format!("fd={fd},rootmode=40000,user_id=0,group_id=0");
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        if mount(
            Some("lab"),
            target,
            Some("fuse"),
            flags,
            Some(data.as_str()),
        )
        .is_err()
        {
            fail("mount");
        }
        let _ = nix::unistd::write(&to, b".");
        sleep_ms(20_000);
        std::process::exit(0);
    }
    let _ = nix::unistd::read(&from, &mut [0]);
    end(daemon);
    i32::from(std::fs::metadata(format!("{target}/file")).is_err())
}

/// `DIR`: a helper unmounts the tmpfs whose directory it is in, again and again.
fn own(arguments: &Arguments<'_>) -> i32 {
    let target = arguments.text(0);
    tmpfs(target);
    let helper = fork();
    if helper == 0 {
        enter(target);
        for _ in 0..4 {
            let _ = umount2(target, MntFlags::empty());
            sleep_ms(LOOK_MS / 3);
        }
        std::process::exit(1);
    }
    wait_for(helper);
    let _ = umount2(target, MntFlags::empty());
    1
}

/// A child in the directory, with a file of it open. Ends when it is killed, or after some seconds.
fn squatter(target: &str) -> libc::pid_t {
    let (from, to) = nix::unistd::pipe().unwrap_or_else(|_| fail("pipe"));
    let child = fork();
    if child == 0 {
        enter(target);
        let file = File::create("file");
        let _ = nix::unistd::write(&to, b".");
        sleep_ms(20_000);
        drop(file);
        std::process::exit(0);
    }
    let _ = nix::unistd::read(&from, &mut [0]);
    child
}

fn end(child: libc::pid_t) {
    // SAFETY: kill has no preconditions, and the child is not reaped.
    unsafe { libc::kill(child, libc::SIGKILL) };
    wait_for(child);
}

/// `DIR`: unmounts a tmpfs that a child is in.
fn busy(arguments: &Arguments<'_>) -> i32 {
    let target = arguments.text(0);
    tmpfs(target);
    let child = squatter(target);
    let failed = umount2(target, MntFlags::empty()).is_err();
    sleep_ms(LOOK_MS);
    end(child);
    let _ = umount2(target, MntFlags::empty());
    i32::from(failed)
}

/// `DIR`: the same, lazily.
fn lazy(arguments: &Arguments<'_>) -> i32 {
    let target = arguments.text(0);
    tmpfs(target);
    let child = squatter(target);
    if umount2(target, MntFlags::MNT_DETACH).is_err() {
        fail("umount");
    }
    sleep_ms(LOOK_MS);
    end(child);
    0
}

/// `DIR`: unmounts in a new user namespace what was mounted before it.
fn locked(arguments: &Arguments<'_>) -> i32 {
    let target = arguments.text(0);
    tmpfs(target);
    let child = fork();
    if child == 0 {
        if unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).is_err() {
            fail("unshare");
        }
        let failed = umount2(target, MntFlags::empty()).is_err();
        sleep_ms(LOOK_MS);
        std::process::exit(i32::from(failed));
    }
    let (_, status) = wait_for(child);
    let _ = umount2(target, MntFlags::empty());
    libc::WEXITSTATUS(status)
}

/// `FILE`: moves into a cgroup below its own, the path of which is in FILE, passes the memory controller on to
/// those below, and has a helper join its own again.
fn join(arguments: &Arguments<'_>) -> i32 {
    let file = arguments.text(0);
    let mut own = None;
    for _ in 0..500 {
        own = std::fs::read_to_string(file).ok();
        if own.is_some() {
            break;
        }
        sleep_ms(10);
    }
    let own = PathBuf::from(own.unwrap_or_else(|| fail("find the cgroup")));
    let leaf = own.join("init");
    let write = |path: PathBuf, text: &str| std::fs::write(path, text);
    if std::fs::create_dir(&leaf).is_err()
        || write(leaf.join("cgroup.procs"), "0").is_err()
        || write(own.join("cgroup.subtree_control"), "+memory").is_err()
    {
        fail("prepare the cgroup");
    }
    let helper = fork();
    if helper == 0 {
        let joined = write(own.join("cgroup.procs"), "0").is_ok();
        std::process::exit(i32::from(!joined));
    }
    libc::WEXITSTATUS(wait_for(helper).1)
}

/// `FILE BYTES`: writes so many and leaves them.
fn write_file(arguments: &Arguments<'_>) -> i32 {
    let Ok(file) = File::create(arguments.text(0)) else {
        fail("create the file");
    };
    let length = arguments.number(1) as libc::off_t;
    // SAFETY: fallocate touches no memory of this process.
    if unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, length) } != 0 {
        fail("allocate the file");
    }
    0
}
