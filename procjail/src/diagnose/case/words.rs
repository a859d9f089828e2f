//! Names and numbers as verdicts use them.

use super::{Case, ProcessId};
use crate::event::{Errno, Event, ExitStatus, SignalForwarded, StopRequested, Task};
use crate::text;
use crate::words;

/// The name of a program from a path: `sh` of `/bin/sh`.
pub fn program_of(path: &str) -> &str {
    path.rsplit('/')
        .next()
        .filter(|name| !name.is_empty())
        .unwrap_or(path)
}

impl Case {
    /// A process for a sentence: `python3 (PID 7)`, with its number inside the jail; `bash (host PID
    /// 4121)` for one outside.
    pub fn name(&self, id: ProcessId) -> String {
        self.task_name(&self.process(id).task)
    }

    /// The same for a task, with the name it had at that moment.
    pub fn task_name(&self, task: &Task) -> String {
        let comm = text::escape(&task.comm);
        match task.jail_pid {
            Some(pid) => format!("{comm} (PID {pid})"),
            None if self.is_launcher(task) => "procjail".to_owned(),
            None if task.pid == 0 => "an unknown process".to_owned(),
            None => format!("{comm} (host PID {})", task.pid),
        }
    }

    /// Who asked procjail for a stop: `` `kill 4100` (host PID 4121, uid 0, cron.service)``, `Ctrl-C at the
    /// terminal`.
    pub fn requester(&self, stop: &StopRequested) -> String {
        // A trace that doesn't tell has the PID with what became of the signal.
        let forwarded = self
            .forwards()
            .find(|(_, forwarded)| forwarded.signal == stop.signal);
        let pid = forwarded.map_or(0, |(_, forwarded)| forwarded.sender_pid);
        words::requester(stop.by.as_ref(), &stop.signal, pid)
    }

    /// Who sent procjail a signal that it passed on or held, in the same words.
    pub fn forwarded_by(&self, signal: &SignalForwarded) -> String {
        words::requester(signal.by.as_ref(), &signal.signal, signal.sender_pid)
    }

    /// A sender from outside with all that is known of it: `bash (host PID 4121, uid 0, pts3, below sshd <
    /// systemd)`; a task of the jail by its name.
    pub fn who(&self, task: &Task) -> String {
        let Some((_, sender)) = self.sender(task).filter(|_| !self.is_launcher(task)) else {
            return self.task_name(task);
        };
        if sender.is_kernel_thread() {
            return "the kernel".to_owned();
        }
        let mut parts = vec![
            format!("host PID {}", task.pid),
            format!("uid {}", sender.uid),
        ];
        if let Some(tty) = &sender.tty {
            parts.push(format!("on {}", text::escape(tty)));
        }
        if !sender.cgroup.is_empty() && sender.cgroup != "/" {
            parts.push(format!("cgroup {}", text::escape(&sender.cgroup)));
        }
        let parents: Vec<String> = sender
            .parents
            .iter()
            .take(4)
            .map(|parent| text::escape(&parent.comm))
            .collect();
        if !parents.is_empty() {
            parts.push(format!("below {}", parents.join(" < ")));
        }
        let command = match sender.argv.is_empty() {
            true => text::escape(&task.comm),
            false => format!("`{}`", text::command_line(&sender.argv, 60)),
        };
        format!("{command} ({})", parts.join(", "))
    }

    /// Some processes for a sentence: the first few by name, the rest counted.
    pub fn names(&self, ids: &[ProcessId]) -> String {
        const NAMED: usize = 3;
        let mut named: Vec<String> = ids.iter().take(NAMED).map(|id| self.name(*id)).collect();
        match ids.len().saturating_sub(NAMED) {
            0 => {}
            rest => named.push(format!("{} more", text::count(rest as u64))),
        }
        match named.split_last() {
            None => "nobody".to_owned(),
            Some((last, [])) => last.clone(),
            Some((last, others)) => format!("{} and {last}", others.join(", ")),
        }
    }

    /// PID 1 by name: `sh (PID 1)`.
    pub fn pid1_name(&self) -> String {
        self.pid1()
            .map_or_else(|| "PID 1".to_owned(), |id| self.name(id))
    }

    /// When, relative to the gate: `+1.203 s`.
    pub fn at(&self, event: &Event) -> String {
        let gate = self.gate_ns();
        match event.time_ns.checked_sub(gate) {
            Some(ns) => format!("+{}", text::duration(ns)),
            None => format!("-{}", text::duration(gate - event.time_ns)),
        }
    }

    /// From one event to another: `1.203 s`.
    pub fn between(&self, from: &Event, to: &Event) -> String {
        text::duration(to.time_ns.saturating_sub(from.time_ns))
    }

    /// How a process ended: `exited with 7`, `killed by SIGSEGV`.
    pub fn ended(&self, status: &ExitStatus) -> String {
        words::status(status)
    }

    /// The same with its subject before it: `exited with 7`, `was killed by SIGSEGV`.
    pub fn did_end(&self, status: &ExitStatus) -> String {
        let how = words::status(status);
        match status.signal.is_some() {
            true => format!("was {how}"),
            false => how,
        }
    }

    /// An error: `EACCES (Permission denied)`.
    pub fn error(&self, error: &Errno) -> String {
        words::errno(error)
    }
}
