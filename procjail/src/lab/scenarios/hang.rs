//! The teardown hangs. Each scenario waits until procjail has looked at it, and then lets go: the jail is
//! removed in the end as any other.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use crate::lab::stuck_fs::StuckFs;
use crate::lab::{Failure, Need, Scenario, Stage};

/// What most have in common: a grace period that does not matter, and time for the teardown.
const HANG: Scenario = Scenario {
    takes_ms: 1500,
    options: &["--stop-timeout", "100ms", "--teardown-timeout", "30s"],
    ..Scenario::PLAIN
};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "hang-pidns-zap",
        about: "a process in the jail's PID namespace has its parent outside, which does not reap it",
        app: &["sleep"],
        outside: outside_parent,
        never: &[
            "hang-d-state-fuse",
            "hang-frozen",
            "hang-ptrace-exit-stop",
            "hang-cgroup-straggler",
            "cgroup-rmdir-ebusy",
            "zombie-jail-init-unreaped",
        ],
        ..HANG
    },
    Scenario {
        id: "hang-d-state-fuse",
        about: "a process waits for a FUSE daemon that does not answer, in a nested PID namespace",
        needs: &[Need::Fuse],
        app: &["nested-wait-for-file", "{dir}/stuck/file"],
        outside: stuck_fuse,
        also: &["hang-pidns-zap"],
        never: &[
            "hang-frozen",
            "hang-ptrace-exit-stop",
            "hang-d-state-nfs",
            "hang-d-state-block",
            "hang-d-state-driver",
        ],
        ..HANG
    },
    Scenario {
        id: "hang-frozen",
        about: "a process is frozen by the v1 freezer, which holds even SIGKILL",
        needs: &[Need::FreezerV1],
        app: &["sleep"],
        outside: freeze_v1,
        never: &[
            "hang-d-state-fuse",
            "hang-d-state-block",
            "hang-d-state-driver",
            "hang-ptrace-exit-stop",
        ],
        ..HANG
    },
    Scenario {
        id: "hang-ptrace-exit-stop",
        about: "a tracer outside is told of the end of a process, and does not let it go on",
        app: &["sleep"],
        outside: exit_stop,
        never: &[
            "hang-frozen",
            "hang-pidns-zap",
            "hang-d-state-fuse",
            "zombie-jail-init-unreaped",
        ],
        ..HANG
    },
    Scenario {
        id: "hang-exec-dethread",
        about: "an execve waits for a thread that a tracer outside holds at its end",
        app: &["exec-with-thread", "{dir}/go"],
        outside: exec_dethread,
        options: &["--stop-timeout", "400ms", "--teardown-timeout", "30s"],
        also: &["hang-ptrace-exit-stop"],
        never: &[
            "hang-frozen",
            "hang-d-state-fuse",
            "zombie-jail-init-unreaped",
        ],
        ..HANG
    },
    Scenario {
        id: "hang-coredump",
        about: "a process with much memory takes long to write its core dump",
        takes_ms: 3000,
        options: &["--rlimit", "core=unlimited", "--workdir", "{dir}"],
        app: &["dump", "600000000"],
        outside: core_dump,
        never: &["hang-pidns-zap", "hang-d-state-fuse"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "hang-exit-mmap",
        about: "a process with much memory takes long to give it back",
        takes_ms: 3000,
        app: &["fill-and-exit", "3000000000"],
        outside: much_memory,
        never: &["hang-coredump", "hang-pidns-zap"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "hang-cgroup-straggler",
        about: "a process from outside is moved into the jail's cgroup, and PID 1's end does not end it",
        takes_ms: 400,
        app: &["exit-when", "{dir}/go"],
        outside: straggler,
        never: &["hang-pidns-zap", "cgroup-rmdir-ebusy", "hang-frozen"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "hang-stdio-held",
        about: "a process that can't be killed yet has the output's pipe open",
        needs: &[Need::Fuse],
        app: &["wait-for-file", "{dir}/stuck/file"],
        outside: stuck_fuse,
        also: &["hang-d-state-fuse", "hang-pidns-zap"],
        never: &["hang-frozen"],
        ..HANG
    },
    Scenario {
        id: "cgroup-rmdir-ebusy",
        about: "a frozen process keeps the jail's cgroup busy until the time for the teardown is over",
        needs: &[Need::FreezerV1],
        options: &["--stop-timeout", "100ms", "--teardown-timeout", "400ms"],
        app: &["sleep"],
        outside: frozen_to_the_end,
        also: &["hang-frozen"],
        never: &["hang-d-state-fuse"],
        ..HANG
    },
];

/// The misbehaving program outside of the jail, holding something until it is let go.
struct Holder {
    child: Child,
    release: Option<ChildStdin>,
}

impl Holder {
    fn start(arguments: &[&str]) -> Result<Self, Failure> {
        let own = std::env::current_exe().map_err(Failure::of("find procjail's own file"))?;
        let mut child = Command::new(own)
            .arg("misbehave")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(Failure::of("start a program outside"))?;
        let release = child.stdin.take();
        let stdout = child.stdout.take();
        let holder = Self { child, release };
        let mut line = String::new();
        if let Some(stdout) = stdout {
            // It says so or ends.
            let _ = BufReader::new(stdout).read_line(&mut line);
        }
        match line.trim() {
            "ready" => Ok(holder),
            _ => Err(Failure::Launcher(format!(
                "the program outside ({}) could not begin",
                arguments.join(" ")
            ))),
        }
    }

    /// Lets go, and waits for its end.
    fn release(mut self) {
        drop(self.release.take());
        let _ = self.child.wait();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until the teardown was looked at twice: it does not only take a while.
fn stalled(stage: &Stage) -> Result<(), Failure> {
    stage.poll("a look at the stalled teardown", || {
        let trace = fs::read_to_string(stage.trace()).ok()?;
        (trace.matches("\"moment\":\"stall\"").count() >= 2).then_some(())
    })
}

fn outside_parent(stage: &mut Stage) -> Result<(), Failure> {
    stage.start()?;
    stage.wait_for_line("ready")?;
    let pid = stage.pid1()?.to_string();
    let holder = Holder::start(&["join-pid-namespace", &pid])?;
    stage.stop()?;
    stalled(stage)?;
    holder.release();
    stage.wait().map(drop)
}

fn stuck_fuse(stage: &mut Stage) -> Result<(), Failure> {
    let stuck = StuckFs::mount(&stage.directory().join("stuck"))?;
    stage.start()?;
    stage.wait_for_line("ready")?;
    stage.stop()?;
    stalled(stage)?;
    stuck.release()();
    stage.wait().map(drop)
}

/// A freezer of v1 with a process in it. Dropping it thaws.
struct Freezer {
    directory: PathBuf,
}

impl Freezer {
    fn freeze(stage: &Stage, pid: u32) -> Result<Self, Failure> {
        let name = stage.directory().file_name().unwrap_or_default();
        let directory = Path::new(crate::lab::FREEZER_V1).join(name);
        let io = |file: &str| Failure::of(format!("write {}/{file}", directory.display()));
        fs::create_dir_all(&directory).map_err(io(""))?;
        let freezer = Self {
            directory: directory.clone(),
        };
        fs::write(directory.join("cgroup.procs"), pid.to_string()).map_err(io("cgroup.procs"))?;
        fs::write(directory.join("freezer.state"), "FROZEN").map_err(io("freezer.state"))?;
        stage.poll("the freeze", || {
            let state = fs::read_to_string(directory.join("freezer.state")).ok()?;
            (state.trim() == "FROZEN").then_some(())
        })?;
        Ok(freezer)
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        let _ = fs::write(self.directory.join("freezer.state"), "THAWED");
        // Its process goes now, which takes a moment.
        for _ in 0..500 {
            if fs::remove_dir(&self.directory).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn freeze_v1(stage: &mut Stage) -> Result<(), Failure> {
    stage.start()?;
    stage.wait_for_line("ready")?;
    let freezer = Freezer::freeze(stage, stage.pid1()?)?;
    stage.stop()?;
    stalled(stage)?;
    drop(freezer);
    stage.wait().map(drop)
}

fn frozen_to_the_end(stage: &mut Stage) -> Result<(), Failure> {
    stage.start()?;
    stage.wait_for_line("ready")?;
    let freezer = Freezer::freeze(stage, stage.pid1()?)?;
    stage.undo(move || drop(freezer));
    stage.stop()?;
    let status = stage.wait()?;
    match status.code() {
        Some(code) if code == i32::from(crate::exit::TEARDOWN_TIMEOUT) => Ok(()),
        _ => Err(Failure::Launcher(format!(
            "it ended with {status}, as if nothing had remained"
        ))),
    }
}

fn exit_stop(stage: &mut Stage) -> Result<(), Failure> {
    stage.start()?;
    stage.wait_for_line("ready")?;
    let pid = stage.pid1()?.to_string();
    let holder = Holder::start(&["trace-exit", &pid])?;
    stage.stop()?;
    stalled(stage)?;
    holder.release();
    stage.wait().map(drop)
}

fn exec_dethread(stage: &mut Stage) -> Result<(), Failure> {
    stage.start()?;
    stage.wait_for_line("ready")?;
    let pid = stage.pid1()?;
    let thread = stage.poll("the second thread", || {
        fs::read_dir(format!("/proc/{pid}/task"))
            .ok()?
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .find(|tid: &u32| *tid != pid)
    })?;
    let holder = Holder::start(&["trace-exit", &thread.to_string()])?;
    go(stage)?;
    stage.poll("the execve", || {
        let channel = fs::read_to_string(format!("/proc/{pid}/wchan")).ok()?;
        matches!(channel.trim(), "de_thread" | "begin_new_exec").then_some(())
    })?;
    stage.stop()?;
    stalled(stage)?;
    holder.release();
    stage.wait().map(drop)
}

/// The file that the program waits for.
fn go(stage: &Stage) -> Result<(), Failure> {
    fs::write(stage.directory().join("go"), "")
        .map_err(Failure::of("write the file that is waited for"))
}

fn straggler(stage: &mut Stage) -> Result<(), Failure> {
    stage.start()?;
    stage.wait_for_line("ready")?;
    let holder = Holder::start(&["sleep"])?;
    let file = Path::new(&stage.header()?.jail.cgroup).join("cgroup.procs");
    fs::write(&file, holder.child.id().to_string())
        .map_err(Failure::of(format!("write {}", file.display())))?;
    go(stage)?;
    stage.wait()?;
    drop(holder);
    Ok(())
}

/// Refuses on a machine that would run out of memory by it.
fn has_memory(kilobytes: u64) -> Result<(), Failure> {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available: Option<u64> = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    match available {
        Some(available) if available < kilobytes => Err(Failure::Needs(format!(
            "{} MiB of free memory",
            kilobytes >> 10
        ))),
        _ => Ok(()),
    }
}

fn much_memory(stage: &mut Stage) -> Result<(), Failure> {
    has_memory(4 << 20)?;
    stage.start()?;
    stage.wait().map(drop)
}

/// Where core dumps go: a file in the working directory here, and a slow program on machines that are
/// thrown away afterwards, as that is a setting of the whole machine.
fn core_dump(stage: &mut Stage) -> Result<(), Failure> {
    const PATTERN: &str = "/proc/sys/kernel/core_pattern";
    let before = fs::read_to_string(PATTERN).map_err(Failure::of(format!("read {PATTERN}")))?;
    if Need::Disposable.check().is_ok() {
        has_memory(256 << 10)?;
        let own = std::env::current_exe().map_err(Failure::of("find procjail's own file"))?;
        let sink = format!("|{} misbehave slow-sink 1000", own.display());
        stage.undo(move || drop(fs::write(PATTERN, before)));
        fs::write(PATTERN, sink).map_err(Failure::of(format!("write {PATTERN}")))?;
        // What takes long is the sink, not the memory.
        let app = stage.program()?.display().to_string();
        let dump = ["misbehave", "dump", "33554432"].map(str::to_owned);
        stage.start_with([app].into_iter().chain(dump).collect())?;
        return stage.wait().map(drop);
    }
    has_memory(1 << 20)?;
    if before.starts_with(['|', '/']) {
        return Err(Failure::Needs(format!(
            "core dumps in the working directory ({PATTERN}), or a machine to be thrown away"
        )));
    }
    stage.start()?;
    stage.wait().map(drop)
}
