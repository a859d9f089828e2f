//! The stop signal was not taken: dropped, ignored, blocked, or queued behind something.

use super::attempt::Attempt;
use super::fate::{Holdout, has, last_look, looks, survivors, threads_of, was_asked};
use super::programs::{Kind, kind};
use super::{Verdict, ends, finding};
use crate::diagnose::{Case, Finding, ProcessId};
use crate::event::{CgroupChange, Disposition, Event, Signal, SignalGenerated, What};
use crate::render;

/// What a verdict relies on that says that nothing was taken or passed on.
pub(super) const SIGNALS: &[&str] = &["signal-generated", "signal-delivered"];

/// The kernel drops signals that PID 1 of a PID namespace has no handler for (`sig_task_ignored()` in
/// kernel/signal.c). What PID 1 is tells what to do about it.
pub(super) fn dropped(case: &Case, attempt: &Attempt<'_>) -> Verdict {
    let below = survivors(case, attempt, attempt.pid1);
    let untold: Vec<ProcessId> = below
        .into_iter()
        .filter(|id| !was_asked(case, attempt, *id))
        .collect();
    let caught = caught_instead(case, attempt);
    match kind(case, attempt.pid1) {
        Kind::Shell if !untold.is_empty() => stuck_in_shell(case, attempt, &untold),
        Kind::Wrapper if !untold.is_empty() => not_forwarding(case, attempt, &untold),
        _ if !caught.is_empty() => mismatch(case, attempt, &caught),
        _ => pid1_default(case, attempt),
    }
}

/// [`finding`] for PID 1 itself, with what the kernel did or would have done.
fn at_pid1(case: &Case, attempt: &Attempt<'_>, verdict: String) -> Finding {
    let holdout = Holdout {
        process: attempt.pid1,
        sent: attempt.sent,
        path: vec![attempt.pid1],
        fate: super::Fate::Dropped,
    };
    let mut finding = finding(case, attempt, &holdout, verdict);
    let signal = render::escape(&attempt.signal.name);
    let dropped = attempt.late.or(attempt
        .sent
        .filter(|(event, _)| event.seq != attempt.asked.seq));
    if let Some((event, _)) = dropped {
        finding = finding.shown_by(
            event,
            format!(
                "{}{signal} has no effect: the kernel ignores it, as the action is the default one and \
                 the target is PID 1 of its namespace",
                if attempt.late.is_some() {
                    "sent when the time was up, "
                } else {
                    ""
                }
            ),
        );
    }
    ends(case, attempt, finding)
}

/// `SIGTERM has no handler in sleep (PID 1)`: how the signal fared, for the start of a verdict.
fn no_handler(case: &Case, attempt: &Attempt<'_>) -> String {
    format!(
        "{} has no handler for {}, and the kernel drops such signals for PID 1 of a PID namespace",
        case.name(attempt.pid1),
        render::escape(&attempt.signal.name)
    )
}

/// How it ended for the processes that are left, as a sentence of its own; empty if it hasn't.
fn until(case: &Case, attempt: &Attempt<'_>, who: &str) -> String {
    match attempt.forced {
        Some(_) => format!(" {}.", attempt.killed(case, who)),
        None => String::new(),
    }
}

fn pid1_default(case: &Case, attempt: &Attempt<'_>) -> Verdict {
    let verdict = format!(
        "{}: only SIGKILL ends it.{}",
        no_handler(case, attempt),
        until(case, attempt, "It was")
    );
    let finding = at_pid1(case, attempt, verdict)
        .proven()
        .not(
            "an ignored signal",
            "its action is the default one, not SIG_IGN",
        )
        .not(
            "a handler that came too late",
            "there still was none at the end of the window",
        )
        .relies_on_all(SIGNALS)
        .fix(format!(
            "Install a handler for {}, or put an init at PID 1 that passes it on (procjail --init, \
             tini, dumb-init): a process that is not PID 1 ends by it without a handler.",
            render::escape(&attempt.signal.name)
        ));
    ("term-ignored-pid1-default", finding)
}

