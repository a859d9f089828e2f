//! The command line: one file for each command.

mod check;
mod clean;
mod options;
mod run;
mod show;
mod trace;

use clap::{Parser, Subcommand};

/// Run a program as PID 1 of an explicit jail and record, from the kernel's own events, what happened to it.
#[derive(Debug, Parser)]
#[command(name = "procjail", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Trace(trace::Args),
    Show(show::Args),
    Check(check::Args),
    Clean(clean::Args),
}

/// Runs one command and returns its exit code (see [`crate::exit`]).
///
/// # Errors
///
/// Whatever stopped the command, in words for the user.
pub fn run(cli: Cli) -> anyhow::Result<u8> {
    match cli.command {
        Command::Run(args) => run::run(args),
        Command::Trace(args) => trace::run(args),
        Command::Show(args) => show::run(args),
        Command::Check(args) => check::run(args),
        Command::Clean(args) => clean::run(args),
    }
}
