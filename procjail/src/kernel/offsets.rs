//! Which fields of the kernel the programs read, and where they lie on this one.

use procjail_common::{MISSING, Offsets, scope_flags};

use super::{
    btf::{Btf, Member},
    host, preempt,
};

/// What the programs must know about one build of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Offsets of the fields.
    pub offsets: Offsets,
    /// Bits of [`scope_flags`] that tell the forms of tracepoints.
    pub flags: u32,
    /// How a program keeps from being preempted; `None` where there is no need.
    pub preempt: Option<preempt::Calls>,
}

impl Layout {
    /// Resolves everything from the kernel's types.
    pub fn resolve(btf: &Btf<'_>) -> Self {
        let field = |path: &[&str]| match path {
            [structure, members @ ..] => walk(btf, structure, members).map(|found| found.offset),
            [] => None,
        };
        macro_rules! fields {
            ($($name:ident: $structure:literal $(. $member:literal)+;)+) => {
                Offsets {
                    $($name: field(&[$structure, $($member),+]).unwrap_or(MISSING),)+
                    ..Offsets::missing()
                }
            };
        }
        let mut offsets = fields! {
            task_exit_code: "task_struct"."exit_code";
            task_pid: "task_struct"."pid";
            task_tgid: "task_struct"."tgid";
            task_real_parent: "task_struct"."real_parent";
            task_parent: "task_struct"."parent";
            task_ptrace: "task_struct"."ptrace";
            task_group_leader: "task_struct"."group_leader";
            task_comm: "task_struct"."comm";
            task_signal: "task_struct"."signal";
            task_sighand: "task_struct"."sighand";
            task_blocked: "task_struct"."blocked";
            task_real_blocked: "task_struct"."real_blocked";
            task_cgroups: "task_struct"."cgroups";
            task_mm: "task_struct"."mm";
            task_thread_pid: "task_struct"."thread_pid";
            task_start_boottime: "task_struct"."start_boottime";
            task_flags: "task_struct"."flags";
            task_stack: "task_struct"."stack";
            task_status: "task_struct"."thread_info"."status";
            task_cred: "task_struct"."cred";
            cred_euid: "cred"."euid";
            task_utime: "task_struct"."utime";
            task_stime: "task_struct"."stime";
            signal_oom_score_adj: "signal_struct"."oom_score_adj";
            signal_maxrss: "signal_struct"."maxrss";
            signal_group_exit_code: "signal_struct"."group_exit_code";
            signal_flags: "signal_struct"."flags";
            signal_live: "signal_struct"."live";
            signal_nr_threads: "signal_struct"."nr_threads";
            signal_process_group: "signal_struct"."pids";
            signal_session: "signal_struct"."pids";
            signal_rlimits: "signal_struct"."rlim";
            signal_tty: "signal_struct"."tty";
            tty_name: "tty_struct"."name";
            sighand_action: "sighand_struct"."action";
            k_sigaction_handler: "k_sigaction"."sa"."sa_handler";
            k_sigaction_flags: "k_sigaction"."sa"."sa_flags";
            siginfo_code: "kernel_siginfo"."si_code";
            siginfo_address: "kernel_siginfo"."_sifields"."_sigfault"."_addr";
            css_set_dfl_cgrp: "css_set"."dfl_cgrp";
            css_set_subsys: "css_set"."subsys";
            cgroup_kn: "cgroup"."kn";
            cgroup_level: "cgroup"."level";
            cgroup_root: "cgroup"."root";
            cgroup_ancestors: "cgroup"."ancestors";
            cgroup_ancestor_ids: "cgroup"."ancestor_ids";
            cgroup_root_hierarchy_id: "cgroup_root"."hierarchy_id";
            css_cgroup: "cgroup_subsys_state"."cgroup";
            css_parent: "cgroup_subsys_state"."parent";
            kernfs_node_id: "kernfs_node"."id";
            kernfs_node_name: "kernfs_node"."name";
            pid_level: "pid"."level";
            pid_numbers: "pid"."numbers";
            upid_nr: "upid"."nr";
            upid_ns: "upid"."ns";
            pid_namespace_inum: "pid_namespace"."ns"."inum";
            mem_cgroup_memory: "mem_cgroup"."memory";
            mem_cgroup_swap: "mem_cgroup"."swap";
            page_counter_usage: "page_counter"."usage";
            page_counter_max: "page_counter"."max";
            mm_arg_start: "mm_struct"."arg_start";
            mm_arg_end: "mm_struct"."arg_end";
            mm_exe_file: "mm_struct"."exe_file";
            task_files: "task_struct"."files";
            files_fdt: "files_struct"."fdt";
            files_next: "files_struct"."next_fd";
            fdtable_fd: "fdtable"."fd";
            fdtable_size: "fdtable"."max_fds";
            fdtable_open: "fdtable"."open_fds";
            file_mount: "file"."f_path"."mnt";
            file_dentry: "file"."f_path"."dentry";
            file_private: "file"."private_data";
            socket_sock: "socket"."sk";
            sock_family: "sock_common"."skc_family";
            sock_port: "sock_common"."skc_dport";
            sock_address: "sock_common"."skc_daddr";
            sock_address6: "sock_common"."skc_v6_daddr";
            dentry_parent: "dentry"."d_parent";
            dentry_super_block: "dentry"."d_sb";
            super_block_type: "super_block"."s_type";
            file_system_name: "file_system_type"."name";
            mount_vfsmount: "mount"."mnt";
            mount_parent: "mount"."mnt_parent";
            mm_total_vm: "mm_struct"."total_vm";
            mm_pgtables_bytes: "mm_struct"."pgtables_bytes";
            binprm_filename: "linux_binprm"."filename";
        };
        let size = |name| {
            btf.find(name)
                .and_then(|id| btf.size(id))
                .unwrap_or(MISSING)
        };
        offsets.k_sigaction_size = size("k_sigaction");
        offsets.upid_size = size("upid");
        offsets.memory_cgrp_id = btf
            .enumerator("cgroup_subsys_id", "memory_cgrp_id")
            .unwrap_or(MISSING);
        // The programs take a `cgroup_subsys_state` of the memory controller for its `mem_cgroup`.
        if field(&["mem_cgroup", "css"]) != Some(0) || offsets.memory_cgrp_id == MISSING {
            offsets.mem_cgroup_memory = MISSING;
        }
        paths(&mut offsets, &field);
        // An array of pointers.
        let pid_type = |name| btf.enumerator("pid_type", name);
        offsets.signal_process_group =
            element(offsets.signal_process_group, pid_type("PIDTYPE_PGID"));
        offsets.signal_session = element(offsets.signal_session, pid_type("PIDTYPE_SID"));
        rss_stat(btf, &mut offsets);
        registers(btf, &mut offsets);
        Self {
            offsets,
            flags: forms(btf),
            preempt: preempt_calls(btf),
        }
    }
}

