//! The words for a failed exec.

use super::{Failure, Kind, has_header};
use crate::diagnose::{Case, program_of};
use crate::event::{ExecutedFile, FileForm};
use crate::text;

/// The words for a failure.
pub(super) struct Said {
    pub verdict: String,
    pub fix: String,
    pub facts: Vec<String>,
    pub proven: bool,
}

pub(super) fn say(case: &Case, failure: &Failure<'_>, who: &str, returned: &str) -> Said {
    let path = text::escape(&failure.failed.filename);
    let file = failure.failed.file.as_ref();
    match failure.kind {
        Kind::NotFound => not_found(failure, &path, who, returned),
        Kind::Interpreter => interpreter(file, &path, who, returned),
        Kind::WrongMachine => wrong_machine(case, file, &path, who, returned),
        Kind::Damaged => no_image(case, file, &path, who, returned),
        Kind::NotExecutable => not_executable(case, failure, &path, who, returned),
    }
}

fn not_found(failure: &Failure<'_>, path: &str, who: &str, returned: &str) -> Said {
    let name = program_of(path);
    let verdict = match failure.tried {
        1 => format!(
            "{who} could not execute {path}: the kernel found no such file, or no interpreter or loader for it \
             (ENOENT); {returned}."
        ),
        count => format!(
            "{who} could not execute {name}: it is in none of the {} places tried (PATH); {returned}.",
            text::count(count as u64)
        ),
    };
    Said {
        verdict,
        fix: "Check the spelling, whether the package is in this image, and PATH. If the file is there, what \
              shall run it is not: the interpreter of its first line (see head -1, and look for a carriage \
              return at its end), or the loader that it was linked for (see file)."
            .to_owned(),
        facts: Vec::new(),
        // The kernel says the same of a file whose interpreter is missing.
        proven: failure.tried > 1,
    }
}

fn interpreter(file: Option<&ExecutedFile>, path: &str, who: &str, returned: &str) -> Said {
    let name = file
        .and_then(|file| file.interpreter.as_deref())
        .map_or_else(|| "its interpreter".to_owned(), text::escape);
    let returns = file.is_some_and(|file| file.carriage_return);
    let elf = file.is_some_and(|file| file.form == FileForm::Elf);
    let missing = file.and_then(|file| file.interpreter_exists) == Some(false);
    let lacks = match (missing, elf) {
        (true, true) => format!("its loader {name} does not exist here"),
        (true, false) => format!("the interpreter of its first line, {name}, does not exist here"),
        (false, _) => format!(
            "the kernel found no interpreter or loader for it (ENOENT): {name}, or what {name} needs itself"
        ),
    };
    let mut facts = vec![format!("{path} itself is there")];
    if missing && !returns {
        facts.push(format!("{name} does not exist in the jail"));
    }
    let (verdict, fix) = if returns {
        facts.push("its first line ends in a carriage return".to_owned());
        (
            format!(
                "{who} could not execute {path}: the file has Windows line endings, so the kernel looked for an \
                 interpreter called \"{name}\\r\"; {returned}."
            ),
            "Convert the file to Unix line endings (sed -i 's/\\r$//', dos2unix), and keep them so in git \
             (*.sh text eol=lf in .gitattributes)."
                .to_owned(),
        )
    } else if elf {
        (
            format!(
                "{who} could not execute {path}: it is a dynamically linked program, and {lacks}; {returned}."
            ),
            format!(
                "Use a build for this image's C library (glibc's loader is not in musl images such as Alpine, \
                 and the other way round), a static one, or install what has {name}."
            ),
        )
    } else {
        (
            format!("{who} could not execute {path}: {lacks}; {returned}."),
            format!(
                "Install {name} in the image, or name one that is there (#!/usr/bin/env finds it by PATH)."
            ),
        )
    };
    Said {
        verdict,
        fix,
        facts,
        proven: missing || returns,
    }
}

