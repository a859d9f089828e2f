//! The verdict where no rule finds anything.

use super::ended;
use crate::diagnose::{Case, Confidence, Diagnosis, Evidence, Process, Rank, RuledOut};
use crate::event::{DetachReason, What};
use crate::words;

/// Nothing was found: what was looked for and is excluded, not "all fine".
pub(super) fn no_finding(case: &Case) -> Diagnosis {
    let mut ruled_out = Vec::new();
    let mut exclude = |what: &str, because: String| {
        ruled_out.push(RuledOut {
            what: what.to_owned(),
            because,
        });
    };
    let mut weakened = Vec::new();
    // Whatever killed it is missing, and may have been anything.
    let killed = case
        .pid1()
        .and_then(|pid1| case.status(pid1))
        .is_some_and(|status| status.signal.is_some());
    if killed {
        weakened.push("what killed PID 1 is not in the trace".to_owned());
    } else if case.complete() {
        if case.oom_kills().next().is_none() {
            exclude(
                "an OOM kill",
                "no process of the jail was chosen by the OOM killer".to_owned(),
            );
        }
        let killed = case
            .deaths()
            .into_iter()
            .filter(|id| {
                case.status(*id)
                    .is_some_and(|status| status.signal.is_some())
            })
            .count();
        if killed == 0 {
            exclude(
                "a kill or a crash",
                "no process of the jail was ended by a signal".to_owned(),
            );
        }
        let unreaped = case.footer.as_ref().map_or(0, |footer| footer.zombies);
        if unreaped == 0 && case.header.tells_reaps() {
            exclude("zombies", "PID 1 left none".to_owned());
        }
        if !case.is_launched() {
            if case.signals().all(|(_, sent)| !asks(sent.signal.number)) {
                exclude(
                    "a stop",
                    "no SIGTERM, SIGINT or SIGQUIT was sent to a process of the jail".to_owned(),
                );
            }
        } else if case.stop_request().is_none() {
            exclude(
                "a stop",
                "procjail was not asked to stop the jail".to_owned(),
            );
        }
        let failed = case
            .footer
            .iter()
            .flat_map(|footer| &footer.teardown)
            .any(|step| step.error.is_some());
        if !failed && case.is_launched() {
            exclude("a failed teardown", "every step of it succeeded".to_owned());
        }
    } else {
        weakened.push("the trace is not complete: what is missing may have told more".to_owned());
    }
    let fact = match ended(case) {
        Some(ended) if killed => {
            let when = match case.is_launched() {
                true => "",
                false => ": it was sent before procjail was attached",
            };
            format!(
                "{} was {ended}, and the trace does not have who sent that{when}.",
                case.pid1_name()
            )
        }
        Some(ended) => format!("Nothing unusual was found: {} {ended}.", case.pid1_name()),
        None => match detached(case) {
            Some(DetachReason::TargetEnded) => all_gone(case),
            Some(_) => "Nothing unusual was found until procjail detached.".to_owned(),
            None => {
                "Nothing unusual was found, and the trace does not say how PID 1 ended.".to_owned()
            }
        },
    };
    let exit = case.pid1().and_then(|pid1| case.exit(pid1));
    Diagnosis {
        id: "no-finding".to_owned(),
        rank: Rank::Story,
        fact,
        cause: None,
        confidence: if case.complete() && !killed {
            Confidence::Proven
        } else {
            Confidence::ConsistentWith
        },
        time_ns: case.end_ns(),
        pids: Vec::new(),
        evidence: exit
            .map(|(event, exit)| Evidence {
                seq: Some(event.seq),
                time_ns: Some(event.time_ns),
                shows: format!("PID 1 {}", words::status(&exit.status)),
            })
            .into_iter()
            .collect(),
        ruled_out,
        weakened,
        remedy: String::new(),
        scenario: None,
        consequences: Vec::new(),
    }
}

/// Nothing runs in it any more; whose end is not in the trace went to another cgroup.
fn all_gone(case: &Case) -> String {
    let is_there = |process: &Process| process.in_jail() && process.found_dead.is_none();
    let all = || case.processes().filter(|(_, process)| is_there(process));
    let moved: Vec<_> = all()
        .filter(|(_, process)| process.exit.is_none())
        .map(|(id, _)| id)
        .collect();
    let mut first = all().filter(|(_, process)| process.creator.is_none());
    let end = match (first.next(), first.next()) {
        (Some((id, _)), None) => case
            .status(id)
            .map(|status| format!("{} {}", case.name(id), case.did_end(status))),
        _ => None,
    };
    match (moved.as_slice(), end) {
        ([], Some(end)) => format!("Nothing unusual was found: {end}."),
        ([], None) => "Nothing unusual was found: all processes of the jail have ended.".to_owned(),
        (moved, _) => format!(
            "Nothing unusual was found until the jail was empty. {} did not end in it: moved to another cgroup, where \
             procjail did not watch.",
            case.names(moved)
        ),
    }
}

fn asks(signal: i32) -> bool {
    matches!(signal, libc::SIGTERM | libc::SIGINT | libc::SIGQUIT)
}

/// Why procjail detached from what others had started.
fn detached(case: &Case) -> Option<DetachReason> {
    let mut told = case.each(|what| match what {
        What::Detached(detached) => Some(detached.reason),
        _ => None,
    });
    told.next().map(|(_, reason)| reason)
}
