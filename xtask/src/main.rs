//! What a developer does with the source, one subcommand each.

mod bench;
mod test;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", max_term_width = 100)]
enum Task {
    Test(test::Args),
    #[command(subcommand)]
    Bench(bench::Bench),
}

fn main() -> anyhow::Result<ExitCode> {
    match Task::parse() {
        Task::Test(args) => test::run(&args),
        Task::Bench(bench) => bench::run(&bench),
    }
}
