//! What the tests must know about the running kernel, and what they note about it.
//!
//! From Linux 7.0 on the programs of a raw tracepoint can be preempted. Until the preempted task runs
//! again, the kernel skips the same program for everybody else on that processor. procjail leaves only a
//! few instructions in which that can happen, counts what was skipped and tells it as lost. In an
//! emulator, where a tick of the clock is a thousandth of what it is to a real processor, it does happen.

use std::io::Write;
use std::sync::Mutex;
use std::sync::PoisonError;

use procjail::event::Lost;

/// What the traces of the running test said.
static MISSES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Such as `6.1.0-50-amd64`.
pub fn release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release")
}

/// Major and minor number of the running kernel.
pub fn version() -> (u32, u32) {
    let release = release();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|digits| digits.parse().expect("a number"));
    let mut next = || numbers.next().expect("a release such as 6.1.0");
    (next(), next())
}

/// Whether the kernel preempts tasks in probes.
pub fn probes_are_preempted() -> bool {
    version() >= (7, 0)
}

/// Tells the caller of the tests something that is no failure: the line goes into the file
/// `PROCJAIL_TEST_NOTES`.
pub fn note(text: &str) {
    let thread = std::thread::current();
    let line = format!("{}: {text}", thread.name().unwrap_or("a test"));
    println!("{line}");
    if let Some(path) = std::env::var_os("PROCJAIL_TEST_NOTES") {
        let file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(path);
        writeln!(file.expect("the file of notes"), "{line}").expect("a note");
    }
}

/// Keeps in mind what a trace says about skipped programs. A loss for want of room in the ring, which
/// names the processor, is another thing.
pub(crate) fn hear(lost: &[Lost]) {
    let skipped = lost
        .iter()
        .filter(|lost| lost.cpu.is_none() && lost.event_kind != "undecodable");
    let words = skipped.map(|lost| format!("{} {}", lost.count, lost.event_kind));
    misses().extend(words);
}

pub(crate) fn forget_misses() {
    misses().clear();
}

/// What was heard; `None` if nothing was lost that way.
pub(crate) fn told_misses() -> Option<String> {
    let misses = misses();
    (!misses.is_empty()).then(|| misses.join(", "))
}

fn misses() -> std::sync::MutexGuard<'static, Vec<String>> {
    MISSES.lock().unwrap_or_else(PoisonError::into_inner)
}
