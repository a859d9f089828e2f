//! What runs on a host that others started: real docker, containerd and podman.

use procjail::runtime::{Container, Error, Kind, List, Roots, list, parse, reported, resolve};
use procjail_tests::{Engines, Scene, scene, wait_until};
use std::time::Duration;

const POD: &str = "0f2b6f0c-1111-4222-8333-444455556666";
const APP: &str = "865638fddaca4ef0e8a1ba386b9d6c2ad32377582a2daaebe1d6eb53396fc29b";

fn find(list: &List, target: &str) -> Container {
    resolve(&parse(target), list).unwrap_or_else(|error| panic!("{target}: {error}"))
}

fn now() -> List {
    list(&Roots::default()).expect("procfs")
}

/// Is what /proc says of its first process.
fn expect_first_process(container: &Container) {
    let pid = container.pid.expect("a PID");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a status");
    let line = status.lines().find(|line| line.starts_with("NStgid:"));
    assert!(line.is_some_and(|line| line.ends_with("\t1")), "{line:?}");
    let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("a cgroup");
    for path in container.cgroup.paths() {
        assert!(
            cgroup
                .lines()
                .any(|line| line.ends_with(&format!(":{path}"))),
            "{path} {cgroup}"
        );
    }
}

#[test]
fn containers_of_docker_are_found() {
    scene(|scene| {
        let mut engines = Engines::new(scene.directory());
        engines.dockerd();
        let options = [
            "--name",
            "web",
            "--memory",
            "64m",
            "--stop-signal",
            "INT",
            "--stop-timeout",
            "7",
        ];
        let id = engines.docker_run(&options);
        engines.docker(&["exec", "--detach", "web", "sleep", "60"]);
        let other = engines.docker_run(&["--name", "api", "--cgroup-parent", "/procjail-engines"]);

        let list = now();
        let web = find(&list, "docker:web");
        assert_eq!((web.kind, &web.id), (Kind::Docker, &id));
        assert_eq!(web.image.as_deref(), Some("procjail/app:1"));
        assert_eq!(web.memory_limit_bytes, Some(64 << 20));
        assert!(web.memory_bytes.is_some_and(|bytes| bytes > 0));
        assert_eq!(
            (web.stop_signal, web.stop_timeout_ns),
            (Some(2), Some(7_000_000_000))
        );
        assert_eq!(web.cgroup.path(), format!("/docker/{id}"));
        expect_first_process(&web);
        assert_eq!(find(&list, &id[..9]).pid, web.pid);
        assert_eq!(find(&list, &web.pid.expect("a PID").to_string()).id, id);
        let api = find(&list, "api");
        assert_eq!((api.kind, &api.id), (Kind::Docker, &other));
        expect_first_process(&api);

        expect_table(scene, &["docker", "web", "64.0 MiB"]);
        assert_eq!(reported(&web).and_then(|report| report.running), Some(true));
        engines.docker(&["kill", "--signal", "KILL", "web"]);
        let report = wait_until("docker's report", Duration::from_secs(10), || {
            reported(&web).filter(|report| report.running == Some(false))
        });
        assert_eq!(
            (report.exit_code, report.oom_killed),
            (Some(137), Some(false))
        );
        assert!(matches!(
            resolve(&parse("docker:web"), &now()),
            Err(Error::NotFound { .. })
        ));
    });
}

/// The table of `attach --list` has a line with these words, and fits a terminal.
fn expect_table(scene: &Scene, words: &[&str]) {
    let table = scene
        .procjail(&["attach", "--list"])
        .finish()
        .expect_code(0)
        .stdout;
    let line = table
        .lines()
        .find(|line| words.iter().all(|word| line.contains(word)));
    assert!(
        line.is_some_and(|line| line.chars().count() <= 80),
        "{table}"
    );
}

