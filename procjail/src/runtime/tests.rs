//! Listings of whole hosts, made in a directory of what runtimes really wrote.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

const DOCKER: &str = "c97ba80d46e2aec40360d8b2e58eb41efbe0c50d62a1e0a5d3f631f1c624b52c";
const APP: &str = "865638fddaca4ef0e8a1ba386b9d6c2ad32377582a2daaebe1d6eb53396fc29b";
const SANDBOX: &str = "bea6bbbad1fc35861f51eb1450872197f096e2efaecc21d5560e1b1140c6807d";
const PODMAN: &str = "1158c7d35b2e5c20dd948ec005083084686ed53dd0290fcdb6a13d1a52240b95";
const CRIO: &str = "4309b1ae940ebe8c1fe0b6fe3d4d3c292d90cde7ab4a5d0d3df1293181ea9cdc";
const POD: &str = "/kubepods/burstable/pod0f2b6f0c-1111-4222-8333-444455556666";
const TASKS: &str = "io.containerd.runtime.v2.task";

/// A host with its procfs, below a directory.
struct Host {
    temp: tempfile::TempDir,
}

impl Host {
    /// One with cgroup v2 alone.
    fn new() -> Host {
        let host = Host {
            temp: tempfile::tempdir().unwrap(),
        };
        let mounts = "41 31 0:38 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw\n";
        host.write("/proc/self/mountinfo", mounts);
        host.process(1, 0, "systemd", "/init.scope", "/sbin/init");
        host
    }