/// Follows members by name, each in the type of the one before.
fn walk(btf: &Btf<'_>, structure: &str, members: &[&str]) -> Option<Member> {
    let mut at = Member {
        offset: 0,
        type_id: btf.find(structure)?,
    };
    for member in members {
        let next = btf.member(at.type_id, member)?;
        at = Member {
            offset: at.offset.checked_add(next.offset)?,
            type_id: next.type_id,
        };
    }
    Some(at)
}

/// What the programs follow upwards. They read neighbours at once, which is quicker to verify: where a
/// kernel has them in another order, as with randomized structures, paths are not told.
fn paths(offsets: &mut Offsets, field: &impl Fn(&[&str]) -> Option<u32>) {
    let after = |start: u32, path: &[&str], distance: u32| {
        start != MISSING && field(path) == start.checked_add(distance)
    };
    let (mount, dentry) = (offsets.mount_parent, offsets.dentry_parent);
    let whole = offsets.file_mount != MISSING
        && offsets.file_dentry != MISSING
        && after(mount, &["mount", "mnt_mountpoint"], 8)
        && after(mount, &["mount", "mnt"], 16)
        && field(&["vfsmount", "mnt_root"]) == Some(0)
        && after(dentry, &["dentry", "d_name", "name"], 16);
    if !whole {
        offsets.mm_exe_file = MISSING;
    }
    let named = offsets.file_dentry != MISSING
        && after(dentry, &["dentry", "d_name", "name"], 16)
        && offsets.files_fdt != MISSING
        && offsets.fdtable_fd != MISSING;
    if !named {
        offsets.task_files = MISSING;
    }
    let parent = field(&["kernfs_node", "__parent"]).or_else(|| field(&["kernfs_node", "parent"]));
    offsets.kernfs_node_parent = parent
        .filter(|&parent| offsets.kernfs_node_name == parent + 8)
        .unwrap_or(MISSING);
}

