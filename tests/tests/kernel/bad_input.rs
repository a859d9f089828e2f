//! Bad input: one sentence that names what was wrong, the right exit code, nothing left behind.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use procjail_tests::{Scene, misbehave, procjail, scene};

fn refused(options: &[&str], code: i32, words: &[&str]) {
    scene(|scene| {
        for command in ["run", "trace"] {
            let finished = scene
                .procjail(&[command])
                .args(options)
                .args(&["--", "/bin/echo", "it runs"])
                .finish()
                .expect_refusal(code, words);
            assert!(
                !finished.stdout.contains("it runs"),
                "{options:?} must not run the app"
            );
        }
    });
}

#[test]
fn unknown_option() {
    refused(&["--no-such-option"], 125, &["--no-such-option"]);
}

#[test]
fn zero_memory() {
    refused(&["--memory", "0"], 125, &["--memory", "0"]);
}

#[test]
fn memory_with_an_unknown_unit() {
    refused(&["--memory", "12X"], 125, &["12X"]);
}

#[test]
fn name_that_is_a_path() {
    refused(&["--name", "../x"], 125, &["../x"]);
}

#[test]
fn root_missing() {
    refused(
        &["--root", "/nonexistent/root"],
        125,
        &["/nonexistent/root", "ENOENT"],
    );
}

#[test]
fn root_not_a_directory() {
    refused(
        &["--root", "/etc/passwd"],
        125,
        &["/etc/passwd", "directory"],
    );
}

#[test]
fn bind_of_a_missing_source() {
    refused(
        &["--bind", "/nonexistent/source:/mnt"],
        125,
        &["/nonexistent/source", "ENOENT"],
    );
}

#[test]
fn app_not_given() {
    scene(|scene| {
        for command in ["run", "trace"] {
            scene
                .procjail(&[command])
                .finish()
                .expect_refusal(125, &["APP"]);
        }
    });
}

#[test]
fn app_missing() {
    scene(|scene| {
        for command in ["run", "trace"] {
            for app in ["/nonexistent/app", "nonexistent-app"] {
                scene
                    .procjail(&[command, "--", app])
                    .finish()
                    .expect_refusal(127, &[app, "not found"]);
            }
        }
    });
}

#[test]
fn app_not_executable() {
    scene(|scene| {
        let file = scene.path("plain").display().to_string();
        std::fs::write(&file, "no program").expect("a file");
        for command in ["run", "trace"] {
            scene
                .procjail(&[command, "--", &file])
                .finish()
                .expect_refusal(126, &[&file, "EACCES"]);
            scene
                .procjail(&[command, "--", "/tmp"])
                .finish()
                .expect_refusal(126, &["/tmp"]);
        }
        // Executable, but of no format that the kernel knows.
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("permissions");
        scene
            .procjail(&["run", "--", &file])
            .finish()
            .expect_refusal(126, &[&file, "ENOEXEC"]);
    });
}

