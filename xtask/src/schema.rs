//! `cargo xtask schema`: the JSON Schema of the trace file, from the types that write it.

use std::fs;

use anyhow::Context;

use crate::workspace;

/// Write docs/trace.schema.json anew.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
///
/// The file can't be written.
pub fn run(_args: &Args) -> anyhow::Result<()> {
    let path = workspace::root().join("docs/trace.schema.json");
    fs::write(&path, procjail::trace::schema())
        .with_context(|| format!("cannot write {}", path.display()))
}
