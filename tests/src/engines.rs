//! Real container engines, with all that they keep below one directory: containerd, dockerd, podman.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::wait_until;

/// Time that a daemon has to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// Time that it has to stop. unshare(1) doesn't.
const GRACE: Duration = Duration::from_secs(3);

/// The containers' program: something that runs until it is told to stop.
const APP: [&str; 3] = [
    "/bin/sh",
    "-c",
    "trap 'exit 0' TERM; while :; do sleep 0.2; done",
];

/// Seconds that a command of an engine has: it waits for its daemon for ever.
const DEADLINE: &str = "30";

/// podman's, wherever its containers are.
const LOCKS: &str = "/dev/shm/libpod_lock";

/// The engines' daemons and what they run. All of it ends with this.
#[derive(Debug)]
pub struct Engines {
    directory: PathBuf,
    daemons: Vec<Child>,
    /// Sockets of containerds, with what runs there: namespace and ID.
    tasks: Vec<(String, String, String)>,
    has_docker: bool,
    has_podman: bool,
    /// podman's locks of this root were there before.
    had_locks: bool,
}

impl Engines {
    /// Makes a root file system for containers; nothing runs yet.
    ///
    /// # Panics
    ///
    /// Something isn't installed.
    pub fn new(directory: &Path) -> Engines {
        for program in [
            "containerd",
            "ctr",
            "dockerd",
            "docker",
            "podman",
            "runc",
            "tar",
        ] {
            let found = std::env::var_os("PATH").is_some_and(|path| {
                std::env::split_paths(&path).any(|at| at.join(program).exists())
            });
            assert!(
                found,
                "there is no {program}: install containerd, docker.io and podman"
            );
        }
        let bin = directory.join("rootfs/bin");
        fs::create_dir_all(&bin).expect("a root file system");
        for other in ["proc", "sys", "dev", "etc", "tmp", "run"] {
            fs::create_dir_all(directory.join("rootfs").join(other)).expect("a directory");
        }
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].map(Path::new);
        let busybox = busybox.into_iter().find(|path| path.exists());
        fs::copy(busybox.expect("busybox-static"), bin.join("busybox")).expect("busybox");
        for name in ["sh", "seq", "sleep", "true"] {
            std::os::unix::fs::symlink("busybox", bin.join(name)).expect("a link");
        }
        fs::copy(crate::misbehave(), bin.join("misbehave")).expect("misbehave");
        let engines = Engines {
            directory: directory.to_owned(),
            daemons: Vec::new(),
            tasks: Vec::new(),
            has_docker: false,
            has_podman: false,
            had_locks: Path::new(LOCKS).exists(),
        };
        engines.done(
            Command::new("tar")
                .args(["-C", &engines.path("rootfs"), "-cf"])
                .args([&engines.path("rootfs.tar"), "."]),
        );
        engines
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// Runs a command to its successful end.
    #[track_caller]
    fn done(&self, command: &mut Command) -> String {
        let Output {
            status,
            stdout,
            stderr,
        } = command.stdin(Stdio::null()).output().expect("a command");
        let stderr = String::from_utf8_lossy(&stderr);
        assert!(status.success(), "{command:?}: {status}\n{stderr}");
        String::from_utf8_lossy(&stdout).trim().to_owned()
    }

    /// Starts a daemon and waits for its socket.
    fn daemon(&mut self, name: &str, command: &mut Command) {
        let log = fs::File::create(self.directory.join(format!("{name}.log"))).expect("a log");
        let log = || Stdio::from(log.try_clone().expect("a descriptor"));
        let child = command
            .stdin(Stdio::null())
            .stdout(log())
            .stderr(log())
            .spawn();
        self.daemons.push(child.expect(name));
        let socket = self.directory.join(format!("{name}.sock"));
        wait_until(&format!("socket of {name}"), PATIENCE, || {
            std::os::unix::net::UnixStream::connect(&socket).ok()
        });
    }

