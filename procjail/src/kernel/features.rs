//! What this host supports, found out by trying.

use std::{fs, io};

use serde::Serialize;

use super::{
    btf::Btf,
    host::{self, MountPoint},
    object::LICENSE,
    preempt, sys,
    tracer::{BTF_PATH, Options, Tracer, layout_from},
};

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Everything that depends on it works.
    Ok,
    /// Something is lost without it, but `trace` works.
    Limited,
    /// `trace` does not work without it.
    Missing,
    /// Told for completeness; nothing depends on it.
    Info,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What it is.
    pub name: String,
    /// How it came out.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What is lost; null if nothing is.
    pub lost: Option<String>,
    /// What the user can do about it; null if nothing need be done.
    pub remedy: Option<String>,
}

impl Check {
    fn new(name: &str, state: State, found: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            state,
            found: found.into(),
            lost: None,
            remedy: None,
        }
    }

    fn losing(mut self, lost: impl Into<String>, remedy: impl Into<String>) -> Self {
        self.lost = Some(lost.into());
        self.remedy = Some(remedy.into());
        self
    }
}

/// Looks at everything that the probes and the jail need of this host. Leaves nothing behind: probes
/// that were attached for the trial are detached when it returns.
pub fn check() -> Vec<Check> {
    let mut checks = vec![privileges()];
    checks.push(lockdown());
    checks.push(types());
    checks.extend(probes());
    checks.push(preemption());
    checks.extend(cgroups(&host::mounts()));
    checks.push(tracefs(&host::mounts()));
    checks.push(function_probes());
    checks
}

/// Bit numbers of linux/capability.h.
const CAPABILITIES: [(&str, u32); 5] = [
    ("CAP_SYS_ADMIN", 21),
    ("CAP_SYS_RESOURCE", 24),
    ("CAP_PERFMON", 38),
    ("CAP_BPF", 39),
    ("CAP_CHECKPOINT_RESTORE", 40),
];

fn privileges() -> Check {
    // SAFETY: the call has no preconditions.
    let user = unsafe { libc::geteuid() };
    let mask = host::capabilities();
    let held: Vec<&str> = CAPABILITIES
        .iter()
        .filter(|(_, bit)| mask >> bit & 1 != 0)
        .map(|(name, _)| *name)
        .collect();
    let held_text = if held.is_empty() {
        "no capability that matters".to_owned()
    } else {
        held.join(", ")
    };
    let found = format!("effective user {user}; {held_text}");
    if held.contains(&"CAP_SYS_ADMIN") {
        Check::new("privileges", State::Ok, found)
    } else {
        Check::new("privileges", State::Missing, found).losing(
            "the jail cannot be built, and BPF is refused",
            "run as root (sudo procjail ...)",
        )
    }
}

fn lockdown() -> Check {
    let Some(mode) = host::lockdown() else {
        let found = "not known: the kernel has none, or securityfs is not mounted";
        return Check::new("lockdown", State::Info, found);
    };
    if mode == "confidentiality" {
        return Check::new("lockdown", State::Missing, mode).losing(
            "BPF programs may not read the kernel's memory",
            "boot with lockdown=integrity or without it",
        );
    }
    Check::new("lockdown", State::Ok, mode)
}

fn types() -> Check {
    match layout_from(BTF_PATH.as_ref()) {
        Ok(layout) => {
            let values = layout.offsets.to_array();
            let known = values
                .iter()
                .filter(|&&value| value != procjail_common::MISSING)
                .count();
            let found = format!("{BTF_PATH}; {known} of {} fields known", values.len());
            Check::new("kernel types (BTF)", State::Ok, found)
        }
        Err(error) => Check::new("kernel types (BTF)", State::Missing, error.to_string()).losing(
            "no probe knows where the kernel's fields lie",
            "use a kernel with CONFIG_DEBUG_INFO_BTF=y",
        ),
    }
}

