//! A trace in the making: probes, evidence, leak watch and outputs, started and ended together.

use std::io;
use std::sync::Arc;

use super::{Alarm, End, Recorder, Report, Session, Sink};
use crate::event::LeakCheck;
use crate::evidence::{Witness, kmsg};
use crate::jail::Observer;
use crate::kernel::{self, Tracer};
use crate::leak;
use crate::names::io_error;
use crate::target::Target;
use crate::trace::{Header, Probe};

/// What keeps a trace from being made.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The files that tell the target's state can't be opened.
    #[error("cannot open what tells the state of the target")]
    Evidence(#[source] io::Error),
    /// What is left can't be watched for.
    #[error("cannot start to watch what the jail leaves")]
    Leaks(#[source] io::Error),
    /// The probes can't be attached.
    #[error(transparent)]
    Probes(#[from] kernel::Error),
    /// An output refused the header.
    #[error("cannot write the trace to {name}")]
    Output {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// No threads or descriptors are to be had.
    #[error("cannot start the threads that record the trace")]
    Threads(#[source] io::Error),
}

/// A trace in the making. Dropping it detaches the probes.
pub struct TraceSession {
    tracer: Tracer,
    session: Session,
    witness: Arc<Witness>,
    leaks: Option<Arc<leak::Watch>>,
}

/// What a jail may leave, looked at before there was one.
pub struct Leaks {
    /// The host before the jail.
    pub seen: leak::Seen,
    /// Whether the jail's mounts reach the host.
    pub passing: leak::Passing,
}

impl TraceSession {
    /// Attaches the probes, and starts the threads that read the evidence and feed the outputs. `header` makes the
    /// trace's first line when it is known which probes are attached.
    ///
    /// # Errors
    ///
    /// Each says what can be done. Nothing is left attached then.
    pub fn start(
        recorder: &Recorder,
        target: Target,
        probes: &kernel::Options,
        leaks: Option<Leaks>,
        mut sinks: Vec<Sink>,
        header: impl FnOnce(Vec<Probe>) -> Header,
    ) -> Result<TraceSession, StartError> {
        let log = kmsg::open();
        let no_log = log.as_ref().err().map(io_error);
        let copy = leaks.is_some().then(|| target.view.try_clone()).transpose();
        let copy = copy.map_err(|errno| StartError::Leaks(errno.into()))?;
        let witness = Witness::start(
            Arc::new(recorder.clone()),
            target.view,
            target.pid,
            log.ok(),
        );
        let witness = Arc::new(witness.map_err(StartError::Evidence)?);
        let leaks = leaks.zip(copy).map(|(leaks, view)| {
            let next: Arc<dyn Observer + Send + Sync> = Arc::clone(&witness) as _;
            let listener = Arc::new(recorder.clone());
            leak::Watch::start(listener, next, leaks.seen, leaks.passing, view, target.pid)
        });
        let leaks = leaks.transpose().map_err(StartError::Leaks)?.map(Arc::new);
        let mut tracer = Tracer::attach(target.cgroup_id, target.cgroup_level, probes)?;
        let reader = tracer
            .take_reader()
            .ok_or_else(|| StartError::Threads(io::ErrorKind::NotFound.into()))?;
        let mut found = tracer.probes();
        found.push(Probe {
            name: kmsg::NAME.into(),
            attached: no_log.is_none(),
            error: no_log.map(|error| format!("cannot open /dev/kmsg: {error}")),
            provides: kmsg::PROVIDES.into(),
        });
        let header = header(found);
        for sink in &mut sinks {
            sink.output
                .header(&header)
                .map_err(|error| StartError::Output {
                    name: sink.name.clone(),
                    error,
                })?;
        }
        let alarm = alarm(witness.alarm(), leaks.as_ref().map(|leaks| leaks.bell()));
        let session = Session::start(recorder, reader, sinks, alarm);
        Ok(TraceSession {
            tracer,
            session: session.map_err(StartError::Threads)?,
            witness,
            leaks,
        })
    }

    /// Who is to be told of what is done to the target.
    pub fn observer(&self) -> Arc<dyn Observer + Send + Sync> {
        match &self.leaks {
            Some(leaks) => Arc::clone(leaks) as _,
            None => Arc::clone(&self.witness) as _,
        }
    }

    /// What the jail left, when it is removed; none if nobody watches for that.
    pub fn check_leaks(&self) -> Option<LeakCheck> {
        self.leaks.as_ref().map(|leaks| leaks.check())
    }

    /// Writes what is left and the footer, and detaches the probes. `None` if the outputs took nothing for so long that
    /// they were given up.
    pub fn finish(self, end: End) -> Option<Report> {
        let tracer = self.tracer;
        self.session.finish(|| tracer.lost(), end)
    }
}

/// Passes on what the kernel tells to whom it concerns.
fn alarm(
    oom_kill: impl Fn() + Send + 'static,
    bell: Option<leak::Bell>,
) -> impl Fn(Alarm) + Send + 'static {
    move |alarm| match (alarm, &bell) {
        (Alarm::OomKill, _) => oom_kill(),
        (Alarm::Mounts, Some(bell)) => bell.changed(),
        (Alarm::Unmount(unmount), Some(bell)) => bell.unmount(*unmount),
        (Alarm::Mounts | Alarm::Unmount(_), None) => {}
    }
}
