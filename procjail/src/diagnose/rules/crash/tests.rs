//! Crashes that no scenario plays, and what only looks like them.

use crate::diagnose::Confidence;
use crate::diagnose::fixture::{Scene, fault, inside, outside, sent, thread};
use crate::event::*;

const STACK: u64 = 0x7ffc_0000_2000;

fn at(address: u64, instruction: u64) -> Option<Fault> {
    Some(Fault {
        address,
        instruction,
        stack_pointer: STACK,
        code: Vec::new(),
    })
}

/// PID 1 ends by that signal, which it brought upon itself.
fn crash(number: i32, code: i32, at: Option<Fault>) -> Scene {
    let pid1 = inside(1, "app");
    let mut scene = Scene::new(&["/bin/app"]);
    scene
        .send(5, &pid1, fault(number, code, &pid1, at))
        .end(6, &pid1, number);
    scene
}

#[test]
fn faults_are_told_apart_by_their_address() {
    let verdict = |address, instruction, code| {
        crash(libc::SIGSEGV, code, at(address, instruction))
            .verdict("segv-fault")
            .verdict()
    };
    assert!(verdict(0x18, 0x40_1000, 1).contains("an offset of 24 B"));
    assert!(verdict(0, 0, 1).contains("A null function pointer"));
    assert!(verdict(0xdead_0000, 0xdead_0000, 1).contains("it jumped to 0xdead0000"));
    assert!(verdict(0x40_2000, 0x40_1000, 2).contains("does not allow"));
    assert!(verdict(0, 0x40_1000, 128).contains("names no address"));
    // What the fault says is certain, what it stands for is not.
    let null = crash(libc::SIGSEGV, 1, at(0, 0x40_1000)).verdict("segv-fault");
    assert_eq!(null.confidence, Confidence::Proven);
    assert_eq!(null.sure(), Confidence::Likely);
}

#[test]
fn a_sigsegv_from_somebody_is_no_fault() {
    let (pid1, worker) = (inside(1, "app"), inside(2, "worker"));
    let mut scene = Scene::new(&["/bin/app"]);
    scene
        .fork(1, &pid1, &worker)
        .send(5, outside(9, "bash"), sent(libc::SIGSEGV, &worker))
        .exit_to(6, &worker, &pid1, libc::SIGSEGV)
        .end(7, &pid1, 0);
    assert!(!scene.ids().contains(&"segv-fault".to_owned()));
}

#[test]
fn an_overflow_that_the_runtime_notices_is_no_abort() {
    let (pid1, worker) = (inside(1, "app"), inside(2, "worker"));
    let handled = SignalGenerated {
        disposition: Disposition::Handler,
        ..fault(
            libc::SIGSEGV,
            2,
            &thread(&worker, 1),
            at(STACK - 8, 0x40_1000),
        )
    };
    let abort = SignalGenerated {
        code: SignalCode {
            number: -6,
            name: "SI_TKILL".to_owned(),
        },
        ..sent(libc::SIGABRT, &worker)
    };
    let mut scene = Scene::new(&["/bin/app"]);
    scene
        .fork(1, &pid1, &worker)
        .send(5, thread(&worker, 1), handled)
        .send(6, &worker, abort.clone())
        .exit_to(7, &worker, &pid1, libc::SIGABRT)
        .end(8, &pid1, 0);
    let found = scene.verdict("segv-stack-overflow");
    assert_eq!(found.confidence, Confidence::Proven);
    assert!(
        found.verdict().contains("its thread"),
        "{}",
        found.verdict()
    );
    assert!(!scene.ids().contains(&"abrt-self".to_owned()));

    let mut plain = Scene::new(&["/bin/app"]);
    plain
        .fork(1, &pid1, &worker)
        .send(6, &worker, abort)
        .exit_to(7, &worker, &pid1, libc::SIGABRT)
        .end(8, &pid1, 0);
    assert!(plain.ids().contains(&"abrt-self".to_owned()));
}

#[test]
fn a_stack_elsewhere_may_as_well_be_a_bad_stack_pointer() {
    let elsewhere = Some(Fault {
        address: 0x5000_0000,
        instruction: 0x40_1000,
        stack_pointer: 0x5000_0010,
        code: Vec::new(),
    });
    let found = crash(libc::SIGSEGV, 1, elsewhere).verdict("segv-stack-overflow");
    assert_eq!(found.confidence, Confidence::Likely);
}

#[test]
fn the_vsyscall_page_is_known() {
    let scene = crash(
        libc::SIGSEGV,
        1,
        at(0xffff_ffff_ff60_0400, 0xffff_ffff_ff60_0400),
    );
    let found = scene.verdict("segv-vsyscall");
    assert_eq!(found.sure(), Confidence::ConsistentWith);
    assert!(!scene.ids().contains(&"segv-fault".to_owned()));
}

#[test]
fn bad_memory_takes_the_kernel_log_to_be_likely() {
    let mut scene = crash(libc::SIGBUS, 4, None);
    assert_eq!(
        scene.verdict("sigbus-hwpoison").sure(),
        Confidence::ConsistentWith
    );
    let message = KernelMessage {
        level: 3,
        text: "Memory failure: 0x1234: Sending SIGBUS to app:4131".to_owned(),
    };
    scene.at(5, inside(1, "app"), What::KernelMessage(message));
    // An injected error looks the same.
    assert_eq!(scene.verdict("sigbus-hwpoison").sure(), Confidence::Likely);
    let ids = scene.ids();
    assert!(!ids.contains(&"sigbus-truncated".to_owned()));
}

