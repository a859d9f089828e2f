//! `cargo xtask test --vm`: the kernel tests in virtual machines, one for each kernel and arrangement of
//! cgroups that our users have. `cargo xtask chaos --machine` and `cargo xtask record --machine` use them too.

mod chaos;
mod initramfs;
mod kernels;
mod machine;
mod matrix;
mod record;
mod report;
mod table;
mod transcript;

use std::fs;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, ensure};

use crate::test::Tally;
use crate::workspace::{cargo, root};
pub use chaos::{Rounds, chaos};
use initramfs::JOB;
use kernels::{Kernel, ROLLING, SERIES};
use machine::{Job, Run};
use matrix::{Cgroups, MATRIX, announce, is_for, is_lab, lab_of, names};
pub use record::record;
use report::{judge, report};
use table::Column;

/// Which machines, and what to do about docs/kernels.md.
#[derive(Debug, Default, clap::Args)]
pub struct Machines {
    /// Boot this kernel (a compressed image) instead of Debian's
    #[arg(long, value_name = "PATH")]
    pub kernel: Option<PathBuf>,
    /// Only these machines, such as 5.10-v1
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    machine: Vec<String>,
    /// Only the tests with TEXT in their names
    #[arg(long, value_name = "TEXT")]
    test: Option<String>,
    /// Rewrite docs/kernels.md with what the tests found
    #[arg(long)]
    bless: bool,
}

/// A machine has a gigabyte of memory.
const MOST_AT_A_TIME: usize = 4;

/// The kernel tests.
#[derive(Clone, Copy)]
struct Tests<'a> {
    program: &'a Path,
    names: &'a [String],
}

/// A machine to be booted.
struct Plan {
    name: String,
    /// Its column in the table; of a series whose kernel changes, the kernel's.
    title: Option<String>,
    kernel: Kernel,
    cgroups: Cgroups,
}

/// Runs the matrix with another BPF object than the committed one if given.
///
/// # Errors
///
/// The programs cannot be built, a kernel cannot be had, or QEMU cannot be started.
pub fn run(args: &Machines, bpf_object: Option<&Path>) -> anyhow::Result<Tally> {
    let cache = cache()?;
    let mut total = Tally::default();
    let mut plans = plan(args, &cache, &mut total)?;
    println!("building the programs for the machines");
    let programs = initramfs::build(bpf_object)?;
    let program = initramfs::build_tests(bpf_object)?;
    let mut tests = list(&program)?;
    if let Some(text) = &args.test {
        tests.retain(|name| name.contains(text));
        ensure!(!tests.is_empty(), "no test has '{text}' in its name");
    }
    announce(&tests);
    // Asked for no test at all, the test program would run every one.
    plans.retain(|plan| {
        let any = !wanted(plan, &tests).is_empty();
        if !any {
            println!("{}: none of these tests is for it", plan.name);
        }
        any
    });
    ensure!(
        !plans.is_empty() || total.failed > 0,
        "no machine runs these tests"
    );
    let tests = Tests {
        program: &program,
        names: &tests,
    };

    let mut columns = Vec::new();
    for (plan, booted) in plans.iter().zip(boot_all(&plans, &programs, tests, &cache)) {
        let (tally, run) = booted?;
        total.add(tally);
        // It runs none of the tests that find something out.
        if is_lab(&plan.name) {
            continue;
        }
        let release = run.transcript.release.unwrap_or_default();
        let title = || format!("{} {}", major_minor(&release), plan.cgroups.name());
        columns.push(Column {
            title: plan.title.clone().unwrap_or_else(title),
            facts: run.transcript.facts,
        });
    }
    // A table of some machines or tests says nothing about the others.
    if args.kernel.is_none() && args.machine.is_empty() && args.test.is_none() {
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
            ramdisk: None,
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
            let lab = lab_of(&name);
            for name in std::iter::once(name).chain(lab) {
                if args.machine.is_empty() || args.machine.contains(&name) {
                    wanted.push((name, *cgroups));
                }
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
        "no machine is called {}; there are {}",
        args.machine.join(", "),
        names().join(", ")
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

/// Boots all machines, as many at a time as there are processors; in the order of the plans, what became
/// of each. The clocks of the machines count instructions, so they don't disturb each other.
fn boot_all(
    plans: &[Plan],
    programs: &initramfs::Programs,
    tests: Tests<'_>,
    cache: &Path,
) -> Vec<anyhow::Result<(Tally, Run)>> {
    let workers = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(MOST_AT_A_TIME);
    // The newest kernels take longest: they come first, so that nobody waits for them in the end.
    let queue = Mutex::new(plans.iter().enumerate().rev());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        let mut done = Vec::new();
        while let Some((index, plan)) = next() {
            let wanted = wanted(plan, tests.names);
            done.push((index, boot(plan, programs, tests.program, &wanted, cache)));
        }
        done
    };
    let mut all: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let joined = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        joined.flatten().collect()
    });
    all.sort_by_key(|(index, _)| *index);
    all.into_iter().map(|(_, booted)| booted).collect()
}

/// The tests that a machine is to run.
fn wanted<'a>(plan: &Plan, names: &'a [String]) -> Vec<&'a str> {
    let names = names.iter().map(String::as_str);
    names
        .filter(|test| is_for(test, &plan.name, plan.cgroups))
        .collect()
}

/// Boots one machine, a second time if the emulator stumbled; reports.
fn boot(
    plan: &Plan,
    programs: &initramfs::Programs,
    tests: &Path,
    wanted: &[&str],
    cache: &Path,
) -> anyhow::Result<(Tally, Run)> {
    let initrd = cache.join(format!("{}.initramfs", plan.name));
    let command = format!(
        "/{JOB}\n--test-threads=1\n--include-ignored\n--exact\n{}\n",
        wanted.join("\n")
    );
    let ramdisk = plan.kernel.ramdisk.as_deref();
    initramfs::write(programs, Some(tests), ramdisk, &command, &initrd)?;
    let console = cache.join(format!("{}.console", plan.name));
    let job = Job {
        initrd: &initrd,
        cgroups: plan.cgroups.name(),
        console: &console,
        deadline: machine::deadline(wanted.len()),
    };
    for attempt in 1.. {
        let run = machine::boot(&plan.kernel.image, job, |_| ())?;
        let tally = judge(&run, wanted);
        print!("{}", report(&plan.name, &run, tally, wanted, cache));
        if tally.failed > 0
            && attempt == 1
            && let Some(fault) = machine::emulators_fault(&run.console, &run.transcript.log)
        {
            println!("{}: the emulator stumbled ({fault}): once more", plan.name);
            continue;
        }
        // Large, and made anew each time.
        let _ = fs::remove_file(&initrd);
        return Ok((tally, run));
    }
    unreachable!("the loop ends by returning")
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
    let mut committed = fs::read_to_string(&path).unwrap_or_default();
    let mut page = page;
    // Debian's newest kernel becomes another one overnight. All tests have run on it; that the page
    // can't know it yet is nobody's mistake.
    if let Some(newest) = columns.last()
        && !committed.contains(&newest.title)
    {
        println!(
            "docs/kernels.md does not know {} yet: cargo xtask test --vm --bless adds it",
            newest.title
        );
        committed = table::without_last_column(&committed);
        page = table::without_last_column(&page);
    }
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
    use super::*;

    #[test]
    fn a_kernel_that_changes_is_called_by_its_version() {
        assert_eq!(major_minor("6.1.0-50-amd64"), "6.1");
        assert_eq!(major_minor("7.2.13+deb14-amd64"), "7.2");
    }
}
