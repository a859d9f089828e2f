//! The end of a stop by force.

use super::{Death, deaths, shown, victims};
use crate::diagnose::rules::stop::attempt::Attempt;
use crate::diagnose::{Case, Finding, Follows, Origin, ProcessId};
use crate::render;

/// A stop signal, then SIGKILL. Why the stop took so long is another verdict, from which this follows.
pub(super) fn after_grace(case: &Case) -> Vec<Finding> {
    let Some(attempt) = Attempt::of(case) else {
        return Vec::new();
    };
    let Some(forced) = attempt.forced else {
        return Vec::new();
    };
    // The stop signal itself was SIGKILL, or there was no time: nothing was waited for.
    if attempt
        .kill
        .is_some_and(|(_, kill)| kill.reason == "stop-signal")
        || attempt
            .request
            .is_some_and(|request| request.timeout_ns == 0)
    {
        return Vec::new();
    }
    let deaths = deaths(case);
    let same: Vec<&Death<'_>> = deaths
        .iter()
        .filter(|death| {
            death.event.task.pid == forced.task.pid
                && death.signal.signal.number == libc::SIGKILL
                && death.event.time_ns >= attempt.asked.time_ns
                && matches!(death.origin, Origin::Process | Origin::CgroupKill)
        })
        .collect();
    let others: Vec<ProcessId> = victims(&same)
        .into_iter()
        .filter(|id| *id != attempt.pid1)
        .collect();
    let by_launcher = case.is_launcher(&forced.task);
    let stopper = match (&attempt.request, by_launcher) {
        (Some(_), true) => "procjail".to_owned(),
        _ => case.who(&attempt.asked.task),
    };
    let lasted = render::duration(attempt.lasted_ns(case));
    let signal = render::escape(&attempt.signal.name);
    let all: Vec<ProcessId> = std::iter::once(attempt.pid1).chain(others).collect();
    let from = match by_launcher || forced.task.pid == attempt.asked.task.pid {
        true => String::new(),
        false => format!(" from {}", case.who(&forced.task)),
    };
    let at = case.at(attempt.asked);
    let end = match attempt.kill {
        Some((_, kill)) if kill.reason == "second-signal" => {
            "at a second request, before the stop window was over"
        }
        Some(_) => "when the stop window was over",
        None => "as it still ran",
    };
    let verdict = format!(
        "Stopped by {stopper}: asked at {at} ({signal}), then SIGKILL{from} to {} {lasted} later, {end}.",
        case.names(&all)
    );
    let mut finding = Finding::new(verdict)
        .proven()
        .about(all)
        .follows(Follows::Process(attempt.pid1))
        .shown_by(attempt.asked, format!("{signal} was asked for"));
    finding = shown(
        case,
        finding,
        &same,
        &format!(", from {}", case.task_name(&forced.task)),
    );
    if let Some((event, kill)) = attempt.kill {
        finding = finding.shown_by(
            event,
            format!(
                "procjail killed the jail ({}, by {})",
                render::escape(&kill.reason),
                render::escape(&kill.method)
            ),
        );
    }
    vec![
        finding
            .at(forced.time_ns)
            .not("an OOM kill", "the SIGKILL comes from who asked for the stop, not from the kernel")
            .relies_on_all(&["oom-kill"])
            .remedy("See why the program did not stop in time; a longer stop window helps only one that is slow."),
    ]
}

/// Whether a death is the forced end of a stop.
pub(super) fn is_grace(case: &Case, attempt: Option<&Attempt<'_>>, death: &Death<'_>) -> bool {
    case.is_launcher(&death.event.task)
        || attempt.is_some_and(|attempt| {
            attempt
                .forced
                .is_some_and(|forced| forced.task.pid == death.event.task.pid)
                && death.event.time_ns >= attempt.asked.time_ns
        })
}
