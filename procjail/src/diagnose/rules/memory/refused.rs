//! Memory that was refused with ENOMEM: by which limit, and whether the program went on.

use crate::diagnose::{Case, Confidence, Finding, ProcessId};
use crate::event::{FailedCall, LimitChanged, What};
use crate::render;

/// Calls that ask for memory.
const ASKING: &[&str] = &[
    "mmap", "brk", "mremap", "mprotect", "munmap", "mlock", "mlock2", "mlockall",
];
/// A refusal this long before the end is not what ended it, nanoseconds.
const RECENT_NS: u64 = 2_000_000_000;

/// What else may have refused.
pub(super) const ANOTHER_LIMIT: &str = "another limit of memory";

/// Where a limit of a process comes from.
struct Limit {
    words: &'static str,
    bytes: u64,
    /// It was set inside the jail, by whom.
    by: Option<String>,
}

pub(super) fn analyse(case: &Case) -> Vec<Finding> {
    if case.oom_kills().next().is_some() {
        return Vec::new();
    }
    let changes: Vec<(u64, &LimitChanged, String)> = case
        .each(|what| match what {
            What::LimitChanged(change) => Some(change),
            _ => None,
        })
        .map(|(event, change)| (event.time_ns, change, case.task_name(&event.task)))
        .collect();
    let mut found = Vec::new();
    for (id, event, calls) in case.all_failed_calls() {
        let refused = calls.calls.iter().rev().find(|call| {
            call.error.number == libc::ENOMEM
                && ASKING.contains(&call.syscall.name.as_str())
                && call.before_ns <= RECENT_NS
        });
        let (Some(call), Some((exit, ended))) = (refused, case.exit(id)) else {
            continue;
        };
        let at_ns = event.time_ns.saturating_sub(call.before_ns);
        let name = render::escape(&call.syscall.name);
        let asked = asked(call);
        let amount = asked.map_or_else(String::new, |bytes| {
            format!(" for {}", render::bytes(bytes))
        });
        let finding = Finding::new(format!(
            "{} asked{amount} ({name}), was refused with ENOMEM, and {} {} later. Nobody was OOM-killed.",
            case.name(id),
            super::ended(&ended.status),
            render::duration(exit.time_ns.saturating_sub(at_ns))
        ))
        .proven()
        .shown_by(
            event,
            format!(
                "{name} failed with ENOMEM {} before the end",
                render::duration(call.before_ns)
            ),
        )
        .at(at_ns)
        .about([id])
        .about(case.code_to(&[id]))
        .not("an OOM kill", "no process of the jail was chosen by the OOM killer")
        .relies_on_all(&["oom-kill"]);
        let finding = match case.stderr(id) {
            Some((event, tail)) => finding.shown_by(
                event,
                format!("it wrote last: {}", render::escape(tail.text.trim_end())),
            ),
            None => finding,
        };
        let limit = limit(case, id, call, at_ns, &changes);
        let finding = why(case, finding, call, limit, asked);
        found.push(match matters(case, id) {
            true => finding,
            false => finding.note(),
        });
    }
    found
}

/// The refusal ended the process, as far as its end and its last words tell.
fn matters(case: &Case, id: ProcessId) -> bool {
    const WORDS: &[&str] = &["emory", "alloc", "ENOMEM", "out of space", "reserve"];
    let badly = case.status(id).is_some_and(crate::diagnose::is_bad);
    let says = |text: &str| WORDS.iter().any(|word| text.contains(word));
    badly
        && case
            .stderr(id)
            .is_none_or(|(_, tail)| tail.text.trim().is_empty() || says(&tail.text))
}

/// How much a call asked for, bytes.
fn asked(call: &FailedCall) -> Option<u64> {
    let index = match call.syscall.name.as_str() {
        "mmap" | "mlock" | "mlock2" | "mprotect" => 1,
        "mremap" => 2,
        _ => return None,
    };
    call.args.get(index).copied().filter(|bytes| *bytes > 0)
}

