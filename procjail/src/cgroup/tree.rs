//! What is done to a cgroup and everything below it: list, kill, remove. Bounded in time, always.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::dir::Dir;
use crate::pidfd;

/// Processes in the cgroup and below. A process that comes or goes meanwhile may be missed: repeat
/// until it is empty.
pub(crate) fn pids(dir: &Dir) -> Vec<u32> {
    let mut found = Vec::new();
    visit(dir, &mut |dir| {
        // A threaded cgroup has no list of its own (EOPNOTSUPP); its processes are in its domain's.
        if let Ok(list) = dir.read("cgroup.procs") {
            // Those of another PID namespace show as 0.
            let numbers = list.lines().filter_map(|pid| pid.parse::<u32>().ok());
            found.extend(numbers.filter(|&pid| pid != 0));
        }
    });
    found
}

/// The directory and those below it, each before what is below it.
pub(crate) fn paths(dir: &Dir) -> Vec<PathBuf> {
    let mut found = Vec::new();
    visit(dir, &mut |dir| found.push(dir.path().to_owned()));
    found
}

/// Whether a process is in the cgroup or below; a zombie is none.
pub(crate) fn populated(dir: &Dir) -> Result<bool, Errno> {
    match dir.read("cgroup.events") {
        Ok(events) => Ok(field(&events, "populated") != Some(0)),
        // Removed.
        Err(Errno::ENODEV | Errno::ENOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Kills all processes by SIGKILL: `cgroup.kill` (Linux 5.14), which no fork escapes, else
/// freeze, kill each, thaw. Returns which.
pub(crate) fn kill(dir: &Dir) -> Result<&'static str, Errno> {
    match dir.write("cgroup.kill", "1") {
        Ok(()) | Err(Errno::ENODEV) => Ok("cgroup.kill"),
        // A threaded cgroup refuses; so does a kernel that lacks the file.
        Err(Errno::ENOENT | Errno::EOPNOTSUPP) => {
            freeze_kill_thaw(dir)?;
            Ok("freeze-kill-thaw")
        }
        Err(errno) => Err(errno),
    }
}

/// How long [`freeze_kill_thaw`] may take in all; what is left then is seen by [`populated`].
const KILL_TIME: Duration = Duration::from_secs(2);

/// A frozen process can't fork, and on v2 SIGKILL ends it all the same. That it froze is waited for
/// only shortly: the next round finds what had forked.
fn freeze_kill_thaw(dir: &Dir) -> Result<(), Errno> {
    let deadline = Instant::now() + KILL_TIME;
    loop {
        // A task that can't be frozen (uninterruptible) is killed unfrozen.
        let _ = dir.write("cgroup.freeze", "1");
        let frozen_by = Instant::now() + Duration::from_millis(20);
        while Instant::now() < frozen_by
            && dir
                .read("cgroup.events")
                .is_ok_and(|events| field(&events, "frozen") == Some(0))
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        for pid in pids(dir) {
            // Gone already is what is wanted.
            let _ = pidfd::kill(pid, libc::SIGKILL);
        }
        let _ = dir.write("cgroup.freeze", "0");
        if !populated(dir)? || Instant::now() >= deadline {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Removes the cgroup `name` in `parent` and all below, deepest first. What keeps a directory busy is
/// killed again: a process may have joined from outside after the jail was killed.
///
/// # Errors
///
/// The directory that stayed when `deadline` came, and what the kernel said.
pub(crate) fn remove(
    parent: &Dir,
    name: &OsStr,
    deadline: Instant,
) -> Result<(), (PathBuf, Errno)> {
    let mut pause = Duration::from_millis(1);
    loop {
        let (path, errno) = match remove_once(parent, name) {
            Ok(()) => return Ok(()),
            Err((path, errno @ (Errno::EBUSY | Errno::ENOTEMPTY))) => (path, errno),
            Err(error) => return Err(error),
        };
        if Instant::now() >= deadline {
            return Err((path, errno));
        }
        if let Ok(dir) = parent.open_dir(name) {
            for pid in pids(&dir) {
                let _ = pidfd::kill(pid, libc::SIGKILL);
            }
        }
        std::thread::sleep(pause.min(deadline.saturating_duration_since(Instant::now())));
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

fn remove_once(parent: &Dir, name: &OsStr) -> Result<(), (PathBuf, Errno)> {
    let path = || parent.path().join(name);
    match parent.open_dir(name) {
        Ok(dir) => {
            for child in dir.subdirs().unwrap_or_default() {
                remove_once(&dir, &child)?;
            }
        }
        Err(Errno::ENOENT | Errno::ENODEV) => return Ok(()),
        // Out of descriptors: what is below can't be listed, but mostly there is nothing.
        Err(Errno::EMFILE | Errno::ENFILE) => {}
        Err(errno) => return Err((path(), errno)),
    }
    parent.rmdir(name).map_err(|errno| (path(), errno))
}

/// Calls `each` on the directory and those below it. Directories that vanish are skipped.
fn visit(dir: &Dir, each: &mut dyn FnMut(&Dir)) {
    each(dir);
    for name in dir.subdirs().unwrap_or_default() {
        if let Ok(child) = dir.open_dir(&name) {
            visit(&child, each);
        }
    }
}

/// A number in a file of `key value` lines.
pub(crate) fn field(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let events = "low 0\noom 3\noom_kill 1\n";
        assert_eq!(field(events, "oom"), Some(3));
        assert_eq!(field(events, "oom_kill"), Some(1));
        assert_eq!(field(events, "oom_kil"), None);
        assert_eq!(field("populated x\n", "populated"), None);
    }
}
