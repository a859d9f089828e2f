//! Events as log records and the jail as a trace, for a collector of OpenTelemetry.
//!
//! ```text
//! Event -> log record, span -> batch -> queue -> [exporter thread] -> collector
//! ```
//!
//! A trace file waits for the collector; a live trace never does: what there is no room for is dropped and
//! counted.

mod attributes;
mod batch;
mod collector;
mod delivery;
mod grpc;
mod ids;
mod names;
mod queue;
mod record;
mod resource;
mod spans;
#[cfg(test)]
mod tests;
mod tls;
mod transport;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::moment::Clock;
use super::{Source, SourceError, Subject};
use crate::diagnose::{Case, Explanation};
use crate::event::{Event, SignalResult, What};
use crate::text;
use crate::trace::BoxedOutput;
use crate::trace::Output;
use crate::trace::{Footer, Header};

use batch::Packer;
pub use collector::{Collector, CollectorError};
pub use queue::{Counts, Sent};
use queue::{Full, Queue};
use spans::Spans;

/// `trace_flags` of everything: it is recorded.
const SAMPLED: u32 = 1;

/// What may wait for the collector while a file is read.
const FILE_BYTES: usize = 2 << 20;

/// What may wait for the collector while a jail runs.
const LIVE_BYTES: usize = 64 << 20;

/// How long a collector that answers is waited for after the end of a live trace.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// How long one is that didn't answer last.
const SHORT_LAST_WAIT: Duration = Duration::from_millis(500);

/// Why a trace could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The trace could not be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The thread that delivers could not be made.
    #[error("cannot start the thread that exports: {0}")]
    Thread(io::Error),
    /// The collector did not take it.
    #[error("cannot deliver to {url}: {why}; delivered before: {delivered}")]
    Failed {
        /// The collector.
        url: String,
        /// Why the last attempt failed.
        why: String,
        /// What it took.
        delivered: Counts,
    },
    /// The collector took it, save for a part.
    #[error("{url} refused {refused}{}; delivered: {delivered}", because(reason))]
    Refused {
        /// The collector.
        url: String,
        /// What it refused.
        refused: Counts,
        /// Why, in its own words.
        reason: Option<String>,
        /// What it took.
        delivered: Counts,
    },
}

fn because(reason: &Option<String>) -> String {
    reason
        .as_ref()
        .map_or_else(String::new, |reason| format!(": {reason}"))
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let logs = text::plural(self.logs, "log record", "log records");
        let spans = text::plural(self.spans, "span", "spans");
        write!(f, "{logs} and {spans}")
    }
}

/// Sends a trace file with its verdicts to a collector, and waits until it has all of it.
///
/// # Errors
///
/// The trace can't be read, or the collector does not take it: it is tried again for a while, bounded.
pub fn send(
    source: &Source,
    subject: &Subject,
    collector: &Collector,
) -> Result<Counts, SendError> {
    let queue = Queue::new(FILE_BYTES, Full::Wait);
    let resource = resource::resource(&subject.case.header);
    delivery::start(&queue, collector.clone(), resource, Full::Wait).map_err(SendError::Thread)?;
    let mut output = Otlp::new(&queue, subject.explanation.gate_ns, &subject.case.header);
    let passed = source.pass_on(&mut output);
    for record in record::diagnoses(&subject.case, &subject.explanation) {
        output.packer.log(&record);
    }
    output.packer.flush();
    queue.close(Instant::now());
    let sent = queue.wait(None);
    let url = collector.to_string();
    let delivered = sent.delivered;
    match (passed, sent.failure) {
        // The output takes no more because nobody delivers.
        (_, Some(why)) => Err(SendError::Failed {
            url,
            why,
            delivered,
        }),
        (Err(error), None) => Err(error.into()),
        (Ok(()), None) if sent.refused.total() > 0 => Err(SendError::Refused {
            url,
            refused: sent.refused,
            reason: sent.reason,
            delivered,
        }),
        (Ok(()), None) => Ok(delivered),
    }
}

/// The export of a trace that is being made. It never blocks and never fails.
#[derive(Clone)]
pub struct Live {
    queue: Arc<Queue>,
    collector: Collector,
}

impl Live {
    /// An export to `collector`, to which nothing has been sent.
    pub fn new(collector: Collector) -> Self {
        Self {
            queue: Queue::new(LIVE_BYTES, Full::Drop),
            collector,
        }
    }

    /// The output for the trace. Its header starts the thread that delivers, which is to be after the
    /// jail was cloned.
    pub fn output(&self) -> BoxedOutput {
        Box::new(LiveOutput {
            live: self.clone(),
            output: None,
        })
    }

