//! What the memory at the limit was made of.

use super::Look;
use super::aftermath;
use super::kernel;
use super::kill::{Kill, Limit, held, own, percent};
use super::makeup::{ANON, FILE, Makeup, Purpose, SHMEM};
use crate::diagnose::{Case, Confidence, Finding, Tagged};
use crate::event::What;
use crate::text;

/// From here on a kind of memory is what it is about, percent.
pub(super) const MOST: u64 = 50;
/// Up to here a victim had next to nothing, percent of what was in use.
const LITTLE: u64 = 25;
/// So many alike share the blame: none of them is an innocent victim of something else.
const ALIKE: usize = 5;
/// After a kill it takes so long until what ends with its victim is gone, nanoseconds.
const GONE_NS: u64 = 50_000_000;

/// What is to be said of the first kill by a limit.
pub(super) fn analyse(look: &Look<'_>) -> Vec<Tagged> {
    let Some((kill, makeup)) = &look.first else {
        return Vec::new();
    };
    let case = look.case;
    let makeup = makeup.as_ref();
    let mut found: Vec<Tagged> = Vec::new();
    found.extend(innocent(case, kill, makeup).map(|one| ("oom-innocent-victim", one)));
    let shmem = match makeup {
        Some(makeup) => shmem(look, kill, makeup),
        None => shmem_by_the_victims(look, kill),
    };
    let (causes, follows) = match is_shmem(look) {
        true => (shmem, None),
        false => (None, shmem),
    };
    found.extend(follows.map(|one| ("oom-shmem-tmpfs", one)));
    let cache = match makeup {
        Some(makeup) => page_cache(makeup),
        None => mapped_files(case, kill),
    };
    found.extend(cache.map(|one| ("oom-page-cache-unreclaimable", one)));
    found.extend(kernel::analyse(case, kill, makeup));
    found.extend(swap(case, kill).map(|one| ("oom-swap-capped", one)));
    let qualified = found.into_iter().map(|(id, one)| (id, kill.qualify(one)));
    let causes = causes.map(|one| ("oom-shmem-tmpfs", one));
    qualified.chain(causes).collect()
}

/// Files in tmpfs and shared memory are most of what is charged to the jail: they are why its limit was hit, so the
/// kill follows from them. Not where the jail ended for another reason: then the kill is a note.
pub(super) fn is_shmem(look: &Look<'_>) -> bool {
    look.first.as_ref().is_some_and(|(kill, makeup)| {
        let most = |makeup: &Makeup<'_>| makeup.percent(makeup.kinds.shmem) >= MOST;
        matches!(kill.limit, Limit::Own(_)) && makeup.as_ref().is_some_and(most)
    }) && !aftermath::failed_otherwise(look)
}

/// The victim itself made the allocation that found no room, and not by touching its own memory.
fn did_it(kill: &Kill<'_>) -> bool {
    let writing = kill.oom.syscall.as_ref().is_some_and(|call| {
        matches!(
            call.name.as_str(),
            "write"
                | "writev"
                | "pwrite64"
                | "pwritev"
                | "fallocate"
                | "sendfile"
                | "sendto"
                | "sendmsg"
        )
    });
    let other = match Purpose::of(kill.oom) {
        Purpose::Unknown => writing,
        Purpose::Anonymous | Purpose::CopyOnWrite | Purpose::File => false,
        _ => true,
    };
    kill.event.task.pid == kill.oom.victim.pid && other
}

