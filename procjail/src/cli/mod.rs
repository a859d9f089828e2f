//! The command line: one file for each command.

mod attach;
mod check;
mod clean;
mod completions;
mod explain;
mod export;
mod lab;
mod live;
mod options;
mod outputs;
mod run;
mod show;
mod trace;

use std::{ffi::OsString, fmt, io::Write};

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::exit;

/// Run a program as PID 1 of an explicit jail and record, from the kernel's own events, what happened to it.
#[derive(Debug, Parser)]
#[command(name = "procjail", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Trace(trace::Args),
    Attach(attach::Args),
    Show(show::Args),
    Explain(explain::Args),
    Export(export::Args),
    Lab(lab::Args),
    Check(check::Args),
    Clean(clean::Args),
    Completions(completions::Args),
    /// The lab's misbehaving program.
    #[command(hide = true)]
    Misbehave {
        /// What to do, and its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

/// What the command line is made of: for its scripts of completion and its manual.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs one command line, the program's name first, and returns its exit code (see [`exit`]).
pub fn main(args: impl IntoIterator<Item = OsString>) -> u8 {
    let args: Vec<OsString> = args.into_iter().collect();
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, &args),
    };
    start_log();
    let result = match cli.command {
        Command::Run(args) => run::run(args),
        Command::Trace(args) => trace::run(args),
        Command::Attach(args) => attach::run(args),
        Command::Show(args) => show::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Export(args) => export::run(args),
        Command::Lab(args) => lab::run(args),
        Command::Check(args) => check::run(args),
        Command::Clean(args) => clean::run(args),
        Command::Completions(args) => completions::run(args),
        Command::Misbehave { arguments } => crate::lab::misbehave::run(&arguments),
    };
    result.unwrap_or_else(|error| {
        complain(format_args!("{error:#}"));
        // APP's own status must stay distinct from a failure to run it.
        error
            .downcast_ref::<crate::jail::Error>()
            .map_or(exit::FAILED, crate::jail::Error::exit_code)
    })
}

/// Prints help, the version, or what is wrong with the command line.
fn usage(error: &clap::Error, args: &[OsString]) -> u8 {
    // Nobody may be reading: the exit code still tells.
    let _ = error.print();
    let runs_app = args
        .get(1)
        .is_some_and(|command| command == "run" || command == "trace");
    match error.exit_code() {
        0 => 0,
        _ if runs_app => exit::FAILED,
        code => code as u8,
    }
}

/// Says on stderr what went wrong, as far as stderr takes it.
fn complain(message: fmt::Arguments<'_>) {
    let _ = std::io::stderr().write_fmt(format_args!("procjail: {message}\n"));
}

/// Debugging output of procjail itself, on stderr, when PROCJAIL_LOG asks for it.
fn start_log() {
    if let Ok(filter) = tracing_subscriber::EnvFilter::try_from_env("PROCJAIL_LOG") {
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .init();
    }
}
