//! SIGBUS: a page of a mapping has nothing behind it.

use super::{Crash, alike, crashes, faults, ids, names, raised_again, show_raised, thread};
use crate::diagnose::{Case, Confidence, Finding};
use crate::event::{Event, What};
use crate::text;

/// `BUS_ADRERR`, `BUS_MCEERR_AR` and `BUS_MCEERR_AO` of sigaction(2).
const BUS_ADRERR: i32 = 2;
const BUS_MCEERR_AR: i32 = 4;
const BUS_MCEERR_AO: i32 = 5;

/// Another explanation.
const FULL: &str = "a full tmpfs of the jail's own";

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
        .plan()
        .iter()
        .find(|step| step.contains("tmpfs"))
        .map(|step| text::escape(step));
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
            what: format!("a tmpfs was mounted at {}", text::escape(&mount.target)),
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

/// `2 MiB`: where a huge page begins.
const HUGE_BYTES: u64 = 2 << 20;

/// What is known of such a crash: the kernel had no page for an address that is mapped. Of which kind the mapping is
/// the trace does not say.
fn found(case: &Case, group: &[Crash<'_>]) -> Option<Finding> {
    let first = group.first()?;
    let place = first
        .signal
        .fault
        .as_ref()
        .map_or_else(String::new, |fault| format!(" at 0x{:x}", fault.address));
    let finding = Finding::new(format!(
        "{} crashed{}: it touched mapped memory{place} for which the kernel had no page (SIGBUS, which a shell \
         reports as 135).{}",
        names(case, &ids(group)),
        thread(first),
        raised_again(case, first),
    ))
    .proven()
    .about(ids(group))
    .shown_by(
        first.event,
        format!("a fault of the processor: {}", first.signal.code.name),
    )
    .not(
        "bad memory of the machine",
        "that has codes of its own (BUS_MCEERR_AR, BUS_MCEERR_AO)",
    );
    Some(show_raised(case, first, finding))
}

const HUGE: &str = "anonymous huge pages (MAP_HUGETLB) of which none was left";

/// The first byte of a huge page was touched: such mappings begin there.
fn starts_huge(group: &[Crash<'_>]) -> bool {
    group
        .first()
        .and_then(|crash| crash.signal.fault.as_ref())
        .is_some_and(|fault| fault.address > 0 && fault.address % HUGE_BYTES == 0)
}

pub(super) fn shm_full(case: &Case) -> Vec<Finding> {
    let Some(full) = full(case) else {
        return Vec::new();
    };
    without_page(case)
        .iter()
        .filter_map(|group| {
            let finding = found(case, group)?
                .cause(
                    "The mapped file lies in a tmpfs, such as /dev/shm, and that is full.",
                    match full.refused {
                        true => Confidence::Likely,
                        false => Confidence::ConsistentWith,
                    },
                )
                .or("a file that was cut while it was mapped")
                .or(HUGE)
                .remedy(
                    "Give the tmpfs more room (containers get 64 MiB of /dev/shm unless told otherwise), or use \
                     less; posix_fallocate(3) before mapping turns the crash into an error.",
                );
            Some(match full.event {
                Some(event) => finding.shown_by(event, full.what.clone()),
                None => finding.fact(full.what.clone()),
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
            let mut finding = found(case, group)?;
            // What others mounted before the trace is unknown.
            finding = match case.is_launched() {
                true => finding.not(FULL, "the jail has none, and no write failed for want of room"),
                false => finding.or(FULL),
            };
            Some(match starts_huge(group) {
                true => finding
                    .cause(
                        "Anonymous huge pages (MAP_HUGETLB) of which none was left: the address is a multiple of 2 MiB.",
                        Confidence::ConsistentWith,
                    )
                    .or("a file that is shorter than its mapping, as somebody cut it")
                    .or("a disk that could not be read")
                    .remedy(
                        "See whether the program asks for huge pages (MAP_HUGETLB, hugetlbfs) and how many are left \
                         (HugePages_Free in /proc/meminfo, hugetlb limits of the cgroup).",
                    ),
                false => finding
                    .cause(
                        "A file that is shorter than its mapping, as somebody cut it.",
                        Confidence::ConsistentWith,
                    )
                    .or(HUGE)
                    .or("a full tmpfs that the jail shares with the host")
                    .or("a disk that could not be read")
                    .remedy(
                        "Don't cut or rewrite files in place while others have them mapped: write a new file and \
                         rename it. Databases, indexes and log files that are copied over are the usual ones.",
                    ),
            })
        })
        .collect()
}

const INJECTED: &str = "an error that was injected (madvise(2) with MADV_HWPOISON)";

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
                "{} was sent SIGBUS with the code of a memory error that the machine cannot correct.",
                names(case, &ids(group))
            ))
            .proven()
            .about(ids(group))
            .shown_by(first.event, format!("SIGBUS with {}", first.signal.code.name))
            .not("a truncated file or a full tmpfs", "these have the code BUS_ADRERR")
            .remedy("Take the machine out of service and replace the memory module that its log names.");
            Some(match log {
                Some((event, message)) => finding
                    .shown_by(event, text::escape(&message.text))
                    .cause(
                        "The machine's memory is bad: the kernel log names the page.",
                        Confidence::Likely,
                    )
                    .or(INJECTED),
                None => finding
                    .cause("The machine's memory is bad.", Confidence::ConsistentWith)
                    .or(INJECTED),
            })
        })
        .collect()
}

fn is_about_bad_memory(text: &str) -> bool {
    text.contains("Memory failure") || text.contains("hardware memory corruption")
}