fn innocent(case: &Case, kill: &Kill<'_>, makeup: Option<&Makeup<'_>>) -> Option<Finding> {
    let usage = kill.usage_bytes();
    let had = kill.victim_bytes();
    // A limit above the jail is full of others' memory: that the victim had little is no news.
    if !matches!(kill.limit, Limit::Own(_)) || percent(had, usage) > LITTLE {
        return None;
    }
    if did_it(kill) || alike(case, kill) >= ALIKE {
        return None;
    }
    let start = format!(
        "{} was OOM-killed although it held only {} ({}%) of the {} in use",
        kill.name(case),
        text::bytes(had),
        percent(had, usage),
        text::bytes(usage)
    );
    let bigger = makeup
        .and_then(Makeup::hog)
        .filter(|hog| hog.process.pid != kill.oom.victim.pid)
        .filter(|hog| held(&hog.memory) > had.saturating_mul(2))
        .filter(|hog| own(&hog.memory) >= usage / 4);
    let finding = match (bigger, makeup) {
        (Some(hog), _) => {
            let (hogs, victims) = (hog.oom_score_adj, kill.oom.oom_score_adj);
            let name = case.task_name(&hog.process);
            let finding = Finding::new(format!(
                "{start}: {name} held {}. The oom_score_adj of the victim was {victims}, that of {name} {hogs}.",
                text::bytes(held(&hog.memory))
            ))
            .proven();
            match hogs < victims {
                true => finding
                    .cause(
                        "The OOM killer takes the process with the highest score, and oom_score_adj made the \
                         victim's higher.",
                        Confidence::Likely,
                    )
                    .or(format!("{name} was ending already")),
                false => finding.fact_alone(),
            }
            .remedy("Correct oom_score_adj, so that the process with the memory is chosen, or limit that one.")
        }
        (None, Some(makeup)) => {
            let (kind, bytes) = makeup.largest();
            let mapped = percent(kill.oom.memory.file_bytes, usage) > LITTLE;
            if kind == ANON || kind == FILE && mapped {
                return None;
            }
            Finding::new(format!(
                "{start}: {} ({}%) was {kind}, which ends with no process.",
                text::bytes(bytes),
                makeup.percent(bytes)
            ))
            .proven()
            .fact_alone()
            .remedy("Look for what the memory is made of; the victim is not the cause.")
        }
        (None, None) => Finding::new(format!("{start}."))
            .proven()
            .fact_alone()
            .remedy("Look at the other processes, at files in tmpfs and at the kernel's memory."),
    };
    let finding = finding.shown_by(
        kill.event,
        format!("it held {} at that moment", text::bytes(had)),
    );
    Some(match makeup {
        Some(makeup) => makeup.show(finding),
        None => finding,
    })
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

const DELETE: &str =
    "Give the tmpfs a size below the memory limit (size=), delete files, or put them on a disk";

fn shmem(look: &Look<'_>, kill: &Kill<'_>, makeup: &Makeup<'_>) -> Option<Finding> {
    let case = look.case;
    let bytes = makeup.kinds.shmem;
    if makeup.percent(bytes) < MOST {
        return None;
    }
    let amount = format!(
        "{} was OOM-killed: of the {} in use, {} ({}%) was {SHMEM}",
        kill.name(case),
        text::bytes(makeup.usage_bytes),
        text::bytes(bytes),
        makeup.percent(bytes)
    );
    let mapped = makeup.mapped_shmem().max(kill.oom.memory.shmem_bytes);
    // The victims' own is gone by then.
    let last = look.kills.last().map_or(0, |last| last.event.time_ns);
    let after = case
        .memory_samples()
        .find(|(event, _)| event.time_ns > last + GONE_NS)
        .filter(|(_, sample)| sample.kinds.shmem >= bytes / 10 * 9);
    let stayed = match after {
        Some((_, sample)) => format!(
            " {} was still there after the last kill.",
            text::bytes(sample.kinds.shmem)
        ),
        None => String::new(),
    };
    let unmapped = match (mapped, makeup.processes.is_empty()) {
        (0, false) => "No process had any of it mapped".to_owned(),
        (_, false) => format!(
            "No process had more than {} of it mapped",
            text::bytes(mapped)
        ),
        (_, true) => format!("The victim had {} of it mapped", text::bytes(mapped)),
    };
    let purpose = Purpose::of(kill.oom);
    let writing = purpose == Purpose::TmpfsWrite || purpose == Purpose::Unknown && did_it(kill);
    let trigger = case.task_name(&kill.event.task);
    let places = match tmpfs(case) {
        mounts if mounts.is_empty() => "df -t tmpfs shows them".to_owned(),
        mounts => format!("look at {}", mounts.join(", ")),
    };
    let finding = if mapped >= bytes / 2 {
        Finding::new(format!(
            "{amount}; one process had {} of it mapped.{stayed}",
            text::bytes(mapped)
        ))
        .fact_alone()
        .remedy(match after {
            Some(_) => format!(
                "What stays after its last user is a file in tmpfs or a SysV segment: delete the file ({places}), or \
                 remove the segment (ipcs -m, ipcrm)."
            ),
            None => "Map less shared memory (MAP_SHARED, memfd_create(2), shm_open(3), shmat(2)), or give the jail more than it maps: \
                     such pages count in full for whoever touches them first, and cannot be dropped."
                .to_owned(),
        })
    } else if writing {
        Finding::new(format!(
            "{amount}, and {trigger} was writing to a file in tmpfs when the limit was hit. {unmapped}.{stayed}"
        ))
        .cause(
            format!("Files in tmpfs, which {trigger} wrote."),
            Confidence::Likely,
        )
        .or("files in tmpfs that others wrote before")
        .remedy(format!(
            "{DELETE}: {places}. No kill frees them, and starting the program again fails again while they are \
             there."
        ))
    } else if purpose == Purpose::SharedMemory {
        Finding::new(format!(
            "{amount}, and {trigger} was touching such memory, mapped, when the limit was hit. {unmapped}.{stayed}"
        ))
        .cause(
            "Shared memory segments that were filled and then detached, but not removed: SysV's (shmget(2)).",
            Confidence::Likely,
        )
        .or("files in tmpfs (shm_open(3) makes them in /dev/shm) that were mapped, filled and unmapped")
        .remedy(format!(
            "{SEGMENTS}, and shmctl(2) with IPC_RMID right after shmat(2) lets one end with its last user. Of files, \
             delete those that are no longer used: {places}."
        ))
    } else {
        Finding::new(format!("{amount}. {unmapped}.{stayed}"))
            .cause(
                "Files in tmpfs (those of /dev/shm and of memfd_create(2) too), or SysV segments: both stay although \
                 no process has them mapped.",
                Confidence::Likely,
            )
            .or("memory of a process that this trace does not show")
            .remedy(format!("{DELETE}: {places}. {SEGMENTS}."))
    };
    let finding = finding.proven().shown_by(
        kill.event,
        format!(
            "{} was killed for it, and had {} of shared memory mapped",
            kill.name(case),
            text::bytes(kill.oom.memory.shmem_bytes)
        ),
    );
    let finding = makeup.show(finding);
    Some(match after {
        Some((event, sample)) => finding.shown_by(
            event,
            format!("{} after the kill", text::bytes(sample.kinds.shmem)),
        ),
        None => finding,
    })
}

/// What to do about segments, which no file system shows.
const SEGMENTS: &str =
    "Of SysV segments, remove those that are no longer used: ipcs -m lists them, ipcrm removes one";

/// Where the jail has tmpfs mounts of its own: made with it, or by the program.
fn tmpfs(case: &Case) -> Vec<String> {
    let made = case
        .header
        .plan()
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
        .map(text::escape)
        .collect()
}

/// Without a sample: tmpfs was mounted, those who died had next to nothing, and the limit stayed full.
fn shmem_by_the_victims(look: &Look<'_>, kill: &Kill<'_>) -> Option<Finding> {
    let case = look.case;
    let mounts = tmpfs(case);
    let limited = || {
        let kills = look.kills.iter();
        kills.filter(|kill| matches!(kill.limit, Limit::Own(_) | Limit::Above(_)))
    };
    let little = |kill: &Kill<'_>| percent(kill.victim_bytes(), kill.usage_bytes()) <= LITTLE;
    if mounts.is_empty() || !limited().all(little) || alike(case, kill) >= ALIKE {
        return None;
    }
    let fact = "The limit was full of memory that no victim held.";
    let finding = limited().take(3).fold(Finding::new(fact), |finding, kill| {
        finding.shown_by(
            kill.event,
            format!(
                "{} held {} when {} was in use",
                kill.name(case),
                text::bytes(kill.victim_bytes()),
                text::bytes(kill.usage_bytes())
            ),
        )
    });
    Some(
        finding
            .proven()
            .cause(
                format!("Files in tmpfs ({}).", mounts.join(", ")),
                Confidence::ConsistentWith,
            )
            .or("memory of other processes")
            .or("the kernel's own memory")
            .remedy(format!("{DELETE}: look at {}.", mounts.join(", "))),
    )
}

const UNLOCK: &str = "Lock less (mlock(2), MAP_LOCKED): locked files cannot be dropped.";

fn mapped_files(case: &Case, kill: &Kill<'_>) -> Option<Finding> {
    let mapped = kill.oom.memory.file_bytes;
    let heap = percent(own(&kill.oom.memory), kill.usage_bytes());
    if percent(mapped, kill.usage_bytes()) < MOST || heap >= MOST {
        return None;
    }
    Some(
        Finding::new(format!(
            "{} had mapped {} of files while {} was in use.",
            kill.name(case),
            text::bytes(mapped),
            text::bytes(kill.usage_bytes())
        ))
        .proven()
        .shown_by(kill.event, format!("{} of files mapped", text::bytes(mapped)))
        .cause("Files that could not be dropped, as they are locked.", Confidence::ConsistentWith)
        .or("files that are charged to another cgroup, and other memory that this trace does not show")
        .remedy(UNLOCK),
    )
}

fn page_cache(makeup: &Makeup<'_>) -> Option<Finding> {
    let cache = makeup.kinds.file.saturating_sub(makeup.kinds.shmem);
    let waiting = makeup
        .kinds
        .file_dirty
        .saturating_add(makeup.kinds.file_writeback);
    let locked = makeup.kinds.unevictable.min(cache);
    // Clean pages go first: a cache that is mostly clean killed nobody.
    if makeup.percent(cache) < MOST || waiting.max(locked) < cache / 2 {
        return None;
    }
    let (why, bytes, remedy) = match locked >= waiting {
        true => ("was locked or pinned", locked, UNLOCK),
        false => (
            "was waiting to be written to disk",
            waiting,
            "Write less at a time or more often (fsync(2), vm.dirty_bytes), or use a faster disk.",
        ),
    };
    Some(
        makeup
            .show(Finding::new(format!(
                "Of the {} in use, {} ({}%) was {FILE}, of which {} {why} and could not be dropped.",
                text::bytes(makeup.usage_bytes),
                text::bytes(cache),
                makeup.percent(cache),
                text::bytes(bytes)
            )))
            .not(
                "page cache that merely counts against the limit",
                "clean cache is dropped before anything is killed; this is not clean",
            )
            .proven()
            .not(
                "files that are charged to another cgroup",
                "the kernel counts these against this one",
            )
            .remedy(remedy),
    )
}

fn swap(case: &Case, kill: &Kill<'_>) -> Option<Finding> {
    let level = kill.level()?;
    let limit = level.swap_limit_bytes?;
    // v1 counts memory and swap together, v2 swap alone.
    let together = case.cgroup_v1();
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
        return None;
    }
    let mut finding = Finding::new(format!(
        "The memory limit was hit, and the jail may use no more than {} of swap ({} used), although the \
         machine has swap.",
        text::bytes(may),
        text::bytes(used)
    ))
    .shown_by(
        kill.event,
        format!(
            "swap {} of {} at the kill",
            text::bytes(used),
            text::bytes(may)
        ),
    );
    if wanted {
        finding = finding.fact("the counter memory.swap.events max rose: more was refused");
    }
    if together {
        finding =
            finding.fact("cgroup v1 limits memory and swap together (memory.memsw.limit_in_bytes)");
    }
    finding = finding.not(
        "a limit of another group",
        "the group is the one whose limit was hit",
    );
    Some(finding.proven().remedy(
        "Raise --swap, or accept it: a jail that swaps is slow, one that may not is killed.",
    ))
}
