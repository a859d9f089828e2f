//! `procjail attach` to what others started: real docker, containerd and podman, and a plain cgroup. Whatever happens
//! to a container is told, and happens as it does without procjail.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use procjail::diagnose::{self, Case, Diagnosis, Explanation};
use procjail::render::{self, Detail, Look};
use procjail_tests::{Engines, Finished, Invocation, Running, Scene, Trace, scene, wait_until};

/// Time that a step of a test has.
const PATIENCE: Duration = Duration::from_secs(10);

/// One attached procjail.
struct Attached {
    running: Running,
    directory: PathBuf,
}

/// What it told.
struct Told {
    trace: Trace,
    explanation: Explanation,
}

/// Attaches, and waits until that is done.
#[track_caller]
fn attach(scene: &Scene, name: &str, target: &str, options: &[&str]) -> Attached {
    let attached = start(scene, name, target, options);
    let stderr = attached.directory.join("stderr");
    wait_until("word of the attachment", PATIENCE, || {
        let text = std::fs::read_to_string(&stderr).unwrap_or_default();
        assert!(!attached.running.has_ended(), "{text}");
        text.contains("attached to").then_some(())
    });
    attached
}

fn start(scene: &Scene, name: &str, target: &str, options: &[&str]) -> Attached {
    let directory = scene.path(name);
    std::fs::create_dir_all(&directory).expect("a directory");
    let invocation = Invocation::new(procjail_tests::procjail(), &directory)
        .args(&["attach", target, "--quiet"])
        .args(options);
    Attached {
        running: invocation.traced_by("-o").spawn(),
        directory,
    }
}

impl Attached {
    /// Waits for the end.
    #[track_caller]
    fn told(self) -> Told {
        let finished = self.running.finish().expect_code(0);
        told(&finished, &self.directory.join("trace.jsonl"))
    }

    /// Detaches it, as Ctrl-C does.
    #[track_caller]
    fn detach(self) -> Told {
        self.running.signal(libc::SIGINT);
        self.told()
    }
}

#[track_caller]
fn told(finished: &Finished, path: &Path) -> Told {
    let trace = finished.trace();
    trace.expect_complete();
    let mut reader = procjail::trace::open(path).expect("a trace");
    let (case, damage) = Case::read(&mut reader).expect("a case");
    assert!(damage.is_none());
    let told = Told {
        trace,
        explanation: diagnose::explain(&case),
    };
    println!("{}", told.text());
    told
}

impl Told {
    fn text(&self) -> String {
        let look = Look {
            color: false,
            width: 110,
            ..Look::default()
        };
        render::explanation(&self.explanation, Detail::All, &look)
    }

    /// The first verdict is this one, and its fact has these words.
    #[track_caller]
    fn expect_first(&self, id: &str, words: &[&str]) -> &Diagnosis {
        let first = self.explanation.diagnoses.first().expect("a verdict");
        assert_eq!(first.id, id, "{}", self.text());
        for word in words {
            assert!(first.fact.contains(word), "no {word}: {}", self.text());
        }
        first
    }
}

/// A program that waits for [`go`] before it does the rest.
fn when_told(rest: &str) -> [String; 3] {
    let script = format!("read line < /go/fifo; {rest}");
    ["/bin/sh".into(), "-c".into(), script]
}

/// Lets the program go on.
fn go(scene: &Scene) {
    let fifo = scene.path("go/fifo");
    // It has a reader once the program is there.
    let mut open = OpenOptions::new();
    open.write(true).custom_flags(libc::O_NONBLOCK);
    let mut file = wait_until("reader of the FIFO", PATIENCE, || open.open(&fifo).ok());
    file.write_all(b"go\n").expect("a line");
}

/// Starts dockerd, and a container that does that when it is told.
fn docker(scene: &Scene, options: &[&str], rest: &str) -> Engines {
    let mut engines = Engines::new(scene.directory());
    engines.dockerd();
    run(scene, &engines, "web", options, rest);
    engines
}

