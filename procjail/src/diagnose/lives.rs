//! Cases for tests of rules about the lives of processes, event by event, with all details to set.

use super::{Builder, Case, Diagnosis, explain};
use crate::event::*;
use crate::render::Output;
use crate::trace;

/// When the gate opens.
const GATE_NS: u64 = 1_000_000_000_000;
/// Host PIDs are those inside the jail plus this.
const HOST_PIDS: u32 = 4_130;
const LAUNCHER_PID: u32 = 4_100;

/// A trace in the making. Times are milliseconds since the gate.
pub(crate) struct Scene {
    pub(crate) header: trace::Header,
    events: Vec<Event>,
    exit_code: i32,
}

/// A process of the jail.
pub(crate) fn task(jail_pid: u32, comm: &str) -> Task {
    Task {
        pid: HOST_PIDS + jail_pid,
        tid: HOST_PIDS + jail_pid,
        jail_pid: Some(jail_pid),
        comm: comm.to_owned(),
        start_ns: GATE_NS + u64::from(jail_pid),
        in_jail: true,
        cgroup_id: 7,
    }
}

/// A thread of a process.
pub(crate) fn thread(process: &Task, number: u32) -> Task {
    Task {
        tid: process.pid + 1_000 * number,
        ..process.clone()
    }
}

/// A process of the host.
pub(crate) fn outside(pid: u32, comm: &str) -> Task {
    Task {
        pid,
        tid: pid,
        comm: comm.to_owned(),
        start_ns: 1,
        cgroup_id: 1,
        ..Task::default()
    }
}

/// The launcher.
pub(crate) fn launcher() -> Task {
    outside(LAUNCHER_PID, "procjail")
}

/// A signal from a task to another one, by kill(2), to which it has the default action.
pub(crate) fn signal(number: i32, target: &Task) -> SignalGenerated {
    SignalGenerated {
        signal: Signal::new(number),
        code: SignalCode {
            number: 0,
            name: "SI_USER".to_owned(),
        },
        target: target.clone(),
        group: true,
        result: SignalResult::Delivered,
        disposition: Disposition::Default,
        blocked: false,
        unkillable: target.jail_pid == Some(1),
        exiting: false,
        syscall: Some(call("kill")),
        sender_exiting: false,
        sender_kthread: false,
        sender_traces_target: false,
        fault: None,
    }
}

/// A fault of the processor in a task.
pub(crate) fn fault(number: i32, code: i32, target: &Task, at: Option<Fault>) -> SignalGenerated {
    SignalGenerated {
        code: SignalCode {
            number: code,
            name: crate::names::si_code(number, code),
        },
        group: false,
        syscall: None,
        fault: at,
        ..signal(number, target)
    }
}

pub(crate) fn call(name: &str) -> Syscall {
    Syscall {
        number: 0,
        name: name.to_owned(),
    }
}

pub(crate) fn errno(number: i32) -> Errno {
    Errno {
        number,
        name: crate::names::errno(number),
    }
}

/// A call that failed a tenth of a millisecond before the end.
pub(crate) fn failed_call(name: &str, error: i32, path: Option<&str>, args: &[u64]) -> FailedCall {
    FailedCall {
        syscall: call(name),
        error: errno(error),
        path: path.map(str::to_owned),
        args: args.to_vec(),
        tid: 0,
        before_ns: 100_000,
    }
}

impl Scene {
    /// A jail whose PID 1 executes `comm` at once.
    pub(crate) fn new(comm: &str) -> Self {
        let mut scene = Self::bare();
        scene.exec(0, &task(1, comm), &format!("/bin/{comm}"));
        scene
    }

    /// A jail whose PID 1 executes nothing.
    pub(crate) fn bare() -> Self {
        let mut header = story::header_line();
        header.start_boot_ns = GATE_NS;
        header.jail.pid = HOST_PIDS + 1;
        header.jail.launcher_pid = LAUNCHER_PID;
        header.probes = [
            "sched_process_fork",
            "sched_process_exec",
            "sched_process_exit",
            "sched_process_free",
            "signal_generate",
            "signal_deliver",
            "mark_victim",
            "sys_exit",
        ]
        .map(|name| trace::Probe {
            name: name.to_owned(),
            attached: true,
            error: None,
            provides: String::new(),
        })
        .into();
        let mut scene = Self {
            header,
            events: Vec::new(),
            exit_code: 0,
        };
        scene.push(0, &launcher(), What::GateOpened(GateOpened { setup_ns: 1 }));
        scene
    }

    pub(crate) fn push(&mut self, ms: u64, task: &Task, what: What) -> &mut Self {
        self.events.push(Event {
            seq: 0,
            time_ns: GATE_NS + ms * 1_000_000,
            task: task.clone(),
            what,
        });
        self
    }

    pub(crate) fn exec(&mut self, ms: u64, task: &Task, filename: &str) -> &mut Self {
        let exec = Exec {
            filename: filename.to_owned(),
            argv: vec![filename.to_owned()],
            argv_truncated: false,
            argv_bytes: 0,
        };
        self.push(ms, task, What::Exec(exec))
    }

    pub(crate) fn exec_failed(
        &mut self,
        ms: u64,
        task: &Task,
        filename: &str,
        error: i32,
        file: Option<ExecutedFile>,
    ) -> &mut Self {
        let failed = ExecFailed {
            filename: filename.to_owned(),
            error: errno(error),
            file,
        };
        self.push(ms, task, What::ExecFailed(failed))
    }

