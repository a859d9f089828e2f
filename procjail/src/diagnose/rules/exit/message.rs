//! What a process wrote to stderr last: the best witness of why it returned a code.

use super::line::{
    ERRORS, FAILURES, MESSAGES, has_any, has_path, has_word, is_minor, is_outer, names_error,
    names_object, says_less, without_escapes,
};
use crate::event::StderrTail;

/// Most lines of a failure that are taken for one message.
const RUN: usize = 12;

/// Lines before the telling one that belong to the same message.
const CONTEXT: usize = 3;

/// Longest quotation, characters.
const QUOTED: usize = 200;

/// The end of what a process wrote to stderr.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    /// The beginning of the last that was written without a pause, where there is more between it and the rest.
    head: &'a str,
    text: &'a str,
    /// The beginning of the first line is missing.
    cut: bool,
}

impl<'a> Message<'a> {
    pub(super) fn of(tail: &'a StderrTail) -> Option<Self> {
        let message = Self {
            head: tail.head.as_deref().unwrap_or_default(),
            text: &tail.text,
            cut: tail.truncated,
        };
        (!message.lines().is_empty()).then_some(message)
    }

    /// A text of which nothing is missing.
    #[cfg(test)]
    pub(super) fn new(text: &'a str) -> Option<Self> {
        let message = Self {
            head: "",
            text,
            cut: false,
        };
        (!message.lines().is_empty()).then_some(message)
    }

