//! What user space tells the BPF programs before they are loaded: read-only globals.

/// An [`Offsets`] field that this kernel does not have.
pub const MISSING: u32 = u32::MAX;

macro_rules! offsets {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// Offsets, in bytes, of the kernel's fields that the programs read; resolved from the running
        /// kernel's BTF. [`MISSING`] where the kernel has no such field.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Offsets {
            $($(#[$doc])* pub $name: u32,)+
        }

        impl Offsets {
            /// Names of the fields, in order.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name)),+];

            /// All fields missing.
            pub const fn missing() -> Self {
                Self { $($name: MISSING,)+ }
            }

            /// The fields in the order of [`Self::NAMES`].
            pub fn to_array(&self) -> [u32; Self::NAMES.len()] {
                [$(self.$name),+]
            }

            /// The reverse of [`Self::to_array`].
            pub fn from_array(values: [u32; Self::NAMES.len()]) -> Self {
                let [$($name),+] = values;
                Self { $($name),+ }
            }
        }
    };
}

offsets! {
    /// `task_struct.exit_code`.
    task_exit_code,
    /// `task_struct.pid`.
    task_pid,
    /// `task_struct.tgid`.
    task_tgid,
    /// `task_struct.real_parent`.
    task_real_parent,
    /// `task_struct.parent`: the tracer, of a task that is traced.
    task_parent,
    /// `task_struct.ptrace`.
    task_ptrace,
    /// `task_struct.group_leader`.
    task_group_leader,
    /// `task_struct.comm`.
    task_comm,
    /// `task_struct.signal`.
    task_signal,
    /// `task_struct.sighand`.
    task_sighand,
    /// `task_struct.blocked`.
    task_blocked,
    /// `task_struct.real_blocked`: what is blocked but for the present wait in sigtimedwait(2).
    task_real_blocked,
    /// `task_struct.cgroups`.
    task_cgroups,
    /// `task_struct.mm`.
    task_mm,
    /// `task_struct.thread_pid`.
    task_thread_pid,
    /// `task_struct.start_boottime`.
    task_start_boottime,
    /// `task_struct.flags`.
    task_flags,
    /// `task_struct.stack`.
    task_stack,
    /// `task_struct.thread_info.status` (x86-64 only).
    task_status,
    /// `task_struct.cred`.
    task_cred,
    /// `cred.euid`.
    cred_euid,
    /// `task_struct.utime`.
    task_utime,
    /// `task_struct.stime`.
    task_stime,
    /// `signal_struct.oom_score_adj`.
    signal_oom_score_adj,
    /// `signal_struct.maxrss`, in pages.
    signal_maxrss,
    /// `signal_struct.group_exit_code`.
    signal_group_exit_code,
    /// `signal_struct.flags`.
    signal_flags,
    /// `signal_struct.live`.
    signal_live,
    /// `signal_struct.nr_threads`.
    signal_nr_threads,
    /// `signal_struct.pids[PIDTYPE_PGID]`.
    signal_process_group,
    /// `signal_struct.pids[PIDTYPE_SID]`.
    signal_session,
    /// `signal_struct.rlim`.
    signal_rlimits,
    /// `signal_struct.tty`.
    signal_tty,
    /// `tty_struct.name`.
    tty_name,
    /// `sighand_struct.action`.
    sighand_action,
    /// Size of one `k_sigaction`.
    k_sigaction_size,
    /// `k_sigaction.sa.sa_handler`.
    k_sigaction_handler,
    /// `k_sigaction.sa.sa_flags`.
    k_sigaction_flags,
    /// `kernel_siginfo.si_code`.
    siginfo_code,
    /// `kernel_siginfo._sifields._sigfault._addr`.
    siginfo_address,
    /// `css_set.dfl_cgrp`.
    css_set_dfl_cgrp,
    /// `css_set.subsys`.
    css_set_subsys,
    /// `cgroup.kn`.
    cgroup_kn,
    /// `cgroup.level`.
    cgroup_level,
    /// `cgroup.root`.
    cgroup_root,
    /// `cgroup.ancestors`: pointers (since Linux 6.1).
    cgroup_ancestors,
    /// `cgroup.ancestor_ids`: identifiers (before).
    cgroup_ancestor_ids,
    /// `cgroup_root.hierarchy_id`; 0 is the default hierarchy.
    cgroup_root_hierarchy_id,
    /// `cgroup_subsys_state.cgroup`.
    css_cgroup,
    /// `cgroup_subsys_state.parent`.
    css_parent,
    /// `kernfs_node.id`.
    kernfs_node_id,
    /// `kernfs_node.name`.
    kernfs_node_name,
    /// `kernfs_node.__parent`, or `.parent` (before Linux 6.15), with `name` behind it.
    kernfs_node_parent,
    /// `pid.level`.
    pid_level,
    /// `pid.numbers`.
    pid_numbers,
    /// Size of one `upid`.
    upid_size,
    /// `upid.nr`.
    upid_nr,
    /// `upid.ns`.
    upid_ns,
    /// `pid_namespace.ns.inum`.
    pid_namespace_inum,
    /// `mem_cgroup.memory`.
    mem_cgroup_memory,
    /// `mem_cgroup.swap` or `.memsw`, which share their place.
    mem_cgroup_swap,
    /// `page_counter.usage`, in pages.
    page_counter_usage,
    /// `page_counter.max`, in pages.
    page_counter_max,
    /// Value of `memory_cgrp_id`, the index into `css_set.subsys`; not an offset.
    memory_cgrp_id,
    /// `mm_struct.rss_stat`.
    mm_rss_stat,
    /// Distance of one counter to the next in `rss_stat`.
    rss_stat_stride,
    /// Offset of the 64-bit count in one counter of `rss_stat`.
    rss_stat_count,
    /// `mm_struct.arg_start`.
    mm_arg_start,
    /// `mm_struct.arg_end`.
    mm_arg_end,
    /// `mm_struct.exe_file`.
    mm_exe_file,
    /// `task_struct.files`.
    task_files,
    /// `files_struct.fdt`.
    files_fdt,
    /// `files_struct.next_fd`: all descriptors below are in use.
    files_next,
    /// `fdtable.fd`.
    fdtable_fd,
    /// `fdtable.max_fds`.
    fdtable_size,
    /// `fdtable.open_fds`, a bitmap.
    fdtable_open,
    /// `file.f_path.mnt`.
    file_mount,
    /// `file.f_path.dentry`.
    file_dentry,
    /// `file.private_data`.
    file_private,
    /// `socket.sk`.
    socket_sock,
    /// `sock_common.skc_family`.
    sock_family,
    /// `sock_common.skc_dport`.
    sock_port,
    /// `sock_common.skc_daddr`.
    sock_address,
    /// `sock_common.skc_v6_daddr`.
    sock_address6,
    /// `dentry.d_parent`, with `d_name` behind it.
    dentry_parent,
    /// `dentry.d_sb`.
    dentry_super_block,
    /// `super_block.s_type`.
    super_block_type,
    /// `file_system_type.name`.
    file_system_name,
    /// `mount.mnt`, the `vfsmount` inside it.
    mount_vfsmount,
    /// `mount.mnt_parent`, with `mnt_mountpoint` and `mnt.mnt_root` behind it.
    mount_parent,
    /// `mm_struct.total_vm`, in pages.
    mm_total_vm,
    /// `mm_struct.pgtables_bytes`.
    mm_pgtables_bytes,
    /// `linux_binprm.filename`.
    binprm_filename,
    /// The system call's number in `pt_regs` (x86-64: `orig_ax`; arm64: `syscallno`).
    regs_syscall,
    /// First system call argument in `pt_regs` (x86-64: `di`; arm64: `orig_x0`).
    regs_arg0,
    /// Second argument.
    regs_arg1,
    /// Third argument.
    regs_arg2,
    /// Fourth argument.
    regs_arg3,
    /// Fifth argument.
    regs_arg4,
    /// The instruction pointer.
    regs_instruction,
    /// The stack pointer.
    regs_stack_pointer,
    /// Where the user-mode `pt_regs` lie, from `task_struct.stack`.
    stack_regs,
}

