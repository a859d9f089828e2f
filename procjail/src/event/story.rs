//! A small but realistic trace for tests: a shell as PID 1 that ignores SIGTERM, a worker that is
//! OOM-killed, a crash, a zombie, mounts, and a stop that ends by force.

use procjail_common::{
    Mount as RawMount, SignalGenerated as RawSignal, cgroup_change, mount_call, oom_reap_stage,
};

use super::fixture::{self as make, *};
use super::*;
use crate::trace;

const MS: u64 = 1_000_000;

/// The steps of the story, in order of time.
pub(crate) fn records() -> Vec<Record> {
    let (init, mount, python) = (task(1, "sh"), task(2, "mount"), task(3, "python3"));
    let (crasher, zombie, cat) = (task(4, "crasher"), task(5, "sleep"), task(6, "cat"));
    let (bash, procjail, systemd) = (
        outside(4121, "bash"),
        outside(4100, "procjail"),
        outside(1, "systemd"),
    );
    let at = |ms: u64| GATE_NS + ms * MS / 10;
    let call = |ms, task, call, source, target| make::mount(at(ms), task, call, source, target);
    let tmpfs = RawMount {
        fs_type: bytes("tmpfs"),
        fs_type_len: 5,
        flags: 6,
        ..call(92, mount, mount_call::MOUNT, "tmpfs", "/mnt")
    };
    let busy = RawMount {
        result: -i64::from(libc::EBUSY),
        duration_ns: 812,
        ..call(181, mount, mount_call::UMOUNT, "", "/mnt")
    };
    let unshared = RawMount {
        flags: 0x0002_0000,
        ..call(60, mount, mount_call::UNSHARE, "", "")
    };
    let kernels = |time, sender, target, signal| RawSignal {
        code: 128,
        handler: 0,
        target_flags: 0x4,
        syscall: -1,
        ..sent(time, sender, target, signal)
    };
    let fault = RawSignal {
        code: 1,
        flags: 0,
        fault_address: 8,
        instruction: 0x5555_0000_1234,
        stack_pointer: 0x7ffd_0000_1000,
        target_flags: 0,
        ..kernels(at(14_020), crasher, crasher, 11)
    };
    let segv = procjail_common::SignalDelivered {
        code: 1,
        handler: 0,
        ..delivered(at(14_020) + 9_000, crasher, 11)
    };
    let mib = 1 << 20;
    let chain = [
        level(7003, "web", 32 * mib, 32 * mib),
        level(7002, "procjail", 40 * mib, u64::MAX),
        level(1, "", 900 * mib, u64::MAX),
    ];
    let ignored = RawSignal {
        result: 1,
        handler: 0,
        target_flags: 0x40,
        ..sent(at(20_000), bash, init, 15)
    };
    let forwarded = RawSignal {
        syscall: libc::SYS_pidfd_send_signal,
        ..RawSignal {
            header: header(
                procjail_common::kind::SIGNAL_GENERATED,
                at(25_001),
                procjail,
            ),
            ..ignored
        }
    };
    let handled = sent(at(21_000), init, cat, 10);
    let blocked = RawSignal {
        flags: 3,
        ..sent(at(21_500), systemd, cat, 1)
    };
    let cgroup_kill = |time, target| RawSignal {
        flags: 0,
        syscall: libc::SYS_write,
        handler: 0,
        target_flags: 0x4,
        ..sent(time, procjail, target, 9)
    };
    let reaper = |time, stage| {
        Record::OomReap(procjail_common::OomReap {
            header: header(
                procjail_common::kind::OOM_REAP,
                time,
                outside(57, "oom_reaper"),
            ),
            stage,
            tid: python.tid,
        })
    };
    vec![
        // The launcher's own set-up, which is left out.
        Record::Mount(Box::new(call(0, init, mount_call::MOUNT, "", "/"))),
        exec(
            at(4),
            init,
            "/bin/sh",
            &[
                "sh",
                "-c",
                "mount -t tmpfs tmpfs /mnt; python3 grow.py; ./crasher & wait",
            ],
        ),
        fork(at(31), init, mount),
        exec_failed(at(40), mount, "/usr/local/bin/mount", libc::ENOENT),
        exec(
            at(44),
            mount,
            "/usr/bin/mount",
            &["mount", "-t", "tmpfs", "tmpfs", "/mnt"],
        ),
        Record::Mount(Box::new(unshared)),
        Record::Mount(Box::new(tmpfs)),
        Record::Mount(Box::new(busy)),
        Record::Exit(exit(at(190), mount, init, 0x2000)),
        child_ended(at(191), mount, init, 1),
        Record::Reap(reap(at(192), init, 2)),
        fork(at(210), init, python),
        free(at(230), mount),
        exec(
            at(250),
            python,
            "/usr/bin/python3.11",
            &["python3", "grow.py", "--label", "it's\n\x1b[31mred"],
        ),
        Record::SignalGenerated(kernels(at(9_500), python, python, 9)),
        Record::OomKill(Box::new(oom_kill(
            at(9_500) + 48_000,
            python,
            python,
            &chain,
        ))),
        Record::SignalDelivered(killed(at(9_502), python, 9)),
        reaper(at(11_500), oom_reap_stage::WAKE),
        Record::Exit(exit(at(13_900), python, init, 9)),
        child_ended(at(13_910), python, init, 2),
        Record::Reap(reap(at(13_912), init, 3)),
        fork(at(13_950), init, crasher),
        fork(at(13_960), crasher, zombie),
        exec(at(14_000), crasher, "./crasher", &["./crasher"]),
        Record::SignalGenerated(fault),
        Record::SignalDelivered(segv),
        Record::Exit(exit(at(14_030), crasher, init, 0x8b)),
        child_ended(at(14_031), crasher, init, 3),
        fork(at(14_100), init, cat),
        fork(at(14_150), cat, thread(cat, 9001)),
        fork(at(14_200), init, task(7, "sh")),
        exec_failed(at(14_210), task(7, "sh"), "/usr/bin/growth", libc::ENOENT),
        exec_failed(at(14_211), task(7, "sh"), "/bin/growth", libc::ENOENT),
        Record::Exit(exit(at(14_220), task(7, "sh"), init, 0x7f00)),
        Record::Reap(reap(at(19_220), init, 7)),
        Record::SignalGenerated(ignored),
        Record::SignalGenerated(handled),
        Record::SignalDelivered(delivered(at(21_000) + 35_000, cat, 10)),
        Record::SignalGenerated(blocked),
        Record::SignalGenerated(forwarded),
        Record::SignalGenerated(cgroup_kill(at(35_010), init)),
        Record::SignalGenerated(cgroup_kill(at(35_011), cat)),
        Record::Sender(Box::new(sender(
            at(20_001),
            bash,
            &["bash", "bin", "usr"],
            &["-bash"],
        ))),
        Record::FailedCalls(Box::new(failed_calls(at(35_015), 2))),
        Record::SignalDelivered(killed(at(35_012), init, 9)),
        Record::SignalDelivered(killed(at(35_012), thread(cat, 9001), 9)),
        Record::Exit(exit(at(35_014), init, procjail, 9)),
        Record::Exit(exit(at(35_016), cat, init, 9)),
        cgroup(at(35_020), init, cgroup_change::POPULATED, 0),
    ]
}

