//! Signals in words: who sent it, what the kernel did with it, and why.

use super::{Tone, Words, who};
use crate::event::*;
use crate::text::{command_line, duration, escape};

pub(super) fn generated(sender: &Task, signal: &SignalGenerated) -> Words {
    let (tone, fate) = fate(signal);
    let target = if signal.group || signal.target.tid == signal.target.pid {
        who(&signal.target)
    } else {
        format!("thread {} of {}", signal.target.tid, who(&signal.target))
    };
    let origin = origin(sender, signal);
    let text = format!(
        "{} from {origin} -> {target}: {fate}",
        escape(&signal.signal.name)
    );
    Words::new(tone, text)
}

/// Who sent a signal and how, as far as its own event tells.
fn origin(sender: &Task, signal: &SignalGenerated) -> String {
    let number = signal.signal.number;
    let own = sender.pid == signal.target.pid;
    let call = signal.syscall.as_ref().map(|call| escape(&call.name));
    match signal.code.number {
        128 if signal.sender_exiting && sender.jail_pid == Some(1) && number == libc::SIGKILL => {
            "the kernel (PID 1 ended)".to_owned()
        }
        128 => "the kernel".to_owned(),
        -2 => "a timer".to_owned(),
        code if code > 0 && own => format!("the kernel ({}, by itself)", escape(&signal.code.name)),
        code if code > 0 => format!("the kernel ({})", escape(&signal.code.name)),
        0 if number == libc::SIGPIPE && own => "the kernel (it wrote to a closed pipe)".to_owned(),
        0 if number == libc::SIGXFSZ && own => "the kernel (file size limit)".to_owned(),
        _ if own => call.map_or_else(|| "itself".to_owned(), |call| format!("itself ({call})")),
        0 if number == libc::SIGKILL && !signal.group && call.as_deref() == Some("write") => {
            format!("{} (cgroup.kill)", sent_by(sender))
        }
        0 if signal.sender_exiting => format!("{} (as its parent ended)", sent_by(sender)),
        _ if sender.in_jail || sender.jail_pid.is_some() => {
            let call = call.map_or_else(String::new, |call| format!(" ({call})"));
            format!("{}{call}", who(sender))
        }
        _ => {
            let call = call.map_or_else(String::new, |call| format!(", {call}"));
            format!("outside ({}{call})", who(sender))
        }
    }
}

fn sent_by(sender: &Task) -> String {
    if sender.in_jail || sender.jail_pid.is_some() {
        who(sender)
    } else {
        format!("outside, {}", who(sender))
    }
}

/// What the kernel did with a signal, and why.
fn fate(signal: &SignalGenerated) -> (Tone, &'static str) {
    let number = signal.signal.number;
    match signal.result {
        SignalResult::Ignored if signal.exiting => (Tone::Dim, "too late, it is ending already"),
        SignalResult::Ignored if signal.disposition == Disposition::Ignore => {
            (Tone::Warning, "ignored, its action is SIG_IGN")
        }
        SignalResult::Ignored if ignored_by_default(number) => (Tone::Dim, "ignored by default"),
        SignalResult::Ignored if signal.unkillable => match number {
            libc::SIGKILL | libc::SIGSTOP => (
                Tone::Warning,
                "ignored, PID 1 takes none from its own namespace",
            ),
            _ => (Tone::Warning, "ignored, PID 1 has no handler"),
        },
        SignalResult::Ignored => (Tone::Warning, "ignored"),
        SignalResult::AlreadyPending => (Tone::Dim, "dropped, one is pending already"),
        SignalResult::OverflowFail => (Tone::Bad, "dropped, its queue is full"),
        SignalResult::Unknown => (Tone::Warning, "result unknown"),
        SignalResult::Delivered | SignalResult::LoseInfo => queued(signal),
    }
}

fn queued(signal: &SignalGenerated) -> (Tone, &'static str) {
    let number = signal.signal.number;
    let fatal = signal.disposition == Disposition::Default && !ignored_by_default(number);
    match number {
        libc::SIGKILL => (Tone::Bad, "kills it"),
        libc::SIGSTOP => (Tone::Warning, "stops it"),
        _ if signal.blocked => (Tone::Warning, "held back, it blocks the signal"),
        _ if signal.disposition == Disposition::Handler => (Tone::Plain, "its handler runs"),
        libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU if fatal => (Tone::Warning, "stops it"),
        libc::SIGCONT => (Tone::Plain, "resumes it"),
        _ if fatal => (Tone::Bad, "ends it"),
        _ => (Tone::Plain, "sent"),
    }
}

/// Signals whose default action is to do nothing; see signal(7).
fn ignored_by_default(number: i32) -> bool {
    matches!(
        number,
        libc::SIGCHLD | libc::SIGCONT | libc::SIGURG | libc::SIGWINCH
    )
}

