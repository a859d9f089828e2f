//! From records to events: names for numbers, and what only the records before can tell (how long a
//! signal took, who was reaped, how long a zombie lasted).

use procjail_common::{
    self as common, cgroup_change, mount_stage, oom_reap_stage, signal_flags, task_flags,
};

use super::decode::{Record, text, text_of};
use super::evidence::{FailedCalls, Fault, Frame, Sender, Stack};
use super::identify::identify;
use super::model::*;
use super::processes::{Processes, Reaped, Sent};
use crate::names;

/// `SIGNAL_GROUP_EXIT` of `signal_struct.flags` (`include/linux/sched/signal.h`).
const SIGNAL_GROUP_EXIT: u32 = 0x4;
/// `SIGNAL_UNKILLABLE`: PID 1 of a PID namespace.
const SIGNAL_UNKILLABLE: u32 = 0x40;
/// `WNOWAIT` of waitid(2): the child stays a zombie.
const WNOWAIT: u32 = 0x0100_0000;
/// The kernel charges memory in batches of so many pages (`MEMCG_CHARGE_BATCH`), so a cgroup whose
/// room is smaller was at its limit.
const CHARGE_BATCH_PAGES: u64 = 64;

/// Turns records into [`Event`]s.
///
/// Records and the launcher's own facts come in through [`Self::record`] and [`Self::launcher`], best
/// in the order of their times: a cause that comes after its effect explains nothing.
#[derive(Debug)]
pub struct Enricher {
    launcher: Task,
    page_bytes: u64,
    seq: u64,
    time_ns: u64,
    processes: Processes,
    made: u64,
    app_executes: bool,
    zombies: Option<u64>,
}

impl Enricher {
    /// For a trace of `launcher`'s jail, on a machine with pages of `page_bytes`.
    pub fn new(launcher: Task, page_bytes: u64) -> Self {
        Self {
            launcher,
            page_bytes,
            seq: 0,
            time_ns: 0,
            processes: Processes::default(),
            made: 1,
            app_executes: false,
            zombies: None,
        }
    }

    /// For a jail of this very process.
    pub fn of_this_process() -> Self {
        let pid = std::process::id();
        let comm = std::fs::read("/proc/self/comm").unwrap_or_default();
        let launcher = Task {
            pid,
            tid: pid,
            comm: text(&comm).trim_end().to_owned(),
            ..Task::default()
        };
        let page_bytes = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
            .ok()
            .flatten()
            .and_then(|bytes| u64::try_from(bytes).ok())
            .unwrap_or(4096);
        Self::new(launcher, page_bytes)
    }

    /// What the launcher itself did.
    pub fn launcher(&mut self, time_ns: u64, mut what: What) -> Event {
        identify(&mut what, &self.processes);
        let task = self.launcher.clone();
        self.event(time_ns, task, what)
    }

