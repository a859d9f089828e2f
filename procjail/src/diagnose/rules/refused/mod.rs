//! Resources that were refused by an error, not by a signal: room, open files, objects of the kernel, memory.
//!
//! The same table of errors ([`errno`]) tells which resource it was. What a program ended for is a problem; what it
//! lived with is a note.

mod ended;
#[cfg(test)]
mod tests;
mod why;

use std::collections::HashMap;

use super::exit::reason::{self, Failed, Reason, times, words};
use super::known;
use crate::diagnose::errno::{self, Refusal, Weight};
use crate::diagnose::{Case, Confidence, Finding, ProcessId, Tagged};
use crate::event::FailedCall;
use crate::text;
use why::Why;

/// The rule for refused memory.
pub(super) const MEMORY: &str = "enomem-not-oom";

/// What else may refuse memory than a limit of the process.
pub(super) const MEMORY_ALTERNATIVES: &[&str] = &[why::OVERCOMMIT, why::MAPS];
/// A process and the refused call that is told of it.
struct Refused<'a> {
    id: ProcessId,
    failed: Failed<'a>,
    count: usize,
    /// How sure it is that the process ended for it; `None` if it lived with it.
    ended: Option<Confidence>,
}

impl<'a> From<Reason<'a>> for Refused<'a> {
    fn from(reason: Reason<'a>) -> Self {
        Self {
            id: reason.id,
            failed: reason.failed,
            count: reason.count,
            ended: Some(reason.confidence),
        }
    }
}

/// The rule for a resource; `None` for what this family does not tell.
fn rule(refusal: Refusal) -> Option<&'static str> {
    match refusal {
        Refusal::Space => Some("enospc"),
        Refusal::Files => Some("emfile"),
        Refusal::Kernel => Some("kernel-limit"),
        Refusal::Memory => Some(MEMORY),
        Refusal::Processes | Refusal::Other => None,
    }
}

/// A process and a refused call, with what refused it and how sure all of that is.
struct Claim<'a> {
    refused: Refused<'a>,
    why: Why,
    sure: Confidence,
}

impl<'a> Claim<'a> {
    fn new(case: &Case, refused: Refused<'a>) -> Option<Self> {
        let why = why::why(case, &refused)?;
        // What refused the call, and that the end came of it, are one claim: the lower counts.
        let sure = refused
            .ended
            .map_or(why.confidence, |ended| ended.min(why.confidence));
        Some(Self { refused, why, sure })
    }
}

/// What makes two refusals one finding: it must be true of all of them.
#[derive(PartialEq, Eq, Hash)]
struct Alike<'a> {
    rule: &'static str,
    program: &'a str,
    error: i32,
    why: String,
    /// Exit code and signal, if it ended for it.
    ended: Option<(Option<i32>, Option<i32>)>,
}

/// All that was refused, each resource of each program once.
pub(super) fn all(case: &Case) -> &[Tagged] {
    known::refused(case, || find(case))
}

fn find(case: &Case) -> Vec<Tagged> {
    let mut groups: Vec<(&'static str, Vec<Claim<'_>>)> = Vec::new();
    let mut at_of: HashMap<Alike<'_>, usize> = HashMap::new();
    for (id, process) in case.processes() {
        for refused in of(case, id) {
            let Some(rule) = rule(errno::refusal(&refused.failed.call)) else {
                continue;
            };
            let Some(claim) = Claim::new(case, refused) else {
                continue;
            };
            let ended = claim.refused.ended.and_then(|_| case.status(id));
            let alike = Alike {
                rule,
                program: process.task.comm.as_str(),
                error: claim.refused.failed.call.error.number,
                why: claim.why.text.clone(),
                ended: ended.map(|status| {
                    let signal = status.signal.as_ref();
                    (status.code, signal.map(|signal| signal.number))
                }),
            };
            let at = *at_of.entry(alike).or_insert_with(|| {
                groups.push((rule, Vec::new()));
                groups.len() - 1
            });
            if let Some((_, group)) = groups.get_mut(at) {
                group.push(claim);
            }
        }
    }
    groups
        .into_iter()
        .filter_map(|(rule, group)| Some((rule, finding(case, group)?)))
        .collect()
}

