//! Teardowns that hang: what is said meanwhile, when procjail gives up, and what is left then.

use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use procjail::event::{Moment, What};
use procjail_tests::{Running, Scene, misbehave, procjail, scene};

/// A process outside that keeps one of the jail from its end until it is let go.
struct Holder {
    child: Child,
    hand: Option<ChildStdin>,
}

impl Holder {
    fn start(arguments: &[&str]) -> Holder {
        let mut child = Command::new(procjail())
            .arg("misbehave")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process outside");
        let mut word = [0; 6];
        let stdout = child.stdout.as_mut().expect("its output");
        std::io::Read::read_exact(stdout, &mut word).expect("that it is ready");
        assert_eq!(&word, b"ready\n");
        Holder {
            hand: child.stdin.take(),
            child,
        }
    }

    fn release(mut self) {
        drop(self.hand.take());
        self.child.wait().expect("its end");
    }
}

/// Host PID of the jail's PID 1: the first process of a namespace below the guard's.
fn pid_1() -> u32 {
    let is_pid_1 = |pid: &u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        let numbers: Vec<&str> = numbers.unwrap_or_default().split_whitespace().collect();
        matches!(numbers[..], [_, _, "1"])
    };
    // An earlier jail of the same test may not be gone yet.
    let found = procjail_tests::descendants()
        .into_iter()
        .filter(is_pid_1)
        .max();
    found.expect("the jail's first process")
}

/// A jail that sleeps, with a zombie in its PID namespace that only an outsider can reap.
fn held(scene: &Scene, command: &str, name: &str, timeout: &str) -> (Running, Holder) {
    let options = [
        "--name",
        name,
        "--stop-timeout",
        "5s",
        "--teardown-timeout",
        timeout,
    ];
    let app = [misbehave(), "handle-term".into(), "0".into()];
    let app: Vec<&str> = app.iter().map(String::as_str).collect();
    let running = match command {
        "run" => scene.run(&options, &app).spawn(),
        _ => scene.trace(&options, &app).spawn(),
    };
    running.wait_for_line("ready");
    let holder = Holder::start(&["join-pid-namespace", &pid_1().to_string()]);
    (running, holder)
}

fn stderr(scene: &Scene) -> String {
    std::fs::read_to_string(scene.path("stderr")).unwrap_or_default()
}

#[track_caller]
fn wait_for(scene: &Scene, text: &str) {
    procjail_tests::wait_until(text, Duration::from_secs(10), || {
        stderr(scene).contains(text).then_some(())
    });
}

#[test]
fn a_live_line_names_who_is_waited_for() {
    scene(|scene| {
        for command in ["run", "trace"] {
            let name = format!("live-{command}");
            let (running, holder) = held(scene, command, &name, "30s");
            running.signal(libc::SIGTERM);
            // Said while it hangs, not afterwards.
            wait_for(scene, "waiting for 2");
            wait_for(scene, "waiting for 1.0");
            assert!(!running.has_ended());
            let parent = holder.child.id();
            holder.release();
            let finished = running.finish().expect_code(0);
            let told = format!(
                "(worker), Z: it is dead, and its parent procjail (host PID {parent}) outside the jail does \
                 not reap it"
            );
            let stderr = finished
                .stderr
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ");
            assert!(stderr.contains(&told), "{}", finished.stderr);
        }
    });
}

#[test]
fn a_stall_is_looked_at_at_the_right_moments() {
    scene(|scene| {
        let (running, holder) = held(scene, "trace", "looks", "30s");
        running.signal(libc::SIGTERM);
        std::thread::sleep(Duration::from_millis(5600));
        holder.release();
        let trace = running.finish().expect_code(0).trace();
        trace.expect_complete();
        let waited: Vec<u64> = trace
            .snapshots()
            .iter()
            .filter(|(_, snapshot)| snapshot.moment == Moment::Stall)
            .map(|(_, snapshot)| snapshot.waited_ns.expect("a time") / 1_000_000)
            .collect();
        assert_eq!(waited.len(), 3, "{waited:?}");
        for (waited, due) in waited.iter().zip([250, 1000, 5000]) {
            assert!((due..due + 200).contains(waited), "{waited} for {due}");
        }
        let (_, last) = *trace.snapshots().last().expect("a snapshot");
        let init = last.threads.iter().find(|one| one.task.jail_pid == Some(1));
        let init = init.expect("PID 1 is still there");
        // Idle on some kernels, that it may not count as load.
        assert!(matches!(init.state.as_str(), "S" | "I"), "{}", init.state);
        assert!(
            init.stack
                .iter()
                .any(|frame| frame == "zap_pid_ns_processes")
        );
        let worker = last.threads.iter().find(|one| one.task.comm == "worker");
        let state = worker
            .and_then(|one| one.stall.as_ref())
            .expect("its state");
        // The zombie has left its cgroup, but not its namespace.
        assert!(state.in_pid_namespace && !state.in_cgroup && state.exiting);
        let parent = state.parent.as_ref().expect("its parent");
        assert!(!parent.in_pid_namespace);
        assert_eq!(parent.comm, "procjail");
    });
}