    /// What the kernel told. `None` for what is not part of a trace: procjail's own set-up of the
    /// jail in PID 1, and waits that turn out to have reaped nobody.
    pub fn record(&mut self, record: Record) -> Option<Event> {
        let header = *record.header();
        self.processes.see(&header.task);
        let what = match record {
            Record::Fork(record) => What::Fork(self.fork(&record)),
            Record::Exec(exec) => {
                self.processes.exec(&header.task);
                self.app_executes |= header.task.jail_pid == 1;
                What::Exec(Exec {
                    argv_truncated: exec.record.argv_total_len > u64::from(exec.record.argv_len),
                    argv_bytes: exec.record.argv_total_len,
                    filename: exec.filename,
                    argv: exec.argv,
                })
            }
            Record::ExecFailed(record) => What::ExecFailed(ExecFailed {
                filename: text_of(&record.filename, record.filename_len as usize),
                error: errno(record.errno),
                file: None,
            }),
            Record::Exit(record) => What::Exit(self.exit(&record)),
            Record::Reap(record) => What::Reap(self.reap(&record)?),
            Record::Wait(record) => What::Wait(Wait {
                ns_pid: (record.ns_pid != 0).then_some(record.ns_pid),
            }),
            Record::Free(record) => {
                // Whoever happened to run has nothing to do with it.
                let process = self.processes.free(&record.process);
                return Some(self.event(
                    header.time_ns,
                    process.clone(),
                    What::Free(Free { process }),
                ));
            }
            Record::SignalGenerated(record) => {
                What::SignalGenerated(self.signal_generated(&record))
            }
            Record::SignalDelivered(record) => {
                What::SignalDelivered(self.signal_delivered(&record))
            }
            Record::Sender(record) => {
                // The idle processor: an interrupt came, and nobody sent anything.
                if header.task.pid == 0 {
                    return None;
                }
                What::Sender(Sender::from(&*record))
            }
            Record::FailedCalls(record) => What::FailedCalls(FailedCalls::from(&*record)),
            Record::OomKill(record) => What::OomKill(self.oom_kill(&record)),
            Record::OomReap(record) => What::OomReap(self.oom_reap(&record)),
            Record::Mount(record) => {
                if header.task.jail_pid == 1 && !self.app_executes {
                    return None;
                }
                What::Mount(mount(&record))
            }
            Record::Cgroup(record) => What::Cgroup(self.cgroup(&record)),
        };
        let task = self.processes.describe(&header.task);
        Some(self.event(header.time_ns, task, what))
    }

    /// Processes made so far, PID 1 included.
    pub fn processes(&self) -> u64 {
        self.made
    }

    /// Processes that were dead and unreaped when PID 1 ended; as of now while it runs.
    pub fn zombies(&self) -> u64 {
        self.zombies.unwrap_or_else(|| self.processes.zombies())
    }

    /// Events made so far.
    pub fn events(&self) -> u64 {
        self.seq
    }

    fn event(&mut self, time_ns: u64, task: Task, what: What) -> Event {
        self.seq += 1;
        // Processors hand in their records in the order of reservation, not quite that of time.
        self.time_ns = self.time_ns.max(time_ns);
        Event {
            seq: self.seq,
            time_ns: self.time_ns,
            task,
            what,
        }
    }

    fn fork(&mut self, record: &common::Fork) -> Fork {
        let thread = record.child.pid != record.child.tid;
        if !thread {
            self.made += u64::from(record.child.flags & task_flags::IN_JAIL != 0);
            self.processes.fork(&record.header.task, &record.child);
        }
        Fork {
            child: self.processes.describe(&record.child),
            thread,
        }
    }

    fn exit(&mut self, record: &common::Exit) -> Exit {
        let task = &record.header.task;
        let process = record.group_dead != 0;
        // wait_task_zombie() in kernel/exit.c tells the parent the same.
        let code = if !process {
            record.exit_code
        } else if record.signal_flags & SIGNAL_GROUP_EXIT != 0 {
            record.group_exit_code
        } else {
            record.leader_exit_code
        };
        if process {
            self.processes
                .exit(task, &record.parent, record.header.time_ns);
            if task.jail_pid == 1 {
                self.zombies = Some(self.processes.zombies());
            }
        }
        let lifetime_ns = match task.start_ns {
            0 => 0,
            start_ns => record.header.time_ns.saturating_sub(start_ns),
        };
        let status = ExitStatus::from_wait(code);
        Exit {
            process,
            parent: self.processes.describe(&record.parent),
            max_rss_bytes: record.max_rss_bytes,
            user_ns: record.utime_ns,
            system_ns: record.stime_ns,
            lifetime_ns,
            argument: exit_argument(record, &status),
            status,
            process_group: record.process_group,
            session: record.session,
        }
    }

