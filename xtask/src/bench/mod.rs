//! `cargo xtask bench`: what procjail costs, next to what else there is.
//!
//! All contestants of a table run in turns, round after round, so that a slow moment of the machine hits
//! them alike. Medians are compared.

mod export;
mod measure;
mod startup;
mod storm;
mod syscalls;

use std::process::ExitCode;

/// Measure what procjail costs
#[derive(Debug, clap::Subcommand)]
pub enum Bench {
    /// Start and end of a jail that runs `true`
    Startup(Args),
    /// Many processes, many signals: what is lost, and how much slower APP gets
    Storm(Args),
    /// A trace of a million events in each form: time and memory
    Export(Args),
    /// The price of one system call while system call tracepoints are attached
    Syscalls(Args),
}

/// What all benchmarks take.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Rounds; each contestant runs once a round [default: what the table needs]
    #[arg(long)]
    rounds: Option<usize>,
    /// Exit with 1 if a bar is missed
    #[arg(long)]
    check: bool,
}

/// Runs one benchmark.
pub fn run(bench: &Bench) -> anyhow::Result<ExitCode> {
    let (args, met) = match bench {
        Bench::Startup(args) => (args, startup::run(args.rounds.unwrap_or(60))?),
        Bench::Storm(args) => (args, storm::run(args.rounds.unwrap_or(25))?),
        Bench::Export(args) => (args, export::run(args.rounds.unwrap_or(3))?),
        Bench::Syscalls(args) => (args, syscalls::run(args.rounds.unwrap_or(5))?),
    };
    Ok(if met || !args.check {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
