//! What the launcher did, and the evidence that it read.

use super::{MS, at};
use crate::event::fixture::{GATE_NS, START_NS, task};
use crate::event::*;

/// Evidence that the launcher reads: at the OOM kill, and in the grace period.
fn evidence() -> Vec<(u64, What)> {
    let mib = 1 << 20;
    let kinds = MemoryKinds {
        anon: 30 * mib,
        kernel: 2 * mib,
        ..MemoryKinds::default()
    };
    let sleeping = Task {
        pid: 4131,
        tid: 4131,
        jail_pid: Some(1),
        comm: "sh".into(),
        ..Task::default()
    };
    let sleeper = ThreadState {
        parent_pid: 4100,
        wait_channel: "do_wait".into(),
        ..ThreadState::of(sleeping, "S")
    };
    vec![
        (
            at(9_400),
            What::MemorySample(MemorySample {
                moment: Moment::Sample,
                usage_bytes: 32 * mib,
                limit_bytes: Some(32 * mib),
                kinds: kinds.clone(),
                swap_bytes: 0,
                events: Default::default(),
                stalled_us: None,
                processes: Vec::new(),
            }),
        ),
        (
            at(9_503),
            What::Counters(Counters {
                moment: Moment::OomKill,
                levels: vec![Level {
                    path: "/procjail/web".into(),
                    values: [("memory.events:oom_kill".to_owned(), 1)].into(),
                }],
            }),
        ),
        (
            at(9_504),
            What::KernelOom(KernelOom {
                constraint: "memcg".into(),
                limit_cgroup: Some("/procjail/web".into()),
                victim_cgroup: "/procjail/web".into(),
                victim_pid: 4133,
                kinds: Some(kinds),
                processes: Vec::new(),
                mems_allowed: "0".into(),
            }),
        ),
        (
            at(14_021),
            What::KernelMessage(KernelMessage {
                level: 6,
                text: "crasher[4134]: segfault at 0".into(),
            }),
        ),
        (
            at(30_000),
            What::Snapshot(Snapshot {
                moment: Moment::StopHalf,
                threads: vec![sleeper],
                truncated: false,
                frozen: None,
                cpu: None,
                waited_ns: None,
                processes: Vec::new(),
            }),
        ),
    ]
}

/// What the launcher adds.
pub(crate) fn launcher() -> Vec<(u64, What)> {
    let mut told = evidence();
    told.extend(told_by_launcher());
    told.sort_by_key(|(time_ns, _)| *time_ns);
    told
}

fn told_by_launcher() -> Vec<(u64, What)> {
    let term = || Signal::new(15);
    vec![
        (
            START_NS + MS,
            What::Leftover(Leftover {
                name: "web".into(),
                cgroup: "/sys/fs/cgroup/procjail/web".into(),
                processes: vec![Task {
                    pid: 3977,
                    tid: 3977,
                    comm: "agent".into(),
                    start_ns: START_NS - 7_200_000 * MS,
                    ..Task::default()
                }],
                process_count: 1,
                removed: true,
            }),
        ),
        (
            START_NS + 2 * MS,
            What::JailCreated(JailCreated {
                name: "web".into(),
                cgroup: "/sys/fs/cgroup/procjail/web".into(),
                pid: 4131,
            }),
        ),
        (
            GATE_NS,
            What::GateOpened(GateOpened {
                setup_ns: 8_123_000,
            }),
        ),
        (
            at(25_000),
            What::StopRequested(StopRequested {
                signal: term(),
                stop_signal: term(),
                timeout_ns: 1_000 * MS,
                by: None,
            }),
        ),
        (
            at(25_000),
            What::SignalForwarded(SignalForwarded {
                signal: term(),
                action: ForwardAction::HeldNoHandler,
                sender_pid: 4121,
                held_ns: 0,
                by: None,
            }),
        ),
        (
            at(35_000),
            What::SignalForwarded(SignalForwarded {
                signal: term(),
                action: ForwardAction::SentAtDeadline,
                sender_pid: 4121,
                held_ns: 1_000 * MS,
                by: None,
            }),
        ),
        (
            at(35_001),
            What::Kill(Kill {
                reason: "stop-timeout".into(),
                method: "cgroup.kill".into(),
            }),
        ),
        (
            at(35_030),
            What::JailExited(JailExited {
                status: ExitStatus::from_wait(9),
            }),
        ),
        (
            at(35_050),
            What::Teardown(Teardown {
                step: "wait until the cgroup is empty".into(),
                duration_ns: 1_200_000,
                error: None,
            }),
        ),
        (
            at(35_060),
            What::Teardown(Teardown {
                step: "remove cgroup /sys/fs/cgroup/procjail/web".into(),
                duration_ns: 90_000,
                error: Some("EBUSY (Device or resource busy)".into()),
            }),
        ),
        (
            at(183),
            What::MountUse(MountUse {
                caller: enriched(2, "mount"),
                target: "/mnt".into(),
                error: Some(Errno::new(libc::EBUSY)),
                is_mount: true,
                namespace: 4_026_532_178,
                users: vec![MountUser {
                    process: enriched(1, "sh"),
                    how: "cwd".into(),
                    path: "/mnt".into(),
                }],
                ..MountUse::default()
            }),
        ),
        (
            at(35_062),
            What::ImplicitUnmounts(ImplicitUnmounts {
                namespace: 4_026_532_178,
                seen_ns: at(20_000),
                mounts: vec![tmpfs_at("/mnt", None)],
                truncated: false,
                gone_ns: Some(at(35_016)),
                unmounted: Some(24),
                took_ns: Some(1_400_000),
            }),
        ),
        (
            at(35_063),
            What::LeakCheck(LeakCheck {
                duration_ns: 2_100_000,
                mounts: vec![LeakedMount {
                    mount: tmpfs_at("/mnt", Some(7)),
                    namespace: 4_026_531_841,
                    launchers: true,
                    seen_in_jail: true,
                    ..LeakedMount::default()
                }],
                ..LeakCheck::default()
            }),
        ),
        (
            at(35_070),
            What::Lost(Lost {
                event_kind: "exit".into(),
                cpu: Some(1),
                count: 3,
            }),
        ),
    ]
}

/// A task of the jail as an event has it.
fn enriched(jail_pid: u32, comm: &str) -> Task {
    let raw = task(jail_pid, comm);
    Task {
        pid: raw.pid,
        tid: raw.tid,
        jail_pid: Some(jail_pid),
        comm: comm.into(),
        start_ns: raw.start_ns,
        in_jail: true,
        cgroup_id: raw.cgroup_id,
    }
}

fn tmpfs_at(target: &str, shared: Option<u32>) -> MountEntry {
    MountEntry {
        device: "0:45".into(),
        root: "/".into(),
        target: target.into(),
        fs_type: "tmpfs".into(),
        source: "tmpfs".into(),
        shared,
        master: None,
    }
}