    pub(crate) fn fork(&mut self, ms: u64, parent: &Task, child: &Task) -> &mut Self {
        let fork = Fork {
            child: child.clone(),
            thread: false,
        };
        self.push(ms, parent, What::Fork(fork))
    }

    /// The end of a process, with its status as wait(2) has it.
    pub(crate) fn exit(&mut self, ms: u64, task: &Task, parent: &Task, status: i32) -> &mut Self {
        self.exit_with(ms, task, parent, status, |_| {})
    }

    pub(crate) fn exit_with(
        &mut self,
        ms: u64,
        task: &Task,
        parent: &Task,
        status: i32,
        change: impl FnOnce(&mut Exit),
    ) -> &mut Self {
        let mut exit = Exit {
            status: ExitStatus::from_wait(status),
            process: true,
            parent: parent.clone(),
            max_rss_bytes: 0,
            user_ns: 0,
            system_ns: 0,
            lifetime_ns: 0,
            argument: None,
            process_group: 0,
            session: 0,
        };
        change(&mut exit);
        self.push(ms, task, What::Exit(exit))
    }

    /// The SIGCHLD for an end.
    pub(crate) fn notice(&mut self, ms: u64, child: &Task, to: &Task) -> &mut Self {
        let signal = SignalGenerated {
            code: SignalCode {
                number: libc::CLD_EXITED,
                name: "CLD_EXITED".to_owned(),
            },
            sender_exiting: true,
            ..signal(libc::SIGCHLD, to)
        };
        self.push(ms, child, What::SignalGenerated(signal))
    }

    pub(crate) fn reap(&mut self, ms: u64, by: &Task, child: &Task) -> &mut Self {
        let reap = Reap {
            child: child.clone(),
            call: "wait4".to_owned(),
            zombie_ns: None,
        };
        self.push(ms, by, What::Reap(reap))
    }

    pub(crate) fn free(&mut self, ms: u64, process: &Task) -> &mut Self {
        let free = Free {
            process: process.clone(),
        };
        self.push(ms, process, What::Free(free))
    }

    pub(crate) fn send(&mut self, ms: u64, sender: &Task, signal: SignalGenerated) -> &mut Self {
        self.push(ms, sender, What::SignalGenerated(signal))
    }

    pub(crate) fn deliver(
        &mut self,
        ms: u64,
        task: &Task,
        number: i32,
        disposition: Disposition,
    ) -> &mut Self {
        let delivered = SignalDelivered {
            signal: Signal::new(number),
            code: signal(number, task).code,
            disposition,
            fatal: None,
            latency_ns: None,
            generated_seq: None,
        };
        self.push(ms, task, What::SignalDelivered(delivered))
    }

    pub(crate) fn failed_calls(
        &mut self,
        ms: u64,
        task: &Task,
        calls: Vec<FailedCall>,
    ) -> &mut Self {
        self.push(ms, task, What::FailedCalls(FailedCalls { calls }))
    }

    /// PID 1's end, with the status as wait(2) has it.
    pub(crate) fn end(&mut self, ms: u64, pid1: &Task, status: i32) -> &mut Self {
        self.exit_code = status;
        self.exit(ms, pid1, &launcher(), status);
        let status = ExitStatus::from_wait(status);
        self.push(ms, &launcher(), What::JailExited(JailExited { status }))
    }

    pub(crate) fn case(&self) -> Case {
        let mut events = self.events.clone();
        events.sort_by_key(|event| event.time_ns);
        let mut builder = Builder::new();
        builder.header(&self.header).expect("a builder takes all");
        for (index, event) in events.iter_mut().enumerate() {
            event.seq = index as u64 + 1;
            builder.event(event).expect("a builder takes all");
        }
        let footer = trace::Footer {
            footer: true,
            end_boot_ns: events.last().map_or(GATE_NS, |event| event.time_ns),
            end_unix_ns: None,
            status: Some(ExitStatus::from_wait(self.exit_code)),
            exit_code: 0,
            duration_ns: 0,
            events: events.len() as u64,
            lost: Vec::new(),
            peak_memory_bytes: None,
            cpu_ns: None,
            processes: 0,
            zombies: 0,
            teardown: Vec::new(),
        };
        builder.footer(Some(&footer)).expect("a builder takes all");
        builder.finish().expect("there is a header")
    }

    /// All that is found, consequences after their causes.
    pub(crate) fn found(&self) -> Vec<Diagnosis> {
        fn flatten(diagnoses: Vec<Diagnosis>, all: &mut Vec<Diagnosis>) {
            for mut one in diagnoses {
                let below = std::mem::take(&mut one.consequences);
                all.push(one);
                flatten(below, all);
            }
        }
        let mut all = Vec::new();
        flatten(explain(&self.case()).diagnoses, &mut all);
        all
    }

    /// The identifiers of it.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.found().into_iter().map(|one| one.id).collect()
    }

    /// The verdict of that rule.
    pub(crate) fn verdict(&self, id: &str) -> Diagnosis {
        let found = self.found();
        let ids: Vec<_> = found.iter().map(|one| one.id.clone()).collect();
        found
            .into_iter()
            .find(|one| one.id == id)
            .unwrap_or_else(|| panic!("{id} is not among {ids:?}"))
    }
}
