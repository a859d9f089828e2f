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
const EXCEPTIONS: [(&str, &[Cgroups], &str); 8] = [
    ("attach::", &[], "it runs docker, containerd and podman"),
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

/// The machine whose kernel plays the lab's scenarios too. They take as long as all other tests, so they have a
/// machine of their own: [`lab_of`]. The host plays them as well.
const LAB_MACHINE: &str = "6.12-v2";
/// How the names of the lab's tests begin.
const LAB: &str = "lab::";
/// What is added to the name of a machine that plays the lab and nothing else.
const LAB_SUFFIX: &str = "-lab";

/// Tests of what procjail does by itself, whatever the kernel: options, files, collectors. One machine is enough for
/// them, beside the host.
const OF_PROCJAIL: [&str; 3] = ["bad_input::", "export::", "otlp::"];

fn is_of_procjail(test: &str) -> bool {
    OF_PROCJAIL.iter().any(|prefix| test.starts_with(prefix))
}

fn exception(test: &str) -> Option<(&'static [Cgroups], &'static str)> {
    EXCEPTIONS
        .iter()
        .find(|(prefix, ..)| test.starts_with(prefix))
        .map(|&(_, cgroups, reason)| (cgroups, reason))
}

/// Whether a test runs on the machine of that name and arrangement. A machine of none of our names, with a kernel
/// that the user brings, runs the lab beside all else.
pub fn is_for(test: &str, machine: &str, cgroups: Cgroups) -> bool {
    let is_ours = names().iter().any(|name| name == machine);
    if is_ours && test.starts_with(LAB) != is_lab(machine) {
        return false;
    }
    if is_ours && is_of_procjail(test) && machine != LAB_MACHINE {
        return false;
    }
    exception(test).is_none_or(|(only, _)| only.contains(&cgroups))
}

/// The machine that plays the lab on the kernel of this one.
pub fn lab_of(machine: &str) -> Option<String> {
    (machine == LAB_MACHINE).then(|| format!("{machine}{LAB_SUFFIX}"))
}

/// Whether a machine plays the lab and nothing else.
pub fn is_lab(machine: &str) -> bool {
    machine.ends_with(LAB_SUFFIX)
}

/// The names of all machines.
pub fn names() -> Vec<String> {
    let names = MATRIX.iter().flat_map(|(series, arrangements)| {
        let name = move |cgroups: &Cgroups| format!("{series}-{}", cgroups.name());
        arrangements.iter().map(name)
    });
    names
        .flat_map(|name| {
            let lab = lab_of(&name);
            std::iter::once(name).chain(lab)
        })
        .collect()
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
        "only on {LAB_MACHINE}{LAB_SUFFIX} and the host: the {lab} tests of {LAB} (they take minutes)"
    );
    let own = tests.iter().filter(|test| is_of_procjail(test)).count();
    println!(
        "only on {LAB_MACHINE} and the host: the {own} tests of {} (they need no particular kernel)",
        OF_PROCJAIL.join(", ")
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
        assert!(is_for("export::x", LAB_MACHINE, Cgroups::V2));
        assert!(!is_for("export::x", "5.10-v1", Cgroups::V1));
    }

    #[test]
    fn the_lab_has_a_machine_of_its_own() {
        let lab = lab_of(LAB_MACHINE).expect("a machine for the lab");
        assert!(names().contains(&lab) && names().contains(&LAB_MACHINE.to_owned()));
        assert!(is_for("lab::fpe", &lab, Cgroups::V2));
        assert!(!is_for("oom::x", &lab, Cgroups::V2));
        assert!(!is_for("lab::fpe", LAB_MACHINE, Cgroups::V2));
        assert!(!is_for("lab::fpe", "6.1-v2", Cgroups::V2));
        // A kernel that the user brings.
        assert!(is_for("lab::fpe", "vmlinuz-v2", Cgroups::V2));
        assert!(is_for("oom::x", "vmlinuz-v2", Cgroups::V2));
    }

    #[test]
    fn every_series_is_in_the_matrix() {
        for series in &SERIES {
            assert!(MATRIX.iter().any(|(name, _)| *name == series.name));
        }
    }
}
