//! Which failed call a program may have ended for.
//!
//! A failed call is no reason by itself: programs look for files that are optional, ask for what their kernel lacks,
//! and try again. What makes it one is its weight, how soon the end came, that nothing else was done in between,
//! and above all that the last message on stderr speaks of it.

use std::borrow::Cow;

use super::message::Message;
use crate::diagnose::errno::{self, Refusal, Weight};
use crate::diagnose::{Case, Confidence, ProcessId};
use crate::event::{Event, FailedCall, StderrTail, Syscall};
use crate::text;

/// An error that nobody spoke of is a reason only so shortly before the end, nanoseconds.
const NEAR_NS: u64 = 1_000_000_000;
/// Within this time little else can have happened, nanoseconds.
const AT_ONCE_NS: u64 = 100_000_000;

/// What was done so shortly before the end was done last, nanoseconds.
const LAST_ACT_NS: u64 = 10_000_000;

/// A message is about the end only so shortly before it: some programs take their time to shut down, nanoseconds.
const MESSAGE_NS: u64 = 5_000_000_000;
/// The two times are taken a moment apart, nanoseconds.
const SLACK_NS: u64 = 1_000_000;

/// What the last message on stderr says of a failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Named {
    Nothing,
    /// The error, or the file or address.
    Half,
    /// The error with the file or address.
    Both,
}

/// A failed call that a program may have ended for.
#[derive(Clone, Debug)]
pub(in crate::diagnose::rules) struct Reason<'a> {
    pub id: ProcessId,
    pub failed: Failed<'a>,
    /// How often it failed so, as far as is kept.
    pub count: usize,
    pub confidence: Confidence,
}

/// How often a call failed so, one after the other.
pub(in crate::diagnose::rules) fn times(call: &FailedCall) -> usize {
    call.repeats as usize + 1
}

/// What a call was about: its address or its path.
pub(in crate::diagnose::rules) fn object(call: &FailedCall) -> Option<&str> {
    call.address.as_deref().or(call.path.as_deref())
}

/// A failed call in words: `connect to 127.0.0.1:5432 failed with ECONNREFUSED (Connection refused)`.
pub(in crate::diagnose::rules) fn words(case: &Case, call: &FailedCall) -> String {
    let object = match (&call.address, &call.path) {
        (Some(address), _) if call.syscall.name == "connect" => {
            format!(" to {}", text::escape(address))
        }
        (Some(address), _) => format!(" {}", text::escape(address)),
        (None, Some(path)) => format!(" {}", text::escape(path)),
        (None, None) => String::new(),
    };
    format!(
        "{}{object} failed with {}",
        text::escape(&call.syscall.name),
        case.error(&call.error)
    )
}

/// A failed call with what tells of it.
#[derive(Clone, Debug)]
pub(in crate::diagnose::rules) struct Failed<'a> {
    /// The event that holds it.
    pub event: &'a Event,
    pub call: Cow<'a, FailedCall>,
    /// When, CLOCK_BOOTTIME nanoseconds.
    pub time_ns: u64,
}

/// The failed calls of a process since it executed its program, oldest first.
pub(in crate::diagnose::rules) fn calls(case: &Case, id: ProcessId) -> Vec<Failed<'_>> {
    let started = case
        .execs(id)
        .next_back()
        .map_or(0, |(event, _)| case.began_ns(event));
    let kept = case
        .failed_calls(id)
        .into_iter()
        .flat_map(|(event, failed)| {
            failed.calls.iter().map(move |call| Failed {
                event,
                call: Cow::Borrowed(call),
                time_ns: event.time_ns.saturating_sub(call.before_ns),
            })
        });
    let mut calls: Vec<Failed<'_>> = kept.chain(mounts(case, id)).collect();
    calls.retain(|failed| failed.time_ns >= started);
    calls.sort_by_key(|failed| failed.time_ns);
    calls
}

/// The calls that change mounts and namespaces, in the form of others.
fn mounts(case: &Case, id: ProcessId) -> impl Iterator<Item = Failed<'_>> {
    let end_ns = case.ended_ns(id);
    case.failed_mounts(id).filter_map(move |(event, mount)| {
        let path = [&mount.target, &mount.source]
            .into_iter()
            .find(|path| !path.is_empty());
        let call = FailedCall {
            syscall: Syscall {
                number: 0,
                name: mount.call.clone(),
            },
            error: mount.error.clone()?,
            path: path.cloned(),
            args: vec![mount.flags],
            tid: event.task.tid,
            before_ns: end_ns.saturating_sub(event.time_ns),
            repeats: 0,
            address: None,
            fs_type: None,
            open_files: None,
            nofile_limit: None,
        };
        Some(Failed {
            event,
            call: Cow::Owned(call),
            time_ns: event.time_ns,
        })
    })
}