    fn reap(&mut self, record: &common::Reap) -> Option<Reap> {
        let reaper = &record.header.task;
        if record.options & WNOWAIT != 0 {
            return None;
        }
        let (child, zombie_ns) =
            match self
                .processes
                .reap(reaper, record.ns_pid, record.header.time_ns)
            {
                Reaped::Child(child, zombie_ns) => (child, zombie_ns),
                Reaped::Alive => return None,
                Reaped::Unknown => {
                    let in_jails_namespace =
                        reaper.jail_pid != 0 && reaper.jail_pid == reaper.ns_pid;
                    let jail_pid = in_jails_namespace.then_some(record.ns_pid);
                    (
                        Task {
                            jail_pid,
                            ..Task::default()
                        },
                        None,
                    )
                }
            };
        let call = if record.waitid != 0 {
            "waitid"
        } else {
            "wait4"
        };
        Some(Reap {
            child,
            call: call.to_owned(),
            zombie_ns,
        })
    }

    fn signal_generated(&mut self, record: &common::SignalGenerated) -> SignalGenerated {
        let sender = &record.header.task;
        let group = record.flags & signal_flags::GROUP != 0;
        let result = match record.result {
            0 => SignalResult::Delivered,
            1 => SignalResult::Ignored,
            2 => SignalResult::AlreadyPending,
            3 => SignalResult::OverflowFail,
            4 => SignalResult::LoseInfo,
            _ => SignalResult::Unknown,
        };
        // A coalesced signal is not queued: the first one counts.
        if matches!(result, SignalResult::Delivered | SignalResult::LoseInfo) {
            let sent = Sent {
                time_ns: record.header.time_ns,
                seq: self.seq + 1,
            };
            self.processes
                .sent(&record.target, group, record.signal, sent);
        }
        let child_ended = record.signal == libc::SIGCHLD
            && (libc::CLD_EXITED..=libc::CLD_DUMPED).contains(&record.code);
        if child_ended && sender.flags & task_flags::EXITING != 0 {
            self.processes.notified(sender);
        }
        SignalGenerated {
            signal: Signal::new(record.signal),
            code: signal_code(record.signal, record.code),
            target: self.processes.describe(&record.target),
            group,
            result,
            disposition: disposition(record.handler),
            blocked: record.flags & signal_flags::BLOCKED != 0,
            unkillable: record.target_flags & SIGNAL_UNKILLABLE != 0,
            exiting: record.target_flags & SIGNAL_GROUP_EXIT != 0,
            syscall: syscall(record.syscall),
            sender_exiting: sender.flags & task_flags::EXITING != 0,
            sender_kthread: sender.flags & task_flags::KTHREAD != 0,
            sender_traces_target: record.target_ptrace != 0 && record.target_tracer == sender.pid,
            fault: fault(record),
        }
    }

    fn signal_delivered(&mut self, record: &common::SignalDelivered) -> SignalDelivered {
        let task = &record.header.task;
        // The kernel delivers SIGKILL to every thread of a process that ends, whatever ends it: the
        // truth is in group_exit_code, whose signal part is 0 for exit_group(2).
        let fatal = (record.signal == libc::SIGKILL
            && record.signal_flags & SIGNAL_GROUP_EXIT != 0)
            .then_some(record.group_exit_code & 0x7f)
            .filter(|signal| *signal != 0);
        let sent = match fatal {
            Some(fatal) => self.processes.fatal(task, fatal),
            None => self.processes.delivered(task, record.signal, true),
        };
        SignalDelivered {
            signal: Signal::new(record.signal),
            code: signal_code(record.signal, record.code),
            disposition: disposition(record.handler),
            fatal: fatal.map(Signal::new),
            latency_ns: sent.map(|sent| record.header.time_ns.saturating_sub(sent.time_ns)),
            generated_seq: sent.map(|sent| sent.seq),
        }
    }

