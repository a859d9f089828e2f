//! The teardown hangs, or hung for a while: what it waited for.
//!
//! Most of it is told by the snapshots of a stall, which [`crate::hang`] reads; what needs no stall to
//! be slow, a core dump or much memory, is told by the events alone.

mod events;
mod stall;
#[cfg(test)]
mod tests;

use crate::diagnose::{Case, Family, Finding, Rank, Rule, Tagged};

pub(super) const FAMILY: Family = Family {
    rules: &[
        Rule {
            id: "hang-pidns-zap",
            about: "PID 1 of a PID namespace is dead but can't go before all others in it are gone",
            alternatives: &["a zombie that nobody reaps"],
        },
        Rule {
            id: "hang-d-state-fuse",
            about: "a process waits, unkillably, for a FUSE daemon that does not answer",
            alternatives: &[stall::OTHER_MOUNT, stall::FROZEN],
        },
        Rule {
            id: "hang-d-state-nfs",
            about: "a process waits, unkillably, for a file server that does not answer",
            alternatives: &[stall::SLOW_SERVER, stall::OTHER_MOUNT, stall::FROZEN],
        },
        Rule {
            id: "hang-d-state-block",
            about: "a process waits, unkillably, for a disk that does not answer",
            alternatives: &[stall::SLOW_DISK, stall::FILE_SERVER, stall::FROZEN],
        },
        Rule {
            id: "hang-d-state-driver",
            about: "a process is stuck, unkillably, in a driver",
            alternatives: &[stall::DEVICE, stall::OTHER_MODULE, stall::FROZEN],
        },
        Rule {
            id: "hang-frozen",
            about: "a killed process is frozen, and the v1 freezer holds even SIGKILL",
            alternatives: &[stall::OTHER_WAIT],
        },
        Rule {
            id: "hang-ptrace-exit-stop",
            about: "a killed process is held at its exit by its tracer",
            alternatives: &[stall::UNKNOWN_TRACER, stall::FROZEN],
        },
        Rule {
            id: "hang-coredump",
            about: "a core dump took long, or is still being written",
            alternatives: &[events::SLOW_READER, events::SLOW_STORE],
        },
        Rule {
            id: "hang-exit-mmap",
            about: "a dead process took long to give its memory back",
            alternatives: &[events::NO_PROCESSOR, events::OTHER_HOLD],
        },
        Rule {
            id: "hang-cgroup-straggler",
            about: "a process in the jail's cgroup but not in its PID namespace outlived PID 1",
            alternatives: &["a process of the jail"],
        },
        Rule {
            id: "hang-stdio-held",
            about: "a process that is left holds the output's pipe open, so its reader waits for the end",
            alternatives: &["a pipe of its own"],
        },
        Rule {
            id: "hang-exec-dethread",
            about: "an execve waits for other threads of its process, which don't go away",
            alternatives: &["a program that hangs by itself"],
        },
        Rule {
            id: "cgroup-rmdir-ebusy",
            about: "the jail's cgroup could not be removed",
            alternatives: &["the moment between the last exit and the empty cgroup"],
        },
    ],
    rank: Rank::Problem,
    analyse,
};

/// What there is of this family in a case.
fn analyse(case: &Case) -> Vec<Tagged> {
    let tag = |id: &'static str, found: Vec<Finding>| found.into_iter().map(move |one| (id, one));
    let looks = stall::Looks::at(case);
    tag("hang-pidns-zap", stall::pid_namespace(case, &looks))
        .chain(tag("hang-d-state-fuse", stall::fuse(case, &looks)))
        .chain(tag("hang-d-state-nfs", stall::server(case, &looks)))
        .chain(tag("hang-d-state-block", stall::block(case, &looks)))
        .chain(tag("hang-d-state-driver", stall::driver(case, &looks)))
        .chain(stall::waits(case))
        .chain(tag("hang-frozen", stall::frozen(case, &looks)))
        .chain(tag("hang-ptrace-exit-stop", stall::exit_stop(case, &looks)))
        .chain(tag("hang-coredump", events::core_dump(case)))
        .chain(tag("hang-exit-mmap", events::exit_mmap(case)))
        .chain(tag("hang-cgroup-straggler", events::straggler(case)))
        .chain(tag("hang-stdio-held", stall::output_held(case, &looks)))
        .chain(tag("hang-exec-dethread", stall::dethread(case)))
        .chain(tag("cgroup-rmdir-ebusy", events::rmdir_busy(case)))
        .collect()
}
