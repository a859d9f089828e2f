//! The bounded queue between whoever makes records and spans and the thread that delivers them.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::batch::{Batch, Kind};

/// How many of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Log records.
    pub logs: u64,
    /// Spans.
    pub spans: u64,
}

impl Counts {
    /// So many of a kind.
    pub(super) fn of(kind: Kind, count: u64) -> Self {
        match kind {
            Kind::Logs => Self {
                logs: count,
                spans: 0,
            },
            Kind::Spans => Self {
                logs: 0,
                spans: count,
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
    batches: VecDeque<Batch>,
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
        for batch in &self.batches {
            waiting.add(batch.counts());
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
    pub fn push(&self, batch: Batch) -> bool {
        let mut state = self.lock();
        if self.full == Full::Wait {
            let full = |state: &mut State| !state.finished && state.bytes >= self.limit_bytes;
            state = self
                .room
                .wait_while(state, full)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if state.finished || state.bytes >= self.limit_bytes {
            state.sent.dropped.add(batch.counts());
            return !state.finished;
        }
        state.bytes += batch.items.len();
        state.batches.push_back(batch);
        drop(state);
        self.work.notify_one();
        true
    }

    /// The oldest batch; `None` when nothing follows. It counts as in the queue until [`Queue::done`].
    pub async fn next(&self) -> Option<Batch> {
        loop {
            {
                let mut state = self.lock();
                if let Some(batch) = state.batches.pop_front() {
                    state.under_way = Some((batch.counts(), batch.items.len()));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn logs(count: u64, bytes: usize) -> Batch {
        Batch {
            kind: Kind::Logs,
            count,
            items: vec![0; bytes],
        }
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
        assert!(queue.push(logs(2, 100)));
        let begin = Instant::now();
        assert!(queue.push(logs(3, 1)), "somebody may deliver yet");
        assert!(begin.elapsed() < Duration::from_millis(100));
        assert_eq!(queue.sent().dropped, Counts { logs: 3, spans: 0 });
        run(async {
            assert!(queue.next().await.is_some());
            queue.done(1, Some("no".to_owned()));
        });
        assert!(queue.push(logs(4, 1)), "there is room again");
        queue.start();
        let sent = queue.wait(Some(Instant::now()));
        assert_eq!(sent.delivered, Counts { logs: 1, spans: 0 });
        assert_eq!(sent.refused, Counts { logs: 1, spans: 0 });
        assert_eq!(sent.dropped, Counts { logs: 7, spans: 0 }, "time is over");
    }

    #[test]
    fn a_files_queue_waits_until_there_is_room_or_nobody_who_delivers() {
        let queue = Queue::new(10, Full::Wait);
        assert!(queue.push(logs(1, 10)));
        let waiting = std::thread::spawn({
            let queue = Arc::clone(&queue);
            move || (queue.push(logs(1, 10)), queue.push(logs(1, 10)))
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
        queue.push(logs(1, 1));
        queue.close(Instant::now());
        run(async {
            assert!(queue.next().await.is_some());
            queue.done(0, None);
            assert!(queue.next().await.is_none());
        });
        assert_eq!(queue.wait(None).delivered.logs, 1);
    }
}
