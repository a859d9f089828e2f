//! Ended by a signal that stands for something: a pipe, a terminal, a timer.

mod expiry;
mod pipe;
#[cfg(test)]
mod well_tests;

use super::kill::{Death, deaths};
use crate::diagnose::{Case, Family, Finding, Origin, ProcessId, Rank, Rule, Tagged};
use crate::event::SignalGenerated;
use crate::text;

pub(super) const FAMILY: Family = Family {
    rules: &[
        Rule {
            id: "sigpipe-death",
            about: "it wrote to a pipe or socket that nobody reads any more",
            alternatives: &["a kill by another process"],
        },
        Rule {
            id: "sighup-tty-close",
            about: "its terminal went away, or the leader of its session ended",
            alternatives: &["a kill -HUP by a process", "an orphaned process group"],
        },
        Rule {
            id: "sighup-orphaned-pgrp",
            about: "its process group became orphaned while it was stopped",
            alternatives: &["a terminal that went away", "a kill -HUP by a process"],
        },
        Rule {
            id: "sigint-foreground",
            about: "a key of the terminal (Ctrl-C) reached the whole foreground group",
            alternatives: &["a kill by a process"],
        },
        Rule {
            id: "timeout-expired",
            about: "a timer of its parent expired, and that ended it, as timeout(1) does",
            alternatives: &["an OOM kill"],
        },
        Rule {
            id: "sigalrm-unhandled",
            about: "a timer expired, and there was no handler for its signal",
            alternatives: &["a kill by a process"],
        },
    ],
    rank: Rank::Problem,
    analyse,
};

/// What there is of this family in a case.
fn analyse(case: &Case) -> Vec<Tagged> {
    let mut found = Vec::new();
    found.extend(
        pipe::broken(case)
            .into_iter()
            .map(|one| ("sigpipe-death", one)),
    );
    found.extend(
        hangup(case)
            .into_iter()
            .map(|one| ("sighup-tty-close", one)),
    );
    found.extend(
        orphaned(case)
            .into_iter()
            .map(|one| ("sighup-orphaned-pgrp", one)),
    );
    found.extend(key(case).into_iter().map(|one| ("sigint-foreground", one)));
    found.extend(
        timer(case)
            .into_iter()
            .map(|one| ("sigalrm-unhandled", one)),
    );
    found.extend(
        expiry::expired(case)
            .into_iter()
            .map(|one| ("timeout-expired", one)),
    );
    found
}

/// The victims of a kind, as one finding.
fn victims<'d, 'a>(deaths: &'d [Death<'a>], origin: Origin, number: i32) -> Vec<&'d Death<'a>> {
    deaths
        .iter()
        .filter(|death| death.origin == origin && death.signal.signal.number == number)
        .collect()
}

