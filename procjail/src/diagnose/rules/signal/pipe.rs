//! A write to a pipe or socket that nobody reads any more.

use super::super::kill::{Death, deaths};
use crate::diagnose::rules::exit;
use crate::diagnose::{Case, Finding, Follows, Origin, ProcessId, is_bad};
use crate::event::{Event, ExitStatus};
use crate::text;

/// How long before a write to a closed pipe its reader may have ended to be named, nanoseconds.
const READER_NS: u64 = 1_000_000_000;
/// A process closes its files before its end is told, and others may run in between for so long, nanoseconds.
const CLOSES_NS: u64 = 100_000_000;

/// The write(2) that fails with EPIPE sends SIGPIPE to the writer.
pub(super) fn broken(case: &Case) -> Vec<Finding> {
    let led = exit::led_to_end(case);
    let asked_ns = exit::main(case).and_then(|main| exit::asked_ns(case, main));
    deaths(case)
        .iter()
        .filter(|death| death.origin == Origin::BrokenPipe)
        .map(|death| {
            let reader = reader(case, death);
            let finding = found(case, death, reader);
            let Some((_, id)) = reader else {
                return finding;
            };
            let status = case.status(id);
            // The writer's end is what came of a reader's that failed.
            let finding = match status.is_some_and(is_bad) {
                true => finding.follows(Follows::Process(id)),
                false => finding,
            };
            // A reader that has seen enough ends its pipeline so, and nobody took that for a failure.
            let meant = status.is_some_and(|status| status.code == Some(0) || by_pipe(status))
                && !led.contains(&death.process)
                && asked_ns.is_none_or(|asked| death.event.time_ns < asked);
            match meant {
                true => finding.note(),
                false => finding,
            }
        })
        .collect()
}

fn found(case: &Case, death: &Death<'_>, reader: Option<(&Event, ProcessId)>) -> Finding {
    let who = case.name(death.process);
    let call = death
        .signal
        .syscall
        .as_ref()
        .map_or_else(|| "write".to_owned(), |call| text::escape(&call.name));
    let from = reader.map_or_else(String::new, |(event, id)| {
        let when = match event.seq < death.event.seq {
            true => format!("{} before", case.between(event, death.event)),
            false => format!("{} later", case.between(death.event, event)),
        };
        format!(
            " {} ended {when}; it may have been the reader.",
            case.name(id)
        )
    });
    let verdict = format!(
        "{who} wrote ({call}) to a pipe or socket that nobody reads any more, and was ended by SIGPIPE.{from}"
    );
    let mut finding = Finding::new(verdict)
        .proven()
        .about([death.process])
        .shown_by(
            death.event,
            format!("SIGPIPE to itself, from within {call}(2)"),
        );
    if let Some((event, id)) = reader {
        finding = finding.shown_by(event, format!("{} ended", case.name(id)));
    }
    finding
        .not(
            "a kill by another process",
            "it sent the signal itself, by writing",
        )
        .remedy(
            "If the reader may go first (`head`, a client that hangs up), ignore SIGPIPE and handle EPIPE; \
             otherwise look at why the reader closed.",
        )
}

/// The last sibling that ended before, or the first right after: the other end of a pipeline, in all likelihood.
fn reader<'a>(case: &'a Case, death: &Death<'_>) -> Option<(&'a Event, ProcessId)> {
    let creator = case.process(death.process).creator?;
    let born_ns = case.born_ns(death.process);
    let siblings = || {
        case.process(creator)
            .children
            .iter()
            .filter(|id| **id != death.process)
            .filter_map(|id| Some((case.exit(*id)?.0, *id)))
            // Both ends of a pipeline are there at a time.
            .filter(|(event, _)| event.time_ns >= born_ns)
    };
    let at_ns = death.event.time_ns;
    let before = siblings()
        .filter(|(event, _)| event.seq < death.event.seq && at_ns - event.time_ns <= READER_NS)
        .max_by_key(|(event, _)| event.seq);
    before.or_else(|| {
        siblings()
            .filter(|(event, id)| {
                event.seq > death.event.seq
                    && event.time_ns - at_ns <= CLOSES_NS
                    && !case.status(*id).is_some_and(by_pipe)
            })
            .min_by_key(|(event, _)| event.seq)
    })
}

/// It wrote to a closed pipe itself.
fn by_pipe(status: &ExitStatus) -> bool {
    status
        .signal
        .as_ref()
        .is_some_and(|signal| signal.number == libc::SIGPIPE)
}
