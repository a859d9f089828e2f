//! `cargo xtask chaos`: launcher and jail struck at random instants; afterwards nothing may be left.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use procjail_tests::chaos::{self, Options};

use crate::workspace::build_release;

/// Kill, stop, freeze and starve launchers and jails at random instants, and look what is left
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
}

/// Plays the rounds on an optimised build.
///
/// # Errors
///
/// The build failed.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (procjail, misbehave) = build_release()?;
    let seed = args
        .seed
        .unwrap_or_else(|| procjail::clock::unix_ns() % 1_000_000_007);
    println!("chaos: {} rounds with --seed {seed}", args.rounds);
    let start = Instant::now();
    let options = Options {
        procjail,
        misbehave,
        seed,
        first: args.first,
        rounds: args.rounds,
        time: args.seconds.map_or(Duration::MAX, Duration::from_secs),
    };
    let report = chaos::run(options, |failure| println!("FAILED {failure}"));
    println!(
        "chaos: {} rounds in {:.0} s with --seed {seed}, {} struck a living launcher, {} failures",
        report.rounds,
        start.elapsed().as_secs_f64(),
        report.struck,
        report.failures.len()
    );
    Ok(match report.failures.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
