//! Codes that stem from a child's end.

use super::chain::{Chain, speaks_after};
use super::children;
use super::message::Message;
use super::own;
use super::reason;
use crate::diagnose::rules::crash::names;
use crate::diagnose::{Case, Confidence, Finding, Follows, Origin, Passing, ProcessId, is_bad};
use crate::event::{Disposition, ExitStatus, Signal};
use crate::text;

/// Real-time signals end at 64.
const LAST_SIGNAL: i32 = 64;
/// A worker that ended so shortly before PID 1 may be why it did, nanoseconds.
const AT_ONCE_NS: u64 = 100_000_000;
/// A timer that expired so shortly before a signal was sent is why it was, nanoseconds.
const TIMER_NS: u64 = 50_000_000;

/// What a wrapper's code may be other than the child's doing.
pub(super) const OWN: &str = "a reason of its own";

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
pub(super) fn by_program(case: &Case, chain: &Chain<'_>) -> Option<Finding> {
    let origin = chain.origin();
    let (exit, ended) = case.exit(origin)?;
    let code = ended.status.code?;
    let number = code
        .checked_sub(128)
        .filter(|number| (1..=LAST_SIGNAL).contains(number))?;
    let signal = Signal::new(number).name;
    let name = case.name(origin);
    let base = |fact: String| {
        Finding::new(fact)
            .proven()
            .about(chain.subjects(case))
            .shown_by(exit, format!("{name} {}", case.did_end(&ended.status)))
            .not(
                format!("{signal} to {name}"),
                "the kernel's status of it is an exit code, not a signal",
            )
            .relies_on_all(&["reap"])
    };
    let after = chain.above(case, origin);
    if let Some(passed) = &chain.killed {
        return (passed.how == Passing::Signal).then(|| {
            let child = case.name(passed.child);
            let finding = base(format!(
                "{code} is an exit code that {name} returned, not a signal to it: its child {child} was killed by \
                 {signal}{}.",
                sent_by(case, passed.child, origin)
            ))
            .cause(
                format!("128 and the signal's number ({number}) is what shells return for such a child.{after}"),
                Confidence::Likely,
            )
            .or(OWN)
            .shown_by(
                passed.reap,
                format!("{child} collected, {} before", text::duration(passed.after_ns())),
            )
            .follows(Follows::Process(passed.child))
            .remedy(format!(
                "Look at what ended {child}. A shell that runs one program should exec it, so that its status is the \
                 container's."
            ));
            on_request(case, chain, finding)
        });
    }
    if own::is_explained(case, origin) {
        return None;
    }
    let took = case.delivered(origin).rfind(|(event, taken)| {
        event.seq < exit.seq
            && taken.signal.number == number
            && taken.disposition == Disposition::Handler
    });
    if let Some((event, _)) = took {
        // That it ended on request is the story of the run.
        return Some(
            base(format!(
                "{code} is an exit code that {name} returned after its handler took {signal}.{after}"
            ))
            .cause(
                "Programs such as the JVM report the signal that they ended on by their code.",
                Confidence::Likely,
            )
            .or(OWN)
            .shown_by(event, format!("its handler took {signal}"))
            .fact_alone()
            .remedy(format!(
                "Tell the supervisor that {code} is a clean end (SuccessExitStatus={code} for systemd)."
            ))
            .note(),
        );
    }
    let alone = case.passed_on(origin).is_none();
    alone.then(|| {
        base(format!(
            "{name} returned {code} as an exit code: neither it nor the last child it waited for was killed by \
             {signal}.{after}"
        ))
        .fact_alone()
        .remedy("Look up the code in the program's documentation; of a shell it may be the status of an earlier child.")
    })
}

/// Which process sent the signal that ended another, where one did: `, which sh (PID 1) itself sent`.
fn sent_by(case: &Case, id: ProcessId, parent: ProcessId) -> String {
    let Some((event, signal)) = case.killing_signal(id) else {
        return String::new();
    };
    let sender = case.process_of(&event.task);
    match case.origin(event, signal) {
        Origin::Itself => ", which it sent itself".to_owned(),
        Origin::Process if sender == Some(parent) => {
            format!(", which {} itself sent", case.name(parent))
        }
        Origin::Process => format!(", which {} sent", case.who(&event.task)),
        _ => String::new(),
    }
}

