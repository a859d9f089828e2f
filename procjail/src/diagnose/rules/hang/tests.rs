//! What no scenario plays: servers, disks and drivers that don't answer, and what only looks like a hang.

use crate::diagnose::fixture::{self, Scene};
use crate::diagnose::{Builder, Case, Confidence, Finding};
use crate::event::{
    Cgroup, CgroupChange, Event, FileSystem, Moment, Signal, Snapshot, StallState, Task, Teardown,
    ThreadState, What, story,
};
use crate::hang::tests::{inside, thread};
use crate::trace::Output;

const START_NS: u64 = 93_784_100_000_000;

fn event(seq: u64, after_ms: u64, what: What) -> Event {
    Event {
        seq,
        time_ns: START_NS + after_ms * 1_000_000,
        task: Task::default(),
        what,
    }
}

fn stall(seq: u64, waited_ms: u64, threads: Vec<ThreadState>) -> Event {
    let snapshot = Snapshot {
        moment: Moment::Stall,
        threads,
        truncated: false,
        frozen: None,
        cpu: None,
        waited_ns: Some(waited_ms * 1_000_000),
        processes: Vec::new(),
    };
    event(seq, waited_ms, What::Snapshot(snapshot))
}

fn step(seq: u64, after_ms: u64, error: Option<&str>) -> Event {
    let step = Teardown {
        step: "reap PID 1".into(),
        duration_ns: after_ms * 1_000_000,
        error: error.map(str::to_owned),
    };
    event(seq, after_ms, What::Teardown(step))
}

fn case(events: &[Event]) -> Case {
    let mut builder = Builder::new();
    builder
        .header(&story::header_line())
        .expect("a builder takes everything");
    for event in events {
        builder.event(event).expect("a builder takes everything");
    }
    builder.finish().expect("there was a header")
}

#[track_caller]
fn find(id: &str, events: &[Event]) -> Vec<Finding> {
    super::FAMILY.find(id, &case(events))
}

#[test]
fn a_file_server_is_named_with_what_it_serves() {
    let stuck = StallState {
        file_system: Some(FileSystem {
            mount_point: "/home".into(),
            fs_type: "nfs4".into(),
            source: "filer:/home".into(),
            certain: true,
            ..FileSystem::default()
        }),
        ..inside()
    };
    let threads = || {
        vec![thread(
            7,
            "D",
            &["rpc_wait_bit_killable", "nfs4_x"],
            stuck.clone(),
        )]
    };
    let events = [
        stall(1, 250, threads()),
        stall(2, 1000, threads()),
        step(3, 2000, Some("too late")),
        stall(4, 2300, threads()),
    ];
    let found = find("hang-d-state-nfs", &events);
    let [finding] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert!(
        finding.fact.contains("waited 2.000 s") && finding.fact.ends_with(", then gave up."),
        "{}",
        finding.fact
    );
    let cause = finding.cause.as_ref().expect("a cause");
    assert!(
        cause.text.contains("server of /home (nfs4 filer:/home)"),
        "{}",
        cause.text
    );
    assert_eq!(cause.confidence, Confidence::Likely);
    assert_eq!(cause.alternatives.len(), 1, "{:?}", cause.alternatives);
    for id in ["hang-d-state-fuse", "hang-d-state-block", "hang-frozen"] {
        assert!(find(id, &events).is_empty(), "{id}");
    }
}

#[test]
fn a_disk_and_a_driver_are_told_apart() {
    let disk = stall(1, 250, vec![thread(7, "D", &["io_schedule"], inside())]);
    let driver = StallState {
        modules: vec!["nvidia".into()],
        ..inside()
    };
    let driver = stall(1, 250, vec![thread(7, "D", &["rm_acquire"], driver)]);
    assert_eq!(
        find("hang-d-state-block", std::slice::from_ref(&disk)).len(),
        1
    );
    assert!(find("hang-d-state-driver", &[disk]).is_empty());
    let found = find("hang-d-state-driver", std::slice::from_ref(&driver));
    assert_eq!(found.len(), 1);
    let cause = found[0].cause.as_ref().expect("a cause");
    assert!(cause.text.contains("driver nvidia"), "{}", cause.text);
    assert_eq!(cause.confidence, Confidence::ConsistentWith);
    assert!(find("hang-d-state-block", &[driver]).is_empty());
}

