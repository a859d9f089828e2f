//! Text from elsewhere as a cell that no spreadsheet takes for a formula.
//!
//! A spreadsheet runs what begins with `=`, `+`, `-` or `@`, quoted or not (OWASP, CSV Injection): the name of
//! a process could fetch a page or start a program on the reader's machine. Such text gets an apostrophe before
//! it, which spreadsheets take for "this is text". Text that begins with an apostrophe gets another, so that
//! whoever wants the original takes one away.
//!
//! Where the comma is the decimal separator, spreadsheets split lines at semicolons, whatever the quotes: what
//! follows one is treated as a cell of its own.

use crate::text::escape;

/// What a formula can begin with: Excel's and LibreOffice's characters, the full-width ones that some take for
/// the same, and the apostrophe that marks text.
fn begins_formula(char: char) -> bool {
    matches!(
        char,
        '=' | '+' | '-' | '@' | '\'' | '＝' | '＋' | '－' | '＠' | '\t' | '\r'
    )
}

/// Puts `text` into `cell`, as one line. Control characters become escapes such as `\n`.
pub(super) fn push_text(cell: &mut String, text: &str) {
    let text = escape(text);
    for (index, part) in text.split(';').enumerate() {
        if index > 0 {
            cell.push(';');
        }
        // Spaces before it make no difference to some.
        if part.trim_start().starts_with(begins_formula) {
            cell.push('\'');
        }
        cell.push_str(part);
    }
}

/// Puts a JSON text into `cell`. It begins with a brace, and a semicolon is within a string, where it may be
/// written as an escape as well.
pub(super) fn push_json(cell: &mut String, json: &str) {
    for (index, part) in json.split(';').enumerate() {
        if index > 0 {
            cell.push_str("\\u003b");
        }
        cell.push_str(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> String {
        let mut cell = String::new();
        push_text(&mut cell, text);
        cell
    }

    #[test]
    fn nothing_begins_a_formula() {
        assert_eq!(text("=HYPERLINK(\"x\")"), "'=HYPERLINK(\"x\")");
        assert_eq!(text("+1"), "'+1");
        assert_eq!(text("-rw"), "'-rw");
        assert_eq!(text("@SUM(1)"), "'@SUM(1)");
        assert_eq!(text("  =1"), "'  =1");
        assert_eq!(text("x; =1;y"), "x;' =1;y");
        assert_eq!(text("＝1"), "'＝1");
        assert_eq!(text("\t=1"), "\\t=1");
        assert_eq!(text("python3"), "python3");
        assert_eq!(text("a=b"), "a=b");
        assert_eq!(text("'quoted'"), "''quoted'", "can be undone");
        assert_eq!(text(""), "");
    }

    #[test]
    fn json_stays_the_same_value() {
        let json = r#"{"argv":["a;=1"]}"#;
        let mut cell = String::new();
        push_json(&mut cell, json);
        assert!(!cell.contains(';'));
        let value = |text| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
        assert_eq!(value(&cell), value(json));
    }

    proptest::proptest! {
        #[test]
        fn no_text_begins_a_formula_or_a_line(any: String) {
            let cell = text(&any);
            proptest::prop_assert!(!cell.contains(char::is_control));
            for part in cell.split(';') {
                let part = part.trim_start();
                proptest::prop_assert!(
                    part.starts_with('\'') || !part.starts_with(begins_formula),
                    "{}", cell
                );
            }
        }
    }
}
