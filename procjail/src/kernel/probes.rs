//! The table of probes: what each needs, and what a trace lacks without it.

use procjail_common::{MISSING, Offsets, kind};

/// When a probe is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// No trace makes sense without it.
    Essential,
    /// Always.
    Always,
    /// Without [`super::Options::syscalls`]: those tell the same, and more exactly.
    NoSyscalls,
    /// With [`super::Options::syscalls`]: it taxes every system call of the host.
    Syscalls,
    /// With [`super::Options::syscalls`] and [`super::Options::mounts`].
    Mounts,
}

/// A program of the object and the tracepoint of the same name.
#[derive(Debug)]
pub struct Spec {
    /// Name of both.
    pub name: &'static str,
    /// When it is wanted.
    pub wanted: Wanted,
    /// The kind of record whose loss a missed run of the program means.
    pub kind: u32,
    /// Names of the offsets it cannot do without, besides those that all need.
    pub needs: &'static [&'static str],
    /// What a trace lacks without it.
    pub provides: &'static str,
}

/// Offsets that every probe needs: for the scope, and to name a task.
pub const COMMON: &[&str] = &[
    "task_pid",
    "task_tgid",
    "task_group_leader",
    "task_comm",
    "task_cgroups",
    "task_thread_pid",
    "task_start_boottime",
    "task_flags",
    "css_set_dfl_cgrp",
    "cgroup_kn",
    "cgroup_level",
    "kernfs_node_id",
    "pid_level",
    "pid_numbers",
    "upid_size",
    "upid_nr",
    "upid_ns",
    "pid_namespace_inum",
];

const CGROUP: &[&str] = &["cgroup_root", "cgroup_root_hierarchy_id"];

