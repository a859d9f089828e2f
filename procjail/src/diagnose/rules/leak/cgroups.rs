//! Cgroups that a jail leaves, as directories or as what stays charged to them.

use super::{GOES_BY_ITSELF, WRITTEN_BY_OTHERS, who};
use crate::diagnose::{Case, Confidence, Finding};
use crate::event::{Event, GrownTmpfs, LeakCheck, Moment, What};
use crate::text;

/// Less is noise: single pages come and go.
const CHARGED_BYTES: u64 = 64 << 10;

/// A launcher holds a lock on its jail's cgroup, which the kernel drops with it: whoever is in a cgroup
/// without a lock was left behind.
pub(super) fn leftover(case: &Case) -> Vec<Finding> {
    let found = case.each(|what| match what {
        What::Leftover(left) if left.process_count > 0 => Some(left),
        _ => None,
    });
    found
        .map(|(event, left)| {
            let own = left.name == case.header.jail.name;
            let whose = match own {
                true => "the previous run of this jail".to_owned(),
                false => format!("an earlier run of jail {}", text::escape(&left.name)),
            };
            let oldest = left
                .processes
                .iter()
                .filter(|task| task.start_ns > 0)
                .map(|task| event.time_ns.saturating_sub(task.start_ns))
                .max();
            let age = oldest.map_or_else(String::new, |age| match left.process_count {
                1 => format!(", {} old,", text::duration(age)),
                _ => format!(", up to {} old,", text::duration(age)),
            });
            let (were, them, it) = match left.process_count {
                1 => ("was", "it", "It"),
                _ => ("were", "them", "They"),
            };
            let gone = match left.removed {
                true => format!("procjail killed {them} before it started the jail"),
                false => format!("procjail sent {them} SIGKILL, but had not seen {them} end when it started the jail"),
            };
            let names = who(&left.processes, left.process_count);
            let finding = Finding::new(format!(
                "{names}{age} {were} left over from {whose}, whose launcher had died; {gone}."
            ))
            .proven()
            .shown_by(
                event,
                format!(
                    "{} in {}, whose lock no launcher held any more",
                    text::plural(left.process_count, "process", "processes"),
                    text::escape(&left.cgroup)
                ),
            )
            .not(
                "a jail that is running",
                "its launcher would hold the lock of that cgroup",
            )
            .remedy(format!(
                "{} A jail's own processes die with its launcher. {it} had joined its cgroup from outside (an exec \
                 session, a monitoring agent) and should be ended with the jail. Find out why that launcher was \
                 killed. With other runtimes, kill what is in the cgroup before a start (KillMode=control-group of \
                 systemd.kill(5)).",
                match left.removed {
                    true => "Nothing to do for this run.",
                    false =>
                        "Check whether it has ended (procjail clean): until then it may hold ports, locks and files \
                         that this run needs.",
                }
            ));
            // Another jail's is not this run's story.
            match own {
                true => finding,
                false => finding.note(),
            }
        })
        .collect()
}

/// A removed memory cgroup stays in the kernel as long as a page is charged to it.
pub(super) fn dying(case: &Case, event: &Event, check: &LeakCheck) -> Option<Finding> {
    let (sampled, sample) = case
        .memory_samples()
        .filter(|(_, sample)| sample.moment == Moment::End)
        .last()?;
    // All processes are gone: what is still charged as shared memory are files of a tmpfs, System V
    // segments or memfds that live elsewhere. A left cgroup is another matter.
    let charged = sample.kinds.shmem;
    if charged < CHARGED_BYTES || !check.cgroups.is_empty() || sample.usage_bytes < CHARGED_BYTES {
        return None;
    }
    // A tmpfs of the host that kept about as much. Where none did, the kernel frees it with the jail's own.
    let kept = |one: &&GrownTmpfs| one.after_bytes.saturating_sub(one.before_bytes) >= charged / 2;
    let grown = match &check.grown {
        Some(grown) => Some(grown.iter().find(kept)?),
        None => None,
    };
    let mut finding = Finding::new(format!(
        "The jail's memory cgroup was removed with {} of shared memory (tmpfs files, System V segments, memfds) \
         charged to it. The kernel keeps a removed memory cgroup until such memory is freed.",
        text::bytes(charged)
    ))
    .proven()
    .shown_by(sampled, "charged when no process was left in it")
    .shown_by(event, "every cgroup directory of the jail is removed")
    .not("page cache", "only shared memory was counted, which reclaim can't drop")
    .cause(
        match grown {
            Some(one) => format!(
                "Files that the jail wrote to {}, a tmpfs of the host, are still there.",
                text::escape(&one.target)
            ),
            None => "Files that the jail wrote to a tmpfs of the host are still there.".to_owned(),
        },
        match grown {
            Some(_) => Confidence::Likely,
            None => Confidence::ConsistentWith,
        },
    )
    .or(WRITTEN_BY_OTHERS)
    .or(GOES_BY_ITSELF)
    .remedy(
        "Delete the files (/dev/shm, /tmp and other tmpfs that the jail shares with the host), or give the jail a \
         --tmpfs of its own, which goes with it. Many such cgroups slow the whole host down.",
    );
    if let Some(one) = grown {
        finding = finding.fact(format!(
            "{} holds {}; before the jail it was {}",
            text::escape(&one.target),
            text::bytes(one.after_bytes),
            text::bytes(one.before_bytes)
        ));
    }
    for dying in &check.dying {
        let whose = match dying.controller.as_str() {
            "" => "removed cgroups that the kernel keeps, of the whole host".to_owned(),
            controller => format!("cgroups of the {} hierarchy", text::escape(controller)),
        };
        finding = finding.fact(format!(
            "{whose}: {} before, {} after",
            dying.before, dying.after
        ));
    }
    Some(finding)
}
