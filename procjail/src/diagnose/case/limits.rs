//! Resource limits in force, as far as the trace tells.

use super::{Case, ProcessId};
use crate::event::{Event, LimitChanged, What};

/// A resource limit in force.
#[derive(Clone, Copy, Debug)]
pub struct Limit<'a> {
    /// The soft limit.
    pub soft: u64,
    /// Where a process of the jail had set it; `None` for the one that the jail started with.
    pub set: Option<&'a Event>,
}

impl Case {
    /// The soft limit of a process at that time, if it had one: its own last change, or what it inherited.
    pub fn limit(&self, id: ProcessId, resource: &str, time_ns: u64) -> Option<Limit<'_>> {
        let (mut id, mut time_ns) = (id, time_ns);
        // Bounded: a chain of creators can't be longer than there are processes.
        for _ in 0..=self.processes.len() {
            if let Some((event, change)) = self.limit_change(id, resource, time_ns) {
                let set = Some(event);
                return change.soft.map(|soft| Limit { soft, set });
            }
            match self.process(id).creator {
                Some(creator) => (id, time_ns) = (creator, self.born_ns(id)),
                None => break,
            }
        }
        let soft = self.header.jail.rlimits.get(resource).copied().flatten()?;
        Some(Limit { soft, set: None })
    }

    /// The last change of a process's limit up to that time.
    fn limit_change(
        &self,
        id: ProcessId,
        resource: &str,
        time_ns: u64,
    ) -> Option<(&Event, &LimitChanged)> {
        self.limit_changes
            .iter()
            .rev()
            .map(|index| self.event(*index))
            .filter_map(|event| match &event.what {
                What::LimitChanged(change) => Some((event, change)),
                _ => None,
            })
            .find(|(event, change)| {
                event.time_ns <= time_ns
                    && change.resource == resource
                    && self.process_of(&change.target) == Some(id)
            })
    }
}