/// What a program returns that was asked to end is a note: that it ended on request is the story of the run.
fn on_request(case: &Case, chain: &Chain<'_>, finding: Finding) -> Finding {
    match chain.was_asked(case) {
        true => finding.note(),
        false => finding,
    }
}

/// A child ended badly, and the one that waited for it returned another code.
pub(super) fn laundered(case: &Case, chain: &Chain<'_>) -> Option<Finding> {
    let (wrapper, passed) = chain.changed()?;
    let (_, ended) = case.exit(wrapper)?;
    let code = ended.status.code?;
    let status = case.status(passed.child)?;
    let (child, name) = (case.name(passed.child), case.name(wrapper));
    // What a wrapper does by itself to a child, such as timeout(1), is its own decision.
    let own = case
        .killing_signal(passed.child)
        .filter(|(event, _)| case.process_of(&event.task) == Some(wrapper))
        .or_else(|| {
            // Some raise the signal again once their handler is done.
            let told = case.told_to_end(passed.child, wrapper)?;
            let same = status.signal.as_ref() == Some(&told.1.signal);
            same.then_some(told)
        });
    let timer = own.and_then(|(sent, _)| expired(case, wrapper, sent.time_ns));
    let later = text::duration(passed.after_ns());
    let fact = match (own, timer) {
        (Some((_, signal)), Some(_)) => format!(
            "A timer of {name} expired; it killed its child {child} with {} and exited with {code}",
            signal.signal.name
        ),
        (Some((_, signal)), None) => format!(
            "{name} killed its child {child} with {} and exited with {code}",
            signal.signal.name
        ),
        _ => format!(
            "{name} exited with {code}, {later} after {} {child}, which {}",
            match passed.collected {
                true => "it had collected its child",
                false => "the end of its child",
            },
            end(status)
        ),
    };
    let died = case.exit(passed.child)?.0;
    let mut finding = Finding::new(format!("{fact}."))
        .proven()
        .about(chain.subjects(case).filter(|id| *id != passed.child))
        .follows(Follows::Process(passed.child))
        .shown_by(died, format!("{child} {}", case.did_end(status)))
        .shown_by(
            passed.reap,
            match passed.collected {
                true => format!("{name} collected it"),
                false if case.header.tells_reaps() => format!("{name} did not collect it"),
                false => format!("{name} was its parent; whether it collected it was not recorded"),
            },
        )
        .shown_by(
            passed.exit,
            format!("{name} returned {code}, {later} later"),
        )
        .relies_on_all(&["reap"]);
    if let Some((event, signal)) = own {
        finding = finding.shown_by(event, format!("{name} sent {} itself", signal.signal.name));
    }
    for above in chain.wrappers.iter().take_while(|id| **id != wrapper) {
        if let Some((event, exit)) = case.exit(*above) {
            let words = format!("{} {}", case.name(*above), case.did_end(&exit.status));
            finding = finding.shown_by(event, words);
        }
    }
    if let Some(event) = timer {
        finding = finding.shown_by(event, "its timer's SIGALRM");
        return Some(finding.fact_alone().remedy(
            "The time that it gives its child was too short, or the child too slow: raise it, or look at what the \
             child did until then.",
        ));
    }
    if own.is_some() {
        let finding = finding
            .fact_alone()
            .remedy("Look at why it killed its child: that is its own decision.");
        return Some(on_request(case, chain, finding));
    }
    let commands = match passed.between {
        0 => String::new(),
        1 => ", after another command had run".to_owned(),
        count => format!(", after {count} other commands had run"),
    };
    // Who tells of a failure of its own afterwards may have failed at that.
    let message = speaks_after(case, wrapper, passed.child)
        .then(|| reason::quoted(case, wrapper))
        .flatten();
    let mut finding = finding.cause(
        format!(
            "The end of its child made {name} give up{commands}; its code says nothing of what happened.{}",
            chain.above(case, wrapper)
        ),
        match status.signal.is_some() && message.is_none() {
            true => Confidence::Likely,
            false => Confidence::ConsistentWith,
        },
    );
    finding = match message {
        Some((line, _)) => finding.or(format!(
            "what it wrote to stderr itself: `{}`",
            text::escape(&line)
        )),
        None => finding.or(OWN),
    };
    let finding = finding.remedy(
        "Look at the child's end for the reason. To see it at once, have the wrapper pass the status on (exec the \
         program, or return 128 and the signal's number; set -o pipefail for pipelines).",
    );
    Some(match case.is_grave(passed.child) {
        true => finding,
        false => on_request(case, chain, finding),
    })
}