fn start(case: &Case, verdict: String, deaths: &[&Death<'_>], how: &str) -> Finding {
    let mut finding = Finding::new(verdict).about(deaths.iter().map(|death| death.process));
    for death in deaths.iter().take(5) {
        finding = finding.shown_by(
            death.event,
            format!(
                "{} to {}, {how}",
                text::escape(&death.signal.signal.name),
                case.name(death.process)
            ),
        );
    }
    finding
}

fn named(case: &Case, deaths: &[&Death<'_>]) -> String {
    let ids: Vec<ProcessId> = deaths.iter().map(|death| death.process).collect();
    case.names(&ids)
}

/// The terminal hung up (`tty_signal_session_leader()`), or the leader of the session that controls it
/// ended (`disassociate_ctty()`).
fn hangup(case: &Case) -> Vec<Finding> {
    let deaths = deaths(case);
    let hung = victims(&deaths, Origin::Hangup, libc::SIGHUP);
    let Some(first) = hung.first() else {
        return Vec::new();
    };
    let sender = case.task_name(&first.event.task);
    let call = first.signal.syscall.as_ref().map(|call| call.name.as_str());
    let closes = matches!(call, Some("close" | "close_range" | "dup2" | "dup3"));
    let because = match () {
        () if first.signal.sender_kthread => "the kernel hung it up".to_owned(),
        () if closes => format!("{sender} closed its other end"),
        () if first.signal.sender_exiting => {
            format!("{sender} ended, which held its other end or led the session")
        }
        () => format!("hung up by {sender}"),
    };
    let verdict = format!(
        "The terminal of {} went away ({because}): it was ended by SIGHUP.",
        named(case, &hung)
    );
    let continued = hung.iter().any(|death| continued(case, death));
    let finding = start(case, verdict, &hung, "from the kernel, for the terminal");
    let finding = match continued || closes || first.signal.sender_exiting {
        true => finding.proven(),
        false => finding,
    };
    vec![
        finding
            .not("a kill -HUP by a process", "the signal comes from the kernel")
            .not(
                "an orphaned process group",
                "it was not stopped when the signal came",
            )
            .remedy(
                "What shall outlive its terminal needs a session of its own (setsid), or SIGHUP ignored (nohup).",
            ),
    ]
}

/// SIGCONT came with it, as the kernel does.
fn continued(case: &Case, death: &Death<'_>) -> bool {
    case.received(death.process).any(|(event, signal)| {
        event.seq > death.event.seq
            && signal.signal.number == libc::SIGCONT
            && signal.code.number == death.signal.code.number
            && event.task.tid == death.event.task.tid
    })
}

/// `kill_orphaned_pgrp()` in kernel/exit.c: nobody is left who could continue a stopped job.
fn orphaned(case: &Case) -> Vec<Finding> {
    let deaths = deaths(case);
    let left = victims(&deaths, Origin::OrphanedGroup, libc::SIGHUP);
    let Some(first) = left.first() else {
        return Vec::new();
    };
    let stopped = case
        .received(first.process)
        .rfind(|(event, signal)| event.seq < first.event.seq && is_stop(signal));
    let parent = case.task_name(&first.event.task);
    let verdict = format!(
        "{} was stopped when {parent} ended: with nobody left to continue its process group, the kernel \
         sent it SIGHUP, and that ended it.",
        named(case, &left)
    );
    let mut finding = Finding::new(verdict)
        .proven()
        .about(left.iter().map(|death| death.process));
    if let Some((event, signal)) = stopped {
        finding = finding.shown_by(
            event,
            format!(
                "{} stopped {}",
                text::escape(&signal.signal.name),
                case.name(first.process)
            ),
        );
    }
    for death in left.iter().take(5) {
        finding = finding.shown_by(
            death.event,
            format!("SIGHUP, with SIGCONT after it, as {parent} ends"),
        );
    }
    vec![
        finding
            .at(first.event.time_ns)
            .not("a terminal that went away", "it was stopped, and the sender is what made its group an orphan by ending")
            .not("a kill -HUP by a process", "the signal comes from the kernel")
            .remedy("Continue or end stopped jobs before the shell or supervisor that made them ends, or give them a session of \
                  their own (setsid)."),
    ]
}

fn is_stop(signal: &SignalGenerated) -> bool {
    matches!(
        signal.signal.number,
        libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU
    )
}

/// A key of the terminal. All of the foreground group get it.
fn key(case: &Case) -> Vec<Finding> {
    let deaths = deaths(case);
    let mut findings = Vec::new();
    for (number, key) in [(libc::SIGINT, "Ctrl-C"), (libc::SIGQUIT, "Ctrl-\\")] {
        let hit = victims(&deaths, Origin::TerminalKey, number);
        let Some(first) = hit.first() else { continue };
        let got = case
            .signals()
            .filter(|(event, signal)| {
                signal.signal.number == number
                    && event.task.tid == first.event.task.tid
                    && event.time_ns.abs_diff(first.event.time_ns) < 1_000_000
            })
            .count();
        let name = crate::names::signal(number);
        let verdict = format!(
            "{key} at the terminal sent {name} to its whole foreground group ({}): {} ended by it.",
            text::plural(got as u64, "process", "processes"),
            named(case, &hit)
        );
        findings.push(
            start(case, verdict, &hit, "from the kernel, for the terminal")
                .proven()
                .not("a kill by a process", "the signal comes from the kernel")
                .remedy(
                    "What shall not be ended by the terminal's keys needs a process group or a session of its own \
                     (setsid).",
                ),
        );
    }
    findings
}

/// alarm(2), setitimer(2), timer_create(2).
fn timer(case: &Case) -> Vec<Finding> {
    let deaths = deaths(case);
    deaths
        .iter()
        .filter(|death| death.origin == Origin::Timer)
        .map(|death| {
            let name = text::escape(&death.signal.signal.name);
            let age = death
                .event
                .time_ns
                .saturating_sub(case.born_ns(death.process));
            let verdict = format!(
                "A timer of {} expired, and it has no handler for {name}: that ended it, after {}.",
                case.name(death.process),
                text::duration(age)
            );
            let how = match death.signal.code.number {
                -2 => "from a timer of timer_create(2)",
                _ => "from the kernel, for a timer of alarm(2) or setitimer(2)",
            };
            start(case, verdict, &[death], how)
                .proven()
                .not("a kill by a process", "the signal comes from a timer")
                .remedy(
                    "Install a handler before the timer is set, or turn it off when what it guards is done (alarm(0)). \
                     A timer of alarm(2) survives an exec, its handler does not.",
                )
        })
        .collect()
}
