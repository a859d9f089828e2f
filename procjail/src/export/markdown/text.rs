//! Pieces of GitHub Flavored Markdown that no text from elsewhere can break out of.
//!
//! What comes from the traced program stands in code spans: there is no markup in them, and no `@name`, `#1` or
//! `:name:` that a forge would make a link of. Backslashes would not do: forges look for those in the finished
//! page.

use crate::text::escape;

/// Longest text that a span or a cell holds, characters.
const LONGEST: usize = 600;

/// Text as it is, in a code span.
pub(super) fn code(text: &str) -> String {
    let text = cut(&escape(text));
    if text.is_empty() {
        return "(empty)".to_owned();
    }
    let fence = "`".repeat(longest_run(&text) + 1);
    // One space at both ends is taken away again.
    let edge = |char: char| matches!(char, '`' | ' ');
    let pad = match text.starts_with(edge) || text.ends_with(edge) {
        true => " ",
        false => "",
    };
    format!("{fence}{pad}{text}{pad}{fence}")
}

/// A sentence that names things from elsewhere: words that could be markup become code spans, and so does what
/// stands between backticks.
pub(super) fn prose(text: &str) -> String {
    let text = cut(&escape(text));
    let mut words: Vec<String> = Vec::new();
    // Without partners, backticks are but characters.
    let paired = text.matches('`').count().is_multiple_of(2);
    let parts: Vec<&str> = match paired {
        true => text.split('`').collect(),
        false => vec![&text],
    };
    let mut glued = String::new();
    for (index, part) in parts.iter().enumerate() {
        if index % 2 == 1 {
            glued += &code(part);
            continue;
        }
        let mut between = part.split(' ');
        // What follows a code span without a space stays with it.
        if let Some(first) = between.next() {
            glued += &word(first, words.is_empty() && glued.is_empty());
        }
        for next in between {
            words.push(std::mem::take(&mut glued));
            // Blanks before it are left out.
            glued = word(next, words.iter().all(String::is_empty));
        }
    }
    words.push(glued);
    words.retain(|word| !word.is_empty());
    words.join(" ")
}

/// One word, in a code span if it needs it. `first` if a block begins with it.
fn word(word: &str, first: bool) -> String {
    match word {
        "" => return String::new(),
        "->" => return "→".to_owned(),
        // A chain of calls or of parents, innermost first.
        "<" => return "←".to_owned(),
        _ => {}
    }
    let open = |char: char| matches!(char, '(' | '"' | '\'');
    let close = |char: char| matches!(char, ')' | '"' | '\'' | ',' | '.' | ';' | ':' | '?' | '…');
    let inner = word.trim_start_matches(open);
    let before = &word[..word.len() - inner.len()];
    let mut core = inner;
    while let Some(shorter) = core.strip_suffix(close) {
        // The one of `exit(2)` belongs to it.
        if core.ends_with(')') && core.matches('(').count() >= core.matches(')').count() {
            break;
        }
        core = shorter;
    }
    let after = &inner[core.len()..];
    let block = first && before.is_empty() && begins_block(word);
    if core.is_empty() || !(block || is_markup(core) || has_emoji(word)) {
        return match block {
            true => code(word),
            false => word.to_owned(),
        };
    }
    format!("{before}{}{after}", code(core))
}

/// Whether a block that begins with this word would be a list, a heading, a rule.
fn begins_block(word: &str) -> bool {
    let after_number = word.trim_start_matches(|char: char| char.is_ascii_digit());
    word.starts_with(['-', '+', '=', ':']) || matches!(after_number, "." | ")")
}

/// Whether a word has a meaning in Markdown, or as a reference on a forge.
fn is_markup(word: &str) -> bool {
    const ALWAYS: &[char] = &[
        '`', '*', '_', '<', '>', '#', '@', '|', '[', ']', '\\', '{', '}', '~', '^', '$', '&', '=',
        '/',
    ];
    // GitLab: !1 is a merge request, %1 a milestone.
    let refers = |mark: char| {
        word.match_indices(mark).any(|(at, _)| {
            word[at + 1..].starts_with(|next: char| next.is_alphanumeric() || next == '"')
        })
    };
    // A commit.
    let hash = word.len() >= 7
        && word.chars().all(|char| char.is_ascii_hexdigit())
        && word.contains(|char: char| char.is_ascii_alphabetic());
    word.contains(ALWAYS) || refers('!') || refers('%') || word.starts_with("www.") || hash
}

/// Whether a word has an emoji's name: `:name:`.
fn has_emoji(word: &str) -> bool {
    let mut colons = word.match_indices(':').map(|(at, _)| at);
    match (colons.next(), colons.next()) {
        (Some(first), Some(second)) => second > first + 1,
        _ => false,
    }
}

/// Lines as they are, in a code block.
pub(super) fn block<'a>(lines: impl IntoIterator<Item = &'a str>) -> String {
    let lines: Vec<String> = lines.into_iter().map(escape).collect();
    let run = lines.iter().map(|line| longest_run(line)).max();
    let fence = "`".repeat(run.unwrap_or(0).max(2) + 1);
    format!("{fence}text\n{}\n{fence}\n", lines.join("\n"))
}

/// A table. Each row has as many cells as there are names.
pub(super) struct Table {
    columns: usize,
    text: String,
    rows: u64,
}

