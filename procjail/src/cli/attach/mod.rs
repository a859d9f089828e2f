//! `procjail attach`: the trace of what others started.

mod list;

use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::complain;
use super::outputs::{OutputOptions, Outputs};
use crate::attach::{self, Snapshot, Watched};
use crate::cli::options::parse_duration;
use crate::event::{Attached, DetachReason, Detached, What};
use crate::jail::Observer;
use crate::runtime::{self, Container, Roots};
use crate::session::{End, Recorder, TraceSession};
use crate::target::Target;
use crate::text::escape;
use crate::trace::{self, Header, Probe};
use crate::{clock, host, kernel};

/// How long the end of the target is followed: its runtime removes the cgroup within that time.
const AFTER_END: Duration = Duration::from_millis(100);

/// Most bytes of the command line that the header has.
const COMMAND_BYTES: usize = 4096;

/// Trace what others started: a container, pod, unit or cgroup.
///
/// Nothing is done to the target: it is neither stopped nor signalled, and lives on when procjail ends. The trace ends
/// with the target, with --for, or with Ctrl-C.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// PID, `cgroup:PATH`, `docker:NAME`, `podman:NAME`, `containerd:NAME`, `crio:NAME`, `pod:NAMESPACE/POD/CONTAINER`,
    /// `unit:NAME.service`, or a name alone; an ID may be cut short
    #[arg(required_unless_present = "list")]
    target: Option<String>,

    /// Show what can be attached to
    #[arg(long, conflicts_with = "target")]
    list: bool,

    #[command(flatten)]
    outputs: OutputOptions,

    /// Detach after TIME, such as 90s or 10m
    #[arg(
        long = "for",
        value_name = "TIME",
        value_parser = parse_duration,
        help_heading = "Trace",
        display_order = 104
    )]
    time: Option<Duration>,

    /// Record mounts and changes of namespace too. Hooks the system calls of the whole host
    #[arg(long, help_heading = "Trace", display_order = 105)]
    mounts: bool,

    /// Record failed execs, failed calls and the end of stderr of what ends badly. Hooks the system calls of the whole
    /// host
    #[arg(long, help_heading = "Trace", display_order = 106)]
    failed_calls: bool,
}

/// Runs the command.
///
/// # Errors
///
/// There is no such target, or several; it can't be attached to.
pub fn run(args: Args) -> anyhow::Result<u8> {
    let started_ns = clock::boot_ns();
    let known = runtime::list(&Roots::default()).context("cannot read /proc")?;
    let Some(wanted) = &args.target else {
        list::list(&known, args.outputs.format)?;
        return Ok(0);
    };
    let container = runtime::resolve(&runtime::parse(wanted), &known)?;
    let target = attach::target(&container)?;
    let (outputs, sinks) = Outputs::open(&args.outputs)?;
    let watched = Watched::open(&target.view, target.pid)
        .with_context(|| format!("cannot watch {}", escape(&container.target())))?;
    let recorder = Recorder::new();
    let view = target.view.try_clone().context("out of descriptors")?;
    let (pid, start) = (target.pid, Instant::now());
    let jail = traced(&container, &target);
    let header = |probes| header(jail, probes);
    let session = TraceSession::start(&recorder, target, &args.probes(pid), None, sinks, header)?;
    // After the probes: what comes up meanwhile is in both.
    let Snapshot { found, count } = attach::snapshot(&view, pid);
    let now_ns = clock::boot_ns();
    recorder.observe(
        now_ns,
        What::Attached(Attached {
            target: container.target(),
            processes: count,
            took_ns: now_ns.saturating_sub(started_ns),
        }),
    );
    for (task, found) in found {
        recorder.found(now_ns, task, found);
    }
    if args.outputs.quiet {
        complain(format_args!(
            "attached to {}; Ctrl-C detaches",
            escape(&container.target())
        ));
    }
    let reason = attach::wait(&watched, args.time);
    let observer = session.observer();
    observer.before_removal();
    let duration_ns = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
    if reason == DetachReason::TargetEnded {
        follow(&view);
    }
    let detached = Detached {
        reason,
        processes: view.pids().len() as u64,
    };
    recorder.observe(clock::boot_ns(), What::Detached(detached));
    let report = session.finish(End {
        duration_ns,
        ..End::default()
    });
    outputs.tell(report.as_ref()).send();
    Ok(0)
}

/// Lets the runtime remove the cgroup, for a moment.
fn follow(view: &crate::cgroup::View) {
    let end = Instant::now() + AFTER_END;
    let exists = || {
        let level = view.unified().and_then(|unified| unified.levels.first());
        level.is_some_and(|level| level.exists())
    };
    while exists() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(2));
    }
}

impl Args {
    fn probes(&self, pid: u32) -> kernel::Options {
        kernel::Options {
            pid,
            syscalls: self.mounts || self.failed_calls,
            mounts: self.mounts,
            stderr_tail: self.failed_calls,
            ..kernel::Options::default()
        }
    }
}

/// What the header tells of the target.
fn traced(container: &Container, target: &Target) -> trace::Jail {
    let pid = container.pid.unwrap_or(0);
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = command.get(..COMMAND_BYTES).unwrap_or(&command);
    let words = command.strip_suffix(b"\0").unwrap_or(command);
    let words = words.split(|byte| *byte == 0);
    let pod = container.pod.as_ref();
    trace::Jail {
        name: container.name.clone(),
        command: words
            .filter(|_| !command.is_empty())
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect(),
        pid: target.pid,
        cgroup: target.cgroup.display().to_string(),
        cgroup_id: target.cgroup_id,
        memory_cgroup_id: target.view.memory_cgroup_id(),
        limits: attach::limits(&target.view),
        environment: attach::environment(pid),
        rlimits: attach::rlimits(pid),
        launcher: None,
        container: Some(trace::Container {
            kind: container.kind.word().to_owned(),
            id: container.id.clone(),
            name: container.name.clone(),
            image: container.image.clone(),
            runtime: container.runtime.clone(),
            container_name: container.container_name.clone(),
            pod: pod.map(|pod| trace::Pod {
                name: pod.name.clone().unwrap_or_default(),
                namespace: pod.namespace.clone().unwrap_or_default(),
                uid: pod.uid.clone().unwrap_or_default(),
            }),
            stop_timeout_ns: container.stop_timeout_ns,
        }),
    }
}

fn header(jail: trace::Jail, probes: Vec<Probe>) -> Header {
    let mode = crate::cgroup::HostCgroups::detect().map(|host| host.mode.to_string());
    Header::begin(host::facts(&mode.unwrap_or_default()), jail, probes)
}
