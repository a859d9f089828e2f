//! The thread that delivers: again and again what fails, and not for ever.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::resource::v1::Resource;

use super::collector::Collector;
use super::queue::{Full, Queue};
use super::transport::{Accepted, Failure, Parcel, Retry, Transport};
use crate::text;

/// Pause after the first failure; it doubles with each.
const PAUSE: Duration = Duration::from_millis(100);

/// Longest pause, unless the collector asks for a longer one.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How many attempts' time may go without progress before the export of a file is given up; where nobody
/// is reached, it is one.
const ATTEMPTS: u32 = 3;

/// Starts to deliver what comes into `queue`. When it is over, by the queue's end or by a failure that
/// ends it, the queue knows.
///
/// # Errors
///
/// The thread could not be made.
pub(super) fn start(
    queue: &Arc<Queue>,
    collector: Collector,
    resource: Resource,
    full: Full,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    thread::Builder::new().name("exporter".into()).spawn({
        let queue = Arc::clone(queue);
        move || {
            crate::thread::stand_back();
            let _end = End(&queue);
            runtime.block_on(async {
                let transport = Transport::new(&collector, resource);
                let delivery = Delivery {
                    queue: &queue,
                    transport,
                    attempt: collector.attempt,
                    full,
                };
                delivery.run().await;
            });
        }
    })?;
    queue.start();
    Ok(())
}

/// Tells the queue that nobody delivers any more.
struct End<'a>(&'a Queue);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.finish();
    }
}

struct Delivery<'a> {
    queue: &'a Queue,
    transport: Transport,
    attempt: Duration,
    full: Full,
}

impl Delivery<'_> {
    async fn run(&self) {
        while let Some(batch) = self.queue.next().await {
            let parcel = self.transport.parcel(&batch);
            match self.deliver(&parcel).await {
                Some(Accepted { refused, reason }) => self.queue.done(refused, reason),
                None => return,
            }
        }
    }

    /// Delivers one batch. `None` if there is no more point in it, of which the queue knows the reason.
    async fn deliver(&self, parcel: &Parcel) -> Option<Accepted> {
        let since = Instant::now();
        let mut pause = PAUSE;
        loop {
            let failure = match self.attempt(parcel).await? {
                Ok(accepted) => return Some(accepted),
                Err(failure) => failure,
            };
            self.queue.failed(&failure.what);
            let wait = match failure.retry {
                // What a live trace can't deliver now is no reason to drop what comes later.
                Retry::Never if self.full == Full::Drop => {
                    return Some(Accepted {
                        refused: u64::MAX,
                        reason: Some(failure.what),
                    });
                }
                Retry::Never => return None,
                Retry::After(wait) => wait.max(pause),
                Retry::Unreached | Retry::Soon => pause,
            };
            let patience = match failure.retry {
                Retry::Unreached => self.attempt,
                _ => ATTEMPTS * self.attempt,
            };
            if self.full == Full::Wait && since.elapsed() + wait > patience {
                self.give_up(&failure, wait, since.elapsed());
                return None;
            }
            if self.full == Full::Drop {
                // Nobody was there, and the trace is over: nobody will be.
                if self.queue.deadline().is_some() && failure.retry == Retry::Unreached {
                    return None;
                }
                self.rest(wait).await?;
            } else {
                tokio::time::sleep(wait).await;
            }
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
    }

    /// One attempt; `None` if the time is over.
    async fn attempt(&self, parcel: &Parcel) -> Option<Result<Accepted, Failure>> {
        tokio::select! {
            outcome = self.transport.send(parcel) => Some(outcome),
            () = self.over() => None,
        }
    }

    /// Pauses, though not beyond the end of the trace, after which there is one more attempt; `None` if
    /// the time is over.
    async fn rest(&self, wait: Duration) -> Option<()> {
        match self.queue.deadline() {
            Some(deadline) if Instant::now() + wait >= deadline => None,
            Some(_) => {
                tokio::time::sleep(wait).await;
                Some(())
            }
            None => tokio::select! {
                () = tokio::time::sleep(wait) => Some(()),
                _ = self.queue.closed() => Some(()),
            },
        }
    }

    /// Returns when the time that is left after the end of a live trace is over.
    async fn over(&self) {
        if self.full == Full::Wait {
            std::future::pending::<()>().await;
        }
        let deadline = self.queue.closed().await;
        tokio::time::sleep_until(deadline.into()).await;
    }

    fn give_up(&self, failure: &Failure, wait: Duration, tried: Duration) {
        let what = match failure.retry {
            Retry::After(_) => format!(
                "{}, and asks to come again in {}",
                failure.what,
                text::duration(wait.as_nanos() as u64)
            ),
            _ => format!(
                "{}; tried for {}",
                failure.what,
                text::duration(tried.as_nanos() as u64)
            ),
        };
        self.queue.failed(&what);
    }
}
