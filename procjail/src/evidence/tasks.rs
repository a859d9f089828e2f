//! What the jail's tasks are doing, from /proc. Nothing is stopped or traced for it.

use std::path::Path;
use std::time::{Duration, Instant};

use super::activity::activity;
use super::counters;
use super::stall::Inquiry;
use crate::cgroup::View;
use crate::event::{Moment, Snapshot, Syscall, ThreadState};
use crate::procfs::signals;
use crate::procfs::{self, Status};

/// Threads in a snapshot.
const THREADS: usize = 256;

/// Calls of a stack.
const FRAMES: usize = 32;

/// Reads what the jail's threads are doing and have done, as far as there is time. `pid_1` belongs to it
/// wherever it is.
pub fn snapshot(view: &View, pid_1: u32, moment: Moment, time: Duration) -> Snapshot {
    let until = Instant::now() + time;
    let pids = pid_1_first(pid_1, view.pids());
    let snapshot = look(view, moment, &pids, Some(until), None);
    Snapshot {
        processes: activity(&pids, until),
        ..snapshot
    }
}

/// Reads what is left of a jail whose teardown makes no progress, and what may hold it.
///
/// May take its time: the `stack` and `syscall` of a task wait for the end of an execve(2) of it.
pub fn stall_snapshot(view: &View, pid_1: u32, waited_ns: u64) -> Snapshot {
    let mut inquiry = Inquiry::new(view, pid_1);
    let pids = pid_1_first(pid_1, inquiry.pids());
    let snapshot = look(view, Moment::Stall, &pids, None, Some(&mut inquiry));
    Snapshot {
        waited_ns: Some(waited_ns),
        ..snapshot
    }
}

/// Its state is what a stop waits for: it is read first.
fn pid_1_first(pid_1: u32, mut pids: Vec<u32>) -> Vec<u32> {
    pids.push(pid_1);
    pids.sort_unstable();
    pids.dedup();
    pids.sort_by_key(|&pid| pid != pid_1);
    pids
}

fn look(
    view: &View,
    moment: Moment,
    pids: &[u32],
    until: Option<Instant>,
    mut inquiry: Option<&mut Inquiry<'_>>,
) -> Snapshot {
    let (mut threads, mut truncated) = (Vec::new(), false);
    for &pid in pids {
        let Some(stat) = procfs::read(&format!("/proc/{pid}/stat")) else {
            continue;
        };
        let start_ns = procfs::start_ns(&stat);
        for tid in tids(pid) {
            if threads.len() == THREADS || until.is_some_and(|until| until <= Instant::now()) {
                truncated = true;
                break;
            }
            let directory = format!("/proc/{pid}/task/{tid}");
            threads.extend(thread(&directory, start_ns, inquiry.as_deref_mut()));
        }
    }
    threads.sort_by_key(|thread| (thread.task.pid, thread.task.tid));
    Snapshot {
        moment,
        threads,
        truncated,
        frozen: counters::frozen(view),
        cpu: counters::throttling(view),
        waited_ns: None,
        processes: Vec::new(),
    }
}

/// Thread IDs of a process, one more than a snapshot holds at most.
fn tids(pid: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join("task"))
    else {
        return Vec::new();
    };
    let numbers = entries.flatten();
    numbers
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .take(THREADS + 1)
        .collect()
}

/// One thread; none if it is gone.
fn thread(
    directory: &str,
    start_ns: u64,
    inquiry: Option<&mut Inquiry<'_>>,
) -> Option<ThreadState> {
    let file = |name: &str| procfs::read(&format!("{directory}/{name}"));
    let text = file("status")?;
    let status = Status::parse(&text);
    let state: String = status.text("State").chars().take(1).collect();
    // One that runs has a stack too when it is in the kernel to stay.
    let waits = match inquiry {
        None => !matches!(state.as_str(), "R" | "Z" | "X" | ""),
        Some(_) => !matches!(state.as_str(), "Z" | "X" | ""),
    };
    let (mut stack_text, mut call) = (String::new(), String::new());
    let (stack, wait_channel, syscall) = if waits {
        stack_text = file("stack").unwrap_or_default();
        call = file("syscall").unwrap_or_default();
        let stack = frames(&stack_text);
        let channel = file("wchan").unwrap_or_default();
        let channel = match channel.trim() {
            // What 5.10 always says.
            "" | "0" => stack.first().cloned().unwrap_or_default(),
            channel => in_source(channel).to_owned(),
        };
        (stack, channel, syscall(&call))
    } else {
        (Vec::new(), String::new(), None)
    };
    let place = place(&call);
    let stall =
        inquiry.map(|inquiry| inquiry.state(directory, &status, &call, &stack_text, &stack));
    Some(ThreadState {
        task: status.task(start_ns),
        parent_pid: status.number("PPid"),
        threads: status.number("Threads"),
        tracer_pid: status.number("TracerPid"),
        wait_channel,
        syscall,
        stack,
        pending: signals(status.signals("SigPnd") | status.signals("ShdPnd")),
        blocked: signals(status.signals("SigBlk")),
        ignored: signals(status.signals("SigIgn")),
        caught: signals(status.signals("SigCgt")),
        core_dumping: status.number("CoreDumping") != 0,
        stall,
        state,
        cpu_ns: cpu_ns(directory),
        switches: Some(
            status.count("voluntary_ctxt_switches") + status.count("nonvoluntary_ctxt_switches"),
        ),
        arguments: place.arguments,
        stack_pointer: place.stack_pointer,
    })
}