    /// Sends the verdicts, waits a little for what is under way, and tells what a user should hear if not
    /// all was delivered.
    pub fn finish(&self, explained: Option<&(Case, Explanation)>) -> Option<String> {
        if let Some((case, explanation)) = explained {
            let mut packer = Packer::new(Arc::clone(&self.queue));
            for record in record::diagnoses(case, explanation) {
                packer.log(&record);
            }
            packer.flush();
        }
        let wait = match self.queue.sent().failure {
            None => LAST_WAIT,
            Some(_) => SHORT_LAST_WAIT,
        };
        let deadline = Instant::now() + wait;
        self.queue.close(deadline);
        let sent = self.queue.wait(Some(deadline));
        let mut missing = Vec::new();
        if sent.refused.total() > 0 {
            missing.push(format!(
                "it refused {}{}",
                sent.refused,
                because(&sent.reason)
            ));
        }
        if sent.dropped.total() > 0 {
            let why = sent.failure.as_deref().unwrap_or("it is too slow");
            missing.push(format!("{} were not delivered: {why}", sent.dropped));
        }
        (!missing.is_empty()).then(|| {
            let (url, missing) = (&self.collector, missing.join("; "));
            format!("the trace at {url} is not whole: {missing}; what was traced was not affected")
        })
    }
}

struct LiveOutput {
    live: Live,
    output: Option<Otlp>,
}

impl LiveOutput {
    fn each(&mut self, action: impl FnOnce(&mut Otlp)) -> io::Result<()> {
        if let Some(output) = &mut self.output {
            action(output);
        }
        Ok(())
    }
}

impl Output for LiveOutput {
    fn header(&mut self, header: &Header) -> io::Result<()> {
        let (queue, collector) = (&self.live.queue, self.live.collector.clone());
        let resource = resource::resource(header);
        match delivery::start(queue, collector, resource, Full::Drop) {
            Ok(()) => {}
            Err(error) => {
                queue.failed(&format!("no thread for it: {error}"));
                queue.finish();
            }
        }
        self.output = Some(Otlp::begin(queue, header));
        Ok(())
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        self.each(|output| output.add(event))
    }

    fn footer(&mut self, footer: Option<&Footer>) -> io::Result<()> {
        self.each(|output| output.end(footer))
    }

    fn tick(&mut self) -> io::Result<()> {
        self.each(|output| output.packer.tick())
    }
}

/// Turns a trace into records and spans.
struct Otlp {
    queue: Arc<Queue>,
    packer: Packer,
    spans: Spans,
    ids: ids::Ids,
    clock: Clock,
    /// There is somebody who delivers.
    heard: bool,
}

impl Otlp {
    fn begin(queue: &Arc<Queue>, header: &Header) -> Self {
        Self {
            queue: Arc::clone(queue),
            packer: Packer::new(Arc::clone(queue)),
            spans: Spans::new(header),
            ids: ids::Ids::of(header),
            clock: Clock::of(header),
            heard: true,
        }
    }

    fn new(queue: &Arc<Queue>, gate_ns: u64, header: &Header) -> Self {
        let mut output = Self::begin(queue, header);
        output.clock.gate(gate_ns);
        output
    }

    fn add(&mut self, event: &Event) {
        if let What::GateOpened(_) = &event.what {
            self.clock.gate(event.time_ns);
        }
        let span = self.spans.event(event, &self.clock);
        self.heard = self
            .packer
            .log(&record::event(event, span, &self.ids, &self.clock));
        self.pass_spans();
    }

    fn end(&mut self, footer: Option<&Footer>) {
        let unsent = self.queue.sent().dropped.total();
        self.spans.finish(footer, unsent, &self.clock);
        self.pass_spans();
        self.heard = self.packer.flush();
    }

    fn pass_spans(&mut self) {
        for span in self.spans.take() {
            self.heard &= self.packer.span(&span);
        }
    }

    /// An error if nobody delivers.
    fn heard(&self) -> io::Result<()> {
        if self.heard {
            return Ok(());
        }
        Err(io::Error::other("the collector takes no more"))
    }
}

impl Output for Otlp {
    fn header(&mut self, _header: &Header) -> io::Result<()> {
        Ok(())
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        self.add(event);
        self.heard()
    }

    fn footer(&mut self, footer: Option<&Footer>) -> io::Result<()> {
        self.end(footer);
        self.heard()
    }
}

/// The name of a result, as a trace has it.
fn result_name(result: SignalResult) -> &'static str {
    match result {
        SignalResult::Delivered => "delivered",
        SignalResult::Ignored => "ignored",
        SignalResult::AlreadyPending => "already-pending",
        SignalResult::OverflowFail => "overflow-fail",
        SignalResult::LoseInfo => "lose-info",
        SignalResult::Unknown => "unknown",
    }
}