impl Table {
    /// Without rows. A name that begins with `-` is a column of numbers.
    pub fn new(names: &[&str]) -> Self {
        let mut table = Self {
            columns: names.len(),
            text: String::new(),
            rows: 0,
        };
        let plain = |name: &&str| name.trim_start_matches('-').to_owned();
        table.line(names.iter().map(plain));
        let rule = |name: &&str| match name.starts_with('-') {
            true => "---:".to_owned(),
            false => "---".to_owned(),
        };
        table.line(names.iter().map(rule));
        table.rows = 0;
        table
    }

    /// Adds a row of finished Markdown: [`code`], [`prose`], or words of our own.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        let missing = self.columns.saturating_sub(N);
        let empty = std::iter::repeat_n(String::new(), missing);
        self.line(cells.into_iter().take(self.columns).chain(empty));
    }

    fn line(&mut self, cells: impl Iterator<Item = String>) {
        self.rows += 1;
        self.text.push('|');
        for cell in cells {
            self.text.push(' ');
            push_cell(&mut self.text, &cell);
            self.text.push_str(" |");
        }
        self.text.push('\n');
    }

    /// The table; nothing if it has no rows.
    pub fn finish(self) -> Option<String> {
        (self.rows > 0).then_some(self.text)
    }
}

/// A cell ends at a bar, in code as well. A backslash before it helps, unless there is another before that.
fn push_cell(out: &mut String, cell: &str) {
    let mut before = ' ';
    for char in cell.chars() {
        match char {
            '|' if before == '\\' => out.push('│'),
            '|' => out.push_str("\\|"),
            '\n' | '\r' => out.push(' '),
            char => out.push(char),
        }
        before = char;
    }
}

fn longest_run(text: &str) -> usize {
    let (mut longest, mut run) = (0, 0);
    for char in text.chars() {
        run = if char == '`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulldown_cmark::{Event, Options, Parser, Tag};

    #[test]
    fn words_that_could_be_markup_are_code() {
        assert_eq!(
            prose("its counter oom_kill rose by 1"),
            "its counter `oom_kill` rose by 1"
        );
        assert_eq!(
            prose("the limit of /procjail/app-1 was hit (81% of it)"),
            "the limit of `/procjail/app-1` was hit (81% of it)"
        );
        assert_eq!(prose("SIGTERM -> 1 sh: ignored"), "SIGTERM → 1 sh: ignored");
        assert_eq!(prose("a < b"), "a ← b");
        assert_eq!(prose("(see proc_pid_stat(5))"), "(see `proc_pid_stat(5)`)");
        assert_eq!(prose("47.6 MiB"), "47.6 MiB");
        assert_eq!(prose("1. item"), "`1`. item");
        assert_eq!(
            prose("from `kill -9 1` (uid 0)"),
            "from `kill -9 1` (uid 0)"
        );
        assert_eq!(prose("one ` alone"), "one `` ` `` alone");
        assert_eq!(
            prose("- [ ] @all #1 :bug:"),
            "`-` `[` `]` `@all` `#1` `:bug`:"
        );
    }

    #[test]
    fn code_spans_hold_anything() {
        assert_eq!(code("a`b"), "``a`b``");
        assert_eq!(code("`"), "`` ` ``");
        assert_eq!(code(""), "(empty)");
        assert_eq!(code("a\nb"), "`a\\nb`");
        assert!(code(&"x".repeat(10_000)).len() < 700);
    }

    #[test]
    fn blanks_before_a_word_do_not_make_it_a_list() {
        assert_eq!(prose(" + "), "`+`");
        assert_eq!(prose("  a - b"), "a - b");
    }

    #[test]
    fn a_code_block_outlasts_its_content() {
        assert_eq!(block(["a", "````"]), "`````text\na\n````\n`````\n");
    }

    /// Plain text and code of a table that has one cell, and whether there was anything else.
    fn read(markdown: &str) -> (String, String, bool, usize) {
        let (mut plain, mut code, mut other, mut cells) = (String::new(), String::new(), false, 0);
        for event in Parser::new_ext(markdown, Options::all()) {
            match event {
                Event::Text(text) => plain += &text,
                Event::Code(text) => code += &text,
                Event::Start(Tag::TableCell) => cells += 1,
                Event::Start(Tag::Table(_) | Tag::TableHead | Tag::TableRow | Tag::Paragraph) => {}
                Event::Start(_) | Event::Html(_) | Event::InlineHtml(_) | Event::HardBreak => {
                    other = true;
                }
                _ => {}
            }
        }
        (plain, code, other, cells)
    }

    proptest::proptest! {
        #[test]
        fn no_text_leaves_its_code_span(any: String) {
            let mut table = Table::new(&["a"]);
            table.row([code(&any)]);
            let (plain, _, other, cells) = read(&table.finish().expect("a row"));
            proptest::prop_assert!(!other && cells == 2);
            proptest::prop_assert!(plain == "a" || any.is_empty());
        }

        #[test]
        fn no_sentence_is_markup(any in r"[-+*_`<>#@|\[\]\\(){}~^$&=!%:;.,/'0-9a-c \n]{0,40}") {
            let mut table = Table::new(&["a", "b"]);
            table.row([prose(&any), code(&any)]);
            let (_, _, other, cells) = read(&table.finish().expect("a row"));
            proptest::prop_assert!(!other && cells == 4, "{}", prose(&any));
            let (plain, _, other, _) = read(&format!("{}\n", prose(&any)));
            proptest::prop_assert!(!other, "{}", prose(&any));
            proptest::prop_assert!(!plain.contains(['@', '#', '<', '*', '_', '`']), "{}", plain);
        }
    }
}