/// CPU time of a thread: `schedstat` has nanoseconds, but not every kernel has it; `stat` has ticks.
fn cpu_ns(directory: &str) -> Option<u64> {
    let exact = procfs::read(&format!("{directory}/schedstat"));
    let exact = exact.and_then(|text| text.split_whitespace().next()?.parse().ok());
    exact.or_else(|| procfs::cpu_ns(&procfs::read(&format!("{directory}/stat"))?))
}

/// The functions of a `stack` file: `[<0>] do_wait+0x5f/0x110`.
fn frames(stack: &str) -> Vec<String> {
    let function = |line: &str| {
        let symbol = line.split_whitespace().nth(1)?;
        let name = symbol.split('+').next()?;
        // A file without a stack has a last line with an address only.
        (!name.is_empty() && !name.starts_with("0x")).then(|| in_source(name).to_owned())
    };
    stack.lines().filter_map(function).take(FRAMES).collect()
}

/// The name that a function has in the kernel's source: a compiler adds what it made of it, such as
/// `.part.0` or `.isra.0`.
fn in_source(symbol: &str) -> &str {
    match symbol.split_once('.') {
        Some((name, _)) if !name.is_empty() => name,
        _ => symbol,
    }
}

/// The call in a `syscall` file (proc_pid_syscall(5)): `running`, `-1 …` outside of one, or its number
/// and arguments.
fn syscall(text: &str) -> Option<Syscall> {
    Syscall::entered(text.split_whitespace().next()?.parse().ok()?)
}

/// Where in its program a waiting thread is.
#[derive(Debug, Default, PartialEq, Eq)]
struct Place {
    arguments: Vec<u64>,
    stack_pointer: Option<u64>,
}

/// The rest of a `syscall` file: six arguments of a call, then the stack pointer and the program counter.
fn place(text: &str) -> Place {
    let mut words = text.split_whitespace();
    let call: Option<i64> = words.next().and_then(|word| word.parse().ok());
    let numbers: Option<Vec<u64>> = words
        .map(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok())
        .collect();
    match (call, numbers.as_deref()) {
        (Some(0..), Some([arguments @ .., stack_pointer, _])) if arguments.len() == 6 => Place {
            arguments: arguments.to_vec(),
            stack_pointer: Some(*stack_pointer),
        },
        _ => Place::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_have_names_only() {
        let text = "[<0>] do_wait+0x5f/0x110\n[<0>] kernel_wait4+0x1/0x2\n\nodd\n[<0>] 0xffffffffffffffff\n";
        assert_eq!(frames(text), ["do_wait", "kernel_wait4"]);
        let parts = "[<0>] ptrace_stop.part.0+0x1/0x2\n[<0>] do_sigtimedwait.isra.0+0x1/0x2\n";
        assert_eq!(frames(parts), ["ptrace_stop", "do_sigtimedwait"]);
    }

    #[test]
    fn a_system_call_is_named_by_its_number() {
        assert_eq!(syscall("running\n"), None);
        assert_eq!(syscall("-1 0x7ffe 0x7f\n"), None);
        let text = format!("{} 0x0 0x1\n", libc::SYS_pause);
        assert_eq!(
            syscall(&text).map(|call| call.name).as_deref(),
            Some("pause")
        );
        assert_eq!(syscall(""), None);
    }

    #[test]
    fn a_place_has_the_arguments_of_the_call_and_the_stack_pointer() {
        let text = "202 0x10 0x89 0x0 0x0 0x0 0xffffffff 0x7ffe10 0x7f1234\n";
        let found = place(text);
        assert_eq!(found.arguments, [0x10, 0x89, 0, 0, 0, 0xffff_ffff]);
        assert_eq!(found.stack_pointer, Some(0x7f_fe10));
        for text in ["running\n", "-1 0x7ffe 0x7f\n", "202 0x10 odd\n", ""] {
            assert_eq!(place(text), Place::default(), "{text}");
        }
    }

    #[test]
    fn a_sleeping_thread_of_this_process_is_seen() {
        let (send, receive) = std::sync::mpsc::channel::<()>();
        let sleeper = std::thread::Builder::new()
            .name("sleeper".into())
            .spawn(move || receive.recv())
            .expect("a thread");
        let view = View {
            hierarchies: Vec::new(),
        };
        let found = (0..1000).find_map(|_| {
            std::thread::sleep(Duration::from_millis(1));
            let snapshot = snapshot(
                &view,
                std::process::id(),
                Moment::StopHalf,
                Duration::from_secs(10),
            );
            assert_eq!(snapshot.processes.len(), 1);
            let mut threads = snapshot.threads.into_iter();
            threads.find(|thread| thread.task.comm == "sleeper" && thread.state == "S")
        });
        let found = found.expect("the sleeping thread");
        assert_eq!(found.task.pid, std::process::id());
        assert_ne!(found.task.tid, found.task.pid);
        assert!(found.threads >= 2);
        assert!(
            found.switches > Some(0) && found.cpu_ns > Some(0),
            "{found:?}"
        );
        drop(send);
        assert!(sleeper.join().expect("its end").is_err());
    }
}
