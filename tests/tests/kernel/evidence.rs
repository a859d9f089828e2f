//! What is read from procfs, the cgroups and the kernel log beside the events.

use procjail::event::{Event, Level, Moment, ThreadState, What};
use procjail_tests::{Trace, misbehave, scene};

const LIMIT: &str = "32M";
const LIMIT_BYTES: u64 = 32 << 20;

/// The jail's own counters at one moment.
#[track_caller]
fn counters(trace: &Trace, moment: Moment) -> &Level {
    let all = trace.counters();
    let found = all.iter().find(|(_, counters)| counters.moment == moment);
    let (_, counters) = found.unwrap_or_else(|| panic!("no {moment:?} in {all:#?}"));
    let own = counters.levels.first().expect("the jail's own level");
    assert!(own.path.ends_with(&format!("/{}", trace.header.jail.name)));
    let root = counters.levels.last().expect("a root");
    assert_eq!(root.path, "/", "the root is last");
    own
}

fn value(level: &Level, name: &str) -> Option<u64> {
    level.values.get(name).copied()
}

/// PID 1 in the snapshot of one moment.
#[track_caller]
fn pid_1(trace: &Trace, moment: Moment) -> (&Event, &ThreadState) {
    let snapshots = trace.snapshots();
    let found = snapshots
        .into_iter()
        .find(|(_, snapshot)| snapshot.moment == moment);
    let (event, snapshot) = found.unwrap_or_else(|| panic!("no snapshot at {moment:?}"));
    assert!(!snapshot.truncated);
    assert_eq!(snapshot.frozen, None);
    let mut threads = snapshot.threads.iter();
    let first = threads.find(|thread| thread.task.jail_pid == Some(1));
    (event, first.expect("PID 1"))
}

#[track_caller]
fn index(trace: &Trace, what: &str, found: impl Fn(&What) -> bool) -> usize {
    trace
        .events
        .iter()
        .position(|event| found(&event.what))
        .unwrap_or_else(|| panic!("no {what}:\n{}", trace.summary()))
}

#[test]
fn memory_is_followed_up_to_the_oom_kill() {
    scene(|scene| {
        let trace = scene
            .trace(
                &["--memory", LIMIT],
                &[&misbehave(), "oom-child", "100000000"],
            )
            .finish()
            .expect_code(0)
            .trace();
        let samples = trace.memory_samples();
        let first = samples.first().expect("a sample").1;
        assert_eq!(first.moment, Moment::Start);
        assert_eq!(first.limit_bytes, Some(LIMIT_BYTES));
        let last = samples.last().expect("a sample").1;
        assert_eq!(last.moment, Moment::End);
        assert_eq!(last.events.get("oom_kill"), Some(&1));
        let kill = samples.iter().find(|(_, s)| s.moment == Moment::OomKill);
        let (_, kill) = kill.expect("a sample of the kill");
        // The victim may be gone already; what it took to find out is bounded all the same.
        assert!(kill.usage_bytes <= LIMIT_BYTES);
        for (_, sample) in &samples {
            let kinds = &sample.kinds;
            assert!(kinds.anon <= LIMIT_BYTES && kinds.file <= LIMIT_BYTES);
            assert!(
                sample
                    .processes
                    .iter()
                    .all(|process| process.process.in_jail)
            );
        }
    });
}

