//! `cargo xtask chaos --machine NAME`: launchers and jails struck on another kernel, thousands of times if
//! one likes; the kernel tests have time for a few rounds only.

use std::fs;
use std::time::Duration;

use procjail_tests::chaos::RESULT;

use super::initramfs::{self, JOB, MISBEHAVE, PROCJAIL};
use super::machine::{self, End, Job};
use super::{Machines, Plan, cache, plan};
use crate::test::Tally;

/// Which rounds.
#[derive(Clone, Copy, Debug)]
pub struct Rounds {
    /// Where the sequence begins.
    pub seed: u64,
    /// The first round.
    pub first: u64,
    /// How many.
    pub rounds: u64,
}

/// No round takes longer on average: ten times what one takes on a machine that has a processor to itself.
const ROUND: Duration = Duration::from_secs(5);

/// Plays the rounds in each of the machines, one after the other; whether nothing failed.
///
/// # Errors
///
/// There is no such machine, the programs cannot be built, or QEMU cannot be started.
pub fn chaos(machines: &[String], rounds: Rounds) -> anyhow::Result<bool> {
    let cache = cache()?;
    let args = Machines {
        machine: machines.to_vec(),
        ..Machines::default()
    };
    let mut tally = Tally::default();
    let plans = plan(&args, &cache, &mut tally)?;
    println!("building the programs for the machines");
    let programs = initramfs::build(None)?;
    let command = format!(
        "/{JOB} /{PROCJAIL} /{MISBEHAVE} {} {} {}",
        rounds.seed, rounds.first, rounds.rounds
    );
    // A kernel that cannot be had was told of, and is a failure.
    let mut fine = tally.failed == 0;
    for plan in &plans {
        let name = format!("{}.chaos", plan.name);
        let initrd = cache.join(format!("{name}.initramfs"));
        initramfs::write(&programs, Some(&programs.chaos), None, &command, &initrd)?;
        let job = Job {
            initrd: &initrd,
            cgroups: plan.cgroups.name(),
            console: &cache.join(format!("{name}.console")),
            deadline: machine::DEADLINE.saturating_add(
                ROUND.saturating_mul(u32::try_from(rounds.rounds).unwrap_or(u32::MAX)),
            ),
        };
        fine &= play(plan, job)?;
        // Large, and made anew each time.
        let _ = fs::remove_file(&initrd);
    }
    Ok(fine)
}

/// Plays the rounds in one machine, and tells what it tells.
fn play(plan: &Plan, job: Job<'_>) -> anyhow::Result<bool> {
    let mut result = None;
    let run = machine::boot(&plan.kernel.image, job, |line| {
        let line = line.trim_end();
        if let Some(text) = line.strip_prefix(RESULT) {
            result = Some(text.to_owned());
        } else if !line.starts_with("@@") {
            println!("{}: {line}", plan.name);
        }
    })?;
    println!(
        "{} ({}): {} in {:.0} s",
        plan.name,
        run.transcript.release.as_deref().unwrap_or("did not boot"),
        result.as_deref().unwrap_or("no result"),
        run.elapsed.as_secs_f64()
    );
    let fine = run.end == End::Regular && run.transcript.status == Some(0) && result.is_some();
    if !fine {
        let why = match run.end {
            End::Regular => "something failed",
            End::Died => "the machine died",
            End::Hung => "the machine hung and was switched off",
        };
        let fault = machine::emulators_fault(&run.console, &run.transcript.log);
        let fault = fault.map_or_else(String::new, |fault| {
            format!(" (the emulator stumbled: {fault})")
        });
        println!(
            "{}: {why}{fault}; its console is {}",
            plan.name,
            job.console.display()
        );
    }
    Ok(fine)
}
