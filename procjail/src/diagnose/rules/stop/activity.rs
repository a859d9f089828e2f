//! What a process did before the stop signal came and while the stop waited for it, from the looks at the jail.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::attempt::Attempt;
use super::fate::{Holdout, survivors, threads_of};
use crate::diagnose::{Case, ProcessId};
use crate::event::{Event, Moment, ProcessActivity, Snapshot, ThreadState};

/// Calls in which an event loop waits, whatever it waits for.
const EVENT_WAITS: &[&str] = &[
    "epoll_wait",
    "epoll_pwait",
    "epoll_pwait2",
    "poll",
    "ppoll",
    "select",
    "pselect6",
    "io_uring_enter",
    "rt_sigtimedwait",
    "rt_sigsuspend",
];
/// Calls that wait for a time.
pub(super) const SLEEPS: &[&str] = &["clock_nanosleep", "nanosleep"];
/// Calls that wait for a child.
pub(super) const CHILD_WAITS: &[&str] = &["wait4", "waitid", "waitpid"];
/// Calls that wait for a lock, a condition or a thread.
pub(super) const LOCKS: &[&str] = &["futex", "futex_wait", "futex_waitv"];
/// Calls that wait for a file's data to be written.
pub(super) const FILE_CALLS: &[&str] = &[
    "fsync",
    "fdatasync",
    "sync",
    "syncfs",
    "sync_file_range",
    "msync",
    "write",
    "pwrite64",
    "writev",
    "pwritev",
    "fallocate",
];

/// A process in one look.
pub(super) struct Look<'a> {
    pub event: &'a Event,
    pub threads: Vec<&'a ThreadState>,
    pub activity: Option<&'a ProcessActivity>,
    snapshot: &'a Snapshot,
}

impl<'a> Look<'a> {
    fn at(
        case: &Case,
        event: &'a Event,
        snapshot: &'a Snapshot,
        process: ProcessId,
    ) -> Option<Self> {
        let threads = threads_of(case, snapshot, process);
        let activity = activity_of(case, snapshot, process);
        (!threads.is_empty()).then_some(Self {
            event,
            threads,
            activity,
            snapshot,
        })
    }

    /// The first thread of the process.
    pub fn main(&self) -> Option<&'a ThreadState> {
        let main = |thread: &&&ThreadState| thread.task.tid == thread.task.pid;
        self.threads.iter().find(main).copied()
    }

    /// The names of the calls that its threads wait in, sorted; `running` for those that run.
    fn calls(&self) -> Vec<&'a str> {
        let mut calls: Vec<&str> = self.threads.iter().map(|thread| call_of(thread)).collect();
        calls.sort_unstable();
        calls
    }

    /// CPU time of its threads so far.
    fn cpu_ns(&self) -> Option<u64> {
        self.threads.iter().map(|thread| thread.cpu_ns).sum()
    }

    /// By how much a counter of its threads grew since an earlier look. A thread that is gone counts no more.
    fn grown_since(
        &self,
        earlier: &Look<'_>,
        counter: fn(&ThreadState) -> Option<u64>,
    ) -> Option<u64> {
        let before = |tid: u32| {
            let same = |thread: &&&ThreadState| thread.task.tid == tid;
            earlier
                .threads
                .iter()
                .find(same)
                .map_or(Some(0), |thread| counter(thread))
        };
        self.threads
            .iter()
            .map(|thread| Some(counter(thread)?.saturating_sub(before(thread.task.tid)?)))
            .sum()
    }
}

/// A process before the signal, in the middle of the grace period and at its end.
pub(super) struct Activity<'a> {
    /// The last look before the signal was sent; none in traces of older versions.
    pub before: Option<Look<'a>>,
    /// The last look but one after it was taken.
    pub middle: Option<Look<'a>>,
    /// The last look.
    pub last: Option<Look<'a>>,
}

impl<'a> Activity<'a> {
    /// Of the process that a stop waited for.
    pub fn of(case: &'a Case, attempt: &Attempt<'_>, holdout: &Holdout<'_>) -> Self {
        Self::of_process(case, attempt, holdout.process)
    }

    /// Of any process, with the times of the attempt.
    pub fn of_process(case: &'a Case, attempt: &Attempt<'_>, process: ProcessId) -> Self {
        let sent = attempt.sent.map_or(attempt.asked.seq, |(event, _)| {
            event.seq.max(attempt.asked.seq)
        });
        let end_ns = attempt.end_ns(case);
        let looks = || {
            case.snapshots()
                .filter(|(event, snapshot)| {
                    snapshot.moment != Moment::Stall && event.time_ns <= end_ns
                })
                .filter_map(|(event, snapshot)| Look::at(case, event, snapshot, process))
        };
        let mut after: Vec<Look<'a>> = looks()
            .filter(|look| look.event.seq > sent && look.snapshot.moment != Moment::StopRequested)
            .collect();
        let last = after.pop();
        Self {
            before: looks().filter(|look| look.event.seq < sent).last(),
            middle: after.pop(),
            last,
        }
    }