/// The line that says most of what a process wrote to stderr last, and whether it is the very last one.
pub(in crate::diagnose::rules) fn quoted(case: &Case, id: ProcessId) -> Option<(String, bool)> {
    message(case, id).and_then(Message::quoted)
}

/// The last message of a process on stderr, if it ended soon after and did nothing else.
pub(super) fn message(case: &Case, id: ProcessId) -> Option<Message<'_>> {
    let (event, tail) = case.stderr(id)?;
    let went_on = went_on(case, id, event.time_ns.saturating_sub(tail.before_ns));
    let last = tail.before_ns <= MESSAGE_NS && !went_on;
    Message::of(tail).filter(|_| last)
}

/// What the last message of a process on stderr says of memory that it was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::diagnose::rules) enum Words {
    /// It is about memory.
    Memory,
    /// It has another error for the end.
    Another,
    /// Neither, or there is none.
    Nothing,
}

/// What the last message on stderr says of that refusal of memory.
pub(in crate::diagnose::rules) fn words_of_memory(
    case: &Case,
    id: ProcessId,
    call: &FailedCall,
) -> Words {
    let (Some(message), Some((_, tail))) = (message(case, id), case.stderr(id)) else {
        return Words::Nothing;
    };
    if message.names_another_error(call.error.number) {
        Words::Another
    } else if message.names_memory() && is_after(tail, call) {
        Words::Memory
    } else {
        Words::Nothing
    }
}

/// What was written before a call failed does not speak of it.
fn is_after(tail: &StderrTail, call: &FailedCall) -> bool {
    call.before_ns + SLACK_NS >= tail.before_ns
}

/// The failed call that a process with a bad end may have ended for, if there is one.
pub(in crate::diagnose::rules) fn reason(case: &Case, id: ProcessId) -> Option<Reason<'_>> {
    let message = message(case, id);
    let tail = case.stderr(id).map(|(_, tail)| tail);
    let calls = calls(case, id);
    let mut best: Option<(i32, Reason<'_>)> = None;
    let only = |call: &FailedCall| {
        calls.iter().map(|failed| &*failed.call).all(|other| {
            other.error != call.error
                || is_alike(other, call)
                || errno::weight(other) == Weight::Routine
        })
    };
    let mut last = true;
    for failed in calls.iter().rev() {
        let call = &*failed.call;
        let weight = errno::weight(call);
        let after = message.filter(|_| tail.is_some_and(|tail| is_after(tail, call)));
        let named = named(after, call);
        let silent = message.is_none_or(|message| !message.names_any_error());
        let went_on = went_on(case, id, failed.time_ns);
        // Not optional: the path is what it was called with.
        let asked = silent
            && !went_on
            && call.before_ns <= NEAR_NS
            && !is_answer(call)
            && call
                .path
                .as_deref()
                .is_some_and(|path| is_argument(case, id, path));
        let named = named.max(if asked { Named::Half } else { Named::Nothing });
        let weight = weight.max(if asked {
            Weight::Light
        } else {
            Weight::Routine
        });
        let confidence = match (named, weight) {
            (Named::Both, _) | (Named::Half, Weight::Heavy) => Some(Confidence::Likely),
            (Named::Half, Weight::Light) => Some(match only(call) {
                true => Confidence::Likely,
                false => Confidence::ConsistentWith,
            }),
            (Named::Nothing, _)
                if message.is_none()
                    && !went_on
                    && call.before_ns <= LAST_ACT_NS
                    && calls.last().is_some_and(|last| *last.call == *call)
                    && must_be_there(call) =>
            {
                Some(Confidence::ConsistentWith)
            }
            // The message speaks of another error, or the program had other things to do.
            (Named::Nothing, Weight::Heavy) if silent && !went_on && call.before_ns <= NEAR_NS => {
                Some(
                    match last
                        && call.before_ns <= AT_ONCE_NS
                        && (message.is_none() || is_limit(call))
                    {
                        true => Confidence::Likely,
                        false => Confidence::ConsistentWith,
                    },
                )
            }
            _ => None,
        };
        if let Some(confidence) = confidence {
            let rank = named as i32 * 2 + i32::from(weight == Weight::Heavy);
            // Among equals the latest.
            if best.as_ref().is_none_or(|(other, _)| rank > *other) {
                let alike = |other: &&Failed<'_>| is_alike(&other.call, call);
                let count = calls
                    .iter()
                    .filter(alike)
                    .map(|failed| times(&failed.call))
                    .sum();
                best = Some((
                    rank,
                    Reason {
                        id,
                        failed: failed.clone(),
                        count,
                        confidence,
                    },
                ));
            }
        }
        last &= weight < Weight::Heavy;
    }
    best.map(|(_, reason)| reason)
}

