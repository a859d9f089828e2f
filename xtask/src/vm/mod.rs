//! `cargo xtask test --vm`: the kernel tests in virtual machines, one for each kernel and arrangement of
//! cgroups that our users have.

mod initramfs;
mod kernels;
mod machine;
mod table;
mod transcript;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::test::Tally;
use crate::workspace::{cargo, root};
use kernels::{Kernel, ROLLING, SERIES};
use machine::{End, Run};
use table::Column;
use transcript::Verdict;

/// Which machines, and what to do about docs/kernels.md.
#[derive(Debug, Default, clap::Args)]
pub struct Machines {
    /// Boot this kernel (a compressed image) instead of Debian's
    #[arg(long, value_name = "PATH")]
    pub kernel: Option<PathBuf>,
    /// Only these machines, such as 5.10-v1
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    machine: Vec<String>,
    /// Rewrite docs/kernels.md with what the tests found
    #[arg(long)]
    bless: bool,
}

/// How a machine's cgroups are arranged; its init script is told the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cgroups {
    V2,
    Hybrid,
    V1,
}

impl Cgroups {
    fn name(self) -> &'static str {
        match self {
            Cgroups::V2 => "v2",
            Cgroups::Hybrid => "hybrid",
            Cgroups::V1 => "v1",
        }
    }
}

/// The arrangements of each series. The memory controller of v1 is in the first two only.
const MATRIX: [(&str, &[Cgroups]); 5] = [
    ("5.10", &[Cgroups::V1]),
    ("5.10-updated", &[Cgroups::V2]),
    ("6.1", &[Cgroups::V2, Cgroups::Hybrid]),
    ("6.12", &[Cgroups::V2]),
    (ROLLING, &[Cgroups::V2]),
];

