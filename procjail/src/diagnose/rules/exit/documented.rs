//! Exit codes that a program's manual gives a meaning, for programs that say nothing else.
//!
//! Only codes of failures: that grep found nothing, or diff a difference, is an answer. A code is never proof of its
//! meaning: what a program runs may have chosen it.

use crate::diagnose::{Case, ProcessId, program_of};

/// What a program's manual says of a code.
struct Manual {
    programs: &'static [&'static str],
    codes: &'static [(i32, &'static str)],
}

const MANUALS: &[Manual] = &[
    Manual {
        programs: &["node", "nodejs"],
        codes: &[
            (3, "an error in parsing node's own JavaScript"),
            (4, "an error in evaluating node's own JavaScript"),
            (5, "a fatal error in V8"),
            (6, "a handler of uncaught exceptions that is no function"),
            (
                7,
                "an error that the handler of uncaught exceptions itself threw",
            ),
            (9, "an invalid option, or one without its value"),
            (10, "an error in starting node's own JavaScript"),
            (12, "an invalid --inspect or --debug option"),
            (
                13,
                "an unsettled top-level await: a module waits for a promise, and nothing is left to do that could \
                 settle it",
            ),
            (14, "an error in building a snapshot"),
        ],
    },
    Manual {
        programs: &["wget"],
        codes: &[
            (
                2,
                "an option or a configuration file that it could not parse",
            ),
            (3, "an error in reading or writing a file"),
            (4, "a failure of the network"),
            (5, "a certificate that it could not verify"),
            (6, "a user name or password that was not accepted"),
            (7, "an error in the protocol"),
            (8, "an error response of the server, such as 404"),
        ],
    },
    Manual {
        programs: &["curl"],
        codes: &[
            (3, "a malformed URL"),
            (5, "a proxy whose name it could not resolve"),
            (6, "a host whose name it could not resolve"),
            (7, "a host that it could not connect to"),
            (22, "an HTTP status of 400 or above (--fail)"),
            (23, "an error in writing what it received"),
            (26, "an error in reading what it was to send"),
            (28, "a timeout"),
            (35, "a TLS handshake that failed"),
            (47, "too many redirects"),
            (52, "a server that sent nothing"),
            (55, "an error in sending"),
            (56, "an error in receiving"),
            (60, "a certificate that it could not verify"),
            (67, "a user name or password that was not accepted"),
            (78, "a file that the server does not have"),
        ],
    },
    Manual {
        programs: &["rsync"],
        codes: &[
            (1, "a syntax or usage error"),
            (2, "another protocol version at the other end"),
            (3, "files or directories that it could not select"),
            (
                5,
                "an error in starting the protocol between client and server",
            ),
            (10, "an error in socket I/O"),
            (11, "an error in file I/O"),
            (
                12,
                "an error in the data stream of its protocol: the other end stopped",
            ),
            (14, "an error in IPC code"),
            (22, "an error in allocating memory"),
            (23, "a transfer of a part only, due to an error"),
            (24, "a transfer of a part only, as source files vanished"),
            (30, "a timeout in sending or receiving"),
            (35, "a timeout in waiting for the daemon to answer"),
        ],
    },
    Manual {
        programs: &["ssh"],
        codes: &[(
            255,
            "an error of its own, such as a connection that failed or was lost; other codes are those of the remote \
             command",
        )],
    },
    Manual {
        programs: &["psql"],
        codes: &[
            (1, "a fatal error of its own"),
            (2, "a connection to the server that went bad"),
            (3, "an error in a script (ON_ERROR_STOP)"),
        ],
    },
    Manual {
        programs: &["php"],
        codes: &[(
            255,
            "a fatal error, of which php writes where display_errors and error_log say",
        )],
    },
    Manual {
        programs: &["grep", "egrep", "fgrep", "diff", "cmp"],
        codes: &[(2, "an error, such as a file that it could not read")],
    },
    Manual {
        programs: &["xargs"],
        codes: &[
            (123, "a command that failed (with 1 to 125)"),
            (124, "a command that returned 255"),
            (125, "a command that was killed by a signal"),
        ],
    },
    Manual {
        programs: &["timeout", "env", "chroot", "nice", "nohup", "stdbuf"],
        codes: &[(125, "a failure of its own, before it ran the command")],
    },
    Manual {
        programs: &["pytest", "py.test"],
        codes: &[
            (1, "tests that failed"),
            (2, "an interruption by the user"),
            (3, "an internal error"),
            (4, "a usage error"),
            (5, "that it found no tests"),
        ],
    },
    Manual {
        programs: &["mount", "umount"],
        codes: &[
            (1, "an incorrect invocation or permissions"),
            (2, "a system error"),
            (32, "a mount or an unmount that failed"),
        ],
    },
];

/// Codes of sysexits.h(3head), which mail programs, Python's os.EX_* and others use.
const SYSEXITS: &[(i32, &str)] = &[
    (64, "EX_USAGE, a usage error"),
    (65, "EX_DATAERR, input data that are incorrect"),
    (
        66,
        "EX_NOINPUT, an input file that is not there or not readable",
    ),
    (67, "EX_NOUSER, a user that does not exist"),
    (68, "EX_NOHOST, a host that does not exist"),
    (69, "EX_UNAVAILABLE, a service that is not available"),
    (70, "EX_SOFTWARE, an internal software error"),
    (71, "EX_OSERR, an error of the operating system"),
    (72, "EX_OSFILE, a system file that is missing or wrong"),
    (73, "EX_CANTCREAT, an output file that could not be created"),
    (74, "EX_IOERR, an error in input or output"),
    (75, "EX_TEMPFAIL, a temporary failure: try again later"),
    (76, "EX_PROTOCOL, an error in a protocol"),
    (77, "EX_NOPERM, a permission that is missing"),
    (78, "EX_CONFIG, an error in the configuration"),
];

