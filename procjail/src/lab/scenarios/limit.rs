//! Programs that come to a limit.

use super::crash::with_directory;
use crate::lab::Scenario;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "rlimit-cpu",
        about: "two children burn CPU time: one ends at the soft limit, one ignores SIGXCPU up to the hard one",
        takes_ms: 3_000,
        options: &["--rlimit", "core=0", "--rlimit", "cpu=1:2"],
        app: &["burn"],
        also: &["exit-128n-by-program"],
        never: &["exit-own-code", "exit-status-laundered"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "rlimit-fsize",
        about: "a child writes a file beyond the limit of its size",
        options: &["--rlimit", "core=0", "--rlimit", "fsize=64K"],
        app: &["write-file", "{dir}/file"],
        also: &["exit-128n-by-program"],
        never: &["enospc", "exit-own-code"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "enospc",
        about: "a file system is full, and the program gives up",
        options: &["--tmpfs", "{dir}/shm:64K"],
        app: &["fill-disk", "{dir}/shm/file"],
        outside: with_directory,
        never: &["rlimit-fsize", "emfile", "exit-own-code"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "emfile",
        about: "the program opens files until it may open no more, and gives up",
        options: &["--rlimit", "nofile=32"],
        app: &["open-files"],
        never: &["enospc", "exit-own-code"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "kernel-limit",
        about: "the program makes inotify instances until its user may have no more, and gives up",
        options: &["--user", "54322", "--rlimit", "nofile=16384"],
        app: &["watch-instances"],
        never: &["emfile", "enospc", "exit-own-code"],
        ..Scenario::PLAIN
    },
    Scenario {
        id: "cpu-throttled",
        about: "a program that computes has a tenth of a processor",
        takes_ms: 1_500,
        options: &["--cpus", "0.1"],
        app: &["spin", "1200"],
        also: &["exited-by-itself"],
        never: &["rlimit-cpu", "exit-own-code"],
        ..Scenario::PLAIN
    },
];