/// PID 1 is a shell without a trap. `sh -c` with a single command executes it in its own place; then
/// PID 1 is the program, and not a shell.
fn stuck_in_shell(case: &Case, attempt: &Attempt<'_>, untold: &[ProcessId]) -> Verdict {
    let signal = render::escape(&attempt.signal.name);
    let many = untold.len() > 1;
    let verdict = format!(
        "{} is a shell without a trap for {signal}: it neither ended nor passed the signal on, and {} \
         never got it.{}",
        case.name(attempt.pid1),
        case.names(untold),
        until(case, attempt, if many { "They were" } else { "It was" })
    );
    let finding = at_pid1(case, attempt, verdict)
        .proven()
        .fact(format!(
            "no signal was sent to {} from the request to the kill",
            case.names(untold)
        ))
        .not(
            "a shell that became the program",
            "its last exec is that of the shell, and the program is a process of its own",
        )
        .not("a trap that waits", "the shell has no handler")
        .relies_on_all(SIGNALS)
        .fix(
            "Start the program directly (exec form), or with `exec PROGRAM` in the script; where a shell \
             must stay, run the program in the background, trap the signal, pass it on, and wait.",
        );
    ("term-stuck-in-shell", finding)
}

/// A wrapper that doesn't handle the signal, or does and keeps it to itself.
pub(super) fn not_forwarding(case: &Case, attempt: &Attempt<'_>, untold: &[ProcessId]) -> Verdict {
    let signal = render::escape(&attempt.signal.name);
    let verdict = format!(
        "{} got {signal} and did not pass it on: {} never got a signal.{}",
        case.name(attempt.pid1),
        case.names(untold),
        until(case, attempt, "Both were")
    );
    let finding = at_pid1(case, attempt, verdict)
        .proven()
        .fact(format!(
            "no signal was sent to {} from the request to the kill",
            case.names(untold)
        ))
        .not(
            "a program that ignores the signal",
            "it was never sent to the program",
        )
        .relies_on_all(SIGNALS)
        .fix(
            "Run the program itself instead of the wrapper's command (`node server.js` for `npm start`), \
             or put an init that signals the whole group at PID 1 (tini -g, dumb-init).",
        );
    ("term-wrapper-not-forwarding", finding)
}

/// Other signals that ask to stop and that PID 1 has handlers for.
fn caught_instead<'a>(case: &'a Case, attempt: &Attempt<'_>) -> Vec<&'a Signal> {
    let asks = |number: i32| {
        matches!(
            number,
            libc::SIGTERM
                | libc::SIGINT
                | libc::SIGQUIT
                | libc::SIGWINCH
                | libc::SIGUSR1
                | libc::SIGUSR2
        ) || number == libc::SIGRTMIN() + 3
    };
    let seen = looks(case, attempt)
        .flat_map(|(_, snapshot)| threads_of(case, snapshot, attempt.pid1))
        .flat_map(|thread| &thread.caught);
    let sent = case
        .received(attempt.pid1)
        .filter(|(_, signal)| signal.disposition == Disposition::Handler)
        .map(|(_, signal)| &signal.signal);
    let mut caught: Vec<&Signal> = seen
        .chain(sent)
        .filter(|signal| asks(signal.number) && signal.number != attempt.signal.number)
        .collect();
    caught.sort_by_key(|signal| signal.number);
    caught.dedup_by_key(|signal| signal.number);
    caught
}

fn mismatch(case: &Case, attempt: &Attempt<'_>, caught: &[&Signal]) -> Verdict {
    let names: Vec<String> = caught
        .iter()
        .map(|signal| render::escape(&signal.name))
        .collect();
    let signal = render::escape(&attempt.signal.name);
    let verdict = format!(
        "The stop signal {signal} is not one that {} reacts to: it has no handler for it, but it has one \
         for {}.{}",
        case.name(attempt.pid1),
        names.join(", "),
        until(case, attempt, "It was")
    );
    let mut finding = at_pid1(case, attempt, verdict).proven();
    let look = looks(case, attempt).find(|(_, snapshot)| {
        threads_of(case, snapshot, attempt.pid1)
            .iter()
            .any(|thread| caught.iter().any(|one| has(&thread.caught, one.number)))
    });
    if let Some((event, _)) = look {
        finding = finding.shown_by(event, format!("it has handlers for {}", names.join(", ")));
    }
    let finding = finding
        .not(
            "a program without any handler",
            "it has handlers for other signals that ask to stop",
        )
        .relies_on_all(SIGNALS)
        .fix(format!(
            "Stop it with {} (procjail --stop-signal, STOPSIGNAL of an image), or let it handle {signal} \
             as well.",
            names.first().map_or("SIGTERM", String::as_str)
        ));
    ("stop-signal-mismatch", finding)
}

