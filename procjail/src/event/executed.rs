//! What a file that could not be executed is, from its beginning.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A file that execve(2) refused, as it was just after.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExecutedFile {
    /// What it is.
    pub form: FileForm,
    /// What shall run it: the program in a script's first line, or the loader of a dynamically linked
    /// program (`PT_INTERP` of elf(5)).
    pub interpreter: Option<String>,
    /// The interpreter exists; null if that was not looked for.
    pub interpreter_exists: Option<bool>,
    /// The script's first line ends in a carriage return, which the kernel takes for part of the
    /// interpreter's name.
    pub carriage_return: bool,
    /// Machine that the program was built for, such as `aarch64`; null for anything but ELF.
    pub machine: Option<String>,
    /// The file has execute permission for somebody; null if that was not looked for.
    pub executable: Option<bool>,
}

/// Forms of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FileForm {
    /// It has nothing in it.
    Empty,
    /// It begins with `#!`.
    Script,
    /// An ELF program or library.
    Elf,
    /// Text without `#!`.
    Text,
    /// Anything else, such as a directory.
    #[default]
    Other,
}

impl ExecutedFile {
    /// execve(2) may have failed with that error on this file. A program that is there with its loader, or needs none, is
    /// never said not to exist: then the process had another root, or the file came later.
    pub fn may_fail_with(&self, error: i32) -> bool {
        let lacks_nothing = match (&self.interpreter, self.interpreter_exists) {
            (None, _) => true,
            (Some(_), exists) => exists == Some(true),
        };
        !(error == libc::ENOENT && self.form == FileForm::Elf && lacks_nothing)
    }
}

/// Longest interpreter that is told, bytes (`BINPRM_BUF_SIZE` of linux/binfmts.h bounds a script's line).
const INTERPRETER_BYTES: usize = 256;

/// What a file is, from its beginning. Total: any bytes may be a file's.
pub fn inspect(head: &[u8]) -> ExecutedFile {
    if head.is_empty() {
        return ExecutedFile {
            form: FileForm::Empty,
            ..ExecutedFile::default()
        };
    }
    if let Some(rest) = head.strip_prefix(b"#!") {
        return script(rest);
    }
    if head.starts_with(b"\x7fELF") {
        return ExecutedFile {
            form: FileForm::Elf,
            interpreter: loader(head),
            machine: machine(head),
            ..ExecutedFile::default()
        };
    }
    let printable = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | 0x20..=0x7e | 0x80..);
    ExecutedFile {
        form: match head.iter().take(64).all(printable) {
            true => FileForm::Text,
            false => FileForm::Other,
        },
        ..ExecutedFile::default()
    }
}

/// The first line after its `#!`.
fn script(rest: &[u8]) -> ExecutedFile {
    let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let carriage_return = line.ends_with(b"\r");
    let text = String::from_utf8_lossy(line.get(..INTERPRETER_BYTES).unwrap_or(line));
    ExecutedFile {
        form: FileForm::Script,
        interpreter: text.split_whitespace().next().map(str::to_owned),
        carriage_return,
        ..ExecutedFile::default()
    }
}

/// A number of an ELF file: `length` bytes at `at`, in the file's own byte order.
fn number(head: &[u8], at: usize, length: usize) -> Option<u64> {
    let bytes = head.get(at..at.checked_add(length)?)?;
    let little = head.get(5) != Some(&2);
    let join = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
    Some(match little {
        true => bytes.iter().rev().fold(0, join),
        false => bytes.iter().fold(0, join),
    })
}

/// `e_machine`, by the name that uname(2) gives it where it has one.
fn machine(head: &[u8]) -> Option<String> {
    let wide = head.get(4) == Some(&2);
    let name = match (number(head, 18, 2)?, wide) {
        (3, _) => "i386",
        (8, _) => "mips",
        (20, _) => "ppc",
        (21, _) => "ppc64le",
        (22, _) => "s390x",
        (40, _) => "arm",
        (62, true) => "x86_64",
        (62, false) => "x32",
        (183, _) => "aarch64",
        (243, true) => "riscv64",
        (243, false) => "riscv32",
        (258, _) => "loongarch64",
        (other, _) => return Some(format!("machine {other}")),
    };
    Some(name.to_owned())
}

