//! The stop signal was taken, and the process had not ended in the end: did it go on as before, was it stuck, or
//! did it need more time? The looks at it before and after the signal tell, as far as they do.

use super::activity::{Activity, Place, Sockets, call_of, time_limit, waits_for_events};
use super::attempt::Attempt;
use super::fate::{Fate, Holdout, survivors};
use super::handled::{passes_on, taken};
use super::repeats::restarted;
use super::waits::{LONGER, State, remedy};
use super::{ends, until};
use crate::diagnose::errno::{self, Weight};
use crate::diagnose::{Case, Confidence, Finding, ProcessId, Tagged};
use crate::event::{Event, FailedCall, ThreadState};
use crate::text;

/// What a stop that takes long can wait for: the list of alternatives of `term-shutdown-unfinished`.
pub(super) const DRAIN: &str = "a connection that is still open";
pub(super) const CHILD: &str = "a child that has not ended";
pub(super) const FILES: &str = "data that is being written";
pub(super) const SLEEP: &str = "a sleep or a timer";
pub(super) const COMPUTING: &str = "a computation";
pub(super) const LOCK: &str = "a lock or another thread";
pub(super) const NO_END: &str = "a handler that does not end the program";

/// The alternatives of `term-handler-no-exit`.
pub(super) const ELSEWHERE: &str = "a shutdown that another thread or process carries on";
pub(super) const IN_HAND: &str = "work in hand that it finishes first";
pub(super) const ALIKE: &str = "a shutdown that waits in the same way as the main loop";

/// The alternatives of `term-deadlock`.
pub(super) const TIMED: &str = "a wait with a time limit";
pub(super) const RELEASED: &str = "a lock that another process releases";

/// All that there is to know of it.
pub(super) struct Facts<'a, 'b> {
    pub case: &'a Case,
    pub attempt: &'b Attempt<'a>,
    pub holdout: &'b Holdout<'a>,
    pub activity: Activity<'a>,
    pub sockets: Option<Sockets<'a>>,
    /// Processes below it that were left in the end.
    pub left: Vec<ProcessId>,
    /// What ended since the signal came.
    pub steps: &'b [&'a Event],
}

/// Why the process had not ended.
pub(super) fn why<'a>(
    case: &'a Case,
    attempt: &Attempt<'a>,
    holdout: &Holdout<'a>,
    steps: &[&'a Event],
) -> Tagged {
    let facts = Facts {
        case,
        attempt,
        holdout,
        activity: Activity::of(case, attempt, holdout),
        sockets: Sockets::of(case, attempt, holdout.process),
        left: survivors(case, attempt, holdout.process),
        steps,
    };
    facts
        .went_on()
        .or_else(|| facts.deadlock())
        .unwrap_or_else(|| facts.unfinished())
}

impl Facts<'_, '_> {
    fn who(&self) -> String {
        self.case.name(self.holdout.process)
    }

    /// How it took the signal, for the start of a fact.
    fn took(&self) -> String {
        let who = self.who();
        let (_, name) = self.holdout.signal(self.attempt);
        match &self.holdout.fate {
            Fate::Handled(event) | Fate::Reraised(event, _) => {
                format!(
                    "{who} ran its handler for {name} at {}",
                    self.case.at(event)
                )
            }
            _ => format!("{who} took {name} (sigwait or signalfd)"),
        }
    }

    fn start(&self, fact: String) -> Finding {
        let mut finding = taken(self.case, self.attempt, self.holdout, fact);
        if let Some(last) = self.steps.last() {
            finding = finding.shown_by(
                last,
                format!(
                    "{} ended, the last before the kill",
                    self.case.task_name(&last.task)
                ),
            );
        }
        finding
    }

    fn finish(&self, finding: Finding) -> Finding {
        ends(self.case, self.attempt, finding)
            .not("an ignored or blocked signal", "it was taken")
            .relies_on_all(&["exit"])
    }

