//! A client that fails because the process that served it was OOM-killed.
//!
//! The trace has no sockets' ends. Order and time tell, and what the client says: it fails right after the victim is
//! gone, and it speaks of a connection that it lost, or of nothing.

use super::reason;
use crate::diagnose::{Case, ProcessId};
use crate::text;

/// The kernel closes what the victim had open right after its end, and clients find out within this time, nanoseconds.
const NOTICE_NS: u64 = 500_000_000;

/// Words for the end of a connection.
const LOST: &[&str] = &[
    "connection",
    "disconnect",
    "closed",
    "broken pipe",
    "reset by peer",
    "gone away",
    "end of file",
    "eof",
    "hung up",
    "lost",
    "terminated",
    "died",
    "unexpectedly",
];

/// How the kernel tells of it.
const LOST_ERRORS: [i32; 5] = [
    libc::EPIPE,
    libc::ECONNRESET,
    libc::ECONNREFUSED,
    libc::ECONNABORTED,
    libc::ENOTCONN,
];

/// The OOM victim that a process may have been a client of, where it failed right after the victim's end and had no
/// reason that can't come from that.
pub(in crate::diagnose::rules) fn lost_victim(case: &Case, id: ProcessId) -> Option<ProcessId> {
    let failed_ns = failed_since(case, id);
    case.exit(id)?;
    let (victim, _) = case
        .processes()
        .filter(|(_, process)| process.oom_kill.is_some())
        .filter(|(victim, _)| {
            let gone_ns = case.ended_ns(*victim);
            *victim != id
                && case.exit(*victim).is_some()
                && case.alive_at(id, gone_ns)
                && (gone_ns..=gone_ns.saturating_add(NOTICE_NS)).contains(&failed_ns)
                // A parent learns of it otherwise.
                && !case.is_below(*victim, id)
                && !case.is_below(id, *victim)
        })
        .max_by_key(|(victim, _)| case.ended_ns(*victim))?;
    let of_the_loss = reason::reason(case, id)
        .is_none_or(|reason| LOST_ERRORS.contains(&reason.failed.call.error.number))
        && reason::message(case, id).is_none_or(|message| message.says_any(LOST));
    of_the_loss.then_some(victim)
}

/// When a process began to fail, as far as can be told: when it last wrote of that, or else at its end.
fn failed_since(case: &Case, id: ProcessId) -> u64 {
    let wrote = reason::message(case, id).and(case.stderr(id));
    wrote.map_or(case.ended_ns(id), |(event, tail)| {
        event.time_ns.saturating_sub(tail.before_ns)
    })
}

/// The same in words, for a cause: `36 ms before that postgres (PID 12) had ended, an
/// OOM victim that may have served it.`
pub(super) fn words(case: &Case, id: ProcessId, victim: ProcessId) -> String {
    let before_ns = failed_since(case, id).saturating_sub(case.ended_ns(victim));
    format!(
        "{} before that {} had ended, an OOM victim that may have served it.",
        text::duration(before_ns),
        case.name(victim),
    )
}
