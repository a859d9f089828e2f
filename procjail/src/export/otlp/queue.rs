//! The bounded queue between whoever makes records and spans and the thread that delivers them.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::sync::Notify;

/// Most bytes of a message, as sent, without what is the same in each: collectors take 4 MiB.
const BATCH_BYTES: usize = 1 << 20;

/// Most records or spans of a message. They are freed by another thread than made them, which costs less while
/// they are few.
const BATCH_COUNT: usize = 512;

/// How long a record waits for others while the trace is live.
const BATCH_AGE: Duration = Duration::from_secs(1);

/// What is delivered at once.
#[derive(Debug)]
pub(super) enum Batch {
    /// Log records.
    Logs(Vec<LogRecord>),
    /// Spans.
    Spans(Vec<Span>),
}

/// How many of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Log records.
    pub logs: u64,
    /// Spans.
    pub spans: u64,
}

impl Counts {
    /// Those of a batch.
    fn of(batch: &Batch) -> Self {
        match batch {
            Batch::Logs(logs) => Self {
                logs: logs.len() as u64,
                spans: 0,
            },
            Batch::Spans(spans) => Self {
                logs: 0,
                spans: spans.len() as u64,
            },
        }
    }

    /// Both together.
    pub fn total(self) -> u64 {
        self.logs.saturating_add(self.spans)
    }

    fn add(&mut self, other: Self) {
        self.logs = self.logs.saturating_add(other.logs);
        self.spans = self.spans.saturating_add(other.spans);
    }
}

/// How a delivery went so far.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    /// What the collector took.
    pub delivered: Counts,
    /// What it refused.
    pub refused: Counts,
    /// Why it did, in its own words.
    pub reason: Option<String>,
    /// What there was no room for, or no time.
    pub dropped: Counts,
    /// Why the last attempt failed; `None` if it didn't.
    pub failure: Option<String>,
}

/// What to do when there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// Wait for some: the trace is in a file, and does not run away.
    Wait,
    /// Drop and count: nothing must wait for a collector.
    Drop,
}

/// The queue.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// There is more room, or an end.
    room: Condvar,
    /// There is a batch, or an end.
    work: Notify,
    limit_bytes: usize,
    full: Full,
}

#[derive(Debug, Default)]
struct State {
    /// What is being delivered.
    under_way: Option<(Counts, usize)>,
    batches: VecDeque<(Batch, usize)>,
    bytes: usize,
    /// Until when the rest may be delivered: nothing follows.
    deadline: Option<Instant>,
    started: bool,
    finished: bool,
    sent: Sent,
}

impl State {
    /// What has not been delivered.
    fn waiting(&self) -> Counts {
        let mut waiting = self
            .under_way
            .map_or_else(Counts::default, |(counts, _)| counts);
        for (batch, _) in &self.batches {
            waiting.add(Counts::of(batch));
        }
        waiting
    }
}

