//! An attempt to stop the jail: who asked, what reached PID 1, and how it ended.

use crate::diagnose::{Case, Origin, ProcessId};
use crate::event::{
    Event, ForwardAction, Kill, Requester, Signal, SignalGenerated, SignalResult, StopRequested,
};
use crate::text;

/// An attempt to stop the jail.
pub(in crate::diagnose::rules) struct Attempt<'a> {
    /// PID 1 of the jail.
    pub pid1: ProcessId,
    /// The signal that asked PID 1 to stop.
    pub signal: &'a Signal,
    /// The request: the launcher's grace period begins, or another process signals PID 1.
    pub asked: &'a Event,
    /// What the launcher was asked, if it was.
    pub request: Option<&'a StopRequested>,
    /// The signal as PID 1 was sent it while there was time.
    pub sent: Option<(&'a Event, &'a SignalGenerated)>,
    /// The launcher held it back, as the kernel would have dropped it.
    pub held: Option<&'a Event>,
    /// The launcher sent it when the time was up, for the record.
    pub late: Option<(&'a Event, &'a SignalGenerated)>,
    /// The end by force; none if PID 1 ended by itself, or never.
    pub forced: Option<&'a Event>,
    /// The launcher's own word on that.
    pub kill: Option<(&'a Event, &'a Kill)>,
}

/// Signals that ask a program to stop.
pub(in crate::diagnose::rules) fn asks_to_stop(number: i32) -> bool {
    matches!(number, libc::SIGTERM | libc::SIGINT | libc::SIGQUIT)
}

impl<'a> Attempt<'a> {
    /// The attempt of a case: the launcher's if it was asked, else the first from elsewhere.
    pub fn of(case: &'a Case) -> Option<Self> {
        let pid1 = case.pid1()?;
        match case.stop_request() {
            Some((asked, request)) => Some(Self::requested(case, pid1, asked, request)),
            None => Self::from_elsewhere(case, pid1),
        }
    }

    fn requested(
        case: &'a Case,
        pid1: ProcessId,
        asked: &'a Event,
        request: &'a StopRequested,
    ) -> Self {
        let signal = &request.stop_signal;
        let kill = case.launcher_kills().find(|(event, kill)| {
            event.seq > asked.seq
                && matches!(
                    kill.reason.as_str(),
                    "stop-timeout" | "second-signal" | "stop-signal"
                )
        });
        // The kill may have come too late.
        let ended = case.exit(pid1).map_or(u64::MAX, |(event, _)| event.seq);
        let kill = kill.filter(|(event, _)| killed(case, pid1) || event.seq < ended);
        let forced = forced(case, pid1, asked).or(kill
            .filter(|(event, _)| event.seq < ended)
            .map(|(event, _)| event));
        let forwarded = |action| {
            case.forwards()
                .find(|(event, forwarded)| {
                    event.seq > asked.seq
                        && forwarded.action == action
                        && forwarded.signal.number == signal.number
                })
                .map(|(event, _)| event)
        };
        let at_deadline = forwarded(ForwardAction::SentAtDeadline).is_some();
        let mut sent: Vec<_> = case
            .received(pid1)
            .filter(|(event, got)| {
                event.seq > asked.seq
                    && got.signal.number == signal.number
                    && forced.is_none_or(|forced| event.seq < forced.seq)
                    && (case.is_launcher(&event.task) || !event.task.in_jail)
            })
            .collect();
        let late = match at_deadline {
            true => sent.pop(),
            false => None,
        };
        let typed = || {
            // The terminal sends it to everybody, just before procjail hears of it.
            case.received(pid1).rev().find(|(event, got)| {
                event.seq < asked.seq
                    && got.signal.number == signal.number
                    && case.origin(event, got) == Origin::TerminalKey
                    && asked.time_ns - event.time_ns < 100_000_000
            })
        };
        Self {
            pid1,
            signal,
            asked,
            request: Some(request),
            sent: sent.first().copied().or_else(typed),
            held: forwarded(ForwardAction::HeldNoHandler),
            late,
            forced,
            kill,
        }
    }

    /// Somebody signals PID 1 without asking the launcher.
    fn from_elsewhere(case: &'a Case, pid1: ProcessId) -> Option<Self> {
        let (asked, signal) = case.received(pid1).find(|(event, signal)| {
            asks_to_stop(signal.signal.number)
                && !signal.exiting
                && !case.is_launcher(&event.task)
                && case.origin(event, signal) == Origin::Process
        })?;
        Some(Self {
            pid1,
            signal: &signal.signal,
            asked,
            request: None,
            sent: Some((asked, signal)),
            held: None,
            late: None,
            forced: forced(case, pid1, asked),
            kill: None,
        })
    }

    /// When the attempt ended: by force, by PID 1's own end, or with the trace.
    pub fn end_ns(&self, case: &Case) -> u64 {
        match self.forced {
            Some(event) => event.time_ns,
            None => case
                .exit(self.pid1)
                .map_or(case.end_ns(), |(event, _)| event.time_ns),
        }
    }

    /// How long it lasted, nanoseconds.
    pub fn lasted_ns(&self, case: &Case) -> u64 {
        self.end_ns(case).saturating_sub(self.asked.time_ns)
    }

