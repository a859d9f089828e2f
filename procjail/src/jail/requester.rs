//! Who sent the launcher a signal. Looked at as soon as the signal is read, as a `kill` is gone a moment later.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use crate::event::{Ancestor, Requester};

/// Longest time that a process's arguments are waited for: they lie in its memory, which may be locked.
const PATIENCE: Duration = Duration::from_millis(20);

/// Arguments of a process that are read, bytes.
const ARGUMENTS: u64 = 4096;

/// Ancestors of a process that are told: a `kill` is gone soon, who started it is not.
const PARENTS: usize = 4;

/// Processes of the jail that are looked at for a number.
const MEMBERS: usize = 4096;

/// `PROC_PID_INIT_INO` of include/linux/proc_ns.h: the PID namespace of the host.
const HOST_NAMESPACE: u64 = 0xEFFF_FFFC;

/// What systemd calls a cgroup that has processes (systemd.unit(5)).
const UNITS: [&str; 2] = [".service", ".scope"];

/// Who sent a signal with this `si_code`, PID and user; none if the kernel did, but for a key.
pub(super) fn of(signal: i32, code: i32, pid: u32, uid: u32) -> Option<Requester> {
    if code == libc::SI_KERNEL {
        let terminal_key = matches!(signal, libc::SIGINT | libc::SIGQUIT | libc::SIGTSTP);
        return terminal_key.then(|| Requester {
            terminal_key,
            ..Requester::default()
        });
    }
    let known = if pid == 0 {
        Requester::default()
    } else {
        look(pid)
    };
    Some(Requester { uid, ..known })
}

/// One of these processes has that number in a PID namespace of its own. The kernel numbers a sender as the
/// sender's namespace does (`prepare_kill_siginfo()` in kernel/signal.c), so the signal may be that process's: who
/// has the number on the host is then not known to have sent anything.
pub(super) fn numbered_inside(pids: &[u32], number: u32) -> bool {
    pids.iter().take(MEMBERS).any(|pid| {
        fs::read_to_string(format!("/proc/{pid}/status"))
            .is_ok_and(|status| own_number(&status) == Some(number))
    })
}

/// The innermost number of a process that is in a nested PID namespace.
fn own_number(status: &str) -> Option<u32> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))?;
    let mut numbers = line.split_whitespace();
    numbers.next()?;
    numbers.next_back()?.parse().ok()
}

/// Somebody of that user.
pub(super) fn unknown(uid: u32) -> Requester {
    Requester {
        uid,
        ..Requester::default()
    }
}

/// A process as it is now.
fn look(pid: u32) -> Requester {
    let text = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    let (cgroup, unit) = placed(&text("cgroup"));
    let parents = std::iter::successors(parent(pid), |&pid| parent(pid));
    Requester {
        // Inside a container, the launcher's numbers are not the host's.
        pid: if in_host_namespace() { pid } else { 0 },
        comm: comm(pid),
        exe: exe.to_string_lossy().into_owned(),
        argv: arguments(pid),
        cgroup,
        unit,
        parents: parents.take(PARENTS).map(ancestor).collect(),
        ..Requester::default()
    }
}

/// PID of a process's parent; none where that is the end of the chain.
fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok().filter(|&pid| pid > 1)
}

fn ancestor(pid: u32) -> Ancestor {
    Ancestor {
        pid,
        comm: comm(pid),
    }
}

fn comm(pid: u32) -> String {
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    comm.trim_end_matches('\n').to_owned()
}

fn in_host_namespace() -> bool {
    fs::metadata("/proc/self/ns/pid").is_ok_and(|found| found.ino() == HOST_NAMESPACE)
}

