//! Killed by the kernel, for reasons other than memory, faults and limits.

use super::{Death, OOM_KILL, deaths, grouped, shown, victims, was};
use crate::diagnose::{Case, Finding, Follows, Origin};
use crate::event::What;
use crate::text;

/// The end of PID 1 is the end of all in its namespace (`zap_pid_ns_processes()` in
/// kernel/pid_namespace.c).
pub(super) fn namespace_end(case: &Case) -> Vec<Finding> {
    let deaths = deaths(case);
    let ended: Vec<&Death<'_>> = deaths
        .iter()
        .filter(|death| death.origin == Origin::PidNamespaceEnd)
        .collect();
    let Some(first) = ended.first() else {
        return Vec::new();
    };
    let ids = victims(&ended);
    let Some(pid1) = case.process_of(&first.event.task) else {
        return Vec::new();
    };
    let how = case
        .status(pid1)
        .map_or_else(|| "ended".to_owned(), |status| case.did_end(status));
    let verdict = format!(
        "{} {} not killed for anything of {} own: {} {how}; the kernel kills all that are left in the PID \
         namespace then.",
        case.names(&ids),
        was(ids.len()),
        if ids.len() == 1 { "its" } else { "their" },
        case.name(pid1)
    );
    let mut finding = Finding::new(verdict)
        .proven()
        .about(ids.iter().copied())
        .follows(Follows::Rule("kill-after-grace"))
        .follows(Follows::Process(pid1));
    if let Some((event, _)) = case.exit(pid1) {
        finding = finding.shown_by(event, format!("{} {how}", case.name(pid1)));
    }
    let finding = shown(case, finding, &ended, ", from the kernel, in PID 1's end")
        .at(first.event.time_ns)
        .not(OOM_KILL, "the OOM killer chose none of them")
        .not("a kill by a process", "the signals come from the kernel, under PID 1's name as it ends")
        .relies_on_all(&["oom-kill"])
        .remedy("PID 1 should stop its processes and wait for them before it ends; look at why it ended.");
    vec![finding]
}

/// PR_SET_PDEATHSIG is about the thread that made the process, not about its process.
pub(super) fn parent_death(case: &Case) -> Vec<Finding> {
    let deaths = deaths(case);
    let orphaned = deaths
        .iter()
        .filter(|death| death.origin == Origin::ParentDeath);
    grouped(orphaned, |death| death.event.task.tid)
        .into_iter()
        .filter_map(|group| {
            let first = *group.first()?;
            let ids = victims(&group);
            let parent = case.process_of(&first.event.task)?;
            let name = text::escape(&first.signal.signal.name);
            let lives = case
                .exit(parent)
                .is_none_or(|(event, _)| event.task.tid != first.event.task.tid);
            let who = case.name(parent);
            let (what, fix) = match lives {
                true => (
                    format!(
                        "thread {} of {who} ended, although the process lives on",
                        first.event.task.tid
                    ),
                    "Keep the thread that starts such processes alive for as long as they run: the parent of \
                     PR_SET_PDEATHSIG is a thread (Go: runtime.LockOSThread; pools: a thread of its own).",
                ),
                false => (
                    format!("its parent {who} ended"),
                    "It set a parent-death signal (PR_SET_PDEATHSIG); look at why the parent ended.",
                ),
            };
            let verdict = format!(
                "{} {} ended by the parent-death signal {name}: {what}.",
                case.names(&ids),
                was(ids.len())
            );
            let mut finding = Finding::new(verdict).proven().about(ids.iter().copied());
            if !lives {
                finding = finding.follows(Follows::Process(parent));
            }
            finding = shown(
                case,
                finding,
                &group,
                ", from the thread that made it, as that ends",
            );
            if let Some((event, _)) = case.exit(parent).filter(|_| lives) {
                finding = finding.shown_by(event, format!("{who} ended later only"));
            }
            Some(
                finding
                    .not("a kill by the parent", "the sender was ending, and not in kill(2)")
                    .not(OOM_KILL, "the signal does not come from the OOM killer")
                    .remedy(fix),
            )
        })
        .collect()
}