/// Tests that are not for all machines: how their names begin, what they are for, and why. All others
/// run everywhere.
const EXCEPTIONS: [(&str, &[Cgroups], &str); 6] = [
    ("real_programs::", &[], "it runs programs of the host"),
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

fn exception(test: &str) -> Option<(&'static [Cgroups], &'static str)> {
    EXCEPTIONS
        .iter()
        .find(|(prefix, ..)| test.starts_with(prefix))
        .map(|&(_, cgroups, reason)| (cgroups, reason))
}

/// Whether a test runs on machines of that arrangement.
fn is_for(test: &str, cgroups: Cgroups) -> bool {
    exception(test).is_none_or(|(only, _)| only.contains(&cgroups))
}

/// A machine to be booted.
struct Plan {
    name: String,
    /// Its column in the table; of a series whose kernel changes, the kernel's.
    title: Option<String>,
    kernel: Kernel,
    cgroups: Cgroups,
}

/// Runs the matrix, one machine at a time, with another BPF object than the committed one if given.
///
/// # Errors
///
/// The programs cannot be built, a kernel cannot be had, or QEMU cannot be started.
pub fn run(args: &Machines, bpf_object: Option<&Path>) -> anyhow::Result<Tally> {
    let cache = cache()?;
    let mut total = Tally::default();
    let plans = plan(args, &cache, &mut total)?;
    println!("building the programs for the machines");
    let programs = initramfs::build(bpf_object)?;
    let tests = list(&programs.tests)?;
    announce(&tests);

    let mut columns = Vec::new();
    for plan in &plans {
        let wanted: Vec<&str> = tests
            .iter()
            .map(String::as_str)
            .filter(|test| is_for(test, plan.cgroups))
            .collect();
        let (tally, run) = boot(plan, &programs, &wanted, &cache)?;
        total.add(tally);
        let release = run.transcript.release.unwrap_or_default();
        let title = || format!("{} {}", major_minor(&release), plan.cgroups.name());
        columns.push(Column {
            title: plan.title.clone().unwrap_or_else(title),
            facts: run.transcript.facts,
        });
    }
    // A table of some machines says nothing about the others.
    if args.kernel.is_none() && args.machine.is_empty() {
        total.add(compare(&columns, args.bless, total.failed == 0)?);
    }
    Ok(total)
}

/// Where kernels and the machines' files are kept: below cargo's target directory.
fn cache() -> anyhow::Result<PathBuf> {
    let output = cargo(&["metadata", "--no-deps", "--format-version=1"])
        .output()
        .context("cannot run cargo")?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("cannot read cargo's metadata")?;
    let target = metadata["target_directory"].as_str();
    let cache = Path::new(target.context("cargo names no target directory")?).join("vm-cache");
    fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    Ok(cache)
}

/// The machines that are asked for. A kernel that cannot be had is counted as a failure.
fn plan(args: &Machines, cache: &Path, tally: &mut Tally) -> anyhow::Result<Vec<Plan>> {
    if let Some(image) = &args.kernel {
        ensure!(image.is_file(), "there is no kernel at {}", image.display());
        let kernel = Kernel {
            image: image.clone(),
        };
        return Ok(vec![Plan {
            name: "custom-v2".to_owned(),
            title: None,
            kernel,
            cgroups: Cgroups::V2,
        }]);
    }
    let mut plans = Vec::new();
    for series in &SERIES {
        let arrangements = MATRIX
            .iter()
            .find(|(name, _)| *name == series.name)
            .map_or(&[][..], |(_, arrangements)| arrangements);
        let mut wanted = Vec::new();
        for cgroups in arrangements {
            let name = format!("{}-{}", series.name, cgroups.name());
            if args.machine.is_empty() || args.machine.contains(&name) {
                wanted.push((name, *cgroups));
            }
        }
        if wanted.is_empty() {
            continue;
        }
        match kernels::fetch(series, cache) {
            Ok(kernel) => plans.extend(wanted.into_iter().map(|(name, cgroups)| Plan {
                name,
                title:
                    (series.name != ROLLING).then(|| format!("{} {}", series.name, cgroups.name())),
                kernel: kernel.clone(),
                cgroups,
            })),
            Err(error) => {
                println!("{error:#}");
                tally.failed += 1;
            }
        }
    }
    ensure!(
        !plans.is_empty() || tally.failed > 0,
        "no machine is called {}; there are 5.10-v1, 5.10-updated-v2, 6.1-v2, 6.1-hybrid, 6.12-v2, rolling-v2",
        args.machine.join(", ")
    );
    Ok(plans)
}

/// The names of all tests, as the program itself lists them.
fn list(program: &Path) -> anyhow::Result<Vec<String>> {
    let output = Command::new(program)
        .arg("--list")
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let tests: Vec<String> = text
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .map(str::to_owned)
        .collect();
    ensure!(!tests.is_empty(), "{} lists no test", program.display());
    Ok(tests)
}

/// Tells which tests will not run everywhere.
fn announce(tests: &[String]) {
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
}

/// Boots one machine, a second time if the emulator stumbled; reports.
fn boot(
    plan: &Plan,
    programs: &initramfs::Programs,
    wanted: &[&str],
    cache: &Path,
) -> anyhow::Result<(Tally, Run)> {
    let initrd = cache.join("initramfs");
    let arguments = format!(
        "--test-threads=1\n--include-ignored\n--exact\n{}\n",
        wanted.join("\n")
    );
    initramfs::write(programs, &arguments, &initrd)?;
    let console = cache.join(format!("{}.console", plan.name));
    for attempt in 1.. {
        let run = machine::boot(&plan.kernel.image, &initrd, plan.cgroups.name(), &console)?;
        let tally = judge(&run, wanted);
        report(plan, &run, tally, wanted, cache);
        if tally.failed > 0
            && attempt == 1
            && let Some(fault) = machine::emulators_fault(&run.console, &run.transcript.log)
        {
            println!("{}: the emulator stumbled ({fault}): once more", plan.name);
            continue;
        }
        return Ok((tally, run));
    }
    unreachable!("the loop ends by returning")
}

/// Every test that was asked for has passed or has not; a machine that did not end well is one more.
fn judge(run: &Run, wanted: &[&str]) -> Tally {
    let passed = wanted
        .iter()
        .filter(|test| run.transcript.verdict(test) == Some(Verdict::Passed))
        .count() as u64;
    let mut failed = wanted.len() as u64 - passed;
    let unasked = run
        .transcript
        .tests
        .iter()
        .filter(|test| !wanted.contains(&test.name.as_str()))
        .count() as u64;
    failed += unasked;
    let ended_well = run.end == End::Regular && (run.transcript.status == Some(0)) == (failed == 0);
    if !ended_well && failed == 0 {
        failed = 1;
    }
    Tally {
        passed,
        failed,
        ignored: 0,
    }
}

fn report(plan: &Plan, run: &Run, tally: Tally, wanted: &[&str], cache: &Path) {
    let transcript = &run.transcript;
    let booted = match transcript.times.0 {
        Some(time) => format!(", up after {:.1} s", time.as_secs_f64()),
        None => String::new(),
    };
    println!(
        "{:<11} {:<24} {:>4} passed {:>4} failed {:>7.1} s{booted}",
        plan.name,
        transcript.release.as_deref().unwrap_or("(did not boot)"),
        tally.passed,
        tally.failed,
        run.elapsed.as_secs_f64(),
    );
    if tally.failed == 0 {
        return;
    }
    for line in &transcript.failures {
        println!("    {line}");
    }
    // They run in this order.
    let mut missing = wanted
        .iter()
        .filter(|test| transcript.verdict(test).is_none());
    if let Some(test) = missing.next() {
        println!(
            "    in the midst of {test}; {} more tests were not run",
            missing.count()
        );
    }
    let end = match run.end {
        End::Regular => return save_log(plan, run, cache),
        End::Died => "the machine died",
        End::Hung => "the machine hung and was switched off",
    };
    println!("    {end}; its console ends:");
    let lines: Vec<&str> = run.console.lines().collect();
    for line in lines.iter().skip(lines.len().saturating_sub(60)) {
        println!("    | {line}");
    }
}

/// Puts the guest's kernel log where one finds it.
fn save_log(plan: &Plan, run: &Run, cache: &Path) {
    let path = cache.join(format!("{}.log", plan.name));
    if fs::write(&path, run.transcript.log.join("\n")).is_ok() {
        println!("    the kernel's log is in {}", path.display());
    }
}

/// `6.1` of `6.1.0-50-amd64`.
fn major_minor(release: &str) -> String {
    let numbers: Vec<&str> = release.splitn(3, '.').take(2).collect();
    numbers.join(".")
}

/// Compares docs/kernels.md with what was found, or rewrites it.
fn compare(columns: &[Column], bless: bool, all_passed: bool) -> anyhow::Result<Tally> {
    let path = root().join("docs/kernels.md");
    let page = table::page(columns);
    if bless && all_passed {
        fs::write(&path, &page).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    let mut tally = Tally::default();
    match table::difference(&committed, &page) {
        None => tally.passed = 1,
        Some(difference) => {
            tally.failed = 1;
            println!(
                "docs/kernels.md is not what the tests found (cargo xtask test --vm --bless rewrites it when all pass):\n{difference}"
            );
        }
    }
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn run(lines: &[&str], end: End) -> Run {
        let mut transcript = transcript::Transcript::default();
        for line in lines {
            transcript.line(line, Duration::ZERO);
        }
        Run {
            end,
            transcript,
            console: String::new(),
            elapsed: Duration::ZERO,
        }
    }

    fn counts(run: &Run, wanted: &[&str]) -> (u64, u64) {
        let tally = judge(run, wanted);
        (tally.passed, tally.failed)
    }

    #[test]
    fn a_test_that_did_not_report_has_failed() {
        let half = run(&["test a::x ... ok"], End::Died);
        assert_eq!(counts(&half, &["a::x", "a::y"]), (1, 1));
        let whole = run(&["test a::x ... ok", "@@end 0"], End::Regular);
        assert_eq!(counts(&whole, &["a::x"]), (1, 0));
    }

    #[test]
    fn an_end_that_contradicts_the_tests_is_a_failure() {
        let died = run(&["test a::x ... ok"], End::Died);
        assert_eq!(counts(&died, &["a::x"]), (1, 1));
        let crashed = run(&["test a::x ... ok", "@@end 139"], End::Regular);
        assert_eq!(counts(&crashed, &["a::x"]), (1, 1));
    }

    #[test]
    fn a_test_that_nobody_asked_for_is_a_failure() {
        let other = run(
            &["test a::x ... ok", "test b::x ... ok", "@@end 0"],
            End::Regular,
        );
        assert_eq!(counts(&other, &["a::x"]), (1, 1));
    }

    #[test]
    fn tests_are_for_what_their_module_says() {
        assert!(!is_for("real_programs::redis", Cgroups::V2));
        assert!(is_for("cgroup_v2::oom_group", Cgroups::V2));
        assert!(!is_for("cgroup_v2::oom_group", Cgroups::Hybrid));
        assert!(is_for("oom::x", Cgroups::V1));
    }

    #[test]
    fn every_series_is_in_the_matrix() {
        for series in &SERIES {
            assert!(MATRIX.iter().any(|(name, _)| *name == series.name));
        }
        assert_eq!(major_minor("6.1.0-50-amd64"), "6.1");
        assert_eq!(major_minor("7.2.13+deb14-amd64"), "7.2");
    }
}