    /// How far the two looks after the signal lie apart, nanoseconds.
    pub fn span_ns(&self) -> u64 {
        match (&self.middle, &self.last) {
            (Some(middle), Some(last)) => last.event.time_ns.saturating_sub(middle.event.time_ns),
            _ => 0,
        }
    }

    /// CPU time between the two looks after the signal.
    pub fn cpu_ns(&self) -> Option<u64> {
        self.last
            .as_ref()?
            .grown_since(self.middle.as_ref()?, |thread| thread.cpu_ns)
    }

    /// CPU time from the look before the signal to the last one.
    pub fn cpu_since_ns(&self) -> Option<u64> {
        self.last
            .as_ref()?
            .grown_since(self.before.as_ref()?, |thread| thread.cpu_ns)
    }

    /// Context switches between the two looks after the signal: none means that it did not run at all.
    pub fn switches(&self) -> Option<u64> {
        self.last
            .as_ref()?
            .grown_since(self.middle.as_ref()?, |thread| thread.switches)
    }

    /// Bytes written between the two looks after the signal.
    pub fn written(&self) -> Option<u64> {
        written(&self.middle, &self.last)
    }

    /// Bytes written from the look before the signal to the last one.
    pub fn written_since(&self) -> Option<u64> {
        written(&self.before, &self.last)
    }

    /// Share of the CPU, in percent, that it used between the two looks after the signal.
    pub fn cpu_percent(&self) -> Option<u64> {
        (self.cpu_ns()? * 100).checked_div(self.span_ns())
    }

    /// The same from its start to the look before the signal.
    pub fn cpu_percent_before(&self, case: &Case, process: ProcessId) -> Option<u64> {
        let before = self.before.as_ref()?;
        let age = before.event.time_ns.saturating_sub(case.born_ns(process));
        (before.cpu_ns()? * 100).checked_div(age)
    }

    /// The main thread at the last look.
    pub fn main(&self) -> Option<&'a ThreadState> {
        self.last.as_ref()?.main()
    }

    /// Where the main thread is at the last look, seen from where it was before the signal. None if that can't be
    /// told.
    pub fn place(&self) -> Option<Place> {
        let (before, last) = (self.before.as_ref()?.main()?, self.last.as_ref()?.main()?);
        if call_of(before) != call_of(last) {
            return Some(Place::OtherCall);
        }
        // The stack grows downwards.
        Some(match before.stack_pointer?.cmp(&last.stack_pointer?) {
            Ordering::Greater => Place::Deeper,
            Ordering::Equal => Place::Same,
            Ordering::Less => Place::Shallower,
        })
    }

    /// The main thread left the place where it was before the signal: it waits in another call, or in something
    /// that was called from there.
    pub fn moved(&self) -> bool {
        matches!(self.place(), Some(Place::OtherCall | Place::Deeper))
    }

    /// All threads wait in the same calls as before the signal, and are the same threads.
    pub fn same_calls(&self) -> Option<bool> {
        let (before, last) = (self.before.as_ref()?, self.last.as_ref()?);
        let ids = |look: &Look<'_>| -> BTreeSet<u32> {
            look.threads.iter().map(|thread| thread.task.tid).collect()
        };
        Some(ids(before) == ids(last) && before.calls() == last.calls())
    }

    /// Threads that are there at the last look and were not before the signal, such as those of shutdown hooks.
    pub fn new_threads(&self) -> Vec<&'a ThreadState> {
        let (Some(before), Some(last)) = (&self.before, &self.last) else {
            return Vec::new();
        };
        let was_there = |thread: &ThreadState| {
            let mut earlier = before.threads.iter();
            earlier.any(|one| one.task.tid == thread.task.tid)
        };
        let threads = last.threads.iter().copied();
        threads.filter(|thread| !was_there(thread)).collect()
    }

    /// All threads wait for locks, and none ran between the two looks after the signal.
    pub fn all_locked(&self) -> bool {
        let locked = |look: &Option<Look<'_>>| {
            look.as_ref()
                .is_some_and(|look| look.threads.iter().all(|thread| is_in(thread, LOCKS)))
        };
        locked(&self.middle)
            && locked(&self.last)
            && self.switches() == Some(0)
            && self.cpu_ns().is_none_or(|cpu| cpu == 0)
            && self.written().is_none_or(|bytes| bytes == 0)
    }
}

/// A place in a program compared with an earlier one, as far as call and stack tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In another system call.
    OtherCall,
    /// In the same call with a deeper stack, as in a handler that has not returned.
    Deeper,
    /// In the same call with the same stack.
    Same,
    /// In the same call with less of a stack: an interpreter needs less when it is warm.
    Shallower,
}

fn written(from: &Option<Look<'_>>, to: &Option<Look<'_>>) -> Option<u64> {
    let bytes = |look: &Option<Look<'_>>| Some(look.as_ref()?.activity?.write_bytes);
    Some(bytes(to)?.saturating_sub(bytes(from)?))
}

