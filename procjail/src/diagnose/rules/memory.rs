//! Short of memory without an OOM kill: slowed down, refused, or killed by a program that watches.

use std::collections::{HashMap, HashSet};

use super::refused;
use crate::diagnose::{Case, Confidence, Family, Finding, Follows, Rank, Rule, Tagged, program_of};
use crate::event::{Event, MemorySample, SignalGenerated, What};
use crate::text;

pub(super) const FAMILY: Family = Family {
    rules: &[
        Rule {
            id: "mem-high-throttle",
            about: "the kernel slows the program down at memory.high, and kills nobody",
            alternatives: &[CPU_LIMIT],
        },
        Rule {
            id: "mem-high-then-kill",
            about: "the program was slowed down at memory.high before an OOM kill",
            alternatives: &["memory.high of a group above the jail"],
        },
        Rule {
            id: "mem-thrash-no-kill",
            about: "at the limit, the same pages of files are dropped and read again and again",
            alternatives: &["files that it reads over and over although there is room"],
        },
        Rule {
            id: "enomem-not-oom",
            about: "memory was refused (ENOMEM) by a limit of the process, and no process was OOM-killed",
            alternatives: refused::MEMORY_ALTERNATIVES,
        },
        Rule {
            id: "kill-userspace-oomd",
            about: "a program that watches memory, such as systemd-oomd, killed; the kernel did not",
            alternatives: &["a reason of its own that has nothing to do with memory"],
        },
    ],
    rank: Rank::Problem,
    analyse,
};

/// What there is of this family in a case.
fn analyse(case: &Case) -> Vec<Tagged> {
    let mut found = Vec::new();
    found.extend(
        throttled(case)
            .into_iter()
            .map(|one| ("mem-high-throttle", one)),
    );
    found.extend(
        throttled_then_killed(case)
            .into_iter()
            .map(|one| ("mem-high-then-kill", one)),
    );
    found.extend(
        thrashing(case)
            .into_iter()
            .map(|one| ("mem-thrash-no-kill", one)),
    );
    found.extend(
        refused::all(case)
            .iter()
            .filter(|(id, _)| *id == refused::MEMORY)
            .cloned(),
    );
    found.extend(
        oomd(case)
            .into_iter()
            .map(|one| ("kill-userspace-oomd", one)),
    );
    found
}

const CPU_LIMIT: &str = "the CPU limit";

/// So many times over memory.high, and it is no accident.
const OFTEN: u64 = 10;
/// From here on a jail stands still more than it moves, percent of the time.
const STILL: u64 = 20;

/// How often memory.high was exceeded since the start.
fn over_high(case: &Case) -> Option<u64> {
    let counted = case.counter_growth(0, "memory.events:high");
    let sampled = || {
        let mut samples = case.memory_samples();
        let first = samples.next()?.1.events.get("high").copied()?;
        let last = samples.last()?.1.events.get("high").copied()?;
        Some(last.saturating_sub(first))
    };
    counted.max(sampled()).filter(|count| *count >= OFTEN)
}

/// How long all tasks stood still for memory, microseconds, and over which time, nanoseconds.
fn stalled(case: &Case) -> Option<(u64, u64)> {
    let mut samples = case
        .memory_samples()
        .filter_map(|(event, sample)| Some((event.time_ns, sample.stalled_us?)));
    let (from_ns, before) = samples.next()?;
    let (to_ns, after) = samples.last()?;
    Some((after.saturating_sub(before), to_ns.saturating_sub(from_ns)))
}

fn high_limit(case: &Case) -> Option<u64> {
    case.header.jail.limits.get("memory.high")?.parse().ok()
}

/// The finding with what both of the rules on memory.high show.
fn with_high(case: &Case, finding: Finding, count: u64) -> Finding {
    let mut finding = finding.fact(format!(
        "the counter high of memory.events rose by {}",
        text::count(count)
    ));
    if let Some((us, over_ns)) = stalled(case) {
        finding = finding.fact(format!(
            "all its tasks were stalled on memory for {} of {}",
            text::duration(us.saturating_mul(1000)),
            text::duration(over_ns)
        ));
    }
    if let Some((event, sample)) = case
        .memory_samples()
        .max_by_key(|(_, sample)| sample.usage_bytes)
    {
        finding = finding.shown_by(
            event,
            format!("{} in use at the most", text::bytes(sample.usage_bytes)),
        );
    }
    finding
}

