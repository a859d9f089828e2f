//! `cargo xtask record --machine NAME`: scenarios of the lab that need what the host doesn't have.

use std::fs;
use std::path::Path;

use anyhow::ensure;

use super::initramfs::{self, JOB};
use super::machine::{self, End, Job};
use super::{Machines, cache, plan};
use crate::test::Tally;

/// Plays scenarios in a machine, each in one of its own, and writes the trace of each to `to` before `done` is
/// called: with nothing, or with what went wrong.
///
/// # Errors
///
/// There is no such machine, the programs cannot be built, or QEMU cannot be started.
pub fn record(
    machine: &str,
    scenarios: &[&str],
    to: &Path,
    mut done: impl FnMut(&str, Option<String>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let cache = cache()?;
    let args = Machines {
        machine: vec![machine.to_owned()],
        ..Machines::default()
    };
    let plans = plan(&args, &cache, &mut Tally::default())?;
    ensure!(!plans.is_empty(), "{machine} cannot be had");
    let programs = initramfs::build(None)?;
    let tests = initramfs::build_tests(None)?;
    for plan in &plans {
        for scenario in scenarios {
            let initrd = cache.join(format!("{}.record.initramfs", plan.name));
            // The test gives the scenario what it needs of the machine, such as swap.
            let test = format!("lab::{}", scenario.replace('-', "_"));
            let command = format!(
                "/bin/busybox env PROCJAIL_TEST_TRACES=/tmp /{JOB} --include-ignored --exact {test}"
            );
            let ramdisk = plan.kernel.ramdisk.as_deref();
            initramfs::write(&programs, Some(&tests), ramdisk, &command, &initrd)?;
            let job = Job {
                initrd: &initrd,
                cgroups: plan.cgroups.name(),
                console: &cache.join(format!("{}.record.console", plan.name)),
                deadline: machine::deadline(1),
            };
            let mut said = String::new();
            let run = machine::boot(&plan.kernel.image, job, |line| {
                if !line.starts_with("@@") {
                    said.push_str(line);
                }
            })?;
            let _ = fs::remove_file(&initrd);
            let right = run.end == End::Regular && run.transcript.status == Some(0);
            fs::write(to, run.transcript.trace.join("\n") + "\n")?;
            done(scenario, (!right).then_some(said))?;
        }
    }
    Ok(())
}