    fn oom_kill(&mut self, record: &common::OomKill) -> OomKill {
        self.processes.see(&record.victim);
        let mut chain: Vec<MemoryCgroup> = record
            .chain
            .iter()
            .take(record.levels as usize)
            .map(memory_cgroup)
            .collect();
        if let Some(level) = level_at_limit(&chain, self.page_bytes)
            && let Some(level) = chain.get_mut(level)
        {
            level.at_limit = true;
        }
        OomKill {
            victim: self.processes.describe(&record.victim),
            memory: ProcessMemory {
                anon_bytes: record.anon_bytes,
                file_bytes: record.file_bytes,
                shmem_bytes: record.shmem_bytes,
                swap_bytes: record.swap_bytes,
                page_table_bytes: record.page_table_bytes,
                total_vm_bytes: record.total_vm_bytes,
            },
            oom_score_adj: record.oom_score_adj,
            killed_by_kernel: record.killed_by_kernel != 0,
            syscall: syscall(record.syscall),
            chain,
            chain_truncated: record.more_levels != 0,
            stack: stack(record),
        }
    }

    fn oom_reap(&self, record: &common::OomReap) -> OomReap {
        let stage = match record.stage {
            oom_reap_stage::WAKE => OomReapStage::Wake,
            oom_reap_stage::START => OomReapStage::Start,
            oom_reap_stage::FINISH => OomReapStage::Finish,
            oom_reap_stage::SKIP => OomReapStage::Skip,
            _ => OomReapStage::Unknown,
        };
        let victim = self.processes.find(record.tid).unwrap_or_else(|| Task {
            tid: record.tid,
            ..Task::default()
        });
        OomReap { stage, victim }
    }

    fn cgroup(&mut self, record: &common::Cgroup) -> Cgroup {
        let change = match (record.change, record.value) {
            (cgroup_change::ATTACH, _) => CgroupChange::Attach,
            (cgroup_change::POPULATED, 0) => CgroupChange::Empty,
            (cgroup_change::POPULATED, _) => CgroupChange::Populated,
            (cgroup_change::FROZEN, 0) => CgroupChange::Thawed,
            (cgroup_change::FROZEN, _) => CgroupChange::Frozen,
            (cgroup_change::MKDIR, _) => CgroupChange::Mkdir,
            (cgroup_change::RMDIR, _) => CgroupChange::Rmdir,
            _ => CgroupChange::Unknown,
        };
        let member = (change == CgroupChange::Attach).then(|| {
            self.processes.see(&record.member);
            self.processes.describe(&record.member)
        });
        Cgroup {
            change,
            path: text_of(&record.path, record.path_len as usize),
            member,
        }
    }
}

/// What ended the process by exit_group(2), or by exit(2) of its only thread, was called with.
///
/// It must agree with the status: a signal or another thread may have been quicker.
fn exit_argument(record: &common::Exit, status: &ExitStatus) -> Option<i32> {
    let call = i64::from(record.syscall);
    let own = call == libc::SYS_exit_group || call == libc::SYS_exit;
    let argument = match record.has_group_argument {
        0 => own.then_some(record.argument),
        _ => Some(record.group_argument),
    };
    argument.filter(|argument| record.group_dead != 0 && status.code == Some(argument & 0xff))
}

/// Where the processor faulted. The kernel sends such a signal to the very thread that ran, with a
/// reason (`SEGV_MAPERR`, …) or, where the processor gives none, as its own (SI_KERNEL).
fn fault(record: &common::SignalGenerated) -> Option<Fault> {
    const FAULTS: [i32; 5] = [
        libc::SIGILL,
        libc::SIGTRAP,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGSEGV,
    ];
    let sender = &record.header.task;
    let own = sender.tid == record.target.tid && sender.flags & task_flags::KTHREAD == 0;
    let raised = FAULTS.contains(&record.signal) && (1..=libc::SI_KERNEL).contains(&record.code);
    (own && raised).then_some(Fault {
        address: match record.code {
            libc::SI_KERNEL => 0,
            _ => record.fault_address,
        },
        instruction: record.instruction,
        stack_pointer: record.stack_pointer,
    })
}