fn throttled(case: &Case) -> Vec<Finding> {
    let Some(count) = over_high(case) else {
        return Vec::new();
    };
    if case.oom_kills().next().is_some() {
        return Vec::new();
    }
    let limit = high_limit(case).map_or_else(
        || "memory.high".to_owned(),
        |bytes| format!("memory.high ({})", text::bytes(bytes)),
    );
    let still = stalled(case).map(|(us, ns)| (us.saturating_mul(1000), ns));
    let how_long = still.map_or_else(String::new, |(stalled, _)| {
        format!(
            "; all its tasks were stalled on memory for {}",
            text::duration(stalled)
        )
    });
    let much = still.is_some_and(|(stalled, over)| stalled >= over / 100 * STILL);
    let cpu = case.counter_growth(0, "cpu.stat:nr_throttled");
    let finding = with_high(
        case,
        Finding::new(format!(
            "The jail went over {limit} {} times{how_long}. No process was OOM-killed.",
            text::count(count)
        )),
        count,
    )
    .about(case.pid1())
    .proven()
    .not(
        "an OOM kill",
        "no process of the jail was chosen by the OOM killer",
    )
    .relies_on_all(&["oom-kill"])
    .cause(
        "The kernel slows a program down each time that it goes over memory.high.",
        match much {
            true => Confidence::Proven,
            false => Confidence::Likely,
        },
    );
    let finding = match cpu {
        Some(0) | None => finding.not(CPU_LIMIT, "no period was cut short by it"),
        Some(periods) => finding.fact(format!(
            "the CPU limit cut short {} periods as well",
            text::count(periods)
        )),
    };
    vec![finding.remedy(
        "Raise --memory-high, or drop it and let --memory kill: without swap a program that only has anonymous \
         memory cannot get below memory.high again by itself.",
    )]
}

fn throttled_then_killed(case: &Case) -> Vec<Finding> {
    let (Some(count), Some((kill, _))) = (over_high(case), case.oom_kills().next()) else {
        return Vec::new();
    };
    let limit =
        high_limit(case).map_or_else(String::new, |bytes| format!(" ({})", text::bytes(bytes)));
    vec![
        with_high(
            case,
            Finding::new(format!(
                "Before the OOM kill the jail went over memory.high{limit} {} times.",
                text::count(count)
            ))
            .shown_by(kill, "the OOM kill"),
            count,
        )
        .follows(Follows::Rule("oom-own-limit"))
        .follows(Follows::Rule("oom-ancestor-limit"))
        .proven()
        .not(
            "memory.high of a group above the jail",
            "the counter high is of the jail and of groups in it",
        )
        .remedy("Alert on the growth of high in memory.events, which comes before the kill."),
    ]
}

/// At the limit: so much of it is in use, percent.
const FULL: u64 = 90;
/// Fewest samples that show a state that lasts.
const LASTING: usize = 3;
/// From here on reading again is all that goes on, pages a second (4 MiB/s).
const REREAD: u64 = 1000;

