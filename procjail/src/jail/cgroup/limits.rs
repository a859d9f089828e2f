//! From the limits a user asks for to the files of this host's hierarchies that set them.
//!
//! What the host can't do is refused here, before anything is created. Files and their units:
//! Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/{memory,pids}.rst, scheduler/sched-bwc.rst.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use crate::cgroup::Error;
use crate::cgroup::HostCgroups;

/// Limits of a jail; `None` and false mean: no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory, bytes (`--memory`).
    pub memory: Option<u64>,
    /// Memory above which the jail is throttled and reclaimed, bytes (`--memory-high`).
    pub memory_high: Option<u64>,
    /// Swap, bytes, memory not counted (`--swap`).
    pub swap: Option<u64>,
    /// An OOM kill takes the whole jail (`--oom-group`).
    pub oom_group: bool,
    /// Number of processes and threads (`--pids`).
    pub pids: Option<u64>,
    /// CPU time, thousandths of one processor (`--cpus`).
    pub millicpus: Option<u64>,
}

/// Less memory than this cannot hold a process that executes a program: the launcher's child is
/// charged for its stack, page tables and the pages it copies before it gets to APP, and a limit that
/// it can't meet would kill it on the way. The kernel needs about 200 KiB for the smallest static
/// program.
pub const MIN_MEMORY_BYTES: u64 = 512 * 1024;

/// Where a setting is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    V2,
    /// Mount point of the controller's hierarchy.
    V1(PathBuf),
}

/// One file and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub option: &'static str,
    pub controller: &'static str,
    pub place: Place,
    pub file: &'static str,
    pub value: String,
}

/// What has to be written where; see [`Limits::plan`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitPlan {
    pub(super) host: HostCgroups,
    /// In the order of writing.
    pub(super) settings: Vec<Setting>,
}

impl Limits {
    /// Finds the files that set these limits on this host.
    ///
    /// # Errors
    ///
    /// The host's mode has no such limit, a controller is missing, or a value makes no sense.
    pub fn plan(&self, host: &HostCgroups) -> Result<LimitPlan, Error> {
        let mut settings = Vec::new();
        if let Some(bytes) = self.memory {
            memory_value("--memory", bytes)?;
            let place = place(host, "--memory", "memory")?;
            let file = match place {
                Place::V2 => "memory.max",
                Place::V1(_) => "memory.limit_in_bytes",
            };
            settings.push(Setting {
                option: "--memory",
                controller: "memory",
                place,
                file,
                value: bytes.to_string(),
            });
        }
        if let Some(bytes) = self.memory_high {
            memory_value("--memory-high", bytes)?;
            let place = v2_only(host, "--memory-high", "memory.high")?;
            settings.push(Setting {
                option: "--memory-high",
                controller: "memory",
                place,
                file: "memory.high",
                value: bytes.to_string(),
            });
        }
        if let Some(swap) = self.swap {
            settings.push(self.swap_setting(host, swap)?);
        }
        if self.oom_group {
            settings.push(Setting {
                option: "--oom-group",
                controller: "memory",
                place: v2_only(host, "--oom-group", "memory.oom.group")?,
                file: "memory.oom.group",
                value: "1".to_owned(),
            });
        }
        if let Some(pids) = self.pids {
            if pids == 0 {
                return Err(Error::Value {
                    option: "--pids",
                    value: pids.to_string(),
                    reason: "APP itself needs one".to_owned(),
                });
            }
            settings.push(Setting {
                option: "--pids",
                controller: "pids",
                place: place(host, "--pids", "pids")?,
                file: "pids.max",
                value: pids.to_string(),
            });
        }
        if let Some(millicpus) = self.millicpus {
            settings.extend(cpu_settings(host, millicpus)?);
        }
        Ok(LimitPlan {
            host: host.clone(),
            settings,
        })
    }

