//! Codes that stem from a child's end.

use crate::diagnose::rules::crash::names;
use crate::diagnose::{Case, Finding, Follows, Passing, ProcessId, is_bad};
use crate::event::{Disposition, ExitStatus, Signal};
use crate::render;

/// Real-time signals end at 64.
const LAST_SIGNAL: i32 = 64;
/// A worker that ended so shortly before PID 1 may be why it did, nanoseconds.
const AT_ONCE_NS: u64 = 100_000_000;

/// How a child ended, for a sentence: `was killed by SIGKILL`, `had returned 3`.
fn end(status: &ExitStatus) -> String {
    match (&status.signal, status.code) {
        (Some(signal), _) => format!("was killed by {}", signal.name),
        (None, Some(code)) => format!("had returned {code}"),
        (None, None) => "had ended".to_owned(),
    }
}

/// 137 and the like, returned by exit(3): shells do so for a child's signal, some programs for one that
/// they handled.
pub(super) fn by_program(case: &Case) -> Vec<Finding> {
    let Some(pid1) = case.pid1() else {
        return Vec::new();
    };
    by_pid1(case, pid1).into_iter().collect()
}

fn by_pid1(case: &Case, pid1: ProcessId) -> Option<Finding> {
    let chain = case.code_from(pid1);
    let origin = *chain.last()?;
    let (exit, ended) = case.exit(origin)?;
    let code = ended.status.code?;
    let number = code
        .checked_sub(128)
        .filter(|number| (1..=LAST_SIGNAL).contains(number))?;
    let signal = Signal::new(number).name;
    let passed = case.passed_on(origin);
    let returned = match chain.len() {
        0 | 1 => case.name(origin),
        _ => format!("{} (by way of {})", case.name(pid1), case.name(origin)),
    };
    let base = |verdict: String| {
        Finding::new(verdict)
            .proven()
            .about(chain.iter().copied())
            .shown_by(
                exit,
                format!("{} {}", case.name(origin), case.did_end(&ended.status)),
            )
            .not(
                format!("{signal} to {}", case.name(pid1)),
                "the kernel's status of it is an exit code, not a signal",
            )
            .relies_on_all(&["reap"])
    };
    match passed {
        Some(passed) if passed.how == Passing::Signal => {
            let child = case.name(passed.child);
            Some(
                base(format!(
                    "{code} is an exit code that {returned} returned, not a signal to it: its child {child} \
                     was killed by {signal}."
                ))
                .shown_by(
                    passed.reap,
                    format!("{child} collected, {} before", render::duration(passed.after_ns())),
                )
                .follows(Follows::Process(passed.child))
                .remedy(format!(
                    "Look at what ended {child}. A shell that runs one program should exec it, so that its \
                     status is the container's."
                )),
            )
        }
        // A child that ended otherwise: another rule says so.
        Some(passed) if passed.how == Passing::Changed && has_signal(case, passed.child) => None,
        _ => {
            let took = case.delivered(origin).rfind(|(event, taken)| {
                event.seq < exit.seq
                    && taken.signal.number == number
                    && taken.disposition == Disposition::Handler
            });
            let finding = match took {
                Some((event, _)) => base(format!(
                    "{code} is an exit code that {returned} returned after its handler took {signal}: it \
                     ended on request, and reports the signal by its code as the JVM does."
                ))
                .shown_by(event, format!("its handler took {signal}"))
                .remedy(format!(
                    "Nothing is wrong with the program: tell the supervisor that {code} is a clean end \
                     (SuccessExitStatus={code} for systemd)."
                )),
                None => base(format!(
                    "{code} is an exit code that {returned} chose itself: neither it nor a child of it was \
                     killed by {signal}."
                ))
                .remedy("Look up the code in the program's own documentation: it is not the kernel's."),
            };
            Some(finding)
        }
    }
}

fn has_signal(case: &Case, id: ProcessId) -> bool {
    case.status(id)
        .is_some_and(|status| status.signal.is_some())
}

/// A child ended badly, and the one that waited for it returned another code.
pub(super) fn laundered(case: &Case) -> Vec<Finding> {
    let Some(pid1) = case.pid1() else {
        return Vec::new();
    };
    let chain = case.code_from(pid1);
    let Some(wrapper) = chain.last().copied() else {
        return Vec::new();
    };
    launders(case, pid1, wrapper, &chain).into_iter().collect()
}