    /// The lines that have anything in them. One without its beginning only where there is no other.
    fn lines(self) -> Vec<&'a str> {
        let mut lines = filled(self.head);
        let text = match self.text.split_once('\n') {
            Some((_, rest)) if self.cut && !(lines.is_empty() && rest.trim().is_empty()) => rest,
            _ => self.text,
        };
        lines.extend(filled(text));
        lines
    }

    /// The place of the line that says most. What is written without a pause says first what it is about.
    fn place(self, lines: &[&str]) -> usize {
        let (head, text) = lines.split_at(filled(self.head).len().min(lines.len()));
        let weight = |lines: &[&str], at: usize| match lines.get(at) {
            Some(line) if is_outer(line) && !says_less(line) => {
                2 * u8::from(has_any(line, MESSAGES)) + u8::from(has_any(line, FAILURES))
            }
            _ => 0,
        };
        let speaks = |words: &[&str]| {
            let speaks = |line: &&str| is_outer(line) && has_any(line, words) && !says_less(line);
            head.iter().position(speaks)
        };
        let first = speaks(MESSAGES).or_else(|| speaks(FAILURES)).unwrap_or(0);
        let last = Self::telling(text);
        let heads = weight(head, first) > 0 && weight(head, first) >= weight(text, last);
        match heads || text.is_empty() {
            true => first,
            false => head.len() + last,
        }
    }

    /// The last line that has anything in it.
    pub(super) fn last_line(self) -> Option<&'a str> {
        self.lines().last().copied()
    }

    /// The place of the line that says most: the last that speaks of a failure and is no part of a stack.
    fn telling(lines: &[&str]) -> usize {
        let speaks = |words: &[&str]| {
            lines
                .iter()
                .rposition(|line| is_outer(line) && has_any(line, words) && !says_less(line))
        };
        let last = speaks(MESSAGES)
            .or_else(|| speaks(FAILURES))
            .or_else(|| speaks(&[""]))
            .unwrap_or(lines.len().saturating_sub(1));
        // Of lines that follow each other the first says what it is, the others what came of it.
        let failure = |line: &&&str| {
            is_outer(line)
                && (has_any(line, MESSAGES) || has_any(line, FAILURES))
                && !says_less(line)
        };
        let before = lines.get(..last).unwrap_or_default();
        let first = last - before.iter().rev().take_while(failure).take(RUN).count();
        // A heading says less than what stands below it.
        let heads = |at: usize| {
            let next = lines.get(at + 1);
            lines.get(at).is_some_and(|line| line.ends_with(':'))
                && next.is_some_and(|next| !next.starts_with([' ', '\t']))
        };
        first + usize::from(heads(first))
    }

    /// It speaks of a failure.
    pub(super) fn is_failure(self) -> bool {
        let lines = self.lines();
        lines
            .get(self.place(&lines))
            .is_some_and(|line| has_any(line, MESSAGES) || has_any(line, FAILURES))
    }

    /// It has nothing but what programs go on after, such as warnings.
    pub(super) fn is_minor(self) -> bool {
        self.lines().iter().all(|line| is_minor(line))
    }

    /// It has any of these words, in lower case.
    pub(super) fn says_any(self, words: &[&str]) -> bool {
        self.outer().any(|line| has_any(line, words))
    }

    /// The error of the kernel's that the line that says most speaks of.
    pub(super) fn error(self) -> Option<i32> {
        let lines = self.lines();
        let line = lines.get(self.place(&lines))?;
        (1..=ERRORS).find(|number| names_error(line, *number))
    }

    /// The line that says most, cut to a length for a sentence; and whether it is the last one. A line without its
    /// beginning is never quoted.
    pub(super) fn quoted(self) -> Option<(String, bool)> {
        let lines = self.lines();
        let at = self.place(&lines);
        if self.cut && self.head.is_empty() && !self.text.trim_end().contains('\n') {
            return None;
        }
        let line = without_escapes(lines.get(at)?);
        let line = line.trim();
        let mut quoted: String = line.chars().take(QUOTED).collect();
        if quoted.len() < line.len() {
            quoted.push('…');
        }
        Some((quoted, at + 1 == lines.len()))
    }

    /// The lines of the last message: what a warning said long before has little to do with the end.
    fn last(self) -> impl Iterator<Item = &'a str> {
        let lines = self.lines();
        let at = self.place(&lines);
        let first = at.saturating_sub(CONTEXT);
        lines
            .into_iter()
            .enumerate()
            .skip(first)
            .filter(move |(index, line)| *index == at || !is_minor(line))
            .map(|(_, line)| line)
    }

    /// A line of the last message speaks of this error, by its symbol or in the C library's words.
    pub(super) fn names_error(self, number: i32) -> bool {
        self.last().any(|line| names_error(line, number))
    }

    /// A line of the last message is about memory, in whatever words.
    pub(super) fn names_memory(self) -> bool {
        self.last().any(|line| {
            has_any(line, &["memory", "alloc", "mmap"]) || has_word(&line.to_lowercase(), "heap")
        })
    }

    /// A line of the last message has the name of this file or address.
    pub(super) fn names_object(self, object: &str) -> bool {
        self.last().any(|line| names_object(line, object))
    }

    /// A line of the last message has this path, and not as a part of a longer one.
    pub(super) fn names_path(self, path: &str) -> bool {
        self.last().any(|line| has_path(line, path))
    }

    /// One line of the last message has both.
    pub(super) fn names_both(self, number: i32, object: &str) -> bool {
        self.last()
            .any(|line| names_error(line, number) && names_object(line, object))
    }

    /// The lines of the last message that are no part of a stack.
    fn outer(self) -> impl Iterator<Item = &'a str> {
        self.last().filter(|line| is_outer(line))
    }

    /// The last message has the name of this program.
    pub(super) fn names_program(self, name: &str) -> bool {
        name.len() > 2 && self.outer().any(|line| has_word(line, name))
    }

    /// The last message has this exit code of another process: `Error 2`, `exit status 2`.
    pub(super) fn names_code(self, code: i32) -> bool {
        self.outer().any(|line| {
            let line = line.to_lowercase();
            ["code", "status", "error", "exited with", "returned"]
                .iter()
                .any(|word| has_word(&line, &format!("{word} {code}")))
        })
    }

    /// The last message speaks of an error of the kernel's, and not of this one.
    pub(super) fn names_another_error(self, number: i32) -> bool {
        !self.names_error(number) && self.names_any_error()
    }

    /// The last message speaks of any error of the kernel's.
    pub(super) fn names_any_error(self) -> bool {
        (1..=ERRORS).any(|number| self.names_error(number))
    }
}