    /// Starts a containerd of this name, by another program if one is given.
    pub fn containerd(&mut self, name: &str, by: &[&str]) {
        let directory = self.path(name);
        let socket = self.path(&format!("{name}.sock"));
        let config = format!(
            "version = 2\nroot = \"{directory}/root\"\nstate = \"{directory}/state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\n  address = \"{socket}\"\n\
             [plugins.\"io.containerd.internal.v1.opt\"]\n  path = \"{directory}/opt\"\n"
        );
        let file = self.path(&format!("{name}.toml"));
        fs::write(&file, config).expect("a configuration");
        let mut line = by.to_vec();
        line.extend(["containerd", "--config", &file]);
        self.daemon(name, Command::new(line[0]).args(&line[1..]));
    }

    /// Starts a container by that containerd, with these options of `ctr run`.
    pub fn ctr(&mut self, daemon: &str, namespace: &str, id: &str, options: &[&str]) {
        self.ctr_of(daemon, namespace, id, options, &APP);
    }

    /// The same with a program of one's own.
    pub fn ctr_of(
        &mut self,
        daemon: &str,
        namespace: &str,
        id: &str,
        options: &[&str],
        program: &[&str],
    ) {
        let socket = self.path(&format!("{daemon}.sock"));
        let task = (socket.clone(), namespace.to_owned(), id.to_owned());
        self.tasks.push(task);
        let mut command = client("ctr");
        command.args([
            "--address",
            &socket,
            "--namespace",
            namespace,
            "run",
            "--detach",
        ]);
        command
            .args(options)
            .args(["--rootfs", &self.path("rootfs"), id])
            .args(program);
        self.done(&mut command);
    }

    /// Asks a container of a containerd to stop, and returns its exit code.
    pub fn ctr_stop(&self, daemon: &str, namespace: &str, id: &str) -> String {
        let socket = self.path(&format!("{daemon}.sock"));
        let ctr = |arguments: &[&str]| {
            let mut command = client("ctr");
            command.args(["--address", &socket, "--namespace", namespace, "task"]);
            command.args(arguments);
            command
        };
        self.done(&mut ctr(&["kill", "--signal", "SIGTERM", id]));
        // `… msg="task web exit with non-zero exit code 3"`.
        wait_until("end of the task", GRACE, || {
            let output = ctr(&["delete", id]).output().expect("ctr");
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            output.status.success().then_some(told)
        })
        .trim_end_matches(|char: char| !char.is_ascii_digit())
        .rsplit(' ')
        .next()
        .map_or_else(|| "0".to_owned(), str::to_owned)
    }

    /// Starts dockerd, with data in a place that only its configuration tells.
    pub fn dockerd(&mut self) {
        let path = |name: &str| self.path(name);
        let config = serde_json::json!({
            "data-root": path("docker/data"), "exec-root": path("docker/exec"),
            "pidfile": path("docker/pid"), "hosts": [format!("unix://{}", path("dockerd.sock"))],
            "iptables": false, "ip6tables": false, "bridge": "none", "ip-forward": false,
            "storage-driver": "vfs", "exec-opts": ["native.cgroupdriver=cgroupfs"],
        });
        let file = path("daemon.json");
        fs::write(&file, config.to_string()).expect("a configuration");
        self.has_docker = true;
        self.daemon(
            "dockerd",
            Command::new("dockerd").args(["--config-file", &file]),
        );
        let image = self.path("rootfs.tar");
        self.docker(&["import", &image, "procjail/app:1"]);
    }

    /// Runs `docker`, and returns what it prints.
    #[track_caller]
    pub fn docker(&self, arguments: &[&str]) -> String {
        let host = format!("unix://{}", self.path("dockerd.sock"));
        self.done(client("docker").args(["--host", &host]).args(arguments))
    }

    /// Starts a container by docker, and returns its ID.
    pub fn docker_run(&self, options: &[&str]) -> String {
        self.docker_run_of(options, &APP)
    }

    /// The same with a program of one's own.
    pub fn docker_run_of(&self, options: &[&str], program: &[&str]) -> String {
        let options: Vec<&str> = [&["run", "--detach", "--network", "host"], options].concat();
        self.docker(&[&options[..], &["procjail/app:1"], program].concat())
    }

    /// Runs `podman`, and returns what it prints.
    #[track_caller]
    pub fn podman(&self, arguments: &[&str]) -> String {
        let directories = [
            ("--root", "data"),
            ("--runroot", "run"),
            ("--tmpdir", "tmp"),
        ];
        let mut command = client("podman");
        // conmon notes an OOM kill in a file of its working directory.
        command.current_dir(&self.directory);
        for (option, name) in directories {
            command.args([option, &self.path(&format!("podman/{name}"))]);
        }
        command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"]);
        command.args(["--events-backend", "file", "--runtime", "runc"]);
        self.done(command.args(arguments))
    }

