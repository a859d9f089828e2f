//! What the scenarios don't cover: look-alikes, missing evidence, relative paths.

use std::collections::BTreeMap;

use super::{leak, umount};
use crate::diagnose::fixture::{Scene, inside};
use crate::diagnose::{Builder, Case, Confidence, Diagnosis, Finding, Rank, explain};
use crate::event::{
    Errno, Event, GrownTmpfs, MemoryKinds, MemorySample, Moment, MountEntry, What, story,
};
use crate::event::{LeakCheck, LeakedMount, Leftover, Mount, MountUse, MountUser, Task};
use crate::trace::Output;

fn case(whats: Vec<(u32, What)>) -> Case {
    let mut builder = Builder::new();
    let taken = "a builder takes everything";
    builder.header(&story::header_line()).expect(taken);
    for (seq, (jail_pid, what)) in whats.into_iter().enumerate() {
        let event = Event {
            seq: seq as u64 + 1,
            time_ns: 1000 + seq as u64,
            task: task(jail_pid),
            what,
        };
        builder.event(&event).expect(taken);
    }
    builder.footer(None).expect(taken);
    builder.finish().expect("there was a header")
}

fn task(jail_pid: u32) -> Task {
    Task {
        pid: 4130 + jail_pid,
        tid: 4130 + jail_pid,
        jail_pid: Some(jail_pid),
        comm: "tool".into(),
        start_ns: 5,
        in_jail: true,
        cgroup_id: 7001,
    }
}

fn mount_call(target: &str) -> Mount {
    Mount {
        call: "mount".into(),
        target: target.into(),
        ..umount_call("", 0)
    }
}

fn umount(target: &str, errno: i32) -> What {
    What::Mount(umount_call(target, errno))
}

fn umount_call(target: &str, errno: i32) -> Mount {
    Mount {
        call: "umount2".into(),
        source: String::new(),
        target: target.into(),
        fs_type: String::new(),
        flags: 0,
        flag_names: Vec::new(),
        args: Vec::new(),
        result: Some(-i64::from(errno)),
        error: (errno != 0).then(|| Errno::new(errno)),
        duration_ns: 1,
    }
}

fn mount_use(target: &str, errno: i32, users: &[u32]) -> MountUse {
    MountUse {
        caller: task(2),
        target: target.into(),
        error: Some(Errno::new(errno)),
        is_mount: true,
        users: users
            .iter()
            .map(|pid| MountUser {
                process: task(*pid),
                how: "cwd".into(),
                path: target.into(),
            })
            .collect(),
        ..MountUse::default()
    }
}

#[test]
fn busy_by_oneself_and_by_another_are_told_apart() {
    let busy = |users: &[u32]| {
        case(vec![
            (2, umount("mnt/", libc::EBUSY)),
            (2, What::MountUse(mount_use("/srv/mnt", libc::EBUSY, users))),
        ])
    };
    let own = busy(&[2]);
    assert_eq!(
        umount::FAMILY.find("mount-held-by-own-helper", &own).len(),
        1
    );
    assert!(umount::FAMILY.find("umount-busy", &own).is_empty());
    let both = busy(&[2, 3]);
    assert!(
        umount::FAMILY
            .find("mount-held-by-own-helper", &both)
            .is_empty()
    );
    let found = umount::FAMILY.find("umount-busy", &both);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].confidence, Confidence::Proven);
    let cause = found[0].cause.as_ref().expect("a cause");
    assert!(cause.text.contains("PID 3"), "{}", cause.text);
}

#[test]
fn who_gave_up_for_it_ended_for_it() {
    let explains_the_end = |exit_ms: u64| {
        let pid1 = inside(1, "tool");
        let mut scene = Scene::new(&["tool"]);
        scene
            .at(10, &pid1, umount("/mnt", libc::EBUSY))
            .end(exit_ms, &pid1, 1 << 8);
        scene.verdict("umount-busy").pids.contains(&pid1.pid)
    };
    assert!(explains_the_end(20));
    assert!(!explains_the_end(5_000));
}

