//! The rules on traces of what others started. Each recorded trace is made into what `procjail attach` would have
//! recorded of the same run: without the launcher's own events, without what needs hooks on system calls, from a
//! moment after the start on. What is proven there must hold of the whole trace too.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use procjail::diagnose::{Builder, Confidence, Explanation, explain};
use procjail::event::{DetachReason, Detached, Event, Found, SignalSets, What};
use procjail::render::Output as _;
use procjail::trace::{self, Container, Footer, Header, Probe};

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

/// The same run as attach sees it: from the first program of PID 1 on.
fn attached(mut whole: Recorded) -> Option<Recorded> {
    let pid_1 = whole.header.jail.pid;
    let start = whole
        .events
        .iter()
        .position(|event| event.task.pid == pid_1 && matches!(event.what, What::Exec(_)))?;
    let first = whole.events[start].clone();
    let What::Exec(program) = &first.what else {
        return None;
    };
    let parent = whole.events.iter().find_map(|event| match &event.what {
        What::Fork(fork) if fork.child.pid == pid_1 => Some(event.task.clone()),
        _ => None,
    });
    let found = Event {
        what: What::Found(Found {
            parent: parent.unwrap_or_default(),
            program: procjail::event::Exec {
                signals: None,
                ..program.clone()
            },
            signals: program.signals.clone().unwrap_or(SignalSets {
                ignored: Vec::new(),
                caught: Vec::new(),
                blocked: Vec::new(),
            }),
            state: "R".into(),
            entered: false,
        }),
        ..first
    };
    let mut events = vec![found];
    events.extend(
        whole
            .events
            .into_iter()
            .skip(start + 1)
            .filter(|event| !is_missing(&event.what)),
    );
    let end = events.last()?.clone();
    events.push(Event {
        seq: end.seq + 1,
        what: What::Detached(Detached {
            reason: DetachReason::TargetEnded,
            processes: 0,
        }),
        ..end
    });
    whole.events = events;
    whole.header.jail.launcher = None;
    whole.header.jail.container = Some(Container {
        kind: "docker".into(),
        ..Container::default()
    });
    for probe in &mut whole.header.probes {
        off(probe);
    }
    if let Some(footer) = &mut whole.footer {
        footer.exit_code = None;
        footer.teardown.clear();
    }
    Some(whole)
}

fn off(probe: &mut Probe) {
    if matches!(probe.name.as_str(), "sys_enter" | "sys_exit") {
        probe.attached = false;
    }
}

/// Each verdict, with its sentences and how sure it is.
fn verdicts(explanation: &Explanation) -> BTreeMap<String, (Confidence, String)> {
    let told = explanation.all().map(|one| {
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
        text += &format!(" | do: {}", one.remedy);
        (one.id.clone(), (one.sure(), text))
    });
    told.collect()
}

#[test]
fn survey() {
    insta::glob!("traces/*.jsonl.zst", |path| {
        let whole = read(path);
        let full = verdicts(&explained(&whole));
        let Some(late) = attached(whole) else { return };
        let late = verdicts(&explained(&late));
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let ids: BTreeSet<&String> = full.keys().collect();
        for (id, (sure, text)) in &late {
            let new = !ids.contains(id) && id != "attached-late";
            let speaks = text.contains("procjail");
            if new || speaks {
                println!(
                    "@@ {name} {} {id} {sure:?}\n   {text}",
                    if new { "NEW" } else { "SPEAKS" }
                );
            }
        }
    });
}
