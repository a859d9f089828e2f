//! Jails on a terminal.

use std::time::Duration;

use procjail_tests::{Terminal, descendants, misbehave, procjail, scene, wait_until};

/// The process of the test with this name, and its state (`S`, `T`, ...).
fn process(comm: &str) -> Option<(u32, char)> {
    descendants().into_iter().find_map(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (name, rest) = stat.rsplit_once(')')?;
        let state = rest.trim_start().chars().next()?;
        name.ends_with(&format!("({comm}")).then_some((pid, state))
    })
}

fn settle() {
    std::thread::sleep(Duration::from_millis(300));
}

/// Ends the app: by a signal that is passed on and is no request to stop.
fn end_app(pid: u32) {
    // SAFETY: kill has no preconditions.
    unsafe { libc::kill(pid as libc::pid_t, libc::SIGUSR1) };
}

#[test]
fn ctrl_c_reaches_the_app_once() {
    scene(|_| {
        let program = procjail().display().to_string();
        let mut terminal = Terminal::start(&program, &["run", "--", &misbehave(), "tty"]);
        terminal.wait_for("ready");
        terminal.type_keys("\x03");
        terminal.wait_for("SIGINT");
        settle();
        assert_eq!(
            terminal.lines_that_are("SIGINT"),
            1,
            "{}",
            terminal.screen()
        );
        end_app(terminal.pid());
        assert_eq!(terminal.finish().code(), Some(0));
    });
}

#[test]
fn ctrl_c_reaches_the_app_behind_init_once() {
    scene(|_| {
        let program = procjail().display().to_string();
        let mut terminal = Terminal::start(&program, &["run", "--init", "--", &misbehave(), "tty"]);
        terminal.wait_for("ready");
        terminal.type_keys("\x03");
        terminal.wait_for("SIGINT");
        settle();
        assert_eq!(
            terminal.lines_that_are("SIGINT"),
            1,
            "{}",
            terminal.screen()
        );
        end_app(terminal.pid());
        assert_eq!(terminal.finish().code(), Some(0));
    });
}

#[test]
fn a_signal_from_a_process_is_forwarded_on_a_terminal_too() {
    scene(|_| {
        let program = procjail().display().to_string();
        let terminal = Terminal::start(&program, &["run", "--", &misbehave(), "tty"]);
        terminal.wait_for("ready");
        // SAFETY: kill has no preconditions.
        unsafe { libc::kill(terminal.pid() as libc::pid_t, libc::SIGINT) };
        terminal.wait_for("SIGINT");
        settle();
        assert_eq!(
            terminal.lines_that_are("SIGINT"),
            1,
            "{}",
            terminal.screen()
        );
        end_app(terminal.pid());
        assert_eq!(terminal.finish().code(), Some(0));
    });
}

#[test]
fn the_windows_size_passes() {
    scene(|_| {
        let program = procjail().display().to_string();
        let terminal = Terminal::start(&program, &["run", "--", &misbehave(), "tty"]);
        terminal.wait_for("ready");
        terminal.resize(40, 100);
        terminal.wait_for("SIGWINCH 40x100");
        end_app(terminal.pid());
        assert_eq!(terminal.finish().code(), Some(0));
    });
}

#[test]
fn ctrl_z_and_fg_stop_and_resume_launcher_and_app() {
    scene(|_| {
        let mut terminal = Terminal::start("/bin/bash", &["--norc", "--noprofile", "-i"]);
        let program = procjail().display().to_string();
        terminal.type_keys(&format!("{program} run -- {} tty\n", misbehave()));
        terminal.wait_for("ready");
        let (launcher, _) = process("procjail").expect("the launcher");

        terminal.type_keys("\x1a");
        terminal.wait_for("Stopped");
        wait_until("stop of the app", Duration::from_secs(5), || {
            (process("misbehave")?.1 == 'T').then_some(())
        });
        let stat = std::fs::read_to_string(format!("/proc/{launcher}/stat")).expect("the launcher");
        assert!(stat.contains(") T "), "{stat}");

        terminal.type_keys("fg\n");
        wait_until("continuation of the app", Duration::from_secs(5), || {
            (process("misbehave")?.1 != 'T').then_some(())
        });
        terminal.wait_for("SIGCONT");
        terminal.type_keys("\x03");
        terminal.wait_for("SIGINT");
        settle();
        assert_eq!(
            terminal.lines_that_are("SIGINT"),
            1,
            "{}",
            terminal.screen()
        );
        end_app(launcher);
        terminal.wait_for("SIGUSR1");
        terminal.type_keys("exit 0\n");
        assert_eq!(terminal.finish().code(), Some(0));
    });
}
