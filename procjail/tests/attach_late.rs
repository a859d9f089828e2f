//! The rules on traces of what others started. Each recorded trace is made into what `procjail attach` would have
//! recorded of the same run: without the launcher's own events, without what needs hooks on system calls, from a
//! moment after the start on. What is proven there must hold of the whole trace too.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use procjail::diagnose::{Builder, Confidence, Diagnosis, Explanation, explain};
use procjail::event::{DetachReason, Detached, Event, Found, SignalSets, Task, What};
use procjail::trace::Output as _;
use procjail::trace::{self, Container, Footer, Header};

struct Recorded {
    header: Header,
    events: Vec<Event>,
    footer: Option<Footer>,
}

fn read(path: &Path) -> Recorded {
    let mut reader = trace::open(path).expect("a trace");
    let header = reader.header().clone();
    let events = reader
        .by_ref()
        .map(|event| event.expect("an event"))
        .collect();
    Recorded {
        header,
        events,
        footer: reader.footer().cloned(),
    }
}

fn explained(recorded: &Recorded) -> Explanation {
    let mut builder = Builder::new();
    builder
        .header(&recorded.header)
        .expect("a builder takes all");
    for event in &recorded.events {
        builder.event(event).expect("a builder takes all");
    }
    builder
        .footer(recorded.footer.as_ref())
        .expect("a builder takes all");
    explain(&builder.finish().expect("a case"))
}

/// What only a launcher, or a hook on system calls, tells.
fn is_missing(what: &What) -> bool {
    matches!(
        what,
        What::JailCreated(_)
            | What::GateOpened(_)
            | What::SignalForwarded(_)
            | What::SetupFailed(_)
            | What::StopRequested(_)
            | What::Kill(_)
            | What::JailExited(_)
            | What::Teardown(_)
            | What::Leftover(_)
            | What::MountUse(_)
            | What::ImplicitUnmounts(_)
            | What::LeakCheck(_)
            | What::Reap(_)
            | What::Wait(_)
            | What::ExecFailed(_)
            | What::Mount(_)
            | What::FailedCalls(_)
            | What::StderrTail(_)
            | What::LimitChanged(_)
    )
}

/// The same run as attach sees it that comes when so many events have passed: what runs is found, with the signals
/// that each started with.
fn attached(mut whole: Recorded, from: usize) -> Recorded {
    let (before, after) = whole.events.split_at(from);
    let mut found: BTreeMap<u32, Event> = BTreeMap::new();
    let mut parents: BTreeMap<u32, Task> = BTreeMap::new();
    for event in before {
        match &event.what {
            What::Fork(fork) if !fork.thread => {
                parents.insert(fork.child.pid, event.task.clone());
                let program = found.get(&event.task.pid);
                let program = program.cloned().unwrap_or_else(|| event.clone());
                let task = fork.child.clone();
                found.insert(task.pid, Event { task, ..program });
            }
            What::Exec(_) => {
                found.insert(event.task.pid, event.clone());
            }
            What::Exit(exit) if exit.process => {
                found.remove(&event.task.pid);
            }
            _ => {}
        }
    }
    let seq = before.last().map_or(0, |event| event.seq);
    let time_ns = before.last().map_or(0, |event| event.time_ns);
    let mut events: Vec<Event> = found
        .into_values()
        .filter_map(|event| {
            let What::Exec(program) = &event.what else {
                return None;
            };
            let none = SignalSets {
                ignored: Vec::new(),
                caught: Vec::new(),
                blocked: Vec::new(),
            };
            let signals = program.signals.clone().unwrap_or(none);
            let parent = parents.get(&event.task.pid).cloned();
            let program = procjail::event::Exec {
                signals: None,
                ..program.clone()
            };
            Some(Event {
                seq,
                time_ns,
                what: What::Found(Found {
                    parent: parent.unwrap_or_default(),
                    program,
                    signals,
                    state: "S".into(),
                    entered: false,
                }),
                task: event.task,
            })
        })
        .collect();
    events.sort_by_key(|event| event.task.start_ns);
    events.extend(
        after
            .iter()
            .filter(|event| !is_missing(&event.what))
            .cloned(),
    );
    let seq = whole.events.last().map_or(0, |event| event.seq) + 1;
    events.push(Event {
        seq,
        time_ns: whole.events.last().map_or(0, |event| event.time_ns),
        task: Task::default(),
        what: What::Detached(Detached {
            reason: DetachReason::TargetEnded,
            processes: 0,
        }),
    });
    // Who stops it then is a runtime.
    let launcher = whole.header.launcher_pid();
    for event in &mut events {
        if event.task.pid == launcher {
            event.task.comm = "runc".into();
        }
        if let What::Sender(sender) = &mut event.what {
            sender.argv = vec!["runc".into(), "kill".into()];
        }
    }
    whole.header.start_unix_ns += time_ns.saturating_sub(whole.header.start_boot_ns);
    whole.header.start_boot_ns = time_ns;
    whole.header.jail.launcher = None;
    whole.header.jail.container = Some(Container {
        kind: "docker".into(),
        ..Container::default()
    });
    for probe in &mut whole.header.probes {
        probe.attached &= !matches!(probe.name.as_str(), "sys_enter" | "sys_exit");
    }
    if let Some(footer) = &mut whole.footer {
        footer.exit_code = None;
        footer.teardown.clear();
    }
    Recorded { events, ..whole }
}

