//! The `procjail` program: maps the outcome of the command line to an exit code.

use std::process::ExitCode;

use procjail::cli;

fn main() -> ExitCode {
    ExitCode::from(cli::main(std::env::args_os()))
}