/// The arguments, if they can be read in time. A thread of its own waits for them, and is left behind if it has to.
fn arguments(pid: u32) -> Vec<String> {
    let (answer, answers) = sync_channel(1);
    let thread = std::thread::Builder::new().name("requester".into());
    let spawned = thread.spawn(move || {
        let mut bytes = Vec::new();
        if let Ok(file) = File::open(format!("/proc/{pid}/cmdline")) {
            let _ = file.take(ARGUMENTS).read_to_end(&mut bytes);
        }
        let _ = answer.send(bytes);
    });
    let bytes = match spawned {
        Ok(_) => answers.recv_timeout(PATIENCE).unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(&bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    let arguments = bytes.split(|&byte| byte == 0);
    arguments
        .map(|argument| String::from_utf8_lossy(argument).into_owned())
        .collect()
}

/// From proc_pid_cgroup(5): the path in the unified hierarchy, or in systemd's own if that says more, and the
/// unit, which is the innermost one.
fn placed(memberships: &str) -> (String, Option<String>) {
    let path = |controllers: &str| {
        let mut lines = memberships.lines();
        lines.find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (name, path) = rest.split_once(':')?;
            (name == controllers && path != "/").then(|| path.to_owned())
        })
    };
    let cgroup = path("").or_else(|| path("name=systemd"));
    let unit = cgroup.as_ref().and_then(|path| {
        let mut names = path.rsplit('/');
        let unit = names.find(|name| UNITS.iter().any(|suffix| name.ends_with(suffix)));
        unit.map(str::to_owned)
    });
    (cgroup.unwrap_or_default(), unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_inside_is_the_innermost_of_a_nested_namespace() {
        assert_eq!(own_number("Name:\tsh\nNSpid:\t4131\t2\t1\n"), Some(1));
        assert_eq!(own_number("NSpid:\t4131\n"), None, "it is in none");
        assert_eq!(own_number(""), None);
        assert!(!numbered_inside(&[std::process::id()], std::process::id()));
    }

    #[test]
    fn a_key_is_told_from_a_process_and_from_the_kernel() {
        let key = of(libc::SIGINT, libc::SI_KERNEL, 0, 0).expect("a key");
        assert!(key.terminal_key && key.pid == 0 && key.comm.is_empty());
        assert_eq!(of(libc::SIGHUP, libc::SI_KERNEL, 0, 0), None);
        let unknown = of(libc::SIGTERM, libc::SI_USER, 0, 1000).expect("a process");
        assert!(!unknown.terminal_key && unknown.pid == 0 && unknown.uid == 1000);
    }

    #[test]
    fn this_process_is_known_by_what_it_runs() {
        let us = of(libc::SIGTERM, libc::SI_USER, std::process::id(), 7).expect("a process");
        assert_eq!(us.uid, 7, "as it was when it sent");
        assert!(!us.comm.is_empty() && us.exe.starts_with('/'), "{us:?}");
        let own: Vec<String> = std::env::args().collect();
        assert_eq!(us.argv.first(), own.first());
        // SAFETY: always succeeds.
        let parent = unsafe { libc::getppid() } as u32;
        assert_eq!(us.parents.first().map(|parent| parent.pid), Some(parent));
        if in_host_namespace() {
            assert_eq!(us.pid, std::process::id());
        }
    }

    #[test]
    fn a_process_that_is_gone_is_its_number() {
        let gone = of(libc::SIGTERM, libc::SI_USER, i32::MAX as u32, 0).expect("a process");
        assert!(gone.comm.is_empty() && gone.argv.is_empty() && gone.unit.is_none());
    }

    #[test]
    fn the_unit_is_the_innermost_name_that_systemd_gives() {
        let told = |text| placed(text);
        let (cgroup, unit) = told("0::/system.slice/nginx.service\n");
        assert_eq!(cgroup, "/system.slice/nginx.service");
        assert_eq!(unit.as_deref(), Some("nginx.service"));
        let user = "0::/user.slice/user-0.slice/user@0.service/app.slice/a.service/x\n";
        assert_eq!(told(user).1.as_deref(), Some("a.service"));
        let hybrid = "9:name=systemd:/user.slice/session-3.scope\n4:memory:/y.service\n0::/\n";
        assert_eq!(told(hybrid).1.as_deref(), Some("session-3.scope"));
        assert_eq!(told("0::/\n"), (String::new(), None));
        assert_eq!(told("broken"), (String::new(), None));
    }
}
