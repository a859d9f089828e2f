//! The process that PID 1's exit code comes from returned it itself.

use std::collections::HashSet;

use super::chain::Chain;
use super::children;
use super::documented;
use super::message::Message;
use super::passed::OWN;
use super::peer;
use super::reason::{self, Reason, words};
use crate::diagnose::errno;
use crate::diagnose::rules::{crash::seccomp, exec, fork, known, limit, umount};
use crate::diagnose::{Case, Confidence, Finding, Follows, ProcessId, program_of};
use crate::event::{Errno, StderrTail};
use crate::text;

/// What a child's failure leads to follows within this time, nanoseconds.
const AT_ONCE_NS: u64 = 100_000_000;
/// An OOM kill may have led to what failed so soon after it, nanoseconds.
const AFTERMATH_NS: u64 = 10_000_000_000;

/// What a documented code may be other than what the manual says.
const CHOSEN: &str = "a code that what it ran chose for a reason of its own";

/// What a failed call may be other than the reason.
pub(super) const HANDLED: &str =
    "another reason, of which it wrote nothing to stderr (it may have coped with that error)";

/// The finding, where there is evidence for a reason: a message on stderr, or a failed call that weighs. The fact is
/// about the main command; what a process below it has to do with that is at most likely.
pub(super) fn code(case: &Case, chain: &Chain<'_>) -> Option<Finding> {
    let main = *chain.wrappers.first()?;
    let (exit, ended) = case.exit(main)?;
    let code = ended.status.code.filter(|code| *code != 0)?;
    let at = chain.speaker(case);
    let speaker = *chain.wrappers.get(at)?;
    // What a program says when it was asked to end is no reason.
    if chain.killed.is_some()
        || chain.was_asked(case)
        || is_explained(case, chain.origin())
        || is_explained(case, speaker)
    {
        return None;
    }
    let own = said(case, main);
    let documented = by_manual(case, chain, speaker);
    let told = said(case, speaker).or(documented.as_ref().map(|_| String::new()))?;
    let name = case.name(main);
    let mut finding = Finding::new(format!(
        "{name} exited with {code}{}.",
        own.unwrap_or_default()
    ))
    .proven()
    .about(chain.subjects(case))
    .shown_by(exit, format!("{name} {}", case.did_end(&ended.status)))
    .not("a signal", "the kernel's status of it is an exit code")
    .fact_alone()
    .relies_on_all(&["reap"])
    .remedy(advice(case, speaker));
    let failed = reason::reason(case, speaker);
    let error = reason::message(case, speaker).and_then(Message::error);
    if speaker != main {
        finding = child(case, finding, chain, speaker, &told).or(OWN);
    }
    if let Some(failed) = &failed {
        finding = because(case, finding, failed);
    } else if let Some(number) = error {
        finding = by_message(case, finding, number);
    } else if let Some(text) = documented {
        finding = further(finding, text, Confidence::ConsistentWith, CHOSEN);
    } else if speaker == main {
        finding = helped(case, finding, chain);
    }
    if let Some((id, victim)) = [speaker, chain.origin()]
        .into_iter()
        .find_map(|id| Some((id, peer::lost_victim(case, id)?)))
    {
        let text = peer::words(case, id, victim);
        finding = further(finding, text, Confidence::ConsistentWith, OWN)
            .follows(Follows::Process(victim));
        if let Some((event, _)) = case.exit(victim) {
            finding = finding.shown_by(event, format!("{} was OOM-killed", case.name(victim)));
        }
    }
    for id in &chain.wrappers {
        if let Some((event, exit)) = case.exit(*id).filter(|_| *id != main) {
            let words = format!("{} {}", case.name(*id), case.did_end(&exit.status));
            finding = finding.shown_by(event, words);
        }
        if let Some((event, tail)) = case.stderr(*id) {
            finding = finding.shown_by(event, stderr(case, *id, tail));
        }
    }
    if seccomp::refused(case)
        .iter()
        .any(|refused| refused.subjects.contains(&speaker))
    {
        finding = finding.follows(Follows::Rule("seccomp-errno"));
    }
    Some(finding.in_order().at(exit.time_ns))
}