    /// There was time to see what becomes of the signal once it is taken: not where a second request ended
    /// the grace period early.
    pub fn waited(&self, case: &Case) -> bool {
        match (self.request, self.kill) {
            (Some(request), Some((_, kill))) if kill.reason == "second-signal" => {
                self.lasted_ns(case) >= request.timeout_ns / 2
            }
            _ => true,
        }
    }

    /// A signal belongs to the request: whoever asks the launcher may ask its whole process group, and
    /// with it the jail, as timeout(1) does.
    pub fn includes(&self, case: &Case, event: &Event, signal: &SignalGenerated) -> bool {
        const TOGETHER_NS: u64 = 100_000_000;
        let from = self.asked.time_ns.saturating_sub(TOGETHER_NS);
        let to = self.end_ns(case).saturating_add(TOGETHER_NS);
        let number = signal.signal.number;
        number != libc::SIGKILL
            && (asks_to_stop(number) || number == self.signal.number || number == libc::SIGHUP)
            && (from..=to).contains(&event.time_ns)
    }

    /// An event lies within it.
    pub fn spans(&self, case: &Case, event: &Event) -> bool {
        (self.asked.time_ns..=self.end_ns(case)).contains(&event.time_ns)
    }

    /// Who asked for the stop, if that is known: the sender of the signal, or who asked procjail.
    fn asker(&self, case: &Case) -> Option<String> {
        match self.request {
            None => Some(case.who(&self.asked.task)),
            Some(request) => requester(case, request.by.as_ref()?, &request.signal),
        }
    }

    /// Who asked for what, as the start of a sentence.
    pub fn request_in_words(&self, case: &Case) -> String {
        let name = text::escape(&self.signal.name);
        let asker = self.asker(case);
        let Some(request) = self.request else {
            let who = asker.unwrap_or_else(|| "An unknown process".to_owned());
            return format!("{who} sent {name} to {}", case.name(self.pid1));
        };
        let asked = match asker {
            Some(who) => format!("{who} asked procjail to stop the jail"),
            None => "procjail was asked to stop the jail".to_owned(),
        };
        match request.signal.number == self.signal.number {
            true => format!("{asked} ({name})"),
            false => format!(
                "{asked} ({}); its stop signal is {name}",
                text::escape(&request.signal.name)
            ),
        }
    }

    /// How the attempt ended, for the end of a sentence: `it was killed 500 ms later, when the grace period
    /// expired`. `who` is the subject.
    pub fn killed(&self, case: &Case, who: &str) -> String {
        let lasted = text::duration(self.lasted_ns(case));
        match (self.forced, self.kill) {
            (Some(_), Some((_, kill))) if kill.reason == "second-signal" => {
                format!("{who} killed {lasted} later, at a second request")
            }
            (Some(_), Some(_)) => {
                format!("{who} killed {lasted} later, when the grace period expired")
            }
            (Some(_), None) => format!("{who} killed {lasted} later"),
            (None, _) => format!("{who} not killed"),
        }
    }
}

/// Who sent a signal to procjail, for a sentence; none if nobody could be found.
fn requester(case: &Case, by: &Requester, signal: &Signal) -> Option<String> {
    if by.terminal_key {
        let key = match signal.number {
            libc::SIGQUIT => "Ctrl-\\ at the terminal",
            libc::SIGHUP => "The hangup of the terminal",
            _ => "Ctrl-C at the terminal",
        };
        return Some(key.to_owned());
    }
    // It had ended when procjail looked, but the trace has the jail's own processes all the same.
    let traced = case
        .process_by_pid(by.pid)
        .filter(|id| by.pid != 0 && case.process(*id).in_jail());
    if by.argv.is_empty()
        && by.comm.is_empty()
        && let Some(id) = traced
    {
        return Some(case.name(id));
    }
    let command = match (by.argv.is_empty(), by.comm.as_str()) {
        (false, _) => format!("`{}`", text::command_line(&by.argv, 60)),
        (true, "") if by.pid == 0 => return None,
        (true, "") => "A process that ended before procjail could look at it".to_owned(),
        (true, comm) => text::escape(comm),
    };
    let mut parts = vec![format!("host PID {}", by.pid), format!("uid {}", by.uid)];
    match &by.unit {
        Some(unit) => parts.push(format!("unit {}", text::escape(unit))),
        None if !matches!(by.cgroup.as_str(), "" | "/") => {
            parts.push(format!("cgroup {}", text::escape(&by.cgroup)));
        }
        None => {}
    }
    Some(format!("{command} ({})", parts.join(", ")))
}

/// SIGKILL ended PID 1.
fn killed(case: &Case, pid1: ProcessId) -> bool {
    case.status(pid1)
        .and_then(|status| status.signal.as_ref())
        .is_some_and(|signal| signal.number == libc::SIGKILL)
}

/// PID 1's end by somebody's SIGKILL, after a request.
fn forced<'a>(case: &'a Case, pid1: ProcessId, asked: &Event) -> Option<&'a Event> {
    let end = case.exit(pid1).map_or(u64::MAX, |(event, _)| event.seq);
    if case.status(pid1).is_some() && !killed(case, pid1) {
        return None;
    }
    case.received(pid1)
        .find(|(event, signal)| {
            event.seq > asked.seq
                && event.seq < end
                && signal.signal.number == libc::SIGKILL
                && signal.result == SignalResult::Delivered
                && matches!(
                    case.origin(event, signal),
                    Origin::Process | Origin::CgroupKill
                )
        })
        .map(|(event, _)| event)
}