/// What was refused to one process: what it ended for, and the last call of each other resource.
fn of(case: &Case, id: ProcessId) -> Vec<Refused<'_>> {
    // An OOM victim's calls fail while it is dying.
    if case.process(id).oom_kill.is_some() {
        return Vec::new();
    }
    let mut found: Vec<Refused<'_>> = Vec::new();
    if let Some(ended) = ended::ended_for(case, id) {
        found.push(ended);
    }
    let calls = reason::calls(case, id);
    for failed in calls.iter().rev() {
        let refusal = errno::refusal(&failed.call);
        let heavy = errno::weight(&failed.call) == Weight::Heavy;
        let told = found
            .iter()
            .any(|other| errno::refusal(&other.failed.call) == refusal);
        if !heavy || told || rule(refusal).is_none() {
            continue;
        }
        let same = |other: &&Failed<'_>| errno::refusal(&other.call) == refusal;
        let count = calls
            .iter()
            .filter(same)
            .map(|failed| times(&failed.call))
            .sum();
        found.push(Refused {
            id,
            failed: failed.clone(),
            count,
            ended: None,
        });
    }
    found
}

/// The finding on what is alike. It is as sure as the least sure of it, and tells of that one.
fn finding(case: &Case, group: Vec<Claim<'_>>) -> Option<Finding> {
    let ids: Vec<ProcessId> = group.iter().map(|claim| claim.refused.id).collect();
    let Claim { refused, why, sure } = group.into_iter().min_by_key(|claim| claim.sure)?;
    let call = &*refused.failed.call;
    let (exit, ended) = case.exit(refused.id)?;
    let times = match refused.count {
        0 | 1 => String::new(),
        count => format!("; {} calls failed so", text::count(count as u64)),
    };
    let failed = match asked(call) {
        Some(bytes) => {
            words(case, call).replacen(" failed", &format!(" of {} failed", text::bytes(bytes)), 1)
        }
        None => words(case, call),
    };
    // The times are those of one.
    let (whose, of_one) = match ids.len() {
        1 => (String::new(), String::new()),
        _ => {
            let name = case.name(refused.id);
            (format!("{name} "), format!(", {name}"))
        }
    };
    let fact = match refused.ended {
        Some(_) => format!(
            "{} {}, {whose}{} after {failed}{times}{}.",
            case.names(&ids),
            case.did_end(&ended.status),
            text::duration(call.before_ns),
            said(case, refused.id)
        ),
        None => format!(
            "{} went on{of_one} for {} after {failed}{times}.",
            case.names(&ids),
            text::duration(call.before_ns),
        ),
    };
    let mut finding = Finding::new(fact)
        .proven()
        .cause(why.text, sure)
        .shown_by(refused.failed.event, words(case, call))
        .shown_by(
            exit,
            format!("{} {}", case.name(refused.id), case.did_end(&ended.status)),
        )
        .at(refused.failed.time_ns)
        .remedy(why.remedy);
    for (what, because) in why.not {
        finding = finding.not(what, because);
    }
    for what in why.or {
        finding = finding.or(what);
    }
    if let Some(open) = call.open_files {
        finding = finding.fact(format!("{} descriptors were open then", text::count(open)));
    }
    Some(match refused.ended {
        Some(_) => finding.about(ids.clone()).about(case.code_to(&ids)),
        None => finding.note(),
    })
}

/// What the process said of it on stderr.
fn said(case: &Case, id: ProcessId) -> String {
    reason::quoted(case, id).map_or_else(String::new, |(line, _)| {
        format!(
            "; among the last it wrote to stderr: `{}`",
            text::escape(&line)
        )
    })
}

/// How much a call asked for, bytes.
fn asked(call: &FailedCall) -> Option<u64> {
    let index = match call.syscall.name.as_str() {
        "mmap" | "mlock" | "mlock2" => 1,
        "mremap" => 2,
        _ => return None,
    };
    call.args.get(index).copied().filter(|bytes| *bytes > 0)
}