/// Options, program; path that failed, exit code, error, and a word of the remedy.
type SetUp<'a> = (&'a [&'a str], &'a str, &'a str, u8, &'a str, &'a str);

/// What can only fail inside: the trace says which step, on what and why, and its verdict what to do.
#[test]
fn a_set_up_that_fails_is_in_the_trace() {
    scene(|scene| {
        let root = scene.path("root");
        std::fs::create_dir_all(root.join("dev")).expect("a root");
        let root = root.display().to_string();
        let closed = scene.path("closed");
        std::fs::create_dir(&closed).expect("a directory");
        std::fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .expect("permissions");
        let closed = closed.display().to_string();
        let cases: [SetUp<'_>; 4] = [
            (
                &["--workdir", "/nodir"],
                "/bin/true",
                "/nodir",
                125,
                "ENOENT",
                "--workdir",
            ),
            (
                &["--user", "65534", "--workdir", &closed],
                "/bin/true",
                &closed,
                125,
                "EACCES",
                "--workdir",
            ),
            (
                &["--root", &root],
                "/bin/true",
                "/proc",
                125,
                "ENOENT",
                "mkdir -p",
            ),
            (
                &["--workdir", "/"],
                "/nosuch",
                "/nosuch",
                127,
                "ENOENT",
                "exists",
            ),
        ];
        for (options, app, path, code, error, remedy) in cases {
            let finished = scene
                .trace(options, &[app])
                .finish()
                .expect_refusal(code.into(), &[path]);
            let trace = finished.trace();
            let failures = trace.setup_failures();
            let [(_, failed)] = failures.as_slice() else {
                panic!("one failure: {failures:#?}");
            };
            assert_eq!(failed.path.as_deref(), Some(path));
            assert_eq!(
                failed.error.as_ref().map(|error| error.name.as_str()),
                Some(error)
            );
            assert!(failed.remedy.contains(remedy), "{failed:#?}");
            let verdicts: Vec<&str> = finished
                .stderr
                .lines()
                .filter(|line| line.ends_with("(proven)"))
                .collect();
            assert_eq!(verdicts, ["setup-failed  (proven)"]);
        }
    });
}

/// From a limit that is refused to one under which the exec itself is killed: always soon, always in
/// words that name memory, never as if the app had run.
#[test]
fn memory_below_what_exec_needs() {
    for limit in ["4096", "32K", "64K", "128K"] {
        scene(|scene| {
            let finished = scene
                .trace(&["--memory", limit], &["/bin/echo", "it runs"])
                .finish();
            assert!(
                matches!(finished.code, Some(125 | 137)),
                "{limit}: {:?}: {}{}",
                finished.code,
                finished.stdout,
                finished.stderr
            );
            assert!(!finished.stdout.contains("it runs"), "{limit}");
            let words = finished.stderr.to_lowercase();
            assert!(words.contains("memory"), "{limit}: {words}");
            assert!(!words.contains("panicked"), "{limit}: {words}");
        });
    }
}

#[test]
fn trace_file_in_a_missing_place() {
    scene(|scene| {
        scene
            .procjail(&[
                "trace",
                "-o",
                "/nonexistent/trace.jsonl",
                "--",
                "/bin/echo",
                "it runs",
            ])
            .finish()
            .expect_refusal(125, &["/nonexistent/trace.jsonl", "ENOENT"]);
    });
}

/// A tmpfs of the test's own.
pub struct SmallDisk(pub std::path::PathBuf);

impl SmallDisk {
    fn new(scene: &Scene, flags: libc::c_ulong) -> SmallDisk {
        SmallDisk::of_size(scene, flags, c"size=4k")
    }

    pub fn of_size(scene: &Scene, flags: libc::c_ulong, size: &std::ffi::CStr) -> SmallDisk {
        let path = scene.path("disk");
        std::fs::create_dir(&path).expect("a directory");
        let target = std::ffi::CString::new(path.display().to_string()).expect("a path");
        // SAFETY: all strings are NUL-terminated and live across the call.
        let result = unsafe {
            libc::mount(
                c"small".as_ptr(),
                target.as_ptr(),
                c"tmpfs".as_ptr(),
                flags,
                size.as_ptr().cast(),
            )
        };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        SmallDisk(path)
    }

    fn trace_to_it(&self, scene: &Scene) -> procjail_tests::Finished {
        let file = self.0.join("trace.jsonl").display().to_string();
        scene
            .procjail(&["trace", "-o", &file, "--", "/bin/echo", "it runs"])
            .finish()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let target = std::ffi::CString::new(self.0.display().to_string()).expect("a path");
        // SAFETY: the string is NUL-terminated and lives across the call.
        unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
    }
}

#[test]
fn trace_file_on_a_read_only_disk() {
    scene(|scene| {
        let disk = SmallDisk::new(scene, libc::MS_RDONLY);
        disk.trace_to_it(scene)
            .expect_refusal(125, &["trace.jsonl", "EROFS"]);
    });
}

/// Full before the start: said at once, and APP doesn't run. Full during the run: the run goes on, and
/// the loss of the trace is told at the end.
#[test]
fn trace_file_on_a_full_disk() {
    scene(|scene| {
        let disk = SmallDisk::new(scene, 0);
        std::fs::write(disk.0.join("filler"), [0_u8; 4096]).expect("the disk holds one page");
        let finished = disk
            .trace_to_it(scene)
            .expect_refusal(125, &["trace.jsonl", "ENOSPC"]);
        assert!(!finished.stdout.contains("it runs"));
    });
}

#[test]
fn trace_file_on_a_disk_that_fills_up() {
    scene(|scene| {
        let disk = SmallDisk::new(scene, 0);
        let file = disk.0.join("trace.jsonl").display().to_string();
        let finished = scene
            .procjail(&[
                "trace",
                "--quiet",
                "-o",
                &file,
                "--",
                "/bin/sh",
                "-c",
                "for i in $(seq 200); do /bin/true; done; echo done",
            ])
            .finish();
        assert_eq!(
            finished.stdout, "done\n",
            "the run is not lost: {}",
            finished.stderr
        );
        assert!(finished.stderr.contains("ENOSPC"), "{}", finished.stderr);
    });
}

/// Runs procjail as another user, from a place that this user can read.
fn as_nobody(scene: &Scene, arguments: &[&str]) -> std::process::Output {
    use std::os::unix::fs::PermissionsExt;
    let program = scene.path("procjail");
    std::fs::copy(procjail(), &program).expect("a copy");
    for path in [program.as_path(), scene.directory()] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
            .expect("permissions");
    }
    Command::new(program)
        .args(arguments)
        .current_dir("/")
        .uid(65534)
        .gid(65534)
        .stdin(Stdio::null())
        .output()
        .expect("procjail can be started")
}

