//! What a line that a program wrote says: of a failure, an error of the kernel's, a file; or only what to do.

use crate::names;

/// Words that open or make up the message of a failure.
pub(super) const MESSAGES: &[&str] = &[
    "error:",
    "exception:",
    "fatal",
    "panic",
    "emerg]",
    "cannot",
    "can't",
    "could not",
    "couldn't",
    "unable",
    "denied",
    "refused",
    "not found",
    "no such",
    "not permitted",
    "in use",
    "no space",
    "too many",
    "out of memory",
    "exhausted",
    "[errno",
    "***",
];

/// Words that come with a failure, and also without.
pub(super) const FAILURES: &[&str] = &[
    "error",
    "fail",
    "invalid",
    "unknown",
    "unrecognized",
    "illegal",
    "exception",
    "abort",
    "usage",
    "missing",
    "unexpected",
    "exceeded",
    "must be",
    "not allowed",
    "may not",
];

/// Words of lines that a program went on after.
const MINOR: &[&str] = &["warn", "notice", "info:", "[info", "debug"];

/// What lines begin with that tell what to do, which is less than what it is to be done about.
const HINTS: &[&str] = &[
    "if ",
    "try ",
    "see ",
    "use ",
    "run ",
    "to ",
    "or ",
    "check ",
    "please ",
    "perhaps ",
    "maybe ",
    "consider ",
    "make sure ",
    "you can ",
    "you may ",
    "did you ",
    "for more ",
    "for help",
    "hint:",
    "note:",
    "tip:",
    "help:",
];

/// It is no part of a stack.
pub(super) fn is_outer(line: &str) -> bool {
    !line.starts_with([' ', '\t'])
}

/// A line that a program went on after, or a hint on what to do.
pub(super) fn says_less(line: &str) -> bool {
    is_minor(line) || is_hint(line)
}

pub(super) fn is_minor(line: &str) -> bool {
    // As apt(8) has them.
    has_any(line, MINOR) || ["W: ", "N: "].iter().any(|mark| line.starts_with(mark))
}

/// It tells what to do, whether or not it has the program's name before that.
fn is_hint(line: &str) -> bool {
    let named = line
        .split_once(": ")
        .filter(|(name, _)| !name.contains(char::is_whitespace));
    let text = named.map_or(line, |(_, text)| text).to_lowercase();
    let begins = |text: &str| HINTS.iter().any(|hint| text.starts_with(hint));
    begins(&text) || begins(&line.to_lowercase())
}

/// A line without the escape sequences that set colours and move the cursor: ESC, `[`, and all up to a final byte.
pub(super) fn without_escapes(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(char) = chars.next() {
        if char == '\u{1b}' && chars.next_if_eq(&'[').is_some() {
            chars.by_ref().find(|char| ('@'..='~').contains(char));
        } else {
            text.push(char);
        }
    }
    text
}

/// The greatest error number.
pub(super) const ERRORS: i32 = 133;

pub(super) fn has_any(line: &str, words: &[&str]) -> bool {
    let lower = line.to_lowercase();
    words.iter().any(|word| lower.contains(word))
}

pub(super) fn names_error(line: &str, number: i32) -> bool {
    let words = words_for(number);
    (!words.is_empty() && line.to_lowercase().contains(&words.to_lowercase()))
        || has_word(line, &names::errno(number))
}

/// The C library's words for an error, as programs print them.
fn words_for(number: i32) -> String {
    let words = std::io::Error::from_raw_os_error(number).to_string();
    match words.rfind(" (os error") {
        Some(end) if !words.starts_with("Unknown") => {
            words.get(..end).unwrap_or_default().to_owned()
        }
        _ => String::new(),
    }
}

pub(super) fn names_object(line: &str, object: &str) -> bool {
    if line.contains(object) {
        return true;
    }
    let path = object.strip_prefix("unix:").unwrap_or(object);
    if path.contains('/') {
        let name = path.rsplit('/').next().unwrap_or(path);
        return line.contains(path) || (name.len() > 2 && has_word(line, name));
    }
    // Programs print a host and a port in many ways; the port tells most.
    match object.rsplit_once(':') {
        Some((_, port)) if port.len() > 1 => has_word(line, port),
        _ => object.len() > 2 && has_word(line, object),
    }
}

/// The path is in the line, and no longer path has it as a part.
pub(super) fn has_path(line: &str, path: &str) -> bool {
    let is_part = |char: char| char.is_alphanumeric() || matches!(char, '/' | '_' | '-' | '~');
    line.match_indices(path).any(|(at, _)| {
        let before = line.get(..at).unwrap_or_default();
        let after = line.get(at + path.len()..).unwrap_or_default();
        // A dot may be the end of the sentence.
        let after = after.trim_start_matches('.');
        !before.ends_with(|char| is_part(char) || char == '.') && !after.starts_with(is_part)
    })
}

/// The text is in the line, and neither letters nor digits adjoin it.
pub(super) fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|before| before.chars().next_back());
        let after = line
            .get(at + word.len()..)
            .and_then(|after| after.chars().next());
        !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
    })
}
