//! How fast records become events and files events again:
//! `cargo test --release -p procjail throughput -- --ignored --nocapture`.

use std::path::Path;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::*;
use crate::event::{Enricher, Task, decode, fixture, story};
use crate::render::Output;

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
