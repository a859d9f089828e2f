//! The end of a stop by force.

use super::{Death, OOM_KILL, deaths, shown, victims};
use crate::diagnose::rules::stop::attempt::Attempt;
use crate::diagnose::{Case, Confidence, Finding, Follows, Origin, ProcessId};
use crate::event::{Event, SignalGenerated, What};
use crate::text;

/// Who a second request could be from as well.
pub(super) const ANOTHER: &str = "somebody else, who asked at the same moment";

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
    let lasted = text::duration(attempt.lasted_ns(case));
    let signal = text::escape(&attempt.signal.name);
    let all: Vec<ProcessId> = std::iter::once(attempt.pid1).chain(others).collect();
    let from = match by_launcher || forced.task.pid == attempt.asked.task.pid {
        true => String::new(),
        // The same tool once more, as runc(8) for each signal.
        false if forced.task.comm == attempt.asked.task.comm => {
            format!(" from {}", case.task_name(&forced.task))
        }
        false => format!(" from {}", case.who(&forced.task)),
    };
    let at = case.at(attempt.asked);
    let end = match attempt.kill {
        Some((_, kill)) if kill.reason == "second-signal" => {
            "at a second request, before the grace period expired"
        }
        Some(_) => "when the grace period expired",
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
    if let Some((event, signal)) = second_request(case, &attempt) {
        let who = case.task_name(&event.task);
        let name = text::escape(&signal.signal.name);
        finding = finding
            .shown_by(event, format!("{who} sent {name} to its process group"))
            .cause(
                format!("{who} sent {name} to its process group, which procjail is in: that was the second request."),
                Confidence::Likely,
            )
            .or(ANOTHER);
    }
    if let Some((event, kill)) = attempt.kill {
        if kill.reason != "second-signal" {
            finding = finding.not(ANOTHER, "procjail did not kill it at a second request");
        }
        finding = finding.shown_by(
            event,
            format!(
                "procjail killed the jail ({}, by {})",
                text::escape(&kill.reason),
                text::escape(&kill.method)
            ),
        );
    }
    vec![
        finding
            .at(forced.time_ns)
            .not(OOM_KILL, "the SIGKILL comes from who asked for the stop, not from the kernel")
            .fact_alone()
            .relies_on_all(&["oom-kill"])
            .remedy("See why the program did not stop in time; a longer grace period helps only one that is slow."),
    ]
}

/// A signal inside the jail that procjail took for a second request, as it was in the same process group: the sender
/// got it too.
fn second_request<'a>(
    case: &'a Case,
    attempt: &Attempt<'_>,
) -> Option<(&'a Event, &'a SignalGenerated)> {
    const TOGETHER_NS: u64 = 20_000_000;
    attempt
        .kill
        .filter(|(_, kill)| kill.reason == "second-signal")?;
    let (again, request) = case
        .each(|what| match what {
            What::StopRequested(request) => Some(request),
            _ => None,
        })
        .nth(1)?;
    case.signals().find(|(event, signal)| {
        event.task.in_jail
            && signal.signal.number == request.signal.number
            && case.process_of(&signal.target) == case.process_of(&event.task)
            && case.origin(event, signal) == Origin::Itself
            && again.time_ns.abs_diff(event.time_ns) <= TOGETHER_NS
    })
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
