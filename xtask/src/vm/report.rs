//! What a machine came to: counted, and told.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use super::machine::{End, Run};
use super::transcript::Verdict;
use crate::test::Tally;

/// So much of a kernel's log or console is shown when something failed.
const LOG_LINES: usize = 60;

/// Every test that was asked for has passed or has not; a machine that did not end well is one more.
pub fn judge(run: &Run, wanted: &[&str]) -> Tally {
    let passed = wanted
        .iter()
        .filter(|test| run.transcript.verdict(test) == Some(Verdict::Passed))
        .count() as u64;
    let mut failed = wanted.len() as u64 - passed;
    let unasked = run
        .transcript
        .tests
        .iter()
        .filter(|test| !wanted.contains(&test.name.as_str()))
        .count() as u64;
    failed += unasked;
    let ended_well = run.end == End::Regular && (run.transcript.status == Some(0)) == (failed == 0);
    if !ended_well && failed == 0 {
        failed = 1;
    }
    Tally {
        passed,
        failed,
        ignored: 0,
    }
}

/// What to tell about a machine. As one text: another machine may report at the same time.
pub fn report(name: &str, run: &Run, tally: Tally, wanted: &[&str], cache: &Path) -> String {
    let transcript = &run.transcript;
    let booted = match transcript.times.0 {
        Some(time) => format!(", up after {:.1} s", time.as_secs_f64()),
        None => String::new(),
    };
    let mut text = format!(
        "{:<15} {:<24} {:>4} passed {:>4} failed {:>7.1} s{booted}\n",
        name,
        transcript.release.as_deref().unwrap_or("(did not boot)"),
        tally.passed,
        tally.failed,
        run.elapsed.as_secs_f64(),
    );
    for note in &transcript.notes {
        let _ = writeln!(text, "    {note}");
    }
    if tally.failed == 0 {
        return text;
    }
    for line in &transcript.failures {
        let _ = writeln!(text, "    {line}");
    }
    // They run in this order.
    let mut missing = wanted
        .iter()
        .filter(|test| transcript.verdict(test).is_none());
    if transcript.release.is_none() {
        let _ = writeln!(text, "    it did not come as far as the tests");
    } else if let Some(test) = missing.next() {
        let _ = writeln!(
            text,
            "    in the midst of {test}; {} more tests were not run",
            missing.count()
        );
    }
    let end = match run.end {
        End::Regular => "its kernel's log",
        End::Died => "the machine died; its console",
        End::Hung => "the machine hung and was switched off; its console",
    };
    let console: Vec<&str> = run.console.lines().collect();
    let log: Vec<&str> = transcript.log.iter().map(String::as_str).collect();
    let lines = if run.end == End::Regular {
        log
    } else {
        console
    };
    let _ = writeln!(text, "    {end} ends:");
    for line in lines.iter().skip(lines.len().saturating_sub(LOG_LINES)) {
        let _ = writeln!(text, "    | {line}");
    }
    let path = cache.join(format!("{}.log", name));
    if fs::write(&path, lines.join("\n")).is_ok() {
        let _ = writeln!(text, "    all of it is in {}", path.display());
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::transcript::Transcript;
    use super::*;

    fn run(lines: &[&str], end: End) -> Run {
        let mut transcript = Transcript::default();
        for line in lines {
            transcript.line(line, Duration::ZERO);
        }
        Run {
            end,
            transcript,
            console: String::new(),
            elapsed: Duration::ZERO,
        }
    }

    fn counts(run: &Run, wanted: &[&str]) -> (u64, u64) {
        let tally = judge(run, wanted);
        (tally.passed, tally.failed)
    }

    #[test]
    fn a_test_that_did_not_report_has_failed() {
        let half = run(&["test a::x ... ok"], End::Died);
        assert_eq!(counts(&half, &["a::x", "a::y"]), (1, 1));
        let whole = run(&["test a::x ... ok", "@@end 0"], End::Regular);
        assert_eq!(counts(&whole, &["a::x"]), (1, 0));
    }

    #[test]
    fn an_end_that_contradicts_the_tests_is_a_failure() {
        let died = run(&["test a::x ... ok"], End::Died);
        assert_eq!(counts(&died, &["a::x"]), (1, 1));
        let crashed = run(&["test a::x ... ok", "@@end 139"], End::Regular);
        assert_eq!(counts(&crashed, &["a::x"]), (1, 1));
    }

    #[test]
    fn a_test_that_nobody_asked_for_is_a_failure() {
        let other = run(
            &["test a::x ... ok", "test b::x ... ok", "@@end 0"],
            End::Regular,
        );
        assert_eq!(counts(&other, &["a::x"]), (1, 1));
    }
}
