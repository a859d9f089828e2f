//! The limit was hit, and the kill that should have made room did not, or could not.

use std::collections::HashMap;

use super::Look;
use crate::diagnose::{Case, Confidence, Finding, Tagged};
use crate::event::{Event, MemorySample, OomReap, OomReapStage, What};
use crate::text;

/// A victim that takes this long to die is stuck, nanoseconds. The kernel starts to free its memory
/// after two seconds (`OOM_REAPER_DELAY` in mm/oom_kill.c).
const SLOW_NS: u64 = 1_500_000_000;
/// So many failures without a kill are no accident.
const OFTEN: u64 = 3;

pub(super) fn analyse(look: &Look<'_>) -> Vec<Tagged> {
    let tag = |id: &'static str| move |finding: Finding| (id, finding);
    victim(look)
        .into_iter()
        .map(tag("oom-victim-stuck"))
        .chain(
            no_victim(look.case)
                .into_iter()
                .map(tag("oom-no-eligible-victim")),
        )
        .chain(
            disabled(look.case)
                .into_iter()
                .map(tag("oom-disabled-v1-hang")),
        )
        .collect()
}

fn victim(look: &Look<'_>) -> Vec<Finding> {
    let case = look.case;
    let mut reaps: HashMap<u32, Vec<(&Event, &OomReap)>> = HashMap::new();
    for (event, reap) in case.each(|what| match what {
        What::OomReap(reap) => Some(reap),
        _ => None,
    }) {
        reaps
            .entry(reap.victim.pid)
            .or_default()
            .push((event, reap));
    }
    let mut found = Vec::new();
    for kill in &look.kills {
        let end = kill.victim.and_then(|victim| case.exit(victim));
        let until = end.map_or(case.end_ns(), |(event, _)| event.time_ns);
        let took = until.saturating_sub(kill.event.time_ns);
        let reaped: Vec<(&Event, &OomReap)> = reaps
            .get(&kill.oom.victim.pid)
            .into_iter()
            .flatten()
            .filter(|(event, _)| event.time_ns >= kill.event.time_ns && event.time_ns <= until)
            .copied()
            .collect();
        if reaped.is_empty() && took < SLOW_NS {
            continue;
        }
        let stage = |wanted: OomReapStage| reaped.iter().any(|(_, reap)| reap.stage == wanted);
        let memory = if stage(OomReapStage::Finish) {
            "the OOM reaper freed its memory before that"
        } else if stage(OomReapStage::Skip) {
            "the OOM reaper could not free its memory either"
        } else {
            "the OOM reaper did not free its memory before that"
        };
        let (place, shown) = where_it_is(case, &kill.oom.victim.pid, kill.event, until);
        let died = match end {
            Some(_) => format!("took {} to die", text::duration(took)),
            None => format!("had not died {} later", text::duration(took)),
        };
        let mut finding = Finding::new(format!(
            "The OOM victim {} {died}{place}; {memory}.",
            kill.name(case)
        ))
        .shown_by(kill.event, "it was chosen and sent SIGKILL")
        .not(
            "a victim that waits for its parent to collect it",
            "the time is that until its exit, which comes before that",
        );
        for (event, reap) in reaped.iter().take(4) {
            finding = finding.shown_by(
                event,
                match reap.stage {
                    OomReapStage::Wake => "the OOM reaper is woken, as the victim does not die",
                    OomReapStage::Start => "the OOM reaper is freeing its memory",
                    OomReapStage::Finish => "it has freed it",
                    OomReapStage::Skip => "it gave up",
                    _ => "the OOM reaper is at work",
                },
            );
        }
        if let Some(event) = shown {
            finding = finding.shown_by(event, "where its threads were");
        }
        if let Some((event, _)) = end {
            finding = finding.shown_by(event, "its end");
        }
        let proven = stage(OomReapStage::Wake) || end.is_some();
        found.push(
            kill.qualify(
                finding
                    .confidence(match proven {
                        true => Confidence::Proven,
                        false => Confidence::Likely,
                    })
                    .remedy(
                        "Free what blocks it: a thread in state D waits for a file system (FUSE, NFS) or a \
                         driver, which no signal ends.",
                    ),
            ),
        );
    }
    found
}

/// Where a blocked thread of the victim waits, in words, and the snapshot that shows it.
fn where_it_is<'a>(
    case: &'a Case,
    pid: &u32,
    from: &Event,
    until_ns: u64,
) -> (String, Option<&'a Event>) {
    let seen = case
        .snapshots()
        .filter(|(event, _)| event.time_ns >= from.time_ns && event.time_ns <= until_ns)
        .find_map(|(event, snapshot)| {
            let thread = snapshot
                .threads
                .iter()
                .find(|thread| thread.task.pid == *pid && thread.state == "D")?;
            Some((event, thread))
        });
    match seen {
        Some((event, thread)) => {
            let inside = match (thread.wait_channel.as_str(), thread.stack.first()) {
                ("", None) => String::new(),
                ("", Some(top)) => format!(" in {}", text::escape(top)),
                (channel, _) => format!(" in {}", text::escape(channel)),
            };
            (
                format!(": its thread {} was blocked{inside}", thread.task.tid),
                Some(event),
            )
        }
        None => (String::new(), None),
    }
}