/// All probes, in the order in which they are attached: those on system calls last, as they cost all
/// of the host something.
pub const PROBES: &[Spec] = &[
    Spec {
        name: "sched_process_fork",
        wanted: Wanted::Essential,
        kind: kind::FORK,
        needs: &[],
        provides: "new processes",
    },
    Spec {
        name: "sched_process_exec",
        wanted: Wanted::Essential,
        kind: kind::EXEC,
        needs: &["task_mm", "mm_arg_start", "mm_arg_end", "binprm_filename"],
        provides: "executed programs and their arguments",
    },
    Spec {
        name: "sched_process_exit",
        wanted: Wanted::Essential,
        kind: kind::EXIT,
        needs: &[
            "task_exit_code",
            "task_real_parent",
            "task_signal",
            "signal_group_exit_code",
            "signal_flags",
            "signal_live",
            "signal_nr_threads",
        ],
        provides: "ends of processes and their status",
    },
    Spec {
        name: "signal_generate",
        wanted: Wanted::Essential,
        kind: kind::SIGNAL_GENERATED,
        needs: &[
            "task_signal",
            "task_sighand",
            "task_blocked",
            "task_real_blocked",
            "signal_flags",
            "signal_group_exit_code",
            "sighand_action",
            "k_sigaction_size",
            "k_sigaction_handler",
            "siginfo_code",
        ],
        provides: "signals: who sent them and what the kernel did with them",
    },
    Spec {
        name: "signal_deliver",
        wanted: Wanted::Always,
        kind: kind::SIGNAL_DELIVERED,
        needs: &[
            "task_signal",
            "signal_flags",
            "signal_group_exit_code",
            "k_sigaction_handler",
            "siginfo_code",
        ],
        provides: "signals as they are taken, and after how long",
    },
    Spec {
        name: "sched_process_wait",
        wanted: Wanted::NoSyscalls,
        kind: kind::WAIT,
        needs: &[],
        provides: "processes that wait for children",
    },
    Spec {
        name: "sched_process_free",
        wanted: Wanted::Always,
        kind: kind::FREE,
        needs: &[],
        provides: "the proof that a process was reaped",
    },
    Spec {
        name: "mark_victim",
        wanted: Wanted::Always,
        kind: kind::OOM_KILL,
        needs: &["task_signal", "signal_oom_score_adj", "task_mm"],
        provides: "OOM kills: victim, trigger, limits and memory",
    },
    Spec {
        name: "wake_reaper",
        wanted: Wanted::Always,
        kind: kind::OOM_REAP,
        needs: &[],
        provides: "OOM victims that are slow to die",
    },
    Spec {
        name: "start_task_reaping",
        wanted: Wanted::Always,
        kind: kind::OOM_REAP,
        needs: &[],
        provides: "when the OOM reaper starts on a victim",
    },
    Spec {
        name: "finish_task_reaping",
        wanted: Wanted::Always,
        kind: kind::OOM_REAP,
        needs: &[],
        provides: "when the OOM reaper has freed a victim's memory",
    },
    Spec {
        name: "skip_task_reaping",
        wanted: Wanted::Always,
        kind: kind::OOM_REAP,
        needs: &[],
        provides: "victims whose memory the OOM reaper could not free",
    },
    Spec {
        name: "cgroup_attach_task",
        wanted: Wanted::Always,
        kind: kind::CGROUP,
        needs: CGROUP,
        provides: "tasks that move into the jail's cgroups",
    },
    Spec {
        name: "cgroup_notify_populated",
        wanted: Wanted::Always,
        kind: kind::CGROUP,
        needs: CGROUP,
        provides: "when the jail's cgroups become empty",
    },
    Spec {
        name: "cgroup_notify_frozen",
        wanted: Wanted::Always,
        kind: kind::CGROUP,
        needs: CGROUP,
        provides: "when the jail's cgroups freeze and thaw",
    },
    Spec {
        name: "cgroup_mkdir",
        wanted: Wanted::Always,
        kind: kind::CGROUP,
        needs: CGROUP,
        provides: "cgroups made inside the jail",
    },
    Spec {
        name: "cgroup_rmdir",
        wanted: Wanted::Always,
        kind: kind::CGROUP,
        needs: CGROUP,
        provides: "removal of the jail's cgroups",
    },
    Spec {
        name: "sys_exit",
        wanted: Wanted::Syscalls,
        kind: kind::REAP,
        needs: &[
            "regs_syscall",
            "regs_arg0",
            "regs_arg1",
            "regs_arg2",
            "regs_arg3",
        ],
        provides: "who reaped whom, failed execs, results of mount calls, failed calls, last words on standard error",
    },
    Spec {
        name: "sys_enter",
        wanted: Wanted::Mounts,
        kind: kind::MOUNT,
        needs: &[
            "regs_syscall",
            "regs_arg0",
            "regs_arg1",
            "regs_arg2",
            "regs_arg3",
            "regs_arg4",
        ],
        provides: "calls that change mounts and namespaces",
    },
];

/// Where the offset of that name lies in [`Offsets::to_array`].
fn index(name: &str) -> Option<usize> {
    Offsets::NAMES.iter().position(|known| *known == name)
}

/// The first of `needs` that this kernel doesn't have.
pub fn missing(needs: &[&'static str], offsets: &Offsets) -> Option<&'static str> {
    let values = offsets.to_array();
    needs
        .iter()
        .find(|name| index(name).and_then(|index| values.get(index)) == Some(&MISSING))
        .copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_need_names_an_offset() {
        for need in PROBES.iter().flat_map(|probe| probe.needs).chain(COMMON) {
            assert!(index(need).is_some(), "{need} is not an offset");
        }
    }

    #[test]
    fn probes_on_system_calls_come_last() {
        let first = PROBES
            .iter()
            .position(|probe| matches!(probe.wanted, Wanted::Syscalls | Wanted::Mounts));
        assert_eq!(first, Some(PROBES.len() - 2));
    }

    #[test]
    fn a_missing_offset_is_told_by_name() {
        let mut values = Offsets::missing().to_array();
        values.fill(8);
        let mut offsets = Offsets::from_array(values);
        assert_eq!(missing(COMMON, &offsets), None);
        offsets.task_comm = MISSING;
        assert_eq!(missing(COMMON, &offsets), Some("task_comm"));
    }
}
