//! `procjail lab`: failure modes that really happen, traced and explained.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::{complain, explain};
use crate::exit;
use crate::jail;
use crate::lab::{self, Failure, Scenario, Verdict};
use crate::render::Detail;

/// Reproduce a failure mode in a jail, traced and explained
///
/// Each scenario runs a misbehaving program in a jail of its own, undoes whatever it makes, and ends
/// with the explanation.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit status:
  0  every verdict was right
  1  a verdict was wrong, or a scenario could not be played
  3  the machine lacks what the scenario needs")]
pub struct Args {
    /// Scenario, or `all` for every one
    scenario: Option<String>,

    /// List the scenarios
    #[arg(long)]
    list: bool,

    /// Keep the trace in FILE; with `all` in the directory FILE, one file a scenario
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Form of the explanation
    #[arg(long, value_enum, default_value_t = explain::Format::Text, value_name = "FORMAT")]
    format: explain::Format,

    /// Show all evidence, also of what followed
    #[arg(long)]
    all: bool,
}

/// The machine lacks what the scenario needs.
const NEEDS: u8 = 3;

/// Runs the command.
///
/// # Errors
///
/// There is no such scenario, or the machine can't run jails.
pub fn run(args: Args) -> anyhow::Result<u8> {
    match args.scenario.as_deref() {
        _ if args.list => list().map(|()| 0),
        None => list().map(|()| 0),
        Some("all") => {
            jail::check_privileges()?;
            all(&args)
        }
        Some(name) => {
            let Some(scenario) = lab::find(name) else {
                bail!("there is no scenario '{name}'; procjail lab --list shows all");
            };
            jail::check_privileges()?;
            one(scenario, &args)
        }
    }
}

fn list() -> anyhow::Result<()> {
    let width = lab::all()
        .map(|scenario| scenario.id.len())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for scenario in lab::all() {
        let seconds = f64::from(scenario.takes_ms) / 1000.0;
        let needs: Vec<String> = scenario.needs.iter().map(ToString::to_string).collect();
        let needs = match needs.is_empty() {
            true => String::new(),
            false => format!(" (needs {})", needs.join(", ")),
        };
        text += &format!(
            "{:width$}  {seconds:>5.1} s  {}{needs}\n",
            scenario.id, scenario.about
        );
    }
    // Whoever reads it may have seen enough, as `head` does.
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(())
}

fn one(scenario: &'static Scenario, args: &Args) -> anyhow::Result<u8> {
    let ran = match lab::run(scenario, args.output.as_deref()) {
        Ok(ran) => ran,
        Err(error @ Failure::Needs(_)) => {
            complain(format_args!("{}: {error}", scenario.id));
            return Ok(NEEDS);
        }
        Err(error) => return Err(error).with_context(|| scenario.id),
    };
    if args.format == explain::Format::Text {
        let mut stdout = io::stdout().lock();
        let _ = writeln!(stdout, "{}: {}\n", scenario.id, scenario.about);
    }
    let detail = if args.all {
        Detail::All
    } else {
        Detail::Evidence
    };
    explain::print(&ran.explanation, args.format, detail)?;
    match ran.verdict {
        Verdict::Right => Ok(0),
        Verdict::Wrong(wrong) => {
            for what in wrong {
                complain(format_args!("{}: {what}", scenario.id));
            }
            Ok(exit::CHECK_FAILED)
        }
    }
}

fn all(args: &Args) -> anyhow::Result<u8> {
    if let Some(directory) = &args.output {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
    }
    let width = lab::all()
        .map(|scenario| scenario.id.len())
        .max()
        .unwrap_or(0);
    let (mut right, mut wrong, mut lacking) = (0, 0, 0);
    for scenario in lab::all() {
        let kept = args
            .output
            .as_ref()
            .map(|directory| directory.join(format!("{}.jsonl", scenario.id)));
        let start = Instant::now();
        let ran = lab::run(scenario, kept.as_deref());
        let took =
            humantime::format_duration(Duration::from_millis(start.elapsed().as_millis() as u64));
        let said = match ran {
            Ok(ran) => match ran.verdict {
                Verdict::Right => {
                    right += 1;
                    "right".to_owned()
                }
                Verdict::Wrong(what) => {
                    wrong += 1;
                    format!("WRONG: {}", what.join("; "))
                }
            },
            Err(Failure::Needs(need)) => {
                lacking += 1;
                format!("cannot run here: needs {need}")
            }
            Err(error) => {
                wrong += 1;
                format!("FAILED: {error}")
            }
        };
        let _ = writeln!(io::stdout(), "{:width$}  {took:>8}  {said}", scenario.id);
    }
    let _ = writeln!(
        io::stdout(),
        "{right} of {} verdicts right; {lacking} scenarios need what this machine lacks",
        right + wrong
    );
    Ok(if wrong > 0 { exit::CHECK_FAILED } else { 0 })
}