/// Numbers of system calls that [`SyscallTable`] holds; greater ones are of no interest.
pub const SYSCALL_NUMBERS: usize = 512;

/// Values of [`SyscallTable::class`].
pub mod syscall_class {
    /// Only its errors are looked at, as those of all up to [`GETSOCKOPT`].
    pub const NONE: u8 = 0;
    /// write(2), or another call that begins with a descriptor, an address and a length.
    pub const WRITE: u8 = 1;
    /// writev(2), or another call that begins with a descriptor and a vector.
    pub const WRITEV: u8 = 2;
    /// prlimit64(2).
    pub const PRLIMIT: u8 = 3;
    /// setrlimit(2).
    pub const SETRLIMIT: u8 = 4;
    /// getsockopt(2), which fetches what became of a connection.
    pub const GETSOCKOPT: u8 = 5;
    /// execve(2).
    pub const EXECVE: u8 = 6;
    /// execveat(2).
    pub const EXECVEAT: u8 = 7;
    /// wait4(2).
    pub const WAIT4: u8 = 8;
    /// waitid(2).
    pub const WAITID: u8 = 9;
    /// exit(2), which never returns.
    pub const EXIT: u8 = 10;
    /// exit_group(2), likewise.
    pub const EXIT_GROUP: u8 = 11;
    /// First of the calls of [`mount_call`](crate::mount_call), which follow in its order.
    pub const MOUNTS: u8 = 12;
}

