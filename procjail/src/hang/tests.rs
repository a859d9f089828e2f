//! Causes and their words, on hand-made threads.

use super::*;
use crate::event::{Moment, Task};

/// A thread in such a state, with such a stack.
pub(crate) fn thread(pid: u32, state: &str, stack: &[&str], stall: StallState) -> ThreadState {
    let task = Task {
        pid,
        tid: pid,
        jail_pid: Some(pid % 100),
        comm: "worker".into(),
        ..Task::default()
    };
    ThreadState {
        tracer_pid: stall.tracer.as_ref().map_or(0, |tracer| tracer.pid),
        wait_channel: stack.first().copied().unwrap_or_default().into(),
        stack: stack.iter().map(|&frame| frame.to_owned()).collect(),
        stall: Some(stall),
        ..ThreadState::of(task, state)
    }
}

pub(crate) fn inside() -> StallState {
    StallState {
        in_cgroup: true,
        in_pid_namespace: true,
        namespace_pids: vec![100, 5, 2],
        ..StallState::default()
    }
}

fn outsider() -> Other {
    Other {
        pid: 77,
        comm: "nsenter".into(),
        state: "S".into(),
        ..Other::default()
    }
}

fn snapshot(threads: Vec<ThreadState>) -> Snapshot {
    Snapshot {
        moment: Moment::Stall,
        threads,
        truncated: false,
        frozen: None,
        cpu: None,
        waited_ns: Some(1_000_000_000),
        processes: Vec::new(),
    }
}

fn fuse() -> FileSystem {
    FileSystem {
        mount_point: "/data".into(),
        fs_type: "fuse.sshfs".into(),
        source: "host:/x".into(),
        connection: Some(47),
        waiting: Some(1),
        daemons: Vec::new(),
        certain: true,
    }
}

#[test]
fn the_line_names_the_blocker_and_not_who_waits_for_it() {
    let init = StallState {
        namespace_pids: vec![101, 6, 1],
        ..inside()
    };
    let stuck = StallState {
        file_system: Some(fuse()),
        ..inside()
    };
    let snapshot = snapshot(vec![
        thread(101, "S", &["zap_pid_ns_processes", "do_exit"], init),
        thread(117, "D", &["request_wait_answer"], stuck.clone()),
        thread(118, "D", &["request_wait_answer"], stuck),
    ]);
    assert_eq!(
        line(&snapshot),
        "waiting for 1.000 s for 117 (worker), D in request_wait_answer: the FUSE daemon of /data is not \
         answering (and 1 more like it)"
    );
    let report = report(&snapshot);
    assert_eq!(report.len(), 2, "{report:?}");
    assert!(report[0].contains("echo 1 > /sys/fs/fuse/connections/47/abort"));
    assert!(report[1].contains("101 (worker), S in zap_pid_ns_processes"));
}

#[test]
fn a_v1_freezer_holds_what_looks_like_a_wait_for_a_disk() {
    let frozen = |value: &str| StallState {
        frozen: Some(Frozen {
            cgroup: "/x".into(),
            file: "/sys/fs/cgroup/freezer/x/freezer.state".into(),
            value: value.into(),
        }),
        ..inside()
    };
    let held = thread(7, "D", &["io_schedule"], frozen("THAWED"));
    assert!(matches!(cause(&held), Some(Cause::Frozen(_))));
    // On v2 SIGKILL passes: what waits in D waits for something else.
    let passes = thread(7, "D", &["io_schedule"], frozen("0"));
    assert_eq!(cause(&passes), Some(Cause::Block));
    let trapped = thread(7, "S", &["do_freezer_trap", "get_signal"], frozen("0"));
    assert!(matches!(cause(&trapped), Some(Cause::Frozen(_))));
}

#[test]
fn a_zombie_is_in_the_way_only_if_an_outsider_must_reap_it() {
    let child = |parent: Option<Other>| StallState { parent, ..inside() };
    let member = Other {
        in_pid_namespace: true,
        ..outsider()
    };
    assert_eq!(cause(&thread(7, "Z", &[], child(Some(member)))), None);
    assert_eq!(cause(&thread(7, "Z", &[], child(None))), None);
    let left = thread(7, "Z", &[], child(Some(outsider())));
    assert!(matches!(cause(&left), Some(Cause::NotReaped(owner)) if owner.pid == 77));
    // Its threads are still there: they are asked, not it.
    let leader = ThreadState { threads: 2, ..left };
    assert_eq!(cause(&leader), None);
}

#[test]
fn pid_1_itself_is_reaped_by_the_launcher() {
    let init = StallState {
        namespace_pids: vec![100, 5, 1],
        parent: Some(outsider()),
        ..inside()
    };
    assert_eq!(cause(&thread(7, "Z", &[], init.clone())), None);
    let traced = StallState {
        tracer: Some(outsider()),
        ..init
    };
    let held = thread(7, "Z", &[], traced);
    assert!(matches!(cause(&held), Some(Cause::NotReaped(_))));
}

#[test]
fn a_tracer_holds_at_the_exit_only() {
    let traced = || StallState {
        tracer: Some(outsider()),
        ..inside()
    };
    let held = thread(
        7,
        "t",
        &["ptrace_stop", "ptrace_notify", "do_exit"],
        traced(),
    );
    assert!(matches!(cause(&held), Some(Cause::ExitStop(Some(_)))));
    let stopped = thread(7, "t", &["ptrace_stop", "get_signal"], traced());
    assert_eq!(cause(&stopped), Some(Cause::Unknown));
}

#[test]
fn what_has_no_name_of_its_own_is_told_by_the_stack() {
    let of = |state: &str, stack: &[&str], modules: &[&str]| {
        let stall = StallState {
            modules: modules.iter().map(|&name| name.to_owned()).collect(),
            ..inside()
        };
        let thread = thread(7, state, stack, stall);
        let snapshot = snapshot(vec![thread]);
        line(&snapshot)
    };
    for (state, stack, modules, words) in [
        ("D", "jbd2_log_wait_commit", &[][..], "a disk"),
        ("D", "nfs4_proc_getattr", &["nfsv4"], "a file server"),
        ("D", "rm_acquire", &["nvidia"], "the driver nvidia"),
        ("D", "ext4_x", &["ext4"], "not even SIGKILL"),
        ("R", "unmap_vmas", &[], "freeing its memory"),
        ("D", "begin_new_exec", &[], "its execve waits"),
        ("D", "do_coredump", &[], "core dump"),
        ("R", "x", &[], "has not ended yet"),
    ] {
        let told = of(state, &[stack], modules);
        assert!(told.contains(words), "{told}");
    }
}

#[test]
fn a_member_of_the_cgroup_alone_is_a_straggler() {
    let stray = StallState {
        in_pid_namespace: false,
        namespace_pids: vec![7],
        ..inside()
    };
    assert_eq!(
        cause(&thread(7, "S", &["do_wait"], stray)),
        Some(Cause::Straggler)
    );
}

#[test]
fn nothing_left_is_said_too() {
    assert!(line(&snapshot(Vec::new())).contains("nothing is left"));
    assert_eq!(report(&snapshot(Vec::new())), Vec::<String>::new());
}

#[test]
fn a_snapshot_of_another_moment_needs_no_state_of_a_stall() {
    let mut thread = thread(7, "D", &["request_wait_answer"], inside());
    thread.stall = None;
    assert_eq!(cause(&thread), Some(Cause::Fuse(None)));
}