#[test]
fn a_full_tmpfs_is_likely_once_a_write_was_refused() {
    let mut scene = crash(libc::SIGBUS, 2, at(0x7f00_0000_0000, 0x40_1000));
    let refused = crate::diagnose::fixture::failed_call("write", libc::ENOSPC, None, &[]);
    scene.failed_calls(6, inside(1, "app"), vec![refused]);
    let found = scene.verdict("sigbus-shm-full");
    assert_eq!(found.sure(), Confidence::Likely);
}

#[test]
fn a_filter_of_an_old_kernel_kills_without_a_signal() {
    let pid1 = inside(1, "app");
    let mut scene = Scene::new(&["/bin/app"]);
    scene.end(6, &pid1, libc::SIGSYS);
    assert_eq!(
        scene.verdict("sigsys-seccomp").confidence,
        Confidence::Proven
    );
    // Where signals are not recorded, nobody knows whether there was one.
    scene
        .header
        .probes
        .retain(|probe| probe.name != "signal_generate");
    assert_eq!(
        scene.verdict("sigsys-seccomp").confidence,
        Confidence::ConsistentWith
    );
}

#[test]
fn a_refused_call_matters_only_before_a_bad_end() {
    let pid1 = inside(1, "app");
    let refused = || {
        vec![crate::diagnose::fixture::failed_call(
            "keyctl",
            libc::EPERM,
            None,
            &[],
        )]
    };
    let mut fails = Scene::new(&["/bin/app"]);
    fails.end(6, &pid1, 0x100).failed_calls(6, &pid1, refused());
    let ids = fails.ids();
    assert!(ids.contains(&"seccomp-errno".to_owned()));
    let mut crashes = Scene::new(&["/bin/app"]);
    crashes
        .send(5, &pid1, fault(libc::SIGSEGV, 1, &pid1, None))
        .end(6, &pid1, libc::SIGSEGV)
        .failed_calls(6, &pid1, refused());
    assert!(!crashes.ids().contains(&"seccomp-errno".to_owned()));
}

#[test]
fn a_watchdog_is_outside() {
    let (pid1, worker) = (inside(1, "app"), inside(2, "worker"));
    let scene = |sender: &Task| {
        let mut scene = Scene::new(&["/bin/app"]);
        scene
            .fork(1, &pid1, &worker)
            .send(5, sender, sent(libc::SIGABRT, &worker))
            .exit_to(6, &worker, &pid1, libc::SIGABRT)
            .end(7, &pid1, 0);
        scene.ids().contains(&"abrt-watchdog".to_owned())
    };
    assert!(scene(&outside(1, "systemd")));
    assert!(!scene(&pid1));
}

/// A SIGILL at these bytes.
fn illegal(code: &[u8]) -> Scene {
    let mut place = at(0x40_1000, 0x40_1000);
    if let Some(fault) = &mut place {
        fault.code = code.to_vec();
    }
    let mut scene = crash(libc::SIGILL, 2, place);
    scene.header.host.architecture = "x86_64".into();
    scene
}

#[test]
fn a_trap_of_the_compiler_is_no_missing_feature() {
    let trap = illegal(&[0x0f, 0x0b, 0x0f, 0x1f]);
    let found = trap.verdict("ill-trap");
    assert!(found.fact.contains("ud2"), "{}", found.fact);
    assert_eq!(found.sure(), Confidence::Likely);
    trap.expect_no("ill-cpu-feature");
    let feature = illegal(&[0x62, 0xf1, 0x7c, 0x48]);
    let found = feature.verdict("ill-cpu-feature");
    assert!(found.fact.contains("AVX-512"), "{}", found.fact);
    feature.expect_no("ill-trap");
    // Without the bytes it may be either.
    let found = illegal(&[]).verdict("ill-cpu-feature");
    assert_eq!(found.sure(), Confidence::ConsistentWith);
    assert!(found.verdict().contains("ud2"), "{}", found.verdict());
}

#[test]
fn an_abort_says_why_in_its_last_words() {
    let (pid1, worker) = (inside(1, "app"), inside(2, "worker"));
    let aborted = |text: &str, before_ns: u64| {
        let mut scene = Scene::new(&["/bin/app"]);
        let abort = SignalGenerated {
            code: SignalCode {
                number: -6,
                name: "SI_TKILL".to_owned(),
            },
            ..sent(libc::SIGABRT, &worker)
        };
        let tail = StderrTail {
            text: text.to_owned(),
            truncated: false,
            head: None,
            before_ns,
        };
        scene
            .fork(1, &pid1, &worker)
            .send(5, &worker, abort)
            .exit_to(6, &worker, &pid1, libc::SIGABRT)
            .at(6, &worker, What::StderrTail(tail))
            .end(7, &pid1, 0);
        scene.verdict("abrt-self")
    };
    let found = aborted("x: a.c:3: main: Assertion `n > 0' failed.\n", 1_000);
    assert!(
        found.verdict().contains("a failed assertion"),
        "{}",
        found.verdict()
    );
    assert_eq!(found.sure(), Confidence::Likely);
    let found = aborted("free(): invalid pointer\n", 1_000);
    assert!(
        found.verdict().contains("free(3) found"),
        "{}",
        found.verdict()
    );
    // What it wrote long before, or that says nothing, is no cause.
    assert!(
        aborted("Assertion `x' failed.\n", 60_000_000_000)
            .cause
            .is_none()
    );
    assert!(aborted("hello\n", 1_000).cause.is_none());
}

#[test]
fn a_missing_page_need_not_be_a_files() {
    let found = crash(libc::SIGBUS, 2, at(0x7f00_0020_0000, 0x40_1000)).verdict("sigbus-truncated");
    assert!(!found.fact.contains("file"), "{}", found.fact);
    assert!(
        found.verdict().contains("huge pages"),
        "{}",
        found.verdict()
    );
    assert_eq!(found.sure(), Confidence::ConsistentWith);
}
