//! `procjail show`: a trace file through the same rendering as a live trace.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, bail};

use crate::event::{Event, KINDS, What};
use crate::render::{JsonLines, Look, Timeline, label};
use crate::trace::Output;
use crate::trace::{self, Header, ReadError};

/// Show a trace file
///
/// Prints a trace made by `procjail trace -o FILE` as a timeline, or as JSON lines. A file that was
/// cut off (its writer was killed, the disk was full) is shown up to its last whole line.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Trace file, plain or compressed; `-` for standard input
    file: PathBuf,

    /// Only events of these kinds, such as `exit,oom-kill`; names as in JSON or as in the timeline
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = kind)]
    kind: Vec<&'static str>,

    /// Only events by or about this process; PID inside the jail or on the host
    #[arg(long, value_name = "N")]
    pid: Option<u32>,

    /// Only events from then on: since the gate (`1.5s`, `-200ms`), or RFC 3339 (`2026-11-22T07:00:00Z`)
    #[arg(long, value_name = "TIME", value_parser = moment, allow_hyphen_values = true)]
    since: Option<Moment>,

    /// Only events up to then
    #[arg(long, value_name = "TIME", value_parser = moment, allow_hyphen_values = true)]
    until: Option<Moment>,

    /// Form of the output
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,

    /// Text: also events that are seldom of interest (threads, waits, SIGCHLD of ended children)
    #[arg(long, short)]
    verbose: bool,
}

/// Form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A timeline, one line an event.
    Text,
    /// The lines of the trace file, one JSON object each.
    Json,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<u8> {
    let mut reader = trace::open(&args.file)?;
    let stdout = io::stdout();
    let look = Look {
        // Who asks for a kind wants to see it.
        verbose: args.verbose || !args.kind.is_empty(),
        ..Look::of(&stdout)
    };
    let out = io::BufWriter::new(stdout.lock());
    let mut output: Box<dyn Output + '_> = match args.format {
        Format::Text => Box::new(Timeline::new(out, look)),
        Format::Json => Box::new(JsonLines::new(out)),
    };
    let shown = show(&mut reader, &args, output.as_mut());
    match shown {
        Ok(()) => {}
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            // The reader has seen enough. What is still buffered has nowhere to go.
            return Ok(0);
        }
        Err(Failure::Output(error)) => {
            return Err(error).context("cannot write to standard output");
        }
        Err(Failure::Read(error)) => {
            // What came before the damage is worth seeing.
            if let Err(error) = output.footer(None)
                && error.kind() != io::ErrorKind::BrokenPipe
            {
                return Err(error).context("cannot write to standard output");
            }
            return Err(error.into());
        }
    }
    if let Some(missing) = reader.missing() {
        // Fails if stderr is closed; the text says it as well.
        let _ = writeln!(io::stderr(), "procjail: {}: {missing}", args.file.display());
    }
    Ok(0)
}

enum Failure {
    Read(ReadError),
    Output(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// Most events that are held back until the gate's time is known.
const WAITING: usize = 1 << 16;

fn show(reader: &mut trace::Reader, args: &Args, output: &mut dyn Output) -> Result<(), Failure> {
    let header = reader.header().clone();
    output.header(&header)?;
    let mut filter = Filter::new(args, &header);
    let mut waiting = Vec::new();
    let mut gate_ns = None;
    for event in reader.by_ref() {
        let event = event.map_err(Failure::Read)?;
        if gate_ns.is_none() {
            if let What::GateOpened(_) = event.what {
                gate_ns = Some(event.time_ns);
                filter.origin_ns = event.time_ns;
                output.origin(event.time_ns);
            } else if waiting.len() < WAITING {
                waiting.push(event);
                continue;
            }
        }
        for event in waiting.drain(..).chain([event]) {
            if filter.passes(&event) {
                output.event(&event)?;
            }
        }
    }
    for event in waiting.drain(..) {
        if filter.passes(&event) {
            output.event(&event)?;
        }
    }
    output.footer(reader.footer())?;
    Ok(())
}

/// Which events are shown.
struct Filter<'a> {
    args: &'a Args,
    /// When the gate opened, or the trace began if it never did.
    origin_ns: u64,
    start_boot_ns: u64,
    start_unix_ns: u64,
}

impl<'a> Filter<'a> {
    fn new(args: &'a Args, header: &Header) -> Self {
        Self {
            args,
            origin_ns: header.start_boot_ns,
            start_boot_ns: header.start_boot_ns,
            start_unix_ns: header.start_unix_ns,
        }
    }