/// The name of the call that a thread is in; `running` if it runs.
pub(super) fn call_of(thread: &ThreadState) -> &str {
    match &thread.syscall {
        Some(call) => &call.name,
        None if thread.state == "R" => "running",
        None => &thread.wait_channel,
    }
}

/// A thread waits in one of some calls.
pub(super) fn is_in(thread: &ThreadState, calls: &[&str]) -> bool {
    thread
        .syscall
        .as_ref()
        .is_some_and(|call| calls.contains(&call.name.as_str()))
}

/// It waits for events: the place says nothing of what it waits for.
pub(super) fn waits_for_events(thread: &ThreadState) -> bool {
    is_in(thread, EVENT_WAITS)
}

/// The time limit of the call that a thread waits in, if the call's arguments tell: `Some(None)` for a wait
/// without one, else milliseconds.
pub(super) fn time_limit(thread: &ThreadState) -> Option<Option<u64>> {
    let call = thread.syscall.as_ref()?;
    let milliseconds = |value: u64| match value as u32 as i32 {
        0.. => Some(value & 0x7fff_ffff),
        _ => None,
    };
    match (call.name.as_str(), thread.arguments.as_slice()) {
        ("epoll_wait" | "epoll_pwait", [_, _, _, limit, ..]) | ("poll", [_, _, limit, ..]) => {
            Some(milliseconds(*limit))
        }
        // A pointer to the limit: none is none.
        ("futex", [_, _, _, 0, ..])
        | ("ppoll", [_, _, 0, ..])
        | ("select" | "pselect6", [_, _, _, _, 0, ..]) => Some(None),
        _ => None,
    }
}

/// Whether a thread that waits in futex(2) has a time limit, as one that sleeps by a condition variable has; none if it
/// does not wait there or that is unknown.
pub(super) fn futex_is_timed(thread: &ThreadState) -> Option<bool> {
    /// Operations without `FUTEX_PRIVATE_FLAG` and `FUTEX_CLOCK_REALTIME`.
    const OPERATION: u64 = 0x7f;
    let call = thread.syscall.as_ref()?;
    match (call.name.as_str(), thread.arguments.as_slice()) {
        ("futex", [_, operation, _, limit, ..]) => matches!(
            (operation & OPERATION) as i32,
            libc::FUTEX_WAIT
                | libc::FUTEX_WAIT_BITSET
                | libc::FUTEX_LOCK_PI
                | libc::FUTEX_WAIT_REQUEUE_PI
        )
        .then_some(*limit != 0),
        _ => None,
    }
}

/// The addresses that processes listen on.
fn listening<'a: 'l, 'l>(looks: impl Iterator<Item = &'l Option<Look<'a>>>) -> BTreeSet<&'a str> {
    looks
        .filter_map(|look| look.as_ref()?.activity)
        .flat_map(|activity| &activity.listening)
        .map(String::as_str)
        .collect()
}

/// What a snapshot has on the files and sockets of a process.
fn activity_of<'a>(
    case: &Case,
    snapshot: &'a Snapshot,
    process: ProcessId,
) -> Option<&'a ProcessActivity> {
    let pid = case.process(process).task.pid;
    snapshot.processes.iter().find(|one| one.pid == pid)
}

/// The sockets of a process and of those below it that were left at the end of the attempt.
pub(super) struct Sockets<'a> {
    /// What was listened on before the signal, and is no longer.
    pub closed: Vec<&'a str>,
    /// What was listened on before the signal, and still is.
    pub kept: Vec<&'a str>,
    /// Who has connections at the last look, and to whom.
    pub connected: Vec<(ProcessId, &'a [String])>,
}

impl<'a> Sockets<'a> {
    /// From the looks; none if they have no sockets on record.
    pub fn of(case: &'a Case, attempt: &Attempt<'_>, process: ProcessId) -> Option<Self> {
        let mut all = vec![process];
        all.extend(survivors(case, attempt, process));
        let activity: Vec<(ProcessId, Activity<'a>)> = all
            .into_iter()
            .map(|id| (id, Activity::of_process(case, attempt, id)))
            .collect();
        let before = listening(activity.iter().map(|(_, one)| &one.before));
        let after = listening(activity.iter().map(|(_, one)| &one.last));
        let connected = activity
            .iter()
            .filter_map(|(id, one)| {
                let peers = one.last.as_ref()?.activity?.connected.as_slice();
                (!peers.is_empty()).then_some((*id, peers))
            })
            .collect();
        let recorded = |(_, one): &(ProcessId, Activity<'a>)| {
            one.last
                .as_ref()
                .is_some_and(|look| look.activity.is_some())
        };
        activity.iter().any(recorded).then(|| Self {
            closed: before.difference(&after).copied().collect(),
            kept: before.intersection(&after).copied().collect(),
            connected,
        })
    }
}
