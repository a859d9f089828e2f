//! `procjail attach` to what others started: real docker, containerd and podman, and a plain cgroup. Whatever happens
//! to a container is told, and happens as it does without procjail.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use procjail::diagnose::{self, Case, Confidence, Diagnosis, Explanation};
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

    /// There is this verdict, and its fact has these words.
    #[track_caller]
    fn expect(&self, id: &str, words: &[&str]) -> &Diagnosis {
        let found = self.explanation.all().find(|one| one.id == id);
        let one = found.unwrap_or_else(|| panic!("no {id}: {}", self.text()));
        for word in words {
            assert!(one.fact.contains(word), "no {word}: {}", self.text());
        }
        one
    }

    /// The first verdict is this one, and its fact has these words.
    #[track_caller]
    fn expect_first(&self, id: &str, words: &[&str]) -> &Diagnosis {
        let first = self.explanation.diagnoses.first().expect("a verdict");
        assert_eq!(first.id, id, "{}", self.text());
        self.expect(id, words)
    }
}

/// FIFOs for which programs wait, by number.
const STEPS: usize = 4;

/// The directory of the FIFOs, which containers have at /go.
fn steps(scene: &Scene) -> PathBuf {
    let directory = scene.path("go");
    if !directory.exists() {
        std::fs::create_dir_all(&directory).expect("a directory");
        for step in 1..=STEPS {
            let fifo = directory.join(step.to_string());
            nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
        }
    }
    directory
}

/// In a script: waits for [`go`]. A signal interrupts the opening.
fn wait_for(directory: &str, step: usize) -> String {
    format!("until read line < {directory}/{step}; do :; done 2>/dev/null")
}

/// Lets a program go on.
#[track_caller]
fn go(scene: &Scene, step: usize) {
    let fifo = steps(scene).join(step.to_string());
    let mut open = OpenOptions::new();
    open.write(true).custom_flags(libc::O_NONBLOCK);
    let mut file = wait_until("reader of the FIFO", PATIENCE, || open.open(&fifo).ok());
    file.write_all(b"go\n").expect("a line");
}

/// A script with `{1}` and so on for the places where it waits.
fn script(directory: &str, text: &str) -> String {
    (1..=STEPS).fold(text.to_owned(), |text, step| {
        text.replace(&format!("{{{step}}}"), &wait_for(directory, step))
    })
}

fn docker(scene: &Scene) -> Engines {
    let mut engines = Engines::new(scene.directory());
    engines.dockerd();
    engines
}

/// Starts a container by docker that runs a script.
fn run(scene: &Scene, engines: &Engines, name: &str, options: &[&str], text: &str) {
    let volume = format!("{}:/go", steps(scene).display());
    let fixed = ["--name", name, "--volume", &volume];
    engines.docker_run_of(
        &[&fixed[..], options].concat(),
        &["/bin/sh", "-c", &script("/go", text)],
    );
}

/// The exit code as docker has it.
fn code(engines: &Engines, name: &str) -> String {
    engines.docker(&["wait", name])
}

#[test]
fn oom_kills_in_a_container_are_told() {
    scene(|scene| {
        let engines = docker(scene);
        let memory = ["--memory", "32m"];
        let text = "{1}; misbehave alloc 200000000; {2}; exit 7";
        run(scene, &engines, "child", &memory, text);
        let attached = attach(scene, "a", "docker:child", &[]);
        go(scene, 1);
        go(scene, 2);
        assert_eq!(code(&engines, "child"), "7");
        let told = attached.told();
        let first = told.expect_first("oom-own-limit", &["misbehave", "container child", "32.0"]);
        assert_eq!(first.confidence, Confidence::Proven);

        run(
            scene,
            &engines,
            "first",
            &memory,
            "{1}; exec misbehave alloc 200000000",
        );
        let attached = attach(scene, "b", "docker:first", &[]);
        go(scene, 1);
        assert_eq!(code(&engines, "first"), "137");
        let told = attached.told();
        told.expect_first("oom-own-limit", &["misbehave (PID 1)", "container first"]);
    });
}

