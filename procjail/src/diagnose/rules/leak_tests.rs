//! What the scenarios don't cover: look-alikes, missing evidence, relative paths.

use super::{leak, umount};
use crate::diagnose::{Builder, Case, Confidence, Finding};
use crate::event::{Errno, Event, MountEntry, What, story};
use crate::event::{LeakCheck, LeakedMount, Leftover, Mount, MountUse, MountUser, Task};
use crate::render::Output;

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

fn umount(target: &str, errno: i32) -> What {
    What::Mount(Mount {
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
    })
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
    assert!(found[0].fact.contains("PID 3"), "{}", found[0].fact);
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
    assert_eq!(found[0].confidence, Confidence::ConsistentWith);
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

#[test]
fn a_mount_that_was_never_seen_inside_is_only_consistent() {
    let case = case(vec![(
        0,
        What::LeakCheck(LeakCheck {
            mounts: vec![left(true, false, 1)],
            ..LeakCheck::default()
        }),
    )]);
    let found = leak::FAMILY.find("mount-propagated-to-host", &case);
    assert_eq!(found[0].confidence, Confidence::ConsistentWith);
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
            .contains("was still here from the previous run of this jail")
    );
    let found = leftover("db", 20, false);
    let verdict = &found[0].fact;
    assert!(verdict.contains("and 4 more"), "{verdict}");
    assert!(
        verdict.contains("were still here from an earlier run of jail db"),
        "{verdict}"
    );
    assert!(found[0].remedy.starts_with("Look whether it has ended"));
}

#[test]
fn an_empty_directory_is_nothing_to_tell() {
    assert!(leftover("web", 0, true).is_empty());
}
