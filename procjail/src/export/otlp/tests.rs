//! What a trace becomes: records and spans, of traces whole, cut, lossy and hostile.

use std::collections::HashSet;

use opentelemetry_proto::tonic::logs::v1::{LogRecord, ScopeLogs};
use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span};
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::event::{Exec, Exit, ExitStatus, Fork, Task, Teardown, story};
use batch::Kind;

/// All that a trace becomes.
fn exported(
    header: &Header,
    events: &[Event],
    footer: Option<&Footer>,
) -> (Vec<LogRecord>, Vec<Span>) {
    let queue = Queue::new(usize::MAX, Full::Drop);
    let mut output = Otlp::begin(&queue, header);
    for event in events {
        output.event(event).expect("it takes all");
    }
    output.footer(footer).expect("it takes all");
    queue.close(Instant::now());
    let (mut logs, mut spans) = (Vec::new(), Vec::new());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        while let Some(batch) = queue.next().await {
            let scope = &*batch.items;
            match batch.kind {
                Kind::Logs => logs.extend(ScopeLogs::decode(scope).expect("logs").log_records),
                Kind::Spans => spans.extend(ScopeSpans::decode(scope).expect("spans").spans),
            }
            queue.done(0, None);
        }
    });
    (logs, spans)
}

/// Every span once, below one that is there, in order of time; every record in one.
fn check(logs: &[LogRecord], spans: &[Span]) {
    let mut ids = HashSet::new();
    for span in spans {
        assert!(ids.insert(span.span_id.clone()), "twice: {span:?}");
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
    }
    for span in spans {
        let parent = &span.parent_span_id;
        assert!(parent.is_empty() || ids.contains(parent), "{span:?}");
    }
    let (root, parts): (Vec<&Span>, _) = spans
        .iter()
        .partition(|span| span.parent_span_id.is_empty());
    assert_eq!(root.len(), 1);
    for part in parts {
        let within = root[0].start_time_unix_nano <= part.start_time_unix_nano
            && part.end_time_unix_nano <= root[0].end_time_unix_nano;
        assert!(within, "{part:?} is not within {root:?}");
    }
    for log in logs {
        assert!(ids.contains(&log.span_id), "{log:?}");
    }
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let found = spans.iter().find(|span| span.name == name);
    found.unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn a_trace_becomes_spans_below_each_other_and_a_record_for_each_event() {
    let (events, footer) = story::trace();
    let header = story::header_line();
    let (logs, spans) = exported(&header, &events, Some(&footer));
    check(&logs, &spans);
    assert_eq!(logs.len(), events.len());
    let root = named(&spans, "jail");
    let below = |span: &&Span| span.parent_span_id == root.span_id;
    let mut first = spans.iter().filter(below);
    let init = first.find(|span| span.name == "sh").expect("PID 1");
    assert_eq!(named(&spans, "python3").parent_span_id, init.span_id);
    assert_eq!(named(&spans, "set-up").parent_span_id, root.span_id);
    // Times are the wall clock's.
    let first = &events[0];
    let expected = header.start_unix_ns + first.time_ns - header.start_boot_ns;
    assert_eq!(logs[0].time_unix_nano, expected);
    // The same again is the same.
    assert_eq!(exported(&header, &events, Some(&footer)), (logs, spans));
}

#[test]
fn a_trace_that_ends_anywhere_is_whole_as_far_as_it_goes() {
    let (events, _) = story::trace();
    for length in 0..events.len() {
        let (logs, spans) = exported(&story::header_line(), &events[..length], None);
        check(&logs, &spans);
        assert_eq!(logs.len(), length);
    }
}

#[test]
fn a_trace_with_holes_is_whole_as_far_as_it_goes() {
    let (events, footer) = story::trace();
    for step in 2..7 {
        for offset in 0..step {
            let rest: Vec<Event> = events.iter().skip(offset).step_by(step).cloned().collect();
            let (logs, spans) = exported(&story::header_line(), &rest, Some(&footer));
            check(&logs, &spans);
        }
    }
}

fn event(time_ns: u64, task: &Task, what: What) -> Event {
    Event {
        seq: 1,
        time_ns,
        task: task.clone(),
        what,
    }
}

#[test]
fn data_of_programs_is_bounded_and_harmless_where_it_is_shown() {
    let header = story::header_line();
    let name = "<b>\u{1b}[31m\"=1+1\u{202e}\u{fffd}".to_owned();
    let task = Task {
        pid: 7,
        tid: 7,
        jail_pid: Some(1),
        comm: name.clone(),
        start_ns: header.start_boot_ns + 5,
        in_jail: true,
        cgroup_id: 1,
    };
    let exec = Exec {
        filename: name.repeat(10_000),
        argv: vec![name.repeat(10_000); 500],
        argv_truncated: false,
        argv_bytes: 0,
        signals: None,
    };
    let failed = Teardown {
        step: name.clone(),
        duration_ns: u64::MAX,
        error: Some(name),
    };
    let events = [
        event(header.start_boot_ns + 6, &task, What::Exec(exec)),
        event(header.start_boot_ns + 7, &task, What::Teardown(failed)),
    ];
    let (logs, spans) = exported(&header, &events, None);
    check(&logs, &spans);
    for log in &logs {
        assert!(log.encoded_len() < 1 << 20, "{}", log.encoded_len());
        let body = format!("{:?}", log.body);
        assert!(
            !body.contains("\\u{1b}[31m\\u{202e}") && !body.contains('\u{202e}'),
            "{body}"
        );
    }
    for span in &spans {
        assert!(span.encoded_len() < 2 << 20, "{}", span.encoded_len());
        assert!(!span.name.contains(['\u{1b}', '\u{202e}']), "{}", span.name);
    }
}

#[test]
fn a_storm_of_processes_is_forgotten_as_it_goes() {
    const LAST: u32 = 70_000;
    let mut header = story::header_line();
    header.jail.launcher.get_or_insert_default().pid = LAST + 1;
    let process = |pid| Task {
        pid,
        tid: pid,
        jail_pid: Some(pid),
        comm: "sh".to_owned(),
        start_ns: header.start_boot_ns + u64::from(pid),
        in_jail: true,
        cgroup_id: 1,
    };
    let init = process(1);
    let mut spans = Spans::new(&header);
    let clock = Clock::of(&header);
    let mut seen = 0;
    for pid in 2..=LAST {
        let time_ns = header.start_boot_ns + 10 * u64::from(pid);
        let fork = Fork {
            child: process(pid),
            thread: false,
            signals: None,
        };
        spans.event(&event(time_ns, &init, What::Fork(fork)), &clock);
        let exit = Exit {
            status: ExitStatus {
                code: Some(0),
                ..ExitStatus::default()
            },
            process: true,
            parent: init.clone(),
            max_rss_bytes: 0,
            user_ns: 0,
            system_ns: 0,
            lifetime_ns: 0,
            argument: None,
            process_group: 0,
            session: 0,
            tracer: None,
        };
        spans.event(&event(time_ns + 1, &process(pid), What::Exit(exit)), &clock);
        let over = spans.take();
        assert_eq!(over.len(), 1, "{pid}");
        seen += over.len();
    }
    spans.finish(None, 0, &clock);
    assert_eq!(spans.take().len(), 2, "PID 1 and the jail");
    assert_eq!(seen, LAST as usize - 1);
    assert!(spans.followed() <= 1 << 16);
}

proptest! {
    /// No time, number or relation of tasks makes it panic, and what comes out is decodable.
    #[test]
    fn nothing_makes_it_panic(
        start_boot_ns in any::<u64>(), start_unix_ns in any::<u64>(),
        times in proptest::collection::vec(any::<u64>(), 1..20), pids in any::<[u32; 4]>(),
    ) {
        let mut header = story::header_line();
        (header.start_boot_ns, header.start_unix_ns) = (start_boot_ns, start_unix_ns);
        let (story, mut footer) = story::trace();
        footer.end_boot_ns = start_unix_ns;
        let events: Vec<Event> = story
            .into_iter()
            .enumerate()
            .map(|(index, mut event)| {
                event.time_ns = times[index % times.len()];
                event.task.pid = pids[index % pids.len()];
                event
            })
            .collect();
        let (logs, spans) = exported(&header, &events, Some(&footer));
        for log in &logs {
            prop_assert_eq!(&LogRecord::decode(&*log.encode_to_vec()).expect("valid"), log);
        }
        for span in &spans {
            prop_assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
        }
    }
}
