//! How fast records become events and files events again:
//! `cargo test --release -p procjail throughput -- --ignored --nocapture`.

use std::io;
use std::path::Path;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::*;
use crate::diagnose::Builder;
use crate::event::{Enricher, Event, Record, Task, decode, fixture, story};
use crate::render::{Look, Timeline};
use crate::trace::Output;

const RECORDS: usize = 1_000_000;

/// Bytes of records, as in a storm: signals and short-lived processes.
fn storm() -> Vec<Vec<u8>> {
    story::records().iter().map(fixture::encode).collect()
}

/// CPU time of this thread, which other work on the machine doesn't change.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .expect("a clock")
        .into()
}

fn enricher() -> Enricher {
    Enricher::new(Task::default(), 4096)
}

#[test]
#[ignore = "measures; only a release build tells anything"]
fn throughput_of_decoding_and_enriching() {
    let storm = storm();
    let mut enricher = enricher();
    let mut made = 0u64;
    let start = cpu_time();
    for bytes in storm.iter().cycle().take(RECORDS) {
        let record = decode(bytes).expect("a record");
        made += u64::from(enricher.record(record).is_some());
    }
    let took = cpu_time() - start;
    let rate = RECORDS as f64 / took.as_secs_f64();
    println!("{RECORDS} records to {made} events in {took:?}: {rate:.0} a second");
    assert!(rate >= 1e6);
}

#[test]
#[ignore = "measures; only a release build tells anything"]
fn throughput_of_writing_and_reading() {
    for name in ["a.jsonl", "a.zst"] {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join(name);
        let (events, footer) = story::trace();
        let mut writer = Writer::create(Path::new(&path)).expect("writer");
        writer.header(&story::header_line()).expect("header");
        let start = cpu_time();
        for event in events.iter().cycle().take(RECORDS) {
            writer.event(event).expect("event");
        }
        writer.footer(Some(&footer)).expect("footer");
        let wrote = cpu_time() - start;
        let size = std::fs::metadata(&path).expect("there").len();
        let start = cpu_time();
        let read = open(&path)
            .expect("readable")
            .filter_map(Result::ok)
            .count();
        let took = cpu_time() - start;
        println!(
            "{name}: {RECORDS} events, {} MiB, written in {wrote:?}, read in {took:?}",
            size >> 20
        );
        assert_eq!(read, RECORDS);
        assert!(took.as_secs_f64() < 2.0);
    }
}

/// A process that sends itself a signal again and again: two events each.
fn signals() -> Vec<Vec<u8>> {
    let app = fixture::task(1, "misbehave");
    let mut records = Vec::new();
    for n in 0..200 {
        let time_ns = fixture::GATE_NS + n * 2_000;
        let sent = fixture::sent(time_ns, app, app, libc::SIGUSR1);
        records.push(fixture::encode(&Record::SignalGenerated(sent)));
        let taken = fixture::delivered(time_ns + 700, app, libc::SIGUSR1);
        records.push(fixture::encode(&Record::SignalDelivered(taken)));
    }
    records
}

/// What one event of a storm of signals costs, in the decoder and in each output by itself.
#[test]
#[ignore = "measures; only a release build tells anything"]
fn price_of_a_signal() {
    let records = signals();
    let mut enricher = enricher();
    let start = cpu_time();
    let mut made = 0;
    for bytes in records.iter().cycle().take(RECORDS) {
        let record = decode(bytes).expect("a record");
        made += usize::from(enricher.record(record).is_some());
    }
    let took = cpu_time() - start;
    assert_eq!(made, RECORDS);
    println!("decoded and enriched: {} ns", per_event(took));

    let mut enricher = self::enricher();
    let events: Vec<Event> = records
        .iter()
        .filter_map(|bytes| enricher.record(decode(bytes).expect("a record")))
        .collect();
    let look = Look::default();
    let plain = Writer::new(io::sink(), Path::new("a.jsonl")).expect("a writer");
    let packed = Writer::new(io::sink(), Path::new("a.zst")).expect("a writer");
    let outputs: [(&str, Box<dyn Output>); 4] = [
        ("case", Box::new(Builder::new())),
        ("timeline", Box::new(Timeline::new(io::sink(), look))),
        ("file", Box::new(plain)),
        ("compressed file", Box::new(packed)),
    ];
    for (name, mut output) in outputs {
        output.header(&story::header_line()).expect("header");
        let start = cpu_time();
        for event in events.iter().cycle().take(RECORDS) {
            output.event(event).expect("event");
        }
        println!("{name}: {} ns", per_event(cpu_time() - start));
    }
}

fn per_event(took: Duration) -> u128 {
    took.as_nanos() / RECORDS as u128
}
