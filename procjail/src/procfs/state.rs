//! What a process is doing: on its way out, stopped, waiting; and in words.

use std::fs;
use std::path::Path;

/// PF_EXITING in the flags of proc_pid_stat(5) (include/linux/sched.h).
const PF_EXITING: u64 = 0x4;

/// Fields of proc_pid_stat(5) from the third (state) on; the second, the name, may hold anything, even
/// a closing parenthesis.
fn stat_fields(stat: &str) -> impl Iterator<Item = &str> {
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    after.split_whitespace()
}

fn is_exiting(stat: &str) -> bool {
    stat_fields(stat)
        .nth(6)
        .and_then(|flags| flags.parse::<u64>().ok())
        .is_some_and(|flags| flags & PF_EXITING != 0)
}

/// All threads of the process are on their way out. (The main thread alone may be gone long before.)
pub(crate) fn exiting(pid: u32) -> bool {
    // One look for as long as it isn't, which is nearly always.
    if !fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| is_exiting(&stat)) {
        return false;
    }
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    let mut stats = tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("stat")).ok())
        .peekable();
    stats.peek().is_some() && stats.all(|stat| is_exiting(&stat))
}

/// The process is stopped by a signal.
pub(crate) fn stopped(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat_fields(&stat).next() == Some("T"))
}

/// One line about a process that doesn't go away: who, in which state, waiting where. Reads only what is
/// told at once.
pub(crate) fn describe(pid: u32) -> String {
    let file = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let comm = file("comm");
    let stat = file("stat");
    let state = stat_fields(&stat).next().unwrap_or("?");
    let mut line = format!("process {pid} ({}) in state {state}", comm.trim());
    // Not its stack, which 5.10 would need: to read that can mean to wait for an execve of the process.
    let wchan = match file("wchan").trim() {
        "0" => String::new(),
        symbol => symbol.to_owned(),
    };
    if !wchan.is_empty() {
        line.push_str(", waiting in ");
        line.push_str(&wchan);
    }
    line
}

/// Other processes in the same PID namespace as `pid`.
pub(crate) fn namespace_mates(pid: u32) -> Vec<u32> {
    let namespace = |pid: &Path| fs::read_link(pid.join("ns/pid")).ok();
    let Some(ours) = namespace(Path::new(&format!("/proc/{pid}"))) else {
        return Vec::new();
    };
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .flatten()
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            (number != pid && namespace(&entry.path()).as_ref() == Some(&ours)).then_some(number)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_does_not_shift_the_fields() {
        let stat = |flags| format!("12 (a) b) (c) S 1 2 3 4 5 {flags} 7 8\n");
        assert!(is_exiting(&stat(4194564 | PF_EXITING)));
        assert!(!is_exiting(&stat(4194560)));
        assert!(!is_exiting("12 (x"));
        assert_eq!(stat_fields(&stat(0)).next(), Some("S"));
    }

    #[test]
    fn this_process_is_neither_exiting_nor_stopped() {
        let pid = std::process::id();
        assert!(!exiting(pid) && !stopped(pid));
        assert!(describe(pid).starts_with(&format!("process {pid} (")));
        assert!(namespace_mates(pid).iter().all(|&mate| mate != pid));
    }

    #[test]
    fn a_process_that_is_gone_is_described_all_the_same() {
        assert_eq!(describe(0), "process 0 () in state ?");
        assert!(!exiting(0));
    }
}
