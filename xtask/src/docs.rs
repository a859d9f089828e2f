//! `cargo xtask docs`: the pages that are generated from the sources.

use std::{fs, process::ExitCode};

use anyhow::{Context, ensure};

use crate::workspace;

/// Rewrite the generated pages in docs/: the JSON Schemas and the catalogue of diagnoses
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Change nothing; fail if a committed page is not what the sources give
    #[arg(long)]
    check: bool,
}

/// Runs the task.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let pages = [
        ("docs/trace.schema.json", procjail::trace::schema()),
        ("docs/explanation.schema.json", procjail::diagnose::schema()),
        ("docs/report.schema.json", procjail::export::report_schema()),
        (
            "docs/events-csv.schema.json",
            procjail::export::table_schema(),
        ),
        ("docs/catalogue.md", procjail::lab::catalogue()),
    ];
    for (name, page) in pages {
        let path = workspace::root().join(name);
        if args.check {
            let committed = fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            ensure!(
                committed == page,
                "{name} is not what the sources give; run cargo xtask docs and commit it"
            );
        } else {
            fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
