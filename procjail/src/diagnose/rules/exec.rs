//! Programs that could not be executed.

use std::collections::HashMap;

use super::crash::names;
use super::exit;
use crate::diagnose::{
    Case, Confidence, Family, Finding, ProcessId, Rank, Rule, Tagged, program_of,
};
use crate::event::{Event, ExecFailed, ExecutedFile, FileForm};
use crate::render;

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
    let said = say(case, first, &who, &returned);
    let mut finding = Finding::new(said.verdict)
        .about(ids.clone())
        .about(case.code_to(&ids))
        .shown_by(
            first.event,
            format!(
                "execve of {} failed with {}",
                render::escape(&first.failed.filename),
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

/// The words for a failure.
struct Said {
    verdict: String,
    fix: String,
    facts: Vec<String>,
    proven: bool,
}

fn say(case: &Case, failure: &Failure<'_>, who: &str, returned: &str) -> Said {
    let path = render::escape(&failure.failed.filename);
    let file = failure.failed.file.as_ref();
    match failure.kind {
        Kind::NotFound => not_found(failure, &path, who, returned),
        Kind::Interpreter => interpreter(file, &path, who, returned),
        Kind::WrongMachine => wrong_machine(case, file, &path, who, returned),
        Kind::Damaged => no_image(case, file, &path, who, returned),
        Kind::NotExecutable => not_executable(case, failure, &path, who, returned),
    }
}

fn not_found(failure: &Failure<'_>, path: &str, who: &str, returned: &str) -> Said {
    let name = program_of(path);
    let verdict = match failure.tried {
        1 => format!(
            "{who} could not execute {path}: the kernel found no such file, or no interpreter or loader for it \
             (ENOENT); {returned}."
        ),
        count => format!(
            "{who} could not execute {name}: it is in none of the {} places tried (PATH); {returned}.",
            render::count(count as u64)
        ),
    };
    Said {
        verdict,
        fix: "Check the spelling, whether the package is in this image, and PATH. If the file is there, what \
              shall run it is not: the interpreter of its first line (see head -1, and look for a carriage \
              return at its end), or the loader that it was linked for (see file)."
            .to_owned(),
        facts: Vec::new(),
        // The kernel says the same of a file whose interpreter is missing.
        proven: failure.tried > 1,
    }
}

fn interpreter(file: Option<&ExecutedFile>, path: &str, who: &str, returned: &str) -> Said {
    let name = file
        .and_then(|file| file.interpreter.as_deref())
        .map_or_else(|| "its interpreter".to_owned(), render::escape);
    let returns = file.is_some_and(|file| file.carriage_return);
    let elf = file.is_some_and(|file| file.form == FileForm::Elf);
    let missing = file.and_then(|file| file.interpreter_exists) == Some(false);
    let lacks = match (missing, elf) {
        (true, true) => format!("its loader {name} does not exist here"),
        (true, false) => format!("the interpreter of its first line, {name}, does not exist here"),
        (false, _) => format!(
            "the kernel found no interpreter or loader for it (ENOENT): {name}, or what {name} needs itself"
        ),
    };
    let mut facts = vec![format!("{path} itself is there")];
    if missing && !returns {
        facts.push(format!("{name} does not exist in the jail"));
    }
    let (verdict, fix) = if returns {
        facts.push("its first line ends in a carriage return".to_owned());
        (
            format!(
                "{who} could not execute {path}: the file has Windows line endings, so the kernel looked for an \
                 interpreter called \"{name}\\r\"; {returned}."
            ),
            "Convert the file to Unix line endings (sed -i 's/\\r$//', dos2unix), and keep them so in git \
             (*.sh text eol=lf in .gitattributes)."
                .to_owned(),
        )
    } else if elf {
        (
            format!(
                "{who} could not execute {path}: it is a dynamically linked program, and {lacks}; {returned}."
            ),
            format!(
                "Use a build for this image's C library (glibc's loader is not in musl images such as Alpine, \
                 and the other way round), a static one, or install what has {name}."
            ),
        )
    } else {
        (
            format!("{who} could not execute {path}: {lacks}; {returned}."),
            format!(
                "Install {name} in the image, or name one that is there (#!/usr/bin/env finds it by PATH)."
            ),
        )
    };
    Said {
        verdict,
        fix,
        facts,
        proven: missing || returns,
    }
}

fn wrong_machine(
    case: &Case,
    file: Option<&ExecutedFile>,
    path: &str,
    who: &str,
    returned: &str,
) -> Said {
    let host = &case.header.host.architecture;
    let machine = file.and_then(|file| file.machine.as_ref());
    let (why, proven) = match machine {
        Some(machine) if machine != host => (
            format!(
                "it was built for {}, and this machine is {}",
                render::escape(machine),
                render::escape(host)
            ),
            true,
        ),
        _ => (
            format!(
                "it is neither a program for this machine ({}) nor a script with #! in its first line",
                render::escape(host)
            ),
            false,
        ),
    };
    Said {
        verdict: format!("{who} could not execute {path}: {why}; {returned}."),
        fix: "Use an image or a build for this machine (docker build --platform, the right package), or \
              install an emulator for it (binfmt_misc with qemu-user)."
            .to_owned(),
        facts: machine
            .map(|machine| format!("the file says that it is for {}", render::escape(machine)))
            .into_iter()
            .collect(),
        proven,
    }
}

/// The header of a file is there up to its machine, or the file ends before.
fn has_header(file: Option<&ExecutedFile>) -> bool {
    file.is_some_and(|file| file.machine.is_some())
}

fn no_image(
    case: &Case,
    file: Option<&ExecutedFile>,
    path: &str,
    who: &str,
    returned: &str,
) -> Said {
    let host = render::escape(&case.header.host.architecture);
    let why = match has_header(file) {
        true => format!(
            "it is an ELF file for this machine ({host}) that the kernel can't execute (ENOEXEC)"
        ),
        false => "it begins as an ELF file and ends before its header does (ENOEXEC)".to_owned(),
    };
    Said {
        verdict: format!("{who} could not execute {path}: {why}; {returned}."),
        fix: "Compare the file with its original (sha256sum; readelf -h and file show what is wrong with it), and copy, \
              download or build it again; a full disk or an interrupted copy cuts files off."
            .to_owned(),
        facts: Vec::new(),
        proven: true,
    }
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

fn not_executable(
    case: &Case,
    failure: &Failure<'_>,
    path: &str,
    who: &str,
    returned: &str,
) -> Said {
    let file = failure.failed.file.as_ref();
    let denied = failure.failed.error.number == libc::EACCES;
    let executable = file.and_then(|file| file.executable);
    let form = file.map(|file| file.form);
    let (why, fix, proven) = match (failure.failed.error.number, executable, form) {
        (libc::EACCES, Some(false), _) => (
            "it has no execute permission".to_owned(),
            "chmod +x the file, in the image or in git (git update-index --chmod=+x).",
            true,
        ),
        (libc::EACCES, Some(true), _) => (
            "it has execute permission, so its mount forbids it (noexec), or its interpreter may not be executed, \
             or a security module refuses"
                .to_owned(),
            "Look at the mount's options (findmnt -T) and at the permissions of the interpreter in its first line.",
            false,
        ),
        (libc::EACCES, None, _) => (
            "it may not be executed (no execute permission, a directory, or a mount with noexec)".to_owned(),
            "Look at the permissions of the file and of its directories (namei -l), and at the mount's options \
             (findmnt -T).",
            true,
        ),
        (libc::ENOEXEC, _, Some(FileForm::Empty)) => (
            "it is empty".to_owned(),
            "The file was not written whole: copy it again.",
            true,
        ),
        (libc::ENOEXEC, _, _) => (
            "it is neither a program nor a script with #! in its first line".to_owned(),
            "Put #!/bin/sh (or another interpreter) into the first line; only shells run a file without it.",
            true,
        ),
        _ => (
            format!("the kernel said {}", case.error(&failure.failed.error)),
            "See execve(2) for what this error means for the file or its arguments.",
            true,
        ),
    };
    let facts = match (denied, executable) {
        (true, Some(true)) => vec!["the file has execute permission".to_owned()],
        _ => Vec::new(),
    };
    Said {
        verdict: format!("{who} could not execute {path}: {why}; {returned}."),
        fix: fix.to_owned(),
        facts,
        proven,
    }
}

#[cfg(test)]
#[path = "exec_tests.rs"]
mod tests;
