//! Processes and threads: made, ended, reaped.

use procjail_common::{self as common, task_flags};

use super::{Enricher, SIGNAL_GROUP_EXIT};
use crate::event::model::*;
use crate::event::processes::Reaped;
use crate::names;

/// `WNOWAIT` of waitid(2): the child stays a zombie.
pub(super) const WNOWAIT: u32 = 0x0100_0000;

impl Enricher {
    pub(super) fn fork(&mut self, record: &common::Fork) -> Fork {
        let thread = record.child.pid != record.child.tid;
        if !thread {
            self.made += u64::from(record.child.flags & task_flags::IN_JAIL != 0);
            self.processes.fork(&record.header.task, &record.child);
        }
        Fork {
            child: self.processes.describe(&record.child),
            thread,
            signals: signal_sets(&record.signals),
        }
    }

    pub(super) fn exit(&mut self, record: &common::Exit) -> Exit {
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
            tracer: (record.tracer.pid != 0).then(|| self.processes.describe(&record.tracer)),
        }
    }

    pub(super) fn reap(&mut self, record: &common::Reap) -> Option<Reap> {
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

    pub(super) fn limit_changed(&mut self, record: &common::LimitChanged) -> LimitChanged {
        let caller = &record.header.task;
        let target = match record.ns_pid {
            0 => self.processes.describe(caller),
            ns_pid => self.processes.named(caller, ns_pid).unwrap_or_default(),
        };
        let limit = |value: u64| (value != u64::MAX).then_some(value);
        LimitChanged {
            target,
            resource: names::resource_limit(record.resource),
            soft: limit(record.soft),
            hard: limit(record.hard),
        }
    }
}

/// Signals by their bits, of which the lowest is signal 1.
pub(super) fn signal_sets(sets: &common::SignalSets) -> Option<SignalSets> {
    let signals = |bits: u32| {
        (1..32)
            .filter(|signal| bits >> (signal - 1) & 1 != 0)
            .map(Signal::new)
            .collect()
    };
    (sets.known != 0).then(|| SignalSets {
        ignored: signals(sets.ignored),
        caught: signals(sets.caught),
        blocked: signals(sets.blocked),
    })
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
