//! The stop signal was taken, by a handler or by waiting for it, and the process outlived the grace
//! period all the same.

use super::activity::{Activity, CHILD_WAITS, Place, is_in};
use super::attempt::Attempt;
use super::fate::{Fate, Holdout, last_look, looks, survivors, was_asked};
use super::programs::{Kind, kind};
use super::reached::SIGNALS;
use super::{ended, ends, finding, reload, repeats, target, unfinished, unsignalled, until};
use crate::diagnose::Tagged;
use crate::diagnose::{Case, Finding, ProcessId};
use crate::event::{CpuThrottling, Event, What};
use crate::text;

/// The process took the signal and outlived the grace period.
pub(super) fn outlived(case: &Case, attempt: &Attempt<'_>, holdout: &Holdout<'_>) -> Tagged {
    let untold: Vec<ProcessId> = survivors(case, attempt, holdout.process)
        .into_iter()
        .filter(|id| !was_asked(case, attempt, *id))
        .collect();
    let kind = kind(case, holdout.process);
    let told = passes_on(case, attempt, holdout.process);
    if let Some(throttled) = throttled(case, attempt, holdout) {
        return throttled;
    }
    if !told && !untold.is_empty() && holdout.is_pid1() && kind == Kind::Wrapper {
        return not_forwarding(case, attempt, &untold, |verdict| {
            ends(case, attempt, taken(case, attempt, holdout, verdict))
        });
    }
    if let Some(command) = foreground(case, attempt, holdout)
        && !told
        && kind == Kind::Shell
        && untold.contains(&command)
    {
        return ended::trap_deferred(case, attempt, holdout, command);
    }
    let activity = Activity::of(case, attempt, holdout);
    let waits = activity.main().is_some_and(|main| is_in(main, CHILD_WAITS));
    if !told
        && !untold.is_empty()
        && holdout.is_pid1()
        && waits
        && activity.place() == Some(Place::Same)
    {
        return not_forwarding(case, attempt, &untold, |fact| {
            ends(case, attempt, taken(case, attempt, holdout, fact))
        });
    }
    if let Some(reloaded) = reload::reloaded(case, attempt, holdout) {
        return reloaded;
    }
    let steps = progress(case, attempt, holdout);
    let half_ns = attempt.asked.time_ns + attempt.lasted_ns(case) / 2;
    let quiet = steps.iter().all(|event| event.time_ns < half_ns);
    if told
        && quiet
        && let Some(missed) = untold.first()
    {
        return target::missed(case, attempt, holdout, *missed);
    }
    match quiet {
        true => unfinished::why(case, attempt, holdout, &steps),
        false => slow(case, attempt, holdout, &steps),
    }
}

/// The child that a shell waits for: the last that it made, as a background job comes before it. None if the
/// shell was seen not to wait.
fn foreground(case: &Case, attempt: &Attempt<'_>, holdout: &Holdout<'_>) -> Option<ProcessId> {
    let activity = Activity::of(case, attempt, holdout);
    if activity
        .main()
        .is_some_and(|main| main.syscall.is_some() && !is_in(main, CHILD_WAITS))
    {
        return None;
    }
    let end_ns = attempt.end_ns(case);
    let children = &case.process(holdout.process).children;
    let left = children.iter().rev().find(|id| case.alive_at(**id, end_ns));
    left.copied()
}

/// A process sent signals on, within the attempt, to any other.
pub(super) fn passes_on(case: &Case, attempt: &Attempt<'_>, process: ProcessId) -> bool {
    case.sent(process).any(|(event, signal)| {
        attempt.spans(case, event)
            && signal.signal.number != libc::SIGCHLD
            && case.process_of(&signal.target) != Some(process)
    })
}

/// What a process got done from when the signal was taken until the end: threads of its own and processes below it
/// that were there before and ended. What came and went since then is no shutdown, nor is what ended beside it.
fn progress<'a>(case: &'a Case, attempt: &Attempt<'_>, holdout: &Holdout<'_>) -> Vec<&'a Event> {
    let from = holdout.since_ns(attempt);
    let to = attempt.end_ns(case);
    let within = |event: &Event| event.time_ns > from && event.time_ns < to;
    let mut steps: Vec<&Event> = case
        .deaths()
        .into_iter()
        .filter(|id| case.is_below(*id, holdout.process))
        .filter(|id| case.born_ns(*id) <= from && !repeats::in_rhythm(case, attempt, *id))
        .filter_map(|id| case.exit(id))
        .chain(case.thread_exits(holdout.process))
        .map(|(event, _)| event)
        .filter(|event| within(event))
        .collect();
    steps.sort_by_key(|event| event.seq);
    steps
}

/// [`finding`], with how the signal was taken.
pub(super) fn taken(
    case: &Case,
    attempt: &Attempt<'_>,
    holdout: &Holdout<'_>,
    verdict: String,
) -> Finding {
    let (_, name) = holdout.signal(attempt);
    let finding = finding(case, attempt, holdout, verdict, "");
    match &holdout.fate {
        Fate::Handled(event) | Fate::Reraised(event, _) => finding.shown_by(
            event,
            format!("{} ran its handler for {name}", case.name(holdout.process)),
        ),
        _ => finding.fact(format!(
            "{} waits for {name} (sigwait, signalfd) and took it: it is no longer pending",
            case.name(holdout.process)
        )),
    }
}