/// The kernel's SIGKILL from a task that ends, is not PID 1, and that is all the trace has.
fn looks_like_tracer(death: &Death<'_>) -> bool {
    death.origin == Origin::Kernel
        && death.signal.signal.number == libc::SIGKILL
        && death.signal.sender_exiting
        && !death.signal.group
        && death.event.task.pid != death.signal.target.pid
}

/// PTRACE_O_EXITKILL (`exit_ptrace()` in kernel/ptrace.c).
pub(super) fn tracer_end(case: &Case) -> Vec<Finding> {
    let deaths = deaths(case);
    let traced = deaths
        .iter()
        .filter(|death| death.origin == Origin::TracerEnd || looks_like_tracer(death));
    grouped(traced, |death| death.event.task.pid)
        .into_iter()
        .filter_map(|group| {
            let first = *group.first()?;
            let ids = victims(&group);
            let who = case.who(&first.event.task);
            let verdict = format!(
                "{} {} killed because {who}, which traced {}, ended (PTRACE_O_EXITKILL).",
                case.names(&ids),
                was(ids.len()),
                if ids.len() == 1 { "it" } else { "them" }
            );
            let mut finding = Finding::new(verdict).about(ids.iter().copied());
            if let Some(tracer) = case.process_of(&first.event.task) {
                finding = finding.follows(Follows::Process(tracer));
            }
            finding = match first.origin == Origin::TracerEnd {
                true => finding
                    .proven()
                    .fact("the sender was the tracer of its target"),
                false => finding
                    .fact("the sender was ending; whether it traced its target was not recorded"),
            };
            Some(
                shown(
                    case,
                    finding,
                    &group,
                    ", from the kernel, as the tracer ends",
                )
                .not(OOM_KILL, "the OOM killer chose none of them")
                .not("the end of the PID namespace", "the sender is not PID 1")
                .relies_on_all(&["oom-kill"])
                .remedy(
                    "Debuggers and sandboxes set PTRACE_O_EXITKILL. Detach before the tracer \
                         ends, or look at why it ended.",
                ),
            )
        })
        .collect()
}

/// None of the known reasons. What the kernel log has from about then may tell.
pub(super) fn other(case: &Case) -> Vec<Finding> {
    const NEAR_NS: u64 = 1_000_000_000;
    let deaths = deaths(case);
    let unknown: Vec<&Death<'_>> = deaths
        .iter()
        .filter(|death| {
            death.origin == Origin::Kernel
                && death.signal.signal.number == libc::SIGKILL
                && !looks_like_tracer(death)
        })
        .collect();
    let (Some(first), Some(last)) = (unknown.first(), unknown.last()) else {
        return Vec::new();
    };
    let ids = victims(&unknown);
    let verdict = format!(
        "{} {} killed by the kernel, and the trace does not tell why: it was not the OOM killer, not the end of \
         the PID namespace or of a tracer, and not the CPU limit.",
        case.names(&ids),
        was(ids.len())
    );
    let finding = Finding::new(verdict)
        .consistent()
        .about(ids.iter().copied());
    let mut finding = shown(case, finding, &unknown, ", from the kernel");
    let window = first.event.time_ns.saturating_sub(NEAR_NS)..=last.event.time_ns + NEAR_NS;
    let messages = case
        .each(|what| match what {
            What::KernelMessage(message) => Some(message),
            _ => None,
        })
        .filter(|(event, _)| window.contains(&event.time_ns))
        .take(5);
    for (event, message) in messages {
        finding = finding.shown_by(
            event,
            format!("kernel log: {}", text::escape(&message.text)),
        );
    }
    vec![
        finding
            .not(OOM_KILL, "the OOM killer chose none of them")
            .relies_on_all(&["oom-kill"])
            .remedy("Look at the kernel log around that time: the sysrq key, a bad page of memory, an exec that failed past \
                  the point of no return."),
    ]
}
