//! `procjail export`: a trace file in another form.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::complain;
use crate::diagnose::Reported;
use crate::export::otlp::{self, Collector};
use crate::export::{Format, Source, SourceError, Subject, Target};

/// Export a trace file with its verdicts: for an incident write-up, a viewer or a collector
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Trace file, plain or compressed; `-` for standard input
    file: PathBuf,

    /// Form of the export
    #[arg(long, value_enum, value_name = "FORMAT")]
    to: Format,

    /// Write to OUT, which is either whole or not there; else to standard output. For otlp: send to the
    /// collector at this URL (http://HOST:4318, grpc://HOST:4317; https:// or grpcs:// with TLS)
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,

    /// Overwrite OUT
    #[arg(long)]
    force: bool,

    /// What somebody else reports of the run: an exit code, a reason such as Error, or a state such as
    /// running
    #[arg(long, value_name = "STATUS", value_parser = Reported::parse)]
    reported: Option<Reported>,
}

/// Runs the command.
///
/// # Errors
///
/// The trace can't be read, or the export not be written.
pub fn run(args: Args) -> anyhow::Result<u8> {
    let source = Source::open(&args.file)?;
    if args.to == Format::Otlp {
        return send(args, &source);
    }
    // Before the work: whoever can't keep its result should hear so now.
    let mut target = match &args.output {
        Some(path) => Target::file(path, args.force)?,
        None if args.to.is_binary() && io::stdout().is_terminal() => {
            bail!("this form is binary, and standard output is a terminal: name a file with -o")
        }
        None => Target::stdout(),
    };
    let subject = explained(&source, args.reported)?;
    let written = args
        .to
        .output(&subject, &mut target)
        .map_err(SourceError::Output)
        .and_then(|mut output| source.pass_on(output.as_mut()));
    match written {
        Ok(()) => {}
        // Whoever reads has seen enough.
        Err(SourceError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            return Ok(0);
        }
        Err(SourceError::Output(error)) => return Err(target.error("write", error).into()),
        Err(error) => return Err(error).context("cannot export"),
    }
    target.finish()?;
    Ok(0)
}

/// The first reading of the trace; says what it lacks.
fn explained(source: &Source, reported: Option<Reported>) -> Result<Subject, SourceError> {
    let subject = source.explain(reported)?;
    if let Some(missing) = &subject.missing {
        complain(format_args!("{missing}"));
    }
    Ok(subject)
}

/// Sends the trace to a collector.
fn send(args: Args, source: &Source) -> anyhow::Result<u8> {
    let url = args.output.as_deref().map(Path::to_string_lossy);
    let collector = Collector::new(url.as_deref())?;
    if !collector.given() {
        complain(format_args!("sending to {collector}"));
    }
    let subject = explained(source, args.reported)?;
    let delivered = otlp::send(source, &subject, &collector)?;
    complain(format_args!("{collector} has taken {delivered}"));
    Ok(0)
}