impl Queue {
    /// A queue that holds so many bytes of what waits.
    pub fn new(limit_bytes: usize, full: Full) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            room: Condvar::new(),
            work: Notify::new(),
            limit_bytes,
            full,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change of the state is a single step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a batch. Tells whether there is still somebody who delivers.
    pub fn push(&self, batch: Batch, bytes: usize) -> bool {
        let mut state = self.lock();
        if self.full == Full::Wait {
            let full = |state: &mut State| !state.finished && state.bytes >= self.limit_bytes;
            state = self
                .room
                .wait_while(state, full)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if state.finished || state.bytes >= self.limit_bytes {
            state.sent.dropped.add(Counts::of(&batch));
            return !state.finished;
        }
        state.bytes += bytes;
        state.batches.push_back((batch, bytes));
        drop(state);
        self.work.notify_one();
        true
    }

    /// The oldest batch; `None` when nothing follows. It counts as in the queue until [`Queue::done`].
    pub async fn next(&self) -> Option<Batch> {
        loop {
            {
                let mut state = self.lock();
                if let Some((batch, bytes)) = state.batches.pop_front() {
                    state.under_way = Some((Counts::of(&batch), bytes));
                    return Some(batch);
                }
                if state.deadline.is_some() {
                    return None;
                }
            }
            self.work.notified().await;
        }
    }

    /// The batch went out; so many of it were refused.
    pub fn done(&self, refused: u64, reason: Option<String>) {
        let mut state = self.lock();
        let (counts, bytes) = state.under_way.take().unwrap_or_default();
        state.bytes -= bytes;
        // A batch has either of them.
        let not = Counts {
            logs: refused.min(counts.logs),
            spans: refused.min(counts.spans),
        };
        state.sent.delivered.add(Counts {
            logs: counts.logs - not.logs,
            spans: counts.spans - not.spans,
        });
        state.sent.refused.add(not);
        if reason.is_some() {
            state.sent.reason = reason;
        }
        state.sent.failure = None;
        drop(state);
        self.room.notify_all();
    }

    /// An attempt failed.
    pub fn failed(&self, failure: &str) {
        self.lock().sent.failure = Some(failure.to_owned());
    }

    /// Nothing follows, and the rest may be delivered until then.
    pub fn close(&self, deadline: Instant) {
        self.lock().deadline.get_or_insert(deadline);
        self.work.notify_one();
        self.room.notify_all();
    }

    /// Until when the rest may be delivered, once nothing follows.
    pub fn deadline(&self) -> Option<Instant> {
        self.lock().deadline
    }

    /// Waits until nothing follows, and tells until when the rest may be delivered.
    pub async fn closed(&self) -> Instant {
        loop {
            if let Some(deadline) = self.deadline() {
                return deadline;
            }
            // Told again by the next batch, which the caller does not lose: it is in the queue.
            self.work.notified().await;
        }
    }

    /// There is somebody who delivers.
    pub fn start(&self) {
        self.lock().started = true;
    }

    /// Nobody delivers any more: what waits is dropped, and told.
    pub fn finish(&self) {
        let mut state = self.lock();
        state.finished = true;
        let waiting = state.waiting();
        state.sent.dropped.add(waiting);
        state.batches.clear();
        state.under_way = None;
        state.bytes = 0;
        drop(state);
        self.room.notify_all();
    }

    /// Waits until the delivery is over, at most until then, and tells how it went. What has not been
    /// delivered by then counts as dropped.
    pub fn wait(&self, until: Option<Instant>) -> Sent {
        let mut state = self.lock();
        while state.started && !state.finished {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                break;
            }
            let left = left.unwrap_or(Duration::from_secs(1));
            (state, _) = self
                .room
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let mut sent = state.sent.clone();
        sent.dropped.add(state.waiting());
        sent
    }

    /// How it went so far.
    pub fn sent(&self) -> Sent {
        self.lock().sent.clone()
    }
}

/// Gathers records and spans in batches.
pub(super) struct Packer {
    queue: Arc<Queue>,
    logs: Pack<LogRecord>,
    spans: Pack<Span>,
}

/// Part of a batch.
struct Pack<T> {
    items: Vec<T>,
    bytes: usize,
    since: Option<Instant>,
}

impl Packer {
    /// Gathers for a queue.
    pub fn new(queue: Arc<Queue>) -> Self {
        Self {
            queue,
            logs: Pack::default(),
            spans: Pack::default(),
        }
    }

    /// Adds a record. Tells whether there is still somebody who delivers.
    pub fn log(&mut self, record: LogRecord) -> bool {
        let full = self.logs.add(record);
        self.push(full.map(|(logs, bytes)| (Batch::Logs(logs), bytes)))
    }

    /// Adds a span. Tells whether there is still somebody who delivers.
    pub fn span(&mut self, span: Span) -> bool {
        let full = self.spans.add(span);
        self.push(full.map(|(spans, bytes)| (Batch::Spans(spans), bytes)))
    }

    /// Lets go of what has waited long enough for others.
    pub fn tick(&mut self) {
        let old = |since: Option<Instant>| since.is_some_and(|since| since.elapsed() >= BATCH_AGE);
        if old(self.logs.since) || old(self.spans.since) {
            self.flush();
        }
    }

    /// Lets go of everything. Tells whether there is still somebody who delivers.
    pub fn flush(&mut self) -> bool {
        let logs = self.logs.take();
        let spans = self.spans.take();
        let logs = self.push(logs.map(|(logs, bytes)| (Batch::Logs(logs), bytes)));
        let spans = self.push(spans.map(|(spans, bytes)| (Batch::Spans(spans), bytes)));
        logs && spans
    }

