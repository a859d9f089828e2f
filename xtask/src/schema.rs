//! `cargo xtask schema`: rewrites what is generated from the model of a trace.

use anyhow::Context;

use crate::workspace;

/// Rewrite docs/trace.schema.json from the model of a trace
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the task.
pub fn run(_args: &Args) -> anyhow::Result<std::process::ExitCode> {
    let path = workspace::root().join("docs/trace.schema.json");
    std::fs::write(&path, procjail::trace::schema())
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(std::process::ExitCode::SUCCESS)
}
