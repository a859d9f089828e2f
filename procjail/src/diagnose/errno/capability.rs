//! Which capability a call needs.

use crate::event::FailedCall;

/// Calls whose refusal is for want of a capability, with its name.
const CAPABILITIES: &[(&[&str], &str)] = &[
    (
        &[
            "mount",
            "umount2",
            "pivot_root",
            "sethostname",
            "setdomainname",
            "setns",
            "unshare",
            "clone",
            "clone3",
            "swapon",
            "swapoff",
            "quotactl",
            "fsopen",
            "fsmount",
            "move_mount",
            "open_tree",
            "mount_setattr",
            "fanotify_init",
        ],
        "CAP_SYS_ADMIN",
    ),
    (&["chroot"], "CAP_SYS_CHROOT"),
    (
        &["setuid", "setreuid", "setresuid", "setfsuid"],
        "CAP_SETUID",
    ),
    (
        &["setgid", "setregid", "setresgid", "setgroups"],
        "CAP_SETGID",
    ),
    (&["chown", "fchown", "lchown", "fchownat"], "CAP_CHOWN"),
    (
        &["chmod", "fchmod", "fchmodat", "fchmodat2", "utimensat"],
        "CAP_FOWNER",
    ),
    (&["mknod", "mknodat"], "CAP_MKNOD"),
    (
        &["kill", "tkill", "tgkill", "pidfd_send_signal"],
        "CAP_KILL",
    ),
    (
        &["ptrace", "process_vm_readv", "process_vm_writev"],
        "CAP_SYS_PTRACE",
    ),
    (&["setrlimit", "prlimit64"], "CAP_SYS_RESOURCE"),
    (
        &[
            "setpriority",
            "sched_setscheduler",
            "sched_setattr",
            "sched_setparam",
            "sched_setaffinity",
        ],
        "CAP_SYS_NICE",
    ),
    (
        &["settimeofday", "clock_settime", "adjtimex", "clock_adjtime"],
        "CAP_SYS_TIME",
    ),
    (&["mlock", "mlock2", "mlockall"], "CAP_IPC_LOCK"),
    (
        &["init_module", "finit_module", "delete_module"],
        "CAP_SYS_MODULE",
    ),
    (&["bpf"], "CAP_BPF"),
    (&["perf_event_open"], "CAP_PERFMON"),
    (&["socket"], "CAP_NET_RAW"),
    (&["bind"], "CAP_NET_BIND_SERVICE"),
    (&["reboot"], "CAP_SYS_BOOT"),
    (&["iopl", "ioperm"], "CAP_SYS_RAWIO"),
];

/// The capability whose absence the call's EPERM (of bind(2) and socket(2) EACCES too) is mostly due to.
pub fn capability(call: &FailedCall) -> Option<&'static str> {
    let name = call.syscall.name.as_str();
    let denied = match call.error.number {
        libc::EPERM => name != "bind",
        libc::EACCES if name == "bind" => is_low_port(call),
        libc::EACCES => name == "perf_event_open",
        _ => false,
    };
    let of = |(calls, _): &&(&[&str], &str)| calls.contains(&name);
    CAPABILITIES
        .iter()
        .find(of)
        .filter(|_| denied)
        .map(|(_, capability)| *capability)
}

/// It is for a port that not everybody may use (net.ipv4.ip_unprivileged_port_start).
fn is_low_port(call: &FailedCall) -> bool {
    let port = call
        .address
        .as_deref()
        .and_then(|address| address.rsplit_once(':'));
    port.is_some_and(|(_, port)| port.parse().is_ok_and(|port: u16| port < 1024))
}