/// SIG_IGN. It survives an exec, a handler doesn't: so a program may have inherited it.
pub(super) fn ignored(case: &Case, attempt: &Attempt<'_>, holdout: &Holdout<'_>) -> Verdict {
    let process = holdout.process;
    let number = holdout
        .sent
        .map_or(attempt.signal.number, |(_, signal)| signal.signal.number);
    let name = crate::names::signal(number);
    let last_exec = case.execs(process).next_back().map(|(event, _)| event);
    let before = last_exec.and_then(|exec| {
        ignored_before(case, process, number, exec)
            .map(|shown| (shown, "the program before it ignored it".to_owned()))
            .or_else(|| {
                let creator = case.process(process).creator?;
                let forked = case.event(case.process(process).forked?);
                ignored_before(case, creator, number, forked)
                    .map(|shown| (shown, format!("{} ignored it", case.name(creator))))
            })
    });
    let parent = case.process(process).creator.filter(|creator| {
        last_exec.is_some()
            && looks(case, attempt)
                .flat_map(|(_, snapshot)| threads_of(case, snapshot, *creator))
                .any(|thread| has(&thread.ignored, number))
    });
    let again = case.execs(process).count() > 1;
    let first = case.process(process).is_pid1() && !again;
    let who = case.name(process);
    let end = until(case, attempt, "It was");
    let ignores = |finding: Finding| {
        let finding = match holdout.sent.or(attempt.late) {
            Some((event, _)) => {
                finding.shown_by(event, format!("{name} to {who}: ignored (SIG_IGN)"))
            }
            None => finding,
        };
        ends(case, attempt, finding)
            .not(
                "PID 1 without a handler",
                "the action is SIG_IGN, not the default one",
            )
            .not(
                "a program that was ending already",
                "it was not, when the signal came",
            )
    };
    if before.is_some() || parent.is_some() || (again && !first) {
        let from = match (&before, parent) {
            (Some(_), _) if again => "the program that ran in this process before".to_owned(),
            (_, Some(parent)) => case.name(parent),
            _ => case.process(process).creator.map_or_else(
                || "what started it".to_owned(),
                |creator| case.name(creator),
            ),
        };
        let verdict = format!(
            "{who} runs with {name} ignored, which it inherited from {from}: an exec resets handlers, but \
             not SIG_IGN.{end}"
        );
        let mut finding = ignores(finding(case, attempt, holdout, verdict));
        finding = match &before {
            Some((shown, text)) => finding
                .shown_by(
                    shown,
                    format!("{text} already: a {name} came, and had no effect"),
                )
                .proven(),
            None if parent.is_some() => finding.fact("its parent ignores the signal as well"),
            None => finding.consistent(),
        };
        if let Some(exec) = last_exec.filter(|_| before.is_some()) {
            finding = finding.shown_by(exec, "the program that runs now was executed after that");
        }
        let finding = finding.fix(format!(
            "Let what starts it reset the signal before the exec: no `trap '' {short}` or nohup in the \
             script, SIG_DFL in the launcher. Or let the program install a handler.",
            short = name.trim_start_matches("SIG")
        ));
        return ("term-ignored-inherited", finding);
    }
    let verdict =
        format!("{who} ignores {name} by its own choice (SIG_IGN): nothing happened.{end}");
    let mut finding = ignores(finding(case, attempt, holdout, verdict));
    let program = owner_of_program(case, process);
    let started_clean = case.process(program).is_pid1() && case.execs(program).count() == 1;
    let changed = last_exec.and_then(|exec| {
        case.received(process).find(|(event, signal)| {
            event.seq > exec.seq
                && signal.signal.number == number
                && signal.disposition != Disposition::Ignore
        })
    });
    if started_clean {
        finding = finding
            .proven()
            .not(
                "an inherited disposition",
                "procjail starts PID 1 with every signal at its default action, and it executed nothing \
                 since",
            )
            .relies_on_all(&["exec"]);
    } else if let Some((event, _)) = changed {
        finding = finding
            .proven()
            .shown_by(event, "the same program did not ignore it before");
    }
    let finding = finding.fix(format!(
        "Don't ignore {name} in the program, or stop it with the signal that it handles (procjail \
         --stop-signal)."
    ));
    ("term-ignored-by-choice", finding)
}

