//! Language runtimes and caches, which have a limit of memory of their own that knows nothing of the jail's, or
//! did not fit it.

use super::super::fork;
use super::Look;
use super::ceiling::{Bound, Ceiling, ceiling, explicit};
use super::kill::{Kill, Limit, ended, own, percent};
use super::limit::capital;
use crate::diagnose::{Case, Confidence, Finding, ProcessId, Tagged, is_bad};
use crate::event::Event;
use crate::text;

/// Memory beside the heap (code, threads, buffers) that a runtime needs at least, percent of its heap.
const BESIDE: u64 = 15;
/// Of two that share the limit neither is at fault alone: a victim with less is not looked at, percent.
const MOST: u64 = 60;
/// Memory beyond the heap's limit counts from here on, percent of the jail's: what manages a heap takes some.
const OUTSIDE: u64 = 25;

pub(super) fn analyse(look: &Look<'_>) -> Vec<Tagged> {
    if look.kills.is_empty() {
        return gave_up(look.case)
            .map(|finding| ("oom-inside-runtime", finding))
            .into_iter()
            .collect();
    }
    look.kills
        .iter()
        .filter(|kill| matches!(kill.limit, Limit::Own(_)))
        .find_map(|kill| exceeds(look.case, kill))
        .map(|finding| ("oom-runtime-heap-exceeds-limit", finding))
        .into_iter()
        .collect()
}

fn exceeds(case: &Case, kill: &Kill<'_>) -> Option<Finding> {
    let limit = kill.limit_bytes()?;
    let victim = kill.victim?;
    let (event, argv) = command(case, victim)?;
    let had = own(&kill.oom.memory);
    if percent(had, kill.usage_bytes()) < MOST {
        return None;
    }
    let machine = case.header.host.memory_bytes;
    let ceiling = ceiling(argv, |name| variable(case, victim, name), machine)?;
    let finding = match ceiling.bytes {
        Some(bytes) if outside(bytes, had, limit) && ceiling.bound == Bound::Heap => {
            beyond(case, kill, &ceiling, had, had.saturating_sub(bytes))
        }
        Some(bytes) if bytes.saturating_add(bytes / 100 * BESIDE) <= limit => return None,
        // A JVM reserves the addresses of its whole heap: with fewer it has chosen a smaller one.
        Some(bytes) if ceiling.reserved && kill.oom.memory.total_vm_bytes < bytes => return None,
        bytes => grew(case, kill, &ceiling, had, bytes, limit),
    };
    Some(
        kill.qualify(
            finding
                .proven()
                .shown_by(
                    event,
                    format!("it was started as `{}`", text::command_line(argv, 80)),
                )
                .shown_by(
                    kill.event,
                    format!("it held {} when it was killed", text::bytes(had)),
                )
                .not(
                    "another process that used the memory",
                    format!(
                        "it had {}% of what was in use",
                        percent(had, kill.usage_bytes())
                    ),
                ),
        ),
    )
}

/// The process holds clearly more than its heap may have.
fn outside(heap: u64, had: u64, limit: u64) -> bool {
    percent(had.saturating_sub(heap), limit) >= OUTSIDE
}

/// More than the heap's own limit allows: the rest is no heap.
fn beyond(case: &Case, kill: &Kill<'_>, ceiling: &Ceiling, had: u64, rest: u64) -> Finding {
    Finding::new(format!(
        "{} held {} of its own when it was killed, {} more than its heap may have ({}).",
        kill.name(case),
        text::bytes(had),
        text::bytes(rest),
        text::escape(&ceiling.setting)
    ))
    .cause(
        format!(
            "Most of that rest is memory outside the heap: {}.",
            ceiling.beside
        ),
        Confidence::Likely,
    )
    .or("what the runtime needs to manage its heap")
    .remedy(format!(
        "Bound what lies outside the heap: {}.",
        ceiling.beside
    ))
}

fn grew(
    case: &Case,
    kill: &Kill<'_>,
    ceiling: &Ceiling,
    had: u64,
    bytes: Option<u64>,
    limit: u64,
) -> Finding {
    let fact = Finding::new(format!(
        "{} was started {}; it held {} of the limit of {} when it was killed.",
        kill.name(case),
        text::escape(&ceiling.setting),
        text::bytes(had.min(limit)),
        text::bytes(limit)
    ));
    let what = ceiling.bound.words();
    let cause = match bytes {
        None => format!("Nothing bounds {what}."),
        Some(bytes) if bytes > limit => format!(
            "{} may grow to {}, more than the jail has{}.",
            capital(what),
            text::bytes(bytes),
            match ceiling.bound {
                Bound::Heap => ", before it has to collect garbage",
                Bound::Cache | Bound::Data | Bound::Request => "",
            }
        ),
        Some(bytes) => format!(
            "{} may grow to {}, and what it needs beside that is more than the limit leaves.",
            capital(what),
            text::bytes(bytes)
        ),
    };
    let sure = ceiling.explicit || ceiling.reserved;
    let finding = fact.cause(
        cause,
        match sure && bytes.is_none_or(|bytes| bytes > limit) {
            true => Confidence::Likely,
            false => Confidence::ConsistentWith,
        },
    );
    let finding = match ceiling.bound {
        Bound::Heap | Bound::Request => finding.or("a leak, which would fill a limit of any size"),
        Bound::Cache | Bound::Data => finding,
    };
    let finding = match ceiling.beside {
        "" => finding,
        beside => finding.or(format!("memory that this does not bound: {beside}")),
    };
    finding.remedy(ceiling.advice(limit))
}

