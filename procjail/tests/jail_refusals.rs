//! What can't be is said in one sentence, with the right exit code, and nothing is left behind.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::os::unix::process::CommandExt;

use common::{command, output, program_for_all, refused, root, run, text};

#[test]
fn an_app_that_cannot_be_executed_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let make = |name: &str, content: &str, mode: u32| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&path, mode).unwrap();
        text(path)
    };
    refused(
        ["--", "no-such-program"],
        127,
        &["\"no-such-program\" was not found", "PATH"],
    );
    refused(["--", "./no-such-program"], 127, &["was not found"]);
    refused(["--", ""], 127, &["was not found"]);
    refused(["--", "/"], 126, &["is a directory"]);
    refused(["--", "/dev/null"], 126, &["not a regular file"]);
    refused(
        ["--", &make("plain", "", 0o644)],
        126,
        &["EACCES", "chmod +x"],
    );
    refused(
        ["--", &make("garbage", "garbage", 0o755)],
        126,
        &["ENOEXEC"],
    );
    let script = make("script", "#!/no/interpreter -x\n", 0o755);
    refused(["--", &script], 126, &["its interpreter /no/interpreter"]);
    refused(
        ["--init", "--", &script],
        126,
        &["its interpreter /no/interpreter"],
    );
    // With a view of its own the jail looks for itself.
    refused(
        ["--tmpfs", "/mnt", "--", "no-such-program"],
        127,
        &["was not found"],
    );
    refused(["--tmpfs", "/mnt", "--", "/mnt"], 126, &["is a directory"]);
}

#[test]
fn a_missing_elf_loader_is_named() {
    let root = root();
    std::fs::copy(
        std::fs::canonicalize("/bin/ls").unwrap(),
        root.path().join("bin/dynamic"),
    )
    .unwrap();
    refused(
        ["--root", &text(root.path()), "--", "dynamic"],
        126,
        &["ELF loader", "ld-", "bind it"],
    );
}

#[test]
fn wrong_options_are_refused_by_the_command_line() {
    for args in [
        &["--memory", "0", "true"][..],
        &["--memory", "12X", "true"],
        &["--memory", "99999999999G", "true"],
        &["--pids", "0", "true"],
        &["--cpus", "0", "true"],
        &["--name", "../x", "true"],
        &["--name", "a\nb", "true"],
        &["--hostname", "a b", "true"],
        &["--bind", "/etc", "true"],
        &["--bind", "/etc:relative", "true"],
        &["--bind", "/etc:/mnt\n", "true"],
        &["--tmpfs", "/a/../b", "true"],
        &["--user", "root", "true"],
        &["--rlimit", "nofile=9:8", "true"],
        &["--rlimit", "files=8", "true"],
        &["--workdir", "/proc/self/fd/7", "true"],
        &["--env", "A", "true"],
        &["--stop-signal", "FOO", "true"],
        &["--stop-timeout", "10", "true"],
        &["--no-such-option", "true"],
        &[],
    ] {
        let (code, stdout, stderr) = run(args);
        assert_eq!((code, stdout.as_str()), (125, ""), "{args:?}: {stderr}");
        assert!(stderr.starts_with("error: "), "{args:?}: {stderr}");
    }
}

#[test]
fn what_the_host_does_not_have_is_refused_before_anything_is_created() {
    let file = tempfile::NamedTempFile::new().unwrap();
    refused(
        ["--root", "/no/such", "--", "true"],
        125,
        &["--root /no/such: ENOENT"],
    );
    refused(
        ["--root", &text(file.path()), "--", "true"],
        125,
        &["is not a directory"],
    );
    refused(
        ["--bind", "/no/such:/mnt", "--", "true"],
        125,
        &["--bind /no/such", "source", "ENOENT"],
    );
}

#[test]
fn a_failed_step_names_itself_and_the_remedy() {
    let root = root();
    let dir = text(root.path());
    refused(
        ["--workdir", "/no/such", "--", "/bin/true"],
        125,
        &["working directory to /no/such: ENOENT", "--workdir"],
    );
    refused(
        ["--rlimit", "nofile=9999999999", "--", "true"],
        125,
        &["nofile", "EPERM"],
    );
    refused(
        ["--root", &dir, "--bind", "/etc:/gone", "--", "sh"],
        125,
        &[
            "attach the clone at /gone",
            "ENOENT",
            &format!("mkdir -p {dir}/gone"),
        ],
    );
    refused(
        ["--root", &dir, "--bind", "/etc/passwd:/mnt", "--", "sh"],
        125,
        &["a file only on a file"],
    );
    refused(
        ["--root", &dir, "--tmpfs", "/gone", "--", "sh"],
        125,
        &[&format!("mkdir -p {dir}/gone")],
    );
    std::fs::remove_dir(root.path().join("proc")).unwrap();
    refused(
        ["--root", &dir, "--", "sh"],
        125,
        &["mount a new proc", &format!("mkdir -p {dir}/proc")],
    );
    assert!(!root.path().join("gone").exists());
}

#[test]
fn only_root_can_make_a_jail() {
    let dir = tempfile::tempdir().unwrap();
    let mut user = std::process::Command::new(program_for_all(dir.path()));
    user.args(["run", "--", "true"])
        .uid(65534)
        .gid(65534)
        .current_dir("/");
    let output = output(user);
    assert_eq!(output.status.code(), Some(125));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("need root (CAP_SYS_ADMIN)") && said.contains("sudo"),
        "{said}"
    );
}

#[test]
fn a_plan_is_printed_and_nothing_done() {
    let root = root();
    let output = output(command([
        "--plan",
        "--root",
        &text(root.path()),
        "--read-only",
        "--memory",
        "64M",
        "--init",
        "--user",
        "7",
        "--net",
        "none",
        "--name",
        "planned",
        "--",
        "no-such-program",
    ]));
    assert!(output.status.success());
    let plan = String::from_utf8(output.stdout).unwrap();
    let order = [
        "guard",
        "planned",
        "67108864",
        "clone PID 1",
        "private",
        "root",
        "read-only",
        "proc",
        "/dev",
        "pivot_root",
        "loopback",
        "gate",
        "cgroup namespace",
        "procjail-init",
        "user 7",
        "execute no-such-program",
    ];
    let mut rest = plan.as_str();
    for part in order {
        let at = rest
            .find(part)
            .unwrap_or_else(|| panic!("{part} is missing or misplaced in:\n{plan}"));
        rest = &rest[at..];
    }
    assert!(
        plan.lines()
            .all(|line| !line.is_empty() && line == line.trim_end())
    );
}

#[test]
fn a_closed_standard_error_changes_no_exit_code() {
    for (app, code) in [("true", 0), ("no-such-program", 127)] {
        let mut command = command(["--", app]);
        common::hostile(&mut command, || {
            // SAFETY: no pointer is passed.
            unsafe { libc::close(2) };
        });
        let status = command
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(code));
    }
}
