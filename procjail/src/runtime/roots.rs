//! Where runtimes keep what they know.

use std::path::PathBuf;

/// The directories that are looked at. Those of other places are found from the command lines of daemons and
/// from the working directories of shims.
#[derive(Clone, Debug)]
pub struct Roots {
    /// procfs, of the host's PID namespace.
    pub proc: PathBuf,
    /// The root directory in which all paths below lie, and the mount points of cgroups.
    pub host: PathBuf,
    /// containerd's bundles: directories with `NAMESPACE/ID/config.json`.
    pub tasks: Vec<PathBuf>,
    /// dockerd's data: directories with `containers/ID/config.v2.json`.
    pub docker: Vec<PathBuf>,
    /// Container storage of podman and CRI-O: directories with `overlay-containers/ID/userdata/config.json`.
    pub storage: Vec<PathBuf>,
    /// runc's state: directories with `ID/state.json`.
    pub runc: Vec<PathBuf>,
    /// crun's state: directories with `ID/status`.
    pub crun: Vec<PathBuf>,
    /// systemd's units, those that count most first (systemd.unit(5)).
    pub units: Vec<PathBuf>,
}

impl Default for Roots {
    fn default() -> Roots {
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect();
        Roots {
            proc: PathBuf::from("/proc"),
            host: PathBuf::from("/"),
            tasks: paths(&[
                "/run/containerd/io.containerd.runtime.v2.task",
                "/run/docker/containerd/daemon/io.containerd.runtime.v2.task",
                "/run/k3s/containerd/io.containerd.runtime.v2.task",
                "/run/k0s/containerd/io.containerd.runtime.v2.task",
                "/var/snap/microk8s/common/run/containerd/io.containerd.runtime.v2.task",
            ]),
            docker: paths(&["/var/lib/docker", "/var/snap/docker/common/var-lib-docker"]),
            storage: paths(&["/run/containers/storage", "/var/lib/containers/storage"]),
            runc: paths(&["/run/runc"]),
            crun: paths(&["/run/crun"]),
            units: paths(&[
                "/etc/systemd/system.control",
                "/run/systemd/system.control",
                "/run/systemd/transient",
                "/etc/systemd/system",
                "/run/systemd/system",
                "/run/systemd/generator",
                "/usr/local/lib/systemd/system",
                "/usr/lib/systemd/system",
                "/lib/systemd/system",
            ]),
        }
    }
}

impl Roots {
    /// A file of a process.
    pub(super) fn of_process(&self, pid: u32, file: &str) -> PathBuf {
        self.proc.join(pid.to_string()).join(file)
    }
}
