//! A small but realistic trace for tests: a shell as PID 1 that ignores SIGTERM, a worker that is
//! OOM-killed, a crash, a zombie, mounts, and a stop that ends by force.

mod kernel;
mod launcher;

use super::fixture::{GATE_NS, START_NS};
use super::*;
use crate::trace;

pub(crate) use kernel::records;
pub(crate) use launcher::launcher;

const MS: u64 = 1_000_000;

/// So many tenths of a millisecond after the gate.
const fn at(tenths_ms: u64) -> u64 {
    GATE_NS + tenths_ms * MS / 10
}

/// The trace's first line.
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
            cgroup: "/sys/fs/cgroup/procjail/web".into(),
            cgroup_id: 7001,
            memory_cgroup_id: None,
            limits: [
                ("memory.max", "33554432"),
                ("pids.max", "100"),
                ("cpu.max", "50000 100000"),
            ]
            .map(|(file, value)| (file.into(), value.into()))
            .into(),
            environment: Default::default(),
            rlimits: Default::default(),
            launcher: Some(trace::Launcher {
                pid: 4100,
                plan: vec!["create cgroup /sys/fs/cgroup/procjail/web".into()],
                stop_timeout_ns: 1_000 * MS,
                stop_as_is: false,
            }),
            container: None,
        },
        probes: vec![
            probe("sched_process_exec", None, "execs"),
            probe("sys_exit", None, "who reaped whom"),
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
    let step = |step: &str, duration_ns, error: Option<&str>| Teardown {
        step: step.into(),
        duration_ns,
        error: error.map(str::to_owned),
    };
    let footer = trace::Footer {
        footer: true,
        end_boot_ns: GATE_NS + 3_508 * MS,
        end_unix_ns: Some(1_795_332_570_639_579_789),
        status: Some(ExitStatus::from_wait(9)),
        exit_code: Some(137),
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