/// The loader that a dynamically linked program asks for.
fn loader(head: &[u8]) -> Option<String> {
    const PT_INTERP: u64 = 3;
    // Program headers, as elf(5) lays them out in files of 64 and of 32 bits.
    let wide = head.get(4) == Some(&2);
    let (table, size, count, offset, word) = match wide {
        true => (number(head, 32, 8)?, 54, 56, 8, 8),
        false => (number(head, 28, 4)?, 42, 44, 4, 4),
    };
    let (size, count) = (number(head, size, 2)?, number(head, count, 2)?);
    (0..count).find_map(|index| {
        let entry = usize::try_from(table.checked_add(index.checked_mul(size)?)?).ok()?;
        if number(head, entry, 4)? != PT_INTERP {
            return None;
        }
        let start = usize::try_from(number(head, entry.checked_add(offset)?, word)?).ok()?;
        let name = head.get(start..)?.split(|byte| *byte == 0).next()?;
        let name = name.get(..INTERPRETER_BYTES).unwrap_or(name);
        Some(String::from_utf8_lossy(name).into_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_names_its_interpreter() {
        let script = inspect(b"#! /usr/bin/env python3\nprint(1)\n");
        assert_eq!(script.form, FileForm::Script);
        assert_eq!(script.interpreter.as_deref(), Some("/usr/bin/env"));
        assert!(!script.carriage_return);
        let windows = inspect(b"#!/bin/sh\r\necho\r\n");
        assert_eq!(windows.interpreter.as_deref(), Some("/bin/sh"));
        assert!(windows.carriage_return);
        assert_eq!(inspect(b"#!").interpreter, None);
    }

    #[test]
    fn a_program_names_its_machine_and_loader() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        let own = inspect(&own[..4096.min(own.len())]);
        assert_eq!(own.form, FileForm::Elf);
        assert_eq!(own.machine.as_deref(), Some(std::env::consts::ARCH));
        assert!(own.interpreter.is_none_or(|name| name.contains("ld")));
    }

    #[test]
    fn a_program_that_lacks_nothing_is_never_said_not_to_exist() {
        let program = |interpreter: Option<&str>, interpreter_exists| ExecutedFile {
            form: FileForm::Elf,
            interpreter: interpreter.map(str::to_owned),
            interpreter_exists,
            ..ExecutedFile::default()
        };
        let loader = Some("/lib/ld.so");
        assert!(!program(loader, Some(true)).may_fail_with(libc::ENOENT));
        assert!(!program(None, None).may_fail_with(libc::ENOENT));
        assert!(program(loader, Some(true)).may_fail_with(libc::EACCES));
        assert!(program(loader, Some(false)).may_fail_with(libc::ENOENT));
        // Not looked for.
        assert!(program(loader, None).may_fail_with(libc::ENOENT));
        // What runs a script may lack something itself.
        let script = ExecutedFile {
            interpreter_exists: Some(true),
            ..inspect(b"#!/bin/sh\n")
        };
        assert!(script.may_fail_with(libc::ENOENT));
    }

    #[test]
    fn a_file_of_the_other_byte_order_is_read_in_its_own() {
        let mut head = [0; 64];
        head[..6].copy_from_slice(b"\x7fELF\x02\x02");
        head[19] = 22;
        assert_eq!(inspect(&head).machine.as_deref(), Some("s390x"));
    }

    #[test]
    fn other_files_are_told_apart() {
        assert_eq!(inspect(b"").form, FileForm::Empty);
        assert_eq!(inspect(b"echo hello\n").form, FileForm::Text);
        assert_eq!(inspect(b"MZ\x90\x00\x03").form, FileForm::Other);
        assert_eq!(inspect(b"\x7fELF").machine, None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_may_be_a_file(mut head: Vec<u8>, begins: u8) {
            let begin: &[u8] = match begins % 4 {
                0 => b"#!",
                1 => b"\x7fELF\x02\x01",
                2 => b"\x7fELF\x01\x02",
                _ => b"",
            };
            head.splice(0..0, begin.iter().copied());
            let _ = inspect(&head);
        }
    }
}
