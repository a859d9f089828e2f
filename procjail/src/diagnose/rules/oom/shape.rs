//! What the memory at the limit was made of.

use super::kill::{
    FILE, KERNEL, Kill, Limit, Makeup, SHMEM, SOCK, held, limited, makeup, own, percent,
};
use crate::diagnose::{Case, Confidence, Finding};
use crate::event::What;
use crate::render;

/// From here on a kind of memory is what it is about, percent.
const MOST: u64 = 50;
/// Up to here a victim had next to nothing, percent of what was in use.
const LITTLE: u64 = 25;
/// So many alike share the blame: none of them is an innocent victim of something else.
const ALIKE: usize = 5;

pub(super) fn innocent(case: &Case) -> Vec<Finding> {
    let Some((kill, _)) = limited(case) else {
        return Vec::new();
    };
    let usage = kill.usage_bytes();
    let had = kill.victim_bytes();
    // A limit above the jail is full of others' memory: that the victim had little is no news.
    if !matches!(kill.limit, Limit::Own(_)) || percent(had, usage) > LITTLE {
        return Vec::new();
    }
    if alike(case, &kill) >= ALIKE {
        return Vec::new();
    }
    let start = format!(
        "{} was OOM-killed although it held only {} ({}%) of the {} in use",
        kill.name(case),
        render::bytes(had),
        percent(had, usage),
        render::bytes(usage)
    );
    let makeup = makeup(case, &kill);
    let bigger = makeup
        .as_ref()
        .and_then(Makeup::hog)
        .filter(|hog| hog.process.pid != kill.oom.victim.pid)
        .filter(|hog| held(&hog.memory) > had.saturating_mul(2))
        .filter(|hog| own(&hog.memory) >= usage / 4);
    let finding = match (bigger, &makeup) {
        (Some(hog), _) => {
            let (hogs, victims) = (hog.oom_score_adj, kill.oom.oom_score_adj);
            let why = match hogs < victims {
                true if victims > 0 => format!(
                    "; the victim's oom_score_adj of {victims} put it first (the other's is {hogs})"
                ),
                true => format!(
                    ", which its oom_score_adj of {hogs} protects (the victim's is {victims})"
                ),
                false => String::new(),
            };
            Finding::new(format!(
                "{start}: the memory was with {}, {}{why}.",
                case.task_name(&hog.process),
                render::bytes(held(&hog.memory))
            ))
            .confidence(match why.is_empty() {
                true => Confidence::Likely,
                false => Confidence::Proven,
            })
            .remedy("Correct oom_score_adj, so that the process with the memory is chosen, or limit that one.")
        }
        (None, Some(makeup)) => {
            let (kind, bytes) = makeup.largest();
            if kind == super::kill::ANON {
                return Vec::new();
            }
            Finding::new(format!(
                "{start}: the memory was {kind}, {} ({}%), which belongs to no process, so the kernel \
                 took what there was.",
                render::bytes(bytes),
                makeup.percent(bytes)
            ))
            .proven()
            .remedy("Look for what the memory is made of; the victim is not the cause.")
        }
        (None, None) => Finding::new(format!("{start}: the memory was elsewhere."))
            .remedy("Look at the other processes, at files in tmpfs and at the kernel's memory."),
    };
    let finding = finding.shown_by(
        kill.event,
        format!("its memory at that moment: {}", render::bytes(had)),
    );
    vec![kill.qualify(match &makeup {
        Some(makeup) => makeup.show(finding),
        None => finding,
    })]
}

/// Processes of the victim's program that lived at the kill.
pub(super) fn alike(case: &Case, kill: &Kill<'_>) -> usize {
    case.processes()
        .filter(|(id, process)| {
            process.in_jail()
                && process.task.comm == kill.oom.victim.comm
                && case.alive_at(*id, kill.event.time_ns)
        })
        .count()
}