#[test]
fn not_root() {
    scene(|scene| {
        for command in ["run", "trace"] {
            let output = as_nobody(scene, &[command, "--", "/bin/true"]);
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(125), "{stderr}");
            assert!(stderr.contains("root"), "it tells the remedy: {stderr}");
            assert!(!stderr.contains("panicked"), "{stderr}");
        }
        let output = as_nobody(scene, &["check"]);
        assert_eq!(
            output.status.code(),
            Some(1),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
    });
}

#[test]
fn without_the_capability_for_bpf() {
    scene(|scene| {
        // CAP_SYS_ADMIN implies CAP_BPF and CAP_PERFMON, so it goes too, and is missed first.
        const CAPABILITIES: [libc::c_int; 3] = [21, 38, 39];
        let without = || {
            for capability in CAPABILITIES {
                // SAFETY: prctl with these arguments touches no memory of ours.
                if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } != 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        };
        let invocation = scene.procjail(&["trace", "--", "/bin/echo", "it runs"]);
        // SAFETY: prctl is async-signal-safe.
        let finished = unsafe { invocation.before_exec(without) }.finish();
        finished.expect_refusal(125, &["CAP_SYS_ADMIN"]);
    });
}

/// bpf(2) refused by a seccomp filter, as container engines do; everything else is allowed.
#[test]
fn bpf_refused_by_seccomp() {
    scene(|scene| {
        // SAFETY: prctl is async-signal-safe; the filter lives on the child's stack.
        let filtered =
            |invocation: procjail_tests::Invocation| unsafe { invocation.before_exec(refuse_bpf) };
        let finished = filtered(scene.procjail(&["trace", "--", "/bin/echo", "it runs"])).finish();
        let finished = finished.expect_refusal(125, &["bpf", "EPERM"]);
        assert!(!finished.stdout.contains("it runs"));
        filtered(scene.procjail(&["check"])).finish().expect_code(1);
        // `run` needs no BPF.
        filtered(scene.procjail(&["run", "--", "/bin/true"]))
            .finish()
            .expect_code(0);
    });
}

