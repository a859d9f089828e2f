//! Every law that the enricher relies on, with records made by hand.

use procjail_common::{Task as Raw, mount_call, task_flags};

use super::*;
use crate::event::fixture::{self as make, *};

fn enricher() -> Enricher {
    Enricher::new(
        Task {
            pid: 4100,
            tid: 4100,
            comm: "procjail".to_owned(),
            ..Task::default()
        },
        4096,
    )
}

fn what(enricher: &mut Enricher, record: Record) -> What {
    enricher.record(record).expect("part of the trace").what
}

macro_rules! expect {
    ($enricher:expr, $record:expr, $variant:ident) => {
        match what(&mut $enricher, $record) {
            What::$variant(data) => data,
            other => panic!("not {}: {other:?}", stringify!($variant)),
        }
    };
}

// Behind the macro that they use.
mod process;
mod signal;

#[test]
fn the_limit_that_was_hit_is_the_lowest_without_room() {
    let mib = 1 << 20;
    let names = |levels: &[procjail_common::MemcgLevel]| -> Vec<String> {
        let (trigger, victim) = (task(1, "sh"), task(2, "app"));
        let kill = Record::OomKill(Box::new(oom_kill(GATE_NS, trigger, victim, levels)));
        let kill = expect!(enricher(), kill, OomKill);
        kill.chain
            .into_iter()
            .filter(|level| level.at_limit)
            .map(|level| level.name)
            .collect()
    };
    let root = level(1, "", 900 * mib, u64::MAX);
    let own = level(3, "web", 32 * mib - 4096, 32 * mib);
    let parent = level(2, "procjail", 64 * mib, 64 * mib);
    assert_eq!(names(&[own, parent, root]), ["web"]);
    // The jail has room, its parent has not.
    let roomy = level(3, "web", 10 * mib, 32 * mib);
    assert_eq!(names(&[roomy, parent, root]), ["procjail"]);
    // What was in stock has been given back: the one with the least room, a level above or not.
    let drained = level(2, "procjail", 63 * mib, 64 * mib);
    let near = level(3, "web", 31 * mib - 512 * 1024, 32 * mib);
    assert_eq!(names(&[near, drained, root]), ["procjail"]);
    assert_eq!(names(&[near, root]), ["web"]);
    let large = level(3, "web", 63_000 * mib, 64_000 * mib);
    assert_eq!(names(&[large, root]), [""; 0], "that is no stock");
    // Nobody is full: the machine is.
    assert_eq!(names(&[roomy, root]), [""; 0]);
    // v1: room for memory, none for memory and swap together.
    let swap = procjail_common::MemcgLevel {
        swap_usage_bytes: 16 * mib,
        swap_limit_bytes: 16 * mib,
        ..roomy
    };
    assert_eq!(names(&[swap, root]), ["web"]);
    assert_eq!(names(&[]), [""; 0]);
}

#[test]
fn the_set_up_of_the_jail_is_not_part_of_the_trace() {
    let mut enricher = enricher();
    let init = task(1, "procjail");
    let mounted = || {
        Record::Mount(Box::new(make::mount(
            GATE_NS,
            init,
            mount_call::MOUNT,
            "proc",
            "/proc",
        )))
    };
    assert_eq!(enricher.record(mounted()), None);
    // What is wrong with APP is.
    let failed = expect!(
        enricher,
        exec_failed(GATE_NS, init, "/bin/nothing", libc::ENOENT),
        ExecFailed
    );
    assert_eq!(failed.error.name, "ENOENT");
    enricher.record(exec(GATE_NS, init, "/bin/sh", &["sh"]));
    assert_eq!(expect!(enricher, mounted(), Mount).result, Some(0));
}

#[test]
fn system_calls_that_fail_or_never_return_are_told_apart() {
    let base = make::mount(GATE_NS, task(2, "umount"), mount_call::UMOUNT, "", "/mnt");
    let busy = procjail_common::Mount {
        result: -i64::from(libc::EBUSY),
        ..base
    };
    let busy = expect!(enricher(), Record::Mount(Box::new(busy)), Mount);
    assert_eq!(busy.error.map(|error| error.name), Some("EBUSY".to_owned()));
    let stuck = procjail_common::Mount {
        stage: mount_stage::UNFINISHED,
        ..base
    };
    let stuck = expect!(enricher(), Record::Mount(Box::new(stuck)), Mount);
    assert_eq!((stuck.result, stuck.error), (None, None));
    let strange = procjail_common::Mount {
        result: i64::MIN,
        ..base
    };
    let strange = expect!(enricher(), Record::Mount(Box::new(strange)), Mount);
    assert_eq!(strange.result, Some(i64::MIN));
}

#[test]
fn time_never_goes_back_and_numbers_have_no_gaps() {
    let mut enricher = enricher();
    let app = task(1, "app");
    let times: Vec<_> = [30, 10, 40]
        .into_iter()
        .filter_map(|time| enricher.record(exec(time, app, "/a", &["a"])))
        .map(|event| (event.seq, event.time_ns))
        .collect();
    assert_eq!(times, [(1, 30), (2, 30), (3, 40)]);
}