pub(super) fn delivered(task: &Task, signal: &SignalDelivered) -> Words {
    let name = escape(&signal.signal.name);
    let words = match (&signal.fatal, signal.disposition) {
        (Some(fatal), _) if fatal.number != signal.signal.number => {
            Words::new(Tone::Bad, format!("{} ends it", escape(&fatal.name)))
        }
        (Some(_), _) => Words::new(Tone::Bad, format!("{name} ends it")),
        (None, _) if signal.signal.number == libc::SIGKILL => Words::new(
            Tone::Dim,
            format!("thread {} has to end with its process", task.tid),
        ),
        (None, Disposition::Handler) => Words::new(Tone::Plain, format!("{name}: handler runs")),
        (None, Disposition::Ignore) => Words::new(Tone::Dim, format!("{name}: ignored")),
        (None, Disposition::Default) => Words::new(Tone::Plain, format!("{name}: default action")),
    };
    words.detail(took(signal))
}

/// How long a signal took.
pub(super) fn took(signal: &SignalDelivered) -> String {
    signal
        .latency_ns
        .map_or_else(String::new, |ns| format!("after {}", duration(ns)))
}

/// Who sent a signal to the launcher. Without `by`, all that is known is the PID, 0 for the kernel.
pub(crate) fn requester(by: Option<&Requester>, signal: &Signal, pid: u32) -> String {
    let Some(by) = by else {
        return match pid {
            0 if signal.number == libc::SIGHUP => "the kernel (its terminal was closed)".to_owned(),
            0 => "the kernel".to_owned(),
            pid => format!("host PID {pid}"),
        };
    };
    if by.terminal_key {
        return match signal.number {
            libc::SIGINT => "Ctrl-C at the terminal",
            libc::SIGQUIT => "Ctrl-\\ at the terminal",
            libc::SIGTSTP => "Ctrl-Z at the terminal",
            _ => "a key at the terminal",
        }
        .to_owned();
    }
    let name = match (by.argv.as_slice(), by.comm.as_str()) {
        ([], "") if by.pid == 0 => return "an unknown process".to_owned(),
        ([], "") => "a process that ended before it could be looked at".to_owned(),
        ([], comm) => escape(comm),
        (argv, _) => format!("`{}`", command_line(argv, 60)),
    };
    let host_pid = (by.pid != 0).then(|| format!("host PID {}", by.pid));
    let unit = by.unit.as_deref().map(escape);
    // One that was gone too soon to say what it ran.
    let parent = by.parents.first().filter(|_| by.argv.is_empty());
    let parent = parent.map(|parent| format!("started by {}", escape(&parent.comm)));
    let known = host_pid
        .into_iter()
        .chain([format!("uid {}", by.uid)])
        .chain(unit)
        .chain(parent);
    format!("{name} ({})", known.collect::<Vec<_>>().join(", "))
}

pub(super) fn stop_requested(stop: &StopRequested) -> Words {
    let who = match &stop.by {
        Some(by) => format!(" by {}", requester(Some(by), &stop.signal, by.pid)),
        None => String::new(),
    };
    let (signal, stop_signal) = (escape(&stop.signal.name), escape(&stop.stop_signal.name));
    let when = match stop.timeout_ns {
        0 => "at once".to_owned(),
        timeout => format!("{} until the kill", duration(timeout)),
    };
    let text = format!("stop requested with {signal}{who}: {stop_signal} to PID 1, {when}");
    Words::new(Tone::Launcher, text)
}

pub(super) fn forwarded(signal: &SignalForwarded) -> Words {
    let name = escape(&signal.signal.name);
    let sender = requester(signal.by.as_ref(), &signal.signal, signal.sender_pid);
    let (tone, what) = match signal.action {
        ForwardAction::Forwarded => (Tone::Launcher, "passed on to PID 1"),
        ForwardAction::HeldNotStarted => (Tone::Warning, "held, APP does not execute yet"),
        ForwardAction::HeldNoHandler => (Tone::Warning, "held, PID 1 has no handler for it yet"),
        ForwardAction::SentByTerminal => {
            (Tone::Dim, "not passed on, the terminal sent it to APP too")
        }
        ForwardAction::SentAtDeadline => (Tone::Warning, "held to the end, passed on now"),
        ForwardAction::Failed => (Tone::Bad, "could not be passed on"),
    };
    let words = Words::new(tone, format!("{name} from {sender}: {what}"));
    if signal.held_ns > 0 {
        return words.detail(format!("after {}", duration(signal.held_ns)));
    }
    words
}

#[cfg(test)]
mod tests {
    use procjail_common::{SignalGenerated as Raw, signal_flags};

    use super::*;
    use crate::event::fixture::{exiting, outside, sent, task, thread};

    fn told(raw: Raw) -> String {
        let event = Enricher::new(Task::default(), 4096).record(Record::SignalGenerated(raw));
        let Some(Event {
            task,
            what: What::SignalGenerated(signal),
            ..
        }) = event
        else {
            panic!("a signal");
        };
        generated(&task, &signal).text
    }

