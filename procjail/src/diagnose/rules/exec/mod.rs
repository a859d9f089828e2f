//! Programs that could not be executed.

#[cfg(test)]
mod tests;
mod words;

use std::collections::HashMap;

use super::crash::names;
use super::exit;
use crate::diagnose::{
    Case, Confidence, Family, Finding, ProcessId, Rank, Rule, Tagged, program_of,
};
use crate::event::{Event, ExecFailed, ExecutedFile, FileForm};
use crate::text;

const PATH: &str = "a search through PATH that succeeded later";

const OBJECT: &str = "an object file or a core dump, which is no program";

pub(super) const FAMILY: Family = Family {
    rules: &[
        Rule {
            id: "exit-126-not-executable",
            about: "a file is there but may not or cannot be executed",
            alternatives: &[PATH],
        },
        Rule {
            id: "exit-127-not-found",
            about: "a program does not exist",
            alternatives: &[PATH],
        },
        Rule {
            id: "exec-interpreter-missing",
            about: "a program exists, but its interpreter or loader does not",
            alternatives: &[PATH],
        },
        Rule {
            id: "exec-wrong-arch",
            about: "a program was built for another machine",
            alternatives: &[PATH],
        },
        Rule {
            id: "exec-damaged",
            about: "a program for this machine is damaged or cut off",
            alternatives: &[PATH, OBJECT],
        },
    ],
    rank: Rank::Problem,
    analyse,
};

/// What there is of this family in a case.
fn analyse(case: &Case) -> Vec<Tagged> {
    let mut found = Vec::new();
    found.extend(
        of(case, Kind::NotExecutable)
            .into_iter()
            .map(|one| ("exit-126-not-executable", one)),
    );
    found.extend(
        of(case, Kind::NotFound)
            .into_iter()
            .map(|one| ("exit-127-not-found", one)),
    );
    found.extend(
        exit::said_not_found(case)
            .into_iter()
            .map(|one| ("exit-127-not-found", one)),
    );
    found.extend(
        of(case, Kind::Interpreter)
            .into_iter()
            .map(|one| ("exec-interpreter-missing", one)),
    );
    found.extend(
        of(case, Kind::WrongMachine)
            .into_iter()
            .map(|one| ("exec-wrong-arch", one)),
    );
    found.extend(
        of(case, Kind::Damaged)
            .into_iter()
            .map(|one| ("exec-damaged", one)),
    );
    found
}

/// Files of a kind that are told of, each with a verdict of its own. A script may name thousands.
const MOST: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    NotExecutable,
    NotFound,
    Interpreter,
    WrongMachine,
    Damaged,
}

/// Between the failure of execve(2) and the signal that follows from it, nanoseconds.
const AT_ONCE_NS: u64 = 10_000_000;

/// A process that ended for want of a program.
#[derive(Clone, Copy)]
struct Failure<'a> {
    id: ProcessId,
    kind: Kind,
    event: &'a Event,
    failed: &'a ExecFailed,
    /// Files that were tried.
    tried: usize,
}

/// All verdicts on failed execs, for rules that ask whether an end is explained.
pub(super) fn all(case: &Case) -> Vec<Finding> {
    [
        Kind::NotExecutable,
        Kind::NotFound,
        Kind::Interpreter,
        Kind::WrongMachine,
        Kind::Damaged,
    ]
    .into_iter()
    .flat_map(|kind| of(case, kind))
    .chain(exit::said_not_found(case))
    .collect()
}

fn of(case: &Case, kind: Kind) -> Vec<Finding> {
    let mut groups: Vec<Vec<Failure<'_>>> = Vec::new();
    let mut known: HashMap<&str, usize> = HashMap::new();
    for failure in case
        .deaths()
        .into_iter()
        .filter_map(|id| failure(case, id))
        .filter(|failure| failure.kind == kind)
    {
        let name = match failure.tried {
            1 => failure.failed.filename.as_str(),
            _ => program_of(&failure.failed.filename),
        };
        let at = *known.entry(name).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        if let Some(group) = groups.get_mut(at) {
            group.push(failure);
        }
    }
    let telling = exit::led_to_end(case);
    let leads = |group: &[Failure<'_>]| group.iter().any(|failure| telling.contains(&failure.id));
    groups
        .iter()
        .enumerate()
        .filter(|(index, group)| *index < MOST || leads(group))
        .filter_map(|(_, group)| {
            let finding = finding(case, group)?;
            // What a supervisor or a script did without: it went on.
            Some(match leads(group) {
                true => finding,
                false => finding.note(),
            })
        })
        .collect()
}

/// Why a process ended without the program it wanted. A search through PATH fails several times
/// before it succeeds: only one that nothing came after counts.
fn failure(case: &Case, id: ProcessId) -> Option<Failure<'_>> {
    let executed = case.execs(id).next_back().map_or(0, |(event, _)| event.seq);
    let tried: Vec<(&Event, &ExecFailed)> = case
        .failed_execs(id)
        .filter(|(event, _)| event.seq > executed)
        .collect();
    let (_, ended) = case.exit(id)?;
    // As execvp(3): a file that is there but can't be run says more than one that is not.
    let (event, failed) = tried
        .iter()
        .rev()
        .find(|(_, failed)| failed.error.number != libc::ENOENT)
        .or_else(|| tried.iter().rev().find(|(_, failed)| failed.file.is_some()))
        .or(tried.last())
        .copied()?;
    let kind = kind(case, failed);
    let own = executed == 0 && case.process(id).is_pid1();
    let code = ended.status.code;
    let ends = match kind {
        // The launcher's own exec of APP.
        _ if own => true,
        Kind::NotExecutable | Kind::NotFound => matches!(code, Some(126 | 127)),
        Kind::Interpreter | Kind::WrongMachine | Kind::Damaged => {
            code.is_some_and(|code| code != 0)
        }
    } || lost_its_image(case, id, event);
    ends.then_some(Failure {
        id,
        kind,
        event,
        failed,
        tried: tried.len(),
    })
}