/// A wrapper that doesn't handle the signal, or does and keeps it to itself.
/// `start` makes the finding, with how it fared.
pub(super) fn not_forwarding(
    case: &Case,
    attempt: &Attempt<'_>,
    untold: &[ProcessId],
    start: impl FnOnce(String) -> Finding,
) -> Tagged {
    let signal = text::escape(&attempt.signal.name);
    let verdict = format!(
        "{} got {signal} and did not pass it on: {} never got a signal.{}",
        case.name(attempt.pid1),
        case.names(untold),
        until(case, attempt, untold.len() + 1)
    );
    let finding = start(verdict)
        .proven()
        .fact(unsignalled(case, untold))
        .not(
            "a program that ignores the signal",
            "it was never sent to the program",
        )
        .relies_on_all(SIGNALS)
        .remedy(
            "Run the program itself instead of the wrapper's command (`node server.js` for `npm start`), \
             or put an init that signals the whole group at PID 1 (tini -g, dumb-init).",
        );
    ("term-wrapper-not-forwarding", finding)
}

/// A shutdown under way.
fn slow(case: &Case, attempt: &Attempt<'_>, holdout: &Holdout<'_>, steps: &[&Event]) -> Tagged {
    let who = case.name(holdout.process);
    let left = survivors(case, attempt, holdout.process).len() as u64;
    let threads = steps
        .iter()
        .any(|step| matches!(&step.what, What::Exit(exit) if !exit.process));
    let done = match threads {
        true => text::plural(
            steps.len() as u64,
            "process or thread",
            "processes and threads",
        ),
        false => text::plural(steps.len() as u64, "process", "processes"),
    };
    let verdict = format!(
        "The shutdown of {who} was under way, but too slow: {done} had ended, {left} below it were left. {}.",
        attempt.killed(case, "They were")
    );
    let mut finding = taken(case, attempt, holdout, verdict);
    for step in steps.iter().take(2) {
        finding = finding.shown_by(step, format!("{} ended", case.task_name(&step.task)));
    }
    if let Some(last) = steps.last().filter(|_| steps.len() > 2) {
        finding = finding.shown_by(
            last,
            format!(
                "{} ended, the last before the kill",
                case.task_name(&last.task)
            ),
        );
    }
    let finding = ends(case, attempt, finding)
        .proven()
        .fact("whether it would have ended in the end can't be told")
        .not(
            "a program that does not react",
            "what it has to end went on ending until the kill",
        )
        .remedy(
            "Give it more time (procjail --stop-timeout, terminationGracePeriodSeconds), or make it faster: \
             end what is independent at the same time, not one after the other.",
        );
    ("term-slow-shutdown", finding)
}

/// The CPU limit held it back for most of the grace period.
pub(super) fn throttled(
    case: &Case,
    attempt: &Attempt<'_>,
    holdout: &Holdout<'_>,
) -> Option<Tagged> {
    let readings: Vec<(&Event, &CpuThrottling)> = looks(case, attempt)
        .filter_map(|(event, snapshot)| Some((event, snapshot.cpu.as_ref()?)))
        .collect();
    let ((from, before), (to, after)) = (readings.first()?, readings.last()?);
    let span_ns = to.time_ns.saturating_sub(from.time_ns);
    let periods = after.periods.saturating_sub(before.periods);
    let throttled = after
        .throttled_periods
        .saturating_sub(before.throttled_periods);
    let throttled_ns = after.throttled_ns.saturating_sub(before.throttled_ns);
    let used_ns = after.used_ns.saturating_sub(before.used_ns);
    if periods == 0 || throttled * 2 <= periods || throttled_ns * 2 <= span_ns {
        return None;
    }
    let who = case.name(holdout.process);
    let verdict = format!(
        "The shutdown of {who} got only {} of CPU time in {}: the CPU limit stopped it in {throttled} of \
         {periods} periods, for {}. {}.",
        text::duration(used_ns),
        text::duration(span_ns),
        text::duration(throttled_ns),
        attempt.killed(case, "It was")
    );
    let runs = last_look(case, attempt, holdout.process)
        .is_some_and(|(_, threads)| threads.iter().any(|thread| thread.state == "R"));
    let finding = match holdout.fate {
        Fate::Queued => finding(case, attempt, holdout, verdict, "queued"),
        _ => taken(case, attempt, holdout, verdict),
    };
    let limit = case
        .header
        .jail
        .limits
        .iter()
        .find(|(file, _)| file.starts_with("cpu.max") || file.starts_with("cpu.cfs_quota"));
    let mut finding = finding
        .shown_by(
            from,
            "the CPU limit's counters at the start of the grace period",
        )
        .shown_by(
            to,
            format!("{throttled} of {periods} periods throttled since"),
        );
    if let Some((file, value)) = limit {
        finding = finding.fact(format!(
            "the limit: {} = {}",
            text::escape(file),
            text::escape(value)
        ));
    }
    if runs {
        finding = finding.proven().not(
            "waiting for a disk, a lock or the network",
            "it has a thread that wants to run (state R)",
        );
    }
    let finding = ends(case, attempt, finding).remedy(
        "Raise the CPU limit (procjail --cpus, cpu.max), or allow bursts (cpu.max.burst): the shutdown needs CPU \
         time too.",
    );
    Some(("term-shutdown-cpu-throttled", finding))
}
