//! Handlers that raise their signal again once they are done, and what only looks like one.

use crate::diagnose::Confidence;
use crate::diagnose::fixture::{Scene, fault, inside, outside, sent, thread};
use crate::event::*;

fn at(address: u64) -> Option<Fault> {
    Some(Fault {
        address,
        instruction: 0x40_1000,
        stack_pointer: 0x7ffc_0000_2000,
        code: Vec::new(),
    })
}

/// A signal that a handler takes.
fn handled(signal: SignalGenerated) -> SignalGenerated {
    SignalGenerated {
        disposition: Disposition::Handler,
        ..signal
    }
}

/// By raise(3).
fn raised(number: i32, target: &Task) -> SignalGenerated {
    SignalGenerated {
        code: SignalCode {
            number: libc::SI_TKILL,
            name: "SI_TKILL".to_owned(),
        },
        ..sent(number, target)
    }
}

/// A shell whose child takes a signal at 10 ms, sends itself the same one at 200 ms, and dies of it; the shell makes 128
/// and the signal's number of it.
fn below_a_shell(from: &Task, first: SignalGenerated, raiser: &Task) -> Scene {
    let (shell, app) = (inside(1, "sh"), inside(2, "app"));
    let number = first.signal.number;
    let mut scene = Scene::new(&["sh", "-c", "app; exit $?"]);
    scene
        .fork(1, &shell, &app)
        .exec(2, &app, &["app"])
        .send(10, from, first)
        .deliver(11, &app, number, Disposition::Handler)
        .send(200, raiser, raised(number, &app))
        .exit_to(201, &app, &shell, number)
        .reap(202, &shell, &app)
        .end(203, &shell, (128 + number) << 8);
    scene
}

#[test]
fn what_a_handler_raised_again_is_the_fault() {
    let app = inside(2, "app");
    for (number, code, id) in [
        (libc::SIGFPE, 1, "fpe"),
        (libc::SIGSEGV, 1, "segv-fault"),
        (libc::SIGILL, 2, "ill-cpu-feature"),
        (libc::SIGBUS, 2, "sigbus-truncated"),
        (libc::SIGTRAP, 1, "trap-unhandled"),
    ] {
        let first = handled(fault(number, code, &app, at(0xdead_0000)));
        let scene = below_a_shell(&app, first, &app);
        let found = scene.found();
        assert_eq!(found[0].id, id);
        assert_eq!(found[0].confidence, Confidence::Proven);
        assert!(
            found[0]
                .fact
                .contains("190 ms later the same thread raised"),
            "{}",
            found[0].fact
        );
        // The shell's code is what came of it.
        let code = scene.verdict("exit-128n-by-program");
        assert!(!code.fact.contains("sent itself"), "{}", code.fact);
        assert!(
            scene.case().pid1().is_some() && found[1].id == "exit-128n-by-program",
            "{found:#?}"
        );
    }
}

#[test]
fn two_handlers_may_raise_it_one_after_the_other() {
    let app = inside(2, "app");
    let first = handled(fault(libc::SIGSEGV, 1, &app, at(0x10)));
    let mut scene = below_a_shell(&app, first, &app);
    scene
        .send(150, &app, handled(raised(libc::SIGSEGV, &app)))
        .deliver(151, &app, libc::SIGSEGV, Disposition::Handler);
    assert_eq!(scene.ids()[0], "segv-fault");
}

#[test]
fn an_overflow_is_known_however_long_its_report_takes() {
    let (shell, app) = (inside(1, "sh"), inside(2, "app"));
    let mut scene = Scene::new(&["sh"]);
    let first = handled(fault(libc::SIGSEGV, 2, &app, at(0x7ffc_0000_1ff8)));
    scene
        .fork(1, &shell, &app)
        .send(10, &app, first)
        .deliver(11, &app, libc::SIGSEGV, Disposition::Handler)
        .send(5_000, &app, raised(libc::SIGSEGV, &app))
        .exit_to(5_001, &app, &shell, libc::SIGSEGV)
        .reap(5_002, &shell, &app)
        .end(5_003, &shell, 139 << 8);
    assert_eq!(scene.ids()[0], "segv-stack-overflow");
}

#[test]
fn a_fault_that_was_overcome_is_not_behind_a_signal_to_itself() {
    let app = inside(2, "app");
    let none_of = |scene: &Scene| {
        scene.expect_no("segv-fault");
        let code = scene.verdict("exit-128n-by-program");
        assert!(code.fact.contains("sent itself"), "{}", code.fact);
    };
    let first = || handled(fault(libc::SIGSEGV, 1, &app, at(0x10)));
    // Another thread's, as of a runtime that checks pointers that way.
    none_of(&below_a_shell(&thread(&app, 1), first(), &app));
    // The handlers of another program.
    let mut executed = below_a_shell(&app, first(), &app);
    executed.exec(100, &app, &["other"]);
    none_of(&executed);
}

#[test]
fn somebody_elses_signal_is_no_fault_though_it_was_raised_again() {
    let app = inside(2, "app");
    let scene = below_a_shell(
        &outside(9, "bash"),
        handled(sent(libc::SIGSEGV, &app)),
        &app,
    );
    scene.expect_no("segv-fault");
    let code = scene.verdict("exit-128n-by-program");
    assert!(code.fact.contains("which bash"), "{}", code.fact);
}

#[test]
fn who_ended_a_process_is_who_sent_what_its_handler_raised_again() {
    let app = inside(2, "app");
    let scene = below_a_shell(
        &outside(9, "bash"),
        handled(sent(libc::SIGTERM, &app)),
        &app,
    );
    let found = scene.verdict("kill-external");
    assert!(found.fact.contains("SIGTERM from"), "{}", found.fact);
}
