//! Out of memory: whose limit was hit, who died for it, and what the memory was.
//!
//! [`limit`] finds the one verdict that explains a victim's end; all others qualify it.

mod growth;
mod kill;
mod limit;
mod runtime;
mod shape;
mod stuck;
#[cfg(test)]
mod tests;
mod victims;

use crate::diagnose::{Case, Family, Rank, Rule, Tagged};

pub(super) const FAMILY: Family = Family {
    rules: &[
        Rule {
            id: "oom-own-limit",
            about: "the OOM killer struck because the jail's own memory limit was hit",
            alternatives: &[],
        },
        Rule {
            id: "oom-ancestor-limit",
            about: "the OOM killer struck because a group above the jail hit its limit",
            alternatives: &[],
        },
        Rule {
            id: "oom-global",
            about: "the OOM killer struck because the machine had no memory left",
            alternatives: &[],
        },
        Rule {
            id: "oom-cpuset-mempolicy",
            about: "memory was free, but not on the NUMA nodes that the jail may use",
            alternatives: &[],
        },
        Rule {
            id: "oom-group-kill",
            about: "one process ran out of memory, and memory.oom.group killed all",
            alternatives: &[],
        },
        Rule {
            id: "oom-shared-mm-collateral",
            about: "a process was killed because it shares the memory of an OOM victim",
            alternatives: &[],
        },
        Rule {
            id: "oom-child-invisible",
            about: "a child was OOM-killed, and PID 1 went on as if nothing had happened",
            alternatives: &[],
        },
        Rule {
            id: "oom-fork-bomb",
            about: "many processes of one program filled the limit together",
            alternatives: &[],
        },
        Rule {
            id: "oom-repeat-loop",
            about: "the same program is OOM-killed and started again and again",
            alternatives: &[],
        },
        Rule {
            id: "oom-at-start",
            about: "the memory limit is too small for the program to start at all",
            alternatives: &[],
        },
        Rule {
            id: "oom-earlier-not-cause",
            about: "there was an OOM kill, but the jail ended later and for another reason",
            alternatives: &[],
        },
        Rule {
            id: "oom-innocent-victim",
            about: "the victim had little; the memory was elsewhere",
            alternatives: &[],
        },
        Rule {
            id: "oom-shmem-tmpfs",
            about: "files in tmpfs or shared memory filled the limit, which no kill frees",
            alternatives: &[],
        },
        Rule {
            id: "oom-page-cache-unreclaimable",
            about: "cached files that could not be dropped filled the limit",
            alternatives: &[],
        },
        Rule {
            id: "oom-kernel-memory",
            about: "the kernel's own memory for the jail filled the limit",
            alternatives: &[],
        },
        Rule {
            id: "oom-socket-buffers",
            about: "buffers of sockets filled the limit",
            alternatives: &[],
        },
        Rule {
            id: "oom-swap-capped",
            about: "the jail had used all the swap that it may",
            alternatives: &[],
        },
        Rule {
            id: "mem-growth-spike",
            about: "memory leapt within a second before the OOM kill",
            alternatives: &[],
        },
        Rule {
            id: "mem-growth-leak",
            about: "memory grew steadily up to the OOM kill",
            alternatives: &[],
        },
        Rule {
            id: "oom-victim-stuck",
            about: "the victim of an OOM kill could not die",
            alternatives: &[],
        },
        Rule {
            id: "oom-no-eligible-victim",
            about: "the limit was hit, and every process is protected from the OOM killer",
            alternatives: &[],
        },
        Rule {
            id: "oom-disabled-v1-hang",
            about: "the OOM killer is switched off, so processes sleep at the limit",
            alternatives: &[],
        },
        Rule {
            id: "oom-runtime-heap-exceeds-limit",
            about: "a language's runtime may take more memory than the jail has",
            alternatives: &[],
        },
        Rule {
            id: "oom-inside-runtime",
            about: "a language's runtime gave up at its own heap limit; the kernel killed nobody",
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
        limit::own(case)
            .into_iter()
            .map(|one| ("oom-own-limit", one)),
    );
    found.extend(
        limit::ancestor(case)
            .into_iter()
            .map(|one| ("oom-ancestor-limit", one)),
    );
    found.extend(
        limit::global(case)
            .into_iter()
            .map(|one| ("oom-global", one)),
    );
    found.extend(
        limit::nodes(case)
            .into_iter()
            .map(|one| ("oom-cpuset-mempolicy", one)),
    );
    found.extend(
        victims::group(case)
            .into_iter()
            .map(|one| ("oom-group-kill", one)),
    );
    found.extend(
        victims::shared_memory(case)
            .into_iter()
            .map(|one| ("oom-shared-mm-collateral", one)),
    );
    found.extend(
        victims::invisible(case)
            .into_iter()
            .map(|one| ("oom-child-invisible", one)),
    );
    found.extend(
        victims::many(case)
            .into_iter()
            .map(|one| ("oom-fork-bomb", one)),
    );
    found.extend(
        victims::again(case)
            .into_iter()
            .map(|one| ("oom-repeat-loop", one)),
    );
    found.extend(
        victims::at_start(case)
            .into_iter()
            .map(|one| ("oom-at-start", one)),
    );
    found.extend(
        victims::earlier(case)
            .into_iter()
            .map(|one| ("oom-earlier-not-cause", one)),
    );
    found.extend(
        shape::innocent(case)
            .into_iter()
            .map(|one| ("oom-innocent-victim", one)),
    );
    found.extend(
        shape::shmem(case)
            .into_iter()
            .map(|one| ("oom-shmem-tmpfs", one)),
    );
    found.extend(
        shape::page_cache(case)
            .into_iter()
            .map(|one| ("oom-page-cache-unreclaimable", one)),
    );
    found.extend(
        shape::kernel(case)
            .into_iter()
            .map(|one| ("oom-kernel-memory", one)),
    );
    found.extend(
        shape::sockets(case)
            .into_iter()
            .map(|one| ("oom-socket-buffers", one)),
    );
    found.extend(
        shape::swap(case)
            .into_iter()
            .map(|one| ("oom-swap-capped", one)),
    );
    found.extend(
        growth::spike(case)
            .into_iter()
            .map(|one| ("mem-growth-spike", one)),
    );
    found.extend(
        growth::leak(case)
            .into_iter()
            .map(|one| ("mem-growth-leak", one)),
    );
    found.extend(
        stuck::victim(case)
            .into_iter()
            .map(|one| ("oom-victim-stuck", one)),
    );
    found.extend(
        stuck::no_victim(case)
            .into_iter()
            .map(|one| ("oom-no-eligible-victim", one)),
    );
    found.extend(
        stuck::disabled(case)
            .into_iter()
            .map(|one| ("oom-disabled-v1-hang", one)),
    );
    found.extend(
        runtime::heap_exceeds_limit(case)
            .into_iter()
            .map(|one| ("oom-runtime-heap-exceeds-limit", one)),
    );
    found.extend(
        runtime::gave_up(case)
            .into_iter()
            .map(|one| ("oom-inside-runtime", one)),
    );
    found
}