fn thrashing(case: &Case) -> Vec<Finding> {
    if case.oom_kills().next().is_some() {
        return Vec::new();
    }
    let full = |sample: &MemorySample| {
        sample
            .limit_bytes
            .is_some_and(|limit| limit > 0 && sample.usage_bytes >= limit / 100 * FULL)
    };
    let at_limit: Vec<(&Event, &MemorySample)> = case
        .memory_samples()
        .filter(|(_, sample)| full(sample))
        .collect();
    let (Some((first, before)), Some((last, after))) = (at_limit.first(), at_limit.last()) else {
        return Vec::new();
    };
    let took_ns = last.time_ns.saturating_sub(first.time_ns);
    let again = after
        .kinds
        .refaults_file
        .saturating_sub(before.kinds.refaults_file);
    let rate = (u128::from(again) * 1_000_000_000 / u128::from(took_ns.max(1))) as u64;
    if at_limit.len() < LASTING || rate < REREAD {
        return Vec::new();
    }
    let page = case.header.host.page_bytes.max(1);
    let stood = stalled(case).map(|(us, over)| (us.saturating_mul(1000), over));
    let half = stood.is_some_and(|(stalled, over)| stalled >= over / 2);
    let still = stood.map_or_else(String::new, |(stalled, over)| {
        format!(
            "; all its tasks were stalled on memory for {} of {}",
            text::duration(stalled),
            text::duration(over)
        )
    });
    let remedy = match !case.cgroup_v1() {
        true => "Give it more memory (--memory), or protect what it needs (memory.low).",
        false => "Give it more memory (--memory), or have it read less at a time.",
    };
    vec![
        Finding::new(format!(
            "At its memory limit for {}, the jail read {} of files again that the kernel had dropped from the \
             page cache a moment before{still}. No process was OOM-killed.",
            text::duration(took_ns),
            text::bytes(again.saturating_mul(page))
        ))
        .about(case.pid1())
        .proven()
        .shown_by(
            first,
            format!("{} of its limit in use", text::bytes(before.usage_bytes)),
        )
        .shown_by(
            last,
            format!("{} pages of files read again since", text::count(again)),
        )
        .not("an OOM kill", "no process of the jail was chosen by the OOM killer")
        .relies_on_all(&["oom-kill"])
        .cause(
            "What it works on does not fit the limit. There is always page cache to drop, so nothing is killed.",
            match half {
                true => Confidence::Proven,
                false => Confidence::Likely,
            },
        )
        .not(
            "files that it reads over and over although there is room",
            "it was at its limit all the time",
        )
        .remedy(remedy),
    ]
}

/// Programs that kill when memory runs short, with what they go by.
const WATCHERS: &[(&str, &str)] = &[
    (
        "systemd-oomd",
        "memory pressure or swap use (ManagedOOM…= of the unit, oomd.conf)",
    ),
    (
        "earlyoom",
        "little memory and swap available (its options -m and -s)",
    ),
    ("nohang", "memory, swap and pressure (nohang.conf)"),
    ("oomd", "memory pressure (its configuration)"),
    ("kubelet", "an eviction threshold of the node"),
];

fn oomd(case: &Case) -> Vec<Finding> {
    // One look at the senders: there may be as many as there are signals.
    let senders: HashMap<(u32, u64), &str> = case
        .each(|what| match what {
            What::Sender(sender) => Some(program_of(&sender.exe)),
            _ => None,
        })
        .map(|(event, program)| ((event.task.pid, event.task.start_ns), program))
        .collect();
    let mut seen: HashSet<u32> = HashSet::new();
    let mut victims: Vec<(&Event, &SignalGenerated, &(&str, &str))> = Vec::new();
    for (event, signal) in case.signals() {
        let fatal = matches!(signal.signal.number, libc::SIGKILL | libc::SIGTERM);
        if !fatal || event.task.in_jail || signal.code.number > 0 {
            continue;
        }
        let program = senders.get(&(event.task.pid, event.task.start_ns));
        let watcher = WATCHERS
            .iter()
            .find(|(name, _)| event.task.comm == *name || program == Some(name));
        if let Some(watcher) = watcher
            && seen.insert(signal.target.pid)
        {
            victims.push((event, signal, watcher));
        }
    }
    let Some((event, signal, (name, by))) = victims.first() else {
        return Vec::new();
    };
    let target = case.task_name(&signal.target);
    let more = match victims.len() {
        1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    let known = case.sender(&event.task).is_some();
    let mut finding = Finding::new(format!(
        "{name} sent {} to {target}{more}.",
        signal.signal.name
    ))
    .proven()
    .about(
        victims
            .iter()
            .filter_map(|(_, signal, _)| case.process_of(&signal.target)),
    );
    for (event, signal, _) in victims.iter().take(4) {
        finding = finding.shown_by(
            event,
            format!(
                "{} sent {} to {}",
                case.who(&event.task),
                signal.signal.name,
                case.task_name(&signal.target)
            ),
        );
    }
    let oom = case.oom_kills().next().is_some();
    if !oom {
        finding = finding
            .not(
                "the kernel's OOM killer",
                "no process of the jail was chosen by it",
            )
            .relies_on_all(&["oom-kill"]);
    }
    vec![
        finding
            .cause(
                format!("It goes by {by}."),
                match known && !oom {
                    true => Confidence::Likely,
                    false => Confidence::ConsistentWith,
                },
            )
            .or("a reason of its own that has nothing to do with memory")
            .remedy(
                "Change what it goes by, exempt this program, or have the program use less memory.",
            ),
    ]
}
