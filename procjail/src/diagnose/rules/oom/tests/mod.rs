//! OOM verdicts that no scenario can reproduce everywhere, and the look-alikes of all.

mod chain;
mod client;
mod limit;
mod memory;
mod runtime;
mod stuck;
mod victims;

use std::collections::BTreeMap;

use crate::diagnose::Confidence;
use crate::diagnose::fixture::{Scene, inside, mib, oom_kill, outside};
use crate::event::*;

fn level(id: u64, name: &str, usage: u64, limit: Option<u64>, at_limit: bool) -> MemoryCgroup {
    MemoryCgroup {
        id,
        name: name.into(),
        usage_bytes: usage,
        limit_bytes: limit,
        swap_usage_bytes: 0,
        swap_limit_bytes: None,
        at_limit,
    }
}

/// The jail's cgroup and those above it; whose limit was hit is said by `at`.
fn chain(
    jail: (u64, Option<u64>),
    above: (u64, Option<u64>),
    at: Option<usize>,
) -> Vec<MemoryCgroup> {
    vec![
        level(3, "web", jail.0, jail.1, at == Some(0)),
        level(2, "procjail", jail.0, None, false),
        level(1, "pod", above.0, above.1, at == Some(2)),
        level(0, "/", mib(900), None, false),
    ]
}

/// A jail at its limit of 64 MiB.
fn full() -> Vec<MemoryCgroup> {
    chain((mib(64), Some(mib(64))), (mib(70), None), Some(0))
}

fn kill(victim: Task, anon: u64, chain: Vec<MemoryCgroup>) -> OomKill {
    OomKill {
        memory: ProcessMemory {
            anon_bytes: anon,
            ..ProcessMemory::default()
        },
        chain,
        ..oom_kill(&victim)
    }
}

/// The kernel log's report of the death of a task.
fn log(victim: &Task, constraint: &str, limit: Option<&str>) -> KernelOom {
    KernelOom {
        constraint: constraint.into(),
        limit_cgroup: limit.map(str::to_owned),
        victim_cgroup: "/pod/procjail/web".into(),
        victim_pid: victim.pid,
        kinds: None,
        processes: Vec::new(),
        mems_allowed: "0".into(),
    }
}

/// PID 1 `app` is OOM-killed 5 s after its start.
fn scene(kill: OomKill) -> Scene {
    let mut scene = Scene::new(&["app"]);
    let victim = kill.victim.clone();
    let trigger = inside(1, "app");
    scene.signal(5000, trigger.clone(), victim.clone(), libc::SIGKILL, 128);
    scene.at(5000, trigger, What::OomKill(kill));
    scene.exit(5005, victim, -libc::SIGKILL, mib(50));
    scene
}

/// A process with anonymous memory.
fn holder(process: Task, anon: u64) -> ProcessSample {
    ProcessSample {
        process,
        memory: ProcessMemory {
            anon_bytes: anon,
            ..ProcessMemory::default()
        },
        threads: 1,
        oom_score_adj: 0,
        environment: BTreeMap::new(),
    }
}

/// A call stack in the kernel, innermost call first.
fn stack(calls: &[&str]) -> Stack {
    let frame = |name: &&str| Frame {
        symbol: Some((*name).to_owned()),
        ..Frame::default()
    };
    Stack {
        kernel: calls.iter().map(frame).collect(),
        user: Vec::new(),
    }
}

fn app() -> Task {
    inside(1, "app")
}