/// Programs have words of their own for a limit that they came to: `database or disk is full`.
fn is_limit(call: &FailedCall) -> bool {
    errno::refusal(call) != Refusal::Other
}

fn named(message: Option<Message<'_>>, call: &FailedCall) -> Named {
    let Some(message) = message else {
        return Named::Nothing;
    };
    let number = call.error.number;
    let Some(object) = object(call) else {
        return match message.names_error(number) {
            true => Named::Half,
            false => Named::Nothing,
        };
    };
    if message.names_both(number, object) {
        return Named::Both;
    }
    let place = || is_denied(call) && place(object).is_some_and(|place| message.names_path(place));
    match message.names_error(number) || message.names_object(object) || place() {
        true => Named::Half,
        false => Named::Nothing,
    }
}

/// It was not allowed, and programs seldom survive that. Who looks for a place to write to tries some and then says which.
fn is_denied(call: &FailedCall) -> bool {
    errno::weight(call) == Weight::Heavy
        && matches!(call.error.number, libc::EROFS | libc::EACCES | libc::EPERM)
}

/// The directory that a file was to be in. The root of all says nothing.
fn place(path: &str) -> Option<&str> {
    let (place, _) = path.trim_end_matches('/').rsplit_once('/')?;
    (!place.is_empty()).then_some(place)
}

/// The program was called with that path: as a word of its command line, or behind the `=` of an option.
fn is_argument(case: &Case, id: ProcessId, path: &str) -> bool {
    let argv = case.execs(id).next_back().map(|(_, exec)| &exec.argv);
    argv.is_some_and(|argv| {
        argv.iter().skip(1).any(|word| {
            word == path || word.split_once('=').is_some_and(|(_, value)| value == path)
        })
    })
}

/// What is no symbolic link is none: whoever resolves a path asks that of each part.
fn is_answer(call: &FailedCall) -> bool {
    let resolves = matches!(call.syscall.name.as_str(), "readlink" | "readlinkat");
    resolves && call.error.number == libc::EINVAL
}

/// The program cannot have looked for something optional: it opened a device, or what it was to write to but not to make.
/// What the kernel shows of itself is optional all the same.
fn must_be_there(call: &FailedCall) -> bool {
    let flags = match call.syscall.name.as_str() {
        "open" => call.args.get(1),
        "openat" => call.args.get(2),
        _ => None,
    };
    let (Some(flags), Some(path)) = (flags.map(|flags| *flags as i32), call.path.as_deref()) else {
        return false;
    };
    let writes = flags & libc::O_ACCMODE != libc::O_RDONLY && flags & libc::O_CREAT == 0;
    let of_the_kernel = path.starts_with("/proc/") || path.starts_with("/sys/");
    let refused = matches!(
        call.error.number,
        libc::ENOENT
            | libc::ENODEV
            | libc::ENXIO
            | libc::EACCES
            | libc::EPERM
            | libc::EROFS
            | libc::EISDIR
            | libc::EBUSY
    );
    refused && !of_the_kernel && path != "/dev/tty" && (writes || path.starts_with("/dev/"))
}

fn is_alike(one: &FailedCall, other: &FailedCall) -> bool {
    one.syscall == other.syscall && one.error == other.error && object(one) == object(other)
}

/// The process made others after that time, so it lived with what had failed.
pub(in crate::diagnose::rules) fn went_on(case: &Case, id: ProcessId, time_ns: u64) -> bool {
    case.process(id)
        .children
        .iter()
        .any(|child| case.born_ns(*child) > time_ns)
}