#[test]
fn a_slow_growth_has_many_samples_and_its_process() {
    scene(|scene| {
        let trace = scene
            .trace(
                &["--memory", "64M", "--env", "GOMEMLIMIT=50MiB"],
                &[&misbehave(), "alloc", "50000000", "--steps"],
            )
            .finish()
            .expect_code(0)
            .trace();
        let samples = trace.memory_samples();
        let growing: Vec<_> = samples
            .iter()
            .filter(|(_, sample)| sample.moment == Moment::Sample)
            .collect();
        // Fifty megabytes in a tenth of a second.
        assert!(growing.len() >= 5, "{growing:#?}");
        let largest = growing
            .iter()
            .flat_map(|(_, sample)| &sample.processes)
            .max_by_key(|process| process.memory.anon_bytes)
            .expect("a process");
        assert_eq!(largest.process.jail_pid, Some(1));
        assert!(largest.memory.anon_bytes > 20 << 20);
        let known = &largest.environment;
        assert_eq!(known.get("GOMEMLIMIT").map(String::as_str), Some("50MiB"));
        assert_eq!(known.len(), 1, "{known:?}");
        assert_eq!(&trace.header.jail.environment, known);
        // The same process under the same identity as in the kernel's own records.
        let (event, _) = trace.exit_of(1);
        assert_eq!(largest.process.start_ns, event.task.start_ns);
    });
}

#[test]
fn counters_tell_whose_limit_was_hit() {
    scene(|scene| {
        let trace = scene
            .trace(
                &["--memory", LIMIT],
                &[&misbehave(), "oom-child", "100000000"],
            )
            .finish()
            .expect_code(0)
            .trace();
        let (start, end) = (
            counters(&trace, Moment::Start),
            counters(&trace, Moment::End),
        );
        counters(&trace, Moment::OomKill);
        assert_eq!(value(start, "memory.max"), Some(LIMIT_BYTES));
        assert_eq!(value(start, "memory.events:oom_kill"), Some(0));
        assert_eq!(value(end, "memory.events:oom_kill"), Some(1));
        let hits = ["memory.failcnt", "memory.events.local:max"];
        assert!(
            hits.iter().any(|name| value(end, name) > Some(0)),
            "{end:#?}"
        );
        let removal = index(
            &trace,
            "removal",
            |what| matches!(what, What::Teardown(step) if step.step == "remove the cgroups"),
        );
        let last = index(
            &trace,
            "counters at the end",
            |what| matches!(what, What::Counters(counters) if counters.moment == Moment::End),
        );
        assert!(last < removal);
    });
}

#[test]
fn the_kernel_logs_report_is_in_the_trace() {
    scene(|scene| {
        let trace = scene
            .trace(
                &["--memory", LIMIT],
                &[&misbehave(), "oom-child", "100000000"],
            )
            .finish()
            .expect_code(0)
            .trace();
        let log = trace
            .header
            .probes
            .iter()
            .find(|probe| probe.name == "kmsg");
        assert!(log.expect("a probe of that name").attached);
        let reports = trace.kernel_ooms();
        assert_eq!(reports.len(), 1, "{reports:#?}");
        let (_, report) = reports[0];
        let kill = trace.oom_kills()[0].1;
        assert_eq!(report.constraint, "memcg");
        assert_eq!(report.victim_pid, kill.victim.pid);
        let own = format!("/procjail/{}", trace.header.jail.name);
        assert_eq!(report.victim_cgroup, own);
        assert_eq!(report.limit_cgroup.as_deref(), Some(own.as_str()));
        let kinds = report.kinds.as_ref().expect("memory by kind");
        assert!(kinds.anon > LIMIT_BYTES / 2 && kinds.anon <= LIMIT_BYTES);
        let largest = &report.processes[0];
        assert_eq!(largest.process.jail_pid, Some(2));
        assert!(largest.memory.anon_bytes > LIMIT_BYTES / 2);
        assert_eq!(report.processes.len(), 2);
    });
}