#[test]
fn a_docker_stop_that_is_ignored_is_told() {
    scene(|scene| {
        let engines = docker(scene);
        run(
            scene,
            &engines,
            "early",
            &[],
            "trap '' TERM; {1}; exec sleep 60",
        );
        go(scene, 1);
        engines.docker_run_of(&["--name", "deaf"], &["sleep", "60"]);
        run(scene, &engines, "late", &[], "{1}; trap '' TERM; {2}; {3}");
        let names = ["early", "deaf", "late"];
        let attached = names.map(|name| attach(scene, name, &format!("docker:{name}"), &[]));
        go(scene, 1);
        go(scene, 2);
        engines.docker(&[&["stop", "--time", "1"], &names[..]].concat());
        for name in names {
            assert_eq!(code(&engines, name), "137");
        }
        let told = attached.map(Attached::told);
        for told in &told {
            told.expect("kill-after-grace", &["runc", "SIGTERM"]);
            told.expect("exit-137-not-oom", &["no OOM kill: runc"]);
        }
        let [early, deaf, late] = told;
        let one = early.expect_first("term-ignored-by-choice", &["ignores SIGTERM"]);
        assert_eq!(one.sure(), Confidence::ConsistentWith, "{}", early.text());
        let one = deaf.expect_first("term-ignored-pid1-default", &["sleep (PID 1)"]);
        assert_eq!(one.sure(), Confidence::Proven, "{}", deaf.text());
        let one = late.expect_first("term-ignored-by-choice", &["sh (PID 1)"]);
        assert_eq!(one.sure(), Confidence::Proven, "{}", late.text());
    });
}

#[test]
fn crashes_and_kills_in_a_container_are_told() {
    scene(|scene| {
        let engines = docker(scene);
        run(
            scene,
            &engines,
            "web",
            &[],
            "{1}; misbehave segv; {2}; exit 4",
        );
        let attached = attach(scene, "a", "docker:web", &[]);
        go(scene, 1);
        go(scene, 2);
        assert_eq!(code(&engines, "web"), "4");
        attached.told().expect_first("segv-fault", &["misbehave"]);

        run(scene, &engines, "api", &[], "{1}");
        let pid = engines.docker(&["inspect", "--format", "{{.State.Pid}}", "api"]);
        let attached = attach(scene, "b", "docker:api", &[]);
        let killed = std::process::Command::new("kill")
            .args(["-9", &pid])
            .status();
        assert!(killed.expect("kill(1)").success());
        assert_eq!(code(&engines, "api"), "137");
        let told = attached.told();
        told.expect_first("kill-external", &["from outside the container", "`kill -9"]);
    });
}

#[test]
fn processes_of_docker_exec_are_told() {
    scene(|scene| {
        let engines = docker(scene);
        run(scene, &engines, "web", &[], "{1}; exit 3");
        let attached = attach(scene, "a", "docker:web", &[]);
        engines.docker(&["exec", "web", "true"]);
        engines.docker(&["exec", "--detach", "web", "sh", "-c", "sleep 0.1 & exit 0"]);
        engines.docker(&["exec", "web", "sleep", "0.5"]);
        go(scene, 1);
        assert_eq!(code(&engines, "web"), "3");
        attached.told();
    });
}

#[test]
fn what_docker_exec_leaves_is_told() {
    scene(|scene| {
        let engines = docker(scene);
        engines.docker_run_of(&["--name", "web"], &["sleep", "60"]);
        let leave = || engines.docker(&["exec", "web", "sh", "-c", "sleep 0.05 & exit 0"]);
        leave();
        let pid = engines.docker(&["inspect", "--format", "{{.State.Pid}}", "web"]);
        let zombies = || {
            let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
            let stat = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/stat"));
            let is_dead = |pid: &&str| stat(pid).is_ok_and(|stat| stat.contains(") Z "));
            let children = children.expect("the children of PID 1");
            children.split_whitespace().filter(is_dead).count()
        };
        wait_until("a zombie", PATIENCE, || (zombies() == 1).then_some(()));
        let attached = attach(scene, "a", "docker:web", &[]);
        leave();
        wait_until("two zombies", PATIENCE, || (zombies() == 2).then_some(()));
        std::thread::sleep(Duration::from_millis(1200));
        let told = attached.detach();
        let found = told.trace.found();
        assert!(found.iter().any(|(_, found)| found.state == "Z"));
        told.expect(
            "zombie-pid1-not-reaping",
            &["sleep (PID 1)", "2 zombies (2 sleep)"],
        );
        engines.docker(&["kill", "web"]);
    });
}

