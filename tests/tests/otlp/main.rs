//! `procjail export --to otlp` against a receiver that speaks the protocol, and against what goes wrong with
//! one.

mod tls;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::trace::v1::Span;
use procjail_tests::collector::{Answer, Collector, Received, attribute, nobody, shown};
use procjail_tests::{Finished, Invocation, procjail};

fn recorded(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../procjail/tests/traces")
        .join(format!("{name}.jsonl.zst"))
}

/// Exports a recorded trace, with attempts of half a second.
fn export(name: &str, url: &str, variables: &[(&str, &str)]) -> Finished {
    export_file(&recorded(name), url, variables)
}

fn export_file(path: &Path, url: &str, variables: &[(&str, &str)]) -> Finished {
    let directory = tempfile::tempdir().expect("a directory");
    let path = path.display().to_string();
    let mut invocation = Invocation::new(procjail(), directory.path())
        .args(&["export", &path, "--to", "otlp"])
        .env("OTEL_EXPORTER_OTLP_TIMEOUT", "500");
    if !url.is_empty() {
        invocation = invocation.args(&["-o", url]);
    }
    for (name, value) in variables {
        invocation = invocation.env(name, value);
    }
    invocation.finish()
}

/// Everything holds together, whatever the trace.
fn check_whole(received: &Received) {
    let trace = &received.spans[0].trace_id;
    assert_eq!(trace.len(), 16);
    let mut ids = HashSet::new();
    for span in &received.spans {
        assert_eq!(&span.trace_id, trace);
        assert!(ids.insert(span.span_id.clone()), "twice: {span:?}");
        assert!(
            span.start_time_unix_nano <= span.end_time_unix_nano,
            "{span:?}"
        );
    }
    let roots: Vec<&Span> = received
        .spans
        .iter()
        .filter(|span| span.parent_span_id.is_empty())
        .collect();
    assert_eq!(roots.len(), 1, "{roots:?}");
    for span in &received.spans {
        let parent = &span.parent_span_id;
        assert!(
            parent.is_empty() || ids.contains(parent),
            "no parent: {span:?}"
        );
    }
    for log in &received.logs {
        assert_eq!(&log.trace_id, trace);
        assert!(ids.contains(&log.span_id), "no span: {log:?}");
        assert!(
            !log.event_name.is_empty() && log.time_unix_nano > 0,
            "{log:?}"
        );
    }
}

fn span<'a>(received: &'a Received, name: &str) -> &'a Span {
    let mut found = received.spans.iter().filter(|span| span.name == name);
    let first = found.next().unwrap_or_else(|| {
        let names: Vec<&str> = received.spans.iter().map(|span| &*span.name).collect();
        panic!("no span {name} among {names:?}")
    });
    assert!(found.next().is_none(), "two spans {name}");
    first
}

fn check_oom(received: &Received) {
    check_whole(received);
    let kill = received
        .logs
        .iter()
        .find(|log| log.event_name == "procjail.oom-kill")
        .expect("the kill");
    assert_eq!(kill.severity_text, "ERROR");
    let body = kill.body.as_ref().map(shown).unwrap_or_default();
    assert!(body.starts_with("OOM kill of "), "{body}");
    let victim = attribute(&kill.attributes, "procjail.target.pid");
    let verdict = received
        .logs
        .iter()
        .find(|log| log.event_name == "procjail.diagnosis")
        .expect("a verdict");
    assert_eq!(
        attribute(&verdict.attributes, "procjail.diagnosis.id"),
        "oom-own-limit"
    );
    assert_eq!(
        attribute(&verdict.attributes, "procjail.diagnosis.confidence"),
        "proven"
    );
    assert!(!attribute(&verdict.attributes, "procjail.diagnosis.evidence").is_empty());
    assert_eq!(attribute(&verdict.attributes, "process.pid"), victim);

    let root = span(received, "jail");
    assert_eq!(root.status.as_ref().map(|status| status.code), Some(2));
    let (set_up, teardown) = (span(received, "set-up"), span(received, "teardown"));
    for part in [set_up, teardown] {
        assert_eq!(part.parent_span_id, root.span_id);
    }
    let steps = received
        .spans
        .iter()
        .filter(|span| span.parent_span_id == teardown.span_id);
    assert!(steps.count() > 1);
    let died = received
        .spans
        .iter()
        .find(|span| attribute(&span.attributes, "process.pid") == victim)
        .expect("the victim's span");
    assert_eq!(
        attribute(&died.attributes, "procjail.signal.name"),
        "SIGKILL"
    );
    assert!(
        died.events
            .iter()
            .any(|event| event.name == "procjail.oom-kill")
    );
    assert_eq!(verdict.span_id, died.span_id);
}

