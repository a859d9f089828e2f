//! What a developer does with the source, one subcommand each.

mod bench;
mod chaos;
mod deb;
mod docs;
mod ebpf;
mod field;
mod man;
mod record;
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
    Man(man::Args),
    Deb(deb::Args),
    Record(record::Args),
    Test(test::Args),
    Chaos(chaos::Args),
    Field(field::Args),
    #[command(subcommand)]
    Bench(bench::Bench),
}

fn main() -> anyhow::Result<ExitCode> {
    match Task::parse() {
        Task::Ebpf(args) => ebpf::run(&args).map(|()| ExitCode::SUCCESS),
        Task::Docs(args) => docs::run(&args),
        Task::Man(args) => man::run(&args),
        Task::Deb(args) => deb::run(&args),
        Task::Record(args) => record::run(&args),
        Task::Test(args) => test::run(&args),
        Task::Chaos(args) => chaos::run(&args),
        Task::Field(args) => field::run(&args),
        Task::Bench(bench) => bench::run(&bench),
    }
}