#[test]
fn busy_without_a_look_is_only_consistent() {
    let found = umount::FAMILY.find(
        "umount-busy",
        &case(vec![
            (2, umount("/mnt", libc::EBUSY)),
            (2, umount("/mnt", libc::EBUSY)),
        ]),
    );
    assert_eq!(found.len(), 1, "one for all tries");
    let cause = found[0].cause.as_ref().expect("a cause");
    assert_eq!(cause.confidence, Confidence::ConsistentWith);
    assert_eq!(cause.alternatives.len(), 3);
    assert!(found[0].fact.contains("2 times"), "{}", found[0].fact);
}

#[test]
fn no_mount_at_the_path_is_not_a_locked_one() {
    let locked = |is_mount, other_user_namespace| {
        case(vec![
            (2, umount("/mnt", libc::EINVAL)),
            (
                2,
                What::MountUse(MountUse {
                    is_mount,
                    other_user_namespace,
                    ..mount_use("/mnt", libc::EINVAL, &[])
                }),
            ),
        ])
    };
    let count = |case| umount::FAMILY.find("umount-locked", &case).len();
    assert_eq!(count(locked(true, true)), 1);
    assert_eq!(count(locked(false, true)), 0);
    assert_eq!(count(locked(true, false)), 0);
}

fn left(launchers: bool, seen_in_jail: bool, namespace: u64) -> LeakedMount {
    LeakedMount {
        mount: MountEntry {
            device: "0:45".into(),
            target: "/mnt".into(),
            ..MountEntry::default()
        },
        namespace,
        launchers,
        seen_in_jail,
        ..LeakedMount::default()
    }
}

#[test]
fn copies_of_what_the_host_has_are_no_further_finding() {
    let case = case(vec![(
        0,
        What::LeakCheck(LeakCheck {
            mounts: vec![
                left(true, true, 1),
                left(false, true, 2),
                left(false, true, 3),
            ],
            ..LeakCheck::default()
        }),
    )]);
    let found = leak::FAMILY.find("mount-propagated-to-host", &case);
    assert_eq!(found.len(), 1);
    assert!(found[0].fact.contains("2 further"), "{}", found[0].fact);
    assert!(
        leak::FAMILY
            .find("mount-held-by-other-ns", &case)
            .is_empty()
    );
}

/// What is found of one mount on the host, which the jail also mounted at that place or not.
fn on_host(seen_in_jail: bool, mounted: bool) -> Diagnosis {
    let mut whats = Vec::new();
    if mounted {
        let mut call = mount_call("/mnt");
        call.fs_type = "tmpfs".into();
        whats.push((2, What::Mount(call)));
    }
    let check = LeakCheck {
        mounts: vec![left(true, seen_in_jail, 1)],
        ..LeakCheck::default()
    };
    whats.push((0, What::LeakCheck(check)));
    let all = explain(&case(whats)).diagnoses;
    let id = "mount-propagated-to-host";
    all.into_iter().find(|one| one.id == id).expect("found")
}

#[test]
fn a_mount_is_the_jails_if_the_jail_had_the_same_file_system() {
    let same = on_host(true, true);
    assert_eq!(same.sure(), Confidence::Proven);
    // Somebody else may have mounted another one at the same place.
    let place = on_host(false, true);
    assert_eq!(
        (place.confidence, place.sure()),
        (Confidence::Proven, Confidence::Likely)
    );
    assert!(
        place.fact.starts_with("The host has the mount"),
        "{}",
        place.fact
    );
    let meanwhile = on_host(false, false);
    assert_eq!(meanwhile.sure(), Confidence::ConsistentWith);
    assert_eq!(meanwhile.rank, Rank::Note);
}

/// What is found of a copy in another namespace.
fn held(fs_type: &str) -> Diagnosis {
    let mut mount = left(false, true, 7);
    mount.mount.fs_type = fs_type.into();
    let check = LeakCheck {
        mounts: vec![mount],
        ..LeakCheck::default()
    };
    let all = explain(&case(vec![(0, What::LeakCheck(check))])).diagnoses;
    all.into_iter()
        .find(|one| one.id == "mount-held-by-other-ns")
        .expect("found")
}