    fn swap_setting(&self, host: &HostCgroups, swap: u64) -> Result<Setting, Error> {
        let place = place(host, "--swap", "memory")?;
        let (file, value) = match (&place, self.memory) {
            (Place::V2, _) => ("memory.swap.max", swap),
            (Place::V1(_), None) => {
                return Err(Error::Unsupported {
                    option: "--swap",
                    reason: "cgroup v1 limits memory and swap together; give --memory as well"
                        .to_owned(),
                });
            }
            (Place::V1(path), Some(memory)) => {
                if !host.v1.get("memory").is_some_and(|mount| mount.memsw) {
                    return Err(Error::Unsupported {
                        option: "--swap",
                        reason: format!(
                            "{} has no memory.memsw.limit_in_bytes; boot with swapaccount=1",
                            path.display()
                        ),
                    });
                }
                (
                    "memory.memsw.limit_in_bytes",
                    memory.checked_add(swap).unwrap_or(u64::MAX >> 1),
                )
            }
        };
        Ok(Setting {
            option: "--swap",
            controller: "memory",
            place,
            file,
            value: value.to_string(),
        })
    }
}

impl LimitPlan {
    /// No limit is asked for.
    pub fn is_empty(&self) -> bool {
        self.settings.is_empty()
    }

    /// The host that the plan is for.
    pub fn host(&self) -> &HostCgroups {
        &self.host
    }

    /// File (such as `memory.max`) to value, as written.
    pub fn settings(&self) -> BTreeMap<String, String> {
        let pairs = self.settings.iter();
        pairs
            .map(|setting| (setting.file.to_owned(), setting.value.clone()))
            .collect()
    }

    /// The steps for a jail of this name, one sentence each.
    pub fn steps(&self, name: &str) -> Vec<String> {
        let v2 = self.host.v2_parent().join(name);
        let mut steps = vec![format!(
            "create cgroup {} (membership, kill) and lock it",
            v2.display()
        )];
        for mount in self.v1_mounts() {
            let dir = mount.join(super::PARENT).join(name);
            steps.push(format!("create cgroup {} (v1 limits)", dir.display()));
        }
        for controller in self.v2_controllers() {
            steps.push(format!(
                "enable {controller} in cgroup.subtree_control down to {}",
                self.host.v2_parent().display()
            ));
        }
        for setting in &self.settings {
            let dir = match &setting.place {
                Place::V2 => v2.clone(),
                Place::V1(mount) => mount.join(super::PARENT).join(name),
            };
            let file = dir.join(setting.file);
            steps.push(format!("write {} to {}", setting.value, file.display()));
        }
        steps
    }

    /// PID 1 has to be moved into v1 hierarchies.
    pub fn needs_v1(&self) -> bool {
        !self.v1_mounts().is_empty()
    }

    /// v1 hierarchies that are needed, each once (controllers may share one). Below a cgroup of the
    /// user's these are all that have it, since its limits are to apply.
    pub(super) fn v1_mounts(&self) -> Vec<PathBuf> {
        let mut mounts = Vec::new();
        if self.host.parent.is_some() {
            for mount in self.host.v1.values() {
                if !mounts.contains(&mount.path) {
                    mounts.push(mount.path.clone());
                }
            }
        }
        for setting in &self.settings {
            if let Place::V1(path) = &setting.place
                && !mounts.contains(path)
            {
                mounts.push(path.clone());
            }
        }
        mounts
    }

    /// v2 controllers that limits need.
    pub(super) fn v2_controllers(&self) -> BTreeSet<&'static str> {
        let v2 = self.settings.iter().filter(|s| s.place == Place::V2);
        v2.map(|setting| setting.controller).collect()
    }
}

impl fmt::Display for LimitPlan {
    /// `memory.max=67108864 pids.max=100`, or `none`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.settings.is_empty() {
            return f.write_str("none");
        }
        for (index, setting) in self.settings.iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            write!(f, "{space}{}={}", setting.file, setting.value)?;
        }
        Ok(())
    }
}