/// Their codes are those of the scripts that they run.
const SHELLS: &[&str] = &[
    "sh", "bash", "dash", "ash", "busybox", "zsh", "ksh", "mksh", "fish",
];

/// What a manual says of the code that a process returned, in words: `node documents 13 as an unsettled …`.
pub(super) fn words(case: &Case, id: ProcessId) -> Option<String> {
    let code = case.status(id)?.code?;
    let (_, exec) = case.execs(id).next_back()?;
    let program = program_of(&exec.filename);
    // php8.2, python3.11
    let program = program.trim_end_matches(|char: char| char.is_ascii_digit() || char == '.');
    let find = |codes: &[(i32, &'static str)]| {
        codes
            .iter()
            .find(|(of, _)| *of == code)
            .map(|(_, means)| *means)
    };
    match MANUALS
        .iter()
        .find(|manual| manual.programs.contains(&program))
    {
        Some(manual) => Some(format!(
            "{program} documents {code} as {}.",
            find(manual.codes)?
        )),
        None if SHELLS.contains(&program) => None,
        None => Some(format!("sysexits.h has {code} as {}.", find(SYSEXITS)?)),
    }
}

#[cfg(test)]
mod tests {
    use crate::diagnose::Confidence;
    use crate::diagnose::fixture::{Scene, failed_call, inside, oom_kill};
    use crate::event::What;

    /// PID 1 executes that and returns a code.
    fn returned(argv: &[&str], code: i32) -> Scene {
        let mut scene = Scene::new(argv);
        scene.end(30, inside(1, "app"), code << 8);
        scene
    }

    /// The cause of the code, if there is one.
    fn cause(scene: &Scene) -> Option<String> {
        let found = scene
            .found()
            .into_iter()
            .find(|one| one.id == "exit-own-code")?;
        assert_eq!(found.sure(), Confidence::ConsistentWith, "{found:#?}");
        Some(found.cause.map_or(String::new(), |cause| cause.sentence()))
    }

    #[test]
    fn what_the_manual_says_is_told_where_nothing_else_is() {
        for (argv, code, says) in [
            (
                ["/usr/bin/node", "main.mjs"],
                13,
                "node documents 13 as an unsettled top-level await",
            ),
            (
                ["/usr/bin/php8.2", "x.php"],
                255,
                "php documents 255 as a fatal error",
            ),
            (
                ["/usr/sbin/sendmail", "x"],
                75,
                "sysexits.h has 75 as EX_TEMPFAIL",
            ),
        ] {
            let told = cause(&returned(&argv, code)).unwrap_or_default();
            assert!(
                told.contains(says) && told.contains("Could also be"),
                "{told}"
            );
        }
    }

    #[test]
    fn a_code_without_a_meaning_stands_alone() {
        for (argv, code) in [
            (["/bin/sh", "-c"], 13),
            (["/bin/sh", "-c"], 75),
            (["/usr/bin/app", "x"], 13),
            (["/usr/bin/node", "x"], 75),
            (["/usr/bin/grep", "x"], 1),
        ] {
            let scene = returned(&argv, code);
            assert_eq!(cause(&scene), None);
            assert_eq!(scene.expect("exited-by-itself").0, Confidence::Proven);
        }
    }

    #[test]
    fn it_is_that_of_the_process_that_returned_it_first() {
        let (shell, wget) = (inside(1, "sh"), inside(2, "wget"));
        let scene = |code: i32| {
            let mut scene = Scene::new(&["/bin/sh"]);
            scene
                .fork(1, &shell, &wget)
                .exec(2, &wget, &["/usr/bin/wget"])
                .exit_to(20, &wget, &shell, 0x800)
                .reap(20, &shell, &wget)
                .end(21, &shell, code << 8);
            scene
        };
        let told = cause(&scene(8)).unwrap_or_default();
        assert!(
            told.contains("Its child wget (PID 2) had exited with 8"),
            "{told}"
        );
        assert!(told.contains("wget documents 8"), "{told}");
        // The script made another one of it.
        assert_eq!(cause(&scene(1)), None);
    }

    #[test]
    fn a_better_witness_goes_before_the_manual() {
        let app = inside(1, "app");
        let mut said = returned(&["/usr/bin/node"], 9);
        said.stderr(30, &app, "node: bad option: --nosuch\nerror: x\n");
        let mut failed = returned(&["/usr/bin/curl"], 7);
        let refused = failed_call("connect", libc::ECONNREFUSED, None, &[3]);
        failed.failed_calls(30, &app, vec![refused]);
        for scene in [said, failed] {
            let found = scene.verdict("exit-own-code");
            assert!(!found.verdict().contains("documents"), "{found:#?}");
        }
        let mut other = returned(&["/usr/bin/ssh"], 255);
        other.stderr(30, &app, "Bad owner or permissions on /root/.ssh/config\n");
        assert_eq!(other.expect("exit-own-code").0, Confidence::Proven);
        // It goes on after a warning.
        let mut warned = returned(&["/usr/bin/node"], 13);
        warned.stderr(30, &app, "Warning: something is experimental\n");
        assert!(cause(&warned).is_some_and(|told| told.contains("node documents 13")));
    }

    #[test]
    fn an_oom_kill_explains_more_than_a_manual() {
        let (shell, worker) = (inside(1, "rsync"), inside(2, "worker"));
        let mut scene = returned(&["/usr/bin/rsync"], 12);
        scene
            .fork(1, &shell, &worker)
            .at(10, &worker, What::OomKill(oom_kill(&worker)))
            .exit_to(11, &worker, inside(9, "other"), libc::SIGKILL);
        assert_eq!(cause(&scene), None);
    }
}