#[test]
fn the_launcher_gives_up_in_time_and_says_what_would_help() {
    scene(|scene| {
        for command in ["run", "trace"] {
            let name = format!("late-{command}");
            let (running, holder) = held(scene, command, &name, "600ms");
            let before = running.elapsed();
            running.signal(libc::SIGTERM);
            let finished = running.finish().expect_code(124);
            let took = finished.elapsed - before;
            assert!(took < Duration::from_secs(4), "{took:?}");
            let parent = holder.child.id();
            assert!(
                finished.stderr.contains(&format!("kill -KILL {parent}")),
                "{}",
                finished.stderr
            );
            holder.release();
        }
    });
}

#[test]
fn a_stderr_that_nobody_reads_holds_nothing_up() {
    scene(|scene| {
        let (read, write) = std::io::pipe().expect("a pipe");
        // Full: whoever writes to it waits.
        fill(&write);
        let options = [
            "--name",
            "deaf",
            "--stop-timeout",
            "5s",
            "--teardown-timeout",
            "600ms",
        ];
        let running = scene
            .run(&options, &[&misbehave(), "handle-term", "0"])
            .stderr(write)
            .spawn();
        running.wait_for_line("ready");
        let holder = Holder::start(&["join-pid-namespace", &pid_1().to_string()]);
        let before = running.elapsed();
        running.signal(libc::SIGTERM);
        let finished = running.finish().expect_code(124);
        let took = finished.elapsed - before;
        assert!(took < Duration::from_secs(5), "{took:?}");
        holder.release();
        drop(read);
    });
}

fn fill(pipe: &std::io::PipeWriter) {
    use std::os::fd::AsRawFd;
    let fd = pipe.as_raw_fd();
    // SAFETY: the descriptor is open, and the buffer is valid for reading.
    unsafe {
        let flags = libc::fcntl(fd, libc::F_GETFL);
        libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK);
        let block = [0_u8; 4096];
        while libc::write(fd, block.as_ptr().cast(), block.len()) > 0 {}
        libc::fcntl(fd, libc::F_SETFL, flags);
    }
}

#[test]
fn a_tracer_that_holds_pid_1_at_its_exit_is_told() {
    scene(|scene| {
        let options = [
            "--name",
            "traced",
            "--stop-timeout",
            "5s",
            "--teardown-timeout",
            "700ms",
        ];
        let running = scene
            .trace(&options, &[&misbehave(), "handle-term", "0"])
            .spawn();
        running.wait_for_line("ready");
        let holder = Holder::start(&["trace-exit", &pid_1().to_string()]);
        running.signal(libc::SIGTERM);
        let finished = running.finish().expect_code(124);
        let tracer = holder.child.id();
        let told = format!("held at its exit by its tracer procjail (host PID {tracer})");
        assert!(finished.stderr.contains(&told), "{}", finished.stderr);
        let trace = finished.trace();
        let failed = trace
            .events
            .iter()
            .any(|event| matches!(&event.what, What::Teardown(step) if step.error.is_some()));
        assert!(failed, "{}", trace.summary());
        assert!(Path::new(&format!("/proc/{tracer}")).exists());
        holder.release();
        // What procjail had to leave, it removes as soon as it can.
        procjail_tests::wait_until("the rest to go", Duration::from_secs(10), || {
            let clean = Command::new(procjail())
                .args(["clean", "--name", "traced"])
                .stdout(Stdio::null())
                .status();
            clean.is_ok_and(|status| status.success()).then_some(())
        });
    });
}