/// The offset of a pointer in an array of them.
fn element(array: u32, index: Option<u32>) -> u32 {
    match index {
        Some(index) if array != MISSING => array + 8 * index,
        _ => MISSING,
    }
}

/// `mm_struct.rss_stat` is a structure with an array of `atomic_long_t`, from Linux 6.2 on an array of
/// `percpu_counter`.
fn rss_stat(btf: &Btf<'_>, offsets: &mut Offsets) {
    let Some(stat) = walk(btf, "mm_struct", &["rss_stat"]) else {
        return;
    };
    let form = match btf.element(stat.type_id) {
        Some(counter) => btf.size(counter).zip(btf.member(counter, "count")),
        None => btf.member(stat.type_id, "count").map(|count| (8, count)),
    };
    if let Some((stride, count)) = form {
        offsets.mm_rss_stat = stat.offset;
        offsets.rss_stat_stride = stride;
        offsets.rss_stat_count = count.offset;
    }
}

/// The functions that switch preemption off and on for a program, if it needs them.
fn preempt_calls(btf: &Btf<'_>) -> Option<preempt::Calls> {
    if !preempt::needed() {
        return None;
    }
    let mut numbers = [0; preempt::Calls::NAMES.len()];
    for (name, to) in preempt::Calls::NAMES.iter().zip(&mut numbers) {
        *to = btf.function(name)?;
    }
    Some(preempt::Calls::from_array(numbers))
}

/// Which forms the tracepoints have that changed.
fn forms(btf: &Btf<'_>) -> u32 {
    let mut flags = 0;
    // Not for tracepoints in 5.10; the types don't tell, and it was not tried on all versions between.
    if host::is_at_least(6, 1) {
        flags |= scope_flags::ANCESTOR_HELPER;
    }
    if let Some(arguments) = btf.tracepoint("mark_victim")
        && !arguments
            .first()
            .is_some_and(|&first| btf.is_pointer(first))
    {
        flags |= scope_flags::MARK_VICTIM_PID;
    }
    if btf
        .tracepoint("sched_process_exit")
        .is_some_and(|arguments| arguments.len() >= 2)
    {
        flags |= scope_flags::EXIT_GROUP_DEAD;
    }
    flags
}

/// The saved registers of user mode: their layout, and where they lie on the kernel's stack.
#[cfg(target_arch = "x86_64")]
fn registers(btf: &Btf<'_>, offsets: &mut Offsets) {
    /// `THREAD_SIZE` without KASAN: arch/x86/include/asm/page_64_types.h.
    const THREAD_SIZE: u32 = 16 << 10;
    let register = |names: &[&str]| {
        let found = names.iter().find_map(|name| walk(btf, "pt_regs", &[name]));
        found.map_or(MISSING, |found| found.offset)
    };
    offsets.regs_syscall = register(&["orig_ax"]);
    offsets.regs_arg0 = register(&["di"]);
    offsets.regs_arg1 = register(&["si"]);
    offsets.regs_arg2 = register(&["dx"]);
    offsets.regs_arg3 = register(&["r10"]);
    offsets.regs_arg4 = register(&["r8"]);
    offsets.regs_instruction = register(&["ip"]);
    offsets.regs_stack_pointer = register(&["sp"]);
    // TOP_OF_KERNEL_STACK_PADDING: the frame that FRED pushes above the registers, in kernels built
    // for it (6.9 and later).
    let padding = if btf.has_name("fred_entry_from_user") {
        16
    } else {
        0
    };
    if let Some(size) = btf.find("pt_regs").and_then(|id| btf.size(id)) {
        offsets.stack_regs = THREAD_SIZE - padding - size;
    }
}