fn refuse_bpf() -> std::io::Result<()> {
    const LOAD_NUMBER: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const JUMP_IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut steps = [
        step(LOAD_NUMBER, 0, 0, 0),
        step(JUMP_IF_EQUAL, 0, 1, libc::SYS_bpf as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: steps.len() as u16,
        filter: steps.as_mut_ptr(),
    };
    // SAFETY: the program and its steps live across the call.
    let result = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &program as *const _,
            0,
            0,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

/// Raw tracepoints need no tracefs: tracing works in a mount namespace without it.
#[test]
fn tracefs_is_not_needed() {
    scene(|scene| {
        let program = procjail().display().to_string();
        let file = scene.path("trace.jsonl");
        let script = format!(
            "umount -l /sys/kernel/tracing 2>/dev/null; umount -l /sys/kernel/debug 2>/dev/null; \
             exec {program} trace --quiet -o {} -- /bin/true",
            file.display()
        );
        procjail_tests::Invocation::new("/usr/bin/unshare".into(), scene.directory())
            .args(&["--mount", "/bin/sh", "-c", &script])
            .finish()
            .expect_code(0);
        let trace = procjail_tests::read_trace(&file);
        trace.expect_complete();
        assert_eq!(trace.exit_of(1).1.status.code, Some(0));
    });
}

#[test]
fn files_that_are_no_trace() {
    scene(|scene| {
        let show = |name: &str, content: &[u8]| {
            let file = scene.path(name);
            std::fs::write(&file, content).expect("a file");
            let file = file.display().to_string();
            let finished = scene.procjail(&["show", &file]).finish();
            assert!(
                !finished.stderr.contains("panicked"),
                "{name}: {}",
                finished.stderr
            );
            finished
        };
        show("empty", b"").expect_refusal(125, &["empty"]);
        show("foreign", b"{\"hello\":1}\n").expect_refusal(125, &["foreign"]);
        show("binary", b"\x7fELF\x02\x01\x01\0\0\xff\xfe").expect_refusal(125, &["binary"]);
        show("newer", b"{\"format\":\"procjail-trace\",\"version\":99}\n")
            .expect_refusal(125, &["newer", "99"]);
        scene
            .procjail(&["show", "/nonexistent"])
            .finish()
            .expect_refusal(125, &["/nonexistent"]);
    });
}

/// A trace cut at any byte is shown up to its last whole line, or refused in words.
#[test]
fn a_truncated_trace_is_shown_as_far_as_it_goes() {
    scene(|scene| {
        scene
            .trace(&[], &[&misbehave(), "zombies", "3"])
            .finish()
            .expect_code(0);
        let whole = std::fs::read(scene.path("trace.jsonl")).expect("the trace");
        let header = whole
            .iter()
            .position(|&byte| byte == b'\n')
            .expect("a header")
            + 1;
        let file = scene.path("cut.jsonl");
        let name = file.display().to_string();
        for part in 0..=20 {
            // The last byte is the end of a line, which a whole last line may lack.
            let length = header + (whole.len() - 2 - header) * part / 20;
            std::fs::write(&file, &whole[..length]).expect("a file");
            let finished = scene.procjail(&["show", &name]).finish().expect_code(0);
            let text = format!("{}{}", finished.stdout, finished.stderr);
            assert!(
                !text.contains("trace complete"),
                "{length} bytes of {}: {text}",
                whole.len()
            );
            assert!(!text.contains("panicked"), "{text}");
        }
    });
}

#[test]
fn stderr_closed() {
    scene(|scene| {
        // SAFETY: close is async-signal-safe.
        let closed = |invocation: procjail_tests::Invocation| unsafe {
            invocation.before_exec(|| {
                libc::close(2);
                Ok(())
            })
        };
        closed(scene.trace(&[], &[&misbehave(), "exit", "7"]))
            .finish()
            .expect_code(7)
            .trace();
        closed(scene.run(&[], &[&misbehave(), "exit", "7"]))
            .finish()
            .expect_code(7);
    });
}

/// A reader that goes away is no failure: APP runs to its end and the exit code is its own.
#[test]
fn broken_pipe() {
    scene(|scene| {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        scene
            .trace(&[], &[&misbehave(), "zombies", "3"])
            .stderr(writer)
            .finish()
            .expect_code(0)
            .trace()
            .expect_complete();
        let file = scene.path("trace.jsonl").display().to_string();
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        scene
            .procjail(&["show", &file])
            .stdout(writer)
            .finish()
            .expect_code(0);
    });
}
