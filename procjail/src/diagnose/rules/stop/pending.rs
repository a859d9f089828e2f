//! The stop signal is queued, and the process can't come to take it.

use super::attempt::Attempt;
use super::fate::{Fate, Holdout, has, last_look, looks};
use super::reached::SIGNALS;
use super::{ends, finding, until};
use crate::diagnose::Tagged;
use crate::diagnose::{Case, Confidence, ProcessId};
use crate::event::{CgroupChange, SignalGenerated, SignalResult, What};
use crate::text;

/// Queued, and nobody came to take it.
pub(super) fn queued(case: &Case, attempt: &Attempt<'_>, holdout: &Holdout<'_>) -> Option<Tagged> {
    traced(case, attempt, holdout)
        .or_else(|| stopped(case, attempt, holdout))
        .or_else(|| uninterruptible(case, attempt, holdout))
        .or_else(|| super::handled::throttled(case, attempt, holdout))
}

/// A tracer holds it: a debugger gets a signal before the process does, and decides.
fn traced(case: &Case, attempt: &Attempt<'_>, holdout: &Holdout<'_>) -> Option<Tagged> {
    let process = holdout.process;
    let (event, threads) = last_look(case, attempt, process)?;
    let held = threads
        .iter()
        .find(|thread| thread.state == "t" && thread.tracer_pid != 0)?;
    let who = case.name(process);
    let (number, name) = holdout.signal(attempt);
    let tracer = case.process_by_pid(held.tracer_pid);
    let by = tracer.map_or_else(
        || format!("host PID {}", held.tracer_pid),
        |id| case.name(id),
    );
    let fact = format!(
        "{who} is traced by {by}, which has stopped it (state t), and {name} was not delivered.{}",
        until(case, attempt, 1)
    );
    let pending = threads.iter().any(|thread| has(&thread.pending, number));
    let mut finding = finding(case, attempt, holdout, fact, "queued")
        .proven()
        .shown_by(event, format!("{who} is in state t, with {by} as its tracer"))
        .cause(
            format!("The tracer holds the {name}: it gets a signal before the process does, and has not passed it on."),
            Confidence::Proven,
        );
    if !pending {
        finding = finding.not(
            BREAKPOINT,
            format!("{name} is no longer pending: the tracer was stopped at it"),
        );
    }
    let finding = ends(case, attempt, finding)
        .not("a blocked signal", "its mask lets it through")
        .relies_on_all(SIGNALS)
        .remedy(format!(
            "Let {by} continue or detach before the stop; in gdb, `handle {name} nostop pass`."
        ));
    Some(("term-held-by-tracer", finding))
}

/// The alternative of `term-held-by-tracer`.
pub(super) const BREAKPOINT: &str =
    "a stop at a breakpoint or a system call before the signal came";

/// Stopped by a signal, and not continued since.
fn stopped(case: &Case, attempt: &Attempt<'_>, holdout: &Holdout<'_>) -> Option<Tagged> {
    let process = holdout.process;
    let since = holdout.since_ns(attempt);
    let last = case
        .received(process)
        .rfind(|(event, signal)| {
            event.time_ns <= since
                && signal.result != SignalResult::Ignored
                && (stops(signal) || signal.signal.number == libc::SIGCONT)
        })
        .filter(|(_, signal)| stops(signal));
    let look = last_look(case, attempt, process).filter(|(_, threads)| {
        threads
            .iter()
            .all(|thread| matches!(thread.state.as_str(), "T" | "t"))
    });
    if last.is_none() && look.is_none() {
        return None;
    }
    let who = case.name(process);
    let (_, name) = holdout.signal(attempt);
    let by = last.map_or(String::new(), |(event, signal)| {
        let sender = match case.process_of(&event.task) == Some(process) {
            true => "itself".to_owned(),
            false => case.who(&event.task),
        };
        format!(" ({} from {sender})", text::escape(&signal.signal.name))
    });
    let verdict = format!(
        "{who} is stopped{by}: its handler for {name} can't run until SIGCONT.{}",
        until(case, attempt, 1)
    );
    let mut finding = finding(case, attempt, holdout, verdict, "queued");
    if let Some((event, signal)) = last {
        finding = finding.shown_by(
            event,
            format!("{} stopped it", text::escape(&signal.signal.name)),
        );
    }
    if let Some((event, _)) = look {
        finding = finding.shown_by(event, "all its threads are stopped (state T)");
    }
    // A stop signal that was taken, or the state itself.
    let took = last.is_some_and(|(event, _)| case.delivery_of(event).is_some());
    if took || look_of_stop(case, attempt, process) {
        finding = finding.proven();
    }
    let finding = ends(case, attempt, finding)
        .not("a blocked signal", "its mask lets it through")
        .relies_on_all(SIGNALS)
        .remedy(format!(
            "Find out why it is stopped; whoever stops {who} has to send SIGCONT as well, after the stop signal \
             at the latest."
        ));
    Some(("term-pending-stopped", finding))
}

fn look_of_stop(case: &Case, attempt: &Attempt<'_>, process: ProcessId) -> bool {
    last_look(case, attempt, process).is_some_and(|(_, threads)| {
        threads
            .iter()
            .all(|thread| matches!(thread.state.as_str(), "T" | "t"))
    })
}

fn stops(signal: &SignalGenerated) -> bool {
    matches!(
        signal.signal.number,
        libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU
    )
}

