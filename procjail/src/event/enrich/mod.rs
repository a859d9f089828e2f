//! From records to events: names for numbers, and what only the records before can tell (how long a
//! signal took, who was reaped, how long a zombie lasted).

mod oom;
mod process;
mod signal;
#[cfg(test)]
mod tests;

use procjail_common::{self as common, cgroup_change, mount_stage};

use super::decode::{Record, text, text_of};
use super::evidence::{FailedCalls, Sender, StderrTail};
use super::identify::identify;
use super::model::*;
use super::processes::Processes;
use crate::names;

/// `SIGNAL_GROUP_EXIT` of `signal_struct.flags` (`include/linux/sched/signal.h`).
const SIGNAL_GROUP_EXIT: u32 = 0x4;

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
    /// Processes that were there before.
    found: u64,
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
            found: 0,
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
        // What PID 1 does is its own from the start, and no set-up of procjail's.
        self.app_executes |= matches!(what, What::Attached(_));
        let task = self.launcher.clone();
        self.event(time_ns, task, what)
    }

    /// A process that was there before.
    pub fn found(&mut self, time_ns: u64, task: Task, found: Found) -> Event {
        self.found += 1;
        self.event(time_ns, task, What::Found(found))
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
                    signals: process::signal_sets(&exec.record.signals),
                })
            }
            Record::ExecFailed(record) => What::ExecFailed(ExecFailed {
                filename: text_of(&record.filename, record.filename_len as usize),
                error: Errno::new(record.errno),
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
            Record::FailedCalls(failures) => What::FailedCalls(FailedCalls::from(&*failures)),
            Record::StderrTail(record) => What::StderrTail(StderrTail::from(&*record)),
            Record::LimitChanged(record) => {
                if header.task.jail_pid == 1 && !self.app_executes {
                    return None;
                }
                What::LimitChanged(self.limit_changed(&record))
            }
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

    /// Processes made so far, PID 1 included; with those that were there before.
    pub fn processes(&self) -> u64 {
        match self.found {
            0 => self.made,
            found => self.made - 1 + found,
        }
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

fn mount(record: &common::Mount) -> Mount {
    let result = (record.stage == mount_stage::DONE).then_some(record.result);
    let error = result
        .filter(|result| *result < 0)
        .and_then(|result| i32::try_from(result.saturating_neg()).ok())
        .map(Errno::new);
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
