//! `procjail trace`: a jail with the probes attached.

use std::{
    io::{self, Write},
    path::PathBuf,
    process,
};

use anyhow::Context;
use clap::ValueEnum;

use super::{complain, live, options::JailOptions};
use crate::{
    clock,
    diagnose::{self, Explanation, SharedBuilder},
    evidence::runtime_settings,
    exit,
    export::otlp::{Collector, CollectorError, Live},
    host,
    jail::{self, Jail, Plan, spec},
    kernel, leak,
    render::{self, Detail, JsonLines, Look, Timeline},
    session::{End, Leaks, Recorder, Report, Sink, TraceSession},
    trace::{self, BoxedOutput, Header},
};

/// Run APP as PID 1 of a jail and tell, from the kernel's own events, what happens to it.
///
/// The timeline goes to stderr, line by line while APP runs, and ends with a summary. APP's standard
/// streams are its own. With -o everything is also written to a file that `procjail show` replays.
#[derive(Debug, clap::Args)]
#[command(override_usage = "procjail trace [OPTIONS] -- APP [ARG]...", after_help = exit::HELP)]
pub struct Args {
    #[command(flatten)]
    jail: Box<JailOptions>,

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

    /// Send the trace to the OpenTelemetry collector at URL too, while APP runs: http://HOST:4318 or
    /// grpc://HOST:4317; https:// or grpcs:// with TLS. APP neither waits for it nor fails with it.
    #[arg(long, value_name = "URL", help_heading = "Trace", display_order = 101)]
    otlp: Option<String>,

    /// No timeline and no summary.
    #[arg(short, long, help_heading = "Trace", display_order = 101)]
    quiet: bool,

    /// Form of the timeline on stderr.
    #[arg(
        long,
        value_enum,
        default_value_t = Format::Text,
        value_name = "FORMAT",
        help_heading = "Trace",
        display_order = 102
    )]
    format: Format,

    /// Show the events that the timeline leaves out as noise: releases, waits, a child's SIGCHLD.
    #[arg(short, long, help_heading = "Trace", display_order = 103)]
    verbose: bool,

    /// Record threads too: their start and their end.
    #[arg(long, help_heading = "Trace", display_order = 104)]
    threads: bool,

    /// Record all signals, even SIGURG, SIGWINCH, SIGPROF, SIGVTALRM, SIGIO and SIGCHLD for a stop.
    #[arg(long, help_heading = "Trace", display_order = 105)]
    all_signals: bool,

    /// Don't record mounts and changes of namespace. Halves what the hooks on system calls cost the
    /// whole host.
    #[arg(long, help_heading = "Trace", display_order = 106)]
    no_mounts: bool,

    /// Hook no system call at all: no mounts, no failed execs, and reaps without the reaper.
    #[arg(long, help_heading = "Trace", display_order = 107)]
    no_syscalls: bool,

    /// Don't record what processes that end badly wrote last to their standard error.
    #[arg(long, help_heading = "Trace", display_order = 108)]
    no_stderr_tail: bool,

    /// Size of the kernel's ring buffer, a power of two.
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "8M",
        value_parser = ring_bytes,
        help_heading = "Trace",
        display_order = 109
    )]
    ring_size: u32,
}

/// Form of a timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned lines for people.
    Text,
    /// The lines of a trace file.
    Json,
}

fn ring_bytes(text: &str) -> Result<u32, String> {
    let bytes = spec::parse_size(text)?;
    u32::try_from(bytes)
        .ok()
        .filter(|bytes| bytes.is_power_of_two() && (64 << 10..=1 << 30).contains(bytes))
        .ok_or_else(|| format!("{text} is not a power of two from 64K to 1G"))
}

