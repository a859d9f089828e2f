//! Cases made by hand, event by event, for the tests of rules.

use std::collections::BTreeMap;

use super::{Builder, Case, Confidence, Diagnosis, explain};
use crate::event::*;
use crate::names;
use crate::render::Output;
use crate::trace::{Footer, Header, Probe};

/// When the trace begins, CLOCK_BOOTTIME nanoseconds.
const START_NS: u64 = 1_000_000_000_000;

/// The probes that rules rely on; all are attached.
const PROBES: &[&str] = &[
    "sched_process_fork",
    "sched_process_exec",
    "sched_process_exit",
    "sched_process_free",
    "signal_generate",
    "signal_deliver",
    "mark_victim",
    "sys_exit",
];

/// A trace in the making. Times are milliseconds after the gate; events may come in any order.
pub(crate) struct Scene {
    /// Its first line.
    pub header: Header,
    /// Its last line.
    pub footer: Option<Footer>,
    events: Vec<(u64, Task, What)>,
}

/// A task of the jail; its host PID is its own plus 4130.
pub(crate) fn inside(pid: u32, comm: &str) -> Task {
    Task {
        pid: 4130 + pid,
        tid: 4130 + pid,
        jail_pid: Some(pid),
        comm: comm.into(),
        start_ns: START_NS + u64::from(pid),
        in_jail: true,
        cgroup_id: 7001,
    }
}

/// A task of the host.
pub(crate) fn outside(pid: u32, comm: &str) -> Task {
    Task {
        pid,
        tid: pid,
        jail_pid: None,
        comm: comm.into(),
        start_ns: 1_000,
        in_jail: false,
        cgroup_id: 1,
    }
}

/// So many mebibytes.
pub(crate) const fn mib(count: u64) -> u64 {
    count << 20
}

impl Scene {
    /// A jail named `web` whose PID 1 executes a program at 0 ms.
    pub fn new(argv: &[&str]) -> Self {
        let mut header = story::header_line();
        header.start_boot_ns = START_NS;
        header.jail.limits.clear();
        header.jail.plan.clear();
        header.jail.pid = inside(1, "").pid;
        header.probes = PROBES
            .iter()
            .map(|name| Probe {
                name: (*name).into(),
                attached: true,
                error: None,
                provides: String::new(),
            })
            .collect();
        let footer = Footer {
            footer: true,
            end_boot_ns: START_NS + 3_600_000_000_000,
            end_unix_ns: None,
            status: None,
            exit_code: 0,
            duration_ns: 1,
            events: 0,
            lost: Vec::new(),
            peak_memory_bytes: None,
            cpu_ns: None,
            processes: 1,
            zombies: 0,
            teardown: Vec::new(),
        };
        let mut scene = Self {
            header,
            footer: Some(footer),
            events: Vec::new(),
        };
        let launcher = outside(4100, "procjail");
        scene.at(0, launcher, What::GateOpened(GateOpened { setup_ns: 1 }));
        let comm = argv.first().copied().unwrap_or("app").to_owned();
        scene.exec(0, inside(1, &comm), argv);
        scene
    }

    /// Any event.
    pub fn at(&mut self, ms: u64, task: Task, what: What) -> &mut Self {
        self.events.push((START_NS + ms * 1_000_000, task, what));
        self
    }

    pub fn exec(&mut self, ms: u64, task: Task, argv: &[&str]) -> &mut Self {
        let what = Exec {
            filename: argv.first().copied().unwrap_or("app").into(),
            argv: argv.iter().map(|text| (*text).to_owned()).collect(),
            argv_truncated: false,
            argv_bytes: 1,
        };
        self.at(ms, task, What::Exec(what))
    }

    pub fn fork(&mut self, ms: u64, parent: Task, child: Task) -> &mut Self {
        let thread = parent.pid == child.pid;
        self.at(ms, parent, What::Fork(Fork { child, thread }))
    }

    /// The end of a process: an exit code, or a signal as a negative number.
    pub fn exit(&mut self, ms: u64, task: Task, status: i32, max_rss_bytes: u64) -> &mut Self {
        let status = ExitStatus {
            code: (status >= 0).then_some(status),
            signal: (status < 0).then(|| signal(-status)),
            core_dumped: false,
        };
        let what = Exit {
            status,
            process: true,
            parent: Task::default(),
            max_rss_bytes,
            user_ns: 0,
            system_ns: 0,
            lifetime_ns: 0,
            argument: None,
            process_group: 0,
            session: 0,
        };
        let reaped = task.jail_pid == Some(1);
        let exited = JailExited {
            status: what.status.clone(),
        };
        self.at(ms, task, What::Exit(what));
        if reaped {
            self.at(ms, outside(4100, "procjail"), What::JailExited(exited));
        }
        self
    }

    pub fn reap(&mut self, ms: u64, parent: Task, child: Task) -> &mut Self {
        let what = Reap {
            child,
            call: "wait4".into(),
            zombie_ns: None,
        };
        self.at(ms, parent, What::Reap(what))
    }