    pub(super) fn alone(&self) -> bool {
        let threads = self
            .activity
            .last
            .as_ref()
            .map_or(0, |look| look.threads.len());
        threads == 1 && self.left.is_empty()
    }

    pub(super) fn connections(&self) -> usize {
        let sockets = self.sockets.as_ref();
        sockets.map_or(0, |sockets| {
            sockets.connected.iter().map(|(_, peers)| peers.len()).sum()
        })
    }

    /// What shows that the program does what it did before the signal; none if it doesn't, or that can't be
    /// told.
    fn as_before(&self) -> Option<String> {
        if let Some(again) = restarted(self.case, self.attempt, self.holdout.process) {
            return Some(format!(
                "it went on starting {}: {} since the signal",
                text::escape(again.program),
                text::plural(again.since as u64, "time", "times")
            ));
        }
        let closed = |sockets: &Sockets<'_>| !sockets.closed.is_empty();
        // What it ended or told to end is a shutdown.
        if !self.steps.is_empty()
            || passes_on(self.case, self.attempt, self.holdout.process)
            // It may wait for what is below it.
            || !self.left.is_empty()
            || !self.activity.same_calls()?
            || self.working_for_a_client()
            || self.sockets.as_ref().is_some_and(closed)
        {
            return None;
        }
        let main = self.activity.main()?;
        let call = text::escape(call_of(main));
        if waits_for_events(main) {
            let before = self.activity.before.as_ref()?.main()?;
            let kept = self.sockets.as_ref().map(|sockets| sockets.kept.clone());
            if let Some(kept) = kept.filter(|kept| !kept.is_empty()) {
                return Some(format!(
                    "it waits in {call} and listens on {}, as before the signal",
                    text::escape(&kept.join(", "))
                ));
            }
            // Of several threads, the first may have nothing to do with it.
            let same_limit = self.alone()
                && time_limit(main).is_some()
                && time_limit(main) == time_limit(before);
            return same_limit.then(|| {
                format!("it waits in {call} with the same time limit as before the signal")
            });
        }
        if call == "running" {
            let before = self
                .activity
                .cpu_percent_before(self.case, self.holdout.process)?;
            let since = self.activity.cpu_percent()?;
            return (before >= 50 && since >= 50).then(|| {
                format!(
                    "it used {before} % of a CPU from its start to the signal, and {since} % after it"
                )
            });
        }
        match self.activity.place()? {
            Place::Same => Some(format!(
                "it waits in {call} with the same stack as before the signal"
            )),
            Place::Shallower if self.woke() => Some(format!(
                "it waits in {call} as before the signal, and ran now and then"
            )),
            _ => None,
        }
    }

    /// It ran between the two looks after the signal.
    fn woke(&self) -> bool {
        self.activity.switches().unwrap_or(0) > 0
    }

