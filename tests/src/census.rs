//! What procjail could leave behind, counted.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Everything that exists now and could be a leftover later.
#[derive(Debug)]
pub struct Census {
    entries: BTreeSet<String>,
}

impl Census {
    /// Counts processes below this one, mounts, cgroups of jails, and BPF programs and maps.
    ///
    /// The test process is a child subreaper, so whatever a jail leaves running becomes its
    /// descendant. A namespace lives by a process in it, by a mount, or by a descriptor of a process:
    /// with no process and no mount left there is none.
    pub fn take() -> Census {
        let mut entries = BTreeSet::new();
        for pid in descendants() {
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            let state = state(pid);
            entries.insert(format!("process {pid} {} {state}", comm.trim()));
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        entries.extend(mounts.lines().map(|line| format!("mount {line}")));
        entries.extend(
            cgroup_directories()
                .iter()
                .map(|path| format!("cgroup {}", path.display())),
        );
        for (kind, command, _) in BPF {
            entries.extend(bpf_ids(command).iter().map(|id| format!("{kind} {id}")));
        }
        Census { entries }
    }

    /// What exists now, did not then, and stays: the kernel gets time to release things (BPF programs go
    /// after an RCU grace period), and what other users of the machine make meanwhile doesn't count.
    pub fn leftovers(&self) -> Vec<String> {
        let start = Instant::now();
        let mut left: Option<Vec<String>> = None;
        loop {
            collect_orphans();
            let now = Census::take();
            let left = left
                .get_or_insert_with(|| now.entries.difference(&self.entries).cloned().collect());
            left.retain(|entry| now.entries.contains(entry));
            if left.is_empty() || start.elapsed() > Duration::from_secs(3) {
                left.retain(|entry| !is_foreign(entry));
                return std::mem::take(left);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Somebody else who uses procjail at the same time has it: a program that only processes outside hold, a
/// cgroup that they are in or have locked.
fn is_foreign(entry: &str) -> bool {
    let mut ours = descendants();
    ours.push(std::process::id());
    let bpf = BPF.iter().find_map(|(kind, _, field)| {
        let id = entry.strip_prefix(kind)?.strip_prefix(' ')?;
        Some(format!("{field}:\t{id}"))
    });
    let holders = if let Some(line) = bpf {
        with_descriptor(&line)
    } else if let Some(path) = entry.strip_prefix("cgroup ") {
        members(Path::new(path))
    } else {
        return false;
    };
    !holders.is_empty() && holders.iter().all(|pid| !ours.contains(pid))
}

/// Processes with a descriptor whose fdinfo has this line.
fn with_descriptor(line: &str) -> Vec<u32> {
    let has = |pid: &u32| {
        fs::read_dir(format!("/proc/{pid}/fdinfo")).is_ok_and(|files| {
            files.flatten().any(|file| {
                fs::read_to_string(file.path())
                    .is_ok_and(|text| text.lines().any(|found| found.trim() == line))
            })
        })
    };
    all_processes().into_iter().filter(has).collect()
}

/// Processes in a cgroup or below it, and launchers: of a jail that is coming to its end slowly, nothing may be
/// left but zombies, which are in no cgroup any more.
fn members(directory: &Path) -> Vec<u32> {
    let list = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    let mut found: Vec<u32> = list.lines().filter_map(|pid| pid.parse().ok()).collect();
    found.extend(locked_by(directory));
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(members(&entry.path()));
        }
    }
    found
}

/// Who holds the lock of a jail's directory, as proc_locks(5) has it.
fn locked_by(directory: &Path) -> Vec<u32> {
    let Ok(found) = fs::metadata(directory) else {
        return Vec::new();
    };
    let device = found.dev();
    let (major, minor) = (libc::major(device), libc::minor(device));
    let file = format!("{major:02x}:{minor:02x}:{}", found.ino());
    // `1: FLOCK  ADVISORY  WRITE 4121 00:26:5678 0 EOF`
    let holder = |line: &str| {
        let mut fields = line.split_whitespace().skip(4);
        let pid = fields.next()?.parse().ok()?;
        (fields.next()? == file).then_some(pid)
    };
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    locks.lines().filter_map(holder).collect()
}

fn all_processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// Collects dead children of this process, as the host's init does: orphans of a dead launcher end up
/// here. Not to be called while a run of procjail is not finished.
pub fn collect_orphans() {
    // SAFETY: a null status is allowed.
    while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
}

/// All processes below this one, zombies included.
pub fn descendants() -> Vec<u32> {
    let mut found = Vec::new();
    let mut parents = vec![std::process::id()];
    while let Some(parent) = parents.pop() {
        let Ok(threads) = fs::read_dir(format!("/proc/{parent}/task")) else {
            continue;
        };
        for thread in threads.flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            let children = children
                .split_whitespace()
                .filter_map(|pid| pid.parse().ok());
            for child in children {
                found.push(child);
                parents.push(child);
            }
        }
    }
    found
}

fn state(pid: u32) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("State:"));
    line.unwrap_or("gone").to_owned()
}

/// The directories named `procjail` in every cgroup hierarchy, and all below them.
pub fn cgroup_directories() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    for line in mounts.lines().filter(|line| line.contains(" - cgroup")) {
        if let Some(directory) = line.split(' ').nth(4) {
            search(Path::new(directory), false, &mut found);
        }
    }
    found
}

fn search(directory: &Path, inside: bool, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let inside = inside || entry.file_name().to_string_lossy().contains("procjail");
            if inside {
                found.push(entry.path());
            }
            search(&entry.path(), inside, found);
        }
    }
}

/// What of BPF has IDs: how it is called, its command of bpf(2), and its line in fdinfo.
const BPF: [(&str, libc::c_int, &str); 2] = [
    ("BPF program", BPF_PROG_GET_NEXT_ID, "prog_id"),
    ("BPF map", BPF_MAP_GET_NEXT_ID, "map_id"),
];
const BPF_PROG_GET_NEXT_ID: libc::c_int = 11;
const BPF_MAP_GET_NEXT_ID: libc::c_int = 12;

/// IDs of all that is loaded of a kind on this host.
fn bpf_ids(command: libc::c_int) -> Vec<u32> {
    let mut ids = Vec::new();
    let mut last = 0;
    loop {
        // union bpf_attr: start_id, next_id, open_flags.
        let mut attributes = [last, 0_u32, 0];
        // SAFETY: the size given is that of the array, which the kernel reads and writes.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                command,
                attributes.as_mut_ptr(),
                size_of_val(&attributes),
            )
        };
        if result != 0 {
            let error = std::io::Error::last_os_error();
            assert_eq!(
                error.raw_os_error(),
                Some(libc::ENOENT),
                "cannot count what is loaded of BPF: {error}"
            );
            return ids;
        }
        last = attributes[1];
        ids.push(last);
    }
}
