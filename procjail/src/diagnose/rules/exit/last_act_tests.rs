//! A failed call that nobody spoke of, right before the end.

use crate::diagnose::Confidence;
use crate::diagnose::fixture::{Scene, failed_call, inside};
use crate::event::FailedCall;

/// PID 1 returned a code after these calls, the last so many nanoseconds before, and said nothing.
fn silent(calls: Vec<FailedCall>) -> Scene {
    let app = inside(1, "app");
    let mut scene = Scene::new(&["/bin/app", "load.py"]);
    scene.end(11, &app, 1 << 8).failed_calls(11, &app, calls);
    scene
}

fn open(path: &str, flags: i32, before_ns: u64) -> FailedCall {
    let mut call = failed_call("openat", libc::ENOENT, Some(path), &[0, 0, flags as u64]);
    call.before_ns = before_ns;
    call
}

const SOON: u64 = 500_000;

#[test]
fn a_device_that_is_not_there_is_not_optional() {
    for call in [
        open("/dev/net/tun", libc::O_RDWR, SOON),
        open("/dev/fuse", libc::O_RDONLY, SOON),
        open("/run/app/control", libc::O_WRONLY, SOON),
    ] {
        let path = call.path.clone().unwrap_or_default();
        let optional = open("/etc/app.conf", libc::O_RDONLY, 2 * SOON);
        let found = silent(vec![optional, call]).verdict("exit-own-code");
        assert!(found.fact.contains(&path), "{}", found.fact);
        assert_eq!(found.sure(), Confidence::ConsistentWith);
    }
}

#[test]
fn what_may_be_missing_or_was_not_the_last_is_no_reason() {
    let other = open("/etc/app.conf", libc::O_RDONLY, SOON);
    for calls in [
        // It reads what may be there, makes what is not, or asks what the kernel has.
        vec![open("/etc/app.conf", libc::O_RDONLY, SOON)],
        vec![open("/var/app/log", libc::O_WRONLY | libc::O_CREAT, SOON)],
        vec![open("/proc/self/oom_adj", libc::O_WRONLY, SOON)],
        vec![open("/sys/module/x/version", libc::O_RDWR, SOON)],
        // It went on to others, or for a while.
        vec![open("/dev/net/tun", libc::O_RDWR, 2 * SOON), other],
        vec![open("/dev/net/tun", libc::O_RDWR, 100_000_000)],
    ] {
        let scene = silent(calls);
        scene.expect_no("exit-own-code");
    }
    // Whoever says something would have spoken of it.
    let mut said = silent(vec![open("/dev/net/tun", libc::O_RDWR, SOON)]);
    said.stderr(11, inside(1, "app"), "no table\n");
    assert!(!said.verdict("exit-own-code").verdict().contains("tun"));
}

#[test]
fn what_is_no_symbolic_link_was_no_failure() {
    let mut call = failed_call("readlink", libc::EINVAL, Some("load.py"), &[]);
    silent(vec![call.clone()]).expect_no("exit-own-code");
    // What the program was called with, and is not there, is one.
    call.error = crate::event::Errno::new(libc::ENOENT);
    silent(vec![call]).verdict("exit-own-code");
}