fn memory_value(option: &'static str, bytes: u64) -> Result<(), Error> {
    if bytes >= MIN_MEMORY_BYTES {
        return Ok(());
    }
    Err(Error::Value {
        option,
        value: bytes.to_string(),
        reason: format!(
            "too little to execute any program, it takes at least {}K",
            MIN_MEMORY_BYTES / 1024
        ),
    })
}

/// Where a controller is to be had: a controller is either on v2 or on v1, never on both.
fn place(
    host: &HostCgroups,
    option: &'static str,
    controller: &'static str,
) -> Result<Place, Error> {
    if host.v2_controllers.contains(controller) {
        return Ok(Place::V2);
    }
    match host.v1.get(controller) {
        Some(mount) => Ok(Place::V1(mount.path.clone())),
        None => Err(Error::NoController {
            option,
            controller,
            mode: host.mode,
            parent: host.parent.clone(),
        }),
    }
}

/// As [`place`], for a file of the memory controller that v1 does not have.
fn v2_only(host: &HostCgroups, option: &'static str, file: &str) -> Result<Place, Error> {
    match place(host, option, "memory")? {
        Place::V2 => Ok(Place::V2),
        Place::V1(path) => Err(Error::Unsupported {
            option,
            reason: format!(
                "its memory controller is on cgroup v1 ({}, mode {}), which has no {file}; \
                 boot with cgroup v2 (systemd.unified_cgroup_hierarchy=1)",
                path.display(),
                host.mode
            ),
        }),
    }
}

