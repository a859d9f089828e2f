//! Programs that can't be executed.

use crate::lab::{Failure, Need, Scenario, Stage, elf};

const EXEC: Scenario = Scenario {
    program: "sh",
    ..Scenario::PLAIN
};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "exit-127-not-found",
        about: "a shell finds a program nowhere, and returns 127",
        app: &["search", "no-such-program"],
        never: &[
            "exit-126-not-executable",
            "exec-interpreter-missing",
            "exit-127-loader",
            "exit-own-code",
        ],
        ..EXEC
    },
    Scenario {
        id: "exit-126-not-executable",
        about: "a shell may not execute a file, and returns 126",
        app: &["execute", "{dir}/file"],
        outside: not_executable,
        never: &["exit-127-not-found", "exec-wrong-arch", "exit-own-code"],
        ..EXEC
    },
    Scenario {
        id: "exec-interpreter-missing",
        // What is in a file on another mount than the root is not looked at.
        needs: &[Need::Disk],
        about: "a script's interpreter is missing: its first line has a Windows line ending",
        app: &["execute", "{dir}/file"],
        outside: windows_script,
        never: &[
            "exit-127-not-found",
            "exec-wrong-arch",
            "exit-127-loader",
            "exit-own-code",
        ],
        ..EXEC
    },
    Scenario {
        id: "exec-wrong-arch",
        about: "a program was built for another machine",
        app: &["execute", "{dir}/file"],
        outside: foreign,
        never: &[
            "exit-126-not-executable",
            "exit-127-not-found",
            "exit-own-code",
        ],
        ..EXEC
    },
    Scenario {
        id: "exit-127-loader",
        about: "a program's shared library is missing",
        app: &["execute", "{dir}/file"],
        outside: without_library,
        never: &[
            "exit-127-not-found",
            "exec-interpreter-missing",
            "exit-own-code",
        ],
        ..EXEC
    },
];

fn with_file(stage: &mut Stage, content: &[u8], mode: u32) -> Result<(), Failure> {
    stage.make_file("file", content, mode)?;
    stage.start()?;
    stage.wait().map(drop)
}

fn not_executable(stage: &mut Stage) -> Result<(), Failure> {
    with_file(stage, b"#!/bin/sh\n", 0o644)
}

fn windows_script(stage: &mut Stage) -> Result<(), Failure> {
    with_file(stage, b"#!/bin/sh\r\necho hello\r\n", 0o755)
}

fn foreign(stage: &mut Stage) -> Result<(), Failure> {
    with_file(stage, &elf::foreign(), 0o755)
}

fn without_library(stage: &mut Stage) -> Result<(), Failure> {
    let loader = elf::loader()
        .ok_or_else(|| Failure::Needs("a loader of dynamically linked programs".to_owned()))?;
    with_file(
        stage,
        &elf::dynamic(loader, "libno-such-library.so.1"),
        0o755,
    )
}
