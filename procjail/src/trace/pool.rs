//! Parsing a long trace on all processors.
//!
//! One thread cuts the file into batches of whole lines and hands them out in turn; the parsers hand
//! back what is in them, and the batches are taken up again in the same turn, so the order stays.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::ReadError;
use super::lines::{Line, Lines};
use super::read::Parsed;

/// Bytes of one batch.
const BATCH_BYTES: usize = 256 << 10;
/// Batches that may wait on either side of a parser.
const WAITING: usize = 2;
/// More parsers than this would wait for the one who reads.
const PARSERS: usize = 4;

/// Lines as they were read.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    /// Where each line ends in `bytes`, and what it is.
    lines: Vec<(usize, Line)>,
    /// Reading failed after these.
    error: Option<ReadError>,
}

/// The threads, as their taker sees them.
pub(super) struct Pool {
    parsed: Vec<Receiver<Vec<Result<Parsed, ReadError>>>>,
    turn: usize,
    batch: std::vec::IntoIter<Result<Parsed, ReadError>>,
}

impl Pool {
    /// Starts to read ahead. The threads end with the input, or when the pool is dropped.
    pub(super) fn start(lines: Lines) -> Self {
        let count = thread::available_parallelism().map_or(1, |count| count.get().min(PARSERS));
        let mut raw = Vec::new();
        let mut parsed = Vec::new();
        for _ in 0..count {
            let (to_parser, batches) = sync_channel::<Batch>(WAITING);
            let (to_taker, taken) = sync_channel(WAITING);
            raw.push(to_parser);
            parsed.push(taken);
            thread::spawn(move || {
                for batch in batches {
                    if to_taker.send(parse(batch)).is_err() {
                        return;
                    }
                }
            });
        }
        thread::spawn(move || read(lines, &raw));
        Self {
            parsed,
            turn: 0,
            batch: Vec::new().into_iter(),
        }
    }

    /// The next line.
    pub(super) fn next(&mut self) -> Result<Parsed, ReadError> {
        loop {
            if let Some(parsed) = self.batch.next() {
                return parsed;
            }
            let turn = self.turn % self.parsed.len().max(1);
            let Some(Ok(batch)) = self.parsed.get(turn).map(Receiver::recv) else {
                return Ok(Parsed::End);
            };
            self.turn += 1;
            self.batch = batch.into_iter();
        }
    }
}

/// Cuts the input into batches, until its end or until nobody wants more.
fn read(mut lines: Lines, parsers: &[SyncSender<Batch>]) {
    for parser in parsers.iter().cycle() {
        let mut batch = Batch::default();
        let mut more = true;
        while more && batch.bytes.len() < BATCH_BYTES {
            match lines.next_line() {
                Ok(kind) => {
                    batch.bytes.extend_from_slice(&lines.line);
                    batch.lines.push((batch.bytes.len(), kind));
                    more = kind == Line::Whole;
                }
                Err(error) => {
                    batch.error = Some(error);
                    more = false;
                }
            }
        }
        if parser.send(batch).is_err() || !more {
            return;
        }
    }
}

fn parse(batch: Batch) -> Vec<Result<Parsed, ReadError>> {
    let mut start = 0;
    let mut parsed: Vec<_> = batch
        .lines
        .iter()
        .map(|(end, kind)| {
            let line = batch.bytes.get(start..*end).unwrap_or_default();
            start = *end;
            Ok(Parsed::of(*kind, line))
        })
        .collect();
    parsed.extend(batch.error.map(Err));
    parsed
}
