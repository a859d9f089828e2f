//! What a developer does with the source, one subcommand each.

mod bench;
mod docs;
mod ebpf;
mod test;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", max_term_width = 100)]
enum Task {
    Ebpf(ebpf::Args),
    Docs(docs::Args),
    Test(test::Args),
    #[command(subcommand)]
    Bench(bench::Bench),
}

fn main() -> anyhow::Result<ExitCode> {
    match Task::parse() {
        Task::Ebpf(args) => ebpf::run(&args).map(|()| ExitCode::SUCCESS),
        Task::Docs(args) => docs::run(&args),
        Task::Test(args) => test::run(&args),
        Task::Bench(bench) => bench::run(&bench),
    }
}