#[test]
fn several_attach_to_a_container_of_many_processes() {
    scene(|scene| {
        let engines = docker(scene);
        let text = "for i in $(seq 50); do sh -c 'sleep 60 & sleep 60 & sleep 60 & wait' & done; {1}; {2}; exit 6";
        run(scene, &engines, "web", &[], text);
        go(scene, 1);
        let count = || engines.docker(&["top", "web", "-o", "pid"]).lines().count() - 1;
        wait_until("201 processes", PATIENCE, || (count() == 201).then_some(()));

        let one = attach(scene, "a", "docker:web", &[]);
        let two = attach(scene, "b", "web", &[]);
        let brief = attach(scene, "c", "web", &["--for", "500ms"]).told();
        let killed = attach(scene, "d", "web", &[]);
        killed.running.signal(libc::SIGKILL);
        assert_eq!(killed.running.finish().signal, Some(libc::SIGKILL));
        assert_eq!(count(), 201);
        go(scene, 2);
        assert_eq!(code(&engines, "web"), "6");
        for told in [one.told(), two.told(), brief] {
            let found = told.trace.found();
            assert_eq!(found.len(), 201);
            let mut seen = std::collections::HashSet::new();
            for (event, found) in found {
                assert!(event.task.jail_pid == Some(1) || seen.contains(&found.parent.pid));
                seen.insert(event.task.pid);
            }
        }
    });
}

#[test]
fn detaching_in_a_fork_storm_leaves_nothing() {
    scene(|scene| {
        let engines = docker(scene);
        let text = "while [ ! -e /go/end ]; do misbehave fork-storm 100 || exit 9; done; exit 5";
        run(scene, &engines, "web", &[], text);
        for _ in 0..20 {
            let told = attach(scene, "a", "web", &[]).detach();
            assert!(told.trace.footer().lost.is_empty());
        }
        std::fs::write(steps(scene).join("end"), "").expect("a file");
        assert_eq!(code(&engines, "web"), "5");
    });
}

#[test]
fn a_container_of_podman_is_told() {
    scene(|scene| {
        let mut engines = Engines::new(scene.directory());
        let volume = format!("{}:/go", steps(scene).display());
        let text = script(
            "/go",
            "{1}; misbehave alloc 200000000; {2}; sleep 60; exit 1",
        );
        let options = ["--name", "web", "--memory", "32m", "--volume", &volume];
        engines.podman_run_of(&options, &["/bin/sh", "-c", &text]);
        let attached = attach(scene, "a", "podman:web", &[]);
        go(scene, 1);
        go(scene, 2);
        engines.podman(&["stop", "--time", "1", "web"]);
        assert_eq!(engines.podman(&["wait", "web"]), "137");
        let told = attached.told();
        told.expect("oom-own-limit", &["misbehave", "container web"]);
        told.expect("term-stuck-in-shell", &["sh (PID 1)", "SIGTERM"]);
        told.expect(
            "kill-after-grace",
            &["runc kill", "below podman", "SIGTERM"],
        );
    });
}

#[test]
fn a_container_of_containerd_is_told() {
    scene(|scene| {
        let mut engines = Engines::new(scene.directory());
        engines.containerd("containerd", &[]);
        let mount = format!(
            "type=bind,src={},dst=/go,options=rbind:rw",
            steps(scene).display()
        );
        let text = script(
            "/go",
            "trap 'exit 3' TERM; {1}; misbehave segv; while :; do sleep 0.1; done",
        );
        let options = ["--cgroup", "/procjail-engines/web", "--mount", &mount];
        engines.ctr_of(
            "containerd",
            "default",
            "web",
            &options,
            &["/bin/sh", "-c", &text],
        );
        let attached = attach(scene, "a", "containerd:default/web", &[]);
        go(scene, 1);
        let code = engines.ctr_stop("containerd", "default", "web");
        assert_eq!(code, "3");
        let told = attached.told();
        told.expect("segv-fault", &["misbehave"]);
        told.expect("ended-on-request", &["SIGTERM", "exited with 3"]);
    });
}

