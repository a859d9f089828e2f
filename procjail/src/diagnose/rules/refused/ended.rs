//! Which refused call a process ended for.

use super::{Refused, rule};
use crate::diagnose::errno::{self, Refusal, Weight};
use crate::diagnose::rules::exit::reason::{self, Words, times};
use crate::diagnose::{Case, Confidence, Origin, ProcessId, is_bad};
use crate::event::{Event, FailedCall, SignalGenerated};

/// Refused memory so shortly before a bad end has to do with it, nanoseconds.
const MEMORY_NS: u64 = 2_000_000_000;

/// Nothing else can have happened in between, nanoseconds.
const AT_ONCE_NS: u64 = 100_000_000;

/// The refused call that a process with a bad end may have ended for.
pub(super) fn ended_for(case: &Case, id: ProcessId) -> Option<Refused<'_>> {
    let status = case.status(id).filter(|status| is_bad(status))?;
    if status.signal.is_none()
        && let Some(reason) = reason::reason(case, id)
    {
        let refusal = errno::refusal(&reason.failed.call);
        // Who gets no memory says so in words of its own.
        let says = refusal == Refusal::Memory
            && reason::words_of_memory(case, id, &reason.failed.call) == Words::Memory;
        let sure = match says {
            true => Confidence::Likely,
            false => reason.confidence,
        };
        return rule(refusal).is_some().then(|| Refused {
            ended: Some(sure),
            ..reason.into()
        });
    }
    ended_itself(case, id).then(|| gave_up(case, id)).flatten()
}

/// The end was the process's own doing: it returned a code, it faulted, or it sent itself a signal. One that it got from
/// another before and then sent on to itself is that other's doing.
fn ended_itself(case: &Case, id: ProcessId) -> bool {
    let Some(signal) = case.status(id).and_then(|status| status.signal.as_ref()) else {
        return true;
    };
    let own = |event: &Event, signal: &SignalGenerated| {
        matches!(case.origin(event, signal), Origin::Itself | Origin::Fault)
    };
    match case.killing_signal(id) {
        Some((event, fatal)) => {
            let passed_on = case.received(id).any(|(before, got)| {
                before.seq < event.seq
                    && got.signal.number == fatal.signal.number
                    && !own(before, got)
            });
            own(event, fatal) && !passed_on
        }
        // Who sent it is not in the trace: these are seldom sent by others.
        None => matches!(
            signal.number,
            libc::SIGABRT
                | libc::SIGSEGV
                | libc::SIGBUS
                | libc::SIGILL
                | libc::SIGFPE
                | libc::SIGTRAP
        ),
    }
}

/// The memory that a process was refused before it gave up: who gets none often aborts, or says so in words of its own.
fn gave_up(case: &Case, id: ProcessId) -> Option<Refused<'_>> {
    let calls = reason::calls(case, id);
    let is_heavy = |call: &FailedCall| errno::weight(call) == Weight::Heavy;
    let is = |call: &FailedCall| {
        errno::refusal(call) == Refusal::Memory && is_heavy(call) && call.before_ns <= MEMORY_NS
    };
    let at = calls.iter().rposition(|failed| is(&failed.call))?;
    let failed = calls.get(at)?;
    let words = reason::words_of_memory(case, id, &failed.call);
    let went_on = reason::went_on(case, id, failed.time_ns)
        || calls.iter().skip(at + 1).any(|later| is_heavy(&later.call));
    let sure = match words {
        Words::Another => return None,
        Words::Memory => Confidence::Likely,
        // It had other things to do, or another trouble.
        Words::Nothing if went_on => return None,
        Words::Nothing if failed.call.before_ns <= AT_ONCE_NS => Confidence::Likely,
        Words::Nothing => Confidence::ConsistentWith,
    };
    Some(Refused {
        id,
        failed: failed.clone(),
        count: calls
            .iter()
            .filter(|failed| is(&failed.call))
            .map(|failed| times(&failed.call))
            .sum(),
        ended: Some(sure),
    })
}