/// The process's limit that such a call is refused by, if it has one: that of the jail, or as it was set inside, also by
/// those it was made by.
fn limit(
    case: &Case,
    id: ProcessId,
    call: &FailedCall,
    at_ns: u64,
    changes: &[(u64, &LimitChanged, String)],
) -> Option<Limit> {
    let names: &[(&str, &str)] = match call.syscall.name.as_str() {
        "mlock" | "mlock2" | "mlockall" => &[("memlock", "locked memory (RLIMIT_MEMLOCK)")],
        _ => &[
            ("as", "address space (RLIMIT_AS)"),
            ("data", "data (RLIMIT_DATA)"),
        ],
    };
    names.iter().find_map(|(name, words)| {
        let mut holder = Some(id);
        let mut until_ns = at_ns;
        while let Some(process) = holder {
            let set = changes.iter().rev().find(|(time_ns, change, _)| {
                *time_ns <= until_ns
                    && change.resource == *name
                    && case.process_of(&change.target) == Some(process)
            });
            if let Some((_, change, by)) = set {
                return change.soft.map(|bytes| Limit {
                    words,
                    bytes,
                    by: Some(by.clone()),
                });
            }
            until_ns = case.born_ns(process);
            holder = case
                .process(process)
                .creator
                .filter(|above| *above != process);
        }
        let bytes = case.header.jail.rlimits.get(*name).copied().flatten()?;
        Some(Limit {
            words,
            bytes,
            by: None,
        })
    })
}

fn why(
    case: &Case,
    finding: Finding,
    call: &FailedCall,
    limit: Option<Limit>,
    asked: Option<u64>,
) -> Finding {
    if let Some(limit) = limit {
        let by = limit
            .by
            .map_or_else(String::new, |by| format!(", which {by} had set"));
        let cause = format!(
            "Its limit of {} is {}{by}.",
            limit.words,
            render::bytes(limit.bytes)
        );
        let alone = asked.is_some_and(|asked| asked >= limit.bytes);
        let finding = finding
            .cause(
                cause,
                match alone {
                    true => Confidence::Proven,
                    false => Confidence::Likely,
                },
            )
            .remedy(
                "Raise that limit (--rlimit as=, data=, memlock=, or ulimit where it was set), or have it ask for \
                 less. The jail's memory limit has nothing to do with it.",
            );
        return match alone {
            true => finding.not(
                ANOTHER_LIMIT,
                "it asked for more than this one allows in all",
            ),
            false => finding.or("another limit of memory"),
        };
    }
    let machine = case.header.host.memory_bytes;
    let much = asked.filter(|asked| machine > 0 && *asked >= machine);
    match (call.syscall.name.as_str(), much) {
        ("munmap" | "mprotect" | "mremap", _) => finding
            .cause(
                "The process has as many mappings as it may have (vm.max_map_count).",
                Confidence::ConsistentWith,
            )
            .or("the machine's rules on memory (vm.overcommit_memory)")
            .remedy("Raise vm.max_map_count, or find what makes so many mappings (/proc/PID/maps)."),
        ("mlock" | "mlock2" | "mlockall", _) => finding
            .cause("A limit of locked memory.", Confidence::ConsistentWith)
            .or("an address that is not mapped")
            .remedy("Raise RLIMIT_MEMLOCK (--rlimit memlock=), or lock less."),
        (_, Some(_)) => finding
            .cause(
                format!(
                    "It asked for more at once than the machine has ({}), which the kernel refuses \
                     (vm.overcommit_memory).",
                    render::bytes(machine)
                ),
                Confidence::Likely,
            )
            .or("a limit of its own that this trace does not show")
            .remedy("Have it ask for less at once; where it never touches most of it, vm.overcommit_memory=1 allows it."),
        _ => finding
            .cause(
                "The machine's rules on memory (vm.overcommit_memory).",
                Confidence::ConsistentWith,
            )
            .or("as many mappings as it may have (vm.max_map_count)")
            .or("a limit of its own that this trace does not show (ulimit -v)")
            .remedy("See /proc/PID/limits, CommitLimit in /proc/meminfo and the number of lines of /proc/PID/maps."),
    }
}