fn launders(
    case: &Case,
    pid1: ProcessId,
    wrapper: ProcessId,
    chain: &[ProcessId],
) -> Option<Finding> {
    let passed = case
        .passed_on(wrapper)
        .filter(|passed| passed.how == Passing::Changed)?;
    let (_, ended) = case.exit(wrapper)?;
    let code = ended.status.code?;
    let status = case.status(passed.child)?;
    let (child, name) = (case.name(passed.child), case.name(wrapper));
    // What a wrapper does by itself to a child, such as timeout(1), is its own decision.
    let own = case
        .killing_signal(passed.child)
        .filter(|(event, _)| case.process_of(&event.task) == Some(wrapper));
    let how = match own {
        Some(_) => format!("{name} killed its child {child} and returned {code}"),
        None => format!(
            "{name} turned the end of its child {child}, which {}, into {code}",
            end(status)
        ),
    };
    let further = match wrapper == pid1 {
        true => String::new(),
        false => format!("; {} returned the same", case.name(pid1)),
    };
    let died = case.exit(passed.child)?.0;
    let mut finding = Finding::new(format!("{how}{further}: the code says nothing of what happened."))
        .about(chain.iter().copied())
        .follows(Follows::Process(passed.child))
        .shown_by(died, format!("{child} {}", case.did_end(status)))
        .shown_by(passed.reap, format!("{name} collected it"))
        .shown_by(
            passed.exit,
            format!("{name} returned {code}, {} later", render::duration(passed.after_ns())),
        )
        .relies_on_all(&["reap"])
        .remedy(
            "Have the wrapper pass the status on (exec the program, or return 128 and the signal's number; set \
             -o pipefail for pipelines), and look at the child's end for the reason.",
        );
    if let Some((event, signal)) = own {
        finding = finding.shown_by(event, format!("{name} sent {} itself", signal.signal.name));
    }
    let failed_otherwise = case.failed_calls(wrapper).is_some_and(|(_, failed)| {
        failed
            .calls
            .iter()
            .any(|call| call.before_ns < passed.after_ns() && call.error.number != libc::ECHILD)
    });
    // Scripts live with commands that return a code other than 0; a killed one is no answer.
    if !failed_otherwise && status.signal.is_some() {
        finding = finding.proven().not(
            "a failure of the wrapper's own",
            "it did nothing else between the two",
        );
    }
    Some(finding)
}

/// PID 1 says that all is well, and a worker of its had died.
pub(super) fn zero(case: &Case) -> Vec<Finding> {
    let Some(pid1) = case.pid1() else {
        return Vec::new();
    };
    let Some((exit, _)) = case
        .exit(pid1)
        .filter(|(_, ended)| ended.status.code == Some(0))
    else {
        return Vec::new();
    };
    let stopped = case
        .stop_request()
        .map_or(u64::MAX, |(event, _)| event.time_ns);
    let collected: Vec<_> = case
        .collected_by(pid1)
        .filter(|(_, reap)| reap.seq < exit.seq)
        .collect();
    let last = collected.last().map(|(child, _)| *child);
    let mut killed = Vec::new();
    let mut failed = None;
    for (child, reap) in &collected {
        let Some(status) = case.status(*child).filter(|status| is_bad(status)) else {
            continue;
        };
        if case.ended_ns(*child) >= stopped {
            continue;
        }
        match &status.signal {
            // A reader that has seen enough, and what PID 1 ended on purpose, are no failures.
            Some(signal) if signal.number == libc::SIGPIPE => {}
            Some(_) => {
                let on_purpose = case
                    .killing_signal(*child)
                    .is_some_and(|(event, _)| case.process_of(&event.task) == Some(pid1));
                if !on_purpose {
                    killed.push(*child);
                }
            }
            // Ordinary programs tell by a code what they found: only the last one may have counted.
            None => {
                let at_once = exit.time_ns.saturating_sub(reap.time_ns) <= AT_ONCE_NS;
                failed = (Some(*child) == last && at_once).then_some(*child);
            }
        }
    }
    let code = case
        .status(pid1)
        .and_then(|status| status.code)
        .unwrap_or(0);
    let name = case.name(pid1);
    let found = |ids: Vec<ProcessId>| {
        let first = *ids.first()?;
        let status = case.status(first)?;
        let (died, _) = case.exit(first)?;
        let (reap, _) = case.reap(first)?;
        Some(
            Finding::new(format!(
                "{name} returned {code} although {} {}: from outside the run looks like a success.",
                names(case, &ids),
                end(status),
            ))
            .about([pid1])
            .follows(Follows::Process(first))
            .shown_by(died, format!("{} {}", case.name(first), case.did_end(status)))
            .shown_by(reap, format!("{name} collected it, and so knew"))
            .shown_by(exit, format!("{name} returned {code}"))
            .at(exit.time_ns)
            .remedy("Have PID 1 return a worker's failure as its own code, or restart the worker and say so."),
        )
    };
    if !killed.is_empty() {
        return found(killed).map(Finding::proven).into_iter().collect();
    }
    failed
        .and_then(|child| found(vec![child]))
        .map(Finding::consistent)
        .into_iter()
        .collect()
}