/// Values of [`SyscallTable::failure`].
pub mod call_failure {
    /// An error is nothing to speak of, or another record tells it.
    pub const IGNORED: u8 = 0;
    /// An error is kept.
    pub const KEPT: u8 = 1;
    /// The same, and EAGAIN is one: a limit was hit.
    pub const KEPT_EAGAIN: u8 = 2;
    /// An error is kept; a weighty one with the end of the path of the file behind the first argument, a
    /// descriptor.
    pub const KEPT_FILE: u8 = 3;
    /// An error is kept together with a path, which is the first argument; the second with this number
    /// plus one, the third with this plus two.
    pub const PATH: u8 = 4;
    /// An error is kept together with a socket address: the second argument, of the length that the third
    /// says.
    pub const ADDRESS: u8 = 7;
    /// The same; the fifth argument, of an Internet address.
    pub const SEND_TO: u8 = 8;
    /// The same; the one in the `struct msghdr` that is the second argument.
    pub const MESSAGE: u8 = 9;
    /// The same; the Internet address that the socket is or was to be connected to.
    pub const PEER: u8 = 10;
}

/// Which system calls the programs look at, by number on this architecture.
///
/// A table, since a program that runs on every system call of the host must reject with one look.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyscallTable {
    /// A value of [`syscall_class`] for each number.
    pub class: [u8; SYSCALL_NUMBERS],
    /// A value of [`call_failure`] for each number, for those without a class.
    pub failure: [u8; SYSCALL_NUMBERS],
}

impl SyscallTable {
    /// No system call is looked at.
    pub const fn empty() -> Self {
        Self {
            class: [syscall_class::NONE; SYSCALL_NUMBERS],
            failure: [call_failure::IGNORED; SYSCALL_NUMBERS],
        }
    }
}

/// Bits of [`Scope::flags`].
pub mod scope_flags {
    /// Record threads too, not only processes.
    pub const THREADS: u32 = 1;
    /// Record signals that are noise to most (see `docs/events.md`).
    pub const ALL_SIGNALS: u32 = 2;
    /// `mark_victim(int pid)` instead of `(struct task_struct *, uid_t)`.
    pub const MARK_VICTIM_PID: u32 = 4;
    /// `sched_process_exit` has the argument `bool group_dead`.
    pub const EXIT_GROUP_DEAD: u32 = 8;
    /// Keep what processes write to their standard error.
    pub const STDERR_TAIL: u32 = 16;
    /// Programs on tracepoints may call `bpf_get_current_ancestor_cgroup_id`.
    pub const ANCESTOR_HELPER: u32 = 32;
}

/// Which tasks the programs report on.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// ID of the jail's cgroup on the default hierarchy.
    pub cgroup_id: u64,
    /// Depth of the jail's cgroup; the root is 0.
    pub cgroup_level: u32,
    /// [`scope_flags`].
    pub flags: u32,
    /// Size of a page, bytes.
    pub page_size: u32,
    /// Inode number of the jail's PID namespace; 0 if it isn't known.
    pub pid_ns: u32,
    /// Depth of that namespace; the initial one is 0.
    pub pid_ns_level: u32,
    /// Zero.
    pub reserved: u32,
}