/// The arguments that a process was started with.
fn command(case: &Case, id: ProcessId) -> Option<(&Event, &[String])> {
    case.program(id)
        .map(|(event, exec)| (event, exec.argv.as_slice()))
}

/// A variable that sets a runtime's memory: the process's own, as it was last sampled, else PID 1's.
fn variable(case: &Case, id: ProcessId, name: &str) -> Option<String> {
    let pid = case.process(id).task.pid;
    case.memory_samples()
        .filter_map(|(_, sample)| {
            sample
                .processes
                .iter()
                .find(|one| one.process.pid == pid)?
                .environment
                .get(name)
        })
        .last()
        .or_else(|| case.header.jail.environment.get(name))
        .cloned()
}

/// Exit codes of a JVM that gave up: ExitOnOutOfMemoryError.
const JAVA_GAVE_UP: i32 = 3;

/// What runtimes say when they are out of memory by their own limit: a JVM, V8, PHP.
const SAID: &[&str] = &[
    "OutOfMemoryError",
    "heap out of memory",
    "Allowed memory size",
];

fn gave_up(case: &Case) -> Option<Finding> {
    let limit = memory_limit(case);
    let machine = case.header.host.memory_bytes;
    let says = |id: ProcessId| {
        case.stderr(id)
            .is_some_and(|(_, tail)| ends_with_memory(&tail.text))
    };
    let found = case.deaths().into_iter().find_map(|id| {
        let (exit_event, exit) = case.exit(id).filter(|(_, exit)| is_bad(&exit.status))?;
        let (event, argv) = command(case, id)?;
        // Runtimes call a thread that was refused out of memory, too.
        if fork::refused_to(case, id) {
            return None;
        }
        if says(id) {
            let heap = ceiling(argv, |name| variable(case, id, name), machine)?;
            let near = heap
                .bytes
                .is_some_and(|bytes| exit.max_rss_bytes >= bytes / 10 * 6);
            return (heap.explicit || near).then_some((id, event, argv, exit_event, exit, heap));
        }
        let heap = explicit(argv, |name| variable(case, id, name), machine)?;
        let bytes = heap.bytes?;
        let by_itself = match (&exit.status.signal, exit.status.code) {
            // As PID 1 it survives its SIGABRT, and abort(3) goes on to an instruction that is none.
            (Some(_), _) => case.received(id).any(|(sent, signal)| {
                matches!(
                    signal.signal.number,
                    libc::SIGABRT | libc::SIGTRAP | libc::SIGILL
                ) && sent.task.pid == case.process(id).task.pid
            }),
            (None, Some(JAVA_GAVE_UP)) => heap.exits_with_3,
            (None, Some(code)) => matches!(code, 133 | 134),
            _ => false,
        };
        // It had come near its ceiling, and not near the jail's.
        let near = exit.max_rss_bytes >= bytes / 10 * 6;
        let far = limit.is_none_or(|limit| exit.max_rss_bytes < limit / 100 * 98);
        (by_itself && near && far).then_some((id, event, argv, exit_event, exit, heap))
    });
    let (id, event, argv, exit_event, exit, heap) = found?;
    let below = match limit {
        Some(limit) => format!("; the jail's limit is {}", text::bytes(limit)),
        None => String::new(),
    };
    let mut finding = Finding::new(format!(
        "{}, started {}, {} by itself, and no process of the jail was OOM-killed. Its largest resident set (files included) was \
         {}{below}.",
        case.name(id),
        text::escape(&heap.setting),
        ended(&exit.status),
        text::bytes(exit.max_rss_bytes)
    ))
    .proven()
    .about([id])
    .about(case.code_to(&[id]))
    .shown_by(
        event,
        format!("it was started as `{}`", text::command_line(argv, 80)),
    )
    .shown_by(exit_event, format!("it {}", ended(&exit.status)));
    if let Some((event, tail)) = case.stderr(id) {
        finding = finding.shown_by(
            event,
            format!("it wrote last: {}", text::escape(tail.text.trim_end())),
        );
    }
    let says = says(id);
    let finding = finding
        .not(
            "an OOM kill",
            "no process of the jail was chosen by the OOM killer",
        )
        .relies_on_all(&["oom-kill", "signal-generated"])
        .cause(
            "It reached its own limit of memory and gave up.",
            Confidence::Likely,
        )
        .remedy("Raise the runtime's own limit (and the jail's with it, if need be), or have the program use less.");
    Some(match says {
        true => finding
            .or("an error that it had caught, and an end for another reason")
            .or("words of memory that it only quotes"),
        false => finding.or("an abort for another reason"),
    })
}

/// The last failure that is told is one of memory. Lines of a stack trace are indented.
fn ends_with_memory(text: &str) -> bool {
    const ERRORS: &[&str] = &["Error", "Exception", "error:", "ERROR"];
    const OTHERS: &[&str] = &["native thread", "Requested array size"];
    let has = |line: &str, words: &[&str]| words.iter().any(|word| line.contains(word));
    text.lines()
        .rfind(|line| !line.starts_with([' ', '\t']) && (has(line, ERRORS) || has(line, SAID)))
        .is_some_and(|line| has(line, SAID) && !has(line, OTHERS))
}

/// The jail's memory limit, bytes.
fn memory_limit(case: &Case) -> Option<u64> {
    let limits = &case.header.jail.limits;
    limits
        .get("memory.max")
        .or_else(|| limits.get("memory.limit_in_bytes"))?
        .parse()
        .ok()
}
