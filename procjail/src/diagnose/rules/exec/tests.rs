//! Failed execs that no scenario plays, and what only looks like them.

use crate::diagnose::fixture::{Scene, fault, inside};
use crate::diagnose::{Confidence, Diagnosis, Rank};
use crate::event::{ExecutedFile, Syscall, inspect};

/// A child of a shell fails to execute, and returns that code.
fn shell(error: i32, file: Option<ExecutedFile>, code: i32) -> Vec<Diagnosis> {
    let (pid1, child) = (inside(1, "sh"), inside(2, "sh"));
    let mut scene = Scene::new(&["/bin/sh"]);
    scene
        .fork(1, &pid1, &child)
        .exec_failed(2, &child, "/app/start", error, file)
        .exit_to(3, &child, &pid1, code << 8)
        .reap(4, &pid1, &child)
        .end(5, &pid1, code << 8);
    scene.found()
}

#[test]
fn an_exec_that_failed_too_late_is_no_fault_of_the_program() {
    let (pid1, child) = (inside(1, "sh"), inside(2, "sh"));
    let scene = |error, call: Option<&str>| {
        let mut scene = Scene::new(&["/bin/sh"]);
        let mut fatal = fault(libc::SIGSEGV, libc::SI_KERNEL, &child, None);
        fatal.syscall = call.map(|name| Syscall {
            number: 59,
            name: name.into(),
        });
        scene
            .fork(1, &pid1, &child)
            .send(2, &child, fatal)
            .exec_failed(2, &child, "/app/huge", error, None)
            .exit_to(3, &child, &pid1, libc::SIGSEGV)
            .reap(4, &pid1, &child)
            .end(5, &pid1, 139 << 8);
        scene.ids()
    };
    let has = |ids: &[String], id: &str| ids.iter().any(|one| one == id);
    let late = scene(libc::ENOMEM, Some("execve"));
    assert!(has(&late, "exit-126-not-executable"), "{late:?}");
    assert!(!has(&late, "segv-fault"), "{late:?}");
    // A wild pointer right after a search that failed.
    let wild = scene(libc::ENOENT, None);
    assert!(has(&wild, "segv-fault"), "{wild:?}");
    assert!(!has(&wild, "exit-127-not-found"), "{wild:?}");
}

fn first(found: &[Diagnosis]) -> (&str, Confidence) {
    found.first().map_or(("", Confidence::Proven), |one| {
        (one.id.as_str(), one.confidence)
    })
}

fn file(head: &[u8], interpreter_exists: bool, executable: bool) -> Option<ExecutedFile> {
    Some(ExecutedFile {
        interpreter_exists: Some(interpreter_exists),
        executable: Some(executable),
        ..inspect(head)
    })
}

#[test]
fn what_is_in_the_file_decides() {
    let cases = [
        (
            libc::ENOENT,
            None,
            127,
            "exit-127-not-found",
            Confidence::Likely,
        ),
        (
            libc::ENOENT,
            file(b"#!/usr/bin/python3\n", false, true),
            127,
            "exec-interpreter-missing",
            Confidence::Proven,
        ),
        (
            libc::ENOEXEC,
            None,
            126,
            "exec-wrong-arch",
            Confidence::Likely,
        ),
        (
            libc::ENOEXEC,
            file(b"echo hello\n", false, true),
            126,
            "exit-126-not-executable",
            Confidence::Proven,
        ),
        (
            libc::EACCES,
            file(b"#!/bin/sh\n", true, true),
            126,
            "exit-126-not-executable",
            Confidence::Likely,
        ),
    ];
    for (error, file, code, id, confidence) in cases {
        let found = shell(error, file, code);
        assert_eq!(first(&found), (id, confidence));
        assert_eq!(found.len(), 1, "{found:?}");
    }
}

/// The beginning of an ELF file for that machine (`e_machine`).
fn elf(machine: u8) -> Vec<u8> {
    let mut head = vec![0; 64];
    head[..6].copy_from_slice(b"\x7fELF\x02\x01");
    head[18] = machine;
    head
}

