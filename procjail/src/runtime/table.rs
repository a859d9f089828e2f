//! The processes of the host with their cgroups, and where cgroups are mounted: read once for a listing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::container::Cgroup;
use super::files::{Tree, read_proc};
use super::roots::Roots;
use crate::procfs::mountinfo::unescape_text;

/// Length of a tick of proc_pid_stat(5)'s times: USER_HZ is 100 wherever procjail runs.
const TICK_NS: u64 = 10_000_000;

/// A thread of the kernel, in the flags of proc_pid_stat(5) (include/linux/sched.h).
const PF_KTHREAD: u64 = 0x0020_0000;

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    /// Its parent.
    pub parent: u32,
    /// First letters of its program's name.
    pub comm: String,
    /// When it started, CLOCK_BOOTTIME nanoseconds.
    pub start_ns: u64,
    /// Where it is.
    pub cgroup: Cgroup,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    /// Processes by PID, without those that have ended and without the kernel's threads.
    pub processes: BTreeMap<u32, Process>,
    /// Children by their parent's PID, the oldest first.
    children: BTreeMap<u32, Vec<u32>>,
    /// Where the hierarchies are.
    pub mounts: Mounts,
}

impl Table {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// There is no /proc.
    pub fn read(roots: &Roots) -> std::io::Result<Table> {
        let mut processes = BTreeMap::new();
        for entry in std::fs::read_dir(&roots.proc)?.flatten() {
            let pid = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            if let Some(pid) = pid
                && let Some(process) = process(roots, pid)
            {
                processes.insert(pid, process);
            }
        }
        let mounts = read_proc(&roots.proc.join("self/mountinfo")).unwrap_or_default();
        Ok(Table {
            children: families(&processes),
            processes,
            mounts: Mounts::parse(&mounts),
        })
    }

    /// Children of a process, the oldest first.
    pub fn children(&self, parent: u32) -> &[u32] {
        self.children.get(&parent).map_or(&[], Vec::as_slice)
    }

    /// Processes of these programs.
    pub fn named<'a>(&'a self, comm: &'a str) -> impl Iterator<Item = u32> {
        let named = self
            .processes
            .iter()
            .filter(move |(_, process)| process.comm == comm);
        named.map(|(&pid, _)| pid)
    }
}

/// Children of each process, the oldest first.
fn families(processes: &BTreeMap<u32, Process>) -> BTreeMap<u32, Vec<u32>> {
    let mut ordered: Vec<(u64, u32, u32)> = processes
        .iter()
        .map(|(&pid, process)| (process.start_ns, pid, process.parent))
        .collect();
    ordered.sort_unstable();
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (_, pid, parent) in ordered {
        children.entry(parent).or_default().push(pid);
    }
    children
}

fn process(roots: &Roots, pid: u32) -> Option<Process> {
    let stat = read_proc(&roots.of_process(pid, "stat")).ok()?;
    let mut process = stat_of(&stat)?;
    let cgroup = read_proc(&roots.of_process(pid, "cgroup")).ok()?;
    process.cgroup = Cgroup::parse(&cgroup);
    Some(process)
}

/// The name may hold anything, even a closing parenthesis.
fn stat_of(stat: &str) -> Option<Process> {
    let (head, fields) = stat.rsplit_once(')')?;
    let (_, comm) = head.split_once('(')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let flags: u64 = fields.get(6)?.parse().ok()?;
    if matches!(*fields.first()?, "Z" | "X") || flags & PF_KTHREAD != 0 {
        return None;
    }
    let ticks: u64 = fields.get(19)?.parse().ok()?;
    Some(Process {
        parent: fields.get(1)?.parse().ok()?,
        comm: comm.to_owned(),
        start_ns: self::ticks(ticks),
        cgroup: Cgroup::default(),
    })
}

/// Ticks since boot in nanoseconds.
pub(super) fn ticks(ticks: u64) -> u64 {
    ticks.saturating_mul(TICK_NS)
}

/// Time since a moment of CLOCK_BOOTTIME, nanoseconds.
pub(super) fn age(start_ns: u64) -> u64 {
    crate::clock::boot_ns().saturating_sub(start_ns)
}

/// Its arguments.
///
/// # Errors
///
/// What the kernel answers.
pub(super) fn arguments(roots: &Roots, pid: u32) -> Result<Vec<String>, Errno> {
    let text = read_proc(&roots.of_process(pid, "cmdline"))?;
    Ok(text
        .trim_end_matches('\0')
        .split('\0')
        .map(str::to_owned)
        .collect())
}

/// Its PID in each PID namespace that it is in, the host's first.
pub(super) fn pids(roots: &Roots, pid: u32) -> Vec<u32> {
    let status = read_proc(&roots.of_process(pid, "status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("NStgid:"));
    let pids = line.unwrap_or_default().split_whitespace();
    pids.map_while(|pid| pid.parse().ok()).collect()
}

/// Where a hierarchy of cgroups is to be found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mount {
    /// The cgroup that is mounted.
    root: String,
    /// Where.
    pub point: PathBuf,
}

/// Where the hierarchies are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mounts {
    unified: Option<Mount>,
    memory: Option<Mount>,
    pids: Option<Mount>,
}

