//! What a target is: the types that a listing is made of.

use std::path::PathBuf;

use serde::Serialize;

/// Who made a target, which is also the prefix of its name on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// dockerd.
    Docker,
    /// containerd, asked by `ctr`, nerdctl or the kubelet.
    Containerd,
    /// CRI-O.
    Crio,
    /// podman.
    Podman,
    /// An OCI runtime such as runc without an engine, or an engine that is not known.
    Oci,
    /// LXC.
    Lxc,
    /// A service or scope of systemd.
    Unit,
    /// A cgroup of which nothing else is known.
    Cgroup,
    /// A process that is in no cgroup of its own.
    Process,
}

impl Kind {
    /// All kinds whose names can be asked for as `KIND:NAME`.
    pub const NAMED: [Kind; 7] = [
        Kind::Docker,
        Kind::Containerd,
        Kind::Crio,
        Kind::Podman,
        Kind::Oci,
        Kind::Lxc,
        Kind::Unit,
    ];

    /// Its word: `docker`.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Docker => "docker",
            Kind::Containerd => "containerd",
            Kind::Crio => "crio",
            Kind::Podman => "podman",
            Kind::Oci => "oci",
            Kind::Lxc => "lxc",
            Kind::Unit => "unit",
            Kind::Cgroup => "cgroup",
            Kind::Process => "process",
        }
    }
}

/// Something that could be attached to.
///
/// All text comes from files that others write: it may hold any character, control characters too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Container {
    /// Who made it.
    pub kind: Kind,
    /// What people call it: the container's or unit's name, else the ID, the cgroup's path or the PID.
    pub name: String,
    /// The runtime's ID: 64 hex digits for most, a chosen name for `ctr` and `runc`. For a unit its name,
    /// for a cgroup its path, for a process its PID.
    pub id: String,
    /// containerd's namespace, such as `k8s.io`, `default` or `moby`.
    pub namespace: Option<String>,
    /// The Kubernetes pod that it is a part of.
    pub pod: Option<Pod>,
    /// Its name in the pod's specification.
    pub container_name: Option<String>,
    /// It is the pod's sandbox (`pause`), which only holds the pod's namespaces.
    pub sandbox: bool,
    /// The image, as it was asked for.
    pub image: Option<String>,
    /// The program that made it: `runc`, `crun`.
    pub runtime: Option<String>,
    /// PID on the host of its init: PID 1 of the container, or the oldest process of a unit or cgroup. `None`
    /// if nothing runs in it.
    pub pid: Option<u32>,
    /// PID on the host of what watches it and is the parent of its init and of what is executed in it:
    /// containerd-shim, conmon, or the systemd that started a unit.
    pub supervisor: Option<u32>,
    /// When its init started: CLOCK_BOOTTIME, nanoseconds, cut to ticks of 10 ms.
    pub start_ns: Option<u64>,
    /// Time since then, nanoseconds.
    pub age_ns: Option<u64>,
    /// Its cgroup.
    pub cgroup: Cgroup,
    /// Memory charged to it, bytes: `memory.current`, or v1's `memory.usage_in_bytes`.
    pub memory_bytes: Option<u64>,
    /// Its own memory limit, bytes, if it has one; a cgroup above it may have a lower one.
    pub memory_limit_bytes: Option<u64>,
    /// The container or unit that it runs in.
    pub parent: Option<Parent>,
    /// The signal that asks it to stop, if that is configured (else the runtime sends SIGTERM).
    pub stop_signal: Option<i32>,
    /// Time between that signal and SIGKILL, nanoseconds, if that is configured on disk (else docker and podman
    /// give 10 s, systemd 90 s, and a pod 30 s or what its specification says).
    pub stop_timeout_ns: Option<u64>,
    /// How often the runtime has started it again, where that is on disk.
    pub restarts: Option<u64>,
    /// The directory of its `config.json`. In a container, a path below `/proc/PID/root`.
    pub bundle: Option<PathBuf>,
    /// The file in which the runtime reports how it ended: docker's `config.v2.json`, podman's event log.
    pub record: Option<PathBuf>,
}

/// A Kubernetes pod, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pod {
    /// Its name.
    pub name: Option<String>,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its UID; of a static pod the hash of its specification.
    pub uid: Option<String>,
}

/// A target that another one runs in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Parent {
    /// Who made it.
    pub kind: Kind,
    /// Its ID, as in [`Container::id`].
    pub id: String,
}

/// Paths below the root of each hierarchy, as in /proc/PID/cgroup. Of a target, `None` where there is no such
/// hierarchy, or where it has no cgroup of its own in it but shares one with others; of a process, where it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cgroup {
    /// In the v2 hierarchy.
    pub unified: Option<String>,
    /// In the v1 hierarchy of the memory controller.
    pub memory: Option<String>,
    /// In the v1 hierarchy of the pids controller.
    pub pids: Option<String>,
}

impl Cgroup {
    /// Takes apart /proc/PID/cgroup (cgroups(7)).
    pub(super) fn parse(text: &str) -> Cgroup {
        let mut cgroup = Cgroup::default();
        for line in text.lines() {
            let mut fields = line.splitn(3, ':');
            let (Some(number), Some(controllers), Some(path)) =
                (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let path = path.strip_suffix(" (deleted)").unwrap_or(path);
            let has = |wanted| controllers.split(',').any(|found| found == wanted);
            let slots = [
                (number == "0" && controllers.is_empty(), &mut cgroup.unified),
                (has("memory"), &mut cgroup.memory),
                (has("pids"), &mut cgroup.pids),
            ];
            for (matches, slot) in slots {
                if matches && path.starts_with('/') {
                    *slot = Some(path.to_owned());
                }
            }
        }
        cgroup
    }

    /// The paths that there are, in the order in which they are trusted to tell who is in it.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        let paths = [&self.unified, &self.memory, &self.pids];
        paths.into_iter().filter_map(|path| path.as_deref())
    }

    /// The first path that is not the root; `/` if there is none: then no cgroup tells it from the rest.
    pub fn path(&self) -> &str {
        self.paths().find(|path| *path != "/").unwrap_or("/")
    }
}

impl Container {
    /// The word on the command line that stands for it: `docker:web`, `pod:shop/web-0/app`.
    pub fn target(&self) -> String {
        let kind = self.kind.word();
        match (self.kind, &self.pod, &self.namespace) {
            (Kind::Process, ..) => self.id.clone(),
            (
                _,
                Some(Pod {
                    name: Some(name),
                    namespace: Some(namespace),
                    ..
                }),
                _,
            ) => match &self.container_name {
                Some(container) => format!("pod:{namespace}/{name}/{container}"),
                None => format!("{kind}:{}", self.id),
            },
            (Kind::Containerd, _, Some(namespace)) => format!("{kind}:{namespace}/{}", self.name),
            _ => format!("{kind}:{}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hierarchies_are_told_apart() {
        let text =
            "9:name=systemd:/a\n8:pids:/b\n4:cpu,memory:/c:d\n0::/e (deleted)\nbroken\n1:x\n";
        let cgroup = Cgroup::parse(text);
        let path = |path: &str| Some(path.to_owned());
        assert_eq!(cgroup.unified, path("/e"));
        assert_eq!(cgroup.memory, path("/c:d"));
        assert_eq!(cgroup.pids, path("/b"));
        assert_eq!(Cgroup::parse("0::/\n4:memory:/m\n").path(), "/m");
        assert_eq!(Cgroup::parse("").path(), "/");
    }
}
