//! `cargo xtask chaos`: launcher and jail struck at random instants; afterwards nothing may be left.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use procjail_tests::chaos::{self, Options, Told};

use crate::vm;
use crate::workspace::{Profile, build_optimised};

/// Kill, stop, freeze and starve launchers and jails at random instants, and look what is left: here (as
/// root), or in virtual machines
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many rounds
    #[arg(long, default_value_t = 1000, value_name = "N")]
    rounds: u64,
    /// Repeat the rounds of this seed
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Number of the first round: to repeat one that failed, with --rounds 1
    #[arg(long, default_value_t = 0, value_name = "N")]
    first: u64,
    /// Stop after so many seconds
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
    /// In these virtual machines instead, such as 6.12-v2
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        conflicts_with = "seconds"
    )]
    machine: Vec<String>,
}

/// Plays the rounds on an optimised build.
///
/// # Errors
///
/// The build failed, or a machine cannot be had.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let seed = args
        .seed
        .unwrap_or_else(|| procjail::clock::unix_ns() % 1_000_000_007);
    println!("chaos: {} rounds with --seed {seed}", args.rounds);
    if !args.machine.is_empty() {
        let rounds = vm::Rounds {
            seed,
            first: args.first,
            rounds: args.rounds,
        };
        return Ok(match vm::chaos(&args.machine, rounds)? {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        });
    }
    let (procjail, misbehave) = build_optimised(Profile::Release)?;
    let start = Instant::now();
    let options = Options {
        procjail,
        misbehave,
        seed,
        first: args.first,
        rounds: args.rounds,
        time: args.seconds.map_or(Duration::MAX, Duration::from_secs),
    };
    let report = chaos::run(options, |told| {
        if let Told::Failed(failure) = told {
            println!("FAILED {failure}");
        }
    });
    println!(
        "chaos: {report} in {:.0} s with --seed {seed}",
        start.elapsed().as_secs_f64()
    );
    Ok(match report.failures.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
