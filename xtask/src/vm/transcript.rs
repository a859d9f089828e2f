//! What a test machine writes to its second serial port, read line by line as it comes.

use std::time::Duration;

/// How one test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passed.
    Passed,
    /// It failed.
    Failed,
}

/// A test that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its path, as in `oom::pid_1_survives`.
    pub name: String,
    /// How.
    pub verdict: Verdict,
}

/// Everything that came so far.
#[derive(Debug, Default)]
pub struct Transcript {
    /// The kernel's release, once `/init` has come so far.
    pub release: Option<String>,
    /// The tests that have ended.
    pub tests: Vec<Ended>,
    /// When the tests began and ended, since the machine was switched on.
    pub times: (Option<Duration>, Option<Duration>),
    /// What the tests found out about the kernel: name and value, in their order.
    pub facts: Vec<(String, String)>,
    /// What the tests want to be known though it is no failure.
    pub notes: Vec<String>,
    /// Messages of the failed tests, as the test program shows them.
    pub failures: Vec<String>,
    /// A trace that was recorded, line by line.
    pub trace: Vec<String>,
    /// The kernel's log, which comes after a failure.
    pub log: Vec<String>,
    /// Exit code of the test program, if it came so far.
    pub status: Option<i32>,
    in_failures: bool,
}

impl Transcript {
    /// Takes the next line.
    pub fn line(&mut self, line: &str, since_start: Duration) {
        let line = line.trim_end_matches(['\r', '\n']);
        if let Some(rest) = line.strip_prefix("@@") {
            let (word, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            match word {
                "start" => {
                    self.release = Some(rest.to_owned());
                    self.times.0 = Some(since_start);
                }
                "fact" => {
                    if let Some((name, value)) = rest.split_once('=') {
                        self.facts.push((name.to_owned(), value.to_owned()));
                    }
                }
                "note" => self.notes.push(rest.to_owned()),
                "trace" => self.trace.push(rest.to_owned()),
                "log" => self.log.push(rest.to_owned()),
                "end" => {
                    self.status = rest.parse().ok();
                    self.times.1 = Some(since_start);
                }
                _ => {}
            }
        } else if let Some(ended) = ended(line) {
            self.tests.push(ended);
        } else if line == "failures:" {
            // Twice: first with the messages, then as a list of names.
            self.in_failures = self.failures.is_empty();
        } else if self.in_failures {
            self.failures.push(line.to_owned());
        }
    }

    /// The verdict on a test; none if it did not end.
    pub fn verdict(&self, name: &str) -> Option<Verdict> {
        self.tests
            .iter()
            .find(|test| test.name == name)
            .map(|test| test.verdict)
    }
}

/// Reads libtest's `test NAME ... ok`; a test that is to panic has more words.
fn ended(line: &str) -> Option<Ended> {
    let (name, result) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let name = name.split(' ').next()?;
    let verdict = match result {
        "ok" => Verdict::Passed,
        // A test that the runner asked for and that did not run is a failure too.
        _ => Verdict::Failed,
    };
    Some(Ended {
        name: name.to_owned(),
        verdict,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "@@start 6.1.0-50-amd64\r
\r
running 3 tests\r
test oom::one ... ok\r
test oom::two ... FAILED\r
test oom::three ... ignored, for no reason\r
\r
failures:\r
\r
---- oom::two stdout ----\r
it broke\r
\r
failures:\r
    oom::two\r
\r
test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out\r
@@note oom::one: twice\r
@@trace {\"a\": 1}\r
@@fact memory.peak=yes\r
@@log [    1.0] hello\r
@@end 101\r
";

    #[test]
    fn a_run_is_read() {
        let mut transcript = Transcript::default();
        for line in TEXT.lines() {
            transcript.line(line, Duration::from_secs(1));
        }
        assert_eq!(transcript.release.as_deref(), Some("6.1.0-50-amd64"));
        assert_eq!(transcript.verdict("oom::one"), Some(Verdict::Passed));
        assert_eq!(transcript.verdict("oom::two"), Some(Verdict::Failed));
        assert_eq!(transcript.verdict("oom::three"), Some(Verdict::Failed));
        assert_eq!(transcript.verdict("oom::four"), None);
        assert_eq!(
            transcript.facts,
            [("memory.peak".to_owned(), "yes".to_owned())]
        );
        assert!(transcript.failures.contains(&"it broke".to_owned()));
        assert_eq!(transcript.notes, ["oom::one: twice"]);
        assert_eq!(transcript.trace, ["{\"a\": 1}"]);
        assert_eq!(transcript.log, ["[    1.0] hello"]);
        assert_eq!(transcript.status, Some(101));
    }

    #[test]
    fn noise_is_no_result() {
        for line in [
            "test oom::one has been running",
            "test ",
            "@@",
            "@@end x",
            "  ",
        ] {
            let mut transcript = Transcript::default();
            transcript.line(line, Duration::ZERO);
            assert!(transcript.tests.is_empty() && transcript.status.is_none());
        }
    }
}