fn filled(text: &str) -> Vec<&str> {
    let lines = text.lines().map(str::trim_end);
    lines.filter(|line| !line.trim().is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quoted(text: &str) -> String {
        Message::new(text)
            .and_then(Message::quoted)
            .map_or(String::new(), |(line, _)| line)
    }

    #[test]
    fn the_line_that_says_most_is_quoted() {
        let python = "Traceback (most recent call last):\n  File \"<string>\", line 1, in <module>\n\
                      ModuleNotFoundError: No module named 'nosuch'\n";
        assert_eq!(
            quoted(python),
            "ModuleNotFoundError: No module named 'nosuch'"
        );
        let node = "node:net:1\nError: connect ECONNREFUSED 127.0.0.1:9\n    at f (node:net:1)\n\
                    Emitted 'error' event on Socket instance at:\n    at g {\n  \
                    errno: -111,\n  code: 'ECONNREFUSED'\n}\n\nNode.js v18.20.4\n";
        assert_eq!(quoted(node), "Error: connect ECONNREFUSED 127.0.0.1:9");
        assert_eq!(quoted("ready\nbye\n"), "bye");
        assert_eq!(quoted(" \n"), "");
    }

    fn long(head: Option<&str>, text: &str) -> Option<String> {
        let tail = StderrTail {
            text: text.into(),
            truncated: true,
            head: head.map(str::to_owned),
            before_ns: 0,
        };
        Some(Message::of(&tail)?.quoted()?.0)
    }

    #[test]
    fn a_line_without_its_beginning_is_never_quoted() {
        assert_eq!(
            long(None, "rror: cannot open\nbye\n").as_deref(),
            Some("bye")
        );
        assert_eq!(long(None, "rror: cannot open the file"), None);
        assert_eq!(long(None, "rror: cannot open the file\n"), None);
        // It tells of its error all the same.
        let tail = StderrTail {
            text: "pp.conf: Permission denied\n".into(),
            truncated: true,
            ..StderrTail::default()
        };
        assert!(Message::of(&tail).is_some_and(|message| message.names_error(libc::EACCES)));
    }

    #[test]
    fn what_is_long_says_first_what_it_is_about() {
        let java = "Exception in thread \"main\" java.lang.StackOverflowError\n\tat App.f(App.java:1)\n\tat Ap";
        let frames = "App.java:1)\n\tat App.f(App.java:1)\n";
        assert_eq!(
            long(Some(java), frames).as_deref(),
            Some("Exception in thread \"main\" java.lang.StackOverflowError")
        );
        let go = "panic: no table\n\ngoroutine 1 [running]:\nmain.main()\n";
        let rest = "ain.go:7\ncreated by main.main\n\t/app.go:7\n";
        assert_eq!(long(Some(go), rest).as_deref(), Some("panic: no table"));
        // Each line has the name of the program and the word.
        let npm =
            "npm error code EUSAGE\nnpm error\n".to_owned() + &"npm error  --option\n".repeat(20);
        assert_eq!(
            long(Some(&npm), "pm error --x\nnpm error  --y\n").as_deref(),
            Some("npm error code EUSAGE")
        );
        // A log that goes on ends with what matters.
        let log = "starting\n0 errors so far\n";
        let rest = "ady\nfatal: cannot bind\n";
        assert_eq!(long(Some(log), rest).as_deref(), Some("fatal: cannot bind"));
        assert_eq!(
            long(Some("starting\n"), "ady\nbye\n").as_deref(),
            Some("bye")
        );
    }

    #[test]
    fn colours_are_left_out() {
        assert_eq!(
            quoted("\u{1b}[1;31mError:\u{1b}[0m no host\n"),
            "Error: no host"
        );
        assert_eq!(quoted("error: \u{1b}[31"), "error:");
        assert_eq!(quoted("error: \u{1b}x"), "error: \u{1b}x");
    }

    #[test]
    fn the_first_of_some_lines_says_what_it_is() {
        let java = "Error: Could not find or load main class App\nCaused by: java.lang.ClassNotFoundException: App\n";
        assert_eq!(quoted(java), "Error: Could not find or load main class App");
        let npm = "npm error Missing script: \"serve\"\nnpm error\nnpm error To see a list, run:\n\
                   npm error A complete log of this run can be found in: /x\n";
        assert_eq!(quoted(npm), "npm error Missing script: \"serve\"");
    }

    #[test]
    fn a_notice_is_no_failure() {
        let rclone = "2026 NOTICE: Config file \"/x\" not found - using defaults\n\
                      2026 CRITICAL: Failed to create file system for \"nosuch:\": didn't find section\n";
        assert!(quoted(rclone).starts_with("2026 CRITICAL"));
    }

    #[test]
    fn a_hint_says_less_than_what_it_is_a_hint_on() {
        for hint in [
            "sudo: If it runs in a container, you may need to adjust that.",
            "Try 'app --help' for more information.",
            "hint: See PEP 668 for the detailed specification.",
            "app: run it as another user",
        ] {
            let text = format!("app: the flag is set, which prevents that\n{hint}\n");
            assert_eq!(quoted(&text), "app: the flag is set, which prevents that");
        }
        // What goes on is none, nor is one that stands alone, nor words within a line.
        assert_eq!(quoted("app: starting\napp: listening\n"), "app: listening");
        assert_eq!(quoted("Try 'app --help'\n"), "Try 'app --help'");
        assert_eq!(
            quoted("app: error: x\nERROR: You should not run it as root\n"),
            "app: error: x"
        );
        assert_eq!(
            quoted("ready\ncannot connect: try again\n"),
            "cannot connect: try again"
        );
    }

    #[test]
    fn what_apt_marks_as_a_warning_is_no_failure() {
        let apt = "W: Failed to fetch http://x\nE: Unable to mkstemp /tmp/x (30: Read-only file system)\n";
        assert!(quoted(apt).starts_with("E: Unable"));
    }

    #[test]
    fn a_heading_says_less_than_what_stands_below_it() {
        let sbcl = "   *GC-PENDING* = true\nfatal error encountered in SBCL pid 1 tid 1:\nHeap exhausted, game over.\n";
        assert_eq!(quoted(sbcl), "Heap exhausted, game over.");
        assert_eq!(
            quoted("error: no such file:\n  /etc/x\n"),
            "error: no such file:"
        );
    }

    #[test]
    fn an_error_and_what_it_was_about_are_found() {
        let message = Message::new(
            "nginx: [emerg] bind() to 0.0.0.0:80 failed (98: Address already in use)\n\
             nginx: [emerg] still could not bind()\n",
        )
        .expect("text");
        assert!(message.names_both(libc::EADDRINUSE, "0.0.0.0:80"));
        assert!(!message.names_object("0.0.0.0:8080"));
        assert!(!message.names_error(libc::EACCES) && message.names_any_error());
        let psql = "connection to server at \"127.0.0.1\", port 5432 failed: Connection refused";
        let psql = Message::new(psql).expect("text");
        assert!(psql.names_both(libc::ECONNREFUSED, "127.0.0.1:5432"));
    }

    #[test]
    fn a_path_is_named_where_it_stands_alone() {
        let line = "No usable temporary directory found in ['/tmp', '/var/tmp', '/usr/tmp', '/']";
        let message = Message::new(line).expect("text");
        assert!(message.names_path("/tmp") && message.names_path("/usr/tmp"));
        assert!(!message.names_path("/usr") && !message.names_path("/var"));
        for (line, named) in [
            ("cannot write to /data.", true),
            ("cannot write to /data: no", true),
            ("cannot write to /data/x", false),
            ("cannot write to /data.db", false),
            ("cannot write to /data-old", false),
            ("cannot write to ../data", false),
        ] {
            assert_eq!(has_path(line, "/data"), named, "{line}");
        }
    }

    #[test]
    fn memory_has_many_words() {
        let names = |text| Message::new(text).is_some_and(Message::names_memory);
        for text in [
            "Fatal: Not enough memory",
            "terminate called after throwing an instance of 'std::bad_alloc'",
            "GC error: Heap exhausted",
        ] {
            assert!(names(text), "{text}");
        }
        assert!(!names("error: the cheapest plan failed"));
    }

    #[test]
    fn a_warning_long_before_is_another_matter() {
        let text = "warning: /etc/app.conf: No such file or directory\nerror: bad option\n";
        let message = Message::new(text).expect("text");
        assert!(!message.names_error(libc::ENOENT));
        let message =
            Message::new("/etc/a: No such file or directory\n1\n2\n3\n4\nerror: x").expect("text");
        assert!(!message.names_error(libc::ENOENT));
    }
}