/// Frozen: nothing in the jail runs, so nothing of what it does counts.
pub(super) fn frozen(case: &Case, attempt: &Attempt<'_>, holdout: &Holdout<'_>) -> Option<Tagged> {
    // What was dropped, ignored or taken is not what the thaw is waited for.
    if !matches!(holdout.fate, Fate::Queued | Fate::Blocked | Fate::Unknown) {
        return None;
    }
    let half_ns = attempt.asked.time_ns + attempt.lasted_ns(case) / 2;
    let change = case
        .each(|what| match what {
            What::Cgroup(cgroup)
                if matches!(cgroup.change, CgroupChange::Frozen | CgroupChange::Thawed) =>
            {
                Some(cgroup)
            }
            _ => None,
        })
        .take_while(|(event, _)| event.time_ns < attempt.end_ns(case))
        .last()
        .filter(|(event, cgroup)| {
            cgroup.change == CgroupChange::Frozen && event.time_ns <= half_ns
        });
    let look = looks(case, attempt)
        .filter_map(|(event, snapshot)| Some((event, snapshot.frozen.as_ref()?)))
        .last();
    let path = match (&change, &look) {
        (Some((_, cgroup)), _) => &cgroup.path,
        (None, Some((_, path))) => *path,
        (None, None) => return None,
    };
    let (_, name) = holdout.signal(attempt);
    let who = case.name(holdout.process);
    let path = text::escape(path);
    let killed = match attempt.forced {
        Some(_) => format!(" {}.", attempt.killed(case, &format!("{who} was"))),
        None => String::new(),
    };
    let verdict = format!(
        "The cgroup {path} is frozen: nothing in it runs, and {name} waits for its thaw.{}",
        killed
    );
    let mut finding = finding(case, attempt, holdout, verdict, "queued").proven();
    if let Some((event, _)) = change {
        finding = finding.shown_by(event, format!("{path} is frozen from here on"));
    }
    if let Some((event, _)) = look {
        finding = finding.shown_by(event, format!("{path} is still frozen"));
    }
    let finding = ends(case, attempt, finding)
        .not(
            "a process that hangs in the kernel",
            "the freezer holds it; on cgroup v1 that looks like state D",
        )
        .relies_on_all(&["cgroup", "signal-delivered"])
        .remedy("Thaw it (write 0 to cgroup.freeze, THAWED to freezer.state), and find out who freezes it: a \
              pause, a checkpoint, a runtime that died between freeze and thaw.");
    Some(("term-pending-frozen", finding))
}

/// Uninterruptible sleep of every thread that could take the signal.
fn uninterruptible(case: &Case, attempt: &Attempt<'_>, holdout: &Holdout<'_>) -> Option<Tagged> {
    let process = holdout.process;
    let who = case.name(process);
    let (_, name) = holdout.signal(attempt);
    // A parent waits uninterruptibly until the child of its vfork executes something or ends.
    let vforked = case
        .process(process)
        .children
        .iter()
        .rev()
        .copied()
        .find(|child| {
            case.execs(*child).next().is_none()
                && case.alive_at(*child, attempt.end_ns(case))
                && case.born_ns(*child) <= attempt.asked.time_ns
        });
    let look = last_look(case, attempt, process)
        .filter(|(_, threads)| threads.iter().all(|thread| thread.state == "D"));
    let Some((event, threads)) = look else {
        // Without a look, a child that has not executed anything is all there is.
        let child = vforked.filter(|_| looks(case, attempt).next().is_none())?;
        let verdict = format!(
            "{who} did not come to take {name}: it may be waiting uninterruptibly for {}, its child by \
             vfork.{}",
            case.name(child),
            until(case, attempt, 1)
        );
        let finding = finding(case, attempt, holdout, verdict, "queued").consistent();
        let finding = ends(case, attempt, finding).relies_on_all(SIGNALS).remedy(
            "Let the child of vfork execute or end at once; use posix_spawn, or fork where it has work to do.",
        );
        return Some(("term-pending-uninterruptible", finding));
    };
    let channel = threads
        .iter()
        .find_map(|thread| Some(&thread.wait_channel).filter(|channel| !channel.is_empty()));
    let in_vfork = threads.iter().any(|thread| {
        let waits = |name: &str| name.contains("vfork");
        waits(&thread.wait_channel) || thread.stack.iter().any(|frame| waits(frame))
    }) || threads.iter().any(|thread| {
        thread
            .syscall
            .as_ref()
            .is_some_and(|call| matches!(call.name.as_str(), "vfork" | "clone" | "clone3"))
    });
    let place = match (in_vfork, vforked, channel) {
        (true, Some(child), _) => format!(
            "until {}, its child by vfork, executes something or ends",
            case.name(child)
        ),
        (_, _, Some(channel)) => format!("in {}", text::escape(channel)),
        _ => "in the kernel".to_owned(),
    };
    let verdict = format!(
        "{who} is in uninterruptible sleep (state D) {place}: {name} is queued behind that.{}",
        until(case, attempt, 1)
    );
    let finding = finding(case, attempt, holdout, verdict, "queued")
        .proven()
        .shown_by(
            event,
            format!(
                "state D{}",
                channel.map_or(String::new(), |channel| format!(
                    ", waiting in {}",
                    text::escape(channel)
                ))
            ),
        );
    let finding = ends(case, attempt, finding)
        .not("a frozen cgroup", "none is frozen, its own or above")
        .not("a blocked signal", "its mask lets it through")
        .relies_on_all(SIGNALS)
        .remedy(match in_vfork {
            true => {
                "Let the child of vfork execute or end at once; use posix_spawn, or fork where it has work to do."
            }
            false => "Find out what it waits for: a disk, a network file system, a FUSE daemon, a driver.",
        });
    Some(("term-pending-uninterruptible", finding))
}