/// A cgroup that a test makes in the default hierarchy, with a child of its own in it.
struct Plain {
    path: PathBuf,
    child: std::process::Child,
}

impl Plain {
    fn new(scene: &Scene, name: &str, text: &str) -> Plain {
        let mounts = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
        let point = mounts.lines().find(|line| line.contains(" cgroup2 "));
        let point = point
            .and_then(|line| line.split(' ').nth(1))
            .expect("cgroup2");
        let path = Path::new(point).join(name);
        std::fs::create_dir(&path).expect("a cgroup");
        let directory = steps(scene).display().to_string();
        let enter = format!("echo $$ > {}/cgroup.procs; exec \"$@\"", path.display());
        let misbehave = procjail_tests::misbehave();
        let text = script(&directory, text).replace("misbehave", &misbehave);
        let child = std::process::Command::new("sh")
            .args(["-c", &enter, "sh", "sh", "-c", &text])
            .spawn();
        let plain = Plain {
            path,
            child: child.expect("sh"),
        };
        wait_until("member", PATIENCE, || {
            let members = std::fs::read_to_string(plain.path.join("cgroup.procs"));
            (!members.expect("members").is_empty()).then_some(())
        });
        plain
    }

    fn target(&self) -> String {
        format!("cgroup:{}", self.path.display())
    }

    /// The exit code of the child.
    fn code(&mut self) -> Option<i32> {
        wait_until("end of the child", PATIENCE, || {
            self.child.try_wait().expect("a child")
        })
        .code()
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        let members = std::fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        for pid in members.lines().filter_map(|pid| pid.parse().ok()) {
            // SAFETY: kill has no preconditions; all in this cgroup come from this test.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        let _ = self.child.wait();
        let end = std::time::Instant::now() + PATIENCE;
        while std::fs::remove_dir(&self.path).is_err() && std::time::Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn a_cgroup_without_a_pid_namespace_is_told() {
    scene(|scene| {
        let text = "{1}; misbehave segv; sleep 60 & kill -9 $!; wait; {2}; {3}; exit 3";
        let mut plain = Plain::new(scene, "procjail-attach-plain", text);
        let attached = attach(scene, "a", &plain.target(), &[]);
        let asked = attach(scene, "b", &plain.child.id().to_string(), &[]);
        go(scene, 1);
        go(scene, 2);
        let brief = asked.detach();
        brief.expect("segv-fault", &["misbehave"]);
        go(scene, 3);
        assert_eq!(plain.code(), Some(3));
        let told = attached.told();
        told.expect("segv-fault", &["misbehave"]);
        assert!(!told.text().contains("container"), "{}", told.text());
    });
}

#[test]
fn what_cannot_be_attached_to_is_refused() {
    scene(|scene| {
        let mut plain = Plain::new(scene, "procjail-attach-bad", "{1}");
        let file = scene.path("never");
        let own = format!(
            "echo $$ > {}/cgroup.procs; exec \"$@\"",
            plain.path.display()
        );
        let program = procjail_tests::procjail().display().to_string();
        let target = plain.target();
        let output = ["--output", &file.display().to_string()].map(str::to_owned);
        let attach = |target: &str| {
            scene
                .procjail(&["attach", target])
                .args(&output.each_ref().map(String::as_str))
                .finish()
        };
        Invocation::new("/bin/sh".into(), scene.directory())
            .args(&["-c", &own, "sh", &program, "attach", &target])
            .args(&output.each_ref().map(String::as_str))
            .finish()
            .expect_refusal(125, &["own cgroup"]);
        go(scene, 1);
        plain.code();
        attach(&target).expect_refusal(125, &["nothing runs in"]);
        let ended = plain.child.id().to_string();
        drop(plain);
        attach(&target).expect_refusal(125, &["procjail-attach-bad"]);
        attach(&ended).expect_refusal(125, &[&ended]);
        attach("docker:no-such").expect_refusal(125, &["no-such"]);
        attach("cgroup:/").expect_refusal(125, &["root cgroup"]);
        attach("1").expect_refusal(125, &[]);
        attach("").expect_refusal(125, &[]);
        assert!(!file.exists(), "a trace was begun");
    });
}
