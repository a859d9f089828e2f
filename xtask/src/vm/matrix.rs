//! Which machines there are, and which tests are not for all of them.

use super::kernels::ROLLING;

/// How a machine's cgroups are arranged; its init script is told the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cgroups {
    /// The unified hierarchy alone.
    V2,
    /// Both; the controllers are on v1.
    Hybrid,
    /// v1 alone.
    V1,
}

impl Cgroups {
    /// As in the names of machines.
    pub fn name(self) -> &'static str {
        match self {
            Cgroups::V2 => "v2",
            Cgroups::Hybrid => "hybrid",
            Cgroups::V1 => "v1",
        }
    }
}

/// The arrangements of each series. The memory controller of v1 is in the first two only.
pub const MATRIX: [(&str, &[Cgroups]); 5] = [
    ("5.10", &[Cgroups::V2, Cgroups::V1]),
    ("5.10-updated", &[Cgroups::V2]),
    ("6.1", &[Cgroups::V2, Cgroups::Hybrid]),
    ("6.12", &[Cgroups::V2]),
    (ROLLING, &[Cgroups::V2]),
];

/// Tests that are not for all machines: how their names begin, what they are for, and why. All others
/// run everywhere.
const EXCEPTIONS: [(&str, &[Cgroups], &str); 7] = [
    ("real_programs::", &[], "it runs programs of the host"),
    ("runtimes::", &[], "it runs docker, containerd and podman"),
    (
        "terminal::ctrl_z_and_fg_stop_and_resume_launcher_and_app",
        &[],
        "it runs bash",
    ),
    (
        "cgroup_v2::",
        &[Cgroups::V2],
        "it is about controllers of v2",
    ),
    (
        "leak::who_joined_from_outside_is_told",
        &[Cgroups::V2, Cgroups::Hybrid],
        "it looks into the unified hierarchy, which v1 hosts don't mount",
    ),
    (
        "teardown::a_frozen_jail_is_removed_too",
        &[Cgroups::V2, Cgroups::Hybrid],
        "it looks into the unified hierarchy, which v1 hosts don't mount",
    ),
    (
        "teardown::a_jail_of_a_cgroup_below_is_removed",
        &[Cgroups::V2, Cgroups::Hybrid],
        "it looks into the unified hierarchy, which v1 hosts don't mount",
    ),
];

/// Machines that play the lab's scenarios, which takes minutes. The host plays them too.
const LAB_MACHINES: [&str; 1] = ["6.12-v2"];
/// How the names of their tests begin.
const LAB: &str = "lab::";

fn exception(test: &str) -> Option<(&'static [Cgroups], &'static str)> {
    EXCEPTIONS
        .iter()
        .find(|(prefix, ..)| test.starts_with(prefix))
        .map(|&(_, cgroups, reason)| (cgroups, reason))
}

/// Whether a test runs on the machine of that name and arrangement.
pub fn is_for(test: &str, machine: &str, cgroups: Cgroups) -> bool {
    if test.starts_with(LAB) && names().iter().any(|name| name == machine) {
        return LAB_MACHINES.contains(&machine);
    }
    exception(test).is_none_or(|(only, _)| only.contains(&cgroups))
}

/// The names of all machines.
pub fn names() -> Vec<String> {
    let names = MATRIX.iter().flat_map(|(series, arrangements)| {
        let name = move |cgroups: &Cgroups| format!("{series}-{}", cgroups.name());
        arrangements.iter().map(name)
    });
    names.collect()
}

/// Tells which tests will not run everywhere.
pub fn announce(tests: &[String]) {
    for test in tests {
        let Some((only, reason)) = exception(test) else {
            continue;
        };
        let place = if only.is_empty() {
            "the host".to_owned()
        } else {
            let names: Vec<&str> = only.iter().map(|cgroups| cgroups.name()).collect();
            format!("cgroups {}", names.join(", "))
        };
        println!("only on {place}: {test} ({reason})");
    }
    let lab = tests.iter().filter(|test| test.starts_with(LAB)).count();
    println!(
        "only on {} and the host: the {lab} tests of {LAB} (they take minutes)",
        LAB_MACHINES.join(", ")
    );
}

#[cfg(test)]
mod tests {
    use super::super::kernels::SERIES;
    use super::*;

    #[test]
    fn tests_are_for_what_their_module_says() {
        assert!(!is_for("real_programs::redis", "6.1-v2", Cgroups::V2));
        assert!(is_for("cgroup_v2::oom_group", "6.1-v2", Cgroups::V2));
        assert!(!is_for(
            "cgroup_v2::oom_group",
            "6.1-hybrid",
            Cgroups::Hybrid
        ));
        assert!(is_for("oom::x", "5.10-v1", Cgroups::V1));
    }

    #[test]
    fn the_lab_is_for_some_machines_that_exist() {
        assert!(
            LAB_MACHINES
                .iter()
                .all(|machine| names().iter().any(|name| name == machine))
        );
        assert!(is_for("lab::fpe", "6.12-v2", Cgroups::V2));
        assert!(!is_for("lab::fpe", "6.1-v2", Cgroups::V2));
        // A kernel that the user brings.
        assert!(is_for("lab::fpe", "vmlinuz-v2", Cgroups::V2));
    }

    #[test]
    fn every_series_is_in_the_matrix() {
        for series in &SERIES {
            assert!(MATRIX.iter().any(|(name, _)| *name == series.name));
        }
    }
}