fn mount(record: &common::Mount) -> Mount {
    let result = (record.stage == mount_stage::DONE).then_some(record.result);
    let error = result
        .filter(|result| *result < 0)
        .and_then(|result| i32::try_from(result.saturating_neg()).ok())
        .map(errno);
    Mount {
        call: names::mount_call(record.call),
        source: text_of(&record.source, record.source_len.into()),
        target: text_of(&record.target, record.target_len.into()),
        fs_type: text_of(&record.fs_type, record.fs_type_len.into()),
        flags: record.flags,
        flag_names: names::mount_flags(record.call, record.flags),
        args: record.args.to_vec(),
        result,
        error,
        duration_ns: record.duration_ns,
    }
}

fn memory_cgroup(level: &common::MemcgLevel) -> MemoryCgroup {
    let limit = |bytes: u64| (bytes != u64::MAX).then_some(bytes);
    let name = text(&level.name);
    MemoryCgroup {
        id: level.cgroup_id,
        name: if name.is_empty() {
            "/".to_owned()
        } else {
            name
        },
        usage_bytes: level.usage_bytes,
        limit_bytes: limit(level.limit_bytes),
        swap_usage_bytes: level.swap_usage_bytes,
        swap_limit_bytes: limit(level.swap_limit_bytes),
        at_limit: false,
    }
}

/// The trigger's calls, without names yet. A file is known by its build ID.
fn stack(record: &common::OomKill) -> Stack {
    let kernel = record.kernel_stack_len as usize / size_of::<u64>();
    let user = record.user_stack_len as usize / size_of::<common::UserFrame>();
    Stack {
        kernel: record
            .kernel_stack
            .iter()
            .take(kernel)
            .map(|&address| Frame {
                address,
                ..Frame::default()
            })
            .collect(),
        user: record
            .user_stack
            .iter()
            .take(user)
            .map(|frame| Frame {
                address: frame.place,
                symbol: None,
                module: (frame.status == common::BUILD_ID_VALID)
                    .then(|| Frame::unknown_file(&frame.build_id)),
            })
            .collect(),
    }
}

/// The level whose limit was hit: the lowest one without room for another charge. On v1 that may be
/// its limit of memory and swap together.
fn level_at_limit(chain: &[MemoryCgroup], page_bytes: u64) -> Option<usize> {
    let slack = page_bytes.saturating_mul(CHARGE_BATCH_PAGES);
    let full = |usage: u64, limit: Option<u64>| {
        limit.is_some_and(|limit| usage.saturating_add(slack) >= limit)
    };
    chain
        .iter()
        .position(|level| full(level.usage_bytes, level.limit_bytes))
        .or_else(|| {
            chain.iter().position(|level| {
                level.swap_usage_bytes >= level.usage_bytes
                    && full(level.swap_usage_bytes, level.swap_limit_bytes)
            })
        })
}

pub(super) fn errno(number: i32) -> Errno {
    Errno {
        number,
        name: names::errno(number),
    }
}

fn syscall(number: i64) -> Option<Syscall> {
    (number >= 0).then(|| Syscall {
        number,
        name: names::syscall(number),
    })
}

fn signal_code(signal: i32, number: i32) -> SignalCode {
    SignalCode {
        number,
        name: names::si_code(signal, number),
    }
}

fn disposition(handler: u64) -> Disposition {
    match handler {
        0 => Disposition::Default,
        1 => Disposition::Ignore,
        _ => Disposition::Handler,
    }
}

impl Signal {
    /// A signal by its number.
    pub fn new(number: i32) -> Self {
        Self {
            number,
            name: names::signal(number),
        }
    }
}

impl ExitStatus {
    /// From a status as wait(2) and the kernel's `exit_code` encode it: `code << 8`, or the signal,
    /// with 0x80 for a core dump.
    pub fn from_wait(status: i32) -> Self {
        match status & 0x7f {
            0 => Self {
                code: Some((status >> 8) & 0xff),
                ..Self::default()
            },
            signal => Self {
                code: None,
                signal: Some(Signal::new(signal)),
                core_dumped: status & 0x80 != 0,
            },
        }
    }
}

#[cfg(test)]
#[path = "enrich_tests.rs"]
mod tests;
