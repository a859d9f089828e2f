//! The last words of a program: what it wrote to its standard error before it ended.

use crate::diagnose::{Case, Finding, ProcessId};
use crate::event::{Event, StderrTail};
use crate::text;

/// What was written this long before the end may be about something else, nanoseconds.
const RECENT_NS: u64 = 2_000_000_000;
/// Most of a line that a verdict quotes, characters.
const QUOTED: usize = 160;

/// What programs and their libraries say before they give up, and what it stands for.
const SAYINGS: &[(&str, &str)] = &[
    (
        "AddressSanitizer",
        "an error of memory that AddressSanitizer found",
    ),
    ("ThreadSanitizer", "a race that ThreadSanitizer found"),
    (
        "MemorySanitizer",
        "use of memory that was not set, which MemorySanitizer found",
    ),
    (
        "runtime error:",
        "undefined behaviour that UndefinedBehaviorSanitizer found",
    ),
    (
        "stack smashing detected",
        "a write beyond an array on the stack, which the stack protector found",
    ),
    (
        "buffer overflow detected",
        "a write beyond a buffer, which the C library's checks found",
    ),
    ("double free", "a corrupted heap: memory was freed twice"),
    ("free(): ", "a corrupted heap, which free(3) found"),
    ("malloc(): ", "a corrupted heap, which malloc(3) found"),
    (
        "malloc_consolidate(): ",
        "a corrupted heap, which malloc(3) found",
    ),
    (
        "corrupted ",
        "corrupted data that the program or its libraries found",
    ),
    (
        "out of memory",
        "a runtime or an allocator that is out of memory by its own limits",
    ),
    (
        "std::bad_alloc",
        "an allocation that was refused (std::bad_alloc)",
    ),
    ("terminate called", "an uncaught C++ exception"),
    ("uncaught exception", "an uncaught exception"),
    ("Assertion ", "a failed assertion"),
    ("assertion failed", "a failed assertion"),
    ("Check failed:", "a failed check of the program's own"),
    (
        "Fatal Python error",
        "an error that Python's interpreter cannot go on from",
    ),
    ("panicked at", "a panic"),
    ("panic:", "a panic"),
    (
        "fatal runtime error",
        "an error that the runtime cannot go on from",
    ),
    ("FATAL", "an error that the program calls fatal"),
];

/// A process's last words.
#[derive(Clone, Copy)]
pub(super) struct LastWords<'a> {
    event: &'a Event,
    tail: &'a StderrTail,
    /// The line that says most.
    line: &'a str,
    /// What it stands for; none if that is not known.
    pub means: Option<&'static str>,
}

/// The last words of a process that it wrote shortly before its end.
pub(super) fn last_words(case: &Case, id: ProcessId) -> Option<LastWords<'_>> {
    let (event, tail) = case
        .stderr(id)
        .filter(|(_, tail)| tail.before_ns <= RECENT_NS)?;
    let head = tail.head.as_deref().unwrap_or_default();
    let said = SAYINGS.iter().find_map(|(words, means)| {
        let mut lines = head.lines().chain(tail.text.lines());
        let line = lines.find(|line| line.contains(words))?;
        Some((line, *means))
    });
    let last = || tail.text.lines().rev().find(|line| !line.trim().is_empty());
    let (line, means) = match said {
        Some((line, means)) => (line, Some(means)),
        None => (last()?, None),
    };
    Some(LastWords {
        event,
        tail,
        line: line.trim(),
        means,
    })
}

impl LastWords<'_> {
    /// The line, quoted.
    pub fn quoted(&self) -> String {
        let line: String = self.line.chars().take(QUOTED).collect();
        format!("\"{}\"", text::escape(&line))
    }

    /// Names it as evidence.
    pub fn show(&self, finding: Finding) -> Finding {
        finding.shown_by(
            self.event,
            format!(
                "{} before the end it wrote to stderr: {}",
                text::duration(self.tail.before_ns),
                self.quoted()
            ),
        )
    }
}
