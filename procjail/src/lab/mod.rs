//! The lab: failure modes that really happen, each in a jail of its own, traced and explained.
//!
//! A [`Scenario`] names the program that misbehaves (the built-in one, [`misbehave`]), the jail's
//! options, what happens from outside meanwhile, and what must be found. It bears the name of the rule
//! that it proves. Whatever it makes outside the jail, it undoes; whatever it does has a deadline.

mod catalogue;
mod elf;
pub mod misbehave;
mod need;
mod run;
mod scenarios;
mod scratch;
mod stage;
mod stuck_fs;

use crate::diagnose::Reported;
pub use catalogue::catalogue;
pub use run::{Ran, Verdict, run};
pub use scratch::{Fate, Leftover, clean};
pub use stage::{Failure, Stage};

/// One failure mode.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Name: that of the rule that must find it.
    pub id: &'static str,
    /// What happens, in one line.
    pub about: &'static str,
    /// About how long it takes, milliseconds.
    pub takes_ms: u32,
    /// What the machine must have.
    pub needs: &'static [Need],
    /// Options of `procjail trace`. `{dir}` is the stage's own directory on the host.
    pub options: &'static [&'static str],
    /// Arguments of `procjail misbehave`, the program that runs in the jail; `{dir}` as above.
    pub app: &'static [&'static str],
    /// The name under which the program appears, such as `sh`; procjail itself if empty.
    pub program: &'static str,
    /// What happens outside the jail, from before its start to its end.
    pub outside: fn(&mut Stage) -> Result<(), Failure>,
    /// What a container runtime would have reported, an exit code or a reason; nothing if empty.
    pub reported: &'static str,
    /// Further diagnoses that must be among those found, beside `id`.
    pub also: &'static [&'static str],
    /// The nearest look-alikes, which must not be found.
    pub never: &'static [&'static str],
}

impl Scenario {
    /// What a scenario is unless it says otherwise: nothing needed, nothing done from outside.
    pub const PLAIN: Self = Self {
        id: "",
        about: "",
        takes_ms: 200,
        needs: &[],
        options: &[],
        app: &[],
        program: "app",
        outside: stage::watch,
        reported: "",
        also: &[],
        never: &[],
    };
}

impl Scenario {
    /// What was reported of it, as an explanation takes it.
    pub fn reported(&self) -> Option<Reported> {
        Reported::parse(self.reported).ok()
    }
}

/// Something that not every machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The memory controller on cgroup v2.
    MemoryV2,
    /// The memory controller on cgroup v1.
    MemoryV1,
    /// The memory controller, on either version.
    Memory,
    /// Linux of at least this version.
    Linux(u32, u32),
    /// `CAP_SYS_RESOURCE`: limits can be raised, and processes protected from the OOM killer.
    SysResource,
    /// A swap area.
    Swap,
    /// `/dev/fuse`.
    Fuse,
    /// A directory for temporary files that is not in memory.
    Disk,
    /// The freezer controller on cgroup v1.
    FreezerV1,
    /// A machine that is thrown away afterwards, as `PROCJAIL_LAB_DISPOSABLE=1` says.
    Disposable,
}

/// Where the v1 freezer is mounted, by convention.
pub(crate) const FREEZER_V1: &str = "/sys/fs/cgroup/freezer";

/// All scenarios, by family.
pub fn all() -> impl Iterator<Item = &'static Scenario> {
    scenarios::FAMILIES.iter().flat_map(|family| family.iter())
}

/// The scenario of that name.
pub fn find(id: &str) -> Option<&'static Scenario> {
    all().find(|scenario| scenario.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::rules;

    #[test]
    fn every_scenario_proves_a_rule() {
        for scenario in all() {
            let named = [scenario.id].into_iter();
            for id in named.chain(scenario.also.iter().copied()) {
                assert!(
                    rules::find(id).is_some() || id == "no-finding",
                    "{}: {id}",
                    scenario.id
                );
            }
            for id in scenario.never {
                assert!(rules::find(id).is_some(), "{}: {id}", scenario.id);
            }
        }
    }

    #[test]
    fn the_rules_know_which_of_them_are_played() {
        for rule in rules::all() {
            assert_eq!(
                rules::is_played(rule.id),
                find(rule.id).is_some(),
                "{}",
                rule.id
            );
        }
    }

    #[test]
    fn every_scenario_has_a_name_of_its_own() {
        let mut ids: Vec<_> = all().map(|scenario| scenario.id).collect();
        ids.sort_unstable();
        let count = ids.len();
        ids.dedup();
        assert_eq!(ids.len(), count);
    }
}