#[test]
fn a_trace_arrives_over_http_and_over_grpc_alike() {
    let collector = Collector::start();
    let finished = export("oom-own-limit", &collector.http(), &[]).expect_code(0);
    assert!(finished.stderr.contains("has taken"), "{}", finished.stderr);
    assert!(finished.stdout.is_empty());
    let http = collector.received();
    check_oom(&http);

    let collector = Collector::start();
    export("oom-own-limit", &collector.grpc(), &[]).expect_code(0);
    let grpc = collector.received();
    check_oom(&grpc);
    // Whenever and however it is exported, it is the same.
    assert_eq!(http.logs, grpc.logs);
    assert_eq!(http.spans, grpc.spans);
}

#[test]
fn messages_are_compressed_if_the_environment_says_so() {
    for grpc in [false, true] {
        let collector = Collector::start();
        let url = &collector.addresses()[usize::from(grpc)];
        let compression = |value| [("OTEL_EXPORTER_OTLP_COMPRESSION", value)];
        export("exit-own-code", url, &compression("none")).expect_code(0);
        let plain = collector.received();
        assert!(plain.compressed.is_empty());
        export("exit-own-code", url, &compression("gzip")).expect_code(0);
        let both = collector.received();
        let messages = both.requests.len() - plain.requests.len();
        assert_eq!(both.compressed, vec!["gzip"; messages]);
        assert_eq!(both.logs.len(), 2 * plain.logs.len());
    }
}

#[test]
fn the_environment_names_the_collector_the_protocol_and_the_resource() {
    let collector = Collector::start();
    let url = collector.grpc().replace("grpc://", "http://");
    let finished = export(
        "exit-own-code",
        "",
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &url),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-token=a%20b"),
            ("OTEL_SERVICE_NAME", "shop"),
            (
                "OTEL_RESOURCE_ATTRIBUTES",
                "host.name=elsewhere,k8s.pod.name=web-0",
            ),
        ],
    )
    .expect_code(0);
    assert!(
        finished.stderr.contains(&collector.grpc()),
        "{}",
        finished.stderr
    );
    let received = collector.received();
    check_whole(&received);
    assert_eq!(received.token.as_deref(), Some("a b"));
    let resource: HashMap<&str, String> = received
        .resource
        .iter()
        .map(|one| (&*one.key, one.value.as_ref().map(shown).unwrap_or_default()))
        .collect();
    assert_eq!(resource["service.name"], "shop");
    assert_eq!(resource["host.name"], "elsewhere");
    assert_eq!(resource["k8s.pod.name"], "web-0");
    assert_eq!(resource["os.type"], "linux");
    assert!(resource["process.pid"].parse::<u32>().is_ok());
    assert!(!resource["process.command_args"].is_empty());
}

#[test]
fn every_recorded_trace_arrives_whole() {
    let mut seen = 0;
    for entry in std::fs::read_dir(recorded("x").parent().expect("a directory")).expect("traces") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "zst") {
            continue;
        }
        let collector = Collector::start();
        export_file(&path, &collector.http(), &[]).expect_code(0);
        check_whole(&collector.received());
        seen += 1;
    }
    assert!(seen > 100, "{seen}");
}

#[test]
fn a_trace_that_was_cut_off_arrives_up_to_there() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("cut.jsonl.zst");
    let bytes = std::fs::read(recorded("oom-fork-bomb")).expect("a trace");
    std::fs::write(&path, &bytes[..bytes.len() / 2]).expect("a file");
    let collector = Collector::start();
    export_file(&path, &collector.http(), &[]).expect_code(0);
    let received = collector.received();
    check_whole(&received);
    let root = span(&received, "jail");
    assert_eq!(attribute(&root.attributes, "procjail.trace.ended"), "false");
}

