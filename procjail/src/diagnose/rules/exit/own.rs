//! The process that PID 1's exit code comes from returned it itself.

use super::chain::Chain;
use super::children;
use super::message::Message;
use super::reason::{self, Reason, words};
use crate::diagnose::errno;
use crate::diagnose::rules::{crash::seccomp, exec, fork, limit, umount};
use crate::diagnose::{Case, Confidence, Finding, Follows, ProcessId};
use crate::event::Errno;
use crate::render;

/// What a failed call may be other than the reason.
pub(super) const HANDLED: &str =
    "an error that it handled, before a reason that it did not write to stderr";

/// The finding, where there is evidence for a reason: a message on stderr, or a failed call that weighs.
pub(super) fn code(case: &Case, chain: &Chain<'_>) -> Option<Finding> {
    let origin = chain.origin();
    let (exit, ended) = case.exit(origin)?;
    let code = ended.status.code.filter(|code| *code != 0)?;
    // What a program says when it was asked to end is no reason.
    if chain.killed.is_some() || chain.was_asked(case) || is_explained(case, origin) {
        return None;
    }
    let message = reason::quoted(case, origin);
    let reason = reason::reason(case, origin);
    let name = case.name(origin);
    let said = match (&message, &reason) {
        (Some((line, true)), _) => {
            format!("; the last it wrote to stderr: `{}`", render::escape(line))
        }
        (Some((line, false)), _) => {
            format!(
                "; among the last it wrote to stderr: `{}`",
                render::escape(line)
            )
        }
        (None, Some(reason)) => format!(
            ", {} after {}",
            render::duration(reason.failed.call.before_ns),
            words(case, &reason.failed.call)
        ),
        (None, None) => return None,
    };
    let mut finding = Finding::new(format!(
        "{name} exited with {code}{said}{}.",
        chain.afterwards(case)
    ))
    .proven()
    .about(chain.subjects(case))
    .shown_by(exit, format!("{name} {}", case.did_end(&ended.status)))
    .not("a signal", "the kernel's status of it is an exit code")
    .fact_alone()
    .relies_on_all(&["reap"])
    .remedy(
        match (
            &message,
            reason::message(case, origin).is_some_and(Message::is_failure),
        ) {
            (Some((_, true)), true) => {
                "Start with that message: it says what the program could not do."
            }
            (Some(_), true) => "Read all that it wrote to stderr last, and start with that line.",
            _ => "Look at the program's own log and at what its manual says of that code.",
        },
    );
    if let Some(reason) = &reason {
        finding = because(case, finding, reason);
    } else if let Some(number) = reason::message(case, origin).and_then(Message::error) {
        finding = by_message(case, finding, number);
    }
    if let Some((event, _)) = case.stderr(origin) {
        finding = finding.shown_by(event, "the last of its stderr");
    }
    if seccomp::refused(case)
        .iter()
        .any(|refused| refused.subjects.contains(&origin))
    {
        finding = finding.follows(Follows::Rule("seccomp-errno"));
    }
    for above in chain.wrappers.iter().rev().skip(1) {
        if let Some((event, exit)) = case.exit(*above) {
            finding = finding.shown_by(
                event,
                format!("{} {}", case.name(*above), case.did_end(&exit.status)),
            );
        }
    }
    Some(finding.at(exit.time_ns))
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
    // The fact has the call already where there is no message.
    let text = match finding.fact.contains(&failed) && !means.is_empty() {
        true => format!("That is why it gave up{means}."),
        false => format!("{failed}{means}."),
    };
    let mut finding = finding.cause(text, reason.confidence).or(HANDLED).shown_by(
        reason.failed.event,
        match reason.count {
            0 | 1 => format!(
                "{} before its end: {}",
                render::duration(call.before_ns),
                words(case, call)
            ),
            count => format!(
                "{count} times, the last {} before its end: {}",
                render::duration(call.before_ns),
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

/// The finding with an error as its cause that only the message has: of a call that did not fail at once, or of another
/// process.
fn by_message(case: &Case, finding: Finding, number: i32) -> Finding {
    let error = case.error(&Errno::new(number));
    match errno::of_message(number) {
        Some(meaning) => finding
            .cause(
                format!("The message speaks of {error}: {}.", meaning.means),
                Confidence::Likely,
            )
            .or(HANDLED)
            .remedy(meaning.remedy),
        None => finding,
    }
}

/// Another rule says why the process ended.
pub(super) fn is_explained(case: &Case, id: ProcessId) -> bool {
    let told = [
        exec::all(case),
        limit::failures(case),
        said_by_loader(case),
        super::code::wrapped(case),
        children::stolen(case),
        children::discarded(case),
    ];
    told.iter()
        .flatten()
        .any(|finding| finding.subjects.contains(&id))
        || (umount::FAMILY.analyse)(case)
            .iter()
            .any(|(_, finding)| finding.subjects.contains(&id))
        || fork::refused_to(case, id)
}

/// The ends that the loader itself spoke of.
fn said_by_loader(case: &Case) -> Vec<Finding> {
    let mut found = super::code::loader(case);
    found.retain(|finding| !finding.minor);
    found
}
