//! `procjail explain`: the verdict on a trace file.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::ValueEnum;

use super::complain;
use crate::diagnose::{self, Case, Explanation, Reported};
use crate::render::{self, Detail, Look};
use crate::trace;

/// Explain a trace file: what happened, why, and what shows it
///
/// First causes come first, and what followed from them under them. A file that was cut off or that
/// lost events is explained as far as its evidence goes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Trace file, plain or compressed; `-` for standard input
    file: PathBuf,

    /// What somebody else reports of the run: an exit code, a reason such as Error, or a state such as
    /// running
    #[arg(long, value_name = "STATUS", value_parser = Reported::parse)]
    reported: Option<Reported>,

    /// Form of the explanation
    #[arg(long, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    format: Format,

    /// Show all evidence, also of what followed
    #[arg(long)]
    all: bool,
}

/// Form of an explanation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object; see docs/explanation.schema.json.
    Json,
}

/// Runs the command.
///
/// # Errors
///
/// The trace can't be read, or the explanation not be written.
pub fn run(args: Args) -> anyhow::Result<u8> {
    let explanation = of_file(&args.file, args.reported.clone())?;
    let detail = if args.all {
        Detail::All
    } else {
        Detail::Evidence
    };
    print(&explanation, args.format, detail)?;
    Ok(0)
}

/// Explains a trace file.
///
/// # Errors
///
/// It can't be read.
pub fn of_file(path: &Path, reported: Option<Reported>) -> anyhow::Result<Explanation> {
    let mut reader = trace::open(path)?;
    let (mut case, damage) = Case::read(&mut reader)?;
    if let Some(error) = damage {
        // What came before is worth an explanation all the same.
        complain(format_args!("{error}; explained up to there"));
    }
    if let Some(missing) = reader.missing() {
        complain(format_args!("{missing}"));
    }
    case.reported = reported;
    Ok(diagnose::explain(&case))
}

/// Prints an explanation to stdout.
///
/// # Errors
///
/// It could not be written; a reader that has seen enough is no error.
pub fn print(explanation: &Explanation, format: Format, detail: Detail) -> anyhow::Result<()> {
    let text = match format {
        Format::Text => render::explanation(explanation, detail, &Look::of(&io::stdout())),
        Format::Json => serde_json::to_string_pretty(explanation)? + "\n",
    };
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write the explanation to standard output")
        }
        _ => Ok(()),
    }
}
