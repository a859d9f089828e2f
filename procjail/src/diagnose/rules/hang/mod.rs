//! The teardown hangs, or hung for a while: what it waited for.
//!
//! Most of it is told by the snapshots of a stall, which [`crate::hang`] reads; what needs no stall to
//! be slow, a core dump or much memory, is told by the events alone.

mod events;
mod stall;
#[cfg(test)]
mod tests;

use crate::diagnose::{Case, Family, Rank, Rule, Tagged};

pub(super) const FAMILY: Family = Family {
    rules: &[
        Rule {
            id: "hang-pidns-zap",
            about: "PID 1 of a PID namespace is dead but can't go before all others in it are gone",
            alternatives: &[],
        },
        Rule {
            id: "hang-d-state-fuse",
            about: "a process waits, unkillably, for a FUSE daemon that does not answer",
            alternatives: &[],
        },
        Rule {
            id: "hang-d-state-nfs",
            about: "a process waits, unkillably, for a file server that does not answer",
            alternatives: &[],
        },
        Rule {
            id: "hang-d-state-block",
            about: "a process waits, unkillably, for a disk that does not answer",
            alternatives: &[],
        },
        Rule {
            id: "hang-d-state-driver",
            about: "a process is stuck, unkillably, in a driver",
            alternatives: &[],
        },
        Rule {
            id: "hang-frozen",
            about: "a killed process is frozen, and the v1 freezer holds even SIGKILL",
            alternatives: &[],
        },
        Rule {
            id: "hang-ptrace-exit-stop",
            about: "a killed process is held at its exit by its tracer",
            alternatives: &[],
        },
        Rule {
            id: "hang-coredump",
            about: "a core dump took long, or is still being written",
            alternatives: &[],
        },
        Rule {
            id: "hang-exit-mmap",
            about: "a dead process took long to give its memory back",
            alternatives: &[],
        },
        Rule {
            id: "hang-cgroup-straggler",
            about: "a process in the jail's cgroup but not in its PID namespace outlived PID 1",
            alternatives: &[],
        },
        Rule {
            id: "hang-stdio-held",
            about: "a process that is left holds the output's pipe open, so its reader waits for the end",
            alternatives: &[],
        },
        Rule {
            id: "hang-exec-dethread",
            about: "an execve waits for other threads of its process, which don't go away",
            alternatives: &[],
        },
        Rule {
            id: "cgroup-rmdir-ebusy",
            about: "the jail's cgroup could not be removed",
            alternatives: &[],
        },
    ],
    rank: Rank::Problem,
    analyse,
};

/// What there is of this family in a case.
fn analyse(case: &Case) -> Vec<Tagged> {
    let mut found = Vec::new();
    found.extend(
        stall::pid_namespace(case)
            .into_iter()
            .map(|one| ("hang-pidns-zap", one)),
    );
    found.extend(
        stall::fuse(case)
            .into_iter()
            .map(|one| ("hang-d-state-fuse", one)),
    );
    found.extend(
        stall::server(case)
            .into_iter()
            .map(|one| ("hang-d-state-nfs", one)),
    );
    found.extend(
        stall::block(case)
            .into_iter()
            .map(|one| ("hang-d-state-block", one)),
    );
    found.extend(
        stall::driver(case)
            .into_iter()
            .map(|one| ("hang-d-state-driver", one)),
    );
    found.extend(
        stall::frozen(case)
            .into_iter()
            .map(|one| ("hang-frozen", one)),
    );
    found.extend(
        stall::exit_stop(case)
            .into_iter()
            .map(|one| ("hang-ptrace-exit-stop", one)),
    );
    found.extend(
        events::core_dump(case)
            .into_iter()
            .map(|one| ("hang-coredump", one)),
    );
    found.extend(
        events::exit_mmap(case)
            .into_iter()
            .map(|one| ("hang-exit-mmap", one)),
    );
    found.extend(
        events::straggler(case)
            .into_iter()
            .map(|one| ("hang-cgroup-straggler", one)),
    );
    found.extend(
        stall::output_held(case)
            .into_iter()
            .map(|one| ("hang-stdio-held", one)),
    );
    found.extend(
        stall::dethread(case)
            .into_iter()
            .map(|one| ("hang-exec-dethread", one)),
    );
    found.extend(
        events::rmdir_busy(case)
            .into_iter()
            .map(|one| ("cgroup-rmdir-ebusy", one)),
    );
    found
}
