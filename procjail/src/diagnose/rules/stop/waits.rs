//! What a shutdown that is not complete may wait for, one by one: what the looks at it show, and what they exclude.

use super::activity::{
    Activity, CHILD_WAITS, FILE_CALLS, LOCKS, Place, SLEEPS, call_of, futex_is_timed, is_in,
    time_limit, waits_for_events,
};
use super::fate::was_asked;
use super::handled::passes_on;
use super::unfinished::{CHILD, COMPUTING, DRAIN, FILES, Facts, LOCK, NO_END, SLEEP};
use crate::diagnose::ProcessId;
use crate::event::ThreadState;
use crate::text;

impl Facts<'_, '_> {
    /// What it may wait for, in the order in which it is looked for.
    pub(super) fn candidates(&self) -> Vec<Candidate> {
        vec![
            self.drain(),
            self.child(),
            self.files(),
            self.sleep(),
            self.computing(),
            self.lock(),
            self.no_end(),
        ]
    }

    fn drain(&self) -> Candidate {
        let state = match &self.sockets {
            None => State::Open,
            Some(sockets) => match sockets.connected.first() {
                None => State::excluded("no connection of it, or of a process below it, was found"),
                Some((id, peers)) if !sockets.closed.is_empty() => State::Seen(format!(
                    "It drains: it no longer listens on {}, and {} still has {} open.",
                    text::escape(&sockets.closed.join(", ")),
                    self.case.name(*id),
                    connections(peers)
                )),
                Some((id, peers)) if self.working_for_a_client() => State::Seen(format!(
                    "It finishes a request: {} has {} open and is not waiting for events.",
                    self.case.name(*id),
                    connections(peers)
                )),
                Some(_) => match self.child_with_a_client() {
                    Some((id, peers)) => State::Seen(format!(
                        "It waits for what is below it: {} still has {} open.",
                        self.case.name(id),
                        connections(peers)
                    )),
                    None => State::Open,
                },
            },
        };
        Candidate { what: DRAIN, state }
    }

    fn child(&self) -> Candidate {
        let main = self.activity.main();
        let waits = main.is_some_and(|main| is_in(main, CHILD_WAITS));
        let state = match self.left.last() {
            None => State::excluded("no process below it was left"),
            Some(last) => {
                let busiest = self
                    .left
                    .iter()
                    .filter_map(|id| {
                        let cpu = Activity::of_process(self.case, self.attempt, *id).cpu_ns()?;
                        Some((cpu, *id))
                    })
                    .filter(|(cpu, _)| *cpu * 10 > self.activity.span_ns())
                    .max();
                match (waits, busiest) {
                    (_, Some((cpu, child))) => State::Seen(format!(
                        "It waits for {}, which is busy ({} of CPU time in {}) and {}.",
                        self.case.name(child),
                        text::duration(cpu),
                        text::duration(self.activity.span_ns()),
                        self.told(child)
                    )),
                    (true, None) => State::Seen(format!(
                        "It waits for {}, which {}.",
                        self.case.names(&self.left),
                        self.told(*last)
                    )),
                    // It stops what is below it, and some of that is left.
                    (false, None)
                        if !self.steps.is_empty()
                            || passes_on(self.case, self.attempt, self.holdout.process) =>
                    {
                        State::Seen(format!(
                            "What it stops has not all ended: {} was left, which {}.",
                            self.case.names(&self.left),
                            self.told(*last)
                        ))
                    }
                    (false, None) => State::Open,
                }
            }
        };
        Candidate { what: CHILD, state }
    }

