//! The jail's cgroups after their removal.

use std::collections::BTreeMap;
use std::path::Path;

use super::host;
use crate::event::{DyingCgroups, LeftCgroup};
use crate::jail::cgroup::View;

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
