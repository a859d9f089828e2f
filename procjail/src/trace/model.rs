//! First and last line of a trace.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::event::{ExitStatus, Lost, Teardown};

/// Version of the format that this program writes. Readers refuse a newer one.
pub const FORMAT_VERSION: u32 = 2;

/// Value of [`Header::format`].
pub const FORMAT_NAME: &str = "procjail-trace";

/// First line: where and how the trace was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Header {
    /// Always `procjail-trace`.
    pub format: String,
    /// [`FORMAT_VERSION`] of the writer.
    pub version: u32,
    /// Version of procjail that wrote it.
    pub procjail: String,
    /// When the trace began, CLOCK_BOOTTIME nanoseconds.
    pub start_boot_ns: u64,
    /// The same instant, CLOCK_REALTIME nanoseconds since 1970.
    pub start_unix_ns: u64,
    /// The machine.
    pub host: Host,
    /// What was traced.
    pub jail: Jail,
    /// The probes.
    pub probes: Vec<Probe>,
}

/// The machine that a trace was made on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    /// Release of the kernel, as in uname(2).
    pub kernel: String,
    /// Architecture, as in uname(2).
    pub architecture: String,
    /// Name of the host.
    pub hostname: String,
    /// `v2`, `hybrid` or `v1`.
    pub cgroup_mode: String,
    /// Processors online.
    pub cpus: u32,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// Size of a page, bytes.
    pub page_bytes: u64,
    /// What this kernel doesn't have and newer ones do.
    #[serde(default)]
    pub lacks: Vec<Lack>,
}

/// Something that the kernel lacks and that procjail would use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lack {
    /// The file, system call or flag.
    pub feature: String,
    /// The first version of Linux that has it.
    pub since: String,
    /// What is lost or done in its stead.
    pub lost: String,
}

/// What was traced: a jail that procjail made, or what others started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Jail {
    /// Its name.
    pub name: String,
    /// What its first process executes, and the arguments.
    pub command: Vec<String>,
    /// Host PID of PID 1; 0 if what was traced has no PID namespace of its own.
    pub pid: u32,
    /// Its cgroup on the default hierarchy, an absolute path of the host.
    pub cgroup: String,
    /// ID of that cgroup.
    pub cgroup_id: u64,
    /// ID of its own cgroup in the hierarchy that has the memory controller; null if it has none there.
    #[serde(default)]
    pub memory_cgroup_id: Option<u64>,
    /// Limits in force, as written: file (such as `memory.max`) to value.
    pub limits: BTreeMap<String, String>,
    /// Variables of its environment that set the memory of a language's runtime, and no others.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Resource limits of PID 1 (getrlimit(2)): name, such as `nofile`, to the soft limit; null for
    /// none.
    #[serde(default)]
    pub rlimits: BTreeMap<String, Option<u64>>,
    /// procjail's own side of a jail that it made; null for what others started.
    pub launcher: Option<Launcher>,
    /// What the runtime or systemd calls it; null for a jail of procjail's.
    pub container: Option<Container>,
}

/// The launcher of a jail.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Launcher {
    /// Its host PID.
    pub pid: u32,
    /// The steps that were taken to build the jail, one sentence each.
    pub plan: Vec<String>,
    /// How long a stop may take, nanoseconds.
    pub stop_timeout_ns: u64,
    /// Signals were passed on at once, even without a handler (`--stop-as-is`).
    pub stop_as_is: bool,
}

/// A container, unit or cgroup that others started, as its runtime's records name it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Container {
    /// `docker`, `podman`, `containerd`, `crio`, `unit`, `cgroup` or `process`.
    pub kind: String,
    /// The runtime's ID of it, or the unit's name; empty if it has none.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The image it was made of; null if unknown.
    pub image: Option<String>,
    /// The low-level runtime, such as `runc` or `crun`; null if unknown.
    pub runtime: Option<String>,
    /// Its name in the pod (`k8s.container.name`); null outside of Kubernetes.
    pub container_name: Option<String>,
    /// Its pod; null outside of Kubernetes.
    pub pod: Option<Pod>,
    /// How long its runtime lets a stop take, nanoseconds; null if that isn't recorded.
    pub stop_timeout_ns: Option<u64>,
}

/// A Kubernetes pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pod {
    /// `k8s.pod.name`.
    pub name: String,
    /// `k8s.namespace.name`.
    pub namespace: String,
    /// `k8s.pod.uid`; empty if unknown.
    pub uid: String,
}

impl Header {
    /// That of a trace which begins now.
    pub fn begin(host: Host, jail: Jail, probes: Vec<Probe>) -> Header {
        Header {
            format: FORMAT_NAME.into(),
            version: FORMAT_VERSION,
            procjail: env!("CARGO_PKG_VERSION").into(),
            start_boot_ns: clock::boot_ns(),
            start_unix_ns: clock::unix_ns(),
            host,
            jail,
            probes,
        }
    }

    /// Whether the trace has who reaped whom. Without that, only a process's release tells that it was reaped, and
    /// the kernel may tell of that late.
    pub fn tells_reaps(&self) -> bool {
        self.probes
            .iter()
            .any(|probe| probe.name == "sys_exit" && probe.attached)
    }

    /// Host PID of the launcher; 0 if there was none.
    pub fn launcher_pid(&self) -> u32 {
        self.jail
            .launcher
            .as_ref()
            .map_or(0, |launcher| launcher.pid)
    }

    /// The steps by which procjail built the jail; none if others started what was traced.
    pub fn plan(&self) -> &[String] {
        self.jail
            .launcher
            .as_ref()
            .map_or(&[], |launcher| &launcher.plan)
    }
}

/// A probe, attached or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Probe {
    /// Name of the kernel's tracepoint.
    pub name: String,
    /// It is attached.
    pub attached: bool,
    /// Why not; null if it is.
    pub error: Option<String>,
    /// What a trace lacks without it.
    pub provides: String,
}

/// Last line: how the run ended and whether the trace is whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Footer {
    /// Always true; tells the footer from an event.
    pub footer: bool,
    /// When it ended, CLOCK_BOOTTIME nanoseconds.
    pub end_boot_ns: u64,
    /// The same instant, CLOCK_REALTIME nanoseconds since 1970; null in a trace that doesn't tell.
    #[serde(default)]
    pub end_unix_ns: Option<u64>,
    /// How PID 1 ended; null if it was not reaped in time.
    pub status: Option<ExitStatus>,
    /// Exit code of the launcher; null if there was none.
    pub exit_code: Option<i32>,
    /// From the gate, or from when the trace began, to PID 1's end, nanoseconds.
    pub duration_ns: u64,
    /// Events in this trace.
    pub events: u64,
    /// Events that it lacks; empty for a complete trace.
    pub lost: Vec<Lost>,
    /// Peak memory of the jail, bytes; null where the kernel doesn't tell.
    pub peak_memory_bytes: Option<u64>,
    /// CPU time of the jail, nanoseconds; null where the kernel doesn't tell.
    pub cpu_ns: Option<u64>,
    /// Processes made, PID 1 included.
    pub processes: u64,
    /// Processes that were dead and unreaped when PID 1 ended.
    pub zombies: u64,
    /// Steps of the clean-up.
    pub teardown: Vec<Teardown>,
}