/// Quota and period. The kernel takes no quota below 1 ms and no period above 1 s, so a small share
/// of a processor gets the long period.
fn cpu_settings(host: &HostCgroups, millicpus: u64) -> Result<Vec<Setting>, Error> {
    if millicpus == 0 {
        return Err(Error::Value {
            option: "--cpus",
            value: "0".to_owned(),
            reason: "APP could never run; the least is 0.001".to_owned(),
        });
    }
    let period_us: u64 = if millicpus < 10 { 1_000_000 } else { 100_000 };
    let quota_us = millicpus.saturating_mul(period_us / 1000);
    let setting = |place, file, value| Setting {
        option: "--cpus",
        controller: "cpu",
        place,
        file,
        value,
    };
    Ok(match place(host, "--cpus", "cpu")? {
        Place::V2 => vec![setting(
            Place::V2,
            "cpu.max",
            format!("{quota_us} {period_us}"),
        )],
        v1 => vec![
            setting(v1.clone(), "cpu.cfs_period_us", period_us.to_string()),
            setting(v1, "cpu.cfs_quota_us", quota_us.to_string()),
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::hosts::{hybrid, v1, v2};

    const MIB: u64 = 1024 * 1024;

    fn all() -> Limits {
        Limits {
            memory: Some(64 * MIB),
            swap: Some(32 * MIB),
            pids: Some(10),
            millicpus: Some(500),
            ..Limits::default()
        }
    }

    #[test]
    fn v2_has_all_limits_in_one_directory() {
        let limits = Limits {
            memory_high: Some(48 * MIB),
            oom_group: true,
            ..all()
        };
        let plan = limits.plan(&v2()).unwrap();
        assert_eq!(
            plan.to_string(),
            "memory.max=67108864 memory.high=50331648 memory.swap.max=33554432 memory.oom.group=1 \
             pids.max=10 cpu.max=50000 100000"
        );
        assert!(plan.v1_mounts().is_empty());
        assert_eq!(
            Vec::from_iter(plan.v2_controllers()),
            ["cpu", "memory", "pids"]
        );
    }

    #[test]
    fn hybrid_uses_only_the_v1_hierarchies_it_needs() {
        let plan = all().plan(&hybrid()).unwrap();
        assert_eq!(
            plan.to_string(),
            "memory.limit_in_bytes=67108864 memory.memsw.limit_in_bytes=100663296 pids.max=10 \
             cpu.cfs_period_us=100000 cpu.cfs_quota_us=50000"
        );
        assert_eq!(plan.v1_mounts().len(), 3);
        assert!(plan.v2_controllers().is_empty());
        let pids = Limits {
            pids: Some(1),
            ..Limits::default()
        };
        let plan = pids.plan(&hybrid()).unwrap();
        assert_eq!(plan.v1_mounts(), [PathBuf::from("/sys/fs/cgroup/pids")]);
        assert_eq!(
            plan.steps("web"),
            [
                "create cgroup /sys/fs/cgroup/unified/procjail/web (membership, kill) and lock it",
                "create cgroup /sys/fs/cgroup/pids/procjail/web (v1 limits)",
                "write 1 to /sys/fs/cgroup/pids/procjail/web/pids.max",
            ]
        );
    }

    #[test]
    fn what_v1_lacks_is_refused_by_name() {
        for host in [hybrid(), v1()] {
            let high = Limits {
                memory_high: Some(MIB),
                ..Limits::default()
            };
            let message = high.plan(&host).unwrap_err().to_string();
            assert!(
                message.starts_with("--memory-high is not possible on this host:")
                    && message.contains("memory.high"),
                "{message}"
            );
            let group = Limits {
                oom_group: true,
                ..Limits::default()
            };
            let message = group.plan(&host).unwrap_err().to_string();
            assert!(message.contains("memory.oom.group"), "{message}");
        }
    }

    #[test]
    fn swap_on_v1_needs_a_memory_limit_and_accounting() {
        let swap = Limits {
            swap: Some(MIB),
            ..Limits::default()
        };
        let message = swap.plan(&hybrid()).unwrap_err().to_string();
        assert!(message.contains("give --memory as well"), "{message}");
        // The fixture of v1 has no memsw.
        let message = all().plan(&v1()).unwrap_err().to_string();
        assert!(message.contains("swapaccount=1"), "{message}");
        assert!(swap.plan(&v2()).is_ok());
    }

    #[test]
    fn a_missing_controller_is_named() {
        let mut host = v2();
        host.v2_controllers.remove("pids");
        let message = all().plan(&host).unwrap_err().to_string();
        assert!(
            message.starts_with("--pids needs the pids controller, which cgroup v2"),
            "{message}"
        );
    }

    #[test]
    fn senseless_values_are_refused() {
        let refused = |limits: Limits| limits.plan(&hybrid()).unwrap_err().to_string();
        let none = Limits::default();
        for memory in [0, 1, 4096, MIN_MEMORY_BYTES - 1] {
            let message = refused(Limits {
                memory: Some(memory),
                ..none.clone()
            });
            assert!(message.contains("at least 512K"), "{message}");
        }
        let message = refused(Limits {
            pids: Some(0),
            ..none.clone()
        });
        assert!(message.starts_with("--pids 0"), "{message}");
        let message = refused(Limits {
            millicpus: Some(0),
            ..none
        });
        assert!(message.starts_with("--cpus 0"), "{message}");
    }

    #[test]
    fn the_smallest_share_is_a_quota_that_the_kernel_takes() {
        for (millicpus, value) in [
            (1, "1000 1000000"),
            (9, "9000 1000000"),
            (10, "1000 100000"),
            (1500, "150000 100000"),
        ] {
            let limits = Limits {
                millicpus: Some(millicpus),
                ..Limits::default()
            };
            let plan = limits.plan(&v2()).unwrap();
            assert_eq!(plan.settings()["cpu.max"], value);
        }
    }

    #[test]
    fn no_limits_need_nothing() {
        let plan = Limits::default().plan(&v1()).unwrap();
        assert!(plan.is_empty());
        assert_eq!(plan.to_string(), "none");
    }
}