    /// Whether a child was told to end.
    pub(super) fn told(&self, child: ProcessId) -> &'static str {
        match was_asked(self.case, self.attempt, child) {
            true => "got a signal and has not ended",
            false => "never got a signal",
        }
    }

    fn files(&self) -> Candidate {
        let in_call = self
            .activity
            .main()
            .filter(|main| is_in(main, FILE_CALLS) || main.state == "D");
        let state = match (self.activity.written(), in_call) {
            (Some(bytes), _) if bytes > 0 => State::Seen(format!(
                "It writes: {} in the last {}.",
                text::bytes(bytes),
                text::duration(self.activity.span_ns())
            )),
            (_, Some(main)) => State::Seen(format!("It waits in {}.", text::escape(call_of(main)))),
            (Some(_), None) => State::excluded("it wrote nothing between the last two looks"),
            (None, None) => State::Open,
        };
        Candidate { what: FILES, state }
    }

    fn sleep(&self) -> Candidate {
        let state = match self.activity.main() {
            Some(main) if is_in(main, SLEEPS) => State::Seen(format!(
                "It sleeps ({}){}.",
                text::escape(call_of(main)),
                match self.activity.place() {
                    Some(Place::Deeper) =>
                        ", with a deeper stack than before the signal: in the handler or what it called",
                    Some(Place::OtherCall) => ", which it did not before the signal",
                    _ => "",
                }
            )),
            Some(main) if time_limit(main) == Some(None) && self.alone() => {
                State::excluded("its only thread waits without a time limit")
            }
            _ => match self
                .new_thread(|thread| is_in(thread, SLEEPS) || futex_is_timed(thread) == Some(true))
            {
                Some(thread) => State::Seen(format!(
                    "Its thread {}, which was started since the signal, waits with a time limit ({}), as a sleep does.",
                    text::escape(&thread.task.comm),
                    text::escape(call_of(thread))
                )),
                None => State::Open,
            },
        };
        Candidate { what: SLEEP, state }
    }

    /// A thread that was started since the signal, of those that `fits`: the last one, which others may wait for.
    fn new_thread(&self, fits: impl Fn(&ThreadState) -> bool) -> Option<&ThreadState> {
        let threads = self.activity.new_threads();
        threads.into_iter().rev().find(|thread| fits(thread))
    }

    fn computing(&self) -> Candidate {
        let state = match self.activity.cpu_percent() {
            Some(percent @ 20..) => State::Seen(format!(
                "It computes: it used {percent} % of a CPU between the last two looks."
            )),
            Some(percent) => State::Excluded(format!(
                "it used {percent} % of a CPU between the last two looks"
            )),
            None if self.activity.main().is_some_and(|main| main.state == "R") => {
                State::Seen("It computes: its main thread runs.".to_owned())
            }
            None => State::Open,
        };
        Candidate {
            what: COMPUTING,
            state,
        }
    }

    fn lock(&self) -> Candidate {
        let main = self.activity.main();
        let state = match main {
            Some(main) if is_in(main, LOCKS) => {
                let others = self
                    .activity
                    .last
                    .iter()
                    .flat_map(|look| look.threads.iter().copied());
                let other = others
                    .filter(|thread| thread.task.tid != thread.task.pid)
                    .find(|thread| !is_in(thread, LOCKS));
                // The one that does the shutdown tells more than any other.
                let since = self.new_thread(|thread| futex_is_timed(thread) == Some(false));
                State::Seen(match since.or(other) {
                    Some(thread) if since.is_some() => format!(
                        "Its main thread waits for a lock or another thread; its thread {}, which was started since the \
                         signal, waits without a time limit for a lock, a condition or another thread (futex).",
                        text::escape(&thread.task.comm)
                    ),
                    Some(other) => format!(
                        "Its main thread waits for a lock or another thread; its thread {} is in {}.",
                        text::escape(&other.task.comm),
                        text::escape(call_of(other))
                    ),
                    None => "Its main thread waits for a lock, a condition or another thread."
                        .to_owned(),
                })
            }
            Some(main) if main.syscall.is_some() => State::Excluded(format!(
                "its main thread waits in {}",
                text::escape(call_of(main))
            )),
            _ => State::Open,
        };
        Candidate { what: LOCK, state }
    }

    fn no_end(&self) -> Candidate {
        let main = self.activity.main().filter(|main| waits_for_events(main));
        let state = match (self.activity.place(), main) {
            (Some(Place::Deeper), _) => State::excluded(
                "its stack is deeper than before the signal: the handler has not returned",
            ),
            (Some(Place::OtherCall), None) => {
                State::excluded("it waits in another call than before the signal")
            }
            (Some(Place::Same), Some(main)) if self.alone() => State::Seen(format!(
                "It waits for events ({}) with the same stack as before the signal: the handler may have set a flag that \
                 its loop does not look at.",
                text::escape(call_of(main))
            )),
            _ => State::Open,
        };
        Candidate {
            what: NO_END,
            state,
        }
    }
}

/// Something that a shutdown may wait for.
pub(super) struct Candidate {
    pub what: &'static str,
    pub state: State,
}

impl Candidate {
    pub fn text(&self) -> &str {
        match &self.state {
            State::Seen(text) => text,
            _ => self.what,
        }
    }
}

/// What the trace has on it.
pub(super) enum State {
    /// It looks like it: the sentence that says so.
    Seen(String),
    /// Nothing tells.
    Open,
    /// It is not, because.
    Excluded(String),
}

impl State {
    fn excluded(because: &str) -> Self {
        Self::Excluded(because.to_owned())
    }
}

fn connections(peers: &[String]) -> String {
    let first = peers
        .first()
        .map_or(String::new(), |peer| format!(" ({})", text::escape(peer)));
    match peers.len() {
        1 => format!("a connection{first}"),
        count => format!("{count} connections"),
    }
}

pub(super) const LONGER: &str = "Give it a longer grace period (procjail --stop-timeout, docker stop -t, \
     terminationGracePeriodSeconds), or make its shutdown shorter: log what it waits for.";

/// What to do about each.
pub(super) fn remedy(what: &str) -> &'static str {
    match what {
        DRAIN => {
            "Give it a grace period longer than its longest request (procjail --stop-timeout), or give its drain a \
             deadline that is shorter than the grace period."
        }
        CHILD => {
            "Pass the signal on to the child, and end it by force before the grace period expires; or give it a longer \
             grace period (procjail --stop-timeout)."
        }
        FILES => {
            "Give it a longer grace period (procjail --stop-timeout), or let it write less when it stops: save more \
             often before."
        }
        SLEEP => {
            "Give it a grace period longer than what its shutdown sleeps (procjail --stop-timeout), or let it sleep \
             less."
        }
        COMPUTING => {
            "Give it a longer grace period (procjail --stop-timeout), or let it break off its work when it is asked to \
             stop."
        }
        LOCK => {
            "Look at what its main thread waits for (a join, a lock, a pool): give that a deadline shorter than the \
             grace period."
        }
        _ => LONGER,
    }
}