    fn path(&self, path: &str) -> PathBuf {
        self.temp.path().join(path.trim_start_matches('/'))
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A process; the later one has the greater PID. `line` has its arguments.
    fn process(&self, pid: u32, parent: u32, comm: &str, cgroup: &str, line: &str) {
        let file = |name: &str| format!("/proc/{pid}/{name}");
        let zeros = "0 ".repeat(12);
        let stat = format!("{pid} ({comm}) S {parent} 1 1 0 -1 4194560 {zeros} {pid}00 1 1\n");
        self.write(&file("stat"), &stat);
        self.write(&file("cgroup"), &format!("0::{cgroup}\n"));
        self.write(&file("cmdline"), &line.replace(' ', "\0"));
        self.write(&file("status"), &format!("Name:\tx\nNStgid:\t{pid}\n"));
        let _ = symlink(self.temp.path(), self.path(&file("root")));
    }

    /// A shim with this bundle.
    fn shim(&self, pid: u32, namespace: &str, state: &str, id: &str) {
        let line = format!("/usr/bin/containerd-shim-runc-v2 -namespace {namespace} -id {id}");
        self.process(
            pid,
            1,
            "containerd-shim",
            "/system.slice/containerd.service",
            &line,
        );
        let bundle = self.path(&format!("{state}/{TASKS}/{namespace}/{id}"));
        fs::create_dir_all(&bundle).unwrap();
        symlink(bundle, self.path(&format!("/proc/{pid}/cwd"))).unwrap();
    }

    fn bundle(&self, directory: &str, init: u32, config: &str) {
        self.write(&format!("{directory}/config.json"), config);
        self.write(&format!("{directory}/init.pid"), &init.to_string());
    }

    fn docker(&self, data: &str, state: &str) {
        self.shim(100, "moby", state, DOCKER);
        let config = include_str!("fixtures/docker-bundle.json").replace("/var/lib/docker", data);
        self.bundle(&format!("{state}/{TASKS}/moby/{DOCKER}"), 101, &config);
        let own = format!("{data}/containers/{DOCKER}");
        let config = include_str!("fixtures/docker-config.v2.json");
        self.write(&format!("{own}/config.v2.json"), config);
        let host_config = include_str!("fixtures/docker-hostconfig.json");
        self.write(&format!("{own}/hostconfig.json"), host_config);
        let cgroup = format!("/docker/{DOCKER}");
        self.process(101, 100, "sh", &cgroup, "sh");
        self.process(102, 101, "sleep", &cgroup, "sleep 1");
        self.write(
            &format!("/sys/fs/cgroup{cgroup}/memory.current"),
            "1667072\n",
        );
        self.write(&format!("/sys/fs/cgroup{cgroup}/memory.max"), "67108864\n");
    }

    fn pod(&self) {
        let state = "/run/containerd";
        self.shim(200, "k8s.io", state, SANDBOX);
        let bundle = |id| format!("{state}/{TASKS}/k8s.io/{id}");
        self.bundle(
            &bundle(SANDBOX),
            201,
            include_str!("fixtures/cri-sandbox.json"),
        );
        self.bundle(
            &bundle(APP),
            202,
            include_str!("fixtures/cri-container.json"),
        );
        self.process(201, 200, "pause", &format!("{POD}/{SANDBOX}"), "pause");
        self.process(202, 200, "sh", &format!("{POD}/{APP}"), "sh");
        self.write(&format!("/sys/fs/cgroup{POD}/{APP}/memory.max"), "max\n");
    }

    fn podman(&self) {
        let line = include_str!("fixtures/podman-conmon.cmdline")
            .trim_end()
            .replace('\n', " ");
        self.process(
            300,
            1,
            "conmon",
            "/machine.slice/libpod-conmon-x.scope",
            &line,
        );
        let storage = "/var/lib/containers/storage/overlay-containers";
        let config = include_str!("fixtures/podman-bundle.json");
        self.write(&format!("{storage}/{PODMAN}/userdata/config.json"), config);
        let containers = include_str!("fixtures/podman-containers.json");
        self.write(&format!("{storage}/containers.json"), containers);
        self.write(
            "/run/libpod/events/events.log",
            include_str!("fixtures/podman-events.log"),
        );
        let cgroup = format!("/machine.slice/libpod-{PODMAN}.scope/container");
        self.process(301, 300, "sh", &cgroup, "sh");
    }

    fn roots(&self) -> Roots {
        Roots {
            proc: self.path("/proc"),
            host: self.temp.path().to_owned(),
            ..Roots::default()
        }
    }

    fn list(&self) -> List {
        list(&self.roots()).unwrap()
    }
}

impl List {
    /// The one that a word stands for.
    fn find(&self, target: &str) -> Container {
        resolve(&parse(target), self).unwrap()
    }

    fn error(&self, target: &str) -> Error {
        resolve(&parse(target), self).unwrap_err()
    }

