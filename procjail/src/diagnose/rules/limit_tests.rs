//! Limits, and what only looks like them.

use crate::diagnose::lives::{Scene, failed_call, fault, signal, task};
use crate::event::{Disposition, MemoryCgroup, OomKill, ProcessMemory, Stack, What};

fn has(scene: &Scene, id: &str) -> bool {
    scene.ids().iter().any(|found| found == id)
}

#[test]
fn an_oom_kill_is_no_cpu_limit() {
    let (pid1, worker) = (task(1, "app"), task(2, "worker"));
    let mut scene = Scene::new("app");
    scene
        .fork(1, &pid1, &worker)
        .send(5, &worker, fault(libc::SIGKILL, 128, &worker, None))
        .exit(6, &worker, &pid1, libc::SIGKILL)
        .end(7, &pid1, 0);
    assert!(has(&scene, "rlimit-cpu"));
    let chain: Vec<MemoryCgroup> = Vec::new();
    let oom = OomKill {
        victim: worker.clone(),
        memory: ProcessMemory::default(),
        oom_score_adj: 0,
        killed_by_kernel: true,
        syscall: None,
        chain,
        chain_truncated: false,
        stack: Stack::default(),
    };
    scene.push(5, &worker, What::OomKill(oom));
    assert!(!has(&scene, "rlimit-cpu"));
}

#[test]
fn a_handler_may_take_the_warning() {
    let pid1 = task(1, "app");
    let mut scene = Scene::new("app");
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
    let (pid1, worker) = (task(1, "app"), task(2, "worker"));
    let mut scene = Scene::new("app");
    scene
        .fork(1, &pid1, &worker)
        .send(5, &pid1, signal(libc::SIGXFSZ, &worker))
        .exit(6, &worker, &pid1, libc::SIGXFSZ)
        .end(7, &pid1, 0);
    assert!(!has(&scene, "rlimit-fsize"));
}

#[test]
fn an_error_matters_only_before_a_bad_end() {
    let pid1 = task(1, "app");
    let scene = |status| {
        let mut scene = Scene::new("app");
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
