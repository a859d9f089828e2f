//! Codes that the kernel cut, and that the loader returned.

use std::collections::HashSet;

use super::{children, own, reason};
use crate::diagnose::rules::crash::names;
use crate::diagnose::{Case, Confidence, Finding, Follows, ProcessId};
use crate::text;
use crate::words;

/// A loader gives up within this time, nanoseconds.
const LOADER_NS: u64 = 1_000_000_000;
/// And within this time, where it said nothing that was recorded, nanoseconds.
const SILENT_NS: u64 = 20_000_000;
/// Commands that were not found and are told of.
const MOST: usize = 8;

/// The program gave a code that the kernel cut.
pub(super) fn is_wrapped(case: &Case, id: ProcessId) -> bool {
    case.exit(id).is_some_and(|(_, exit)| {
        exit.argument
            .zip(exit.status.code)
            .is_some_and(|(argument, code)| argument != code)
    })
}

/// exit(256) is a success, exit(-1) is 255: wait(2) tells the low eight bits.
pub(super) fn wrapped(case: &Case) -> Vec<Finding> {
    let cut: Vec<(ProcessId, i32, i32)> = case
        .deaths()
        .into_iter()
        .filter(|id| is_wrapped(case, *id))
        .filter_map(|id| {
            let (_, exit) = case.exit(id)?;
            Some((id, exit.argument?, exit.status.code?))
        })
        .collect();
    let mut pairs: Vec<(i32, i32)> = cut.iter().map(|(_, from, to)| (*from, *to)).collect();
    pairs.sort_unstable();
    pairs.dedup();
    // A program that hashes its codes is one verdict all the same.
    pairs
        .into_iter()
        .take(16)
        .filter_map(|(argument, code)| {
            let ids: Vec<ProcessId> = cut
                .iter()
                .filter(|(_, from, to)| (*from, *to) == (argument, code))
                .map(|(id, _, _)| *id)
                .collect();
            let (exit, _) = case.exit(*ids.first()?)?;
            let hides = match code {
                0 => ": a failure that looks like a success",
                _ => "",
            };
            // A code that still tells of a failure matters less than the reason for it.
            let known = |id: &ProcessId| {
                own::is_explained(case, *id)
                    || reason::quoted(case, *id).is_some()
                    || reason::reason(case, *id).is_some()
                    || children::asked_ns(case, *id).is_some()
            };
            let minor = code != 0 && ids.iter().any(known);
            let finding =
                Finding::new(format!(
                    "{} called exit({argument}), of which the kernel keeps the low eight bits: the exit code \
                     is {code}{hides}.",
                    names(case, &ids)
                ))
                .proven()
                .about(ids.clone())
                .about(case.code_to(&ids))
                .shown_by(exit, format!("exit_group({argument}), status {code}"))
                .not("a code that the runtime made up", "it is the kernel's own status of that call")
                .remedy("Return codes from 0 to 255: 1 for any failure is enough; never a count or a negative number.");
            Some(match minor {
                true => finding.follows(Follows::Rule("exit-own-code")).note(),
                false => finding,
            })
        })
        .collect()
}

/// A library's name; not the loader's own files, which it looks for in vain in most systems.
fn is_library(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    !name.starts_with("ld.so.") && (name.ends_with(".so") || name.contains(".so."))
}

/// What 127 could be other than the loader's.
pub(super) const OF_ITS_OWN: &str = "a program that returns 127 for a reason of its own";
const NOT_FOUND: &str = "a command that was not found";

/// The library that the loader of glibc or musl says is missing.
fn said_missing(text: &str) -> Option<&str> {
    const MARKS: [&str; 2] = [
        "error while loading shared libraries: ",
        "Error loading shared library ",
    ];
    text.lines().find_map(|line| {
        let (_, rest) = MARKS.iter().find_map(|mark| line.split_once(mark))?;
        rest.split(':').next().filter(|name| !name.is_empty())
    })
}