    /// A signal by kill(2) that will be taken; `code` 128 for the kernel's own.
    pub fn signal(&mut self, ms: u64, from: Task, to: Task, number: i32, code: i32) -> &mut Self {
        let what = SignalGenerated {
            signal: signal(number),
            code: SignalCode {
                number: code,
                name: String::new(),
            },
            target: to,
            group: true,
            result: SignalResult::Delivered,
            disposition: Disposition::Default,
            blocked: false,
            unkillable: false,
            exiting: false,
            syscall: (code <= 0).then(|| syscall(libc::SYS_kill, "kill")),
            sender_exiting: false,
            sender_kthread: false,
            sender_traces_target: false,
            fault: None,
        };
        self.at(ms, from, What::SignalGenerated(what))
    }

    /// An OOM kill, in the name of its victim, of whose memory nothing is known.
    pub fn oom_kill(&mut self, ms: u64, victim: Task) -> &mut Self {
        let what = OomKill {
            victim: victim.clone(),
            memory: ProcessMemory::default(),
            oom_score_adj: 0,
            killed_by_kernel: true,
            syscall: None,
            chain: Vec::new(),
            chain_truncated: false,
            stack: Stack::default(),
        };
        self.at(ms, victim, What::OomKill(what))
    }

    /// The last calls of a process that failed: name and error number.
    pub fn failed_calls(&mut self, ms: u64, task: Task, calls: &[(&str, i32)]) -> &mut Self {
        let tid = task.tid;
        let calls = calls
            .iter()
            .map(|(name, errno)| FailedCall {
                syscall: syscall(0, name),
                error: Errno {
                    number: *errno,
                    name: names::errno(*errno),
                },
                path: None,
                args: vec![0, mib(1024)],
                tid,
                before_ns: 1_000,
            })
            .collect();
        self.at(ms, task, What::FailedCalls(FailedCalls { calls }))
    }

    /// Counters of the jail's cgroup and those above it, at the end.
    pub fn counters(&mut self, ms: u64, levels: &[(&str, &[(&str, u64)])]) -> &mut Self {
        let levels = levels
            .iter()
            .map(|(path, values)| Level {
                path: (*path).to_owned(),
                values: values
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), *value))
                    .collect(),
            })
            .collect();
        let what = Counters {
            moment: Moment::End,
            levels,
        };
        self.at(ms, outside(4100, "procjail"), What::Counters(what))
    }

    /// A sample of the jail's memory.
    pub fn sample(&mut self, ms: u64, usage_bytes: u64, kinds: MemoryKinds) -> &mut Self {
        let what = MemorySample {
            moment: Moment::Sample,
            usage_bytes,
            limit_bytes: Some(mib(64)),
            kinds,
            swap_bytes: 0,
            events: BTreeMap::new(),
            stalled_us: None,
            processes: Vec::new(),
        };
        self.at(ms, outside(4100, "procjail"), What::MemorySample(what))
    }

    /// The case, as it would be read from the trace.
    pub fn case(&self) -> Case {
        let mut events = self.events.clone();
        events.sort_by_key(|(time_ns, ..)| *time_ns);
        let mut builder = Builder::new();
        builder.header(&self.header).expect("a builder takes all");
        for (seq, (time_ns, task, what)) in (1..).zip(events) {
            let event = Event {
                seq,
                time_ns,
                task,
                what,
            };
            builder.event(&event).expect("a builder takes all");
        }
        let footer = self.footer.as_ref();
        builder.footer(footer).expect("a builder takes all");
        builder.finish().expect("there was a header")
    }

    /// All that is found, consequences included: identifier, confidence and verdict.
    pub fn found(&self) -> Vec<(String, Confidence, String)> {
        fn collect(diagnoses: &[Diagnosis], all: &mut Vec<(String, Confidence, String)>) {
            for one in diagnoses {
                all.push((one.id.clone(), one.confidence, one.verdict.clone()));
                collect(&one.consequences, all);
            }
        }
        let mut all = Vec::new();
        collect(&explain(&self.case()).diagnoses, &mut all);
        all
    }

    /// The confidence and the verdict of a rule's finding, which must be there.
    #[track_caller]
    pub fn expect(&self, id: &str) -> (Confidence, String) {
        let found = self.found();
        match found.iter().find(|(found, ..)| found == id) {
            Some((_, confidence, verdict)) => (*confidence, verdict.clone()),
            None => panic!("{id} was not found, but {found:#?}"),
        }
    }

    /// A rule must have found nothing.
    #[track_caller]
    pub fn expect_no(&self, id: &str) {
        let found = self.found();
        assert!(found.iter().all(|(found, ..)| found != id), "{found:#?}");
    }
}

/// A signal by its number.
pub(crate) fn signal(number: i32) -> Signal {
    Signal {
        number,
        name: names::signal(number),
    }
}

fn syscall(number: i64, name: &str) -> Syscall {
    Syscall {
        number,
        name: name.into(),
    }
}