impl Mounts {
    /// Takes apart proc_pid_mountinfo(5).
    pub fn parse(text: &str) -> Mounts {
        let mut mounts = Mounts::default();
        for line in text.lines() {
            let Some((head, tail)) = line.split_once(" - ") else {
                continue;
            };
            let mut head = head.split(' ').skip(3).map(unescape_text);
            let mut tail = tail.split(' ');
            let (Some(root), Some(point), Some(kind)) = (head.next(), head.next(), tail.next())
            else {
                continue;
            };
            let options = tail.nth(1).unwrap_or_default();
            let has = |controller| options.split(',').any(|option| option == controller);
            let slot = match kind {
                "cgroup2" => &mut mounts.unified,
                "cgroup" if has("memory") => &mut mounts.memory,
                "cgroup" if has("pids") => &mut mounts.pids,
                _ => continue,
            };
            // The same may be mounted again elsewhere, in part.
            if slot
                .as_ref()
                .is_none_or(|known| known.root.len() > root.len())
            {
                let point = PathBuf::from(point);
                *slot = Some(Mount { root, point });
            }
        }
        mounts
    }

    /// Memory that is charged to a cgroup, and its limit.
    pub fn memory(&self, host: &Tree, cgroup: &Cgroup) -> (Option<u64>, Option<u64>) {
        /// v1 has no word for "no limit" but the largest number of pages.
        const NO_LIMIT: u64 = 1 << 62;
        let (mount, path, files) = match (&self.memory, &self.unified) {
            (Some(mount), _) => {
                let files = ["memory.usage_in_bytes", "memory.limit_in_bytes"];
                (mount, &cgroup.memory, files)
            }
            (None, Some(mount)) => (mount, &cgroup.unified, ["memory.current", "memory.max"]),
            (None, None) => return (None, None),
        };
        let Some(path) = path.as_deref().filter(|path| *path != "/") else {
            return (None, None);
        };
        let [now, limit] = files.map(|file| {
            let text = host.read(&directory(mount, path)?.join(file)).ok()?;
            text.trim().parse::<u64>().ok()
        });
        (now, limit.filter(|&limit| limit < NO_LIMIT))
    }

    /// The hierarchies in which there is such a cgroup. `path` may be one on the host, with a mount point.
    pub fn find(&self, host: &Tree, path: &str) -> Cgroup {
        let find = |mount: &Option<Mount>| {
            let mount = mount.as_ref()?;
            let inside = Path::new(path).strip_prefix(&mount.point).ok();
            let inside = inside.map(|inside| Path::new("/").join(inside));
            let inside = inside.as_deref().unwrap_or(Path::new(path)).to_str()?;
            let directory = directory(mount, inside)?;
            host.has_directory(&directory).then(|| inside.to_owned())
        };
        Cgroup {
            unified: find(&self.unified),
            memory: find(&self.memory),
            pids: find(&self.pids),
        }
    }
}

/// The directory of a cgroup, if it lies below what is mounted. Seen from a namespace of cgroups, those outside
/// of it begin with `/..`.
fn directory(mount: &Mount, path: &str) -> Option<PathBuf> {
    let inside = Path::new(path).strip_prefix(&mount.root).ok()?;
    let up = std::path::Component::ParentDir;
    if inside.components().any(|component| component == up) {
        return None;
    }
    Some(mount.point.join(inside))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HYBRID: &str = "\
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
51 31 0:38 /a /mnt/a\\040b rw,relatime shared:3 - cgroup2 cgroup2 rw
broken - line
";

    #[test]
    fn the_mounts_of_hierarchies_are_found() {
        let mounts = Mounts::parse(HYBRID);
        let mount = |root: &str, point: &str| {
            let (root, point) = (root.to_owned(), PathBuf::from(point));
            Some(Mount { root, point })
        };
        assert_eq!(mounts.unified, mount("/", "/sys/fs/cgroup/unified"));
        assert_eq!(mounts.memory, mount("/", "/sys/fs/cgroup/memory"));
        assert_eq!(mounts.pids, mount("/", "/sys/fs/cgroup/pids"));
        let part =
            Mounts::parse("51 31 0:38 /../.. /mnt/a\\040b rw shared:3 - cgroup2 cgroup2 rw\n");
        let part = part.unified.unwrap();
        let inside = directory(&part, "/../../docker/x");
        assert_eq!(inside, Some(PathBuf::from("/mnt/a b/docker/x")));
        // What is not below it can't be read.
        assert_eq!(directory(&part, "/docker"), None);
        assert_eq!(directory(&part, "/../../../x"), None);
    }

    #[test]
    fn the_name_of_a_process_does_not_shift_the_fields() {
        let stat = |state, flags| {
            format!(
                "12 (a) b) (c) {state} 7 2 3 4 5 {flags} 7 8 9 10 11 12 13 14 15 16 17 18 300 20"
            )
        };
        let process = stat_of(&stat("S", 4194560)).unwrap();
        assert_eq!((process.parent, process.start_ns), (7, 3_000_000_000));
        assert_eq!(process.comm, "a) b) (c");
        assert_eq!(stat_of(&stat("Z", 4194560)), None);
        assert_eq!(stat_of(&stat("I", PF_KTHREAD)), None);
        assert_eq!(stat_of("12 (a) S 1"), None);
    }

    #[test]
    fn this_process_is_there() {
        let table = Table::read(&Roots::default()).unwrap();
        let own = std::process::id();
        let process = table.processes.get(&own).unwrap();
        assert!(table.children(process.parent).contains(&own));
        assert_eq!(pids(&Roots::default(), own).first(), Some(&own));
        assert!(!arguments(&Roots::default(), own).unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "\\PC*|([ ()0-9SZ]|\\n| - |cgroup2|memory|:|/){0,60}") {
            stat_of(&text);
            Mounts::parse(&text);
            Cgroup::parse(&text);
        }
    }
}
