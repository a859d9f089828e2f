//! Language runtimes, which have a limit of memory of their own that knows nothing of the jail's, or
//! did not fit it.

use std::collections::BTreeMap;

use super::kill::{Kill, Limit, ended, held, kills, makeup, percent};
use crate::diagnose::{Case, Confidence, Finding, ProcessId, program_of};
use crate::event::Event;
use crate::render;

/// What a runtime was told about its memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Heap {
    /// The runtime, for a sentence.
    runtime: &'static str,
    /// The option or variable with its value.
    setting: String,
    /// How far it may grow, bytes.
    pub bytes: u64,
}

/// Memory beside the heap (code, threads, buffers) that a runtime needs at least, percent of its heap.
const BESIDE: u64 = 15;

pub(super) fn heap_exceeds_limit(case: &Case) -> Vec<Finding> {
    kills(case)
        .into_iter()
        .filter(|kill| matches!(kill.limit, Limit::Own(_)))
        .find_map(|kill| exceeds(case, &kill))
        .into_iter()
        .collect()
}

fn exceeds(case: &Case, kill: &Kill<'_>) -> Option<Finding> {
    let limit = kill.limit_bytes()?;
    let victim = kill.victim?;
    let (event, argv) = command(case, victim)?;
    // Of two that share the limit neither is at fault for its heap alone.
    if percent(held(&kill.oom.memory), kill.usage_bytes()) < 60 {
        return None;
    }
    let environment = environment(case, kill);
    let machine = case.header.host.memory_bytes;
    let heap = heap(argv, &environment, limit, machine)?;
    let needs = heap.bytes.saturating_add(heap.bytes / 100 * BESIDE);
    if needs <= limit {
        return None;
    }
    let advice = match heap.runtime {
        "Go" => format!("set GOMEMLIMIT to about {}", render::bytes(limit / 10 * 9)),
        "Java" => format!(
            "set -Xmx to about {} or -XX:MaxRAMPercentage=70",
            render::bytes(limit / 10 * 7)
        ),
        "Node" => format!(
            "set --max-old-space-size to about {}",
            (limit / 10 * 7) >> 20
        ),
        _ => format!("let it grow to about {}", render::bytes(limit / 10 * 7)),
    };
    let over = match heap.bytes > limit {
        true => "more than the jail has",
        false => "and needs more beside its heap than is left",
    };
    Some(
        kill.qualify(
            Finding::new(format!(
                "{} may let its heap grow to {} ({}), {over} ({}): it does not clean up before the limit \
                 kills it, however much of its heap is garbage.",
                kill.name(case),
                render::bytes(heap.bytes),
                render::escape(&heap.setting),
                render::bytes(limit)
            ))
            .shown_by(event, format!("it was started as `{}`", render::command_line(argv, 80)))
            .shown_by(
                kill.event,
                format!("it held {} when it was killed", render::bytes(held(&kill.oom.memory))),
            )
            .not(
                "another process that used the memory",
                format!(
                    "it had {}% of what was in use",
                    percent(held(&kill.oom.memory), kill.usage_bytes())
                ),
            )
            .confidence(match heap.bytes > limit {
                true => Confidence::Proven,
                false => Confidence::Likely,
            })
            .remedy(format!(
                "Make the heap fit, 60 to 75% of the limit: {advice}. Or raise the jail's limit to {} or more.",
                render::bytes(needs)
            )),
        ),
    )
}

/// The arguments that a process was started with.
fn command(case: &Case, id: ProcessId) -> Option<(&Event, &[String])> {
    case.program(id)
        .map(|(event, exec)| (event, exec.argv.as_slice()))
}

/// Variables that set a runtime's memory: the process's own, as far as it was sampled, else PID 1's.
fn environment(case: &Case, kill: &Kill<'_>) -> BTreeMap<String, String> {
    let mut all = case.header.jail.environment.clone();
    let own = makeup(case, kill).and_then(|makeup| {
        makeup
            .processes
            .iter()
            .find(|process| process.process.pid == kill.oom.victim.pid)
    });
    if let Some(own) = own {
        all.extend(own.environment.clone());
    }
    all
}

/// What a runtime's arguments and environment allow it; `None` for other programs and without a setting.
pub(super) fn heap(
    argv: &[String],
    environment: &BTreeMap<String, String>,
    limit: u64,
    machine: u64,
) -> Option<Heap> {
    let program = program_of(argv.first()?);
    let rest = argv.get(1..).unwrap_or_default();
    let variable = |name: &str| environment.get(name).map(String::as_str);
    if matches!(program, "java" | "javaw" | "jsvc") {
        let options = ["JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"]
            .into_iter()
            .filter_map(variable)
            .flat_map(str::split_whitespace);
        return options
            .chain(rest.iter().map(String::as_str))
            .filter_map(|option| java(option, limit))
            .next_back();
    }
    if matches!(program, "node" | "nodejs") {
        let options = variable("NODE_OPTIONS")
            .into_iter()
            .flat_map(str::split_whitespace);
        return options
            .chain(rest.iter().map(String::as_str))
            .filter_map(node)
            .next_back();
    }
    let value = variable("GOMEMLIMIT")?;
    let bytes = match value {
        "off" => machine,
        value => size(value.strip_suffix('B').unwrap_or(value))?,
    };
    (bytes > 0).then(|| Heap {
        runtime: "Go",
        setting: format!("GOMEMLIMIT={value}"),
        bytes,
    })
}