/// Evidence that the launcher reads: at the OOM kill, and in the stop window.
fn evidence() -> Vec<(u64, What)> {
    let at = |ms: u64| GATE_NS + ms * MS / 10;
    let mib = 1 << 20;
    let kinds = MemoryKinds {
        anon: 30 * mib,
        kernel: 2 * mib,
        ..MemoryKinds::default()
    };
    let sleeper = ThreadState {
        task: Task {
            pid: 4131,
            tid: 4131,
            jail_pid: Some(1),
            comm: "sh".into(),
            ..Task::default()
        },
        state: "S".into(),
        parent_pid: 4100,
        threads: 1,
        tracer_pid: 0,
        wait_channel: "do_wait".into(),
        syscall: None,
        stack: Vec::new(),
        pending: Vec::new(),
        blocked: Vec::new(),
        ignored: Vec::new(),
        caught: Vec::new(),
        core_dumping: false,
        stall: None,
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
            }),
        ),
    ]
}

/// What the launcher adds.
pub(crate) fn launcher() -> Vec<(u64, What)> {
    let at = |ms: u64| GATE_NS + ms * MS / 10;
    let term = || Signal::new(15);
    let mut told = evidence();
    told.extend(told_by_launcher(at, term));
    told.sort_by_key(|(time_ns, _)| *time_ns);
    told
}