/// The moments at which to attach: the first program, and the middle of what follows.
fn moments(whole: &Recorded) -> Vec<usize> {
    let pid_1 = whole.header.jail.pid;
    let first = whole
        .events
        .iter()
        .position(|event| event.task.pid == pid_1 && matches!(event.what, What::Exec(_)));
    let Some(first) = first.map(|first| first + 1) else {
        return Vec::new();
    };
    // Afterwards there is nothing to attach to.
    let ended = whole.events.iter().position(
        |event| matches!(&event.what, What::Exit(exit) if exit.process && event.task.pid == pid_1),
    );
    let middle = first + (whole.events.len() - first) / 2;
    let middle = Some(middle).filter(|middle| ended.is_some_and(|ended| *middle <= ended));
    std::iter::once(first).chain(middle).collect()
}

/// All that a verdict says.
fn text(one: &Diagnosis) -> String {
    let mut text = one.fact.clone();
    if let Some(cause) = &one.cause {
        text += &format!(" | why: {} {:?}", cause.text, cause.alternatives);
    }
    for evidence in &one.evidence {
        text += &format!(" | shown: {}", evidence.shows);
    }
    for out in &one.ruled_out {
        text += &format!(" | not: {}: {}", out.what, out.because);
    }
    text + &format!(" | do: {}", one.remedy)
}

/// What a launcher knows, and whoever comes late does not.
const CLAIMS: [&str; 6] = [
    "procjail was not asked",
    "procjail starts PID 1",
    "procjail did not send",
    "procjail --",
    "nobody collected",
    "what started the",
];

/// Proven of a trace from outside alone: there the launcher is a sender like any other, also of what it sends at the
/// deadline for the record.
const OF_OUTSIDERS: [&str; 7] = [
    "attached-late",
    "exit-137-not-oom",
    "kill-after-grace",
    "kill-cgroup-kill",
    "kill-external",
    "kill-pidns-teardown",
    "term-ignored-pid1-default",
];

#[test]
fn what_is_proven_late_holds_of_the_whole() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    insta::glob!("traces/*.jsonl.zst", |path| {
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let whole = read(path);
        let known = explained(&whole);
        let known: BTreeSet<&str> = known.all().map(|one| one.id.as_str()).collect();
        for (index, from) in moments(&whole).into_iter().enumerate() {
            let late = explained(&attached(read(path), from));
            for one in late.all() {
                seen += 1;
                let text = text(one);
                let is_new = !known.contains(one.id.as_str())
                    && !OF_OUTSIDERS.contains(&one.id.as_str())
                    && one.sure() == Confidence::Proven;
                if is_new || CLAIMS.iter().any(|claim| text.contains(claim)) {
                    wrong.push(format!(
                        "{name} {index} {} {:?}: {text}",
                        one.id,
                        one.sure()
                    ));
                }
            }
        }
    });
    assert!(seen > 500, "only {seen} verdicts");
    assert!(
        wrong.is_empty(),
        "{} of {seen}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