fn java(option: &str, limit: u64) -> Option<Heap> {
    let bytes = if let Some(value) = option
        .strip_prefix("-Xmx")
        .or_else(|| option.strip_prefix("-XX:MaxHeapSize="))
    {
        size(value)?
    } else if let Some(value) = option.strip_prefix("-XX:MaxRAMPercentage=") {
        let part: f64 = value.parse().ok()?;
        // The JVM knows the jail's limit.
        (part.clamp(0.0, 100.0) / 100.0 * limit as f64) as u64
    } else {
        return None;
    };
    Some(Heap {
        runtime: "Java",
        setting: option.to_owned(),
        bytes,
    })
}

fn node(option: &str) -> Option<Heap> {
    let value = option
        .strip_prefix("--max-old-space-size=")
        .or_else(|| option.strip_prefix("--max_old_space_size="))?;
    let mebibytes: u64 = value.parse().ok()?;
    Some(Heap {
        runtime: "Node",
        setting: option.to_owned(),
        bytes: mebibytes.checked_mul(1 << 20)?,
    })
}

/// `512m`, `2g`, `900MiB`, or a number of bytes.
fn size(text: &str) -> Option<u64> {
    let digits = text.find(|char: char| !char.is_ascii_digit());
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let number: u64 = number.parse().ok()?;
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" => 0,
        "k" | "ki" | "kib" => 10,
        "m" | "mi" | "mib" => 20,
        "g" | "gi" | "gib" => 30,
        "t" | "ti" | "tib" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

/// Exit codes of a JVM that gave up: ExitOnOutOfMemoryError.
const JAVA_GAVE_UP: i32 = 3;

pub(super) fn gave_up(case: &Case) -> Vec<Finding> {
    if case.oom_kills().next().is_some() {
        return Vec::new();
    }
    let limit = memory_limit(case);
    let machine = case.header.host.memory_bytes;
    let found = case.deaths().into_iter().find_map(|id| {
        let (exit_event, exit) = case.exit(id)?;
        let (event, argv) = command(case, id)?;
        let heap = heap(
            argv,
            &case.header.jail.environment,
            limit.unwrap_or(machine),
            machine,
        )?;
        let by_itself = match (&exit.status.signal, exit.status.code) {
            // As PID 1 it survives its SIGABRT, and abort(3) goes on to an instruction that is none.
            (Some(_), _) => case.received(id).any(|(sent, signal)| {
                matches!(
                    signal.signal.number,
                    libc::SIGABRT | libc::SIGTRAP | libc::SIGILL
                ) && sent.task.pid == case.process(id).task.pid
            }),
            (None, Some(JAVA_GAVE_UP)) => heap.runtime == "Java",
            (None, Some(code)) => matches!(code, 133 | 134),
            _ => false,
        };
        // It had come near its ceiling, and not near the jail's.
        let near = exit.max_rss_bytes >= heap.bytes / 10 * 6;
        let far = limit.is_none_or(|limit| exit.max_rss_bytes < limit / 100 * 98);
        (by_itself && near && far).then_some((id, event, argv, exit_event, exit, heap))
    });
    let Some((id, event, argv, exit_event, exit, heap)) = found else {
        return Vec::new();
    };
    let below = match limit {
        Some(limit) => format!(" of the jail's {}", render::bytes(limit)),
        None => String::new(),
    };
    vec![
        Finding::new(format!(
            "{} gave up by itself at its own heap limit ({}): it {}. The kernel's OOM killer had no part \
             in it. Its peak was {}{below}.",
            case.name(id),
            render::escape(&heap.setting),
            ended(&exit.status),
            render::bytes(exit.max_rss_bytes)
        ))
        .about([id])
        .shown_by(
            event,
            format!("it was started as `{}`", render::command_line(argv, 80)),
        )
        .shown_by(exit_event, format!("it {}", ended(&exit.status)))
        .not("an OOM kill", "no process of the jail was chosen by the OOM killer")
        .not(
            "a signal from another",
            "it ended itself",
        )
        .relies_on_all(&["oom-kill", "signal-generated"])
        .remedy("Raise the runtime's own limit (and the jail's with it, if need be), or make the program use less."),
    ]
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
