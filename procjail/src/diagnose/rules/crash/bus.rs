//! SIGBUS: a page of a mapping has nothing behind it.

use super::{Crash, alike, crashes, faults, ids, names, thread};
use crate::diagnose::{Case, Finding};
use crate::event::{Event, What};
use crate::render;

/// `BUS_ADRERR`, `BUS_MCEERR_AR` and `BUS_MCEERR_AO` of sigaction(2).
const BUS_ADRERR: i32 = 2;
const BUS_MCEERR_AR: i32 = 4;
const BUS_MCEERR_AO: i32 = 5;

/// What the trace has on a tmpfs that may be full.
struct Full<'a> {
    /// In words, where it lies.
    what: String,
    /// What tells so.
    event: Option<&'a Event>,
    /// A write there was refused.
    refused: bool,
}

/// A tmpfs of the jail with a size: the plan's, or one that was mounted later; better a call that was
/// refused for want of room.
fn full(case: &Case) -> Option<Full<'_>> {
    let refused = case
        .each(|what| match what {
            What::FailedCalls(failed) => failed
                .calls
                .iter()
                .rev()
                .find(|call| call.error.number == libc::ENOSPC),
            _ => None,
        })
        .next();
    let planned = case
        .header
        .jail
        .plan
        .iter()
        .find(|step| step.contains("tmpfs"))
        .map(|step| render::escape(step));
    let mounted = case
        .each(|what| match what {
            What::Mount(mount) if mount.fs_type == "tmpfs" && mount.error.is_none() => Some(mount),
            _ => None,
        })
        .last();
    let refused_by = refused.map(|(event, _)| event);
    match (planned, mounted) {
        (Some(step), _) => Some(Full {
            what: format!("the jail has a tmpfs of its own: {step}"),
            event: refused_by,
            refused: refused.is_some(),
        }),
        (None, Some((event, mount))) => Some(Full {
            what: format!("a tmpfs was mounted at {}", render::escape(&mount.target)),
            event: refused_by.or(Some(event)),
            refused: refused.is_some(),
        }),
        (None, None) => refused.map(|(event, _)| Full {
            what: "a write was refused for want of room".to_owned(),
            event: Some(event),
            refused: true,
        }),
    }
}

fn without_page(case: &Case) -> Vec<Vec<Crash<'_>>> {
    let mut crashes = faults(case, libc::SIGBUS);
    crashes.retain(|crash| crash.signal.code.number == BUS_ADRERR);
    alike(case, crashes, |_| ())
}

fn found(case: &Case, group: &[Crash<'_>], why: &str, fix: &str) -> Option<Finding> {
    let first = group.first()?;
    let place = first
        .signal
        .fault
        .as_ref()
        .map_or_else(String::new, |fault| format!(" at 0x{:x}", fault.address));
    Some(
        Finding::new(format!(
            "{} crashed{}: it touched a page{place} of a mapped file that the kernel could not provide \
             (SIGBUS, which a shell reports as 135): {why}.",
            names(case, &ids(group)),
            thread(first),
        ))
        .consistent()
        .about(ids(group))
        .shown_by(
            first.event,
            format!("a fault of the processor: {}", first.signal.code.name),
        )
        .not("bad memory of the machine", "that has codes of its own (BUS_MCEERR_AR, BUS_MCEERR_AO)")
        .remedy(fix),
    )
}

pub(super) fn shm_full(case: &Case) -> Vec<Finding> {
    let Some(full) = full(case) else {
        return Vec::new();
    };
    without_page(case)
        .iter()
        .filter_map(|group| {
            let finding = found(
                case,
                group,
                "most likely its tmpfs, such as /dev/shm, is full",
                "Give the tmpfs more room (containers get 64 MiB of /dev/shm unless told otherwise), or use \
                 less; posix_fallocate(3) before mapping turns the crash into an error. If the tmpfs has \
                 room, the file was cut short while it was mapped.",
            )?;
            let finding = match full.event {
                Some(event) => finding.shown_by(event, full.what.clone()),
                None => finding.fact(full.what.clone()),
            };
            Some(match full.refused {
                true => finding.confidence(crate::diagnose::Confidence::Likely),
                false => finding,
            })
        })
        .collect()
}

pub(super) fn truncated(case: &Case) -> Vec<Finding> {
    if full(case).is_some() {
        return Vec::new();
    }
    without_page(case)
        .iter()
        .filter_map(|group| {
            let finding = found(
                case,
                group,
                "most likely the file is shorter than the mapping, as somebody cut it",
                "Don't cut or rewrite files in place while others have them mapped: write a new file and \
                 rename it. Databases, indexes and log files that are copied over are the usual ones. A disk \
                 that fails to be read, or exhausted huge pages, look the same.",
            )?;
            Some(finding.not(
                "a full tmpfs",
                "the jail has no tmpfs of its own, and no write failed for want of room",
            ))
        })
        .collect()
}

pub(super) fn poisoned(case: &Case) -> Vec<Finding> {
    let mut crashes = crashes(case, libc::SIGBUS);
    crashes.retain(|crash| {
        matches!(crash.signal.code.number, BUS_MCEERR_AR | BUS_MCEERR_AO)
            && crash.event.task.pid == crash.signal.target.pid
            || crash.event.task.pid == 0 && crash.signal.code.number == BUS_MCEERR_AO
    });
    let log = case
        .each(|what| match what {
            What::KernelMessage(message) if is_about_bad_memory(&message.text) => Some(message),
            _ => None,
        })
        .next();
    alike(case, crashes, |_| ())
        .iter()
        .filter_map(|group| {
            let first = group.first()?;
            let finding = Finding::new(format!(
                "{} was ended because the machine's memory is bad: it had its data in a page with an error \
                 that cannot be corrected.",
                names(case, &ids(group))
            ))
            .about(ids(group))
            .shown_by(first.event, format!("SIGBUS with {}", first.signal.code.name))
            .not("a truncated file or a full tmpfs", "these have the code BUS_ADRERR")
            .remedy("Take the machine out of service and replace the memory module that its log names.");
            Some(match log {
                Some((event, message)) => finding
                    .shown_by(event, render::escape(&message.text))
                    .proven(),
                None => finding.consistent(),
            })
        })
        .collect()
}

fn is_about_bad_memory(text: &str) -> bool {
    text.contains("Memory failure") || text.contains("hardware memory corruption")
}
