//! Text as proc_pid_mountinfo(5) has it. The jail, the look for leaks and the evidence each take the lines
//! apart for what they need of them.

/// Undoes the octal escapes of blanks, tabs, line breaks and backslashes: `\040`. A stray backslash stays.
pub(crate) fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let code = tail
            .get(..3)
            .filter(|_| first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(byte) => {
                plain.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                plain.push(first);
                rest = tail;
            }
        }
    }
    plain
}

/// The same as text; what is no UTF-8 is replaced.
pub(crate) fn unescape_text(field: &str) -> String {
    String::from_utf8_lossy(&unescape(field.as_bytes())).into_owned()
}
