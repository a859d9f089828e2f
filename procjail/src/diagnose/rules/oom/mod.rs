//! Out of memory: whose limit was hit, who died for it, and what the memory was.
//!
//! [`limit`] finds the one verdict that explains a victim's end; all others qualify it.

mod above;
mod aftermath;
mod ceiling;
mod chain;
mod growth;
mod kernel;
mod kill;
mod limit;
mod makeup;
mod runtime;
mod shape;
mod stuck;
#[cfg(test)]
mod tests;
mod victims;

use crate::diagnose::{Case, Family, Rank, Rule, Tagged};

use kill::{Kill, Limit};
use makeup::Makeup;

pub(super) const FAMILY: Family = Family {
    rules: &[
        Rule {
            id: "oom-own-limit",
            about: "an OOM kill because the jail's own memory limit was hit",
            alternatives: &["a limit above the jail", "a machine without memory"],
        },
        Rule {
            id: "oom-ancestor-limit",
            about: "an OOM kill because a group above the jail hit its limit",
            alternatives: &["the jail's own limit", "a machine without memory"],
        },
        Rule {
            id: "oom-global",
            about: "an OOM kill because the machine had no memory left",
            alternatives: &["a memory limit", limit::ROOM],
        },
        Rule {
            id: "oom-cpuset-mempolicy",
            about: "memory was free, but not on the NUMA nodes that the jail may use",
            alternatives: &["a memory limit"],
        },
        Rule {
            id: "oom-group-kill",
            about: "one process ran out of memory, and memory.oom.group killed all",
            alternatives: &["one OOM kill after another"],
        },
        Rule {
            id: "oom-shared-mm-collateral",
            about: "a process was killed because it shares the memory of an OOM victim",
            alternatives: &["an OOM victim of its own"],
        },
        Rule {
            id: "oom-child-invisible",
            about: "a child was OOM-killed, and PID 1 went on, or waits for what it will not give",
            alternatives: &["the end of the jail", "it had nothing to do"],
        },
        Rule {
            id: "oom-fork-bomb",
            about: "many processes of one program filled the limit together",
            alternatives: &["each takes more than it should"],
        },
        Rule {
            id: "oom-repeat-loop",
            about: "the same program is OOM-killed and started again and again",
            alternatives: &["memory that a kill does not free"],
        },
        Rule {
            id: "oom-at-start",
            about: "the memory limit is too small for the program to start at all",
            alternatives: &["a start that takes more than it should"],
        },
        Rule {
            id: "oom-earlier-not-cause",
            about: "there was an OOM kill, but the jail ended later and for another reason",
            alternatives: &["a consequence of the kill"],
        },
        Rule {
            id: "oom-innocent-victim",
            about: "the victim had little; the memory was elsewhere",
            alternatives: &["the other process was ending already"],
        },
        Rule {
            id: "oom-shmem-tmpfs",
            about: "files in tmpfs or shared memory filled the limit, which no kill frees",
            alternatives: &[
                "files in tmpfs that others wrote before",
                "SysV segments that nobody is attached to",
            ],
        },
        Rule {
            id: "oom-page-cache-unreclaimable",
            about: "cached files that could not be dropped filled the limit",
            alternatives: &[
                "page cache that merely counts against the limit",
                "files that are charged to another cgroup",
            ],
        },
        Rule {
            id: "oom-kernel-memory",
            about: "the kernel's own memory for the jail filled the limit",
            alternatives: &[kernel::ANOTHER_KIND],
        },
        Rule {
            id: "oom-socket-buffers",
            about: "buffers of sockets filled the limit",
            alternatives: &["very many connections with a little data each"],
        },
        Rule {
            id: "oom-swap-capped",
            about: "the jail had used all the swap that it may",
            alternatives: &["a limit of another group"],
        },
        Rule {
            id: "mem-growth-spike",
            about: "memory usage spiked within a second before the OOM kill",
            alternatives: &["page cache that fills up"],
        },
        Rule {
            id: "mem-growth-leak",
            about: "memory grew steadily up to the OOM kill",
            alternatives: &[
                "work that piles up faster than it is done",
                "a cache of the program's own that fills up",
                "a start that would have ended at a size above the limit",
            ],
        },
        Rule {
            id: "oom-victim-stuck",
            about: "the victim of an OOM kill could not die",
            alternatives: &["a victim that waits for its parent to collect it"],
        },
        Rule {
            id: "oom-no-eligible-victim",
            about: "the limit was hit, and every process is protected from the OOM killer",
            alternatives: &["an OOM killer that is switched off"],
        },
        Rule {
            id: "oom-disabled-v1-hang",
            about: "the OOM killer is switched off, so processes sleep at the limit",
            alternatives: &["a wait for a disk"],
        },
        Rule {
            id: "oom-runtime-heap-exceeds-limit",
            about: "a runtime or a cache may take more memory than the jail has",
            alternatives: &[
                "a leak, which would fill a limit of any size",
                "memory that this does not bound",
            ],
        },
        Rule {
            id: "oom-inside-runtime",
            about: "a language's runtime gave up at its own heap limit; the kernel killed nobody",
            alternatives: &["an abort for another reason"],
        },
    ],
    rank: Rank::Problem,
    analyse,
};

/// What there is of this family in a case.
/// The OOM kills of a case, looked at once.
pub(super) struct Look<'a> {
    case: &'a Case,
    kills: Vec<Kill<'a>>,
    /// The first kill by a memory limit, and what the memory was made of.
    first: Option<(Kill<'a>, Option<Makeup<'a>>)>,
}

impl<'a> Look<'a> {
    fn new(case: &'a Case) -> Self {
        let kills = kill::kills(case);
        let limited = |kill: &&Kill<'_>| matches!(kill.limit, Limit::Own(_) | Limit::Above(_));
        let first = kills.iter().find(limited).copied();
        Self {
            case,
            first: first.map(|kill| (kill, makeup::makeup(case, &kill))),
            kills,
        }
    }
}

/// Findings whose remedy is that of the kill too, the more telling first.
const TELLING: &[&str] = &[
    "oom-shmem-tmpfs",
    "oom-page-cache-unreclaimable",
    "oom-kernel-memory",
    "oom-socket-buffers",
    "oom-runtime-heap-exceeds-limit",
    "oom-fork-bomb",
    "mem-growth-leak",
];

fn analyse(case: &Case) -> Vec<Tagged> {
    let look = Look::new(case);
    let mut found = runtime::analyse(&look);
    found.extend(stuck::analyse(&look));
    if look.kills.is_empty() {
        return found;
    }
    found.extend(shape::analyse(&look));
    found.extend(growth::analyse(&look));
    found.extend(victims::analyse(&look));
    let remedy = TELLING.iter().find_map(|id| {
        let (_, finding) = found.iter().find(|(of, _)| of == id)?;
        Some(finding.remedy.clone())
    });
    found.extend(aftermath::analyse(&look));
    let kills = limit::analyse(&look, remedy);
    match aftermath::failed_otherwise(&look) {
        true => found.extend(kills.into_iter().map(|(id, one)| (id, one.note()))),
        false => found.extend(kills),
    }
    found
}
