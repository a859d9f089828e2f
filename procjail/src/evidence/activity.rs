//! What the jail's processes have done so far, and with whom they talk: what a stop may wait for.

use std::time::Instant;

use super::sockets::Sockets;
use crate::event::ProcessActivity;
use crate::procfs;

/// Processes that are told of.
const PROCESSES: usize = 64;

/// Reads it, the first process first, as far as there is time.
pub fn activity(pids: &[u32], until: Instant) -> Vec<ProcessActivity> {
    let mut sockets = Sockets::new(until);
    pids.iter()
        .take(PROCESSES)
        .take_while(|_| Instant::now() < until)
        .filter_map(|&pid| of(pid, &mut sockets))
        .collect()
}

fn of(pid: u32, sockets: &mut Sockets) -> Option<ProcessActivity> {
    let io = procfs::read(&format!("/proc/{pid}/io"))?;
    let (listening, connected) = sockets.of(pid);
    Some(ProcessActivity {
        pid,
        read_bytes: counter(&io, "rchar"),
        write_bytes: counter(&io, "wchar"),
        read_calls: counter(&io, "syscr"),
        write_calls: counter(&io, "syscw"),
        listening,
        connected,
    })
}

/// A number of proc_pid_io(5); 0 if it isn't there.
fn counter(io: &str, name: &str) -> u64 {
    let value = io.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key == name).then(|| value.trim().parse().ok()).flatten()
    });
    value.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn this_process_has_read_and_written() {
        let us = std::process::id();
        let until = Instant::now() + Duration::from_secs(10);
        let found = activity(&[us, u32::MAX], until);
        let [found] = found.as_slice() else {
            panic!("one process: {found:?}");
        };
        assert_eq!(found.pid, us);
        assert!(found.read_bytes > 0 && found.read_calls > 0, "{found:?}");
        assert!(activity(&[us], Instant::now()).is_empty());
    }

    #[test]
    fn a_counter_has_its_whole_name() {
        let io = "rchar: 12\nwchar: x\nsyscr: 3\nread_bytes: 4096\n";
        assert_eq!(counter(io, "rchar"), 12);
        assert_eq!(counter(io, "wchar"), 0);
        assert_eq!(counter(io, "char"), 0);
    }
}