pub(super) fn shmem(case: &Case) -> Vec<Finding> {
    let Some((kill, all)) = limited(case) else {
        return Vec::new();
    };
    let mounts = tmpfs(case);
    let places = match mounts.is_empty() {
        true => "look at /dev/shm and other tmpfs mounts (df -t tmpfs)".to_owned(),
        false => format!("look at {}", mounts.join(", ")),
    };
    let fix = format!(
        "Give the tmpfs a size below the memory limit (size=), delete files, or put them on a disk: {places}. \
         Starting the program again fails again while the mount lives."
    );
    let Some(makeup) = makeup(case, &kill) else {
        return shmem_by_the_victims(case, &kill, &all, &mounts, fix);
    };
    let bytes = makeup.kinds.shmem;
    if makeup.percent(bytes) < MOST {
        return Vec::new();
    }
    // Shared memory that is not in a file ends with its last user.
    let with_the_victim = kill.oom.memory.shmem_bytes >= bytes / 2;
    let stayed = all
        .iter()
        .skip(1)
        .any(|later| later.usage_bytes() >= kill.usage_bytes() / 10 * 9);
    let after = case
        .memory_samples()
        .find(|(event, _)| event.time_ns > kill.event.time_ns + 50_000_000)
        .filter(|(_, sample)| sample.kinds.shmem >= bytes / 10 * 9);
    let mut finding = Finding::new(format!(
        "{} filled the limit: {} of {} ({}%). {}",
        capital(SHMEM),
        render::bytes(bytes),
        render::bytes(makeup.usage_bytes),
        makeup.percent(bytes),
        match with_the_victim {
            true => "The victim had most of it mapped.",
            false =>
                "Killing processes cannot free them: they stay until the files are deleted or the mount goes.",
        }
    ))
    .shown_by(
        kill.event,
        format!(
            "{} was killed for it, and had {} of shared memory mapped",
            kill.name(case),
            render::bytes(kill.oom.memory.shmem_bytes)
        ),
    )
    .remedy(fix);
    finding = makeup.show(finding);
    if let Some((event, sample)) = after {
        finding = finding.shown_by(
            event,
            format!(
                "{} of it are still there after the kill",
                render::bytes(sample.kinds.shmem)
            ),
        );
    }
    let proven = !with_the_victim || stayed || after.is_some();
    vec![kill.qualify(finding.confidence(match proven {
        true => Confidence::Proven,
        false => Confidence::Likely,
    }))]
}

/// Where the jail has tmpfs mounts of its own: made with it, or by the program.
fn tmpfs(case: &Case) -> Vec<String> {
    let made = case
        .header
        .jail
        .plan
        .iter()
        .filter_map(|step| step.strip_prefix("mount a new tmpfs at "))
        .map(|rest| rest.split(" of ").next().unwrap_or(rest));
    let mounted = case
        .each(|what| match what {
            What::Mount(mount) if mount.fs_type == "tmpfs" && mount.error.is_none() => {
                Some(mount.target.as_str())
            }
            _ => None,
        })
        .map(|(_, target)| target);
    made.chain(mounted)
        .filter(|target| !target.is_empty())
        .take(3)
        .map(render::escape)
        .collect()
}