#[test]
fn a_stop_that_is_not_obeyed_is_looked_at_three_times() {
    scene(|scene| {
        let running = scene
            .trace(
                &["--stop-timeout", "1s"],
                &[&misbehave(), "block-term", "60000"],
            )
            .spawn();
        running.wait_for_line("ready");
        running.signal(libc::SIGTERM);
        let finished = running.finish().expect_code(128 + libc::SIGKILL);
        let trace = finished.trace();
        let stop = trace.stops()[0].0.time_ns;
        let kill = trace.kills()[0].0.time_ns;
        let (asked, thread) = pid_1(&trace, Moment::StopRequested);
        let signal = trace
            .signals()
            .into_iter()
            .find(|(_, sent)| sent.signal.name == "SIGTERM");
        let (signal, _) = signal.expect("the signal that was passed on");
        assert!(
            asked.time_ns >= stop && asked.time_ns < signal.time_ns,
            "it was looked at before"
        );
        assert!(thread.caught.iter().any(|signal| signal.name == "SIGTERM"));
        let (half, thread) = pid_1(&trace, Moment::StopHalf);
        assert!(half.time_ns >= stop + 500_000_000 && half.time_ns < stop + 900_000_000);
        for signals in [&thread.pending, &thread.blocked] {
            assert!(signals.iter().any(|signal| signal.name == "SIGTERM"));
        }
        assert_eq!(thread.state, "S");
        let call = thread.syscall.as_ref().expect("a system call");
        assert!(call.name.contains("nanosleep"), "{call:?}");
        assert!(thread.wait_channel.contains("nanosleep"), "{thread:#?}");
        assert!(!thread.stack.is_empty());
        let (deadline, _) = pid_1(&trace, Moment::StopDeadline);
        assert!(deadline.time_ns > half.time_ns && deadline.time_ns <= kill);
        let took = std::time::Duration::from_nanos(kill - stop);
        assert!(
            took.as_millis() < 1400,
            "the stop was not delayed: {took:?}"
        );
    });
}

#[test]
fn an_obeyed_stop_has_no_further_snapshots() {
    scene(|scene| {
        let running = scene
            .trace(
                &["--stop-timeout", "2s"],
                &[&misbehave(), "handle-term", "3"],
            )
            .spawn();
        running.wait_for_line("ready");
        running.signal(libc::SIGTERM);
        let trace = running.finish().expect_code(3).trace();
        let snapshots = trace.snapshots();
        let moments: Vec<Moment> = snapshots
            .iter()
            .map(|(_, snapshot)| snapshot.moment)
            .collect();
        assert_eq!(moments, [Moment::StopRequested]);
    });
}

#[test]
fn a_rejected_fork_is_told_by_the_kernel_log() {
    scene(|scene| {
        let trace = scene
            .trace(&["--pids", "10"], &[&misbehave(), "fork-fail"])
            .finish()
            .expect_code(0)
            .trace();
        let messages = trace.kernel_messages();
        let told = messages
            .iter()
            .any(|(_, message)| message.text.contains("fork rejected by pids controller"));
        assert!(told, "{messages:#?}");
        let end = counters(&trace, Moment::End);
        assert_eq!(value(end, "pids.max"), Some(10));
        assert!(value(end, "pids.events:max") > Some(0), "{end:#?}");
    });
}

#[test]
fn resource_limits_are_in_the_header() {
    scene(|scene| {
        let trace = scene
            .trace(
                &["--rlimit", "nofile=123:456", "--rlimit", "cpu=unlimited"],
                &["/bin/sh", "-c", "test $(ulimit -n) = 123"],
            )
            .finish()
            .expect_code(0)
            .trace();
        let limits = &trace.header.jail.rlimits;
        assert_eq!(limits.get("nofile"), Some(&Some(123)));
        assert_eq!(limits.get("cpu"), Some(&None));
        assert!(limits.contains_key("stack"));
    });
}

#[test]
fn a_run_without_a_trace_reads_nothing() {
    scene(|scene| {
        let running = scene.run(&[], &["/bin/sleep", "0.3"]).spawn();
        std::thread::sleep(std::time::Duration::from_millis(150));
        let threads = std::fs::read_dir(format!("/proc/{}/task", running.pid()))
            .expect("the launcher's threads")
            .count();
        assert_eq!(threads, 1);
        running.finish().expect_code(0);
    });
}
