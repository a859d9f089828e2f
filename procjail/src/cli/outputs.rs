//! Where a live trace goes: a file, the timeline on stderr, a collector, and the verdict at the end.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;

use clap::ValueEnum;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::complain;
use crate::diagnose::{self, Case, Explanation, SharedBuilder};
use crate::export::otlp::{Collector, CollectorError, Live};
use crate::render::{self, Detail, JsonLines, Look, Timeline};
use crate::session::{Report, Sink};
use crate::trace::{self, BoxedOutput};

/// The options of it.
#[derive(Debug, clap::Args)]
pub struct OutputOptions {
    /// Write the trace to FILE, one JSON object a line; compressed if the name ends in .zst. An
    /// existing file is overwritten.
    #[arg(
        short,
        long,
        value_name = "FILE",
        help_heading = "Trace",
        display_order = 100
    )]
    output: Option<PathBuf>,

    /// Send the trace to the OpenTelemetry collector at URL too, while it is made: http://HOST:4318 or
    /// grpc://HOST:4317; https:// or grpcs:// with TLS. What is traced neither waits for it nor fails with it.
    #[arg(long, value_name = "URL", help_heading = "Trace", display_order = 101)]
    otlp: Option<String>,

    /// No timeline and no summary.
    #[arg(short, long, help_heading = "Trace", display_order = 101)]
    pub(super) quiet: bool,

    /// Form of the timeline on stderr.
    #[arg(
        long,
        value_enum,
        default_value_t = Format::Text,
        value_name = "FORMAT",
        help_heading = "Trace",
        display_order = 102
    )]
    pub(super) format: Format,

    /// Show the events that the timeline leaves out as noise: releases, waits, a child's SIGCHLD.
    #[arg(short, long, help_heading = "Trace", display_order = 103)]
    verbose: bool,
}

/// Form of a timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned lines for people.
    Text,
    /// The lines of a trace file.
    Json,
}

/// The outputs of one trace, open.
pub struct Outputs<'a> {
    options: &'a OutputOptions,
    collector: Option<Live>,
    case: Option<SharedBuilder>,
}

impl<'a> Outputs<'a> {
    /// Opens them, before anything else is created: a run whose trace can't be kept should not begin. The sinks are
    /// for the session.
    ///
    /// # Errors
    ///
    /// The file can't be created; the collector's address is none.
    pub fn open(options: &'a OutputOptions) -> anyhow::Result<(Outputs<'a>, Vec<Sink>)> {
        let mut sinks = options.sinks()?;
        let collector = options.collector()?;
        let silent = |name: &str, output| Sink {
            name: name.into(),
            output,
            is_terminal_stream: false,
        };
        let output = collector.as_ref().map(Live::output);
        sinks.extend(output.map(|output| silent("the collector", output)));
        let wanted = options.explains() || collector.is_some();
        let case = wanted.then(SharedBuilder::default);
        let output = case.clone().map(|case| Box::new(case) as BoxedOutput);
        sinks.extend(output.map(|output| silent("the explanation", output)));
        let outputs = Outputs {
            options,
            collector,
            case,
        };
        Ok((outputs, sinks))
    }

    /// Says what the outputs could not take, and the verdict.
    pub fn tell(self, report: Option<&Report>) -> Told {
        // Words would wait for the same reader.
        if report.is_none() && !takes(&io::stderr()) {
            return Told {
                collector: self.collector,
                explained: None,
            };
        }
        match report {
            Some(report) => complain_of(report),
            None => complain(format_args!(
                "the trace was given up: its outputs took nothing for 10 s"
            )),
        }
        let explained = self.case.and_then(|case| case.finish()).map(|case| {
            let explanation = diagnose::explain(&case);
            (case, explanation)
        });
        if let Some((_, explanation)) = explained.as_ref().filter(|_| self.options.explains()) {
            self.options.tell(explanation);
        }
        Told {
            collector: self.collector,
            explained,
        }
    }
}

/// Whether a write to it would not block now.
fn takes(stream: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(stream.as_fd(), PollFlags::POLLOUT)];
    let ready = poll(&mut fds, PollTimeout::ZERO);
    ready.is_ok_and(|ready| ready > 0)
}

/// What remains to be done when all is told.
pub struct Told {
    collector: Option<Live>,
    explained: Option<(Case, Explanation)>,
}

impl Told {
    /// Sends the rest to the collector, and says if it could not be. Last, as that may have to wait a little.
    pub fn send(self) {
        let complaint = self
            .collector
            .and_then(|collector| collector.finish(self.explained.as_ref()));
        if let Some(complaint) = complaint {
            complain(format_args!("{complaint}"));
        }
    }
}

impl OutputOptions {
    /// The collector that hears of the trace while it is made.
    fn collector(&self) -> Result<Option<Live>, CollectorError> {
        let collector = |url| Collector::new(Some(url)).map(Live::new);
        self.otlp.as_deref().map(collector).transpose()
    }

    fn sinks(&self) -> anyhow::Result<Vec<Sink>> {
        let mut sinks = Vec::new();
        if let Some(path) = &self.output {
            let writer = trace::Writer::create(path)?;
            sinks.push(Sink {
                name: path.display().to_string(),
                output: Box::new(writer),
                is_terminal_stream: false,
            });
        }
        if !self.quiet {
            let mut look = Look::of(&io::stderr());
            look.verbose = self.verbose;
            let stderr = io::BufWriter::with_capacity(64 << 10, io::stderr());
            let output: BoxedOutput = match self.format {
                Format::Text => Box::new(Timeline::new(stderr, look)),
                Format::Json => Box::new(JsonLines::new(stderr)),
            };
            sinks.push(Sink {
                name: "stderr".into(),
                output,
                is_terminal_stream: true,
            });
        }
        Ok(sinks)
    }

    /// Whether the trace ends with the verdict.
    fn explains(&self) -> bool {
        !self.quiet && self.format == Format::Text
    }

    /// The verdict, below the summary.
    fn tell(&self, explanation: &Explanation) {
        let stderr = io::stderr();
        let mut text = String::from("\n");
        text += &render::explanation(explanation, Detail::Verdicts, &Look::of(&stderr));
        if let Some(path) = &self.output {
            text += &format!("\nwith its evidence: procjail explain {}\n", path.display());
        }
        // Nobody may be reading.
        let _ = stderr.lock().write_all(text.as_bytes());
    }
}

/// Says what the outputs could not take. What is traced is not harmed by it.
fn complain_of(report: &Report) {
    for (name, error) in &report.failures {
        complain(format_args!(
            "the trace in {name} is not whole: {error}; what was traced was not affected"
        ));
    }
}