    fn push(&self, batch: Option<(Batch, usize)>) -> bool {
        batch.is_none_or(|(batch, bytes)| self.queue.push(batch, bytes))
    }
}

impl<T> Default for Pack<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            bytes: 0,
            since: None,
        }
    }
}

impl<T: Message> Pack<T> {
    /// Adds an item; returns those before it if it made them too many.
    fn add(&mut self, item: T) -> Option<(Vec<T>, usize)> {
        let bytes = item.encoded_len();
        let full = self.items.len() >= BATCH_COUNT || self.bytes + bytes > BATCH_BYTES;
        let before = if full { self.take() } else { None };
        self.since.get_or_insert_with(Instant::now);
        self.bytes += bytes;
        self.items.push(item);
        before
    }

    fn take(&mut self) -> Option<(Vec<T>, usize)> {
        let Self { items, bytes, .. } = std::mem::take(self);
        (!items.is_empty()).then_some((items, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logs(count: usize) -> Batch {
        Batch::Logs(vec![LogRecord::default(); count])
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
            .block_on(future)
    }

    #[test]
    fn a_live_queue_drops_what_it_has_no_room_for_and_counts() {
        let queue = Queue::new(100, Full::Drop);
        assert!(queue.push(logs(2), 100));
        let begin = Instant::now();
        assert!(queue.push(logs(3), 1), "somebody may deliver yet");
        assert!(begin.elapsed() < Duration::from_millis(100));
        assert_eq!(queue.sent().dropped, Counts { logs: 3, spans: 0 });
        run(async {
            assert!(queue.next().await.is_some());
            queue.done(1, Some("no".to_owned()));
        });
        assert!(queue.push(logs(4), 1), "there is room again");
        queue.start();
        let sent = queue.wait(Some(Instant::now()));
        assert_eq!(sent.delivered, Counts { logs: 1, spans: 0 });
        assert_eq!(sent.refused, Counts { logs: 1, spans: 0 });
        assert_eq!(sent.dropped, Counts { logs: 7, spans: 0 }, "time is over");
    }

    #[test]
    fn a_files_queue_waits_until_there_is_room_or_nobody_who_delivers() {
        let queue = Queue::new(10, Full::Wait);
        assert!(queue.push(logs(1), 10));
        let waiting = std::thread::spawn({
            let queue = Arc::clone(&queue);
            move || (queue.push(logs(1), 10), queue.push(logs(1), 10))
        });
        run(async {
            assert!(queue.next().await.is_some());
            assert!(!waiting.is_finished());
            queue.done(0, None);
        });
        std::thread::sleep(Duration::from_millis(20));
        queue.finish();
        let (room, nobody) = waiting.join().expect("no panic");
        assert!(room && !nobody);
        assert_eq!(queue.sent().dropped.logs, 2);
    }

    #[test]
    fn nothing_follows_the_end() {
        let queue = Queue::new(10, Full::Drop);
        queue.push(logs(1), 1);
        queue.close(Instant::now());
        run(async {
            assert!(queue.next().await.is_some());
            queue.done(0, None);
            assert!(queue.next().await.is_none());
        });
        assert_eq!(queue.wait(None).delivered.logs, 1);
    }

    #[test]
    fn batches_are_bounded_in_bytes_and_number() {
        let queue = Queue::new(usize::MAX, Full::Drop);
        let mut packer = Packer::new(Arc::clone(&queue));
        let long = LogRecord {
            severity_text: "x".repeat(BATCH_BYTES / 2),
            ..LogRecord::default()
        };
        for _ in 0..3 {
            packer.log(long.clone());
        }
        for _ in 0..=BATCH_COUNT {
            packer.span(Span::default());
        }
        packer.flush();
        queue.close(Instant::now());
        let mut sizes = Vec::new();
        run(async {
            while let Some(batch) = queue.next().await {
                sizes.push(Counts::of(&batch));
                queue.done(0, None);
            }
        });
        let logs: Vec<u64> = sizes.iter().map(|size| size.logs).collect();
        let spans: Vec<u64> = sizes.iter().map(|size| size.spans).collect();
        assert_eq!(logs, [1, 1, 0, 1, 0]);
        assert_eq!(spans, [0, 0, BATCH_COUNT as u64, 0, 1]);
    }
}