fn no_victim(case: &Case) -> Vec<Finding> {
    let logged = case
        .each(|what| match what {
            What::KernelMessage(message) if message.text.contains("no killable processes") => {
                Some(message)
            }
            _ => None,
        })
        .next();
    let rose = |name: &str| case.counter_growth(0, name);
    let failures = rose("memory.events:oom").unwrap_or(0);
    let none_killed =
        case.oom_kills().next().is_none() && rose("memory.events:oom_kill").unwrap_or(0) == 0;
    let protected: Vec<(&Event, &MemorySample)> = case
        .memory_samples()
        .filter(|(_, sample)| {
            !sample.processes.is_empty()
                && sample
                    .processes
                    .iter()
                    .all(|process| process.oom_score_adj == -1000)
        })
        .collect();
    if !none_killed
        || disabled_in(case).is_some()
        || (logged.is_none() && (failures < OFTEN || protected.is_empty()))
    {
        return Vec::new();
    }
    let mut finding = Finding::new(format!(
        "The memory limit was hit{} and nothing could be killed: every process of the jail is protected by \
         oom_score_adj -1000, so the program stays at the limit.",
        match failures {
            0 => String::new(),
            count => format!(" {} times", text::count(count)),
        }
    ));
    if let Some((event, message)) = logged {
        finding = finding.shown_by(event, text::escape(&message.text));
    }
    if let Some((event, _)) = protected.first() {
        finding = finding.shown_by(event, "every process has oom_score_adj -1000");
    }
    if failures > 0 {
        finding = finding.fact(format!(
            "the counter oom rose by {}, oom_kill not at all",
            text::count(failures)
        ));
    }
    vec![
        finding
            .about(case.pid1())
            .not(
                "an OOM killer that is switched off",
                "oom_kill_disable is not set",
            )
            .confidence(match !protected.is_empty() {
                true => Confidence::Proven,
                false => Confidence::Likely,
            })
            .relies_on_all(&["oom-kill"])
            .remedy(
                "Never give oom_score_adj -1000 to all processes of a group with a memory limit.",
            ),
    ]
}

/// A sample that shows the OOM killer switched off, and processes waiting for it.
fn disabled_in(case: &Case) -> Option<(&Event, &MemorySample)> {
    let is = |sample: &MemorySample, key: &str| sample.events.get(key).copied() == Some(1);
    case.memory_samples()
        .find(|(_, sample)| is(sample, "oom_kill_disable") && is(sample, "under_oom"))
}

/// What a task sleeps in that waits for the limit to be raised (mm/memcontrol-v1.c).
const WAITS: &str = "mem_cgroup_oom_synchronize";

fn disabled(case: &Case) -> Vec<Finding> {
    let sampled = disabled_in(case);
    let asleep = case.snapshots().find_map(|(event, snapshot)| {
        let thread = snapshot.threads.iter().find(|thread| {
            thread.wait_channel == WAITS || thread.stack.iter().any(|call| call.contains(WAITS))
        })?;
        Some((event, thread))
    });
    if sampled.is_none() && asleep.is_none() {
        return Vec::new();
    }
    let who = asleep.map_or_else(
        || "its processes sleep".to_owned(),
        |(_, thread)| format!("{} sleeps", case.task_name(&thread.task)),
    );
    let mut finding = Finding::new(format!(
        "The OOM killer is switched off for this cgroup (memory.oom_control: oom_kill_disable), so {who} at \
         the memory limit until it is raised. SIGKILL still works."
    ));
    if let Some((event, sample)) = sampled {
        finding = finding.shown_by(
            event,
            format!(
                "oom_kill_disable 1, under_oom 1, {} in use",
                text::bytes(sample.usage_bytes)
            ),
        );
    }
    let mut subject = case.pid1();
    if let Some((event, thread)) = asleep {
        subject = case.process_of(&thread.task);
        finding = finding.shown_by(
            event,
            format!(
                "thread {} is in state {} in {WAITS}",
                thread.task.tid,
                text::escape(&thread.state)
            ),
        );
    }
    vec![
        finding
            .about(subject)
            .not("a wait for a disk", "it waits in the memory controller")
            .confidence(match asleep.is_some() || sampled.is_some() {
                true => Confidence::Proven,
                false => Confidence::Likely,
            })
            .remedy("Write 0 to memory.oom_control, raise the limit, or kill the program."),
    ]
}
