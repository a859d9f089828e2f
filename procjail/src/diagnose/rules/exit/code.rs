//! Codes that the kernel cut, and that the loader returned.

use std::collections::HashSet;

use super::{children, own, reason};
use crate::diagnose::rules::crash::names;
use crate::diagnose::{Case, Finding, Follows, ProcessId};
use crate::render;

/// A loader gives up within this time, nanoseconds.
const LOADER_NS: u64 = 1_000_000_000;

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

/// Programs that return 127 for what they could not run.
fn runs_others(comm: &str) -> bool {
    matches!(
        comm,
        "sh" | "bash"
            | "dash"
            | "ash"
            | "zsh"
            | "ksh"
            | "fish"
            | "busybox"
            | "env"
            | "xargs"
            | "timeout"
            | "nohup"
            | "nice"
            | "sudo"
            | "su"
            | "chroot"
            | "setsid"
            | "stdbuf"
            | "make"
            | "flock"
            | "time"
    )
}

fn is_library(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.ends_with(".so") || name.contains(".so.")
}

/// What 127 could be as well.
pub(super) const OF_ITS_OWN: &str = "a program that returns 127 for a reason of its own";

/// The loader returns 127 when it does not find a library: the exec has succeeded by then.
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
        let age = exit.time_ns.saturating_sub(exec.time_ns);
        let tried_others = case.failed_execs(id).any(|(event, _)| event.seq > exec.seq);
        let known = told.contains(&program.filename);
        if known || age > LOADER_NS || tried_others || !case.process(id).children.is_empty() {
            continue;
        }
        let missing = case.failed_calls(id).and_then(|(event, failed)| {
            let call = failed.calls.iter().rev().find(|call| {
                call.error.number == libc::ENOENT
                    && call.path.as_ref().is_some_and(|path| is_library(path))
            })?;
            Some((event, call.path.as_deref()?))
        });
        let file = render::escape(&program.filename);
        let base = |verdict: String| {
            Finding::new(verdict)
                .about([id])
                .about(case.code_to(&[id]))
                .shown_by(
                    exec,
                    format!("{file} was executed: the file is there and of the right form"),
                )
        };
        let finding = match missing {
            Some((event, path)) => {
                let library = crate::diagnose::program_of(path);
                let finding = base(format!(
                    "{} could not start: the shared library {} is missing, so the loader gave up with 127.",
                    case.name(id),
                    render::escape(library),
                ))
                .proven()
                .shown_by(event, format!("last looked for as {}: ENOENT", render::escape(path)))
                .not("a command that was not found", "its execve(2) succeeded");
                // The loader looks in vain for those that it then finds elsewhere, too.
                match case.stderr(id).filter(|(_, tail)| tail.text.contains(library)) {
                    Some((event, _)) => finding
                        .shown_by(event, "the last of its stderr names that library")
                        .not(OF_ITS_OWN, "the last that it wrote to stderr names that library"),
                    None => finding,
                }
            }
            None if !runs_others(&case.process(id).task.comm) => base(format!(
                "{} returned 127 within {} of its start: a shared library is missing, as far as can be told \
                 (the loader's code for that is 127).",
                case.name(id),
                render::duration(age),
            ))
            .consistent()
            .not("a command that was not found", "its execve(2) succeeded, and it tried no other"),
            None => continue,
        };
        // The same file fails the same way each time.
        told.insert(&program.filename);
        findings.push(
            finding
                .shown_by(exit, render::status(&ended.status))
                .relies_on_all(&["exec-failed"])
                .remedy(format!(
                    "Run ldd {file} in the same image: install the package of what is \"not found\", or set \
                     the library path (LD_LIBRARY_PATH, ld.so.conf and ldconfig)."
                )),
        );
    }
    findings
}