    fn passes(&self, event: &Event) -> bool {
        let time_ns = i128::from(event.time_ns);
        let kinds = &self.args.kind;
        (kinds.is_empty() || kinds.contains(&event.what.kind()))
            && self.args.pid.is_none_or(|pid| concerns(event, pid))
            && self
                .args
                .since
                .is_none_or(|since| time_ns >= self.boot_ns(since))
            && self
                .args
                .until
                .is_none_or(|until| time_ns <= self.boot_ns(until))
    }

    fn boot_ns(&self, moment: Moment) -> i128 {
        match moment {
            Moment::SinceGate(ns) => i128::from(self.origin_ns) + ns,
            Moment::Absolute(unix_ns) => {
                i128::from(self.start_boot_ns) + unix_ns - i128::from(self.start_unix_ns)
            }
        }
    }
}

/// The event is by or about the process.
fn concerns(event: &Event, pid: u32) -> bool {
    [Some(&event.task), event.what.target()]
        .into_iter()
        .flatten()
        .any(|task| task.pid == pid || task.jail_pid == Some(pid))
}

/// A point in time, as a user gives it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Moment {
    /// Nanoseconds since the gate opened.
    SinceGate(i128),
    /// Nanoseconds since 1970.
    Absolute(i128),
}

fn kind(name: &str) -> Result<&'static str, String> {
    KINDS
        .iter()
        .copied()
        .find(|kind| *kind == name || label(kind) == name)
        .ok_or_else(|| format!("there is no such kind; the kinds are {}", KINDS.join(", ")))
}

fn moment(text: &str) -> Result<Moment, String> {
    relative(text)
        .map(Moment::SinceGate)
        .or_else(|_| {
            text.parse()
                .map(|time: jiff::Timestamp| Moment::Absolute(time.as_nanosecond()))
        })
        .map_err(|_| {
            "neither a time since the gate such as 1.5s or -200ms (units ns, us, ms, s, m, h) nor \
             RFC 3339 such as 2026-11-22T07:00:00Z"
                .to_owned()
        })
}

/// `1.5s`, `+12.345ms` (as the timeline prints it), `-200ms`, `2m`.
fn relative(text: &str) -> anyhow::Result<i128> {
    let (sign, magnitude) = match text.strip_prefix('-') {
        Some(magnitude) => (-1, magnitude),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = magnitude
        .find(|char: char| !char.is_ascii_digit() && char != '.')
        .unwrap_or(magnitude.len());
    let (number, unit) = magnitude.split_at(digits);
    let unit_ns: i128 = match unit {
        "ns" => 1,
        "us" | "µs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" | "min" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => bail!("no unit"),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    // More digits than nanoseconds have mean nothing.
    if number.starts_with('.') || number.is_empty() || whole.len() > 12 || fraction.len() > 18 {
        bail!("no number");
    }
    let fraction_ns = match fraction {
        "" => 0,
        digits => digits.parse::<i128>()? * unit_ns / 10i128.pow(digits.len() as u32),
    };
    Ok(sign * (whole.parse::<i128>()? * unit_ns + fraction_ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_relative_or_absolute() {
        assert_eq!(moment("1.5s"), Ok(Moment::SinceGate(1_500_000_000)));
        assert_eq!(moment("-200ms"), Ok(Moment::SinceGate(-200_000_000)));
        assert_eq!(moment("+12.345ms"), Ok(Moment::SinceGate(12_345_000)));
        assert_eq!(moment("2m"), Ok(Moment::SinceGate(120_000_000_000)));
        assert_eq!(
            moment("1970-01-01T00:00:01Z"),
            Ok(Moment::Absolute(1_000_000_000))
        );
        for wrong in [
            "",
            "s",
            "1",
            "1.5",
            ".5s",
            "1.2.3s",
            "--1s",
            "1 s",
            "yesterday",
            "99999999999999s",
            "2026-11-22",
        ] {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn kinds_have_two_names_and_a_wrong_one_lists_them() {
        assert_eq!(kind("signal-generated"), Ok("signal-generated"));
        assert_eq!(kind("signal"), Ok("signal-generated"));
        assert!(kind("oom").is_err_and(|error| error.contains("oom-kill, oom-reap")));
    }
}
