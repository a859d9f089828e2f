//! The jail's cgroups after their removal.

use std::collections::BTreeMap;
use std::path::Path;

use crate::cgroup::View;
use crate::event::{DyingCgroups, GrownTmpfs, LeftCgroup};
use crate::procfs::host;
use crate::procfs::mountinfo::Table;

/// Members of a cgroup that are named.
const NAMED: usize = 16;

/// Those that still exist: their files answer.
pub fn left(view: &View) -> Vec<LeftCgroup> {
    view.hierarchies
        .iter()
        .filter(|hierarchy| hierarchy.own)
        .filter_map(|hierarchy| {
            let level = hierarchy.levels.first()?;
            level.exists().then(|| LeftCgroup {
                controllers: hierarchy.controllers.clone(),
                path: level.path.clone(),
                members: level
                    .pids()
                    .into_iter()
                    .take(NAMED)
                    .map(host::task)
                    .collect(),
            })
        })
        .collect()
}

/// What the tmpfs of the host hold at one moment, bytes by mount point. They answer at once, all of them.
#[derive(Clone, Debug, Default)]
pub struct Tmpfs(BTreeMap<String, u64>);

impl Tmpfs {
    /// Those of a table.
    pub fn of(table: &Table) -> Tmpfs {
        let used = |target: &str| {
            let data = nix::sys::statvfs::statvfs(target).ok()?;
            let blocks = data.blocks().saturating_sub(data.blocks_free());
            #[allow(
                clippy::useless_conversion,
                reason = "the types differ between systems"
            )]
            Some(u64::from(blocks).saturating_mul(u64::from(data.fragment_size())))
        };
        let tmpfs = table
            .0
            .iter()
            .map(|mount| &mount.entry)
            .filter(|entry| entry.fs_type == "tmpfs" && table.is_local(&entry.target));
        let held = tmpfs.filter_map(|entry| Some((entry.target.clone(), used(&entry.target)?)));
        Tmpfs(held.collect())
    }

    /// Those that hold more now.
    pub fn grown(&self, table: &Table) -> Vec<GrownTmpfs> {
        let now = Tmpfs::of(table);
        let grown = |(target, after_bytes): (String, u64)| {
            let before_bytes = self.0.get(&target).copied()?;
            (after_bytes > before_bytes).then_some(GrownTmpfs {
                target,
                before_bytes,
                after_bytes,
            })
        };
        now.0.into_iter().filter_map(grown).collect()
    }
}

/// Removed cgroups that the kernel kept at one moment, by controller; the whole host's. On v1 there is no
/// such count: the kernel's number of cgroups is taken instead, of which only the growth says something.
#[derive(Clone, Debug, Default)]
pub struct Dying(BTreeMap<String, u64>);

/// Counts them.
fn count() -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for mount in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
        let stat =
            std::fs::read_to_string(Path::new(mount).join("cgroup.stat")).unwrap_or_default();
        let count = stat
            .lines()
            .find_map(|line| line.strip_prefix("nr_dying_descendants "))
            .and_then(|count| count.trim().parse().ok());
        if let Some(count) = count {
            counts.insert(String::new(), count);
        }
    }
    // Name, hierarchy (0 is the unified one), number of cgroups, enabled.
    let table = std::fs::read_to_string("/proc/cgroups").unwrap_or_default();
    for line in table.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if let ["memory", hierarchy, count, _] = fields[..]
            && hierarchy != "0"
            && let Ok(count) = count.parse()
        {
            counts.insert("memory".to_owned(), count);
        }
    }
    counts
}

impl Dying {
    /// Counts them.
    pub fn now() -> Dying {
        Dying(count())
    }

    /// The hierarchies that have more now.
    pub fn more_by_now(&self) -> Vec<DyingCgroups> {
        count()
            .into_iter()
            .filter_map(|(controller, after)| {
                let before = self.0.get(&controller).copied()?;
                (after > before).then_some(DyingCgroups {
                    controller,
                    before,
                    after,
                })
            })
            .collect()
    }
}
