//! A jail whose trace goes to a collector while it runs: APP neither waits for it nor fails with it.

use std::time::Duration;

use procjail_tests::collector::{Answer, Collector, attribute, nobody};
use procjail_tests::scene;

#[test]
fn a_live_trace_arrives_and_is_that_of_the_file() {
    scene(|scene| {
        let collector = Collector::start();
        let finished = scene
            .trace(
                &["--otlp", &collector.http()],
                &["/bin/sh", "-c", "/bin/true; (exit 3); exit 4"],
            )
            .finish()
            .expect_code(4);
        assert!(
            !finished.stderr.contains("not whole"),
            "{}",
            finished.stderr
        );
        let live = collector.received();
        let trace = finished.trace();
        let events = live
            .logs
            .iter()
            .filter(|log| log.event_name != "procjail.diagnosis");
        assert_eq!(events.count(), trace.events.len());
        assert!(live.spans.iter().any(|span| span.name == "jail"));
        let app = live.spans.iter().find(|span| {
            attribute(&span.attributes, "process.pid") == trace.header.jail.pid.to_string()
        });
        let app = app.expect("PID 1's span");
        assert_eq!(attribute(&app.attributes, "process.exit.code"), "4");

        // From the file it is the same: nothing is there twice for whoever has both.
        let again = Collector::start();
        let path = scene.path("trace.jsonl").display().to_string();
        scene
            .procjail(&["export", &path, "--to", "otlp", "-o", &again.grpc()])
            .finish()
            .expect_code(0);
        let file = again.received();
        assert_eq!(live.spans, file.spans);
        let ids = |received: &procjail_tests::collector::Received| {
            let ids: Vec<_> = received
                .logs
                .iter()
                .map(|log| {
                    (
                        log.time_unix_nano,
                        log.event_name.clone(),
                        log.span_id.clone(),
                    )
                })
                .collect();
            ids
        };
        assert_eq!(ids(&live), ids(&file));
        assert_eq!(live.resource, file.resource);
    });
}

#[test]
fn a_jail_does_not_care_for_a_collector_that_is_down() {
    scene(|scene| {
        for scheme in ["http", "grpc"] {
            let url = format!("{scheme}://{}", nobody());
            let finished = scene
                .trace(&["--otlp", &url], &["/bin/sh", "-c", "exit 7"])
                .finish()
                .expect_code(7);
            for words in [
                &*url,
                "is not whole",
                "refused",
                "what was traced was not affected",
            ] {
                assert!(
                    finished.stderr.contains(words),
                    "{words}: {}",
                    finished.stderr
                );
            }
            assert!(
                finished.elapsed < Duration::from_secs(3),
                "{:?}",
                finished.elapsed
            );
            assert!(finished.trace().footer.is_some());
        }
    });
}

#[test]
fn a_jail_ends_soon_though_the_collector_never_answers() {
    scene(|scene| {
        let collector = Collector::answering(&[], Answer::Never);
        let finished = scene
            .trace(&["--otlp", &collector.grpc()], &["/bin/sh", "-c", "exit 7"])
            .finish()
            .expect_code(7);
        assert!(
            finished.stderr.contains("were not delivered"),
            "{}",
            finished.stderr
        );
        // What APP took is in the footer; the rest is the wait after it.
        let footer = finished.trace().footer.expect("a footer");
        assert!(footer.duration_ns < 1_000_000_000, "{footer:?}");
        assert!(
            finished.elapsed < Duration::from_secs(8),
            "{:?}",
            finished.elapsed
        );
    });
}

#[test]
fn app_inherits_nothing_of_the_export() {
    scene(|scene| {
        let collector = Collector::start();
        let finished = scene
            .trace(
                &["--otlp", &collector.http()],
                &["/bin/sh", "-c", "sleep 0.3; ls -l /proc/self/fd"],
            )
            .finish()
            .expect_code(0);
        for hidden in ["socket:", "eventpoll", "eventfd"] {
            assert!(!finished.stdout.contains(hidden), "{}", finished.stdout);
        }
    });
}

#[test]
fn an_address_that_is_none_is_refused_before_anything_runs() {
    scene(|scene| {
        let finished = scene
            .procjail(&[
                "trace",
                "--otlp",
                "localhost:4318",
                "--",
                "/bin/echo",
                "it runs",
            ])
            .finish()
            .expect_refusal(125, &["localhost:4318", "scheme"]);
        assert!(finished.stdout.is_empty());
    });
}
