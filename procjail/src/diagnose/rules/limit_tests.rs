//! Limits, and what only looks like them.

use crate::diagnose::fixture::{Scene, failed_call, fault, inside, sent};
use crate::event::Disposition;

fn has(scene: &Scene, id: &str) -> bool {
    scene.ids().iter().any(|found| found == id)
}

#[test]
fn an_oom_kill_is_no_cpu_limit() {
    let (pid1, worker) = (inside(1, "app"), inside(2, "worker"));
    let mut scene = Scene::new(&["/bin/app"]);
    scene
        .fork(1, &pid1, &worker)
        .send(5, &worker, fault(libc::SIGKILL, 128, &worker, None))
        .exit_to(6, &worker, &pid1, libc::SIGKILL)
        .end(7, &pid1, 0);
    assert!(has(&scene, "rlimit-cpu"));
    scene.oom_kill(5, &worker);
    assert!(!has(&scene, "rlimit-cpu"));
}

#[test]
fn a_handler_may_take_the_warning() {
    let pid1 = inside(1, "app");
    let mut scene = Scene::new(&["/bin/app"]);
    let mut warning = fault(libc::SIGXCPU, 128, &pid1, None);
    warning.disposition = Disposition::Handler;
    scene
        .send(5, &pid1, warning)
        .deliver(5, &pid1, libc::SIGXCPU, Disposition::Handler)
        .end(6, &pid1, 0);
    assert!(!has(&scene, "rlimit-cpu"));
}

#[test]
fn somebody_may_send_sigxfsz() {
    let (pid1, worker) = (inside(1, "app"), inside(2, "worker"));
    let mut scene = Scene::new(&["/bin/app"]);
    scene
        .fork(1, &pid1, &worker)
        .send(5, &pid1, sent(libc::SIGXFSZ, &worker))
        .exit_to(6, &worker, &pid1, libc::SIGXFSZ)
        .end(7, &pid1, 0);
    assert!(!has(&scene, "rlimit-fsize"));
}

#[test]
fn an_error_matters_only_before_a_bad_end() {
    let pid1 = inside(1, "app");
    let scene = |status| {
        let mut scene = Scene::new(&["/bin/app"]);
        let full = failed_call("write", libc::ENOSPC, None, &[]);
        scene
            .end(5, &pid1, status)
            .failed_calls(5, &pid1, vec![full]);
        scene
    };
    assert!(has(&scene(0x100), "enospc"));
    assert!(!has(&scene(0), "enospc"));
    assert!(!has(&scene(0x100), "exit-own-code"));
}