/// The loader returns 127 when it does not find a library: the exec has succeeded by then, and it always says so.
pub(super) fn loader(case: &Case) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut told = HashSet::new();
    for id in case.deaths() {
        let Some((exit, ended)) = case
            .exit(id)
            .filter(|(_, ended)| ended.status.code == Some(127))
        else {
            continue;
        };
        let Some((exec, program)) = case.execs(id).next_back() else {
            continue;
        };
        let age = exit.time_ns.saturating_sub(case.began_ns(exec));
        let tried_others = case.failed_execs(id).any(|(event, _)| event.seq > exec.seq);
        let known = told.contains(&program.filename);
        if known || age > LOADER_NS || tried_others || !case.process(id).children.is_empty() {
            continue;
        }
        let calls = reason::calls(case, id);
        let last = calls.last().and_then(|failed| {
            let path = failed.call.path.as_deref()?;
            let missing = failed.call.error.number == libc::ENOENT && is_library(path);
            missing.then(|| (failed.event, path.to_owned()))
        });
        let file = text::escape(&program.filename);
        let after = text::duration(age);
        let name = case.name(id);
        let stderr = case.stderr(id);
        let said = stderr.and_then(|(event, tail)| Some((event, said_missing(&tail.text)?)));
        let finding = match (said, last) {
            (Some((event, library)), last) => {
                let looked = last.filter(|(_, path)| {
                    crate::diagnose::program_of(path) == crate::diagnose::program_of(library)
                });
                let finding = Finding::new(format!(
                    "{name} exited with 127 {after} after it was executed. Its loader says on stderr that the shared \
                     library {} is missing.",
                    text::escape(library),
                ))
                .proven()
                .not(NOT_FOUND, "its execve(2) succeeded, and it tried no other")
                .shown_by(event, "the last of its stderr");
                let cause = "The program needs that library, and its loader did not find it.";
                match looked {
                    Some((event, path)) => finding
                        .cause(cause, Confidence::Proven)
                        .shown_by(event, format!("last looked for as {}: ENOENT", text::escape(&path)))
                        .not(OF_ITS_OWN, "the loader's message and its last failed call name the same library"),
                    None => finding.cause(cause, Confidence::Likely).or(OF_ITS_OWN),
                }
            }
            // A loader would have written another message.
            (None, Some((event, path))) if stderr.is_none() && age <= SILENT_NS => Finding::new(format!(
                "{name} exited with 127 {after} after it was executed. The last file that it looked for in vain was {}.",
                text::escape(&path),
            ))
            .proven()
            .cause("Its loader did not find that shared library.", Confidence::ConsistentWith)
            .or(OF_ITS_OWN)
            .or("a command that it did not find")
            .shown_by(event, format!("{}: ENOENT", text::escape(&path)))
            .note(),
            _ => continue,
        };
        // The same file fails the same way each time.
        told.insert(&program.filename);
        findings.push(
            finding
                .about([id])
                .about(case.code_to(&[id]))
                .shown_by(
                    exec,
                    format!("{file} was executed: the file is there and of the right form"),
                )
                .shown_by(exit, words::status(&ended.status))
                .relies_on_all(&["exec-failed"])
                .remedy(format!(
                    "Run ldd {file} in the same image: install the package of what is \"not found\", or set \
                     the library path (LD_LIBRARY_PATH, ld.so.conf and ldconfig)."
                )),
        );
    }
    findings
}

/// The command that a shell's message says it did not find: `sh: 1: tool: not found`, `zsh: command not found: tool`.
fn command_not_found(line: &str) -> Option<&str> {
    let line = line.trim();
    let command = match line.split_once("command not found: ") {
        Some((_, command)) => command,
        None => {
            line.strip_suffix(": command not found")
                .or_else(|| line.strip_suffix(": not found"))?
                .rsplit_once(": ")?
                .1
        }
    };
    (!command.is_empty()).then_some(command)
}

/// Processes that returned 127 after they had said that a command was not found. Shells look through PATH by
/// stat(2), so there is no failed execve(2).
pub(in crate::diagnose::rules) fn said_not_found(case: &Case) -> Vec<Finding> {
    let telling = super::led_to_end(case);
    let found = case.deaths().into_iter().filter_map(|id| {
        let (exit, ended) = case.exit(id)?;
        let executed = case.execs(id).next_back().map_or(0, |(event, _)| event.seq);
        let tried = case.failed_execs(id).any(|(event, _)| event.seq > executed);
        if ended.status.code != Some(127) || tried {
            return None;
        }
        let line = reason::message(case, id)?.last_line()?;
        let command = text::escape(command_not_found(line)?);
        let (event, _) = case.stderr(id)?;
        let finding = Finding::new(format!(
            "{} exited with 127; the last it wrote to stderr: `{}`.",
            case.name(id),
            text::escape(line)
        ))
        .proven()
        .cause(
            format!("It did not find the command {command}."),
            Confidence::Likely,
        )
        .or(OF_ITS_OWN)
        .about([id])
        .about(case.code_to(&[id]))
        .shown_by(event, "the last of its stderr")
        .shown_by(exit, words::status(&ended.status))
        .remedy(format!(
            "Check the spelling of {command}, whether its package is in this image, and PATH."
        ));
        Some(match telling.contains(&id) {
            true => finding,
            false => finding.note(),
        })
    });
    found.take(MOST).collect()
}