fn wrong_machine(
    case: &Case,
    file: Option<&ExecutedFile>,
    path: &str,
    who: &str,
    returned: &str,
) -> Said {
    let host = &case.header.host.architecture;
    let machine = file.and_then(|file| file.machine.as_ref());
    let (why, proven) = match machine {
        Some(machine) if machine != host => (
            format!(
                "it was built for {}, and this machine is {}",
                text::escape(machine),
                text::escape(host)
            ),
            true,
        ),
        _ => (
            format!(
                "it is neither a program for this machine ({}) nor a script with #! in its first line",
                text::escape(host)
            ),
            false,
        ),
    };
    Said {
        verdict: format!("{who} could not execute {path}: {why}; {returned}."),
        fix: "Use an image or a build for this machine (docker build --platform, the right package), or \
              install an emulator for it (binfmt_misc with qemu-user)."
            .to_owned(),
        facts: machine
            .map(|machine| format!("the file says that it is for {}", text::escape(machine)))
            .into_iter()
            .collect(),
        proven,
    }
}

fn no_image(
    case: &Case,
    file: Option<&ExecutedFile>,
    path: &str,
    who: &str,
    returned: &str,
) -> Said {
    let host = text::escape(&case.header.host.architecture);
    let why = match has_header(file) {
        true => format!(
            "it is an ELF file for this machine ({host}) that the kernel can't execute (ENOEXEC)"
        ),
        false => "it begins as an ELF file and ends before its header does (ENOEXEC)".to_owned(),
    };
    Said {
        verdict: format!("{who} could not execute {path}: {why}; {returned}."),
        fix: "Compare the file with its original (sha256sum; readelf -h and file show what is wrong with it), and copy, \
              download or build it again; a full disk or an interrupted copy cuts files off."
            .to_owned(),
        facts: Vec::new(),
        proven: true,
    }
}

fn not_executable(
    case: &Case,
    failure: &Failure<'_>,
    path: &str,
    who: &str,
    returned: &str,
) -> Said {
    let file = failure.failed.file.as_ref();
    let denied = failure.failed.error.number == libc::EACCES;
    let executable = file.and_then(|file| file.executable);
    let form = file.map(|file| file.form);
    let (why, fix, proven) = match (failure.failed.error.number, executable, form) {
        (libc::EACCES, Some(false), _) => (
            "it has no execute permission".to_owned(),
            "chmod +x the file, in the image or in git (git update-index --chmod=+x).",
            true,
        ),
        (libc::EACCES, Some(true), _) => (
            "it has execute permission, so its mount forbids it (noexec), or its interpreter may not be executed, \
             or a security module refuses"
                .to_owned(),
            "Look at the mount's options (findmnt -T) and at the permissions of the interpreter in its first line.",
            false,
        ),
        (libc::EACCES, None, _) => (
            "it may not be executed (no execute permission, a directory, or a mount with noexec)".to_owned(),
            "Look at the permissions of the file and of its directories (namei -l), and at the mount's options \
             (findmnt -T).",
            true,
        ),
        (libc::ENOEXEC, _, Some(FileForm::Empty)) => (
            "it is empty".to_owned(),
            "The file was not written whole: copy it again.",
            true,
        ),
        (libc::ENOEXEC, _, _) => (
            "it is neither a program nor a script with #! in its first line".to_owned(),
            "Put #!/bin/sh (or another interpreter) into the first line; only shells run a file without it.",
            true,
        ),
        _ => (
            format!("the kernel said {}", case.error(&failure.failed.error)),
            "See execve(2) for what this error means for the file or its arguments.",
            true,
        ),
    };
    let facts = match (denied, executable) {
        (true, Some(true)) => vec!["the file has execute permission".to_owned()],
        _ => Vec::new(),
    };
    Said {
        verdict: format!("{who} could not execute {path}: {why}; {returned}."),
        fix: fix.to_owned(),
        facts,
        proven,
    }
}