#[test]
fn containers_of_containerd_are_found_and_those_of_pods_named() {
    scene(|scene| {
        let mut engines = Engines::new(scene.directory());
        engines.containerd("containerd", &[]);
        let parent = "/procjail-engines";
        let limit = (48 << 20).to_string();
        let plain = format!("{parent}/web");
        engines.ctr(
            "containerd",
            "default",
            "web",
            &["--cgroup", &plain, "--memory-limit", &limit],
        );
        let cgroup = format!("{parent}-kubepods/pod{POD}/{APP}");
        let notes = [
            "io.kubernetes.cri.container-type=container",
            "io.kubernetes.cri.container-name=app",
            "io.kubernetes.cri.sandbox-name=web-0",
            "io.kubernetes.cri.sandbox-namespace=shop",
            "io.kubernetes.cri.image-name=procjail/app:1",
        ];
        let mut options = vec!["--cgroup", &cgroup];
        options.extend(notes.iter().flat_map(|note| ["--annotation", *note]));
        engines.ctr("containerd", "k8s.io", APP, &options);

        let list = now();
        let web = find(&list, "containerd:default/web");
        assert_eq!(
            (web.kind, web.cgroup.path()),
            (Kind::Containerd, plain.as_str())
        );
        assert_eq!(web.memory_limit_bytes, Some(48 << 20));
        expect_first_process(&web);
        let app = find(&list, "pod:shop/web-0/app");
        assert_eq!(
            (app.id.as_str(), app.image.as_deref()),
            (APP, Some("procjail/app:1"))
        );
        let pod = app.pod.clone().expect("a pod");
        assert_eq!(pod.uid.as_deref(), Some(POD));
        expect_first_process(&app);
        expect_table(scene, &["containerd", "shop/web-0/app"]);
        drop(engines);
        remove_pod();
    });
}

/// The cgroups above a container stay.
fn remove_pod() {
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
    for line in mounts.lines().filter(|line| line.contains(" cgroup")) {
        let point = line.split(' ').nth(1).expect("a mount point");
        for below in [format!("/pod{POD}"), String::new()] {
            let _ = std::fs::remove_dir(format!("{point}/procjail-engines-kubepods{below}"));
        }
    }
}

/// Its shim writes PIDs as they are there.
#[test]
fn a_containerd_in_a_pid_namespace_is_understood() {
    scene(|scene| {
        let mut engines = Engines::new(scene.directory());
        let by = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
        engines.containerd("inner", &by);
        engines.ctr(
            "inner",
            "default",
            "nested",
            &["--cgroup", "/procjail-engines/nested"],
        );
        let list = now();
        let nested = find(&list, "nested");
        assert_eq!(nested.cgroup.path(), "/procjail-engines/nested");
        assert!(nested.supervisor.is_some());
        expect_first_process(&nested);
    });
}

#[test]
fn containers_of_podman_are_found() {
    scene(|scene| {
        let mut engines = Engines::new(scene.directory());
        let id = engines.podman_run(&["--name", "web", "--memory", "64m", "--stop-signal", "INT"]);
        engines.podman(&["exec", "--detach", "web", "sleep", "60"]);
        let list = now();
        let web = find(&list, "podman:web");
        assert_eq!((web.kind, &web.id), (Kind::Podman, &id));
        assert_eq!(web.image.as_deref(), Some("localhost/procjail/app:1"));
        assert_eq!(
            (web.memory_limit_bytes, web.stop_signal),
            (Some(64 << 20), Some(2))
        );
        assert_eq!(web.cgroup.path(), format!("/libpod_parent/libpod-{id}"));
        expect_first_process(&web);
        expect_table(scene, &["podman", "web", "64.0 MiB"]);
        engines.podman(&["kill", "--signal", "KILL", "web"]);
        let report = wait_until("podman's report", Duration::from_secs(10), || {
            reported(&web).filter(|report| report.running == Some(false))
        });
        assert_eq!(report.exit_code, Some(137));
    });
}
