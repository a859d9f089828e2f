//! Programs that crash.

use crate::lab::{Failure, Scenario, Stage};

/// No core files are left behind: the kernel's pattern may have them put anywhere.
const NO_CORE: &[&str] = &["--rlimit", "core=0"];

const CRASH: Scenario = Scenario {
    options: NO_CORE,
    ..Scenario::PLAIN
};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "segv-fault",
        about: "a child writes to a wild address, PID 1 through a null pointer",
        app: &["segv"],
        never: &[
            "segv-stack-overflow",
            "abrt-self",
            "exit-status-laundered",
            "exit-own-code",
        ],
        ..CRASH
    },
    Scenario {
        id: "segv-stack-overflow",
        about: "a function calls itself without end",
        options: &["--rlimit", "core=0", "--rlimit", "stack=1M"],
        app: &["overflow"],
        never: &["segv-fault", "abrt-self"],
        ..CRASH
    },
    Scenario {
        id: "abrt-self",
        about: "a child calls abort(), and so does PID 1, for which the kernel drops SIGABRT",
        app: &["abort"],
        never: &["abrt-watchdog", "segv-fault", "trap-unhandled"],
        ..CRASH
    },
    Scenario {
        id: "abrt-watchdog",
        about: "somebody outside sends SIGABRT to a child that does nothing",
        app: &["wait-aborted"],
        outside: abort_child,
        also: &["exit-128n-by-program"],
        never: &["abrt-self"],
        ..CRASH
    },
    #[cfg(target_arch = "x86_64")]
    Scenario {
        id: "ill-cpu-feature",
        about: "the program comes to an instruction of an extension that the processor does not have",
        app: &["lacking"],
        never: &["trap-unhandled", "segv-fault", "ill-trap"],
        ..CRASH
    },
    Scenario {
        id: "ill-trap",
        about: "the program comes to an instruction that is defined to fault, as compilers put it for a failed check",
        app: &["illegal"],
        never: &["trap-unhandled", "segv-fault", "ill-cpu-feature"],
        ..CRASH
    },
    #[cfg(target_arch = "x86_64")]
    Scenario {
        id: "fpe",
        about: "an integer is divided by zero",
        app: &["divide"],
        never: &["ill-cpu-feature", "segv-fault"],
        ..CRASH
    },
    Scenario {
        id: "trap-unhandled",
        about: "the program comes to a breakpoint, and no debugger is there",
        app: &["trap"],
        never: &["ill-cpu-feature", "abrt-self"],
        ..CRASH
    },
    Scenario {
        id: "sigbus-shm-full",
        about: "a file of 16 MiB is mapped and written in a tmpfs of 1 MiB",
        options: &["--rlimit", "core=0", "--tmpfs", "{dir}/shm:1M"],
        app: &["bus", "{dir}/shm/file", "0"],
        outside: with_directory,
        never: &["sigbus-truncated", "sigbus-hwpoison", "segv-fault"],
        ..CRASH
    },
    Scenario {
        id: "sigbus-truncated",
        about: "a mapped file is cut, and the mapping used",
        app: &["bus", "{dir}/file", "1"],
        never: &["sigbus-shm-full", "sigbus-hwpoison", "segv-fault"],
        ..CRASH
    },
    Scenario {
        id: "sigsys-seccomp",
        about: "the program makes a system call that its seccomp filter forbids",
        app: &["forbidden-call"],
        never: &["seccomp-thread-killed", "seccomp-errno"],
        ..CRASH
    },
    Scenario {
        id: "seccomp-thread-killed",
        about: "a seccomp filter ends one thread; the program goes on without it",
        takes_ms: 400,
        options: &["--rlimit", "core=0", "--threads"],
        app: &["forbidden-thread"],
        never: &["sigsys-seccomp", "seccomp-errno"],
        ..CRASH
    },
    Scenario {
        id: "seccomp-errno",
        about: "a seccomp filter makes a system call fail, and the program gives up",
        app: &["refused-call"],
        never: &["sigsys-seccomp", "seccomp-thread-killed"],
        ..CRASH
    },
];

/// Sends SIGABRT to PID 1's child, as a watchdog does.
fn abort_child(stage: &mut Stage) -> Result<(), Failure> {
    stage.start()?;
    stage.wait_for_line("ready")?;
    for child in stage.children(stage.pid1()?) {
        stage.signal(child, libc::SIGABRT)?;
    }
    stage.wait().map(drop)
}

/// A place for a tmpfs: the launcher makes no directories on the host.
pub(super) fn with_directory(stage: &mut Stage) -> Result<(), Failure> {
    stage.make_directory("shm")?;
    stage.start()?;
    stage.wait().map(drop)
}