#[test]
fn a_collector_that_is_down_is_an_error_soon() {
    for scheme in ["http", "grpc"] {
        let url = format!("{scheme}://{}", nobody());
        let finished = export("exit-own-code", &url, &[]).expect_refusal(
            125,
            &[
                &url,
                "refused",
                "delivered before: 0 log records and 0 spans",
            ],
        );
        assert!(
            finished.elapsed < Duration::from_secs(3),
            "{:?}",
            finished.elapsed
        );
    }
}

#[test]
fn a_collector_that_never_answers_is_given_up() {
    let collector = Collector::answering(&[], Answer::Never);
    for url in [collector.http(), collector.grpc()] {
        let finished = export("exit-own-code", &url, &[])
            .expect_refusal(125, &[&url, "no answer within 500 ms", "tried for"]);
        assert!(
            finished.elapsed < Duration::from_secs(5),
            "{:?}",
            finished.elapsed
        );
    }
    assert!(collector.received().requests.len() >= 4);
}

#[test]
fn something_else_than_a_collector_is_named() {
    // It takes connections and says nothing a client could read.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let talker = std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            use std::io::{Read, Write};
            let mut bytes = [0; 16];
            let read = stream.read(&mut bytes).unwrap_or(0);
            if bytes.starts_with(b"end") {
                break;
            }
            let _ = stream.write_all(&vec![b'?'; read + 64]);
        }
    });
    for scheme in ["http", "grpc"] {
        let url = format!("{scheme}://{address}");
        let finished =
            export("exit-own-code", &url, &[]).expect_refusal(125, &[&url, "is it a collector?"]);
        assert!(
            finished.elapsed < Duration::from_secs(5),
            "{:?}",
            finished.elapsed
        );
    }
    std::io::Write::write_all(
        &mut std::net::TcpStream::connect(address).expect("it listens"),
        b"end",
    )
    .expect("written");
    talker.join().expect("it ended");
}

#[test]
fn a_busy_collector_is_asked_again_when_it_wants_to_be() {
    for grpc in [false, true] {
        let busy = [Answer::Fail(503, Some(1)), Answer::Fail(503, None)];
        let collector = Collector::answering(&busy, Answer::Take);
        let url = &collector.addresses()[usize::from(grpc)];
        export("oom-own-limit", url, &[]).expect_code(0);
        let received = collector.received();
        check_oom(&received);
        let wait = received.requests[1] - received.requests[0];
        assert!(
            wait >= Duration::from_millis(if grpc { 90 } else { 1_000 }),
            "{wait:?}"
        );
    }
    // More patience than there is.
    let collector = Collector::answering(&[], Answer::Fail(429, Some(3600)));
    let begin = Instant::now();
    export("oom-own-limit", &collector.http(), &[]).expect_refusal(
        125,
        &["429", "no\\u{1b}[31m room", "asks to come again in 1 h"],
    );
    assert!(begin.elapsed() < Duration::from_secs(3));
}

#[test]
fn a_slow_collector_gets_it_all() {
    let late = Answer::Late(Duration::from_millis(300));
    let collector = Collector::answering(&[], late);
    export("oom-own-limit", &collector.grpc(), &[]).expect_code(0);
    check_oom(&collector.received());
}

#[test]
fn what_is_refused_is_told_and_not_tried_again() {
    for grpc in [false, true] {
        let collector = Collector::answering(&[Answer::Fail(400, None)], Answer::Take);
        let url = &collector.addresses()[usize::from(grpc)];
        export("exit-own-code", url, &[]).expect_refusal(125, &[url, "no\\u{1b}[31m room"]);
        assert_eq!(collector.received().requests.len(), 1);

        let collector = Collector::answering(&[Answer::Partly(3)], Answer::Take);
        let url = &collector.addresses()[usize::from(grpc)];
        export("exit-own-code", url, &[])
            .expect_refusal(125, &["refused 3 log records and 0 spans: too old by far"]);
    }
}

#[test]
fn a_wrong_path_and_a_wrong_protocol_are_explained() {
    let collector = Collector::start();
    let url = format!("{}/elsewhere", collector.http());
    export("exit-own-code", &url, &[]).expect_refusal(
        125,
        &["404", "is this the address of an OTLP/HTTP receiver?"],
    );
    for (url, why) in [("file.json", "scheme"), ("udp://localhost:4318", "udp")] {
        export("exit-own-code", url, &[]).expect_refusal(125, &[url, why, "grpc://HOST:4317"]);
    }
}