    #[test]
    fn who_sent_a_signal_and_why_it_came() {
        let (app, other, bash) = (task(2, "app"), task(3, "other"), outside(4121, "bash"));
        let kernel = |raw: Raw| Raw {
            code: 128,
            syscall: -1,
            ..raw
        };
        let write = |raw: Raw| Raw {
            syscall: libc::SYS_write,
            flags: 0,
            ..raw
        };
        let cases = [
            (
                sent(1, bash, app, 15),
                "SIGTERM from outside (bash 4121, kill) -> 2 app: its handler runs",
            ),
            (
                sent(1, other, app, 15),
                "SIGTERM from 3 other (kill) -> 2 app: its handler runs",
            ),
            (
                sent(1, app, app, 10),
                "SIGUSR1 from itself (kill) -> 2 app: its handler runs",
            ),
            (
                write(sent(1, bash, app, 9)),
                "SIGKILL from outside, bash 4121 (cgroup.kill) -> 2 app: kills it",
            ),
            (
                kernel(sent(1, other, app, 9)),
                "SIGKILL from the kernel -> 2 app: kills it",
            ),
            (
                kernel(sent(1, exiting(task(1, "init")), app, 9)),
                "SIGKILL from the kernel (PID 1 ended) -> 2 app: kills it",
            ),
            (
                sent(1, exiting(other), app, 9),
                "SIGKILL from 3 other (as its parent ended) -> 2 app: kills it",
            ),
            (
                write(sent(1, app, app, 13)),
                "SIGPIPE from the kernel (it wrote to a closed pipe) -> 2 app: its handler runs",
            ),
            (
                Raw {
                    code: 2,
                    handler: 0,
                    syscall: -1,
                    ..sent(1, app, app, 11)
                },
                "SIGSEGV from the kernel (SEGV_ACCERR, by itself) -> 2 app: ends it",
            ),
            (
                Raw {
                    code: -2,
                    ..sent(1, other, app, 14)
                },
                "SIGALRM from a timer -> 2 app: its handler runs",
            ),
        ];
        for (raw, expected) in cases {
            assert_eq!(told(raw), expected);
        }
    }

    #[test]
    fn who_asked_for_a_stop() {
        let told =
            |by: Option<Requester>, number, pid| requester(by.as_ref(), &Signal::new(number), pid);
        let key = Requester {
            terminal_key: true,
            ..Requester::default()
        };
        assert_eq!(told(Some(key.clone()), 2, 0), "Ctrl-C at the terminal");
        assert_eq!(told(Some(key), 3, 0), "Ctrl-\\ at the terminal");
        let unknown = told(Some(Requester::default()), 15, 0);
        assert_eq!(unknown, "an unknown process");
        let cron = Requester {
            pid: 4121,
            comm: "cron".into(),
            argv: ["kill", "4100"].map(String::from).into(),
            unit: Some("cron.service".into()),
            ..Requester::default()
        };
        let expected = "`kill 4100` (host PID 4121, uid 0, cron.service)";
        assert_eq!(told(Some(cron.clone()), 15, 4121), expected);
        // In a container, whose numbers are not the host's.
        let mut inner = Requester {
            pid: 0,
            argv: Vec::new(),
            unit: None,
            ..cron
        };
        assert_eq!(told(Some(inner.clone()), 15, 0), "cron (uid 0)");
        inner.parents = vec![Ancestor {
            pid: 800,
            comm: "init".into(),
        }];
        let expected = "cron (uid 0, started by init)";
        assert_eq!(told(Some(inner), 15, 0), expected);
        assert_eq!(told(None, 15, 0), "the kernel");
        assert_eq!(told(None, 15, 4121), "host PID 4121");
    }

    #[test]
    fn why_a_signal_did_nothing() {
        let (bash, init) = (outside(4121, "bash"), task(1, "init"));
        let ignored = |handler, target_flags, signal| {
            let raw = Raw {
                result: 1,
                handler,
                target_flags,
                ..sent(1, bash, init, signal)
            };
            let told = told(raw);
            told.rsplit_once(": ")
                .map(|(_, fate)| fate.to_owned())
                .unwrap_or(told)
        };
        assert_eq!(ignored(0, 0x40, 15), "ignored, PID 1 has no handler");
        assert_eq!(
            ignored(0, 0x40, 9),
            "ignored, PID 1 takes none from its own namespace"
        );
        assert_eq!(ignored(1, 0x40, 15), "ignored, its action is SIG_IGN");
        assert_eq!(ignored(0, 0x44, 9), "too late, it is ending already");
        assert_eq!(ignored(0, 0, 28), "ignored by default");
        let blocked = Raw {
            flags: signal_flags::GROUP | signal_flags::BLOCKED,
            ..sent(1, bash, init, 15)
        };
        assert!(told(blocked).ends_with("held back, it blocks the signal"));
        let pending = Raw {
            result: 2,
            ..sent(1, bash, init, 15)
        };
        assert!(told(pending).ends_with("dropped, one is pending already"));
        let private = Raw {
            flags: 0,
            ..sent(1, bash, thread(init, 77), 15)
        };
        assert!(told(private).contains("-> thread 77 of 1 init: "));
    }
}