/// What the manual says of a code for which there is no better witness: no message but warnings, and no failed call.
fn by_manual(case: &Case, chain: &Chain<'_>, id: ProcessId) -> Option<String> {
    let said = reason::message(case, id).is_some_and(|message| !message.is_minor());
    let (end, _) = case.exit(id)?;
    // What is as good as unexplained is no answer where there was an OOM kill.
    let killed = case.oom_kills().any(|(kill, _)| {
        kill.seq < end.seq && end.time_ns.saturating_sub(kill.time_ns) <= AFTERMATH_NS
    });
    let silent = !said && !killed && reason::reason(case, id).is_none();
    (silent && chain.changed().is_none())
        .then(|| documented::words(case, id))
        .flatten()
}

/// What to do about what a process said.
fn advice(case: &Case, speaker: ProcessId) -> &'static str {
    let failure = reason::message(case, speaker).is_some_and(Message::is_failure);
    match reason::quoted(case, speaker) {
        Some((_, true)) if failure => "Start with that message.",
        Some(_) if failure => "Read all that it wrote to stderr last, and start with that line.",
        _ => "Look at the program's own log and at what its manual says of that code.",
    }
}

/// The end of a process's stderr, as evidence.
fn stderr(case: &Case, id: ProcessId, tail: &StderrTail) -> String {
    match Message::of(tail).and_then(Message::quoted) {
        Some((line, _)) => format!(
            "the last of the stderr of {}: `{}`",
            case.name(id),
            text::escape(&line)
        ),
        None => format!("the last of the stderr of {}", case.name(id)),
    }
}

/// What there is to say of the end of a process: what it wrote, or else what failed just before. None if there is
/// neither.
fn said(case: &Case, id: ProcessId) -> Option<String> {
    Some(match (reason::quoted(case, id), reason::reason(case, id)) {
        (Some((line, true)), _) => {
            format!("; the last it wrote to stderr: `{}`", text::escape(&line))
        }
        (Some((line, false)), _) => format!(
            "; among the last it wrote to stderr: `{}`",
            text::escape(&line)
        ),
        (None, Some(reason)) => format!(
            ", {} after {}",
            text::duration(reason.failed.call.before_ns),
            words(case, &reason.failed.call)
        ),
        (None, None) => return None,
    })
}

/// The finding with the end of a process below the main command as its cause.
fn child(case: &Case, finding: Finding, chain: &Chain<'_>, id: ProcessId, told: &str) -> Finding {
    let main = chain.wrappers.first().copied();
    let relation = match main == case.process(id).creator {
        true => "Its child",
        false => "Below it,",
    };
    let before = main.map_or(0, |main| {
        case.ended_ns(main).saturating_sub(case.ended_ns(id))
    });
    let ended = case
        .status(id)
        .map_or_else(String::new, |status| format!("had {}", case.ended(status)));
    let several = chain.links.iter().any(|link| link.others > 0);
    finding.cause(
        format!(
            "{relation} {} {ended} {} before{told}.",
            case.name(id),
            text::duration(before)
        ),
        match several {
            true => Confidence::ConsistentWith,
            false => Confidence::Likely,
        },
    )
}

/// The main command told a failure of its own, and one of its children had failed before: it may be why, the more so
/// if the message speaks of it.
fn helped(case: &Case, finding: Finding, chain: &Chain<'_>) -> Finding {
    let origin = chain.origin();
    let main = chain.wrappers.first().copied();
    let Some(main) = main.filter(|main| *main != origin) else {
        return finding;
    };
    let (Some(message), Some(told)) = (reason::message(case, main), said(case, origin)) else {
        return finding;
    };
    let below = chain.wrappers.iter().skip(1);
    let speaks = below.copied().any(|id| {
        let code = case.status(id).and_then(|status| status.code);
        let argv = case.execs(id).flat_map(|(_, exec)| &exec.argv);
        code.is_some_and(|code| message.names_code(code))
            || argv
                .filter(|word| !word.starts_with('-'))
                .any(|word| message.names_program(program_of(word)))
    });
    let late = case.ended_ns(main).saturating_sub(case.ended_ns(origin));
    match (speaks, late <= AT_ONCE_NS) {
        (true, _) => child(case, finding, chain, origin, &told).or(OWN),
        (false, true) => {
            let mut finding = child(case, finding, chain, origin, &told);
            if let Some(cause) = &mut finding.cause {
                cause.confidence = Confidence::ConsistentWith;
            }
            finding.or("a failure of its own that the child has nothing to do with")
        }
        (false, false) => finding,
    }
}