fn run(scene: &Scene, engines: &Engines, name: &str, options: &[&str], rest: &str) {
    let directory = scene.path("go");
    std::fs::create_dir_all(&directory).expect("a directory");
    let fifo = directory.join("fifo");
    if !fifo.exists() {
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    }
    let volume = format!("{}:/go", directory.display());
    let fixed = ["--name", name, "--volume", &volume];
    let program = when_told(rest);
    engines.docker_run_of(
        &[&fixed[..], options].concat(),
        &program.each_ref().map(String::as_str),
    );
}

/// The exit code as docker has it.
fn code(engines: &Engines, name: &str) -> String {
    engines.docker(&["wait", name])
}

#[test]
fn an_oom_killed_child_of_a_container_is_told() {
    scene(|scene| {
        let rest = "misbehave alloc 200000000; read line < /go/fifo; exit 7";
        let engines = docker(scene, &["--memory", "32m"], rest);
        let attached = attach(scene, "a", "docker:web", &[]);
        go(scene);
        go(scene);
        assert_eq!(code(&engines, "web"), "7");
        let told = attached.told();
        told.expect_first("oom-own-limit", &["misbehave", "32"]);
    });
}

#[test]
fn an_oom_killed_pid_1_of_a_container_is_told() {
    scene(|scene| {
        let engines = docker(scene, &["--memory", "32m"], "exec misbehave alloc 200000000");
        let attached = attach(scene, "a", "docker:web", &[]);
        go(scene);
        assert_eq!(code(&engines, "web"), "137");
        let told = attached.told();
        told.expect_first("oom-own-limit", &["misbehave (PID 1)"]);
    });
}

#[test]
fn a_docker_stop_that_is_ignored_is_told() {
    scene(|scene| {
        let engines = docker(scene, &[], "trap '' TERM; exec sleep 60");
        go(scene);
        let attached = attach(scene, "a", "docker:web", &[]);
        engines.docker(&["stop", "--time", "1", "web"]);
        assert_eq!(code(&engines, "web"), "137");
        attached.told();

        engines.docker_run_of(&["--name", "deaf"], &["sleep", "60"]);
        let attached = attach(scene, "b", "docker:deaf", &[]);
        engines.docker(&["stop", "--time", "1", "deaf"]);
        assert_eq!(code(&engines, "deaf"), "137");
        attached.told();

        run(scene, &engines, "late", &[], "trap '' TERM; while :; do sleep 60; done");
        let attached = attach(scene, "c", "docker:late", &[]);
        go(scene);
        std::thread::sleep(Duration::from_millis(300));
        engines.docker(&["stop", "--time", "1", "late"]);
        assert_eq!(code(&engines, "late"), "137");
        attached.told();
    });
}

#[test]
fn a_kill_from_the_host_is_told() {
    scene(|scene| {
        let engines = docker(scene, &[], "");
        let pid = engines.docker(&["inspect", "--format", "{{.State.Pid}}", "web"]);
        let attached = attach(scene, "a", "docker:web", &[]);
        let killed = std::process::Command::new("kill").args(["-9", &pid]).status();
        assert!(killed.expect("kill(1)").success());
        assert_eq!(code(&engines, "web"), "137");
        attached.told();
    });
}

#[test]
fn processes_of_docker_exec_are_told() {
    scene(|scene| {
        let engines = docker(scene, &[], "exit 3");
        let attached = attach(scene, "a", "docker:web", &[]);
        engines.docker(&["exec", "web", "true"]);
        engines.docker(&["exec", "--detach", "web", "sh", "-c", "sleep 0.2 & exit 0"]);
        engines.docker(&["exec", "web", "sleep", "0.5"]);
        go(scene);
        assert_eq!(code(&engines, "web"), "3");
        attached.told();
    });
}

#[test]
fn a_crash_of_a_child_is_told() {
    scene(|scene| {
        let engines = docker(scene, &[], "misbehave segv; exit 4");
        let attached = attach(scene, "a", "docker:web", &[]);
        go(scene);
        assert_eq!(code(&engines, "web"), "4");
        attached.told();
    });
}