fn told_by_launcher(at: impl Fn(u64) -> u64, term: impl Fn() -> Signal) -> Vec<(u64, What)> {
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
            }),
        ),
        (
            at(25_000),
            What::SignalForwarded(SignalForwarded {
                signal: term(),
                action: ForwardAction::HeldNoHandler,
                sender_pid: 4121,
                held_ns: 0,
            }),
        ),
        (
            at(35_000),
            What::SignalForwarded(SignalForwarded {
                signal: term(),
                action: ForwardAction::SentAtDeadline,
                sender_pid: 4121,
                held_ns: 1_000 * MS,
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

pub(crate) fn header_line() -> trace::Header {
    let probe = |name: &str, error: Option<&str>, provides: &str| trace::Probe {
        name: name.into(),
        attached: error.is_none(),
        error: error.map(str::to_owned),
        provides: provides.into(),
    };
    trace::Header {
        format: trace::FORMAT_NAME.into(),
        version: trace::FORMAT_VERSION,
        procjail: "0.1.0".into(),
        start_boot_ns: START_NS,
        start_unix_ns: 1_795_332_567_123_456_789,
        host: trace::Host {
            kernel: "6.18.5".into(),
            architecture: "x86_64".into(),
            hostname: "node7".into(),
            cgroup_mode: "hybrid".into(),
            cpus: 2,
            memory_bytes: 8_327_155_712,
            page_bytes: 4096,
            lacks: Vec::new(),
        },
        jail: trace::Jail {
            name: "web".into(),
            command: [
                "sh",
                "-c",
                "mount -t tmpfs tmpfs /mnt; python3 grow.py; ./crasher & wait",
            ]
            .map(String::from)
            .into(),
            pid: 4131,
            launcher_pid: 4100,
            cgroup: "/sys/fs/cgroup/procjail/web".into(),
            cgroup_id: 7001,
            limits: [
                ("memory.max", "33554432"),
                ("pids.max", "100"),
                ("cpu.max", "50000 100000"),
            ]
            .map(|(file, value)| (file.into(), value.into()))
            .into(),
            plan: vec!["create cgroup /sys/fs/cgroup/procjail/web".into()],
            stop_timeout_ns: 1_000 * MS,
            environment: Default::default(),
            rlimits: Default::default(),
        },
        probes: vec![
            probe("sched_process_exec", None, "execs"),
            probe(
                "cgroup_notify_frozen",
                Some("ENOENT (No such file or directory)"),
                "freezing of cgroups",
            ),
        ],
    }
}

/// The events and the footer.
pub(crate) fn trace() -> (Vec<Event>, trace::Footer) {
    let mut enricher = Enricher::new(
        Task {
            pid: 4100,
            tid: 4100,
            comm: "procjail".into(),
            ..Task::default()
        },
        4096,
    );
    enum Source {
        Kernel(Record),
        Launcher(What),
    }
    let mut sources: Vec<(u64, Source)> = records()
        .into_iter()
        .map(|record| (record.header().time_ns, Source::Kernel(record)))
        .chain(
            launcher()
                .into_iter()
                .map(|(time_ns, what)| (time_ns, Source::Launcher(what))),
        )
        .collect();
    sources.sort_by_key(|(time_ns, _)| *time_ns);
    let events: Vec<Event> = sources
        .into_iter()
        .filter_map(|(time_ns, source)| match source {
            Source::Kernel(record) => enricher.record(record),
            Source::Launcher(what) => Some(enricher.launcher(time_ns, what)),
        })
        .collect();
    let step = |step: &str, duration_ns, error: Option<&str>| trace::TeardownStep {
        step: step.into(),
        duration_ns,
        error: error.map(str::to_owned),
    };
    let footer = trace::Footer {
        footer: true,
        end_boot_ns: GATE_NS + 3_508 * MS,
        end_unix_ns: Some(1_795_332_570_639_579_789),
        status: Some(ExitStatus::from_wait(9)),
        exit_code: 137,
        duration_ns: 3_501 * MS,
        events: enricher.events(),
        lost: vec![Lost {
            event_kind: "exit".into(),
            cpu: Some(1),
            count: 3,
        }],
        peak_memory_bytes: Some(32 << 20),
        cpu_ns: Some(1_234_567_890),
        processes: enricher.processes(),
        zombies: enricher.zombies(),
        teardown: vec![
            step("wait until the cgroup is empty", 1_200_000, None),
            step(
                "remove cgroup /sys/fs/cgroup/procjail/web",
                90_000,
                Some("EBUSY (Device or resource busy)"),
            ),
        ],
    };
    (events, footer)
}