/// The kernel ended the process as it could neither run the new program nor go back to the old one
/// (`point_of_no_return` of fs/exec.c: SIGSEGV).
fn lost_its_image(case: &Case, id: ProcessId, failed: &Event) -> bool {
    case.killing_signal(id).is_some_and(|(event, signal)| {
        // A fault of the processor may have that code too, but comes from no system call.
        let in_exec = signal
            .syscall
            .as_ref()
            .is_some_and(|call| matches!(call.name.as_str(), "execve" | "execveat"));
        signal.signal.number == libc::SIGSEGV
            && signal.code.number == libc::SI_KERNEL
            && in_exec
            && case.process_of(&event.task) == Some(id)
            && event.time_ns.abs_diff(failed.time_ns) <= AT_ONCE_NS
    })
}

/// A process that was ended by a failed execve(2), not by a fault of its own.
pub(super) fn ended(case: &Case, id: ProcessId) -> bool {
    let last = case.failed_execs(id).last();
    last.is_some_and(|(failed, _)| lost_its_image(case, id, failed))
}

fn kind(case: &Case, failed: &ExecFailed) -> Kind {
    let file = failed.file.as_ref();
    let other_machine = file
        .and_then(|file| file.machine.as_ref())
        .is_some_and(|machine| *machine != case.header.host.architecture);
    match (failed.error.number, file.map(|file| file.form)) {
        (libc::ENOENT, Some(_)) => Kind::Interpreter,
        (libc::ENOENT | libc::ENOTDIR, None) => Kind::NotFound,
        (libc::ENOEXEC, Some(FileForm::Elf)) if !other_machine => Kind::Damaged,
        (libc::ENOEXEC, None | Some(FileForm::Elf)) => Kind::WrongMachine,
        _ => Kind::NotExecutable,
    }
}

fn finding(case: &Case, group: &[Failure<'_>]) -> Option<Finding> {
    let first = group.first()?;
    let ids: Vec<ProcessId> = group.iter().map(|failure| failure.id).collect();
    let (exit, ended) = case.exit(first.id)?;
    let who = names(case, &ids);
    let own = case.process(first.id).is_pid1() && case.execs(first.id).next().is_none();
    let returned = match (own, ended.status.code) {
        (true, _) => "the jail's program never ran".to_owned(),
        (false, Some(code)) => format!("it returned {code}"),
        (false, None) => format!("it {}", case.did_end(&ended.status)),
    };
    let said = words::say(case, first, &who, &returned);
    let mut finding = Finding::new(said.verdict)
        .about(ids.clone())
        .about(case.code_to(&ids))
        .shown_by(
            first.event,
            format!(
                "execve of {} failed with {}",
                text::escape(&first.failed.filename),
                case.error(&first.failed.error)
            ),
        )
        .shown_by(
            exit,
            format!("{} {}", case.name(first.id), case.did_end(&ended.status)),
        )
        .not(PATH, "it executed nothing after this, and ended")
        .remedy(said.fix);
    for fact in said.facts {
        finding = finding.fact(fact);
    }
    finding = match said.proven {
        true => finding.proven(),
        false => finding,
    };
    Some(match first.kind {
        Kind::Damaged => damaged(first, finding),
        _ => finding,
    })
}

/// The header of a file is there up to its machine, or the file ends before.
fn has_header(file: Option<&ExecutedFile>) -> bool {
    file.is_some_and(|file| file.machine.is_some())
}

/// Why the kernel could not execute a file for its own machine.
fn damaged(failure: &Failure<'_>, finding: Finding) -> Finding {
    match has_header(failure.failed.file.as_ref()) {
        true => finding
            .cause(
                "It is damaged, or cut off within its headers.",
                Confidence::Likely,
            )
            .or(OBJECT),
        false => finding
            .cause("It is cut off.", Confidence::Proven)
            .not(OBJECT, "it has no whole header"),
    }
}
