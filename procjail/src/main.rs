//! The `procjail` program: maps the outcome of the command line to an exit code.

use std::process::ExitCode;

use clap::Parser;
use procjail::{cli, exit};

fn main() -> ExitCode {
    match cli::run(cli::Cli::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // Writing may fail (stderr is closed); the exit code still tells.
            let _ = std::io::Write::write_fmt(
                &mut std::io::stderr(),
                format_args!("procjail: {error:#}\n"),
            );
            ExitCode::from(exit::FAILED)
        }
    }
}