/// A signal that a process ignored before an event.
fn ignored_before<'a>(
    case: &'a Case,
    process: ProcessId,
    number: i32,
    before: &Event,
) -> Option<&'a Event> {
    case.received(process)
        .find(|(event, signal)| {
            event.seq < before.seq
                && signal.signal.number == number
                && signal.disposition == Disposition::Ignore
        })
        .map(|(event, _)| event)
}

/// The process that executed the program that a process runs: itself, or the one it is a copy of.
fn owner_of_program(case: &Case, process: ProcessId) -> ProcessId {
    let mut owner = process;
    while case.execs(owner).next().is_none() {
        match case.process(owner).creator {
            // Made before what is made by it: the chain ends.
            Some(creator) if creator != owner => owner = creator,
            _ => break,
        }
    }
    owner
}

/// Blocked in every thread, and nobody waits for it.
pub(super) fn blocked(case: &Case, attempt: &Attempt<'_>, holdout: &Holdout<'_>) -> Verdict {
    let who = case.name(holdout.process);
    let (number, name) = sent_name(attempt, holdout);
    let verdict = format!(
        "{who} blocks {name}, and nothing in it waits for it: the signal stayed pending.{}",
        until(case, attempt, "It was")
    );
    let mut finding = finding(case, attempt, holdout, verdict);
    if let Some((event, _)) = holdout.sent {
        finding = finding.shown_by(event, format!("{name}: queued, as {who} blocks it"));
    }
    let look = last_look(case, attempt, holdout.process);
    let finding = match &look {
        Some((event, threads)) => {
            let all = threads.iter().all(|thread| has(&thread.blocked, number));
            let waits = threads.iter().any(|thread| {
                thread
                    .syscall
                    .as_ref()
                    .is_some_and(|call| call.name == "rt_sigtimedwait")
            });
            let shown = finding.shown_by(
                event,
                format!(
                    "it is still pending, and blocked in all {} threads",
                    threads.len()
                ),
            );
            if all && !waits {
                shown.proven().not(
                    "a program that waits for signals (sigwait, signalfd)",
                    "that would have taken it; it is still pending",
                )
            } else {
                shown
            }
        }
        None => finding.fact("no handler ran for it"),
    };
    let finding = ends(case, attempt, finding)
        .not("an ignored signal", "a blocked signal is queued, not dropped")
        .relies_on_all(SIGNALS)
        .fix(
            "Unblock the signal, or reset the mask before the exec: it is inherited. A thread that waits for \
             signals (sigwait, signalfd) has to be running when the stop comes.",
        );
    ("term-blocked", finding)
}

/// Number and name of the signal as the holdout got it.
pub(super) fn sent_name(attempt: &Attempt<'_>, holdout: &Holdout<'_>) -> (i32, String) {
    let signal = holdout
        .sent
        .map_or(attempt.signal, |(_, signal)| &signal.signal);
    (signal.number, render::escape(&signal.name))
}

/// Queued, and nobody came to take it.
pub(super) fn queued(case: &Case, attempt: &Attempt<'_>, holdout: &Holdout<'_>) -> Option<Verdict> {
    stopped(case, attempt, holdout)
        .or_else(|| uninterruptible(case, attempt, holdout))
        .or_else(|| super::handled::throttled(case, attempt, holdout))
}