    /// It is not waiting for events, and has a connection: that is a request in flight.
    pub(super) fn working_for_a_client(&self) -> bool {
        let connected = |sockets: &Sockets<'_>| {
            sockets
                .connected
                .iter()
                .any(|(id, _)| *id == self.holdout.process)
        };
        self.sockets.as_ref().is_some_and(connected)
            && self
                .activity
                .main()
                .is_some_and(|main| !waits_for_events(main))
    }

    /// A process below it that has a connection, and to whom.
    pub(super) fn child_with_a_client(&self) -> Option<(ProcessId, &[String])> {
        let mut connected = self.sockets.iter().flat_map(|sockets| &sockets.connected);
        let (id, peers) = connected.find(|(id, _)| *id != self.holdout.process)?;
        Some((*id, peers))
    }

    /// The handler ran, and nothing came of it.
    fn went_on(&self) -> Option<Tagged> {
        let shown = self.as_before()?;
        let woke =
            self.woke() || restarted(self.case, self.attempt, self.holdout.process).is_some();
        let fact = format!(
            "{}, and {shown}.{}",
            self.took(),
            until(self.case, self.attempt, 1)
        );
        let mut finding = self.start(fact).proven();
        for look in [&self.activity.before, &self.activity.last]
            .into_iter()
            .flatten()
        {
            finding = finding.shown_by(look.event, self.place(look.main()));
        }
        let text = match woke {
            true => "The handler does not end the program, and its main loop goes on.",
            false => {
                "The handler ran and returned, and nothing woke the main loop from what it waits for."
            }
        };
        let remedy = "Let the handler end the main loop: set a flag that the loop looks at, and wake the loop.";
        if let Some((event, call)) = self.refused() {
            let finding = self.because_refused(finding, event, call);
            return Some(("term-handler-no-exit", self.finish(finding)));
        }
        finding = finding.cause(text, Confidence::Proven).remedy(remedy);
        if self.alone() {
            finding = finding.not(ELSEWHERE, "it has one thread and no child");
        }
        if woke && self.connections() == 0 {
            finding = finding.not(
                IN_HAND,
                "its main loop went round after the signal, and it has no connection",
            );
        }
        Some(("term-handler-no-exit", self.finish(finding)))
    }

    /// The heaviest call that failed since the signal, and the event that has it.
    fn refused(&self) -> Option<(&Event, &FailedCall)> {
        let (event, failed) = self.case.failed_calls(self.holdout.process)?;
        let since_ns = self.holdout.since_ns(self.attempt);
        failed
            .calls
            .iter()
            .filter(|call| event.time_ns.saturating_sub(call.before_ns) > since_ns)
            .map(|call| (errno::weight(call), call))
            .filter(|(weight, _)| *weight != Weight::Routine)
            .max_by_key(|(weight, call)| (*weight, std::cmp::Reverse(call.before_ns)))
            .map(|(_, call)| (event, call))
    }

    /// The cause is a call that failed since the signal.
    fn because_refused(&self, finding: Finding, event: &Event, call: &FailedCall) -> Finding {
        let what = format!(
            "{}{} failed with {}",
            text::escape(&call.syscall.name),
            call.path
                .as_ref()
                .map_or(String::new(), |path| format!(" {}", text::escape(path))),
            self.case.error(&call.error)
        );
        let remedy = errno::meaning(call).map_or(
            "Look at why that call fails: the program may refuse to end without it.",
            |meaning| meaning.remedy,
        );
        finding
            .shown_by(
                event,
                format!("{what}, {} before the end", text::duration(call.before_ns)),
            )
            .cause(
                format!("Its shutdown failed: {what} after the signal."),
                Confidence::Likely,
            )
            .or(NO_END)
            .remedy(remedy)
    }

    /// Where a thread is, as evidence.
    fn place(&self, thread: Option<&ThreadState>) -> String {
        thread.map_or_else(
            || "a look at its threads".to_owned(),
            |thread| match call_of(thread) {
                "running" => "its main thread runs".to_owned(),
                "" => format!(
                    "its main thread is in state {}",
                    text::escape(&thread.state)
                ),
                call => format!("its main thread waits in {}", text::escape(call)),
            },
        )
    }

    /// Every thread waits for a lock, and none has run.
    fn deadlock(&self) -> Option<Tagged> {
        if !self.activity.all_locked() || !self.activity.moved() {
            return None;
        }
        let last = self.activity.last.as_ref()?;
        let count = last.threads.len() as u64;
        let middle = self.activity.middle.as_ref()?;
        let fact = format!(
            "{}. At {} and {} {} in futex, and {} in between.{}",
            self.took(),
            self.case.at(middle.event),
            self.case.at(last.event),
            match count {
                1 => "its only thread waited".to_owned(),
                _ => format!("all of its {count} threads waited"),
            },
            if count == 1 {
                "it did not run"
            } else {
                "none of them ran"
            },
            until(self.case, self.attempt, 1)
        );
        let mut finding = self
            .start(fact)
            .proven()
            .shown_by(last.event, "every thread of it is in futex(2), as at the look before")
            .fact("no context switch, no CPU time and no I/O between the two looks")
            .cause(
                "A deadlock: every thread waits for a lock or a condition that another thread would have to release, as \
                 when a handler takes a lock that the interrupted code holds.",
                Confidence::Likely,
            )
            .or("a wait that a timer or a later signal would have ended");
        if last
            .threads
            .iter()
            .all(|thread| time_limit(thread) == Some(None))
        {
            finding = finding.not(TIMED, "no thread's wait has a time limit");
        }
        if self.left.is_empty() {
            finding = finding.not(RELEASED, "there is no process below it");
        }
        let finding = self.finish(finding).remedy(
            "Do not take locks in a signal handler: set a flag or write to a pipe in it, and do the work in the main \
             loop.",
        );
        Some(("term-deadlock", finding))
    }

    fn unfinished(&self) -> Tagged {
        let lasted = text::duration(self.attempt.lasted_ns(self.case));
        let when = match (self.attempt.request, self.attempt.kill) {
            (Some(request), Some((_, kill))) if kill.reason != "second-signal" => format!(
                "and had not ended when the grace period of {} expired: it was killed",
                text::duration(request.timeout_ns)
            ),
            (_, Some(_)) => {
                format!("and was killed {lasted} after the first request, at a second one")
            }
            _ => format!("and was killed {lasted} after the request"),
        };
        let fact = format!("{}, {when}.{}", self.took(), self.since());
        let mut finding = self.start(fact).proven();
        if let Some(look) = &self.activity.last {
            finding = finding.shown_by(look.event, self.place(look.main()));
        }
        if self.activity.before.is_none() {
            finding = finding.fact("the trace has no look at the program before the signal");
        }
        if let Some((event, call)) = self.refused() {
            let finding = self.because_refused(finding, event, call);
            return ("term-shutdown-unfinished", self.finish(finding));
        }
        let candidates = self.candidates();
        let chosen = candidates
            .iter()
            .position(|one| matches!(one.state, State::Seen(_)));
        finding = match chosen.and_then(|at| candidates.get(at)) {
            Some(one) => finding.cause(one.text(), Confidence::Likely),
            None => finding.cause(
                match self.left.last() {
                    Some(last) => format!(
                        "It may wait for {} below it, which {}; what for is not in the trace.",
                        self.case.names(&self.left),
                        self.told(*last)
                    ),
                    None => {
                        "Its shutdown was not complete; what it waited for is not in the trace."
                            .to_owned()
                    }
                },
                Confidence::ConsistentWith,
            ),
        };
        for (at, one) in candidates.iter().enumerate() {
            finding = match &one.state {
                _ if Some(at) == chosen => finding,
                State::Seen(_) | State::Open => finding.or(one.what),
                State::Excluded(because) => finding.not(one.what, because),
            };
        }
        let remedy = chosen
            .and_then(|at| candidates.get(at))
            .map_or(LONGER, |one| remedy(one.what));
        (
            "term-shutdown-unfinished",
            self.finish(finding).remedy(remedy),
        )
    }

    /// What happened since the signal, in a sentence.
    fn since(&self) -> String {
        let mut parts = Vec::new();
        if let Some(cpu) = self.activity.cpu_since_ns() {
            parts.push(format!("used {} of CPU time", text::duration(cpu)));
        }
        if let Some(bytes) = self.activity.written_since() {
            parts.push(format!("wrote {}", text::bytes(bytes)));
        }
        let mut text = match parts.is_empty() {
            true => String::new(),
            false => format!(" Since the signal it {}.", parts.join(" and ")),
        };
        if !self.steps.is_empty() {
            let ended: Vec<String> = self
                .steps
                .iter()
                .take(3)
                .map(|step| self.case.task_name(&step.task))
                .collect();
            text += &format!(
                " {} ended meanwhile{}.",
                ended.join(", "),
                match self.steps.len().saturating_sub(3) {
                    0 => String::new(),
                    more => format!(", and {more} more"),
                }
            );
        }
        text
    }
}