/// Runs the command.
///
/// # Errors
///
/// What kept APP from running, in words for the user.
pub fn run(args: Args) -> anyhow::Result<u8> {
    let Some(plan) = args.jail.compile()? else {
        return Ok(0);
    };
    let recorder = Recorder::new();
    // Before anything is created: a run whose trace can't be kept should not begin.
    let mut sinks = args.sinks()?;
    let collector = args.collector()?;
    sinks.extend(collector.as_ref().map(|collector| Sink {
        name: "the collector".into(),
        output: collector.output(),
        is_terminal_stream: false,
    }));
    let case = (args.explains() || collector.is_some()).then(SharedBuilder::default);
    sinks.extend(case.clone().map(|case| Sink {
        name: "the explanation".into(),
        output: Box::new(case),
        is_terminal_stream: false,
    }));
    let leaks = Leaks {
        seen: leak::Seen::before(),
        passing: leak::Passing::of(&plan),
    };
    let mut jail = Jail::create(&plan, &recorder)?;
    let target = jail.target().context("cannot open the jail's cgroups")?;
    // From here on the child sets itself up while the probes are loaded.
    let probes = args.probes(jail.pid());
    let header = |probes| header(&plan, &jail, probes);
    let session = TraceSession::start(&recorder, target, &probes, Some(leaks), sinks, header)?;
    let observer = session.observer();
    let (outcome, failure) = match jail.open_gate(&*observer) {
        Ok(()) => (jail.supervise(&*observer), None),
        Err(error) => {
            let mut outcome = jail.abort("setup-failed", &*observer);
            outcome.exit_code = error.exit_code();
            (outcome, Some(error))
        }
    };
    let left = session.check_leaks().unwrap_or_default();
    let report = session.finish(End::from(&outcome));
    if let Some(report) = &report {
        args.complain_of(report);
    } else {
        complain(format_args!(
            "the trace was given up: its outputs took nothing for 10 s"
        ));
    }
    let explained = case.and_then(|case| case.finish()).map(|case| {
        let explanation = diagnose::explain(&case);
        (case, explanation)
    });
    if let Some((_, explanation)) = explained.as_ref().filter(|_| args.explains()) {
        args.tell(explanation);
    }
    live::report(&outcome.remains);
    for leak in leak::sentences(&left) {
        complain(format_args!("{leak}"));
    }
    // Last, as it may have to wait a little.
    if let Some(complaint) = collector.and_then(|collector| collector.finish(explained.as_ref())) {
        complain(format_args!("{complaint}"));
    }
    match failure {
        Some(error) => Err(error.into()),
        None => Ok(outcome.exit_code),
    }
}

impl Args {
    fn probes(&self, pid: u32) -> kernel::Options {
        kernel::Options {
            pid,
            ring_bytes: self.ring_size,
            all_signals: self.all_signals,
            threads: self.threads,
            syscalls: !self.no_syscalls,
            mounts: !self.no_mounts && !self.no_syscalls,
            stderr_tail: !self.no_stderr_tail && !self.no_syscalls,
        }
    }

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

    /// Says what the outputs could not take. The run itself is not harmed by it.
    fn complain_of(&self, report: &Report) {
        for (name, error) in &report.failures {
            complain(format_args!(
                "the trace in {name} is not whole: {error}; APP was not affected"
            ));
        }
    }
}

/// What the jail has to do without on this kernel.
fn lacks(jail: &Jail) -> Vec<trace::Lack> {
    let mut features = jail.features();
    features.retain(|feature| !feature.present);
    let lack = |feature: jail::Feature| trace::Lack {
        feature: feature.name.to_owned(),
        since: feature.since.to_owned(),
        lost: feature.lost.to_owned(),
    };
    features.into_iter().map(lack).collect()
}

fn header(plan: &Plan, jail: &Jail, probes: Vec<trace::Probe>) -> Header {
    Header {
        format: trace::FORMAT_NAME.into(),
        version: trace::FORMAT_VERSION,
        procjail: env!("CARGO_PKG_VERSION").into(),
        start_boot_ns: clock::boot_ns(),
        start_unix_ns: clock::unix_ns(),
        host: trace::Host {
            lacks: lacks(jail),
            ..host::facts(&plan.cgroup_mode().to_string())
        },
        jail: trace::Jail {
            name: jail.name().into(),
            command: plan.command().to_vec(),
            pid: jail.pid(),
            cgroup: jail.cgroup_path().display().to_string(),
            cgroup_id: jail.cgroup_id(),
            limits: plan.limits(),
            environment: runtime_settings(plan.environment()),
            rlimits: plan.rlimits(),
            launcher: Some(trace::Launcher {
                pid: process::id(),
                plan: plan.steps(),
                stop_timeout_ns: plan.stop().timeout.as_nanos() as u64,
                stop_as_is: plan.stop().as_is,
            }),
            container: None,
        },
        probes,
    }
}
