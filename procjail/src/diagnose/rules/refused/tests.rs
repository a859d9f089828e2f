//! What was refused, and whether a process ended for it, by traces made by hand.

use crate::diagnose::fixture::{Scene, failed_call, fault, inside, outside, sent};
use crate::diagnose::{Confidence, Rank};
use crate::event::*;

fn app() -> Task {
    inside(1, "app")
}

/// A failed call so long before the end.
fn failed(name: &str, error: i32, before_ms: u64) -> FailedCall {
    FailedCall {
        before_ns: before_ms * 1_000_000,
        ..failed_call(name, error, None, &[0, 4096])
    }
}

fn no_memory(before_ms: u64) -> FailedCall {
    failed("mmap", libc::ENOMEM, before_ms)
}

/// PID 1 ends so after three seconds; these calls of it had failed.
fn ended(status: i32, calls: Vec<FailedCall>) -> Scene {
    let mut scene = Scene::new(&["app"]);
    scene
        .end(3_000, app(), status)
        .failed_calls(3_000, app(), calls);
    scene
}

/// The same by a signal.
fn killed_by(from: &Task, signal: SignalGenerated, calls: Vec<FailedCall>) -> Scene {
    let mut scene = ended(signal.signal.number, calls);
    scene.send(2_999, from, signal);
    scene
}

/// How sure it is that it ended for want of memory; `None` if that is not told as a problem.
fn memory(scene: &Scene) -> Option<Confidence> {
    let found = scene.found().into_iter();
    found
        .filter(|one| one.id == "enomem-not-oom" && one.rank == Rank::Problem)
        .map(|one| one.sure())
        .next()
}

/// As the kernel sends it, with that code.
fn kernels(number: i32, code: i32, call: Option<&str>) -> SignalGenerated {
    SignalGenerated {
        code: SignalCode {
            number: code,
            name: String::new(),
        },
        syscall: call.map(|name| Syscall {
            number: 0,
            name: name.to_owned(),
        }),
        ..sent(number, &app())
    }
}

#[test]
fn who_aborts_or_faults_may_have_had_no_memory() {
    let abort = || sent(libc::SIGABRT, &app());
    assert_eq!(
        memory(&killed_by(&app(), abort(), vec![no_memory(1)])),
        Some(Confidence::ConsistentWith)
    );
    let segv = fault(libc::SIGSEGV, 1, &app(), None);
    assert!(memory(&killed_by(&app(), segv, vec![no_memory(1)])).is_some());
    // The limit is known.
    let mut limited = killed_by(&app(), abort(), vec![no_memory(1)]);
    let rlimits = &mut limited.header.jail.rlimits;
    rlimits.insert("as".into(), Some(1 << 20));
    assert_eq!(memory(&limited), Some(Confidence::Likely));
}

#[test]
fn an_end_that_a_limit_a_timer_or_a_pipe_brought_is_not_for_want_of_memory() {
    let kernel = libc::SI_KERNEL;
    for signal in [
        // RLIMIT_CPU, and a kill of the kernel's that nothing explains.
        kernels(libc::SIGKILL, kernel, None),
        kernels(libc::SIGKILL, kernel, Some("read")),
        kernels(libc::SIGXCPU, kernel, None),
        kernels(libc::SIGALRM, kernel, None),
        kernels(libc::SIGALRM, libc::SI_TIMER, None),
        kernels(libc::SIGPIPE, 0, Some("write")),
        kernels(libc::SIGXFSZ, 0, Some("write")),
        kernels(libc::SIGSYS, 1, Some("mmap")),
    ] {
        let name = signal.signal.name.clone();
        let scene = killed_by(&app(), signal, vec![no_memory(1)]);
        assert_eq!(memory(&scene), None, "{name}");
    }
    // Nobody knows who sent it.
    assert_eq!(memory(&ended(libc::SIGKILL, vec![no_memory(1)])), None);
    assert!(memory(&ended(libc::SIGABRT, vec![no_memory(1)])).is_some());
}

#[test]
fn a_signal_that_a_process_sends_on_to_itself_is_anothers() {
    let term = || sent(libc::SIGTERM, &app());
    let mut scene = killed_by(&app(), term(), vec![no_memory(1)]);
    assert!(memory(&scene).is_some());
    let mut asked = term();
    asked.disposition = Disposition::Handler;
    scene.send(2_900, outside(70, "kill"), asked).deliver(
        901,
        app(),
        libc::SIGTERM,
        Disposition::Handler,
    );
    assert_eq!(memory(&scene), None);
}