/// The saved registers of user mode: their layout, and where they lie on the kernel's stack.
#[cfg(target_arch = "aarch64")]
fn registers(btf: &Btf<'_>, offsets: &mut Offsets) {
    /// `THREAD_SIZE` with pages of 4 or 16 KiB and without KASAN: arch/arm64/include/asm/memory.h.
    const THREAD_SIZE: u32 = 16 << 10;
    let register = |name| walk(btf, "pt_regs", &[name]).map(|found| found.offset);
    offsets.regs_syscall = register("syscallno").unwrap_or(MISSING);
    offsets.regs_arg0 = register("orig_x0").unwrap_or(MISSING);
    offsets.regs_instruction = register("pc").unwrap_or(MISSING);
    offsets.regs_stack_pointer = register("sp").unwrap_or(MISSING);
    if let Some(first) = register("regs") {
        offsets.regs_arg1 = first + 8;
        offsets.regs_arg2 = first + 16;
        offsets.regs_arg3 = first + 24;
        offsets.regs_arg4 = first + 32;
    }
    if let Some(size) = btf.find("pt_regs").and_then(|id| btf.size(id)) {
        offsets.stack_regs = THREAD_SIZE - size;
    }
}

/// Not known for this architecture: what needs the registers is switched off.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn registers(_btf: &Btf<'_>, _offsets: &mut Offsets) {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::tracer::{BTF_PATH, layout_from};

    /// The offsets of a kernel as the walker finds them, by name.
    fn of_this_kernel() -> impl Fn(&str) -> u32 {
        let layout = layout_from(BTF_PATH.as_ref()).expect("this kernel has BTF");
        let values = layout.offsets.to_array();
        move |name| {
            let index = Offsets::NAMES.iter().position(|known| *known == name);
            values[index.expect("a known name")]
        }
    }

    #[test]
    fn this_kernel_has_all_fields_in_one_form_or_the_other() {
        let offset = of_this_kernel();
        for name in Offsets::NAMES {
            if !name.starts_with("cgroup_ancestor") {
                assert_ne!(offset(name), MISSING, "{name}");
            }
        }
        let forms = [offset("cgroup_ancestors"), offset("cgroup_ancestor_ids")];
        assert_eq!(forms.iter().filter(|&&form| form != MISSING).count(), 1);
    }

    /// What has been the same from 5.10 to 7.2, whatever the configuration.
    #[test]
    fn fields_that_never_moved_are_where_they_are() {
        let offset = of_this_kernel();
        for (name, expected) in [
            ("signal_live", 4),
            ("signal_nr_threads", 8),
            ("kernfs_node_name", 16),
            ("page_counter_usage", 0),
            ("pid_level", 4),
            ("upid_nr", 0),
            ("upid_ns", 8),
            ("upid_size", 16),
            ("siginfo_code", 8),
            ("k_sigaction_handler", 0),
            ("k_sigaction_flags", 8),
        ] {
            assert_eq!(offset(name), expected, "{name}");
        }
        assert_eq!(offset("task_tgid"), offset("task_pid") + 4);
        assert_eq!(offset("task_sighand"), offset("task_signal") + 8);
    }

    /// Offsets of one build of 6.18, read with another program (`bpftool btf dump`).
    #[test]
    fn the_offsets_are_those_that_another_program_reads() {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
        let table = [
            ("task_exit_code", 1164),
            ("task_pid", 1264),
            ("task_real_parent", 1280),
            ("task_group_leader", 1328),
            ("task_comm", 1752),
            ("task_signal", 1848),
            ("task_cgroups", 2376),
            ("task_mm", 1136),
            ("task_thread_pid", 1368),
            ("task_start_boottime", 1560),
            ("task_flags", 44),
            ("signal_oom_score_adj", 1058),
            ("signal_maxrss", 600),
            ("signal_group_exit_code", 96),
            ("signal_flags", 116),
            ("sighand_action", 32),
            ("css_set_dfl_cgrp", 112),
            ("cgroup_kn", 256),
            ("cgroup_level", 216),
            ("kernfs_node_id", 96),
            ("pid_numbers", 144),
            ("mem_cgroup_memory", 256),
            ("page_counter_max", 160),
        ];
        // The table is of this build alone; elsewhere the programs' own tests tell whether the
        // offsets are right.
        if !release.starts_with("6.18.44-fc") {
            eprintln!(
                "NOT CHECKED: the table is not of this kernel, {}",
                release.trim()
            );
            return;
        }
        let offset = of_this_kernel();
        for (name, expected) in table {
            assert_eq!(offset(name), expected, "{name}");
        }
        let layout = layout_from(BTF_PATH.as_ref()).expect("this kernel has BTF");
        assert_eq!(
            layout.flags,
            scope_flags::EXIT_GROUP_DEAD | scope_flags::ANCESTOR_HELPER
        );
    }
}
