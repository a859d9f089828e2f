//! What kind of instruction the processor stopped at, by its first bytes.

/// Kinds that a verdict tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Instruction {
    /// One that is defined to fault: compilers put it where the program must never come.
    Trap(&'static str),
    /// One that only some processors have; the extension that its encoding belongs to.
    Extension(&'static str),
    /// One for the kernel alone.
    Privileged(&'static str),
    /// An access that must be aligned.
    Aligned,
    Other,
    /// The bytes were not read.
    Unknown,
}

/// Decodes as much as a verdict needs.
pub(super) fn instruction(architecture: &str, code: &[u8]) -> Instruction {
    match architecture {
        _ if code.is_empty() => Instruction::Unknown,
        "x86_64" => x86(code),
        "aarch64" => arm(code),
        _ => Instruction::Unknown,
    }
}

/// Intel's manual, volume 2: prefixes, then one to three bytes of operation code.
fn x86(code: &[u8]) -> Instruction {
    const PREFIXES: [u8; 11] = [
        0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65,
    ];
    let start = code
        .iter()
        .position(|byte| !PREFIXES.contains(byte))
        .unwrap_or(code.len());
    let (prefixes, rest) = code.split_at(start);
    let rest = match rest {
        // REX.
        [0x40..=0x4f, rest @ ..] => rest,
        rest => rest,
    };
    let has = |prefix: u8| prefixes.contains(&prefix);
    match rest {
        [0x0f, 0x0b, ..] => Instruction::Trap("ud2"),
        [0x0f, 0xb9, ..] => Instruction::Trap("ud1"),
        [0x0f, 0xff, ..] => Instruction::Trap("ud0"),
        [0x62, ..] => Instruction::Extension("AVX-512"),
        [0xc4 | 0xc5, ..] => Instruction::Extension("AVX, AVX2, FMA or BMI"),
        [0x0f, 0x38, 0xf0 | 0xf1, ..] if has(0xf2) => Instruction::Extension("SSE4.2 (crc32)"),
        [0x0f, 0x38, 0xf0 | 0xf1, ..] => Instruction::Extension("MOVBE"),
        [0x0f, 0x38, 0xf5 | 0xf6, ..] => Instruction::Extension("ADX or CET"),
        [0x0f, 0x38 | 0x3a, ..] => Instruction::Extension("SSSE3, SSE4, AES or SHA"),
        [0x0f, 0xb8, ..] if has(0xf3) => Instruction::Extension("POPCNT"),
        [0x0f, 0xc7, ..] => Instruction::Extension("RDRAND, RDSEED or CMPXCHG16B"),
        [0x0f, 0x28 | 0x29 | 0x2b | 0xe7, ..] => Instruction::Aligned,
        [0x0f, 0x6f | 0x7f, ..] if has(0x66) => Instruction::Aligned,
        [0xf4, ..] => Instruction::Privileged("hlt"),
        [0xfa | 0xfb, ..] => Instruction::Privileged("cli or sti"),
        [0xe4..=0xe7 | 0xec..=0xef, ..] => Instruction::Privileged("in or out"),
        [0x0f, 0x30 | 0x32, ..] => Instruction::Privileged("rdmsr or wrmsr"),
        [0x0f, 0x20..=0x23, ..] => Instruction::Privileged("mov to or from a control register"),
        [] => Instruction::Unknown,
        _ => Instruction::Other,
    }
}

/// `udf`: the upper half of the word is zero.
fn arm(code: &[u8]) -> Instruction {
    match code {
        [_, _, 0, 0, ..] => Instruction::Trap("udf"),
        // SVE: bits 25 to 28 are 0010.
        [_, _, _, high, ..] if high & 0x1e == 0x04 => Instruction::Extension("SVE"),
        [_, _, _, _, ..] => Instruction::Other,
        _ => Instruction::Unknown,
    }
}

/// `0f 0b`, for evidence.
pub(super) fn bytes(code: &[u8]) -> String {
    let bytes: Vec<String> = code
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    bytes.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traps_and_extensions_are_told_apart() {
        let of = |code: &[u8]| instruction("x86_64", code);
        assert_eq!(of(&[0x0f, 0x0b, 0x90]), Instruction::Trap("ud2"));
        // clang's trap of a sanitizer: ud1 with the check's number.
        assert_eq!(
            of(&[0x67, 0x0f, 0xb9, 0x40, 0x12]),
            Instruction::Trap("ud1")
        );
        assert_eq!(
            of(&[0x62, 0xf1, 0x7c, 0x48]),
            Instruction::Extension("AVX-512")
        );
        assert!(matches!(of(&[0xc5, 0xfd, 0x6f]), Instruction::Extension(_)));
        assert_eq!(
            of(&[0xf3, 0x48, 0x0f, 0xb8, 0xc1]),
            Instruction::Extension("POPCNT")
        );
        assert_eq!(of(&[0x66, 0x0f, 0x6f, 0x00]), Instruction::Aligned);
        assert_eq!(of(&[0x0f, 0x6f, 0x00]), Instruction::Other);
        assert_eq!(of(&[0xf4]), Instruction::Privileged("hlt"));
        assert_eq!(of(&[0x90, 0x90]), Instruction::Other);
        assert_eq!(of(&[]), Instruction::Unknown);
        assert_eq!(of(&[0x66, 0x66]), Instruction::Unknown);
        let arm = |code: &[u8]| instruction("aarch64", code);
        assert_eq!(arm(&[0, 0, 0, 0]), Instruction::Trap("udf"));
        assert_eq!(arm(&[0x1f, 0x20, 0x03, 0xd5]), Instruction::Other);
        assert_eq!(instruction("riscv64", &[0x0f, 0x0b]), Instruction::Unknown);
    }
}