#[test]
fn what_is_mounted_twice_from_one_source_is_no_proven_copy() {
    assert_eq!(held("tmpfs").sure(), Confidence::Proven);
    let shared = held("nfs4");
    assert_eq!(shared.sure(), Confidence::Likely);
    assert_eq!(shared.cause.expect("a cause").alternatives.len(), 1);
}

/// The jail ended with 8 MiB of shared memory; what the host's tmpfs hold more.
fn charged(grown: Option<u64>) -> Option<Diagnosis> {
    let grown = grown.map(|bytes| GrownTmpfs {
        target: "/dev/shm".into(),
        before_bytes: 4096,
        after_bytes: 4096 + bytes,
    });
    let check = LeakCheck {
        grown: Some(grown.into_iter().collect()),
        ..LeakCheck::default()
    };
    let kinds = MemoryKinds {
        shmem: 8 << 20,
        ..MemoryKinds::default()
    };
    let mut scene = Scene::new(&["app"]);
    let sample = MemorySample {
        moment: Moment::End,
        usage_bytes: 9 << 20,
        limit_bytes: None,
        kinds,
        swap_bytes: 0,
        events: BTreeMap::new(),
        stalled_us: None,
        processes: Vec::new(),
    };
    scene.at(10, task(0), What::MemorySample(sample));
    scene.at(20, task(0), What::LeakCheck(check));
    let mut found = scene.found().into_iter();
    found.find(|one| one.id == "cgroup-dying-pinned")
}

#[test]
fn memory_that_goes_with_the_jail_pins_no_cgroup() {
    let found = charged(Some(8 << 20)).expect("found");
    assert_eq!(found.sure(), Confidence::Likely);
    assert!(found.verdict().contains("/dev/shm"), "{}", found.verdict());
    assert!(
        charged(None).is_none(),
        "System V segments go with the IPC namespace"
    );
    assert!(
        charged(Some(4096)).is_none(),
        "somebody else wrote a little"
    );
}

#[test]
fn nothing_is_found_where_nothing_was_looked_at() {
    let case = case(Vec::new());
    for family in [leak::FAMILY, umount::FAMILY] {
        assert_eq!(family.ids(&case), [""; 0]);
    }
}

fn leftover(name: &str, processes: u64, removed: bool) -> Vec<Finding> {
    let found = case(vec![(
        1,
        What::Leftover(Leftover {
            name: name.to_owned(),
            cgroup: format!("/sys/fs/cgroup/procjail/{name}"),
            processes: (1..=processes.min(16) as u32).map(task).collect(),
            process_count: processes,
            removed,
        }),
    )]);
    leak::FAMILY.find("leftover-from-previous-run", &found)
}

#[test]
fn what_a_dead_launcher_left_is_told_with_whose_it_was() {
    let found = leftover("web", 1, true);
    assert_eq!(found[0].confidence, Confidence::Proven);
    assert!(
        found[0]
            .fact
            .contains("was left over from the previous run of this jail")
    );
    let found = leftover("db", 20, false);
    let verdict = &found[0].fact;
    assert!(verdict.contains("and 4 more"), "{verdict}");
    assert!(
        verdict.contains("were left over from an earlier run of jail db"),
        "{verdict}"
    );
    assert!(found[0].remedy.starts_with("Check whether it has ended"));
}

#[test]
fn another_jails_leftovers_are_never_the_story() {
    let name = case(Vec::new()).header.jail.name;
    let rank = |name: &str| {
        let what = What::Leftover(Leftover {
            name: name.to_owned(),
            processes: vec![task(1)],
            process_count: 1,
            removed: true,
            ..Leftover::default()
        });
        let all = explain(&case(vec![(1, what)])).diagnoses;
        let id = "leftover-from-previous-run";
        all.iter().find(|one| one.id == id).map(|one| one.rank)
    };
    assert_eq!(rank(&name), Some(Rank::Problem));
    assert_eq!(rank("other"), Some(Rank::Note));
}

#[test]
fn an_empty_directory_is_nothing_to_tell() {
    assert!(leftover("web", 0, true).is_empty());
}