/// Stopped by a signal, and not continued since.
fn stopped(case: &Case, attempt: &Attempt<'_>, holdout: &Holdout<'_>) -> Option<Verdict> {
    let process = holdout.process;
    let since = holdout.since_ns(attempt);
    let last = case
        .received(process)
        .filter(|(event, signal)| {
            event.time_ns <= since
                && signal.result != crate::event::SignalResult::Ignored
                && (stops(signal) || signal.signal.number == libc::SIGCONT)
        })
        .last()
        .filter(|(_, signal)| stops(signal));
    let look = last_look(case, attempt, process).filter(|(_, threads)| {
        threads
            .iter()
            .all(|thread| matches!(thread.state.as_str(), "T" | "t"))
    });
    if last.is_none() && look.is_none() {
        return None;
    }
    let who = case.name(process);
    let (_, name) = sent_name(attempt, holdout);
    let by = last.map_or(String::new(), |(event, signal)| {
        let sender = match case.process_of(&event.task) == Some(process) {
            true => "itself".to_owned(),
            false => case.who(&event.task),
        };
        format!(" ({} from {sender})", render::escape(&signal.signal.name))
    });
    let verdict = format!(
        "{who} is stopped{by}: its handler for {name} can't run until SIGCONT.{}",
        until(case, attempt, "It was")
    );
    let mut finding = finding(case, attempt, holdout, verdict);
    if let Some((event, signal)) = last {
        finding = finding.shown_by(
            event,
            format!("{} stopped it", render::escape(&signal.signal.name)),
        );
    }
    if let Some((event, _)) = look {
        finding = finding.shown_by(event, "all its threads are stopped (state T)");
    }
    // A stop signal that was taken, or the state itself.
    let took = last.is_some_and(|(event, _)| case.delivery_of(event).is_some());
    if took || look_of_stop(case, attempt, process) {
        finding = finding.proven();
    }
    let finding = ends(case, attempt, finding)
        .fact(format!("{name} was queued and not taken"))
        .not("a blocked signal", "its mask lets it through")
        .relies_on_all(SIGNALS)
        .fix(format!(
            "Find out why it is stopped; whoever stops {who} has to send SIGCONT as well, after the stop signal \
             at the latest."
        ));
    Some(("term-pending-stopped", finding))
}

fn look_of_stop(case: &Case, attempt: &Attempt<'_>, process: ProcessId) -> bool {
    last_look(case, attempt, process).is_some_and(|(_, threads)| {
        threads
            .iter()
            .all(|thread| matches!(thread.state.as_str(), "T" | "t"))
    })
}

fn stops(signal: &SignalGenerated) -> bool {
    matches!(
        signal.signal.number,
        libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU
    )
}

/// Frozen: nothing in the jail runs, so nothing of what it does counts.
pub(super) fn frozen(case: &Case, attempt: &Attempt<'_>, holdout: &Holdout<'_>) -> Option<Verdict> {
    if matches!(holdout.fate, super::Fate::Handled(_)) {
        return None;
    }
    let change = case
        .each(|what| match what {
            What::Cgroup(cgroup)
                if matches!(cgroup.change, CgroupChange::Frozen | CgroupChange::Thawed) =>
            {
                Some(cgroup)
            }
            _ => None,
        })
        .take_while(|(event, _)| event.time_ns <= attempt.asked.time_ns)
        .last()
        .filter(|(_, cgroup)| cgroup.change == CgroupChange::Frozen);
    let look = looks(case, attempt)
        .filter_map(|(event, snapshot)| Some((event, snapshot.frozen.as_ref()?)))
        .last();
    let path = match (&change, &look) {
        (Some((_, cgroup)), _) => &cgroup.path,
        (None, Some((_, path))) => *path,
        (None, None) => return None,
    };
    let (_, name) = sent_name(attempt, holdout);
    let who = case.name(holdout.process);
    let path = render::escape(path);
    let verdict = format!(
        "The cgroup {path} is frozen: nothing in it runs, and {name} waits for its thaw.{}",
        until(case, attempt, &format!("{who} was"))
    );
    let mut finding = finding(case, attempt, holdout, verdict).proven();
    if let Some((event, _)) = change {
        finding = finding.shown_by(event, format!("{path} is frozen from here on"));
    }
    if let Some((event, _)) = look {
        finding = finding.shown_by(event, format!("{path} is still frozen"));
    }
    let finding = ends(case, attempt, finding)
        .not(
            "a process that hangs in the kernel",
            "the freezer holds it; on cgroup v1 that looks like state D",
        )
        .relies_on_all(&["cgroup", "signal-delivered"])
        .fix("Thaw it (write 0 to cgroup.freeze, THAWED to freezer.state), and find out who freezes it: a \
              pause, a checkpoint, a runtime that died between freeze and thaw.");
    Some(("term-pending-frozen", finding))
}