    fn targets_of(&self, kind: Kind) -> Vec<String> {
        let targets = self.targets.iter().filter(|target| target.kind == kind);
        targets.map(Container::target).collect()
    }
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn a_container_of_docker_is_known_by_all_its_names() {
    let host = Host::new();
    host.docker("/srv/docker data", "/srv/state");
    let list = host.list();
    assert_eq!(list.unread, []);
    let web = list.find("web");
    assert_eq!(
        (web.kind, web.name.as_str(), web.id.as_str()),
        (Kind::Docker, "web", DOCKER)
    );
    assert_eq!((web.pid, web.supervisor), (Some(101), Some(100)));
    assert_eq!(web.start_ns, Some(101_000_000_000));
    assert_eq!(
        (web.memory_bytes, web.memory_limit_bytes),
        (Some(1_667_072), Some(67_108_864))
    );
    assert_eq!(
        (web.stop_signal, web.stop_timeout_ns),
        (Some(2), Some(7_000_000_000))
    );
    assert_eq!(
        (web.image.clone(), web.runtime.clone()),
        (some("local/busybox:1"), some("runc"))
    );
    assert_eq!(web.cgroup.unified, some(&format!("/docker/{DOCKER}")));
    let same = [
        "docker:web",
        "docker:c97ba8",
        "c97ba80d46e2",
        DOCKER,
        "101",
        "102",
    ];
    for target in same {
        assert_eq!(list.find(target), web, "{target}");
    }
    for cgroup in [
        format!("cgroup:docker/{DOCKER}/"),
        format!("/sys/fs/cgroup/docker/{DOCKER}"),
    ] {
        assert_eq!(list.find(&cgroup), web);
    }
    let report = reported(&web).unwrap();
    assert_eq!((report.running, report.exit_code), (Some(true), Some(0)));
}

#[test]
fn a_container_without_its_bundle_is_found_by_the_daemon() {
    let host = Host::new();
    host.docker("/srv/docker", "/srv/state");
    fs::remove_dir_all(host.path("/srv/state")).unwrap();
    assert_eq!(host.list().find("docker:c97b").name, DOCKER);
    host.write("/srv/daemon.json", "{\"data-root\": \"/srv/docker\"}");
    host.process(
        90,
        1,
        "dockerd",
        "/",
        "dockerd --config-file=/srv/daemon.json",
    );
    assert_eq!(host.list().find("docker:web").id, DOCKER);
    // A broken configuration costs the name, and is told.
    host.write("/srv/daemon.json", "{\"data-root\": ");
    let list = host.list();
    assert_eq!(list.find("docker:c97b").name, DOCKER);
    assert_eq!(list.unread.len(), 1, "{:?}", list.unread);
    assert!(
        list.unread[0].why.starts_with("not JSON"),
        "{:?}",
        list.unread
    );
}

#[test]
fn a_pod_is_its_containers_without_the_sandbox() {
    let host = Host::new();
    host.pod();
    let list = host.list();
    let app = list.find("pod:shop/web-0/app");
    assert_eq!(
        (app.kind, app.id.as_str(), app.pid),
        (Kind::Containerd, APP, Some(202))
    );
    assert_eq!(
        (app.namespace.clone(), app.supervisor),
        (some("k8s.io"), Some(200))
    );
    assert_eq!(app.image, some("docker.io/local/busybox:1"));
    assert_eq!(app.memory_limit_bytes, None);
    let pod = app.pod.clone().unwrap();
    assert_eq!(pod.uid, some("0f2b6f0c-1111-4222-8333-444455556666"));
    for target in [
        "pod:shop/web-0",
        "pod:web-0",
        "web-0",
        "app",
        "shop/web-0",
        "containerd:k8s.io/app",
    ] {
        assert_eq!(list.find(target), app, "{target}");
    }
    let sandbox = list.find("containerd:bea6");
    assert!(sandbox.sandbox && sandbox.pod == app.pod);
    assert!(matches!(
        list.error("pod:other/web-0"),
        Error::NotFound { .. }
    ));
}

#[test]
fn podman_and_crio_have_a_conmon() {
    let host = Host::new();
    host.podman();
    let bundle = format!("/run/containers/storage/overlay-containers/{CRIO}/userdata");
    let line = format!(
        "/usr/libexec/crio/conmon -b {bundle} -c {CRIO} -n k8s_app_web-0 -r /usr/bin/crun -s"
    );
    let pod = "/kubepods.slice/kubepods-pod0f2b6f0c_1111_4222_8333_444455556666.slice";
    host.process(
        400,
        1,
        "conmon",
        &format!("{pod}/crio-conmon-{CRIO}.scope"),
        &line,
    );
    host.write(
        &format!("{bundle}/config.json"),
        include_str!("fixtures/crio-container.json"),
    );
    host.process(401, 400, "sh", &format!("{pod}/crio-{CRIO}.scope"), "sh");
    let list = host.list();
    let web = list.find("podman:web");
    assert_eq!((web.pid, web.supervisor), (Some(301), Some(300)));
    assert_eq!(
        web.cgroup.unified,
        some(&format!("/machine.slice/libpod-{PODMAN}.scope"))
    );
    assert_eq!(web.image, some("localhost/local/busybox:1"));
    assert_eq!(reported(&web).unwrap().running, Some(true));
    let app = list.find("crio:4309");
    assert_eq!(app.target(), "pod:shop/web-0/app");
    assert_eq!((app.runtime.clone(), app.restarts), (some("crun"), Some(2)));
    // Without its conmon the storage still knows it.
    for pid in [300, 400] {
        fs::remove_dir_all(host.path(&format!("/proc/{pid}"))).unwrap();
    }
    let list = host.list();
    assert_eq!(list.find("podman:web").image, web.image);
    assert_eq!(list.find("pod:shop/web-0").name, "app");
}

#[test]
fn a_name_that_is_no_id_is_cut_off_the_path() {
    let host = Host::new();
    host.shim(500, "default", "/run/containerd", "web");
    let bundle = format!("/run/containerd/{TASKS}/default/web");
    host.bundle(&bundle, 501, include_str!("fixtures/ctr.json"));
    host.process(501, 500, "init", "/default/web/init.scope", "init");
    host.process(502, 501, "x", "/default/web/system.slice/x.service", "x");
    let list = host.list();
    let web = list.find("containerd:default/web");
    assert_eq!((web.cgroup.path(), web.pid), ("/default/web", Some(501)));
    let inner = list.find("unit:x");
    let parent = Parent {
        kind: Kind::Containerd,
        id: "web".to_owned(),
    };
    assert_eq!((inner.pid, inner.parent), (Some(502), Some(parent)));
}

#[test]
fn runtimes_alone_leave_their_state() {
    let host = Host::new();
    let state = include_str!("fixtures/runc-state.json");
    host.write("/run/runc/r1/state.json", state);
    // Started at tick 174885.
    host.write(
        "/proc/3061/stat",
        "3061 (sh) S 1 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 0 0 0 0 174885 1",
    );
    host.write("/proc/3061/cgroup", "0::/r1\n4:memory:/user/1/r1\n");
    host.write("/run/crun/c1/status", include_str!("fixtures/crun-status"));
    // Another process has its PID now.
    host.process(4242, 1, "other", "/other", "other");
    let list = host.list();
    assert_eq!(list.targets_of(Kind::Oci), ["oci:r1"]);
    let r1 = list.find("r1");
    assert_eq!(
        (r1.runtime.as_deref(), r1.cgroup.path()),
        (Some("runc"), "/r1")
    );
    assert_eq!(r1.cgroup.memory, some("/user/1/r1"));
    assert_eq!(list.find("other").kind, Kind::Cgroup);
}

#[test]
fn a_nested_container_is_known_by_its_number_inside() {
    let host = Host::new();
    host.docker("/var/lib/docker", "/run/docker/containerd/daemon");
    // In the outer container, PIDs count from 1, and the root is another.
    let outer = host.path("/outer");
    fs::create_dir_all(&outer).unwrap();
    host.shim(600, "k8s.io", "/outer/run/containerd", SANDBOX);
    fs::remove_file(host.path("/proc/600/root")).unwrap();
    symlink(&outer, host.path("/proc/600/root")).unwrap();
    host.write("/proc/600/status", "NStgid:\t600\t50\n");
    let bundle = format!("/outer/run/containerd/{TASKS}/k8s.io/{APP}");
    host.bundle(&bundle, 101, include_str!("fixtures/cri-container.json"));
    let path = format!("/docker/{DOCKER}{POD}/{APP}");
    host.process(601, 600, "sh", &path, "sh");
    host.write("/proc/601/status", "NStgid:\t601\t101\t1\n");
    let list = host.list();
    let app = list.find("pod:shop/web-0/app");
    let parent = Parent {
        kind: Kind::Docker,
        id: DOCKER.to_owned(),
    };
    assert_eq!((app.pid, app.parent.clone()), (Some(601), Some(parent)));
    assert_eq!(list.find("601"), app);
    assert_eq!(list.find("docker:web").pid, Some(101));
}

#[test]
fn units_are_stopped_as_their_files_say() {
    let host = Host::new();
    host.process(700, 1, "web", "/system.slice/web@1.service", "web");
    host.write(
        "/usr/lib/systemd/system/web@.service",
        "[Service]\nKillSignal=SIGINT\n",
    );
    host.write(
        "/etc/systemd/system/web@1.service.d/a.conf",
        "[Service]\nTimeoutStopSec=5\n",
    );
    // Hidden by that.
    host.write(
        "/usr/lib/systemd/system/web@.service.d/a.conf",
        "[Service]\nTimeoutStopSec=6\n",
    );
    let user = "/user.slice/user-1.slice/user@1.service";
    host.process(
        710,
        1,
        "systemd",
        &format!("{user}/init.scope"),
        "systemd --user",
    );
    host.process(
        711,
        710,
        "x",
        &format!("{user}/app.slice/web@1.service"),
        "x",
    );
    let list = host.list();
    let Error::Ambiguous { hits, .. } = list.error("unit:web@1") else {
        panic!("two managers, two units");
    };
    assert_eq!(hits.len(), 2);
    let web = list.find("700");
    assert_eq!(
        (web.stop_signal, web.stop_timeout_ns),
        (Some(2), Some(5_000_000_000))
    );
    assert_eq!(
        (web.supervisor, web.name.as_str()),
        (Some(1), "web@1.service")
    );
    let of_user = list.find("711");
    assert_eq!((of_user.stop_signal, of_user.supervisor), (None, None));
    assert_eq!(of_user.parent.unwrap().id, "user@1.service");
}

#[test]
fn what_is_in_the_root_is_a_process() {
    let host = Host::new();
    host.process(800, 1, "lonely", "/", "lonely");
    host.process(801, 1, "worker", "/jobs/a b", "worker");
    fs::create_dir_all(host.path("/sys/fs/cgroup/jobs/a b")).unwrap();
    fs::create_dir_all(host.path("/sys/fs/cgroup/empty")).unwrap();
    let list = host.list();
    let lonely = list.find("800");
    assert_eq!(
        (lonely.kind, lonely.name.as_str()),
        (Kind::Process, "lonely")
    );
    assert_eq!(lonely.cgroup.path(), "/");
    assert_eq!(list.find("801").target(), "cgroup:/jobs/a b");
    // One above it, and one without a process.
    let jobs = list.find("cgroup:/jobs");
    assert_eq!((jobs.kind, jobs.pid), (Kind::Cgroup, Some(801)));
    assert_eq!(list.find("cgroup:/empty").pid, None);
    for target in [
        "802",
        "cgroup:/none",
        "cgroup:/../..",
        "cgroup:/jobs/../../..",
    ] {
        assert!(
            matches!(list.error(target), Error::NotFound { .. }),
            "{target}"
        );
    }
}

#[test]
fn several_are_listed_and_near_ones_named() {
    let host = Host::new();
    host.docker("/var/lib/docker", "/run/docker/containerd/daemon");
    host.podman();
    host.process(700, 1, "web", "/system.slice/web.service", "web");
    let list = host.list();
    let Error::Ambiguous { hits, .. } = list.error("web") else {
        panic!("three are called web");
    };
    let targets: Vec<&str> = hits.iter().map(|hit| hit.target.as_str()).collect();
    assert_eq!(targets, ["docker:web", "podman:web", "unit:web.service"]);
    let Error::NotFound { near, .. } = list.error("docker:wed") else {
        panic!("nothing is called wed");
    };
    assert_eq!(near, ["docker:web", "podman:web", "unit:web.service"]);
    assert_eq!(list.find("unit:web").name, "web.service");
}

#[test]
fn who_has_a_runtimes_name_is_believed_about_its_own_child_alone() {
    let host = Host::new();
    host.docker("/var/lib/docker", "/run/docker/containerd/daemon");
    // Claims to be the parent of docker's container.
    host.shim(900, "k8s.io", "/home/mallory", APP);
    let bundle = format!("/home/mallory/{TASKS}/k8s.io/{APP}");
    host.bundle(&bundle, 101, include_str!("fixtures/cri-container.json"));
    let list = host.list();
    assert_eq!(list.find("101").target(), "docker:web");
    assert_eq!(list.targets_of(Kind::Containerd), Vec::<String>::new());
}

#[test]
fn hostile_files_cost_only_what_they_would_tell() {
    let host = Host::new();
    host.docker("/var/lib/docker", "/run/docker/containerd/daemon");
    host.pod();
    host.podman();
    let own = format!("/var/lib/docker/containers/{DOCKER}");
    let hostile = "{\"Name\": \"/a\\u001b[2J\\nb\", \"Config\": {\"Image\": 5, \"StopSignal\": \"SIGX\", \"StopTimeout\": 1e300}}";
    host.write(&format!("{own}/config.v2.json"), hostile);
    let bundle = format!("/run/containerd/{TASKS}/k8s.io/{APP}");
    host.write(&format!("{bundle}/config.json"), &"[".repeat(100_000));
    host.write(&format!("{bundle}/init.pid"), "-1\n");
    let storage = host.path("/var/lib/containers/storage/overlay-containers/containers.json");
    fs::remove_file(&storage).unwrap();
    nix::unistd::mkfifo(&storage, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let list = host.list();
    let web = list.find("docker:c97b");
    // What renders it escapes it.
    assert_eq!(web.name, "a\u{1b}[2J\nb");
    assert_eq!(
        (web.image, web.stop_signal, web.stop_timeout_ns),
        (None, None, None)
    );
    // Its path tells where it is.
    let app = list.find("containerd:8656");
    assert_eq!((app.pid, app.pod.unwrap().name), (Some(202), None));
    assert_eq!(list.find("podman:web").image, None);
    let unread: Vec<&Path> = list
        .unread
        .iter()
        .map(|unread| unread.path.as_path())
        .collect();
    let config = host.path(&format!("{bundle}/config.json"));
    assert_eq!(unread.len(), 2, "{:?}", list.unread);
    assert!(unread.contains(&config.as_path()) && unread.contains(&storage.as_path()));
    let json = serde_json::to_string(&list).unwrap();
    assert!(json.starts_with("{\"version\":1,\"targets\":["), "{json}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Any file may be cut anywhere, or hold anything.
    #[test]
    fn a_host_is_listed_whatever_its_files_hold(at in 0..2000usize, junk in "\\PC{0,40}", which in 0..6usize) {
        let host = Host::new();
        host.docker("/var/lib/docker", "/run/docker/containerd/daemon");
        host.pod();
        host.podman();
        let files = [
            format!("/var/lib/docker/containers/{DOCKER}/config.v2.json"),
            format!("/run/containerd/{TASKS}/k8s.io/{APP}/config.json"),
            format!("/run/containerd/{TASKS}/k8s.io/{APP}/init.pid"),
            "/var/lib/containers/storage/overlay-containers/containers.json".to_owned(),
            "/proc/300/cmdline".to_owned(),
            "/proc/202/cgroup".to_owned(),
        ];
        let path = host.path(&files[which]);
        let mut bytes = fs::read(&path).unwrap();
        bytes.truncate(at);
        bytes.extend(junk.as_bytes());
        fs::write(&path, bytes).unwrap();
        let list = host.list();
        // The others are there all the same.
        let others = list.targets.iter().filter(|target| [Some(101), Some(201), Some(301)].contains(&target.pid));
        prop_assert_eq!(others.count(), 3);
        for target in &list.targets {
            let _ = resolve(&parse(&target.target()), &list);
            reported(target);
        }
    }
}
