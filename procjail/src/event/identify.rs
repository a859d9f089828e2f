//! The same process under the same identity, whoever tells of it: procfs cuts start times to ticks, and
//! the kernel log knows host PIDs only, while the kernel's records have all of it.

use super::model::{Task, What};
use super::processes::Processes;

/// procfs tells start times in ticks of this length.
const TICK_NS: u64 = 10_000_000;

/// Completes the tasks in the launcher's evidence by what the records told of them.
pub(super) fn identify(what: &mut What, processes: &Processes) {
    match what {
        What::MemorySample(sample) => {
            for found in &mut sample.processes {
                complete(&mut found.process, processes);
            }
        }
        What::KernelOom(report) => {
            for found in &mut report.processes {
                complete(&mut found.process, processes);
            }
        }
        What::Snapshot(snapshot) => {
            for thread in &mut snapshot.threads {
                complete(&mut thread.task, processes);
            }
        }
        What::MountUse(found) => {
            complete(&mut found.caller, processes);
            for user in &mut found.users {
                complete(&mut user.process, processes);
            }
        }
        What::LeakCheck(check) => {
            for task in &mut check.joined {
                complete(task, processes);
            }
        }
        _ => {}
    }
}

fn complete(task: &mut Task, processes: &Processes) {
    let Some(known) = processes.find(task.pid) else {
        return;
    };
    if is_same_start(task.start_ns, known.start_ns) {
        task.jail_pid = known.jail_pid.or(task.jail_pid);
        task.start_ns = known.start_ns.max(task.start_ns);
        task.cgroup_id = known.cgroup_id;
        task.in_jail |= known.in_jail;
    }
}

/// Whether a start that procfs told, cut to a tick, and one that the kernel told can be the same; 0 is unknown.
fn is_same_start(cut_ns: u64, exact_ns: u64) -> bool {
    cut_ns == 0 || exact_ns == 0 || (cut_ns..cut_ns.saturating_add(TICK_NS)).contains(&exact_ns)
}

/// Whether one start is another one cut to a tick, as procfs tells it: the same process then, if the PID is.
pub fn is_cut_start(one_ns: u64, other_ns: u64) -> bool {
    let (cut_ns, exact_ns) = (one_ns.min(other_ns), one_ns.max(other_ns));
    cut_ns != 0 && cut_ns.is_multiple_of(TICK_NS) && is_same_start(cut_ns, exact_ns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use procjail_common::{self as common, task_flags};

    #[test]
    fn a_process_is_known_by_its_pid_and_its_start() {
        let mut processes = Processes::default();
        processes.see(&common::Task {
            pid: 700,
            tid: 700,
            jail_pid: 3,
            start_ns: 1_234_567_890,
            cgroup_id: 9,
            flags: task_flags::IN_JAIL,
            ..common::Task::default()
        });
        let completed = |start_ns| {
            let mut task = Task {
                pid: 700,
                tid: 701,
                start_ns,
                ..Task::default()
            };
            complete(&mut task, &processes);
            (task.jail_pid, task.start_ns, task.tid)
        };
        let known = (Some(3), 1_234_567_890, 701);
        assert_eq!(completed(1_230_000_000), known);
        assert_eq!(completed(0), known, "the kernel log knows no start");
        // The PID was used before, by another process.
        assert_eq!(completed(1_220_000_000), (None, 1_220_000_000, 701));
    }
}