#[test]
fn a_code_is_no_surer_than_its_reason() {
    // It did other things that failed after it.
    let calls = || vec![no_memory(500), failed("write", libc::EIO, 400)];
    let reserve = |mut scene: Scene| {
        let rlimits = &mut scene.header.jail.rlimits;
        rlimits.insert("as".into(), Some(1 << 20));
        scene
    };
    let near = reserve(ended(0x100, vec![no_memory(1)]));
    assert_eq!(memory(&near), Some(Confidence::Likely));
    let far = reserve(ended(0x100, vec![no_memory(500)]));
    assert_eq!(memory(&far), Some(Confidence::ConsistentWith));
    let mut said = far.clone();
    said.stderr(3_000, app(), "app: out of memory\n");
    assert_eq!(memory(&said), Some(Confidence::Likely));
    // The later error is the better reason.
    assert_eq!(memory(&reserve(ended(0x100, calls()))), None);
}

#[test]
fn words_of_another_error_or_other_work_are_another_reason() {
    let abort = || sent(libc::SIGABRT, &app());
    let scene = |before_ms| killed_by(&app(), abort(), vec![no_memory(before_ms)]);
    assert!(memory(&scene(200)).is_some());
    // It speaks of another error, whether a signal ended it or it returned a code.
    for mut other in [scene(200), ended(0x100, vec![no_memory(1_500)])] {
        assert!(memory(&other).is_some());
        other.stderr(3_000, app(), "app: db.sock: Connection refused\n");
        assert_eq!(memory(&other), None);
    }
    // It went on to make a process.
    let mut forked = scene(200);
    forked.fork(2_900, app(), inside(2, "child"));
    assert_eq!(memory(&forked), None);
    // Another call failed after it, which is seldom survived; a file that is optional says nothing.
    let then = |later| killed_by(&app(), abort(), vec![no_memory(200), later]);
    assert_eq!(memory(&then(failed("write", libc::EIO, 1))), None);
    assert!(memory(&then(failed("openat", libc::ENOENT, 1))).is_some());
    // What it says of memory counts for more than what it did on its way out.
    let mut said = then(failed("openat", libc::EROFS, 1));
    assert_eq!(memory(&said), None);
    said.stderr(3_000, app(), "There is insufficient memory\n");
    assert!(memory(&said).is_some());
}

#[test]
fn some_processes_are_told_of_as_the_least_sure_one_is() {
    let shell = app();
    let mut scene = Scene::new(&["app"]);
    let rlimits = &mut scene.header.jail.rlimits;
    rlimits.insert("as".into(), Some(1 << 20));
    // The first one's call came right before its end, the second one's long before.
    for (pid, before_ms) in [(2, 1), (3, 500)] {
        let worker = inside(pid, "worker");
        scene
            .fork(1, &shell, &worker)
            .exit_to(1_000, &worker, &shell, 0x100)
            .failed_calls(1_000, &worker, vec![no_memory(before_ms)])
            .reap(1_001, &shell, &worker);
    }
    scene.end(2_000, &shell, 0);
    let found = scene.verdict("enomem-not-oom");
    assert_eq!(found.sure(), Confidence::ConsistentWith);
    assert!(
        found.fact.starts_with(
            "worker (PID 2) and worker (PID 3) exited with 1, worker (PID 3) 500 ms after mmap"
        ),
        "{}",
        found.fact
    );
}

#[test]
fn what_is_not_true_of_both_is_told_of_each() {
    let shell = app();
    let mut scene = Scene::new(&["app"]);
    for (pid, status) in [(2, 0x100), (3, 0x200)] {
        let worker = inside(pid, "worker");
        scene
            .fork(1, &shell, &worker)
            .exit_to(1_000, &worker, &shell, status)
            .failed_calls(1_000, &worker, vec![no_memory(1)])
            .reap(1_001, &shell, &worker);
    }
    scene.end(2_000, &shell, 0);
    let found = scene.found().into_iter();
    let facts: Vec<String> = found
        .filter(|one| one.id == "enomem-not-oom")
        .map(|one| one.fact)
        .collect();
    assert_eq!(facts.len(), 2);
    assert!(
        facts
            .iter()
            .any(|fact| fact.starts_with("worker (PID 2) exited with 1,"))
    );
    assert!(
        facts
            .iter()
            .any(|fact| fact.starts_with("worker (PID 3) exited with 2,"))
    );
}
