//! `cargo xtask schema`: the JSON Schema of a trace, generated from the types that write it.

use std::{fs, process::ExitCode};

use anyhow::{Context, ensure};

use crate::workspace;

/// Rewrite docs/trace.schema.json from the model of a trace
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Change nothing; fail if the committed file is not what the types give
    #[arg(long)]
    check: bool,
}

/// Runs the task.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let path = workspace::root().join("docs/trace.schema.json");
    let schema = procjail::trace::schema();
    if args.check {
        let committed =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(
            committed == schema,
            "{} is not what the types give; run cargo xtask schema and commit it",
            path.display()
        );
    } else {
        fs::write(&path, schema).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}
