//! Numbers at the moment that decided: what memory was made of at an OOM kill, what the threads did when the time
//! to stop was over, what held a teardown, what failed before an exit.

use super::Page;
use super::text::{Table, code, prose};
use crate::event::*;
use crate::hang;
use crate::text::{bytes, command_line, count, duration};
use crate::words::{errno as error_number, status};

/// Rows of a table of processes, threads or calls.
pub(super) const ROWS: usize = 16;
/// Columns of a command.
const COMMAND_WIDTH: usize = 160;
/// Calls that are shown of a stack.
const FRAMES: usize = 8;

impl Page<'_> {
    /// The section: what fits this trace, and the run as a whole.
    pub fn numbers(&self) -> String {
        let parts = [
            self.oom(),
            self.memory(),
            self.stall(),
            self.stop(),
            self.senders(),
            self.faults(),
            self.failed_calls(),
            self.counters(),
            Some(self.run()),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        format!("## Numbers at the decisive moment\n\n{}", parts.join("\n"))
    }

    /// What held the teardown, when it had waited longest.
    fn stall(&self) -> Option<String> {
        let case = &self.subject.case;
        let (event, snapshot) = case
            .snapshots()
            .filter(|(_, snapshot)| {
                snapshot.moment == Moment::Stall && !snapshot.threads.is_empty()
            })
            .max_by_key(|(_, snapshot)| snapshot.waited_ns)?;
        let mut table = Table::new(&[
            "thread",
            "state",
            "what holds it",
            "kernel stack, innermost first",
        ]);
        let holds = hang::holds(snapshot);
        for hold in holds.iter().take(ROWS) {
            table.row([
                prose(&case.task_name(&hold.thread.task)),
                code(&hold.thread.state),
                prose(&hang::reason(hold)),
                stack(&hold.thread.stack),
            ]);
        }
        more(&mut table, holds.len());
        Some(format!(
            "**Teardown without progress for {}** (event {}, {} UTC):\n\n{}",
            snapshot
                .waited_ns
                .map_or_else(|| "a while".to_owned(), duration),
            event.seq,
            self.time(event.time_ns),
            table
                .finish()
                .unwrap_or_else(|| "No thread was left.\n".to_owned())
        ))
    }

    /// What the threads did when a stop was awaited: at its end, or as late as there is a look.
    fn stop(&self) -> Option<String> {
        let case = &self.subject.case;
        let (event, snapshot) = case
            .snapshots()
            .filter(|(_, snapshot)| {
                matches!(
                    snapshot.moment,
                    Moment::StopRequested | Moment::StopHalf | Moment::StopDeadline
                )
            })
            .last()?;
        let when = match snapshot.moment {
            Moment::StopRequested => "when the stop was asked for",
            Moment::StopHalf => "when half of the time to stop was over",
            _ => "just before the kill",
        };
        let mut table = Table::new(&[
            "thread",
            "state",
            "waits in",
            "system call",
            "pending",
            "blocked",
            "handles",
        ]);
        for thread in snapshot.threads.iter().take(ROWS) {
            let place = match thread.wait_channel.as_str() {
                "" | "0" => String::new(),
                place => code(place),
            };
            let call = thread.syscall.as_ref();
            table.row([
                prose(&case.task_name(&thread.task)),
                code(&thread.state),
                place,
                call.map_or_else(String::new, |call| code(&call.name)),
                signals(&thread.pending),
                signals(&thread.blocked),
                signals(&thread.caught),
            ]);
        }
        more(&mut table, snapshot.threads.len());
        let mut text = format!(
            "**Threads {when}** (event {}, {} UTC):\n\n{}",
            event.seq,
            self.time(event.time_ns),
            table
                .finish()
                .unwrap_or_else(|| "There was none.\n".to_owned())
        );
        if let Some(frozen) = &snapshot.frozen {
            text += &format!("\nThe cgroup {} was frozen.\n", code(frozen));
        }
        if let Some(cpu) = snapshot
            .cpu
            .as_ref()
            .filter(|cpu| cpu.throttled_periods > 0)
        {
            text += &format!(
                "\nCPU limit: held back in {} of {} periods, {} in all; {} used.\n",
                count(cpu.throttled_periods),
                count(cpu.periods),
                duration(cpu.throttled_ns),
                duration(cpu.used_ns)
            );
        }
        Some(text)
    }

    /// Who sent from outside what the verdicts go by.
    fn senders(&self) -> Option<String> {
        let case = &self.subject.case;
        let cited = self.subject.explanation.cited();
        let mut table = Table::new(&[
            "sender", "program", "command", "-uid", "terminal", "cgroup", "below", "-event",
        ]);
        let senders = case.each(|what| match what {
            What::Sender(sender) => Some(sender),
            _ => None,
        });
        for (event, sender) in senders
            .filter(|(event, _)| cited.contains(&event.seq))
            .take(ROWS)
        {
            let parents: Vec<String> = sender
                .parents
                .iter()
                .map(|parent| format!("{} ({})", parent.comm, parent.pid))
                .collect();
            let optional = |text: &str| match text {
                "" => String::new(),
                text => code(text),
            };
            table.row([
                prose(&case.task_name(&event.task)),
                optional(&sender.exe),
                optional(&command_line(&sender.argv, COMMAND_WIDTH)),
                sender.uid.to_string(),
                optional(sender.tty.as_deref().unwrap_or("")),
                optional(&sender.cgroup),
                optional(&parents.join(" < ")),
                event.seq.to_string(),
            ]);
        }
        Some(format!(
            "**Who sent it, as recorded at that moment**:\n\n{}",
            table.finish()?
        ))
    }

    /// Where the processor faulted.
    fn faults(&self) -> Option<String> {
        let case = &self.subject.case;
        let mut table = Table::new(&[
            "process",
            "signal",
            "code",
            "address",
            "instruction",
            "stack pointer",
            "-event",
        ]);
        let faults = case.each(|what| match what {
            What::SignalGenerated(signal) => Some((signal, signal.fault.as_ref()?)),
            _ => None,
        });
        for (event, (signal, fault)) in faults.take(ROWS) {
            table.row([
                prose(&case.task_name(&signal.target)),
                code(&signal.signal.name),
                code(&signal.code.name),
                code(&format!("{:#x}", fault.address)),
                code(&format!("{:#x}", fault.instruction)),
                code(&format!("{:#x}", fault.stack_pointer)),
                event.seq.to_string(),
            ]);
        }
        Some(format!(
            "**Faults of the processor**:\n\n{}",
            table.finish()?
        ))
    }

    /// The last failed calls of PID 1, or of the processes that the first verdict is about.
    fn failed_calls(&self) -> Option<String> {
        const FAMILIES: &[&str] = &[
            "exit-", "exec-", "emfile", "enospc", "enomem", "fork-", "limit-", "rlimit-",
            "seccomp-", "umount-", "status-",
        ];
        let main = self.main()?;
        let cited = self.subject.explanation.cited();
        let fits = FAMILIES.iter().any(|family| main.id.starts_with(family));
        let (event, failed) = self
            .subject
            .case
            .each(|what| match what {
                What::FailedCalls(failed) => Some(failed),
                _ => None,
            })
            .find(|(event, _)| {
                cited.contains(&event.seq) || (fits && main.pids.contains(&event.task.pid))
            })?;
        let mut table = Table::new(&["-before its end", "call", "path", "error"]);
        for call in &failed.calls {
            table.row([
                duration(call.before_ns),
                code(&call.syscall.name),
                call.path.as_deref().map_or_else(String::new, code),
                prose(&error_number(&call.error)),
            ]);
        }
        Some(format!(
            "**Last failed calls of {}** (event {}):\n\n{}",
            prose(&self.subject.case.task_name(&event.task)),
            event.seq,
            table.finish()?
        ))
    }

    /// Counters of the jail's cgroup and those above that tell of trouble and rose.
    fn counters(&self) -> Option<String> {
        const TELLING: &[&str] = &[
            "memory.events",
            "memory.swap.events",
            "memory.failcnt",
            "memory.memsw.failcnt",
            "pids.events",
            "cpu.stat:nr_throttled",
            "cpu.stat:throttled_usec",
        ];
        let case = &self.subject.case;
        let (_, start) = case.counters(Moment::Start)?;
        let (_, last) = case
            .each(|what| match what {
                What::Counters(counters) => Some(counters),
                _ => None,
            })
            .last()?;
        let mut table = Table::new(&["cgroup", "counter", "-before", "-after", "-rose by"]);
        for (index, level) in last.levels.iter().enumerate() {
            let before = start
                .levels
                .get(index)
                .filter(|before| before.path == level.path);
            for (name, after) in &level.values {
                let before = before
                    .and_then(|level| level.values.get(name))
                    .copied()
                    .unwrap_or(0);
                let rose = after.saturating_sub(before);
                if rose == 0 || !TELLING.iter().any(|telling| name.starts_with(telling)) {
                    continue;
                }
                table.row([
                    code(&level.path),
                    code(name),
                    count(before),
                    count(*after),
                    count(rose),
                ]);
            }
        }
        Some(format!(
            "**Counters that rose during the run**:\n\n{}",
            table.finish()?
        ))
    }

    /// The run as a whole.
    fn run(&self) -> String {
        let case = &self.subject.case;
        let Some(footer) = &case.footer else {
            return "**The run**: the trace does not have its end.\n".to_owned();
        };
        let mut table = Table::new(&["the run", "-value"]);
        let ended = footer
            .status
            .as_ref()
            .map_or_else(|| "not known".to_owned(), status);
        table.row(["PID 1".to_owned(), prose(&ended)]);
        table.row([
            "from the start to its end".to_owned(),
            duration(footer.duration_ns),
        ]);
        if let Some(peak) = footer.peak_memory_bytes {
            table.row(["peak memory".to_owned(), bytes(peak)]);
        }
        if let Some(cpu) = footer.cpu_ns {
            table.row(["CPU time".to_owned(), duration(cpu)]);
        }
        table.row(["processes".to_owned(), count(footer.processes)]);
        table.row(["zombies left by PID 1".to_owned(), count(footer.zombies)]);
        for step in &footer.teardown {
            let error = step
                .error
                .as_deref()
                .map_or_else(String::new, |error| format!(": {}", prose(error)));
            table.row([
                format!("teardown: {}", prose(&step.step)),
                format!("{}{error}", duration(step.duration_ns)),
            ]);
        }
        table.finish().unwrap_or_default()
    }
}

fn signals(signals: &[Signal]) -> String {
    let names: Vec<String> = signals.iter().map(|signal| code(&signal.name)).collect();
    names.join(" ")
}

fn stack(frames: &[String]) -> String {
    match frames.is_empty() {
        true => String::new(),
        false => code(&frames[..frames.len().min(FRAMES)].join(" < ")),
    }
}

fn more(table: &mut Table, all: usize) {
    let rest = all.saturating_sub(ROWS) as u64;
    if rest > 0 {
        table.row([format!("and {} more", count(rest))]);
    }
}