#[test]
fn many_that_wait_for_the_same_are_one_finding() {
    let threads = (1..=50)
        .map(|pid| thread(pid, "D", &["io_schedule"], inside()))
        .collect();
    let found = find("hang-d-state-block", &[stall(1, 250, threads)]);
    assert_eq!(found.len(), 1);
    assert!(found[0].fact.contains("and 47 more"), "{}", found[0].fact);
}

#[test]
fn a_wait_before_the_kill_is_no_hang() {
    let mut waits = thread(7, "D", &["request_wait_answer"], inside());
    waits.stall = None;
    waits.pending = vec![Signal::new(libc::SIGTERM)];
    let snapshot = Snapshot {
        moment: Moment::StopHalf,
        threads: vec![waits],
        truncated: false,
        frozen: None,
        cpu: None,
        waited_ns: None,
        processes: Vec::new(),
    };
    let events = [event(1, 5, What::Snapshot(snapshot))];
    assert_eq!(super::FAMILY.ids(&case(&events)), [""; 0]);
}

#[test]
fn a_teardown_without_a_stall_hangs_nowhere() {
    let (events, footer) = story::trace();
    let mut builder = Builder::new();
    builder.header(&story::header_line()).expect("taken");
    for event in &events {
        builder.event(event).expect("taken");
    }
    builder.footer(Some(&footer)).expect("taken");
    let case = builder.finish().expect("a header");
    assert_eq!(super::FAMILY.ids(&case), [""; 0]);
}

#[test]
fn a_cgroup_that_stayed_says_who_is_in_it() {
    let removal = |error: &str| {
        let step = Teardown {
            step: "remove the cgroups".into(),
            duration_ns: 1,
            error: Some(error.into()),
        };
        event(2, 400, What::Teardown(step))
    };
    let held = stall(1, 250, vec![thread(7, "D", &["x"], inside())]);
    let found = find("cgroup-rmdir-ebusy", &[held, removal("EBUSY (busy)")]);
    assert!(found[0].fact.contains("still in it: worker"));
    assert_eq!(found[0].confidence, Confidence::Proven);
    let found = find("cgroup-rmdir-ebusy", &[removal("EBUSY (busy)")]);
    assert_eq!(found[0].confidence, Confidence::Likely);
    assert!(find("cgroup-rmdir-ebusy", &[removal("EACCES (denied)")]).is_empty());
}

/// A process joins the cgroup and ends at 60 ms by such a signal from such a sender; PID 1 is gone at 50 ms, and
/// the teardown kills what is left from 58 ms on.
fn straggler(signal: i32, sender: &Task) -> bool {
    let joined = fixture::outside(900, "agent");
    let mut scene = Scene::new(&["app"]);
    let attach = Cgroup {
        change: CgroupChange::Attach,
        path: "/procjail/web".into(),
        member: Some(joined.clone()),
    };
    let killing = Teardown {
        step: "kill what is left".into(),
        duration_ns: 4_000_000,
        error: None,
    };
    scene
        .at(5, &joined, What::Cgroup(attach))
        .end(50, fixture::inside(1, "app"), 0)
        .signal(59, sender, &joined, signal, 0)
        .exit_to(60, &joined, fixture::outside(1, "init"), signal)
        .at(62, fixture::launcher(), What::Teardown(killing));
    scene.ids().iter().any(|id| id == "hang-cgroup-straggler")
}

#[test]
fn one_that_ended_otherwise_did_not_hold_the_teardown_up() {
    assert!(straggler(libc::SIGKILL, &fixture::launcher()));
    assert!(
        !straggler(libc::SIGKILL, &fixture::outside(900, "agent")),
        "it killed itself"
    );
    assert!(!straggler(libc::SIGTERM, &fixture::outside(900, "agent")));
}