/// The finding with a failed call as its cause.
fn because(case: &Case, finding: Finding, reason: &Reason<'_>) -> Finding {
    let call = &*reason.failed.call;
    let means = match (errno::capability(call), errno::meaning(call)) {
        (Some(capability), _) => format!(": that needs {capability}"),
        // ENOENT says it all.
        (None, Some(meaning)) if !meaning.means.is_empty() => format!(": {}", meaning.means),
        (None, _) => String::new(),
    };
    let failed = words(case, call);
    let told = |text: &str| text.contains(&failed) && !means.is_empty();
    // The fact or the cause has the call already where there is no message.
    let text = match told(&finding.fact)
        || finding
            .cause
            .as_ref()
            .is_some_and(|cause| told(&cause.text))
    {
        true => format!("That is why it gave up{means}."),
        false => format!("{failed}{means}."),
    };
    let mut finding = further(finding, text, reason.confidence, HANDLED).shown_by(
        reason.failed.event,
        match reason.count {
            0 | 1 => format!(
                "{} before its end: {}",
                text::duration(call.before_ns),
                words(case, call)
            ),
            count => format!(
                "{count} times, the last {} before its end: {}",
                text::duration(call.before_ns),
                words(case, call)
            ),
        },
    );
    if let Some(capability) = errno::capability(call) {
        finding = finding.or("a seccomp filter or a security module").remedy(format!(
            "Give the program {capability}, or do not have it do that: look at the user it runs as (--user)."
        ));
    } else if let Some(meaning) = errno::meaning(call) {
        finding = finding.remedy(meaning.remedy);
    }
    finding
}

/// The finding with that as its cause, after what it has already, and what it could be instead.
fn further(finding: Finding, text: String, confidence: Confidence, or: &str) -> Finding {
    let (text, confidence) = match &finding.cause {
        Some(cause) => (
            format!("{} {text}", cause.text),
            cause.confidence.min(confidence),
        ),
        None => (text, confidence),
    };
    finding.cause(text, confidence).or(or)
}

/// The finding with an error as its cause that only the message has: of a call that did not fail at once, or of another
/// process.
fn by_message(case: &Case, finding: Finding, number: i32) -> Finding {
    let error = case.error(&Errno::new(number));
    match errno::of_message(number) {
        Some(meaning) => further(
            finding,
            format!("The message speaks of {error}: {}.", meaning.means),
            Confidence::Likely,
            HANDLED,
        )
        .remedy(meaning.remedy),
        None => finding,
    }
}

/// Another rule says why the process ended.
pub(super) fn is_explained(case: &Case, id: ProcessId) -> bool {
    known::explained(case, || explained(case)).contains(&id)
}

/// The processes whose ends other rules explain.
fn explained(case: &Case) -> HashSet<ProcessId> {
    let told = [
        exec::all(case),
        said_by_loader(case),
        children::stolen(case),
        children::discarded(case),
    ];
    let umounts = (umount::FAMILY.analyse)(case);
    told.into_iter()
        .flatten()
        .chain(umounts.into_iter().map(|(_, finding)| finding))
        .flat_map(|finding| finding.subjects)
        .chain(limit::failures(case))
        .chain(fork::refused_to_any(case))
        .collect()
}

/// The ends that the loader itself spoke of.
fn said_by_loader(case: &Case) -> Vec<Finding> {
    let mut found = super::code::loader(case);
    found.retain(|finding| !finding.minor);
    found
}