#[test]
fn a_program_for_this_machine_that_is_no_program_is_damaged() {
    let no_exec = |head: &[u8]| shell(libc::ENOEXEC, file(head, true, true), 126);
    let (own, other) = (elf(62), elf(183));
    let found = no_exec(&own);
    assert_eq!(first(&found), ("exec-damaged", Confidence::Proven));
    // It may be an object file.
    assert_eq!(found.first().map(Diagnosis::sure), Some(Confidence::Likely));
    let cut_off = no_exec(&own[..12]);
    assert_eq!(first(&cut_off).0, "exec-damaged");
    assert_eq!(
        cut_off.first().map(Diagnosis::sure),
        Some(Confidence::Proven)
    );
    assert_eq!(first(&no_exec(&other)).0, "exec-wrong-arch");
    for found in [&found, &cut_off] {
        assert_eq!(found.len(), 1, "{found:?}");
    }
}

#[test]
fn a_search_through_path_is_no_failure() {
    let pid1 = inside(1, "sh");
    let child = inside(2, "sh");
    let mut scene = Scene::new(&["/bin/sh"]);
    scene
        .fork(1, &pid1, &child)
        .exec_failed(2, &child, "/usr/local/bin/tool", libc::ENOENT, None)
        .exec(3, &child, &["/usr/bin/tool"])
        .exit_to(9_000, &child, &pid1, 127 << 8)
        .reap(9_001, &pid1, &child)
        .end(9_002, &pid1, 127 << 8);
    assert!(!scene.ids().contains(&"exit-127-not-found".to_owned()));
}

#[test]
fn another_code_is_another_failure() {
    let found = shell(libc::ENOENT, None, 1);
    assert_eq!(first(&found).0, "exited-by-itself");
}

#[test]
fn a_jail_whose_program_never_ran_says_so() {
    let pid1 = inside(1, "procjail");
    let mut scene = Scene::bare();
    scene
        .exec_failed(0, &pid1, "./app", libc::ENOEXEC, None)
        .end(1, &pid1, 125 << 8);
    let found = scene.verdict("exec-wrong-arch");
    assert!(found.verdict().contains("the jail's program never ran"));
    assert_eq!(scene.ids().len(), 1);
}

#[test]
fn a_script_that_names_thousands_is_told_of_in_part() {
    let pid1 = inside(1, "sh");
    let mut scene = Scene::new(&["/bin/sh"]);
    for number in 2..102 {
        let (child, ms) = (inside(number, "sh"), u64::from(number) * 10);
        scene
            .fork(ms, &pid1, &child)
            .exec_failed(
                ms,
                &child,
                &format!("/nowhere/{number}"),
                libc::ENOENT,
                None,
            )
            .exit_to(ms + 1, &child, &pid1, 127 << 8)
            .reap(ms + 2, &pid1, &child);
    }
    scene.end(1_020, &pid1, 127 << 8);
    let found = scene.found();
    assert_eq!(found.len(), 9);
    // The one that PID 1 passed on is among them, and goes first.
    let first = found.first().map(Diagnosis::verdict);
    assert!(first.is_some_and(|verdict| verdict.contains("/nowhere/101")));
}

#[test]
fn an_optional_file_of_a_supervisor_is_a_note() {
    let (pid1, finish) = (inside(1, "runsv"), inside(2, "runsv"));
    let mut scene = Scene::new(&["/bin/runsv"]);
    scene
        .fork(1, &pid1, &finish)
        .exec_failed(2, &finish, "./finish", libc::ENOENT, None)
        .exit_to(3, &finish, &pid1, 127 << 8)
        .reap(4, &pid1, &finish)
        .end(5_000, &pid1, 0);
    assert_eq!(scene.verdict("exit-127-not-found").rank, Rank::Note);
    assert_eq!(
        scene.ids().first().map(String::as_str),
        Some("exited-by-itself")
    );
}

#[test]
fn what_was_not_looked_at_is_not_said_to_be_missing() {
    let verdict = |file| {
        shell(libc::ENOENT, file, 127)
            .first()
            .map_or(String::new(), Diagnosis::verdict)
    };
    for unknown in [
        None,
        Some(inspect(b"#!/app/run\n")),
        file(b"#!/app/run\n", true, true),
    ] {
        let text = verdict(unknown);
        assert!(
            text.contains("(ENOENT)") && !text.contains("not exist"),
            "{text}"
        );
    }
    assert!(verdict(file(b"#!/app/run\n", false, true)).contains("/app/run, does not exist here"));
}
