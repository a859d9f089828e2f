//! Text from elsewhere made harmless, and numbers made readable.

/// `text` without anything that could move a cursor, colour a terminal, or turn its writing around:
/// such characters appear as escapes, a line feed as `\n`.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        push_escaped(&mut escaped, char);
    }
    escaped
}

fn push_escaped(out: &mut String, char: char) {
    if is_harmful(char) {
        out.extend(char.escape_default());
    } else {
        out.push(char);
    }
}

/// Control characters, and the invisible ones that Unicode has for layout.
fn is_harmful(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// One argument as a shell would take it: bare, `'in quotes'`, or `$'with\nescapes'`.
pub(crate) fn quote(argument: &str) -> String {
    let bare = |char: char| {
        char.is_alphanumeric()
            || matches!(
                char,
                '_' | '-' | '.' | '/' | ':' | '=' | ',' | '+' | '@' | '%'
            )
    };
    if !argument.is_empty() && argument.chars().all(bare) {
        return argument.to_owned();
    }
    if !argument.contains(|char| char == '\'' || is_harmful(char)) {
        return format!("'{argument}'");
    }
    let mut quoted = String::from("$'");
    for char in argument.chars() {
        match char {
            '\'' | '\\' => quoted.extend(['\\', char]),
            char => push_escaped(&mut quoted, char),
        }
    }
    quoted.push('\'');
    quoted
}

/// Arguments, quoted, in at most `width` columns; what doesn't fit is counted.
pub(crate) fn command(argv: &[String], cut: bool, width: usize) -> String {
    const ELLIPSIS: &str = " …";
    let mut line = String::new();
    let mut columns = 0;
    for (index, argument) in argv.iter().enumerate() {
        let separator = usize::from(index > 0);
        // Quoting a long argument whole only to cut it would cost more than it shows.
        let head: String = argument.chars().take(width).collect();
        let quoted = quote(&head);
        let length = quoted.chars().count();
        let room = width.saturating_sub(columns + separator);
        if length <= room && head.len() == argument.len() {
            line.push_str(if index > 0 { " " } else { "" });
            line.push_str(&quoted);
            columns += separator + length;
            continue;
        }
        let left = argv.len() - index - 1;
        let count = if left > 0 {
            format!(" (+{left})")
        } else {
            String::new()
        };
        let room = room.saturating_sub(count.len() + 1);
        if room >= 8 {
            line.push_str(if index > 0 { " " } else { "" });
            line.extend(quoted.chars().take(room));
            line.push('…');
        } else {
            line.push_str(ELLIPSIS);
        }
        line.push_str(&count);
        return line;
    }
    if cut {
        line.push_str(ELLIPSIS);
    }
    line
}

/// Arguments as a shell would take them, in at most `width` columns.
pub fn command_line(argv: &[String], width: usize) -> String {
    command(argv, false, width)
}

/// A size in binary units: `31.2 MiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = UNITS[0];
    for larger in &UNITS[1..] {
        // What would be rounded to 1024.0.
        if value < 1023.95 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    format!("{value:.1} {unit}")
}

/// A span of time: `812 ns`, `45 µs`, `1.2 ms`, `3.456 s`, `2 min 3 s`, `5 h 2 min`.
pub fn duration(ns: u64) -> String {
    let seconds = ns / 1_000_000_000;
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{} µs", ns / 1_000),
        1_000_000..10_000_000 => format!("{}.{} ms", ns / 1_000_000, ns / 100_000 % 10),
        10_000_000..1_000_000_000 => format!("{} ms", ns / 1_000_000),
        1_000_000_000..60_000_000_000 => format!("{seconds}.{:03} s", ns / 1_000_000 % 1_000),
        60_000_000_000..3_600_000_000_000 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
    }
}

/// A moment relative to the gate: `+12.345ms`, `+1.234567s`, `-3.210ms`.
pub(crate) fn moment(ns: i128) -> String {
    let sign = if ns < 0 { '-' } else { '+' };
    let ns = ns.unsigned_abs();
    if ns < 1_000_000_000 {
        format!("{sign}{}.{:03}ms", ns / 1_000_000, ns / 1_000 % 1_000)
    } else {
        format!(
            "{sign}{}.{:06}s",
            ns / 1_000_000_000,
            ns / 1_000 % 1_000_000
        )
    }
}

/// A count with separators: `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 process`, `2 processes`.
pub(crate) fn plural(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_harmful_gets_through() {
        assert_eq!(
            escape("a\x1b[31mb\nc\u{202e}d\u{9b}"),
            "a\\u{1b}[31mb\\nc\\u{202e}d\\u{9b}"
        );
        assert_eq!(escape("grüße"), "grüße");
    }

    #[test]
    fn arguments_are_quoted_as_a_shell_takes_them() {
        assert_eq!(quote("--name=web"), "--name=web");
        assert_eq!(quote("daemon off;"), "'daemon off;'");
        assert_eq!(quote(""), "''");
        assert_eq!(quote("it's"), r"$'it\'s'");
        assert_eq!(quote("a\nb"), r"$'a\nb'");
    }

    #[test]
    fn long_commands_are_cut_to_the_width() {
        let argv: Vec<String> = ["python3", "-c", &"x".repeat(500), "a", "b"]
            .map(String::from)
            .into();
        let line = command(&argv, false, 60);
        assert!(
            line.starts_with("python3 -c xxxx") && line.ends_with("… (+2)"),
            "{line}"
        );
        assert!(line.chars().count() <= 60, "{line}");
        assert_eq!(command(&argv[..2], true, 60), "python3 -c …");
        assert_eq!(command(&argv[..2], false, 60), "python3 -c");
        assert_eq!(command(&[], false, 60), "");
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(32 << 20), "32.0 MiB");
        assert_eq!(bytes((1 << 20) - 1), "1.0 MiB");
        assert_eq!(bytes(u64::MAX), "16.0 EiB");
        assert_eq!(duration(999), "999 ns");
        assert_eq!(duration(45_678), "45 µs");
        assert_eq!(duration(1_250_000), "1.2 ms");
        assert_eq!(duration(10_004_000_000), "10.004 s");
        assert_eq!(duration(123_000_000_000), "2 min 3 s");
        assert_eq!(duration(u64::MAX), "5124095 h 34 min");
        assert_eq!(moment(12_345_678), "+12.345ms");
        assert_eq!(moment(-3_210_000), "-3.210ms");
        assert_eq!(moment(1_234_567_890), "+1.234567s");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(plural(1, "process", "processes"), "1 process");
    }
}
