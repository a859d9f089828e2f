//! Codes that a program returned itself.

use std::collections::HashSet;

use super::children;
use crate::diagnose::rules::{crash::names, crash::seccomp, exec, limit};
use crate::diagnose::{Case, Finding, Follows, Passing, ProcessId};
use crate::event::FailedCall;
use crate::render;

/// Failed calls that are told with a code.
const TOLD: usize = 3;
/// A failed call so long before the end has little to do with it, nanoseconds.
const RECENT_NS: u64 = 1_000_000_000;
/// A loader gives up within this time, nanoseconds.
const LOADER_NS: u64 = 1_000_000_000;

/// Errors that belong to the ordinary course of a program.
fn is_routine(call: &FailedCall) -> bool {
    matches!(
        call.error.number,
        libc::EAGAIN | libc::EINTR | libc::EINPROGRESS | libc::ETIMEDOUT | libc::ENOTTY
    ) || call.error.number == libc::ECHILD
        // Start-up code asks for what can't be changed, or is not there.
        || matches!(
            (call.syscall.name.as_str(), call.error.number),
            ("rt_sigaction", libc::EINVAL) | ("lseek", libc::ESPIPE) | ("readlink", libc::EINVAL)
        )
        || matches!(call.syscall.name.as_str(), "prctl" | "arch_prctl" | "rseq")
        || (call.error.number == libc::ENOENT && call.path.as_deref().is_some_and(is_looked_for))
}

/// What the C library and its loader look for in every program, and mostly don't find.
fn is_looked_for(path: &str) -> bool {
    const STARTS: [&str; 4] = [
        "/etc/ld.so.",
        "/usr/lib/locale/",
        "/usr/share/locale/",
        "/run/nscd/",
    ];
    STARTS.iter().any(|start| path.starts_with(start))
        || path.contains("/glibc-hwcaps/")
        || path == "/var/run/nscd/socket"
}

/// A failed call in words: `bind: EADDRINUSE (Address already in use)`.
fn words(case: &Case, call: &FailedCall) -> String {
    let path = call
        .path
        .as_ref()
        .map_or_else(String::new, |path| format!(" {}", render::escape(path)));
    format!(
        "{}{path} failed with {}",
        render::escape(&call.syscall.name),
        case.error(&call.error)
    )
}

/// The last failed calls that may matter, latest first. Files that are not there are often only
/// looked for: they are told where nothing else failed later.
fn telling(calls: &[FailedCall]) -> Vec<&FailedCall> {
    let mut found: Vec<&FailedCall> = Vec::new();
    for call in calls.iter().rev().filter(|call| !is_routine(call)) {
        let known = found.iter().any(|other| {
            other.syscall == call.syscall && other.error == call.error && other.path == call.path
        });
        if !known {
            found.push(call);
        }
    }
    // Stable: among equals the latest stays first.
    found.sort_by_key(|call| call.error.number == libc::ENOENT && call.before_ns > 50_000_000);
    found.truncate(TOLD);
    found
}

/// PID 1's exit code, where it is a program's own doing: PID 1's, or that of the child whose code it
/// passed on.
pub(super) fn own(case: &Case) -> Vec<Finding> {
    let Some(pid1) = case.pid1() else {
        return Vec::new();
    };
    own_of(case, pid1).into_iter().collect()
}

fn own_of(case: &Case, pid1: ProcessId) -> Option<Finding> {
    let chain = case.code_from(pid1);
    let origin = *chain.last()?;
    let (exit, ended) = case.exit(origin)?;
    let code = ended.status.code.filter(|code| *code != 0)?;
    // Above 128, and where a child's end was changed, other rules say more.
    if code > 128 && code < 193 || is_wrapped(case, origin) || !started(case, pid1) {
        return None;
    }
    if case
        .passed_on(origin)
        .is_some_and(|passed| passed.how != Passing::Code)
    {
        return None;
    }
    let explained = [
        exec::all(case),
        limit::failures(case),
        loader(case),
        children::stolen(case),
        children::discarded(case),
    ];
    if explained
        .iter()
        .flatten()
        .any(|finding| finding.subjects.contains(&origin))
    {
        return None;
    }
    let calls = case.failed_calls(origin);
    let told = calls.map_or_else(Vec::new, |(_, failed)| telling(&failed.calls));
    let name = case.name(origin);
    let recent = told.first().filter(|call| call.before_ns <= RECENT_NS);
    let last = recent.map_or_else(String::new, |call| {
        format!(
            ", {} after {}",
            render::duration(call.before_ns),
            words(case, call)
        )
    });
    let passed = match chain.len() {
        0 | 1 => String::new(),
        _ => format!("; {} returned the same", case.name(pid1)),
    };
    let mut finding = Finding::new(format!(
        "{name} itself returned the exit code {code}{last}{passed}."
    ))
    .proven()
    .about(chain.iter().copied())
    .shown_by(exit, format!("{name} {}", case.did_end(&ended.status)))
    .not("a signal", "the kernel's status of it is an exit code")
    .relies_on_all(&["reap"])
    .remedy(match recent.is_none() {
        true => format!(
            "Read what {name} wrote last, and what its manual says of code {code}."
        ),
        false => "Mend what the failed calls name; the last one before the end is the most likely reason."
            .to_owned(),
    });
    if let Some((event, _)) = calls {
        for call in &told {
            finding = finding.shown_by(
                event,
                format!(
                    "{} before: {}",
                    render::duration(call.before_ns),
                    words(case, call)
                ),
            );
        }
    }
    if case.passed_on(origin).is_none() {
        finding = finding.not(
            "a child's failure",
            "no child that it collected had ended badly just before",
        );
    }
    if seccomp::refused(case)
        .iter()
        .any(|refused| refused.subjects.contains(&origin))
    {
        finding = finding.follows(Follows::Rule("seccomp-errno"));
    }
    for above in chain.iter().rev().skip(1) {
        if let Some((event, _)) = case.exit(*above) {
            finding = finding.shown_by(
                event,
                format!("{} returned the same code", case.name(*above)),
            );
        }
    }
    Some(finding.at(exit.time_ns))
}

/// PID 1 is the program, not the launcher's own code on its way to it.
fn started(case: &Case, pid1: ProcessId) -> bool {
    case.execs(pid1).next().is_some() || !case.from_the_start()
}

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
            Some(
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
                .remedy("Return codes from 0 to 255: 1 for any failure is enough; never a count or a negative number."),
            )
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
                base(format!(
                    "{} could not start: the shared library {} is missing, so the loader gave up with 127.",
                    case.name(id),
                    render::escape(library),
                ))
                .proven()
                .shown_by(event, format!("last looked for as {}: ENOENT", render::escape(path)))
                .not("a command that was not found", "its execve(2) succeeded")
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