/// Attaches all probes to a cgroup that does not exist, so that nothing is recorded.
fn probes() -> Vec<Check> {
    const NO_CGROUP: u64 = u64::MAX;
    let tracer = match Tracer::attach(NO_CGROUP, 1, &Options::default()) {
        Ok(tracer) => tracer,
        Err(error) => {
            return vec![
                Check::new("BPF", State::Missing, error.to_string())
                    .losing("no event can be recorded", "see the message"),
            ];
        }
    };
    let mut checks = vec![Check::new(
        "BPF",
        State::Ok,
        format!(
            "programs load and attach; ring buffer of {} MiB",
            Options::default().ring_bytes >> 20
        ),
    )];
    checks.extend(tracer.probes().into_iter().map(|probe| {
        let name = format!("probe {}", probe.name);
        match probe.error {
            None => Check::new(&name, State::Ok, probe.provides),
            Some(error) => Check::new(&name, State::Limited, error)
                .losing(probe.provides, "use a newer kernel to have it"),
        }
    }));
    checks
}

/// Whether a task keeps its processor while it is in a probe.
fn preemption() -> Check {
    const NAME: &str = "probes undisturbed";
    if preempt::needed() {
        Check::new(NAME, State::Limited, "the kernel can preempt a task in a probe").losing(
            "seldom, events of other tasks on that processor meanwhile",
            "nothing need be done: a trace that lost events says so; Linux 7.0 and later are all like that",
        )
    } else {
        Check::new(NAME, State::Ok, "the kernel runs them with preemption off")
    }
}

fn cgroups(mounts: &[MountPoint]) -> Vec<Check> {
    let unified = mounts.iter().find(|mount| mount.fs_type == "cgroup2");
    let others: Vec<&MountPoint> = mounts
        .iter()
        .filter(|mount| mount.fs_type == "cgroup")
        .collect();
    let mode = match (unified, others.is_empty()) {
        (Some(unified), true) => format!("v2, at {}", unified.path),
        (Some(unified), false) => format!("hybrid, v2 at {}", unified.path),
        (None, false) => "v1: the jail's membership is kept on a private cgroup2 mount".to_owned(),
        (None, true) => {
            return vec![
                Check::new(
                    "cgroups",
                    State::Missing,
                    "no cgroup file system is mounted",
                )
                .losing(
                    "a jail cannot be told from the rest of the host",
                    "mount -t cgroup2 none /sys/fs/cgroup",
                ),
            ];
        }
    };
    let mut checks = vec![Check::new("cgroups", State::Ok, mode)];
    let v2 = unified
        .and_then(|mount| fs::read_to_string(format!("{}/cgroup.controllers", mount.path)).ok())
        .unwrap_or_default();
    for (controller, option) in [
        ("memory", "--memory, --memory-high, --swap, --oom-group"),
        ("pids", "--pids"),
        ("cpu", "--cpus"),
    ] {
        let name = format!("controller {controller}");
        let v1 = others
            .iter()
            .find(|mount| mount.options.split(',').any(|option| option == controller));
        checks.push(if v2.split_whitespace().any(|found| found == controller) {
            Check::new(&name, State::Ok, "v2")
        } else if let Some(mount) = v1 {
            let check = Check::new(&name, State::Ok, format!("v1, at {}", mount.path));
            if controller == "memory" {
                let mut check = check.losing(
                    "--memory-high and --oom-group, which v1 does not have",
                    "boot with systemd.unified_cgroup_hierarchy=1",
                );
                check.state = State::Limited;
                check
            } else {
                check
            }
        } else {
            Check::new(&name, State::Limited, "not available").losing(
                option,
                "enable it at boot, and in cgroup.subtree_control of the parents",
            )
        });
    }
    checks
}

/// Whether programs may be put on the kernel's functions. No probe needs it so far.
fn function_probes() -> Check {
    let loaded = fs::read(BTF_PATH).and_then(|bytes| {
        // Any function will do; this one is never inlined.
        let id = Btf::parse(&bytes)
            .ok()
            .and_then(|types| types.function("zap_pid_ns_processes"));
        let id = id.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
        sys::load_on_function(id, LICENSE)
    });
    let found = match loaded {
        Ok(_) => "programs load".to_owned(),
        Err(error) => format!("refused: {error}"),
    };
    Check::new("fentry", State::Info, format!("{found}; not needed"))
}

fn tracefs(mounts: &[MountPoint]) -> Check {
    let found = mounts
        .iter()
        .find(|mount| mount.fs_type == "tracefs")
        .map_or_else(
            || "not mounted, and not needed".to_owned(),
            |mount| format!("at {}; not needed", mount.path),
        );
    Check::new("tracefs", State::Info, found)
}
