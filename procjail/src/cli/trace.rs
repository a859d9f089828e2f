//! `procjail trace`: a jail with the probes attached.

use std::process;

use anyhow::Context;

use super::outputs::{OutputOptions, Outputs};
use super::{complain, live, options::JailOptions};
use crate::{
    evidence::runtime_settings,
    exit, host,
    jail::{self, Jail, Plan, spec},
    kernel, leak,
    session::{End, Leaks, Recorder, TraceSession},
    trace::{self, Header},
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

    #[command(flatten)]
    outputs: OutputOptions,

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
    let (outputs, sinks) = Outputs::open(&args.outputs)?;
    let leaks = Leaks {
        seen: leak::Seen::before(),
        passing: leak::Passing::of(&plan),
    };
    let mut jail = Jail::create(&plan, &recorder)?;
    let target = jail.target().context("cannot open the jail's cgroups")?;
    // From here on the child sets itself up while the probes are loaded.
    let probes = args.probes(jail.pid());
    let memory_cgroup_id = target.view.memory_cgroup_id();
    let header = |probes| header(&plan, &jail, memory_cgroup_id, probes);
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
    let told = outputs.tell(report.as_ref());
    live::report(&outcome.remains);
    for leak in leak::sentences(&left) {
        complain(format_args!("{leak}"));
    }
    told.send();
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

fn header(
    plan: &Plan,
    jail: &Jail,
    memory_cgroup_id: Option<u64>,
    probes: Vec<trace::Probe>,
) -> Header {
    let host = trace::Host {
        lacks: lacks(jail),
        ..host::facts(&plan.cgroup_mode().to_string())
    };
    let traced = trace::Jail {
        name: jail.name().into(),
        command: plan.command().to_vec(),
        pid: jail.pid(),
        cgroup: jail.cgroup_path().display().to_string(),
        cgroup_id: jail.cgroup_id(),
        memory_cgroup_id,
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
    };
    Header::begin(host, traced, probes)
}
