//! Out of memory: whose limit, who dies, and what the memory is.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::memory::{play, without_swap};
use crate::cgroup::HostCgroups;
use crate::lab::stuck_fs::StuckFs;
use crate::lab::{Failure, Need, Scenario, Stage};

/// What an ordinary OOM kill must not be taken for.
const NOT_ORDINARY: &[&str] = &[
    "oom-ancestor-limit",
    "oom-global",
    "oom-child-invisible",
    "oom-group-kill",
    "oom-innocent-victim",
    "oom-shmem-tmpfs",
    "oom-page-cache-unreclaimable",
    "oom-kernel-memory",
    "oom-socket-buffers",
    "oom-swap-capped",
    "oom-fork-bomb",
    "oom-repeat-loop",
    "oom-victim-stuck",
    "oom-shared-mm-collateral",
    "oom-at-start",
    "oom-earlier-not-cause",
    "oom-inside-runtime",
    "oom-runtime-heap-exceeds-limit",
    "mem-growth-leak",
    "enomem-not-oom",
    "kill-userspace-oomd",
];

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "oom-own-limit",
        about: "the program takes more memory than the jail may have",
        options: &["--memory", "48M"],
        app: &["alloc", "100000000"],
        outside: play,
        never: NOT_ORDINARY,
        ..Scenario::PLAIN
    },
    Scenario {
        id: "oom-missed-by-runtime",
        about: "an OOM kill of which a container runtime reports only \"Error\"",
        options: &["--memory", "48M"],
        app: &["alloc", "100000000"],
        outside: play,
        reported: "Error",
        also: &["oom-own-limit"],
        never: &["exit-code-synthetic"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "oom-ancestor-limit",
        about: "the jail is within its limit, but the group above is not: a neighbour uses most of it",
        takes_ms: 500,
        options: &["--memory", "128M"],
        app: &["alloc-offered", "100000000"],
        outside: below_a_full_parent,
        never: &[
            "oom-own-limit",
            "oom-global",
            "oom-innocent-victim",
            "oom-at-start",
        ],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "oom-child-invisible",
        about: "a child is OOM-killed; PID 1 collects it, says nothing and exits with 0",
        options: &["--memory", "48M"],
        app: &["alloc-in-child", "100000000", "100", "0"],
        outside: play,
        also: &["oom-own-limit"],
        never: &[
            "oom-repeat-loop",
            "oom-fork-bomb",
            "oom-earlier-not-cause",
            "oom-group-kill",
        ],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "oom-group-kill",
        about: "one process takes too much, and memory.oom.group kills all six",
        needs: &[Need::MemoryV2],
        options: &["--memory", "48M", "--oom-group"],
        app: &["alloc-in-a-group", "100000000", "5"],
        outside: play,
        also: &["oom-own-limit"],
        never: &[
            "oom-repeat-loop",
            "oom-innocent-victim",
            "oom-fork-bomb",
            "oom-child-invisible",
        ],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "oom-innocent-victim",
        about: "the process with the memory is spared, one with next to nothing is killed",
        takes_ms: 800,
        options: &["--memory", "64M"],
        app: &["protect-hog", "50000000"],
        outside: play,
        also: &["oom-own-limit"],
        never: &["oom-shmem-tmpfs", "oom-kernel-memory", "oom-fork-bomb"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "oom-shmem-tmpfs",
        about: "a file in tmpfs fills the limit: processes die, and nothing is freed",
        options: &["--memory", "64M", "--tmpfs", "/dev/shm"],
        app: &["fill", "/dev/shm/file", "120000000"],
        outside: play,
        also: &["oom-own-limit"],
        never: &[
            "oom-kernel-memory",
            "oom-page-cache-unreclaimable",
            "oom-fork-bomb",
        ],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "oom-page-cache-unreclaimable",
        about: "a file locked in memory fills the limit",
        needs: &[Need::Disk],
        options: &["--memory", "48M"],
        app: &["lock-file", "{dir}/file", "100663296"],
        outside: play,
        also: &["oom-own-limit"],
        never: &[
            "oom-shmem-tmpfs",
            "oom-kernel-memory",
            "oom-innocent-victim",
        ],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "oom-kernel-memory",
        about: "memory that is touched sparsely costs page tables, which fill the limit",
        options: &["--memory", "48M"],
        app: &["page-tables", "68719476736"],
        outside: play,
        also: &["oom-own-limit"],
        never: &[
            "oom-shmem-tmpfs",
            "oom-page-cache-unreclaimable",
            "oom-innocent-victim",
        ],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "oom-socket-buffers",
        about: "data that nobody reads piles up in the buffers of sockets",
        takes_ms: 1000,
        needs: &[Need::MemoryV2],
        options: &["--memory", "64M", "--net", "none"],
        app: &["fill-sockets", "16", "60000000"],
        outside: play,
        also: &["oom-own-limit"],
        never: &["oom-shmem-tmpfs", "oom-page-cache-unreclaimable"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "oom-swap-capped",
        about: "the machine has swap, but the jail may use only a little of it",
        takes_ms: 1000,
        needs: &[Need::Swap],
        options: &["--memory", "48M", "--swap", "8M"],
        app: &["alloc", "200000000"],
        also: &["oom-own-limit"],
        never: &["oom-innocent-victim", "oom-shmem-tmpfs"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "oom-fork-bomb",
        about: "many small workers fill the limit together",
        takes_ms: 1500,
        options: &["--memory", "64M"],
        app: &["workers", "40", "4000000"],
        outside: play,
        also: &["oom-own-limit"],
        never: &[
            "oom-innocent-victim",
            "oom-repeat-loop",
            "fork-bomb",
            "oom-group-kill",
        ],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "oom-repeat-loop",
        about: "a supervisor starts again what is OOM-killed each time",
        takes_ms: 500,
        options: &["--memory", "48M"],
        app: &["restart", "4", "100000000"],
        outside: play,
        also: &["oom-own-limit"],
        never: &["oom-fork-bomb", "oom-shmem-tmpfs", "oom-group-kill"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "oom-victim-stuck",
        about: "a thread of the victim waits for a file system that never answers, so it cannot die",
        takes_ms: 4000,
        needs: &[Need::Fuse],
        options: &["--memory", "48M", "--threads"],
        app: &["alloc-beside-stat", "{dir}/stuck/file", "100000000"],
        outside: beside_a_stuck_file_system,
        also: &["oom-own-limit"],
        never: &["oom-repeat-loop"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "oom-no-eligible-victim",
        about: "every process is protected from the OOM killer, so the program spins at its limit",
        takes_ms: 1500,
        needs: &[Need::SysResource],
        options: &["--memory", "48M"],
        app: &["alloc-protected", "100000000", "500"],
        outside: play,
        never: &["oom-disabled-v1-hang", "oom-own-limit"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "oom-disabled-v1-hang",
        about: "the OOM killer is switched off: the program sleeps at its limit until it is killed",
        takes_ms: 2500,
        needs: &[Need::MemoryV1],
        options: &["--memory", "48M", "--stop-timeout", "1s"],
        app: &["alloc-when-told", "100000000"],
        outside: without_oom_killer,
        never: &["oom-own-limit", "oom-no-eligible-victim"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "oom-shared-mm-collateral",
        about: "a process that shares the victim's memory dies with it",
        options: &["--memory", "48M"],
        app: &["alloc-shared", "100000000"],
        outside: play,
        also: &["oom-own-limit"],
        never: &["oom-group-kill", "oom-repeat-loop"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "oom-runtime-heap-exceeds-limit",
        about: "a Java program may grow its heap to 256 MiB in a jail of 48 MiB",
        options: &["--memory", "48M"],
        app: &["alloc", "100000000", "-Xmx256m", "Main"],
        program: "java",
        outside: play,
        also: &["oom-own-limit"],
        never: &["oom-inside-runtime", "oom-innocent-victim"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "oom-inside-runtime",
        about: "Node gives up at its own heap limit, far below the jail's",
        options: &["--memory", "256M", "--init"],
        app: &[
            "alloc-and-abort",
            "40000000",
            "--max-old-space-size=40",
            "main.js",
        ],
        program: "node",
        outside: play,
        never: &[
            "oom-own-limit",
            "oom-runtime-heap-exceeds-limit",
            "enomem-not-oom",
        ],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "mem-growth-spike",
        about: "memory leaps to the limit within milliseconds",
        options: &["--memory", "48M"],
        app: &["alloc", "100000000"],
        outside: play,
        also: &["oom-own-limit"],
        never: &["mem-growth-leak"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "mem-growth-leak",
        about: "memory grows steadily up to the limit",
        takes_ms: 5000,
        options: &["--memory", "64M"],
        app: &["alloc-slowly", "100000000", "70"],
        outside: play,
        also: &["oom-own-limit"],
        never: &["mem-growth-spike"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "oom-at-start",
        about: "the limit is too small for the program to start",
        options: &["--memory", "2M"],
        app: &["alloc", "8000000"],
        outside: play,
        also: &["oom-own-limit"],
        never: &["oom-child-invisible", "oom-earlier-not-cause"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "oom-earlier-not-cause",
        about: "a child was OOM-killed; the jail ends later, because it is killed from outside",
        takes_ms: 500,
        options: &["--memory", "48M"],
        app: &["alloc-in-child", "100000000", "60000", "0"],
        outside: killed_later,
        also: &["oom-own-limit"],
        never: &["oom-group-kill", "oom-repeat-loop", "kill-userspace-oomd"],
        ..Scenario::PLAIN
    },
];

/// PID 1 lives on after the OOM kill of its child, and is killed by somebody else.
fn killed_later(stage: &mut Stage) -> Result<(), Failure> {
    without_swap(stage);
    stage.start()?;
    stage.wait_for_line("child ended")?;
    stage.sleep_ms(100);
    stage.signal(stage.pid1()?, libc::SIGKILL)?;
    stage.wait().map(drop)
}

/// Switches off the OOM killer of the jail's cgroup before the program takes its memory.
fn without_oom_killer(stage: &mut Stage) -> Result<(), Failure> {
    stage.start()?;
    stage.wait_for_line("ready")?;
    let memory = v1_memory()?
        .join("procjail")
        .join(stage.header()?.jail.name);
    let control = memory.join("memory.oom_control");
    fs::write(&control, "1").map_err(Failure::of(format!("write 1 to {}", control.display())))?;
    // The program waits for half a second, then it sleeps at the limit.
    let stuck = stage.poll("the program at its limit", || {
        let text = fs::read_to_string(&control).ok()?;
        text.contains("under_oom 1").then_some(())
    });
    stage.sleep_ms(300);
    stage.stop()?;
    stage.wait()?;
    stuck
}

fn v1_memory() -> Result<PathBuf, Failure> {
    let host = HostCgroups::detect().map_err(|error| Failure::Launcher(error.to_string()))?;
    match host.v1.get("memory") {
        Some(mount) => Ok(mount.path.clone()),
        None => Err(Failure::Needs(Need::MemoryV1.to_string())),
    }
}

/// A file system in the program's way that takes questions and gives no answers.
fn beside_a_stuck_file_system(stage: &mut Stage) -> Result<(), Failure> {
    without_swap(stage);
    let stuck = StuckFs::mount(&stage.directory().join("stuck"))?;
    let abort = stuck.release();
    stage.undo(move || drop(stuck));
    stage.start()?;
    // The kernel waits two seconds before it takes the victim's memory by force.
    stage.sleep_ms(3000);
    abort();
    stage.wait().map(drop)
}

/// The limit of the group above, bytes, and what the neighbour in it takes.
const PARENT_LIMIT: u64 = 96 << 20;
const NEIGHBOUR_TAKES: u64 = 64 << 20;

/// Puts the jail into a group with a limit, most of which a neighbour uses.
fn below_a_full_parent(stage: &mut Stage) -> Result<(), Failure> {
    let host = HostCgroups::detect().map_err(|error| Failure::Launcher(error.to_string()))?;
    let name = format!("procjail-lab-{}", std::process::id());
    let Some(v2) = host.v2.clone() else {
        return Err(Failure::Needs("a mounted cgroup2".to_owned()));
    };
    let make = |stage: &mut Stage, path: PathBuf| -> Result<PathBuf, Failure> {
        fs::create_dir(&path).map_err(Failure::of(format!("create {}", path.display())))?;
        let made = path.clone();
        stage.undo(move || remove(&made));
        Ok(path)
    };
    let unified = make(stage, v2.join(&name))?;
    let (limited, file) = match host.v1.get("memory") {
        Some(mount) => (
            make(stage, mount.path.join(&name))?,
            "memory.limit_in_bytes",
        ),
        None => {
            let control = v2.join("cgroup.subtree_control");
            fs::write(&control, "+memory")
                .map_err(Failure::of(format!("write to {}", control.display())))?;
            let control = unified.join("cgroup.subtree_control");
            fs::write(&control, "+memory")
                .map_err(Failure::of(format!("write to {}", control.display())))?;
            (unified, "memory.max")
        }
    };
    let limit = limited.join(file);
    fs::write(&limit, PARENT_LIMIT.to_string())
        .map_err(Failure::of(format!("write to {}", limit.display())))?;
    let beside = make(stage, limited.join("neighbour"))?;
    let mut neighbour = neighbour(&beside)?;
    let taken = neighbour.stdin.take();
    stage.undo(move || {
        let _ = neighbour.kill();
        let _ = neighbour.wait();
    });
    if let Some(mut stdin) = taken {
        let _ = stdin.write_all(b"\n");
    }
    let usage = beside.join(match file {
        "memory.max" => "memory.current",
        _ => "memory.usage_in_bytes",
    });
    stage.poll("the neighbour's memory", || {
        let bytes: u64 = fs::read_to_string(&usage).ok()?.trim().parse().ok()?;
        (bytes >= NEIGHBOUR_TAKES).then_some(())
    })?;
    without_swap(stage);
    stage.option("--cgroup-parent");
    stage.option(format!("/{name}"));
    stage.start()?;
    stage.wait().map(drop)
}

/// A process in the cgroup that takes its memory when it is told.
fn neighbour(cgroup: &Path) -> Result<Child, Failure> {
    let own = std::env::current_exe().map_err(Failure::of("find procjail's own file"))?;
    let child = Command::new(own)
        .args(["misbehave", "alloc-when-told"])
        .arg(NEIGHBOUR_TAKES.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .map_err(Failure::of("start the neighbour"))?;
    let procs = cgroup.join("cgroup.procs");
    fs::write(&procs, child.id().to_string())
        .map_err(Failure::of(format!("write to {}", procs.display())))?;
    Ok(child)
}

/// Removes a cgroup, which may take the kernel a moment after its last process.
fn remove(path: &Path) {
    let end = Instant::now() + Duration::from_secs(2);
    while fs::remove_dir(path).is_err() && path.exists() && Instant::now() < end {
        thread::sleep(Duration::from_millis(5));
    }
}