    /// Starts a container by podman, and returns its ID.
    pub fn podman_run(&mut self, options: &[&str]) -> String {
        self.podman_run_of(options, &APP)
    }

    /// The same with a program of one's own.
    pub fn podman_run_of(&mut self, options: &[&str], program: &[&str]) -> String {
        if !self.has_podman {
            self.has_podman = true;
            self.podman(&["import", &self.path("rootfs.tar"), "procjail/app:1"]);
        }
        // It would raise limits, which not every root may.
        let limits = [
            "--ulimit",
            "nofile=1024:1024",
            "--ulimit",
            "nproc=1000:1000",
        ];
        let fixed = [
            &["run", "--detach", "--network", "host"],
            &limits[..],
            options,
        ]
        .concat();
        self.podman(&[&fixed[..], &["procjail/app:1"], program].concat())
    }
}

impl Drop for Engines {
    /// Removes all of it, as well as that goes: this runs after a failure, too.
    fn drop(&mut self) {
        let quietly = |command: &mut Command| {
            let _ = command.stdin(Stdio::null()).output();
        };
        if self.has_podman {
            let rm = ["rm", "--all", "--force", "--time", "0"];
            let _ = std::panic::catch_unwind(|| self.podman(&rm));
        }
        if self.has_docker {
            let ids = std::panic::catch_unwind(|| self.docker(&["ps", "--all", "--quiet"]));
            for id in ids.unwrap_or_default().lines() {
                let _ = std::panic::catch_unwind(|| self.docker(&["rm", "--force", id]));
            }
        }
        for (socket, namespace, id) in &self.tasks {
            let ctr = |arguments: &[&str]| {
                let mut command = client("ctr");
                command.args(["--address", socket, "--namespace", namespace]);
                quietly(command.args(arguments));
            };
            ctr(&["task", "rm", "--force", id]);
            ctr(&["container", "rm", id]);
        }
        for daemon in &mut self.daemons {
            // SAFETY: kill has no preconditions, and the child is not collected yet.
            unsafe { libc::kill(daemon.id() as libc::pid_t, libc::SIGTERM) };
            let ended = Instant::now() + GRACE;
            while matches!(daemon.try_wait(), Ok(None)) && Instant::now() < ended {
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        unmount_below(&self.directory);
        remove_cgroups();
        // What podman and the shims make elsewhere, if nobody else uses it.
        let shims = ["runc/default", "runc/k8s.io", "runc", "s", "fifo", ""];
        let shims = shims.map(|name| Path::new("/run/containerd").join(name));
        for directory in shims
            .iter()
            .map(PathBuf::as_path)
            .chain([Path::new("/run/runc")])
        {
            let _ = fs::remove_dir(directory);
        }
        if !self.had_locks {
            let _ = fs::remove_file(LOCKS);
        }
    }
}

/// A command of an engine, which has so long.
fn client(program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--signal", "KILL", DEADLINE, program]);
    command
}

fn unmount_below(directory: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    let mut points: Vec<&str> = points
        .filter(|point| Path::new(point).starts_with(directory))
        .collect();
    points.sort_unstable();
    for point in points.into_iter().rev() {
        let _ = nix::mount::umount2(point, nix::mount::MntFlags::MNT_DETACH);
    }
}

/// The engines leave the cgroups in which they make their containers', in each hierarchy.
fn remove_cgroups() {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let hierarchies = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (point, kind) = (fields.next()?, fields.next()?);
        kind.starts_with("cgroup").then(|| PathBuf::from(point))
    });
    let names = [
        "docker",
        "libpod_parent/conmon",
        "libpod_parent",
        "procjail-engines",
    ];
    let paths: Vec<PathBuf> = hierarchies
        .flat_map(|hierarchy| names.map(|name| hierarchy.join(name)))
        .collect();
    // What was in them may be about to end. Those of others stay.
    let end = Instant::now() + GRACE;
    let stays = |path: &&PathBuf| fs::remove_dir(path).is_err() && path.exists();
    while paths.iter().filter(stays).count() > 0 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
    }
}
