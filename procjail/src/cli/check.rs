//! `procjail check`.

use std::io::{self, Write as _};

use anstyle::{AnsiColor, Style};
use anyhow::Context as _;
use clap::ValueEnum;
use serde::Serialize;

use crate::{
    evidence::kmsg,
    exit, jail,
    kernel::{self, Check, State},
    names::io_error,
};

/// Tell what this host supports, what is lost without it, and what to do about it
///
/// All probes are loaded and attached for a moment, as `trace` would do.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::HELP_OF_CHECK)]
pub struct Args {
    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// A table
    Text,
    /// One JSON object
    Json,
}

/// All that `--format json` prints.
#[derive(Serialize)]
struct Report<'a> {
    /// `trace` would work.
    ok: bool,
    checks: &'a [Check],
}

/// Runs the command.
///
/// # Errors
///
/// The output cannot be written.
pub fn run(args: Args) -> anyhow::Result<u8> {
    let mut checks = kernel::check();
    checks.push(kernel_log());
    checks.extend(jail_features());
    let ok = checks.iter().all(|check| check.state != State::Missing);
    let written = match args.format {
        Format::Text => text(&checks, ok),
        Format::Json => json(&checks, ok),
    };
    match written {
        // The reader has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        other => other.context("cannot write to standard output")?,
    }
    Ok(if ok { 0 } else { exit::CHECK_FAILED })
}

/// Whether the kernel log can be read.
fn kernel_log() -> Check {
    let opened = kmsg::open();
    Check {
        name: format!("probe {}", kmsg::NAME),
        state: match opened {
            Ok(_) => State::Ok,
            Err(_) => State::Limited,
        },
        found: match &opened {
            Ok(_) => "readable".to_owned(),
            Err(error) => format!("cannot open /dev/kmsg: {}", io_error(error)),
        },
        lost: opened.is_err().then(|| kmsg::PROVIDES.to_owned()),
        remedy: opened
            .is_err()
            .then(|| "add CAP_SYSLOG, and /dev/kmsg if it is a container".to_owned()),
    }
}

/// What a jail uses where the kernel has it. Without the privileges for a jail nothing more is told:
/// the first check says that already.
fn jail_features() -> Vec<Check> {
    if jail::check_privileges().is_err() {
        return Vec::new();
    }
    let features = match jail::check() {
        Ok(features) => features,
        Err(error) => {
            return vec![Check {
                name: "cgroup of a jail".to_owned(),
                state: State::Missing,
                found: error.to_string(),
                lost: Some("no jail can be made".to_owned()),
                remedy: Some("see the message".to_owned()),
            }];
        }
    };
    let check = |feature: jail::Feature| Check {
        name: feature.name.to_owned(),
        state: if feature.present {
            State::Ok
        } else {
            State::Limited
        },
        found: if feature.present {
            "there".to_owned()
        } else {
            format!("not there; it came with Linux {}", feature.since)
        },
        lost: (!feature.present).then(|| feature.lost.to_owned()),
        remedy: (!feature.present).then(|| format!("use Linux {} or newer", feature.since)),
    };
    features.into_iter().map(check).collect()
}

fn json(checks: &[Check], ok: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &Report { ok, checks })?;
    writeln!(out)
}

fn text(checks: &[Check], ok: bool) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    let width = checks
        .iter()
        .map(|check| check.name.len())
        .max()
        .unwrap_or(0);
    for check in checks {
        let (word, style) = word(check.state);
        writeln!(
            out,
            "{style}{word:<7}{style:#}  {:<width$}  {}",
            check.name, check.found
        )?;
        // Below the text of the line above.
        let indent = 7 + 2 + width + 2;
        if let Some(lost) = &check.lost {
            writeln!(out, "{:indent$}lost: {lost}", "")?;
        }
        if let Some(remedy) = &check.remedy {
            writeln!(out, "{:indent$}remedy: {remedy}", "")?;
        }
    }
    let limited = checks.iter().any(|check| check.state == State::Limited);
    writeln!(
        out,
        "\nprocjail trace {}",
        match (ok, limited) {
            (true, false) => "works on this host",
            (true, true) => "works on this host, without what is marked as limited",
            (false, _) => "does not work on this host: see what is marked as missing",
        }
    )
}

fn word(state: State) -> (&'static str, Style) {
    let (word, colour) = match state {
        State::Ok => ("ok", Some(AnsiColor::Green)),
        State::Limited => ("limited", Some(AnsiColor::Yellow)),
        State::Missing => ("missing", Some(AnsiColor::Red)),
        State::Info => ("info", None),
    };
    (
        word,
        Style::new().fg_color(colour.map(anstyle::Color::Ansi)),
    )
}