/// Without a sample: tmpfs was mounted, those who died had next to nothing, and the limit stayed full.
fn shmem_by_the_victims(
    case: &Case,
    kill: &Kill<'_>,
    all: &[Kill<'_>],
    mounts: &[String],
    fix: String,
) -> Vec<Finding> {
    let little = |kill: &Kill<'_>| percent(kill.victim_bytes(), kill.usage_bytes()) <= LITTLE;
    if mounts.is_empty() || !all.iter().all(little) || alike(case, kill) >= ALIKE {
        return Vec::new();
    }
    let verdict = format!(
        "The limit was full of memory that no victim had; files in tmpfs ({}) would explain it.",
        mounts.join(", ")
    );
    let finding = all
        .iter()
        .take(3)
        .fold(Finding::new(verdict), |finding, kill| {
            finding.shown_by(
                kill.event,
                format!(
                    "{} had {} when {} were in use",
                    kill.name(case),
                    render::bytes(kill.victim_bytes()),
                    render::bytes(kill.usage_bytes())
                ),
            )
        });
    vec![kill.qualify(finding.consistent().remedy(fix))]
}

pub(super) fn page_cache(case: &Case) -> Vec<Finding> {
    let Some((kill, _)) = limited(case) else {
        return Vec::new();
    };
    let fix = "Cached files are dropped before anything is killed, unless they are locked (mlock(2)), pinned, \
               or wait to be written: lock less, write more often (fsync, vm.dirty_bytes), or use a faster disk.";
    let Some(makeup) = makeup(case, &kill) else {
        let mapped = kill.oom.memory.file_bytes;
        let heap = percent(own(&kill.oom.memory), kill.usage_bytes());
        if percent(mapped, kill.usage_bytes()) < MOST || heap >= MOST {
            return Vec::new();
        }
        return vec![
            kill.qualify(
                Finding::new(format!(
                    "{} had mapped {} of files while {} were in use: files that could not be dropped would \
                     explain it.",
                    kill.name(case),
                    render::bytes(mapped),
                    render::bytes(kill.usage_bytes())
                ))
                .shown_by(kill.event, format!("{} of files mapped", render::bytes(mapped)))
                .consistent()
                .remedy(fix),
            ),
        ];
    };
    let cache = makeup.kinds.file.saturating_sub(makeup.kinds.shmem);
    let waiting = makeup
        .kinds
        .file_dirty
        .saturating_add(makeup.kinds.file_writeback);
    let locked = makeup.kinds.unevictable.min(cache);
    // Clean pages go first: a cache that is mostly clean killed nobody.
    if makeup.percent(cache) < MOST || waiting.max(locked) < cache / 2 {
        return Vec::new();
    }
    let (why, bytes) = match locked >= waiting {
        true => ("cannot be dropped (locked or pinned)", locked),
        false => ("wait to be written to disk", waiting),
    };
    vec![
        kill.qualify(
            makeup
                .show(Finding::new(format!(
                    "{} filled the limit: {} of {}, of which {} {why}, so the kernel killed instead.",
                    capital(FILE),
                    render::bytes(cache),
                    render::bytes(makeup.usage_bytes),
                    render::bytes(bytes)
                )))
                .not(
                    "cache that counts against the limit",
                    "clean cache is dropped before anything is killed; this is not clean",
                )
                .proven()
                .remedy(fix),
        ),
    ]
}

pub(super) fn kernel(case: &Case) -> Vec<Finding> {
    let Some((kill, _)) = limited(case) else {
        return Vec::new();
    };
    let fix = "Use fewer threads, mappings, files or connections: each costs the kernel memory that counts \
               against the jail. If none of them grows, look for a leak in the kernel.";
    let usage = kill.usage_bytes();
    let tables = kill.oom.memory.page_table_bytes;
    if percent(tables, usage) >= MOST {
        let finding = Finding::new(format!(
            "{} had {} of page tables ({}% of what was in use), for {} of address space: the program \
             touches memory too sparsely, not too much of it.",
            kill.name(case),
            render::bytes(tables),
            percent(tables, usage),
            render::bytes(kill.oom.memory.total_vm_bytes)
        ))
        .shown_by(
            kill.event,
            format!("{} of page tables", render::bytes(tables)),
        )
        .not(
            "the program's heap",
            format!(
                "it had {} of anonymous memory",
                render::bytes(kill.oom.memory.anon_bytes)
            ),
        );
        return vec![kill.qualify(finding.proven().remedy(fix))];
    }
    let Some(makeup) = makeup(case, &kill) else {
        return Vec::new();
    };
    // Slab that can be reclaimed (names and inodes) kills nobody.
    let held = makeup
        .kinds
        .kernel
        .saturating_sub(makeup.kinds.slab_reclaimable);
    if makeup.percent(held) < MOST {
        return Vec::new();
    }
    let parts = [
        ("page tables", makeup.kinds.page_tables),
        ("stacks of threads", makeup.kinds.kernel_stack),
        (
            "slab that cannot be reclaimed",
            makeup.kinds.slab_unreclaimable,
        ),
    ];
    let largest = parts
        .iter()
        .max_by_key(|(_, bytes)| *bytes)
        .filter(|(_, bytes)| *bytes > 0)
        .map_or_else(String::new, |(what, bytes)| {
            format!(", most of it {what} ({})", render::bytes(*bytes))
        });
    vec![
        kill.qualify(
            makeup
                .show(Finding::new(format!(
                    "{} filled the limit, not the program's heap: {} of {}{largest}.",
                    capital(KERNEL),
                    render::bytes(held),
                    render::bytes(makeup.usage_bytes)
                )))
                .not(
                    "the program's heap",
                    format!("anonymous memory was {}", render::bytes(makeup.kinds.anon)),
                )
                .proven()
                .remedy(fix),
        ),
    ]
}

pub(super) fn sockets(case: &Case) -> Vec<Finding> {
    let Some((kill, _)) = limited(case) else {
        return Vec::new();
    };
    let Some(makeup) = makeup(case, &kill) else {
        return Vec::new();
    };
    let bytes = makeup.kinds.sock;
    if makeup.percent(bytes) < MOST {
        return Vec::new();
    }
    vec![
        kill.qualify(
            makeup
                .show(Finding::new(format!(
                    "{} filled the limit: {} of {} ({}%). Data was sent or received faster than it was read.",
                    capital(SOCK),
                    render::bytes(bytes),
                    render::bytes(makeup.usage_bytes),
                    makeup.percent(bytes)
                )))
                .proven()
                .remedy(
                    "Read faster or accept fewer connections, or cap the buffers (net.ipv4.tcp_rmem and \
                     tcp_wmem, SO_RCVBUF). The same traffic may cost twice as much on another kernel.",
                ),
        ),
    ]
}

pub(super) fn swap(case: &Case) -> Vec<Finding> {
    let Some((kill, _)) = limited(case) else {
        return Vec::new();
    };
    let Some(level) = kill.level() else {
        return Vec::new();
    };
    let Some(limit) = level.swap_limit_bytes else {
        return Vec::new();
    };
    // v1 counts memory and swap together, v2 swap alone.
    let together = case.header.host.cgroup_mode != "v2";
    let (used, may) = match together {
        true => (
            level.swap_usage_bytes.saturating_sub(level.usage_bytes),
            limit.saturating_sub(level.limit_bytes.unwrap_or(limit)),
        ),
        false => (level.swap_usage_bytes, limit),
    };
    // With a cap of nothing, that the machine has swap at all is told by the counter alone.
    let wanted = case.counter_growth(0, "memory.swap.events:max") > Some(0);
    let full = used > 0 && used.saturating_add(limit / 64) >= may;
    if !full && !wanted {
        return Vec::new();
    }
    let mut finding = Finding::new(format!(
        "The memory limit was hit, and the jail may use no more than {} of swap ({} used), although the \
         machine has swap.",
        render::bytes(may),
        render::bytes(used)
    ))
    .shown_by(
        kill.event,
        format!(
            "swap {} of {} at the kill",
            render::bytes(used),
            render::bytes(may)
        ),
    );
    if wanted {
        finding = finding.fact("the counter memory.swap.events max rose: more was refused");
    }
    if together {
        finding =
            finding.fact("cgroup v1 limits memory and swap together (memory.memsw.limit_in_bytes)");
    }
    vec![kill.qualify(finding.proven().remedy(
        "Raise --swap, or accept it: a jail that swaps is slow, one that may not is killed.",
    ))]
}

/// With a capital letter, for the start of a sentence.
fn capital(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}
