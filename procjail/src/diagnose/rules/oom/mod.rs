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

use crate::diagnose::Rule;

pub(super) use kill::ended;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "oom-own-limit",
        about: "the OOM killer struck because the jail's own memory limit was hit",
        find: limit::own,
    },
    Rule {
        id: "oom-ancestor-limit",
        about: "the OOM killer struck because a group above the jail hit its limit",
        find: limit::ancestor,
    },
    Rule {
        id: "oom-global",
        about: "the OOM killer struck because the machine had no memory left",
        find: limit::global,
    },
    Rule {
        id: "oom-cpuset-mempolicy",
        about: "memory was free, but not on the NUMA nodes that the jail may use",
        find: limit::nodes,
    },
    Rule {
        id: "oom-group-kill",
        about: "one process ran out of memory, and memory.oom.group killed all",
        find: victims::group,
    },
    Rule {
        id: "oom-shared-mm-collateral",
        about: "a process was killed because it shares the memory of an OOM victim",
        find: victims::shared_memory,
    },
    Rule {
        id: "oom-child-invisible",
        about: "a child was OOM-killed, and PID 1 went on as if nothing had happened",
        find: victims::invisible,
    },
    Rule {
        id: "oom-fork-bomb",
        about: "many processes of one program filled the limit together",
        find: victims::many,
    },
    Rule {
        id: "oom-repeat-loop",
        about: "the same program is OOM-killed and started again and again",
        find: victims::again,
    },
    Rule {
        id: "oom-at-start",
        about: "the memory limit is too small for the program to start at all",
        find: victims::at_start,
    },
    Rule {
        id: "oom-earlier-not-cause",
        about: "there was an OOM kill, but the jail ended later and for another reason",
        find: victims::earlier,
    },
    Rule {
        id: "oom-innocent-victim",
        about: "the victim had little; the memory was elsewhere",
        find: shape::innocent,
    },
    Rule {
        id: "oom-shmem-tmpfs",
        about: "files in tmpfs or shared memory filled the limit, which no kill frees",
        find: shape::shmem,
    },
    Rule {
        id: "oom-page-cache-unreclaimable",
        about: "cached files that could not be dropped filled the limit",
        find: shape::page_cache,
    },
    Rule {
        id: "oom-kernel-memory",
        about: "the kernel's own memory for the jail filled the limit",
        find: shape::kernel,
    },
    Rule {
        id: "oom-socket-buffers",
        about: "buffers of sockets filled the limit",
        find: shape::sockets,
    },
    Rule {
        id: "oom-swap-capped",
        about: "the jail had used all the swap that it may",
        find: shape::swap,
    },
    Rule {
        id: "mem-growth-spike",
        about: "memory leapt within a second before the OOM kill",
        find: growth::spike,
    },
    Rule {
        id: "mem-growth-leak",
        about: "memory grew steadily up to the OOM kill",
        find: growth::leak,
    },
    Rule {
        id: "oom-victim-stuck",
        about: "the victim of an OOM kill could not die",
        find: stuck::victim,
    },
    Rule {
        id: "oom-no-eligible-victim",
        about: "the limit was hit, and every process is protected from the OOM killer",
        find: stuck::no_victim,
    },
    Rule {
        id: "oom-disabled-v1-hang",
        about: "the OOM killer is switched off, so processes sleep at the limit",
        find: stuck::disabled,
    },
    Rule {
        id: "oom-runtime-heap-exceeds-limit",
        about: "a language's runtime may take more memory than the jail has",
        find: runtime::heap_exceeds_limit,
    },
    Rule {
        id: "oom-inside-runtime",
        about: "a language's runtime gave up at its own heap limit; the kernel killed nobody",
        find: runtime::gave_up,
    },
];