/// The timer's signal that a process took just before that time.
fn expired(case: &Case, id: ProcessId, time_ns: u64) -> Option<&crate::event::Event> {
    case.delivered(id)
        .rfind(|(event, taken)| {
            taken.signal.number == libc::SIGALRM
                && taken.disposition == Disposition::Handler
                && event.time_ns <= time_ns
                && time_ns - event.time_ns <= TIMER_NS
                // Anybody may send the signal of a timer.
                && !matches!(taken.code.number, libc::SI_USER | libc::SI_TKILL | libc::SI_QUEUE)
        })
        .map(|(event, _)| event)
}

/// Programs that send signals for whoever starts them.
const SENDERS: [&str; 6] = [
    "kill",
    "killall",
    "pkill",
    "skill",
    "fuser",
    "start-stop-daem",
];

/// A process ended because PID 1, its parent or another one above it decided so: it sent the signal, or started a
/// program that did.
fn is_decided(case: &Case, child: ProcessId, pid1: ProcessId) -> bool {
    let parent = case.last_parent(child);
    let manages = |id| id == pid1 || parent == Some(id) || case.is_below(child, id);
    let sent_for = |sender: ProcessId| {
        let process = case.process(sender);
        process.creator.is_some_and(manages) && SENDERS.contains(&process.task.comm.as_str())
    };
    case.ended_by(child, pid1)
        || parent.is_some_and(|parent| case.ended_by(child, parent))
        || case.killing_signal(child).is_some_and(|(event, signal)| {
            case.origin(event, signal) == Origin::Process
                && case
                    .process_of(&event.task)
                    .is_some_and(|sender| manages(sender) || sent_for(sender))
        })
}

/// PID 1 says that all is well, and a worker of its had died.
pub(super) fn zero(case: &Case, pid1: ProcessId) -> Vec<Finding> {
    let Some((exit, _)) = case
        .exit(pid1)
        .filter(|(_, ended)| ended.status.code == Some(0))
    else {
        return Vec::new();
    };
    let stopped = children::asked_ns(case, pid1).unwrap_or(u64::MAX);
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
        if case.ended_ns(*child) >= stopped || is_decided(case, *child, pid1) {
            continue;
        }
        match &status.signal {
            // A reader that has seen enough is no failure.
            Some(signal) if signal.number == libc::SIGPIPE => {}
            Some(_) => killed.push(*child),
            // Ordinary programs tell by a code what they found: only the last one may have counted, if it said that it
            // failed. One that says nothing has answered.
            None => {
                let at_once = exit.time_ns.saturating_sub(reap.time_ns) <= AT_ONCE_NS;
                let said = reason::message(case, *child).is_some_and(Message::is_failure);
                failed = (Some(*child) == last && at_once && said).then_some(*child);
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
        let finding = Finding::new(format!(
            "{name} returned {code} although {} {}: from outside the run looks like a success.",
            names(case, &ids),
            end(status),
        ))
        .follows(Follows::Process(first))
        .follows(Follows::Rule("exit-wrapped"))
        .shown_by(died, format!("{} {}", case.name(first), case.did_end(status)))
        .shown_by(reap, format!("{name} collected it, and so knew"))
        .not("a status that PID 1 never got", "PID 1 collected it")
        .shown_by(exit, format!("{name} returned {code}"))
        .at(exit.time_ns)
        .remedy("Have PID 1 return a worker's failure as its own code, or restart the worker and say so.");
        Some(match stopped {
            u64::MAX => finding.about(case.pid1()).about([pid1]),
            // That code is its answer to the request, which is the story of the run.
            _ => finding.note(),
        })
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
