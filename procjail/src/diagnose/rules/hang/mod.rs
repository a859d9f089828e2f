//! The teardown hangs, or hung for a while: what it waited for.
//!
//! Most of it is told by the snapshots of a stall, which [`crate::hang`] reads; what needs no stall to
//! be slow, a core dump or much memory, is told by the events alone.

mod events;
mod stall;
#[cfg(test)]
mod tests;

use crate::diagnose::Rule;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "hang-pidns-zap",
        about: "PID 1 of a PID namespace is dead but can't go before all others in it are gone",
        find: stall::pid_namespace,
    },
    Rule {
        id: "hang-d-state-fuse",
        about: "a process waits, unkillably, for a FUSE daemon that does not answer",
        find: stall::fuse,
    },
    Rule {
        id: "hang-d-state-nfs",
        about: "a process waits, unkillably, for a file server that does not answer",
        find: stall::server,
    },
    Rule {
        id: "hang-d-state-block",
        about: "a process waits, unkillably, for a disk that does not answer",
        find: stall::block,
    },
    Rule {
        id: "hang-d-state-driver",
        about: "a process is stuck, unkillably, in a driver",
        find: stall::driver,
    },
    Rule {
        id: "hang-frozen",
        about: "a killed process is frozen, and the v1 freezer holds even SIGKILL",
        find: stall::frozen,
    },
    Rule {
        id: "hang-ptrace-exit-stop",
        about: "a killed process is held at its exit by its tracer",
        find: stall::exit_stop,
    },
    Rule {
        id: "hang-coredump",
        about: "a core dump took long, or is still being written",
        find: events::core_dump,
    },
    Rule {
        id: "hang-exit-mmap",
        about: "a dead process took long to give its memory back",
        find: events::exit_mmap,
    },
    Rule {
        id: "hang-cgroup-straggler",
        about: "a process in the jail's cgroup but not in its PID namespace outlived PID 1",
        find: events::straggler,
    },
    Rule {
        id: "hang-stdio-held",
        about: "a process that is left holds the output's pipe open, so its reader waits for the end",
        find: stall::output_held,
    },
    Rule {
        id: "hang-exec-dethread",
        about: "an execve waits for other threads of its process, which don't go away",
        find: stall::dethread,
    },
    Rule {
        id: "cgroup-rmdir-ebusy",
        about: "the jail's cgroup could not be removed",
        find: events::rmdir_busy,
    },
];