/// Uninterruptible sleep of every thread that could take the signal.
fn uninterruptible(case: &Case, attempt: &Attempt<'_>, holdout: &Holdout<'_>) -> Option<Verdict> {
    let process = holdout.process;
    let who = case.name(process);
    let (_, name) = sent_name(attempt, holdout);
    // A parent waits uninterruptibly until the child of its vfork executes something or ends.
    let vforked = case
        .process(process)
        .children
        .iter()
        .rev()
        .copied()
        .find(|child| {
            case.execs(*child).next().is_none()
                && case.alive_at(*child, attempt.end_ns(case))
                && case.born_ns(*child) <= attempt.asked.time_ns
        });
    let look = last_look(case, attempt, process)
        .filter(|(_, threads)| threads.iter().all(|thread| thread.state == "D"));
    let Some((event, threads)) = look else {
        // Without a look, a child that has not executed anything is all there is.
        let child = vforked.filter(|_| looks(case, attempt).next().is_none())?;
        let verdict = format!(
            "{who} did not come to take {name}: it may be waiting uninterruptibly for {}, its child by \
             vfork.{}",
            case.name(child),
            until(case, attempt, "It was")
        );
        let finding = finding(case, attempt, holdout, verdict).consistent();
        let finding = ends(case, attempt, finding).relies_on_all(SIGNALS).fix(
            "Let the child of vfork execute or end at once; use posix_spawn, or fork where it has work to do.",
        );
        return Some(("term-pending-uninterruptible", finding));
    };
    let channel = threads
        .iter()
        .find_map(|thread| Some(&thread.wait_channel).filter(|channel| !channel.is_empty()));
    let in_vfork = threads.iter().any(|thread| {
        let waits = |name: &str| name.contains("vfork");
        waits(&thread.wait_channel) || thread.stack.iter().any(|frame| waits(frame))
    }) || threads.iter().any(|thread| {
        thread
            .syscall
            .as_ref()
            .is_some_and(|call| matches!(call.name.as_str(), "vfork" | "clone" | "clone3"))
    });
    let place = match (in_vfork, vforked, channel) {
        (true, Some(child), _) => format!(
            "until {}, its child by vfork, executes something or ends",
            case.name(child)
        ),
        (_, _, Some(channel)) => format!("in {}", render::escape(channel)),
        _ => "in the kernel".to_owned(),
    };
    let verdict = format!(
        "{who} is in uninterruptible sleep (state D) {place}: {name} is queued behind that.{}",
        until(case, attempt, "It was")
    );
    let finding = finding(case, attempt, holdout, verdict).proven().shown_by(
        event,
        format!(
            "state D{}",
            channel.map_or(String::new(), |channel| format!(
                ", waiting in {}",
                render::escape(channel)
            ))
        ),
    );
    let finding = ends(case, attempt, finding)
        .not("a frozen cgroup", "none is frozen, its own or above")
        .not("a blocked signal", "its mask lets it through")
        .relies_on_all(SIGNALS)
        .fix(match in_vfork {
            true => {
                "Let the child of vfork execute or end at once; use posix_spawn, or fork where it has work to do."
            }
            false => "Find out what it waits for: a disk, a network file system, a FUSE daemon, a driver.",
        });
    Some(("term-pending-uninterruptible", finding))
}
